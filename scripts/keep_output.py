"""Runs a command of the tutorials and keeps what it prints, for the page to show.

Writes `results/tutorials/NAME_output.json`. What goes to the error stream, such as progress, is not
kept.
"""

import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from robotics_rl import artifacts, cli
from robotics_rl.errors import UsageError
from robotics_rl.provenance import git_state, machine, utc_now
from robotics_rl.versions import gather_versions

QUICK_SECONDS = 20


@dataclass(frozen=True, kw_only=True)
class KeptOutput:
    """What a command of the tutorials printed."""

    schema: ClassVar[str] = "kept-output/1"
    command: list[str]  # after `bash docker/dev.sh`
    quick: bool  # the tests run it again
    exit_code: int
    wall_seconds: float
    cpu_seconds: float  # of all processes of the command; a busy machine does not change it much
    lines: list[str]
    created_at: str  # UTC, ISO 8601
    git: dict[str, Any]
    versions: dict[str, str | None]
    device_name: str
    platform: str
    cpu_cores: int


def main(argv: Sequence[str]) -> int:
    """Run the command, write the document; exit code 1 where the command's was another one."""
    parser = cli.Parser(
        prog="scripts/keep_output.py",
        usage="%(prog)s [flags] NAME -- COMMAND",
        description=__doc__,
        epilog="example:\n  bash docker/dev.sh python scripts/keep_output.py --quick ch02_verify "
        "-- python scripts/labs/ppo_from_scratch.py --verify",
    )
    parser.add_argument("name", metavar="NAME", help="what to keep it as")
    parser.add_argument("command", metavar="COMMAND", nargs="+", help="after bash docker/dev.sh")
    quick = f"let the tests run it; it may take {QUICK_SECONDS} s"
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--exit-code", type=int, default=0, metavar="N", help="it must end with")
    flags = parser.parse_args(argv)
    path = kept_path(flags.name)
    artifacts.require_file(path)
    started, cpu_before = time.monotonic(), _cpu_seconds()
    done = run(flags.command)
    wall_seconds, cpu_seconds = time.monotonic() - started, _cpu_seconds() - cpu_before
    if done.returncode != flags.exit_code:
        print(f"the command ended with exit code {done.returncode}, so nothing was written")
        return 1
    if flags.quick and cpu_seconds > QUICK_SECONDS:
        raise UsageError(f"it took {cpu_seconds:.0f} s, which is not quick; leave --quick out")
    from robotics_rl.devices import device_name  # torch takes seconds

    here = f"{Path.cwd()}/"  # a reader's is another
    output = KeptOutput(
        command=flags.command,
        quick=flags.quick,
        exit_code=done.returncode,
        wall_seconds=round(wall_seconds, 1),
        cpu_seconds=round(cpu_seconds, 1),
        lines=done.stdout.replace(here, "").splitlines(),
        created_at=utc_now(),
        git=git_state(),
        versions=gather_versions(),
        device_name=device_name("cpu"),
        **machine(),
    )
    artifacts.write_json(path, output)
    print(f"OK: wrote {path} ({wall_seconds:.1f} s, {cpu_seconds:.1f} s of processor time)")
    return 0


def kept_path(name: str) -> Path:
    """Where an output is kept."""
    return Path("results", "tutorials", f"{name}_output.json")


def run(command: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    """Run a command that follows `bash docker/dev.sh`, and catch what it prints."""
    program = [sys.executable if command[0] == "python" else command[0], *command[1:]]
    try:
        return subprocess.run(program, stdout=subprocess.PIPE, text=True, check=False)
    except OSError as error:
        raise UsageError(f"cannot run {command[0]} ({error.strerror}); check its name") from None


def _cpu_seconds() -> float:
    """Of all processes that this one has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    cli.run(main)
