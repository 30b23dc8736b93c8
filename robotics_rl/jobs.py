"""Long commands side by side, each in a process of its own that is stopped gently.

A training that is asked to stop saves its state, so whatever ends here can be resumed.
"""

import ctypes
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from robotics_rl.devices import usable_cores
from robotics_rl.errors import Interrupted
from robotics_rl.progress import SECONDS_BETWEEN_LINES

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
    left: list[Sequence[str]]
    process: subprocess.Popen[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.job.log.parent.mkdir(parents=True, exist_ok=True)
        self.job.log.write_bytes(b"")
        self.start_next()

    def start_next(self) -> None:
        with self.job.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *self.left.pop(0)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches us alone, and we pass it on once
                preexec_fn=_stop_with_parent if sys.platform == "linux" else None,
            )

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


def carry_out(jobs: Sequence[Job], parallel: int) -> Iterator[tuple[Job, int]]:
    """Run jobs, at most ``parallel`` at a time; yields each with its exit code as it ends.

    Whoever stops iterating, or is stopped by a signal, stops the running jobs as well, and waits
    until they have saved their state.

    Raises:
        Interrupted: SIGINT or SIGTERM.
    """
    waiting, running = list(jobs), list[_Running]()
    last_told = time.monotonic()
    with _signals_raise():
        try:
            while waiting or running:
                while waiting and len(running) < parallel:
                    job = waiting.pop(0)
                    running.append(_Running(job, list(job.commands)))
                time.sleep(0.1)
                for one in list(running):
                    code = one.code()
                    if code is not None:
                        running.remove(one)
                        yield one.job, code
                if time.monotonic() - last_told >= SECONDS_BETWEEN_LINES:
                    last_told = time.monotonic()
                    _tell(len(waiting), running)
        finally:
            for one in running:
                one.process.terminate()
            for one in running:
                one.process.wait()


def _tell(n_waiting: int, running: Sequence[_Running]) -> None:
    lines = [one.line() for one in running]
    print(f"{n_waiting} waiting, {len(running)} running", *lines, sep="\n", flush=True)


@contextmanager
def _signals_raise() -> Iterator[None]:
    """Let SIGINT and SIGTERM end the work in an orderly way."""

    def stop(signum: int, _: Any) -> None:
        raise Interrupted("stopped; the same command goes on where this one was", signum)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop_with_parent() -> None:
    """Ask the system to stop this process when its parent is gone, however that died."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
