"""Runs the demo of a lab with several seeds: one lucky run proves nothing.

Writes `results/labs/NAME.json` after every seed; what is in it already is not run again.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

import book_figures
import numpy as np

from robotics_rl import artifacts, cli, options, rendering
from robotics_rl.artifacts import read_json
from robotics_rl.errors import UsageError
from robotics_rl.provenance import command_line, git_state, machine, utc_now
from robotics_rl.schemas import LabSeeds
from robotics_rl.solving_tables import spread
from robotics_rl.versions import gather_versions

FOLDER = Path("results", "labs")
Row = dict[str, Any]  # of one seed
CARTPOLE_STEPS, REACH_STEPS = 50_000, 200_000  # at most
PENDULUM_STEPS, PENDULUM_DEMO_STEPS = 15_000, 50_000
PENDULUM_EXERCISE_STEPS = 25_000
# What exercises 2, 3 and 5 of book chapter 4 change → settings of the lab's demo.
PENDULUM_EXERCISES: dict[str, dict[str, Any]] = {
    "single_q": {"single_q": True},
    "fixed_alpha": {"fixed_alpha": 0.2},
    "higher_target": {"target_entropy": -0.5},
    "lower_target": {"target_entropy": -2.0},
}
# Steps of an episode, the probability that one is relabelled, and how many goals it then gets.
RELABELLING: dict[str, Any] = {"n_steps": 50, "her_ratio": 0.8, "k": 4}


@dataclass(frozen=True)
class Demo:
    """What a lab learns with one seed, and what that must come to."""

    lab: str
    title: str
    seeds: str  # published
    run: Callable[[Any, int], Row]  # the lab's module and the seed → everything measured
    learned: Callable[[Row], bool]
    target: str  # what `learned` asks, in words
    figures: Mapping[str, Callable[[Row], Any]]  # what a seed came to, in words → from its row
    book: str  # the book's own figures, quoted


def _cartpole(lab: Any, seed: int) -> Row:
    return dict(lab.learn("CartPole-v1", seed, CARTPOLE_STEPS, lab.TASKS["CartPole-v1"][1]))


def _dense_reach(lab: Any, seed: int) -> Row:
    env_id = "FetchReachDense-v4"
    return dict(lab.learn(env_id, seed, REACH_STEPS, lab.TASKS[env_id][1]))


def _pendulum(lab: Any, seed: int, steps: int) -> Row:
    return dict(lab.learn(seed, lab.Settings(steps=steps)))


def _pendulum_exercises(lab: Any, seed: int) -> Row:
    row: Row = {"seed": seed}
    for name, changed in PENDULUM_EXERCISES.items():
        row[name] = lab.learn(seed, lab.Settings(steps=PENDULUM_EXERCISE_STEPS, **changed))
    return row


def _ended(exercise: str, key: str) -> Callable[[Row], Any]:
    """What an exercise came to with a seed."""
    return lambda row: row[exercise][key]


def _point_reach(lab: Any, seed: int) -> Row:
    row: Row = {"seed": seed}
    for mode, her in {"with_her": lab.HERConfig(), "without_her": lab.HERConfig(k=0)}.items():
        result = lab.train(replace(lab.TrainConfig(seed=seed), her=her))
        row |= {f"success_{mode}": result.curves["success"][-1]}
        row |= {f"seconds_{mode}": round(result.seconds, 1), f"curves_{mode}": result.curves}
    return row


def _relabelled(lab: Any, seed: int) -> Row:
    """An episode without success, and what hindsight makes of it."""
    rng = np.random.default_rng(seed)
    episode = lab.create_synthetic_episode(RELABELLING["n_steps"], rng)
    how = {name: RELABELLING[name] for name in ("k", "her_ratio")}
    stored = lab.process_episode_with_her(episode, lab.sparse_reward, rng=rng, **how)
    return {
        "seed": seed,
        "transitions": len(stored),
        "success_before": lab.compute_success_fraction(episode.transitions),
        "success": lab.compute_success_fraction(stored),
    }


def _within(most: int, key: str) -> Callable[[Row], bool]:
    """Whether a seed reached its target, in so many steps at most."""
    return lambda row: row[key] is not None and row[key] <= most


def _at(steps: int, key: str) -> Callable[[Row], Any]:
    """What the curve of a seed held after so many steps."""
    return lambda row: next(point[key] for point in row["curve"] if point["steps"] == steps)


DEMOS = {
    "ppo_cartpole": Demo(
        lab="ppo_from_scratch",
        title="PPO on CartPole-v1",
        seeds="0-9",
        run=_cartpole,
        learned=_within(CARTPOLE_STEPS, "steps_to_target"),
        target=f"mean return of 195 over 20 fresh episodes within {CARTPOLE_STEPS:,} steps",
        figures={"steps": itemgetter("steps_to_target"), "seconds": itemgetter("seconds")},
        book=book_figures.RESULTS["ppo_cartpole"].whole,
    ),
    "ppo_dense_reach": Demo(
        lab="ppo_from_scratch",
        title="PPO on FetchReachDense-v4",
        seeds="0-2",
        run=_dense_reach,
        learned=_within(REACH_STEPS, "steps_to_target"),
        target=f"mean return of -1.5 over 20 fresh episodes within {REACH_STEPS:,} steps",
        figures={
            "steps": itemgetter("steps_to_target"),
            "return": itemgetter("final_mean"),
            "success": itemgetter("final_success"),
            "seconds": itemgetter("seconds"),
        },
        book=book_figures.PPO_LAB_ON_REACH,
    ),
    "sac_pendulum": Demo(
        lab="sac_from_scratch",
        title="SAC on Pendulum-v1",
        seeds="0-4",
        run=partial(_pendulum, steps=PENDULUM_STEPS),
        learned=_within(PENDULUM_STEPS, "steps_to_solved"),
        target=f"mean return above -200 over 10 episodes within {PENDULUM_STEPS:,} steps",
        figures={
            "steps": itemgetter("steps_to_solved"),
            "return at 10,000 steps": _at(10_000, "return"),
            "alpha at 10,000": _at(10_000, "alpha"),
            f"seconds for {PENDULUM_STEPS:,}": itemgetter("seconds"),
        },
        book=book_figures.RESULTS["sac_pendulum"].whole,
    ),
    "sac_pendulum_demo": Demo(
        lab="sac_from_scratch",
        title="SAC on Pendulum-v1, the whole demo",
        seeds="0-2",
        run=partial(_pendulum, steps=PENDULUM_DEMO_STEPS),
        learned=lambda row: row["final_return"] > -215,
        target=f"mean return above -215 over 10 episodes after {PENDULUM_DEMO_STEPS:,} steps",
        figures={
            "return at 25,000 steps": _at(25_000, "return"),
            "alpha at 25,000": _at(25_000, "alpha"),
            "return at 50,000": _at(PENDULUM_DEMO_STEPS, "return"),
            "alpha at 50,000": _at(PENDULUM_DEMO_STEPS, "alpha"),
            "seconds": itemgetter("seconds"),
        },
        book=book_figures.RESULTS["sac_pendulum"].whole,
    ),
    "sac_pendulum_exercises": Demo(
        lab="sac_from_scratch",
        title="SAC on Pendulum-v1, the exercises",
        seeds="0",
        run=_pendulum_exercises,
        learned=lambda row: all(row[name]["steps_to_solved"] for name in PENDULUM_EXERCISES),
        target="mean return above -200 over 10 episodes, with each change, within "
        f"{PENDULUM_EXERCISE_STEPS:,} steps",
        figures={
            f"{words}, {name}": _ended(name, key)
            for name in PENDULUM_EXERCISES
            for words, key in {"return": "final_return", "alpha": "final_alpha"}.items()
        },
        book="no figures",
    ),
    "her_relabeler": Demo(
        lab="her_relabeler",
        title="HER on a synthetic episode",
        seeds="0-9",
        run=_relabelled,
        learned=lambda row: row["success"] > row["success_before"] == 0,
        target="successes in an episode that had none",
        figures={"transitions": itemgetter("transitions"), "success": itemgetter("success")},
        book=book_figures.RESULTS["her_relabeler"].whole,
    ),
    "ddpg_her_point_reach": Demo(
        lab="ddpg_her_from_scratch",
        title="DDPG with and without HER on PointReach-v0",
        seeds="0-4",
        run=_point_reach,
        learned=lambda row: row["success_with_her"] >= 0.9 and row["success_without_her"] <= 0.2,
        target="success of 90 % over 50 fresh episodes after 150, and of 20 % at most without HER",
        figures={
            "success with HER": itemgetter("success_with_her"),
            "without": itemgetter("success_without_her"),
            "seconds with HER": itemgetter("seconds_with_her"),
        },
        book=book_figures.DDPG_NOTEBOOK,
    ),
}


def figures_of(name: str, document: Mapping[str, Any]) -> str:
    """What the seeds of a demo came to, in words: medians and ranges."""
    told = []
    for words, value in DEMOS[name].figures.items():
        values = [n for row in document["rows"] if (n := value(row)) is not None]
        many = values and min(values) >= 1_000
        told.append(f"{words} {spread(values, ',.0f' if many else '.4g')}")
    return "; ".join(told)


def main(argv: Sequence[str]) -> int:
    """Run the seeds that are missing; exit code 1 if any seed of the demo did not learn."""
    parser = cli.Parser(
        prog="scripts/lab_seeds.py",
        description=__doc__,
        epilog="example:\n  bash docker/dev.sh python scripts/lab_seeds.py ppo_cartpole",
    )
    parser.add_argument("demo", choices=list(DEMOS), help="what to learn")
    parser.add_argument("--seeds", help="seeds (default: the published ones)")
    parser.add_argument("--fresh", action="store_true", help="run every seed again")
    parser.add_argument("--results-dir", default=str(FOLDER), help=f"folder (default: {FOLDER})")
    flags = parser.parse_args(argv)
    demo, path = DEMOS[flags.demo], Path(flags.results_dir, f"{flags.demo}.json")
    artifacts.require_file(path)
    rendering.render_nothing()
    rows = {} if flags.fresh else _rows_of(path)
    for seed in options.parse_seeds(flags.seeds or demo.seeds):
        if seed not in rows:
            rows[seed] = _learn(demo, seed)
            artifacts.write_json(path, _document(demo, rows))
    learned = [seed for seed, row in rows.items() if row["learned"]]
    print(f"{demo.title}: {len(learned)} of {len(rows)} seeds learned ({demo.target})")
    print(f"OK: wrote {path}")
    return 0 if len(learned) == len(rows) else 1


def _rows_of(path: Path) -> dict[int, Row]:
    """Seed → its row, which says when and from which commit it was run."""
    if not path.exists():
        return {}
    document = read_json(path)
    shared = {name: document[name] for name in ("created_at", "git")}
    return {row["seed"]: {**shared, **row} for row in document["rows"]}


def _learn(demo: Demo, seed: int) -> Row:
    import torch

    torch.set_num_threads(1)  # as the lab does; more of them only wait for each other
    row = demo.run(load_lab(demo.lab), seed)
    return {
        **row,
        "learned": demo.learned(row),
        "created_at": utc_now(),
        "git": git_state(),
    }


def load_lab(name: str) -> Any:
    """The module of `scripts/labs/NAME.py`.

    Raises:
        UsageError: the demo needs a package that is not installed.
    """
    try:
        return importlib.import_module(f"labs.{name}")
    except ModuleNotFoundError as error:
        raise UsageError(f"{error}; start commands with: bash docker/dev.sh …") from None


def _document(demo: Demo, rows: Mapping[int, Row]) -> LabSeeds:
    from robotics_rl.devices import device_name

    return LabSeeds(
        lab=demo.lab,
        title=demo.title,
        target=demo.target,
        n_learned=sum(row["learned"] for row in rows.values()),
        rows=[rows[seed] for seed in sorted(rows)],
        created_at=utc_now(),
        command=command_line(),
        git=git_state(),
        device_name=device_name("cpu"),
        versions=gather_versions(),
        **machine(),
    )


if __name__ == "__main__":
    cli.run(main)
