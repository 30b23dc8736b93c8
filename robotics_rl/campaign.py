"""Many trainings with their evaluations: what is complete is skipped, what is half done goes on."""

import os
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from robotics_rl import artifacts, rendering
from robotics_rl.artifacts import RunPaths
from robotics_rl.config import TrainSettings
from robotics_rl.errors import UsageError
from robotics_rl.jobs import Job, carry_out

ROOT = Path(__file__).resolve().parents[1]
SECONDS_TO_SAVE = 60.0  # that a training whose parent was killed has left


@dataclass(frozen=True)
class Experiment:
    """One training and its evaluation.

    Attributes:
        settings: of the training.
        result: where the evaluation goes.
        episodes: reset seeds of the evaluation.
        deterministic: whether its policy acts without noise.
        train: command that trains; a script and its flags, without ``--resume``.
        evaluate: command that evaluates.
    """

    settings: TrainSettings
    result: Path
    episodes: Sequence[int]
    deterministic: bool
    train: Sequence[str]
    evaluate: Sequence[str]

    @property
    def name(self) -> str:
        """Of its log, and in messages."""
        checkpoint = RunPaths.of(self.settings).checkpoint.with_suffix("")
        folder = Path(self.settings.run.checkpoints_dir)
        inside = checkpoint.is_relative_to(folder)
        return "_".join(checkpoint.relative_to(folder).parts) if inside else checkpoint.name

    def made(self) -> str:
        """The files that come of it, in words."""
        return f"{RunPaths.of(self.settings).checkpoint} and {self.result}"

    def is_complete(self) -> bool:
        """Whether checkpoint and evaluation are those that would be made."""
        from robotics_rl import training  # torch takes seconds

        metadata = training.finished(self.settings)
        if metadata is None:
            return False
        try:
            result = artifacts.read_json(self.result)
        except UsageError:  # missing or damaged: it is made again
            return False
        expected = {
            "checkpoint_sha256": metadata.checkpoint_sha256,
            "seeds": list(self.episodes),
            "deterministic": self.deterministic,
        }
        return all(result.get(name) == value for name, value in expected.items())

    def job(self) -> Job:
        """The processes that make it."""
        from robotics_rl import training

        run = self.settings.run
        log = Path(run.log_dir, run.run_tag or "", "logs", f"{self.name}.log")
        there = training.can_resume(self.settings) or training.finished(self.settings)
        train = [*self.train, "--resume"] if there else self.train
        commands = [[str(ROOT / script), *flags] for script, *flags in (train, self.evaluate)]
        return Job(self.name, commands, log)


def complete(experiments: Sequence[Experiment], parallel: int, *, show_progress: bool) -> bool:
    """Make what is missing; at the first failure stop everything, and say what failed.

    Returns:
        Whether all are complete now.

    Raises:
        UsageError: a training cannot be carried out; nothing was written.
    """
    jobs, environment = prepare(experiments, parallel)
    by_name = {one.name: one for one in experiments}
    missing = {job.name for job in jobs}
    for name, one in by_name.items():
        if name not in missing:
            print(f"complete: {one.made()}")
    outcomes = carry_out(jobs, parallel, environment=environment, show_progress=show_progress)
    with closing(outcomes):
        for job, code in outcomes:
            if code:
                print(f"{job.last_lines()}\n{failure(job, code)}", file=sys.stderr)
                return False
            print(f"OK: wrote {by_name[job.name].made()}", flush=True)
    return True


def prepare(experiments: Sequence[Experiment], parallel: int) -> tuple[list[Job], dict[str, str]]:
    """The jobs of what is not complete, and the environment of their processes.

    Args:
        experiments: what is to be there in the end; no two write to the same files.
        parallel: how many will share this machine's memory.

    Raises:
        UsageError: one of the trainings cannot be carried out, or another process is at it.
    """
    _await_orphans(experiments)
    environment = dict(os.environ)
    rendering.render_nothing()  # in this process; the jobs choose for themselves
    from robotics_rl import envs, preflight
    from robotics_rl.devices import resolve_device
    from robotics_rl.learners import ENGINES

    missing = [one for one in experiments if not one.is_complete()]
    side_by_side = min(parallel, len(missing))
    kinds = {_kind(one.settings): one.settings for one in missing}
    remarks: list[str] = []
    for settings in kinds.values():
        device = resolve_device(settings.run.device)
        engine = ENGINES[settings.run.engine]
        preflight.check(settings, RunPaths.of(settings), envs.make_env, engine, side_by_side)
        remarks += preflight.remarks(settings, device)
    for remark in remarks:
        print(remark)
    return [one.job() for one in missing], environment


def _await_orphans(experiments: Sequence[Experiment]) -> None:
    """Let trainings end whose parent was killed: they save their state, which is gone on from.

    Raises:
        UsageError: one does not end, so somebody wants it.
    """
    deadline = time.monotonic() + SECONDS_TO_SAVE
    for one in experiments:
        paths, told = RunPaths.of(one.settings), False
        while artifacts.is_held(paths.resume) or artifacts.is_held(paths.logs):
            if time.monotonic() > deadline:
                raise UsageError(
                    f"another process is training {one.name}; wait for it, or use --run-tag"
                )
            if not told:
                print(f"{one.name} is still in training; waiting until it has saved", flush=True)
                told = True
            time.sleep(0.1)


def _kind(settings: TrainSettings) -> str:
    """Trainings of a kind differ in their seeds alone: what one of them cannot do, none can."""
    return repr({**settings.identity(), "seed": None})


def failure(job: Job, code: int) -> str:
    """What became of a job, in one line."""
    how = f"stopped by signal {-code}" if code < 0 else f"exit code {code}"
    return f"FAIL: {job.name} ({how}), see {job.log}"
