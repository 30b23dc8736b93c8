"""The tables of benchmarks/README.md, from the JSON documents that the benchmarks wrote."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robotics_rl.artifacts import benchmark_path, read_json
from robotics_rl.replay.memory_plan import FrameShape
from robotics_rl.solving_tables import solving_rows

RACES = ("environments", "learner", "training", "pixels")
TRIALS = ("time_to_success", "ablation")
DEVICES = ("cpu", "cuda")
ON = {"cpu": "without a GPU", "cuda": "on a GPU"}  # the end of a heading
N_ENVS = 4  # of the benchmark of pictures
Rows = list[list[str]]


def tables() -> Iterator[tuple[str, str, str, Rows]]:
    """Script, device, what was measured on which machine, and the table, of all that were run."""
    for script, device in itertools.product(RACES, DEVICES):
        path = benchmark_path(script, device)
        if path.exists():
            document = read_json(path)
            how = f"{document['unit']}, median of {document['rounds']} rounds (range)"
            story = f"{_story(document, [document], device)}: {how}"
            yield script, device, story, _race(document)
    for script, device in itertools.product(TRIALS, DEVICES):
        path = benchmark_path(script, device)
        if path.exists():
            document = read_json(path)
            table = solving_rows(document["runs"], timed=document["timed"])
            yield script, device, _story(document, document["runs"], device), table


def profile() -> tuple[str, Rows] | None:
    """Where the time of training from pictures goes; None where that was not measured.

    Parts of a training step, from how often a second each is done alone.
    """
    path = benchmark_path("pixels")
    if not path.exists():
        return None
    story = (
        f"Milliseconds per step of {N_ENVS} environments, with 1 torch thread. Processes of their "
        "own draw the pictures, while the learner takes its gradient step"
    )
    per_second = read_json(path)["medians"]
    parts = {
        "choose actions": N_ENVS / per_second["actions chosen, ours"],
        "take a gradient step": 1 / per_second["gradient steps, ours"],
        "of it: draw the batch": 1 / per_second["batches of a gradient step, ours"],
        "meanwhile: simulate and draw pictures, 1 process": N_ENVS
        / per_second["frames, 1 process"],
        "**all, measured as one**": N_ENVS / per_second["training, ours, 1 torch thread"],
        "**the plain pipeline**": N_ENVS / per_second["training, plain, 1 torch thread"],
    }
    rows = [["part", "ms"], *([name, f"{1_000 * value:.1f}"] for name, value in parts.items())]
    return story, rows


@dataclass(frozen=True)
class Target:
    """What the engine was to reach on two cores without a GPU."""

    what: str
    bound: float
    measure: Callable[[], float | None]  # None where it was not run, or not every seed got there
    at_least: bool = False  # or at most
    form: str = ".1f"
    unit: str = " s"  # of what is to be small

    def row(self) -> list[str]:
        """What, bound, measured, verdict."""
        sign, unit = ("at least", "") if self.at_least else ("at most", self.unit)
        bound, value = f"{sign} {self.bound:g}{unit}", self.measure()
        if value is None:
            return [self.what, bound, "not reached by every seed, or not run yet", "no"]
        met = value >= self.bound if self.at_least else value <= self.bound
        return [self.what, bound, f"{value:{self.form}}{unit}", "yes" if met else "no"]


def _ratio(script: str, name: str) -> Callable[[], float | None]:
    return _read(script, "ratios", name)


def _read(script: str, kind: str, name: str) -> Callable[[], float | None]:
    def measure() -> float | None:
        path = benchmark_path(script)
        return float(read_json(path)[kind][name]) if path.exists() else None

    return measure


def _replay_kilobytes() -> float:
    """Of a transition, where 500,000 of the chapter's are kept."""
    shape = FrameShape(4, 50, (3, 84, 84), 4, proprioception=10, goal=3, action=4)
    return shape.slots_bytes(shape.n_slots(500_000)) / 500_000 / 1_000


def _slowest(env_id: str, n_seeds: int) -> Callable[[], float | None]:
    """Seconds of the slowest seed until the recipe `fast` had solved a task."""

    def measure() -> float | None:
        runs = read_json(benchmark_path("time_to_success"))["runs"]
        seconds = [
            run["solved_seconds"]
            for run in runs
            if (run["name"], run["env_id"]) == ("fast", env_id)
        ]
        return None if len(seconds) < n_seeds or None in seconds else max(seconds)

    return measure


def _ppo_seconds() -> float:
    """Of the chapter's training, which ends with the rollout in which it passes 500,000 steps."""
    path = Path("checkpoints", "fastpath", "ppo_FetchReachDense-v4_seed0.meta.json")
    return float(read_json(path)["training"]["wall_seconds"])


def _evaluation_seconds(name: str) -> Callable[[], float | None]:
    """Of the slowest published evaluation of a kind; None where there is none."""

    def measure() -> float | None:
        paths = Path("results", "fastpath").glob(f"{name}_seed*_eval.json")
        return max((read_json(path)["wall_seconds"] for path in paths), default=None)

    return measure


TARGETS = (
    Target(
        "steps of 8 environments on 2 threads / DummyVecEnv",
        2.8,
        _ratio("environments", "8 environments, 2 threads / DummyVecEnv"),
        at_least=True,
        form=".2f",
    ),
    Target(
        "steps of 8 environments on 2 threads / SubprocVecEnv",
        2.0,
        _ratio("environments", "8 environments, 2 threads / SubprocVecEnv"),
        at_least=True,
        form=".2f",
    ),
    Target(
        "steps of 16 environments / physics alone",
        0.75,
        _ratio("environments", "16 environments, 2 threads / physics alone on 2 threads"),
        at_least=True,
        form=".2f",
    ),
    Target(
        "training steps at equal settings / Stable-Baselines3 with 2 torch threads",
        2.1,
        _ratio("training", "ours / SB3, 2 torch threads"),
        at_least=True,
        form=".2f",
    ),
    Target(
        "frames a second on one core, 84 pixels a side",
        300.0,
        _read("pixels", "medians", "frames, 1 process"),
        at_least=True,
        form=".0f",
    ),
    Target(
        "frames, a process per core / plain pipeline",
        5.0,
        _ratio("pixels", "frames, a process per core / plain"),
        at_least=True,
    ),
    Target(
        "training from pictures / plain pipeline with 2 torch threads",
        2.5,
        _ratio("pixels", "training / plain, 2 torch threads"),
        at_least=True,
        form=".2f",
    ),
    Target("replay of pictures, per transition (computed)", 24.0, _replay_kilobytes, unit=" kB"),
    Target("FetchReach-v4 solved, slowest of 5 seeds", 5.0, _slowest("FetchReach-v4", 5)),
    Target("FetchPush-v4 solved, slowest of 5 seeds", 100.0, _slowest("FetchPush-v4", 5)),
    Target(
        "FetchPickAndPlace-v4 solved, slowest of 3 seeds",
        1_200.0,
        _slowest("FetchPickAndPlace-v4", 3),
    ),
    Target("500,000 steps of PPO on FetchReachDense-v4", 240.0, _ppo_seconds),
    Target(
        "evaluation of 100 episodes of FetchReachDense-v4",
        3.0,
        _evaluation_seconds("ch02_ppo_fetchreachdense-v4"),
    ),
    Target(
        "evaluation of 100 episodes of FetchPush-v4, slowest of 3 seeds",
        3.0,
        _evaluation_seconds("ch04_sac_her_fetchpush-v4"),
    ),
)


def targets() -> Rows:
    """Every target beside what was measured."""
    return [["target", "bound", "measured", "met"], *(target.row() for target in TARGETS)]


def trivial_goals() -> tuple[str, Rows]:
    """What the lab counted on early Push episodes, and its table."""
    document = read_json(Path("results", "trivial_goals.json"))
    story = (
        f"{document['n_episodes']} episodes of {document['env_id']} with random actions, seed "
        f"{document['seed']}: in {document['moved_share']:.0%} of them the block moved"
    )
    rows = [["trivial goals kept", "trivial", "achieved by the step", "still to be achieved"]]
    for row in document["rows"]:
        parts = (row[name] for name in ("trivial", "achieved_by_step", "to_be_achieved"))
        rows.append([f"{row['p']:.0%}", *(f"{part:.1%}" for part in parts)])
    return story, rows


def _story(document: Mapping[str, Any], measured: Sequence[Mapping[str, Any]], device: str) -> str:
    """What was measured, on which machines."""
    form = "{cpu_cores} cores of {device_name}"
    if device != "cpu":
        form = "{device_name} beside {cpu_cores} processor cores"
    machines = sorted({form.format_map(one) for one in measured})
    name = document["name"]
    return f"{name[0].upper()}{name[1:]}, on {' and '.join(machines)}"


def _race(document: Mapping[str, Any]) -> Rows:
    rows = [["contestant or ratio", "measured"]]
    for name, values in document["rows"].items():
        low, high = f"{min(values):,.4g}", f"{max(values):,.4g}"
        rows.append([name, f"{document['medians'][name]:,.4g} ({low} to {high})"])
    return rows + [
        [f"**{name}**", f"**{ratio:.2f}**"] for name, ratio in document["ratios"].items()
    ]
