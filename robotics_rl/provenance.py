"""Where a result comes from: when, by which command, from which commit, on which machine."""

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


def utc_now() -> str:
    """ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def file_stamp(iso: Any = None) -> str:
    """A time as it can stand in file names, such as ``20260102T030405Z``; now if it is none."""
    try:
        moment = datetime.fromisoformat(iso)
    except (TypeError, ValueError):
        moment = datetime.now(UTC)
    return moment.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")


def command_line() -> list[str]:
    """The command that runs, as it can be typed in the repository.

    Of an absolute path only the name is kept: the folders of one machine say nothing on another.
    """
    return ["python", os.path.relpath(sys.argv[0]), *map(_portable, sys.argv[1:])]


def _portable(part: str) -> str:
    flag, equals, value = part.rpartition("=")
    return flag + equals + Path(value).name if Path(value).is_absolute() else part


def machine() -> dict[str, Any]:
    """Operating system and number of processor cores that were there to use."""
    return {"platform": platform.platform(), "cpu_cores": usable_cores()}


def usable_cores() -> int:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


# What commands make: when it differs from the commit, the code that runs does not.
_MADE = ("results", "checkpoints", "runs", "figures", "videos", "*.md")


def git_state() -> dict[str, Any]:
    """Commit and whether the code differs from it; nulls outside a checkout."""

    def git(*arguments: str) -> str | None:
        root = Path(__file__).parent.parent
        try:
            done = subprocess.run(
                ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True
            )
        except (OSError, subprocess.CalledProcessError):
            return None
        return done.stdout.strip()

    code = [".", *(f":(exclude){made}" for made in _MADE)]
    changes = git("status", "--porcelain", "--untracked-files=no", "--", *code)
    return {
        "commit": git("rev-parse", "HEAD"),
        "dirty": None if changes is None else bool(changes),
    }
