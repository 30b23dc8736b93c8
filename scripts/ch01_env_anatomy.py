"""Book chapter 2: what a Fetch task observes, rewards and leaves to chance.

`all` describes the task, checks that its rewards are the formula on paper, and measures what
random actions reach: the floor under every later result.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import book_figures

from robotics_rl import artifacts, chapters, cli, commands, rendering, reporting
from robotics_rl.chapters import Criterion
from robotics_rl.config import EvalSettings
from robotics_rl.options import Check, fill, option, revised
from robotics_rl.provenance import utc_now
from robotics_rl.schemas import BoxDescription, EnvDescription, ObservationPart

SCRIPT = "scripts/ch01_env_anatomy.py"
CHAPTER = "ch01"
TITLE = "Environment anatomy (book chapter 2)"
DEFAULT_ENV = "FetchReachDense-v4"
THRESHOLDS = (0.01, 0.02, 0.05, 0.10, 0.20)  # metres

# More successes than this at random, and the threshold or the goals are not the book's.
CRITERIA = (Criterion("success_rate", "<", 0.3),)
BOOK_FLOOR = book_figures.RESULTS["random"].figures

# Velocities are displacements per control step: the environment multiplies them by 0.04 s.
_GRIPPER = ObservationPart(first=0, last=2, meaning="gripper position x, y, z", unit="m")
OBSERVATION_PARTS = {
    10: (
        _GRIPPER,
        ObservationPart(first=3, last=4, meaning="finger positions right, left", unit="m"),
        ObservationPart(first=5, last=7, meaning="gripper velocity", unit="m per step"),
        ObservationPart(first=8, last=9, meaning="finger velocities", unit="m per step"),
    ),
    25: (
        _GRIPPER,
        ObservationPart(first=3, last=5, meaning="object position x, y, z", unit="m"),
        ObservationPart(first=6, last=8, meaning="object minus gripper position", unit="m"),
        ObservationPart(first=9, last=10, meaning="finger positions right, left", unit="m"),
        ObservationPart(first=11, last=13, meaning="object rotation, Euler angles", unit="rad"),
        ObservationPart(
            first=14, last=16, meaning="object minus gripper velocity", unit="m per step"
        ),
        ObservationPart(first=17, last=19, meaning="object angular velocity", unit="rad per step"),
        ObservationPart(first=20, last=22, meaning="gripper velocity", unit="m per step"),
        ObservationPart(first=23, last=24, meaning="finger velocities", unit="m per step"),
    ),
}


def _at_least(bound: float) -> Check:
    return lambda value: None if bound <= value < math.inf else f"must be at least {bound}"


@dataclass(frozen=True, kw_only=True)
class Anatomy:
    """The flags of this chapter."""

    env_id: str = option("auto", f"environment id; auto is {DEFAULT_ENV}")
    seed: int = revised(EvalSettings, "seed", 0)
    describe_out: str = option("results/ch01_env_describe.json", "where the description goes")
    n_steps: int = option(500, "random steps whose rewards are compared", _at_least(1))
    n_random_goals: int = option(3, "other goals per step", _at_least(0))
    atol: float = option(1e-6, "largest difference between equal rewards", _at_least(0))
    n_episodes: int = revised(EvalSettings, "n_episodes", 10)
    random_out: str = option("results/ch01_random_metrics.json", "where the random floor goes")


def main(argv: Sequence[str]) -> int:
    """Run one sub-command."""
    given = vars(_parser().parse_args(argv))
    command = given.pop("command")
    if command == "card":
        print(card())
        return 0
    rendering.render_nothing()
    if command == "list-envs":
        return list_envs()
    return COMMANDS[command](_flags(command, given))


def _flags(command: str, given: Mapping[str, Any]) -> Anatomy:
    """The flags, checked, with the environment's id resolved."""
    from robotics_rl import envs

    values = {**DEFAULTS.get(command, {}), **given}
    if values.get("env_id", "auto") == "auto":
        values["env_id"] = DEFAULT_ENV
    envs.require_id(values["env_id"], envs.fetch_ids())
    flags: Anatomy = fill(Anatomy, values)
    return flags


def list_envs() -> int:
    """Print the ids that --env-id takes."""
    from robotics_rl import envs

    print("\n".join(envs.fetch_ids()))
    return 0


def describe(flags: Anatomy) -> int:
    """Write what the task observes and does, and print the parts that people ask for."""
    from robotics_rl import envs

    with closing(envs.make_env(flags.env_id)) as env:
        found = description(env)
    path = Path(flags.describe_out)
    artifacts.require_file(path)
    artifacts.keep_other(path, "task", lambda old: old.get("env_id") == found.env_id)
    artifacts.write_json(path, found)
    print(
        f"{found.env_id}: {found.reward_type} reward, success within {found.distance_threshold} m, "
        f"{found.max_episode_steps} steps at {found.control_frequency_hz:g} Hz"
    )
    for name, box in found.observation_space.items():
        print(f"  {name:<15}{tuple(box.shape)} {box.dtype}")
    for part in found.observation_index_map:
        print(f"    {part.first:>2} to {part.last:<4}{part.meaning} [{part.unit}]")
    action = found.action_space
    print(f"  {'action':<15}{tuple(action.shape)} {action.dtype} dx, dy, dz, fingers in [-1, 1]")
    print(f"OK: wrote {path}")
    return 0


def description(env: Any) -> EnvDescription:
    """What the environment tells about itself."""
    from robotics_rl.versions import gather_versions

    fetch, spaces = env.unwrapped, env.observation_space.spaces
    return EnvDescription(
        env_id=env.spec.id,
        created_at=utc_now(),
        observation_space={name: _box(space) for name, space in spaces.items()},
        action_space=_box(env.action_space),
        reward_type=fetch.reward_type,
        distance_threshold=fetch.distance_threshold,
        max_episode_steps=env.spec.max_episode_steps,
        control_frequency_hz=1 / fetch.dt,
        observation_index_map=list(OBSERVATION_PARTS[spaces["observation"].shape[0]]),
        versions=gather_versions(),
    )


def _box(space: Any) -> BoxDescription:
    return BoxDescription(
        shape=list(space.shape),
        dtype=str(space.dtype),
        low=[_bound(value) for value in space.low.tolist()],
        high=[_bound(value) for value in space.high.tolist()],
    )


def _bound(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


def reward_check(flags: Anatomy) -> int:
    """Hold the rewards of step(), of compute_reward() and of the formula against each other."""
    from robotics_rl import envs
    from robotics_rl.envs.rewards import reward_mismatches

    with closing(envs.make_env(flags.env_id)) as env:
        mismatches = reward_mismatches(
            env,
            n_steps=flags.n_steps,
            n_random_goals=flags.n_random_goals,
            atol=flags.atol,
            seed=flags.seed,
        )
    atol = f"{flags.atol:g}".replace("e-0", "e-")  # 1e-6, as the book prints it
    how = f"(atol={atol}, n_steps={flags.n_steps}, n_random_goals={flags.n_random_goals})"
    if mismatches:
        print(f"FAIL: {len(mismatches)} reward mismatches {how}; install requirements.txt again")
        for mismatch in mismatches[:5]:
            print(f"  {mismatch}")
        return 1
    print(f"OK: reward checks passed {how}")
    return 0


def random_episodes(flags: Anatomy) -> int:
    """Measure and write the floor: what random actions reach."""
    settings, seeds = cli.eval_settings(
        {
            "baseline": "random",
            "env": flags.env_id,
            "n_episodes": flags.n_episodes,
            "seed": flags.seed,
            "json_out": flags.random_out,
        }
    )
    result = commands.evaluate(settings, seeds)
    print(f"book, for {DEFAULT_ENV}: {BOOK_FLOOR}")
    return 0 if chapters.report(CRITERIA, vars(result.aggregate)) else 1


def threshold_table(flags: Anatomy) -> int:
    """How much success is a matter of its definition: other thresholds, the same episodes."""
    from robotics_rl import envs
    from robotics_rl.episodes import Random, one_by_one
    from robotics_rl.statistics import wilson_interval

    seeds = EvalSettings(seed=flags.seed, n_episodes=flags.n_episodes).episode_seeds({})
    with closing(envs.make_env(flags.env_id)) as env:
        episodes = list(one_by_one(Random(env), env, seeds))
    distances = [e.final_distance for e in episodes if e.final_distance is not None]
    print(f"random actions on {flags.env_id}, {len(distances)} episodes, at the last step")
    print("  threshold  success  95 % interval")
    for threshold in THRESHOLDS:
        n_solved = sum(distance < threshold for distance in distances)
        low, high = wilson_interval(n_solved, len(distances))
        rate = n_solved / len(distances)
        print(f"  {threshold:.2f} m     {rate:.2f}     {low:.2f} to {high:.2f}")
    print(f"book, for {DEFAULT_ENV}: {book_figures.THRESHOLDS}")
    return 0


def everything(flags: Anatomy) -> int:
    """Description, rewards and floor; 1 if one of them fails."""
    codes, seconds = [], {}
    for name in ("describe", "reward-check", "random-episodes"):
        started = time.monotonic()
        codes.append(COMMANDS[name](flags))
        seconds[name] = time.monotonic() - started
    if max(codes) == 0:
        chapters.record_run(CHAPTER, seconds, "cpu")
    return max(codes)


COMMANDS: dict[str, Callable[[Anatomy], int]] = {
    "describe": describe,
    "reward-check": reward_check,
    "random-episodes": random_episodes,
    "threshold-table": threshold_table,
    "all": everything,
}
DEFAULTS: dict[str, dict[str, Any]] = {"threshold-table": {"n_episodes": 100}}


def card() -> str:
    """The experiment card."""
    defaults = Anatomy()
    command = f"bash docker/dev.sh python {SCRIPT}"
    rewards = f"{defaults.n_steps} steps, {defaults.n_random_goals} other goals each"
    rows = [
        ("policy", f"random actions on {DEFAULT_ENV}, {defaults.n_episodes} episodes"),
        ("fast path", f"{command} all --seed 0"),
        ("time", reporting.run_time(chapters.run_path(CHAPTER))),
        ("artifacts", f"{defaults.describe_out}, {defaults.random_out}"),
        ("criteria", f"three rewards agree to {defaults.atol:g} ({rewards})"),
        *(("", f"{one.metric} {one.relation} {one.bound:g}") for one in CRITERIA),
        ("thresholds", f"{command} threshold-table"),
        ("book", BOOK_FLOOR),
    ]
    return chapters.card_text(TITLE, rows)


def _parser() -> cli.Parser:
    top = cli.Parser(prog=SCRIPT, description=__doc__)
    subparsers = top.add_subparsers(prog=SCRIPT, dest="command", required=True, metavar="COMMAND")

    def add(name: str, text: str, example: str, *flags: str) -> None:
        added = chapters.add_command(subparsers, SCRIPT, name, text, example)
        if flags:
            only = ("env_id", *flags)
            cli.add_options(added, Anatomy, only=only, defaults=DEFAULTS.get(name))

    rewards = ("seed", "n_steps", "n_random_goals", "atol")
    floor = ("seed", "n_episodes", "random_out")
    add(
        "all",
        "describe, reward-check, random-episodes",
        "--seed 0",
        "describe_out",
        *rewards,
        *floor,
    )
    add("list-envs", "print the ids of the Fetch tasks", "")
    add("describe", "write spaces, reward and meaning of each number", "", "describe_out", "seed")
    add("reward-check", "compare the rewards of step, compute_reward and formula", "", *rewards)
    add("random-episodes", "measure what random actions reach", "--n-episodes 100", *floor)
    add("threshold-table", "success at 0.01 to 0.20 m, random actions", "", "seed", "n_episodes")
    add("card", "print the experiment card", "")
    return top


if __name__ == "__main__":
    cli.run(main)
