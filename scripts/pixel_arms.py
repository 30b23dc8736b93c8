"""One run of chapter 9's investigation in small: `ch09_pixel_push.py miniature` starts many.

Arms differ in who trains the encoder and what it is made of, as the chapter's steps do. The learner
is the chapter's own.
"""

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from robotics_rl import artifacts, cli, options, rendering
from robotics_rl.config import Run
from robotics_rl.errors import UsageError
from robotics_rl.options import not_negative, one_of, option, positive, rate
from robotics_rl.pixel_options import Pixels
from robotics_rl.pixel_schemas import MiniatureRun
from robotics_rl.progress import Progress
from robotics_rl.provenance import command_line, git_state, machine, utc_now
from robotics_rl.versions import gather_versions

if TYPE_CHECKING:
    from robotics_rl.learners.pixel_sac import PixelSAC

SCRIPT, FOLDER = "scripts/pixel_arms.py", Path("runs", "miniature")
# arm → settings in which it differs from the first, which is the chapter's step 1
ARMS: dict[str, dict[str, Any]] = {
    "actor": {},
    "critic": {"critic_encoder": True, "drq": False},
    "critic_drq": {"critic_encoder": True, "drq": True},
    "critic_flatten": {"critic_encoder": True, "drq": False, "spatial_softmax": False},
    "critic_drq_flatten": {"critic_encoder": True, "drq": True, "spatial_softmax": False},
}
EPISODES = range(1_000_000, 1_000_050)  # reset seeds of evaluations, used for nothing else


@dataclass(frozen=True, kw_only=True)
class Toy:
    """How every run learns."""

    total_steps: int = option(30_000, "environment steps of a run", positive)
    evaluate_every: int = option(1_000, "environment steps between two evaluations", positive)
    n_envs: int = option(4, "environments stepped side by side", positive)
    gradient_steps: int = option(1, "gradient steps per step of all environments", positive)
    learning_starts: int = option(1_000, "environment steps before learning", positive)
    batch_size: int = option(64, "transitions per gradient step", positive)
    num_filters: int = option(8, "channels of the encoder's maps", positive)
    learning_rate: float = option(3e-4, "step size of Adam", positive)
    gamma: float = option(0.95, "discount factor", rate)
    tau: float = option(0.01, "share by which the target networks move", rate)
    ent_coef: float = option(0.02, "weight of entropy", not_negative)
    n_sampled_goal: int = option(4, "relabelled goals per real one", positive)


@dataclass(frozen=True, kw_only=True)
class Which:
    """A run's name."""

    arm: str = option("critic", f"one of: {', '.join(ARMS)}", one_of(*ARMS))
    seed: int = option(0, "of weights, goals and noise", options.seed_number)


def part_path(arm: str, seed: int) -> Path:
    """Where a run is kept."""
    return FOLDER / f"{arm}_seed{seed}.json"


def is_complete(arm: str, seed: int, toy: Toy) -> bool:
    """Whether this very run is on disk."""
    try:
        kept = artifacts.read_json(part_path(arm, seed))
    except UsageError:  # missing or damaged: it is made again
        return False
    return bool(kept.get("settings") == dataclasses.asdict(toy))


def main(argv: Sequence[str]) -> int:
    """Make one run."""
    example = f"example:\n  bash docker/dev.sh python {SCRIPT} --arm critic --seed 0"
    parser = cli.Parser(prog=SCRIPT, description=__doc__, epilog=example)
    cli.add_options(parser, Which, Toy)
    cli.add_options(parser, Run, only=("progress",))
    given = vars(parser.parse_args(argv))
    which, toy = options.fill(Which, given), options.fill(Toy, given)
    path = part_path(which.arm, which.seed)
    artifacts.require_file(path)
    rendering.render_nothing()
    run = learn(which.arm, which.seed, toy, show_progress=given.get("progress", True))
    artifacts.write_json(path, run)
    print(f"success {run.rows[-1]['success_rate']:.2f}")
    print(f"OK: wrote {path}")
    return 0


def learn(arm: str, seed: int, toy: Toy, *, show_progress: bool = True) -> MiniatureRun:
    """Train one arm, and evaluate it now and then.

    Returns:
        The run; its rows hold ``env_steps``, ``gradient_steps``, ``seconds`` of training and
        drawing, ``success_rate`` over ``EPISODES``, and ``critic_loss`` of the last gradient steps
        (None: nothing was learned).
    """
    from pixel_toy import success_rate

    from robotics_rl.devices import device_name

    model = build(arm, seed, toy)
    rows: list[dict[str, float | None]] = []
    seconds = 0.0
    with Progress(toy.total_steps, "steps", enabled=show_progress) as progress:
        while model.num_timesteps < toy.total_steps:
            started = time.monotonic()
            left = min(toy.evaluate_every, toy.total_steps - model.num_timesteps)
            model.learn(left, log_interval=10**9, reset_num_timesteps=not rows)
            seconds += time.monotonic() - started
            losses = model.take_losses().get("critic_loss")
            rows.append(
                {
                    "env_steps": model.num_timesteps,
                    "gradient_steps": model._n_updates,
                    "seconds": round(seconds, 1),
                    "success_rate": success_rate(model.policy, EPISODES),
                    "critic_loss": losses,
                }
            )
            progress.update(model.num_timesteps, f"success {rows[-1]['success_rate']:.2f}")
    return MiniatureRun(
        arm=arm,
        seed=seed,
        settings=dataclasses.asdict(toy),
        rows=rows,
        seconds=round(seconds, 1),
        created_at=utc_now(),
        command=command_line(),
        git=git_state(),
        device_name=device_name("cpu"),
        versions=gather_versions(),
        **machine(),
    )


def floors() -> dict[str, float]:
    """Success on ``EPISODES`` of doing nothing and of acting at random."""
    from pixel_toy import Floor, success_rate

    policies = {"do_nothing": Floor(), "random": Floor(np.random.default_rng(0))}
    return {name: success_rate(policy, EPISODES) for name, policy in policies.items()}


def build(arm: str, seed: int, toy: Toy) -> "PixelSAC":
    """The chapter's learner on the toy, everything seeded."""
    import torch
    from pixel_policies import make_vision
    from pixel_toy import FRAME_STACK, HORIZON, SIZE, THRESHOLD, PixelPoint
    from stable_baselines3.common.utils import set_random_seed
    from stable_baselines3.common.vec_env import DummyVecEnv

    from robotics_rl.envs.resumable_vec_env import training_seeds
    from robotics_rl.learners.pixel_sac import PixelSAC
    from robotics_rl.replay.frames import FrameReplay, FrameStore
    from robotics_rl.replay.hindsight import Hindsight
    from robotics_rl.replay.memory_plan import FrameShape

    set_random_seed(seed)
    torch.set_num_threads(1)  # another run has the other core
    seen = {"encoder": "manipulation", "proprio": False, "policy_inputs": "no-achieved"}
    seen |= {"drq": False, "image_size": SIZE, "frame_stack": FRAME_STACK}
    vision = make_vision(Pixels(**{**seen, "num_filters": toy.num_filters, **ARMS[arm]}).decided())
    env = DummyVecEnv([PixelPoint] * toy.n_envs)
    # Not `env.seed(seed)`: with it, environments of seeds 0 and 1 would have the same goals.
    *seeds, action_seed = training_seeds(seed, toy.n_envs)
    env._seeds = list(seeds)
    env.action_space.seed(action_seed)
    frame = (1, SIZE, SIZE)
    shape = FrameShape(toy.n_envs, HORIZON, frame, FRAME_STACK, proprioception=1, goal=2, action=2)
    k, reward = toy.n_sampled_goal, PixelPoint().compute_reward
    replay = FrameReplay(
        FrameStore(toy.total_steps, shape),
        *(reward, THRESHOLD, np.random.default_rng(seed), Hindsight(relabelled=k / (k + 1))),
    )
    names = ("gradient_steps", "learning_starts", "batch_size", "learning_rate", "gamma", "tau")
    return PixelSAC(
        policy=vision.policy,
        policy_kwargs={"net_arch": [128, 128], **vision.policy_kwargs},
        env=env,
        replay=replay,
        augment=vision.augment,
        ent_coef=toy.ent_coef,
        device="cpu",
        **{name: getattr(toy, name) for name in names},
    )


if __name__ == "__main__":
    cli.run(main)
