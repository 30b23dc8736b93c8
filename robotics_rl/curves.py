"""Learning curves on disk: TensorBoard events, and the small CSV that figures read."""

import csv
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from stable_baselines3.common.logger import KVWriter, Logger, TensorBoardOutputFormat
from torch.utils.tensorboard.writer import SummaryWriter

from robotics_rl.artifacts import RunPaths, atomic_write
from robotics_rl.config import TrainSettings
from robotics_rl.errors import UsageError

# column → key in Stable-Baselines3's logger
_LOGGED = {
    "success_rate": "rollout/success_rate",
    "ep_rew_mean": "rollout/ep_rew_mean",
    "goal_moved_rate": "rollout/goal_moved_rate",
    "ent_coef": "train/ent_coef",
    "critic_loss": "train/critic_loss",
    "actor_loss": "train/actor_loss",
    "q_min_mean": "replay/q_min_mean",
    "value_loss": "train/value_loss",
    "policy_gradient_loss": "train/policy_gradient_loss",
    "entropy_loss": "train/entropy_loss",
    "approx_kl": "train/approx_kl",
    "clip_fraction": "train/clip_fraction",
    "explained_variance": "train/explained_variance",
}
Row = Mapping[str, float | None]  # column → value; None where it was not logged
COLUMNS = ("env_steps", "gradient_steps", "wall_seconds", *_LOGGED)

Charts = dict[str, list[str]]  # title → keys in the logger
_OUTCOME = {"success rate": ["rollout/success_rate"], "return": ["rollout/ep_rew_mean"]}
_LOSSES = {"critic loss": ["train/critic_loss"], "actor loss": ["train/actor_loss"]}
_PUSHING = {
    "success rate": ["rollout/success_rate", "rollout/goal_moved_rate"],
    "return": ["rollout/ep_rew_mean"],
    "entropy coefficient": ["train/ent_coef"],
    **_LOSSES,
}
# What each chapter of the book reads, in one tab of TensorBoard.
_CHAPTERS: dict[str, tuple[str, Charts]] = {
    "ppo": (
        "Book chapter 3: PPO",
        {
            **_OUTCOME,
            "value loss": ["train/value_loss"],
            "approximate KL divergence": ["train/approx_kl"],
            "clip fraction": ["train/clip_fraction"],
            "entropy loss": ["train/entropy_loss"],
            "policy gradient loss": ["train/policy_gradient_loss"],
        },
    ),
    "sac": (
        "Book chapter 4: SAC",
        {
            **_OUTCOME,
            "entropy coefficient": ["replay/ent_coef"],
            "values": ["replay/q1_mean", "replay/q2_mean", "replay/q_min_mean"],
            **_LOSSES,
        },
    ),
    "sac_her": ("Book chapter 5: SAC with HER", _PUSHING),
    "pixels": ("Book chapter 9: SAC from pictures", _PUSHING),
}


class CurvesWriter(KVWriter):
    """Appends a row to ``curves.csv`` whenever the logger dumps.

    Args:
        path: the CSV.
        after: keep the rows up to this many environment steps (a resumed run repeats the others).
        gradient_steps: tells how many were taken so far.
        wall_seconds: training time of the run before this process.
    """

    def __init__(
        self, path: Path, after: int, gradient_steps: Callable[[], int], wall_seconds: float
    ) -> None:
        kept = _rows_up_to(path, after)
        with atomic_write(path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(kept)
        self._file = path.open("a", newline="", encoding="utf-8")
        self._writer = csv.DictWriter(self._file, COLUMNS, lineterminator="\n")
        self._gradient_steps = gradient_steps
        self._started = time.monotonic() - wall_seconds
        self._last_step = after

    def write(
        self, key_values: dict[str, Any], _: dict[str, tuple[str, ...]], step: int = 0
    ) -> None:
        """One row; a second dump at the same step says nothing new."""
        if step <= self._last_step:
            return
        self._last_step = step
        logged = {
            column: f"{float(key_values[key]):.6g}"
            for column, key in _LOGGED.items()
            if key in key_values
        }
        self._writer.writerow(
            {
                "env_steps": step,
                "gradient_steps": self._gradient_steps(),
                "wall_seconds": f"{time.monotonic() - self._started:.2f}",
                **logged,
            }
        )
        try:
            self._file.flush()
        except OSError as error:
            raise UsageError(
                f"cannot write the curve ({error.strerror}); free some space, --resume goes on"
            ) from error

    def close(self) -> None:
        """Put the curve on disk."""
        os.fsync(self._file.fileno())
        self._file.close()


class _TensorBoard(TensorBoardOutputFormat):
    """Stable-Baselines3's writer, continuing a curve: later events of a killed run are hidden."""

    def __init__(self, settings: TrainSettings, folder: Path, done: int) -> None:
        self.writer = SummaryWriter(str(folder), purge_step=done + 1 if done else None)
        self._is_closed = False
        if not done and (layout := charts_of(settings)):
            self.writer.add_custom_scalars(layout)
            self.writer.flush()  # a run that is killed goes on without writing it again


def charts_of(settings: TrainSettings) -> dict[str, dict[str, list[Any]]]:
    """Title → charts that TensorBoard shows beside each other; nothing for what no chapter reads.

    TensorBoard looks for tags that begin with a regular expression, so each one here has its end.
    """
    kind = f"{settings.algo}_her" if settings.her else settings.algo
    if settings.pixels:
        kind = "lessons" if settings.lessons else "pixels"
    if kind not in _CHAPTERS:
        return {}
    title, charts = _CHAPTERS[kind]
    return {
        title: {name: ["Multiline", [f"{key}$" for key in keys]] for name, keys in charts.items()}
    }


def make_logger(
    settings: TrainSettings, done: int, gradient_steps: Callable[[], int], wall_seconds: float
) -> Logger:
    """The logger of a training that has ``done`` environment steps behind it."""
    curves = RunPaths.of(settings).curves
    writers: list[KVWriter] = [CurvesWriter(curves, done, gradient_steps, wall_seconds)]
    if settings.run.track == "tb":
        writers.append(_TensorBoard(settings, curves.parent, done))
    return Logger(folder=str(curves.parent), output_formats=writers)


def read_curves(path: Path) -> list[dict[str, float | None]]:
    """Rows of a ``curves.csv``; None where a value was not logged.

    Raises:
        UsageError: the file is none.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if "env_steps" not in (reader.fieldnames or ()):
                raise ValueError("without env_steps")
            return [
                {column: float(value) if value else None for column, value in row.items()}
                for row in reader
            ]
    except (OSError, TypeError, ValueError) as error:
        raise UsageError(f"{path} is no learning curve ({error}); name another run") from None


def read_run(folder: Path) -> list[dict[str, float | None]]:
    """Rows of a training's ``curves.csv`` or, where there is none, of its TensorBoard events."""
    curves = folder / "curves.csv"
    return read_curves(curves) if curves.exists() else _read_events(folder)


def points(rows: Sequence[Row], column: str) -> tuple[list[float], list[float]]:
    """Environment steps, and the values of a column at those where it was logged."""
    pairs = [(row["env_steps"], row.get(column)) for row in rows]
    known = [(steps, value) for steps, value in pairs if steps is not None and value is not None]
    return [steps for steps, _ in known], [value for _, value in known]


def _read_events(folder: Path) -> list[dict[str, float | None]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})  # 0: all of them
    events.Reload()
    logged = events.Tags()["scalars"]
    rows: dict[int, dict[str, float | None]] = {}
    for column, key in _LOGGED.items():
        for event in events.Scalars(key) if key in logged else ():
            blank = {**dict.fromkeys(COLUMNS), "env_steps": float(event.step)}
            rows.setdefault(event.step, blank)[column] = event.value
    return [rows[step] for step in sorted(rows)]


def _rows_up_to(path: Path, env_steps: int) -> list[dict[str, str]]:
    if not env_steps or not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    # The last line of a killed run may be cut short.
    whole = [row for row in rows if None not in row.values()]
    return [row for row in whole if int(row["env_steps"]) <= env_steps]
