"""Long commands side by side, each in a process of its own that is stopped gently.

A training that is asked to stop saves its state, so whatever ends here can be resumed.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from robotics_rl.progress import SECONDS_BETWEEN_LINES
from robotics_rl.provenance import usable_cores
from robotics_rl.signals import stop_requests

_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1
_LINES_SHOWN = 15  # of the log of a job that failed


@dataclass(frozen=True)
class Job:
    """Commands that belong together, carried out in order; the first failure ends it."""

    name: str
    commands: Sequence[Sequence[str]]  # arguments after the Python interpreter
    log: Path  # their output

    def last_lines(self) -> str:
        """The end of the log."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-_LINES_SHOWN:])


@dataclass
class _Running:
    job: Job
    cores: set[int]  # none: all
    environment: Mapping[str, str] | None
    left: list[Sequence[str]] = field(init=False)
    process: subprocess.Popen[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.left = list(self.job.commands)
        self.job.log.parent.mkdir(parents=True, exist_ok=True)
        self.job.log.write_bytes(b"")
        self.start_next()

    def start_next(self) -> None:
        with self.job.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-u", *self.left.pop(0)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.environment,
                start_new_session=True,  # Ctrl-C reaches us alone, and we pass it on once
                preexec_fn=self._prepare if _LIBC else None,
            )

    def _prepare(self) -> None:
        """In the new process: a share of the cores, and a signal when its parent is gone."""
        assert _LIBC is not None
        if self.cores:
            os.sched_setaffinity(0, self.cores)
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)

    def code(self) -> int | None:
        """The exit code, once all commands are done or one failed."""
        code = self.process.poll()
        if code == 0 and self.left:
            self.start_next()
            return None
        return code

    def line(self) -> str:
        """What it says of its progress."""
        lines = self.job.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return f"  {self.job.name}: {lines[-1].strip() if lines else 'starting'}"


def default_parallel() -> int:
    """Trainings side by side by default: each keeps two cores busy, one steps and one learns."""
    return max(1, usable_cores() // 2)


def carry_out(
    jobs: Sequence[Job],
    parallel: int,
    *,
    environment: Mapping[str, str] | None = None,
    show_progress: bool = True,
) -> Generator[tuple[Job, int]]:
    """Run jobs, at most ``parallel`` at a time; yields each with its exit code as it ends.

    Whoever closes the iterator, or is stopped by a signal, stops the running jobs as well, and
    waits until they have saved their state.

    Args:
        jobs: what to run.
        parallel: how many at a time; each gets its share of the cores.
        environment: of the processes; ours if None.
        show_progress: tell now and then what each job says.

    Raises:
        Interrupted: SIGINT or SIGTERM.
    """
    waiting, running = list(jobs), list[_Running]()
    shares = _shares(parallel)
    last_told = time.monotonic()
    with stop_requests() as stop:
        try:
            while waiting or running:
                while waiting and len(running) < parallel:
                    running.append(_Running(waiting.pop(0), shares.pop(0), environment))
                time.sleep(0.1)
                stop.raise_if_asked()
                for one in list(running):
                    code = one.code()
                    if code is not None:
                        running.remove(one)
                        shares.append(one.cores)
                        yield one.job, code
                if show_progress and time.monotonic() - last_told >= SECONDS_BETWEEN_LINES:
                    last_told = time.monotonic()
                    _tell(len(waiting), running)
        finally:
            for one in running:
                one.process.terminate()
            for one in running:
                one.process.wait()


def _shares(parallel: int) -> list[set[int]]:
    """The cores of each of ``parallel`` jobs; where they are too few, or not known, all."""
    cores = sorted(os.sched_getaffinity(0)) if _LIBC else []
    return [set(cores[first::parallel]) for first in range(parallel)]


def _tell(n_waiting: int, running: Sequence[_Running]) -> None:
    lines = [one.line() for one in running]
    print(f"{n_waiting} waiting, {len(running)} running", *lines, sep="\n", flush=True)
