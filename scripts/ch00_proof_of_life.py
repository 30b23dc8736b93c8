"""Book chapter 1: proof of life. Does this machine compute, simulate, draw and learn?

`all` runs the tests in this order and stops at the first that fails, with what to do about it.
"""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import book_figures

from robotics_rl import artifacts, chapters, cli, commands, config, rendering, reporting, versions
from robotics_rl.artifacts import RunPaths
from robotics_rl.config import TrainSettings
from robotics_rl.errors import Interrupted, UsageError
from robotics_rl.progress import clock

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SCRIPT = "scripts/ch00_proof_of_life.py"
CHAPTER = "ch00"
TITLE = "Proof of life (book chapter 1)"
ENV_ID = "FetchReachDense-v4"
FRAME = "smoke_frame.png"
FRAME_SIZE = (480, 480)  # height and width in pixels, what Gymnasium draws unless told otherwise
REINSTALL = "delete .venv (in the container .venv-docker) and start again with bash docker/dev.sh"

# Short rollouts: the policy is updated 25 times in a minute instead of 7 times.
SMOKE: dict[str, Any] = {"total_steps": 50_000, "n_envs": 8, "n_steps": 256}
SMOKE |= {"out": "ppo_smoke", "log_dir": "runs/ch00"}


class ProofError(Exception):
    """A test failed: what is wrong; what to do."""


@dataclass(frozen=True)
class Plan:
    """What the tests are to do."""

    training: TrainSettings
    frame: Path
    backends: tuple[str, ...]

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> "Plan":
        """Check the flags; what is not given stands in ``SMOKE``."""
        flags = {**SMOKE, **given}
        frame = Path(flags.pop("frame", FRAME))
        training = cli.training_settings(flags, chapter=CHAPTER, algo="ppo", env=ENV_ID)
        # Asked now: the tests that draw nothing set MUJOCO_GL for this process.
        return cls(training, frame, rendering.candidates())

    @property
    def seed(self) -> int:
        """Seed of every test."""
        return self.training.run.seed


def main(argv: Sequence[str]) -> int:
    """Run one test, or all."""
    given = vars(_parser().parse_args(argv))
    command = given.pop("command")
    plan = Plan.of(given)
    match command:
        case "card":
            print(card(plan.training))
            return 0
        case "draw":
            draw(plan)
            return 0
        case "all":
            return run_all(plan)
    return 0 if passes(command, plan) else 1


def run_all(plan: Plan) -> int:
    """Every test in order, as far as they pass; the exit code."""
    seconds = {}
    for number, name in enumerate(TESTS, 1):
        print(f"== {number} of {len(TESTS)}: {name} ==", flush=True)
        started = time.monotonic()
        if not passes(name, plan):
            print(f"stopped here; to repeat this test alone: python {SCRIPT} {name}")
            return 1
        seconds[name] = time.monotonic() - started
    from robotics_rl.devices import resolve_device

    chapters.record_run(CHAPTER, seconds, resolve_device(plan.training.run.device))
    print(f"OK: all {len(TESTS)} tests passed in {clock(sum(seconds.values()))}")
    return 0


def passes(name: str, plan: Plan) -> bool:
    """Run one test; if it fails, say why and what to do."""
    try:
        TESTS[name](plan)
    except ProofError as failure:
        print(f"FAIL: {name}: {failure}")
        return False
    except (UsageError, Interrupted):
        raise
    except Exception:  # raised again: only its test's name and what to do are added
        print(f"FAIL: {name}: the traceback says where; {REINSTALL}", flush=True)
        raise
    return True


def check_gpu(_: Plan) -> None:
    """Say what training will compute on; a machine without CUDA is fine."""
    import torch

    if torch.cuda.is_available():
        name = torch.cuda.get_device_name(0)
        n_devices = torch.cuda.device_count()
        print(f"OK: CUDA available -- {n_devices} device(s), primary: {name}")
    else:
        print("WARN: CUDA not available; training will use CPU (this is expected on Mac)")


def list_envs(plan: Plan) -> None:
    """Make and reset every Fetch task: a mismatch of dependencies shows here."""
    rendering.render_nothing()
    from robotics_rl import envs

    env_ids = envs.fetch_ids()
    if not env_ids:
        raise ProofError(f"no Fetch task is registered with {_versions()}; {REINSTALL}")
    for env_id in env_ids:
        try:
            env = envs.make_env(env_id)
            observation, _ = env.reset(seed=plan.seed)
            env.close()
        except Exception as error:  # versions that do not fit break anywhere, and it says where
            reason = f"{type(error).__name__}: {error}"
            raise ProofError(
                f"{env_id} cannot be made ({reason}) with {_versions()}; {REINSTALL}"
            ) from error
        shapes = ", ".join(f"{name} {part.shape}" for name, part in observation.items())
        print(f"  {env_id:<26}{shapes}")
    print(f"OK: {len(env_ids)} Fetch tasks, each made and reset")


def _versions() -> str:
    names = ("gymnasium", "gymnasium_robotics", "mujoco")
    found = versions.gather_versions()
    return ", ".join(f"{name} {found[name]}" for name in names)


def check_rewards(plan: Plan) -> None:
    """The reward invariant of book 1.5.2, bit for bit, on a dense and on a sparse task."""
    rendering.render_nothing()
    from robotics_rl import envs
    from robotics_rl.envs.rewards import reward_mismatches

    n_seeds, n_steps = 3, 50
    for env_id in (ENV_ID, "FetchReach-v4"):
        with envs.make_env(env_id) as env:
            mismatches = [
                mismatch
                for seed in range(plan.seed, plan.seed + n_seeds)
                for mismatch in reward_mismatches(
                    env, n_steps=n_steps, n_random_goals=3, atol=0.0, seed=seed
                )
            ]
        if mismatches:
            raise ProofError(
                f"{env_id} has two rewards for one step ({mismatches[0]}); {REINSTALL}"
            )
        print(
            f"OK: {env_id}: the reward of step() is that of compute_reward(), exactly "
            f"({n_seeds} seeds, {n_steps} random steps each)"
        )


def render(plan: Plan) -> None:
    """Draw one frame, by the first backend that can.

    A process can load one OpenGL backend only, and a driver may take its process down: each
    backend gets a process of its own, this script again with `draw`.
    """
    artifacts.require_writable(plan.frame.parent)
    flags = ["--out", str(plan.frame), "--seed", str(plan.seed)]
    problems = {}
    for backend in plan.backends:
        problem = rendering.problem_of([sys.executable, __file__, "draw", *flags], backend)
        if not problem:
            print(f"OK: MUJOCO_GL={backend} draws {ENV_ID}")
            print(f"OK: wrote {plan.frame.resolve()}")
            return
        problems[backend] = problem.removeprefix("error: ")
        if backend != plan.backends[-1]:
            print(f"WARN: MUJOCO_GL={backend} does not draw ({problems[backend]}); trying the next")
    raise ProofError(rendering.none_works(problems))


def draw(plan: Plan) -> None:
    """Draw one frame with the backend that ``MUJOCO_GL`` names; what `render` starts."""
    import imageio.v3 as iio

    from robotics_rl import envs

    with envs.make_env(ENV_ID, render_mode="rgb_array") as env:
        env.reset(seed=plan.seed)
        frame: Any = env.render()
    problem = problem_of_frame(frame)
    if problem:
        raise UsageError(problem)
    with artifacts.atomic_write(plan.frame) as temporary:
        temporary.write_bytes(iio.imwrite("<bytes>", frame, extension=".png"))


def problem_of_frame(frame: "NDArray[np.uint8]") -> str:
    """What is wrong with a picture; empty where it shows something in the size asked for."""
    if frame.shape != (*FRAME_SIZE, 3):
        return f"the frame has shape {frame.shape}, not {(*FRAME_SIZE, 3)}"
    if frame.std() < 5:  # of 255; the robot's picture has about 50
        return f"the frame is blank (standard deviation {frame.std():.1f} of 255)"
    return ""


def train_ppo(plan: Plan) -> None:
    """Train PPO for a minute, save it, and load it back in two ways."""
    metadata = commands.train(plan.training)
    checkpoint = RunPaths.of(plan.training).checkpoint
    load_back(checkpoint, plan.seed)
    print(f"OK: {checkpoint} loads, safely and with PPO.load, and acts (device {metadata.device})")


def load_back(checkpoint: Path, seed: int) -> None:
    """Load without running code from the file, and as any reader of the book would."""
    import numpy as np
    from stable_baselines3 import PPO

    from robotics_rl import checkpoints, envs

    with envs.make_env(ENV_ID) as env:
        observation, _ = env.reset(seed=seed)
        safe = checkpoints.load_policy(checkpoint, env.observation_space, env.action_space).policy
        plain = PPO.load(checkpoint, device="cpu")
        action, same = (
            loaded.predict(observation, deterministic=True)[0] for loaded in (safe, plain)
        )
        if not env.action_space.contains(action) or not np.array_equal(action, same):
            raise ProofError(f"{checkpoint} acts in two ways: {action} and {same}; {REINSTALL}")


TESTS: dict[str, Callable[[Plan], None]] = {
    "gpu-check": check_gpu,
    "list-envs": list_envs,
    "reward-check": check_rewards,
    "render": render,
    "ppo-smoke": train_ppo,
}


def card(training: TrainSettings) -> str:
    """The experiment card."""
    run, paths = training.run, RunPaths.of(training)
    command = f"bash docker/dev.sh python {SCRIPT}"
    rows = [
        ("algorithm", f"{training.algo.upper()} on {training.env_id}"),
        ("fast path", f"{command} all --seed 0"),
        ("one by one", ", ".join(TESTS)),
        ("steps", f"{run.total_steps:,} in {run.n_envs} environments"),
        ("time", reporting.run_time(chapters.run_path(CHAPTER))),
        ("artifacts", f"{FRAME}, {paths.checkpoint}, {paths.metadata.name}"),
        ("", str(paths.curves)),
        ("criteria", "every test says OK; a missing GPU is a WARN"),
        ("", "rewards of step() and compute_reward() are equal bit for bit"),
        ("", "the frame is not blank; the checkpoint loads and acts"),
        ("book", book_figures.PROOF_OF_LIFE),
    ]
    return chapters.card_text(TITLE, rows)


def _parser() -> cli.Parser:
    top = cli.Parser(prog=SCRIPT, description=__doc__)
    subparsers = top.add_subparsers(prog=SCRIPT, dest="command", required=True, metavar="COMMAND")

    def add(name: str, text: str, flags: str = "") -> cli.Parser:
        added = chapters.add_command(subparsers, SCRIPT, name, text, flags)
        cli.add_options(added, config.Run, only=("seed",))
        return added

    whole = add("all", "run every test in order, stop at the first that fails", "--seed 0")
    add("gpu-check", "say what training will compute on")
    add("list-envs", "make every Fetch task once")
    add("reward-check", "compare the rewards of step() and compute_reward()")
    frame = add("render", "draw one frame: with MUJOCO_GL, else EGL, else OSMesa", f"--out {FRAME}")
    smoke = add("ppo-smoke", "train PPO for a minute, save it and load it back", "--n-envs 8")
    add("card", "print the experiment card")
    for one in (whole, smoke):
        names = ("total_steps", "n_envs", "device", "log_dir", "run_tag", "resume", "progress")
        cli.add_options(one, config.Run, only=names, defaults=SMOKE)
    cli.add_options(smoke, config.Run, only=("out",), defaults=SMOKE)
    draw_one = subparsers.add_parser("draw")  # without help text it is not listed: render calls it
    cli.add_options(draw_one, config.Run, only=("seed",))
    for one in (frame, draw_one):
        one.add_argument(
            "--out",
            dest="frame",
            default=FRAME,
            metavar="PATH",
            help=f"the picture (default: {FRAME})",
        )
    return top


if __name__ == "__main__":
    cli.run(main)
