"""Many trainings with their evaluations: what is complete is skipped, what is half done goes on."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robotics_rl import artifacts
from robotics_rl.artifacts import RunPaths
from robotics_rl.config import TrainSettings
from robotics_rl.errors import UsageError
from robotics_rl.jobs import Job, carry_out

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Experiment:
    """One training and its evaluation.

    Attributes:
        name: of its log, and in messages.
        settings: of the training.
        result: where the evaluation goes.
        episodes: reset seeds of the evaluation.
        deterministic: whether its policy acts without noise.
        train: command that trains, or goes on with what is unfinished; a script and its flags.
        evaluate: command that evaluates.
    """

    name: str
    settings: TrainSettings
    result: Path
    episodes: Sequence[int]
    deterministic: bool
    train: Sequence[str]
    evaluate: Sequence[str]

    def is_complete(self) -> bool:
        """Whether checkpoint and evaluation are those that would be made."""
        from robotics_rl import training  # torch takes seconds

        metadata = training.finished(self.settings)
        if metadata is None or not self.result.exists():
            return False
        result = artifacts.read_json(self.result)
        expected = {
            "checkpoint_sha256": metadata.checkpoint_sha256,
            "seeds": list(self.episodes),
            "deterministic": self.deterministic,
        }
        return all(result.get(name) == value for name, value in expected.items())

    def job(self) -> Job:
        """The processes that make it."""
        run = self.settings.run
        log = Path(run.log_dir, run.run_tag or "", "logs", f"{self.name}.log")
        commands = [[str(ROOT / script), *flags] for script, *flags in (self.train, self.evaluate)]
        return Job(self.name, commands, log)


def require_distinct(experiments: Sequence[Experiment]) -> None:
    """Two experiments that write to one checkpoint would ruin each other.

    Raises:
        UsageError: there are such.
    """
    paths = [RunPaths.of(one.settings).checkpoint for one in experiments]
    for path in paths:
        if paths.count(path) > 1:
            raise UsageError(f"{path} would be made twice; name every seed and value once")


def complete(experiments: Sequence[Experiment], parallel: int) -> bool:
    """Make what is missing; at the first failure stop everything, and say what failed.

    Returns:
        Whether all are complete now.
    """
    require_distinct(experiments)
    missing = []
    for one in experiments:
        if one.is_complete():
            print(f"complete: {one.name}")
        else:
            missing.append(one)
    for job, code in carry_out([one.job() for one in missing], parallel):
        if code:
            print(f"{job.last_lines()}\nFAIL: {job.name}, see {job.log}", file=sys.stderr)
            return False
        print(f"OK: {job.name}", flush=True)
    return True


def with_changes(given: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """Flags with some replaced; None takes one away."""
    values = {**given, **changes}
    return {name: value for name, value in values.items() if value is not None}
