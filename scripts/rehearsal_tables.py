"""What became of the pages' commands when they were typed: the document, and its page."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from robotics_rl.progress import clock
from robotics_rl.reporting import linked, markdown

PATH = Path("results", "rehearsal.json")
PAGE = Path("results", "commands.md")
STORY = """\
Every command that stands in a block of the README or of the tutorials, typed in a clone. A command
was *stopped* by Ctrl-C, as a reader would, after the time beside it: a server, all tests, or a
training of minutes to days. What such trainings come to when they run to their end, with the time
they take, stands among the [results](README.md). A command that was *refused* said why in one line:
it lacks a GPU, or what a command before it would have made, had it not been stopped. Of a loop over
seeds, the first was typed. What each printed last is kept in {}, which
`python scripts/rehearse.py` makes."""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """What became of a command."""

    command: str
    page: str  # the first that has it
    outcome: str  # done, stopped, refused or failed
    exit_code: int
    wall_seconds: float
    lines: list[str]  # the last that it printed
    errors: list[str]  # the last of its error stream, where its progress stands too
    created_at: str  # UTC, ISO 8601
    git: dict[str, Any]
    device_name: str
    platform: str
    cpu_cores: int


@dataclass(frozen=True, kw_only=True)
class Rehearsal:
    """Every command in a block of the README or the tutorials, typed once."""

    schema: ClassVar[str] = "rehearsal/1"
    attempts: list[Attempt]  # in the order of the pages


def page(rehearsal: Mapping[str, Any]) -> str:
    """What became of every command, page by page."""
    parts = ["# Commands", STORY.format(linked("rehearsal.json", PATH))]
    for name, attempts in itertools.groupby(rehearsal["attempts"], lambda one: one["page"]):
        rows = [["command", "what became of it", "time"], *map(_row, attempts)]
        parts += [f"## `{name}`", markdown(rows)]
    return "\n\n".join(parts) + "\n"


def _row(attempt: Mapping[str, Any]) -> list[str]:
    outcome = attempt["outcome"]
    if outcome == "refused":
        outcome += f": {attempt['errors'][-1].removeprefix('error: ')}"
    row = [f"`{attempt['command']}`", outcome, clock(attempt["wall_seconds"])]
    return [cell.replace("|", "\\|") for cell in row]
