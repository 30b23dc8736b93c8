"""Types every command in a block of the README or the tutorials, and keeps what became of it.

Run it in a fresh clone: commands write their results over published ones. What does not end by
itself is stopped, as by Ctrl-C. With `--only`, what became of the other commands is kept.
"""

import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from typing import IO

import tutorial_macros
import typed_commands
from rehearsal_tables import PATH, Attempt, Rehearsal
from typed_commands import Typed

from robotics_rl import artifacts, cli, options
from robotics_rl.errors import UsageError
from robotics_rl.progress import clock
from robotics_rl.provenance import git_state, machine, utc_now

LIMIT_SECONDS = 120.0
GRACE_SECONDS = 60.0  # to save a training in, or to end a server
# With what commands end that Ctrl-C has stopped: servers, pytest, trainings, and what has no say.
STOPPED = (0, 2, 128 + signal.SIGINT, -signal.SIGINT)
N_LINES = 12
# That lead from the root of a machine.
FOLDERS = re.compile(r"(?:\bfile:/*|(?<![\w.:/*-])/)(?:[\w.+-]+/)+")


def main(argv: Sequence[str]) -> int:
    """Type them one after the other; exit code 1 where one failed."""
    parser = cli.Parser(
        prog="scripts/rehearse.py",
        description=__doc__,
        epilog="example:\n  bash docker/dev.sh python scripts/rehearse.py --only '*ch00*'",
    )
    limit_help = f"how long a command may take (default: {LIMIT_SECONDS:g})"
    parser.add_argument("--only", metavar="PATTERN", default="*", help="commands that match it")
    parser.add_argument(
        "--limit", type=float, default=LIMIT_SECONDS, metavar="SECONDS", help=limit_help
    )
    flags = parser.parse_args(argv)
    if options.positive(flags.limit):
        raise UsageError("nothing can be typed in no time; give --limit a number above 0")
    # Where a shell has started this in the background, commands would never hear of Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    wanted = _wanted()
    chosen = [text for text in wanted if fnmatch(text, flags.only)]
    if not chosen:
        raise UsageError(f"no page has a command like {flags.only!r}; put * around a part of it")
    attempts = {one.command: one for one in _earlier()}
    for number, text in enumerate(chosen, 1):
        page, command = wanted[text]
        attempts[text] = attempt(command, page, flags.limit)
        _keep([replace(attempts[one], page=wanted[one][0]) for one in wanted if one in attempts])
        outcome, took = attempts[text].outcome, clock(attempts[text].wall_seconds)
        print(f"{number}/{len(chosen)} {outcome} after {took}: {text}", flush=True)
    n_failed = sum(attempts[text].outcome == "failed" for text in chosen)
    print(f"{'FAIL' if n_failed else 'OK'}: {n_failed} of {len(chosen)} failed; see {PATH}")
    return 1 if n_failed else 0


def _wanted() -> dict[str, tuple[str, Typed]]:
    """Commands as they are typed → the first page that has them, and what they are."""
    found: dict[str, tuple[str, Typed]] = {}
    for path in tutorial_macros.pages():
        for command in typed_commands.commands(tutorial_macros.expand(path.read_text("utf-8"))):
            found.setdefault(str(command), (str(path), command))
    return found


def _earlier() -> list[Attempt]:
    if not PATH.exists():
        return []
    return [Attempt(**row) for row in artifacts.read_json(PATH)["attempts"]]


def _keep(attempts: list[Attempt]) -> None:
    artifacts.write_json(PATH, Rehearsal(attempts=attempts))


def attempt(command: Typed, page: str, limit: float) -> Attempt:
    """Type a command and wait until it has ended, or stop it after so many seconds."""
    from robotics_rl.devices import device_name  # torch takes seconds

    git, created_at, started = git_state(), utc_now(), time.monotonic()
    with _file() as printed, _file() as errors:
        process = subprocess.Popen(
            [*typed_commands.DEV, *command.words],
            env={**os.environ, **command.environment},
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=errors,
            start_new_session=True,  # so that Ctrl-C can be meant for it alone
        )
        ended = _wait(process, limit)
        wall_seconds, said = time.monotonic() - started, _last_lines(errors)
        return Attempt(
            command=str(command),
            page=page,
            outcome=_outcome(process.returncode, said, ended=ended),
            exit_code=process.returncode,
            wall_seconds=round(wall_seconds, 1),
            lines=_last_lines(printed),
            errors=said,
            created_at=created_at,
            git=git,
            device_name=device_name("cpu"),
            **machine(),
        )


def _wait(process: "subprocess.Popen[bytes]", limit: float) -> bool:
    """Whether it ended by itself; whatever happens, nothing of it goes on."""
    try:
        with suppress(subprocess.TimeoutExpired):
            process.wait(limit)
            return True
        os.killpg(process.pid, signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_SECONDS)
        return False
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _outcome(code: int, errors: Sequence[str], *, ended: bool) -> str:
    if not ended:
        return "stopped" if code in STOPPED else "failed"
    if code == 2 and errors and errors[-1].startswith("error: "):
        return "refused"
    return "done" if code == 0 else "failed"


def _file() -> IO[str]:
    return tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")


def _last_lines(file: IO[str]) -> list[str]:
    file.seek(0)
    return without_machine(file.read()).splitlines()[-N_LINES:]


def without_machine(text: str) -> str:
    """Text that names files from the repository's root, and those outside by their bare names."""
    return FOLDERS.sub("", text.replace(f"{Path.cwd()}/", ""))


if __name__ == "__main__":
    cli.run(main)
