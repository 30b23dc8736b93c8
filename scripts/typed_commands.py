"""Commands that pages ask their reader to type, and what became of each when it was typed."""

import itertools
import re
import shlex
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from robotics_rl.progress import clock
from robotics_rl.reporting import linked, markdown

DEV = ("bash", "docker/dev.sh")
PATH = Path("results", "rehearsal.json")
PAGE = Path("results", "commands.md")
STORY = """\
Every command of the README and the tutorials, typed in a fresh clone with nothing installed.
*Stopped* means that it worked until Ctrl-C ended it after the time beside it: a server, or a
training of minutes to days, which then said how to go on. What such trainings come to when they run
to their end, with the time they take, stands among the [results](README.md). *Refused* is the one
line that follows. Of a loop over seeds, the first was typed. What each printed last is kept in
{}; `python scripts/rehearse.py` makes it."""


class Fence(NamedTuple):
    """A block of code on a page."""

    language: str
    options: str
    code: str


class Typed(NamedTuple):
    """A command that follows `bash docker/dev.sh`."""

    environment: Mapping[str, str]  # set for it alone
    words: Sequence[str]

    def __str__(self) -> str:
        """As a reader would type it."""
        settings = [f"{name}={value}" for name, value in self.environment.items()]
        return shlex.join([*settings, *DEV, *self.words])


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """What became of a command."""

    command: str
    page: str  # the first that has it
    outcome: str  # done, stopped (it went on until it was), refused (exit code 2) or failed
    exit_code: int
    wall_seconds: float
    cpu_seconds: float  # of all its processes
    lines: list[str]  # the last that it printed
    errors: list[str]  # the last of its error stream, where its progress stands too
    created_at: str  # UTC, ISO 8601
    git: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Rehearsal:
    """Every command of the README and the tutorials, typed once."""

    schema: ClassVar[str] = "rehearsal/1"
    attempts: list[Attempt]
    device_name: str
    platform: str
    cpu_cores: int


def fences(text: str) -> Iterator[Fence]:
    """The blocks of a page whose macros were replaced."""
    form = r"^( *)(`{3,})(\w+)(.*?)\n(.*?)^\1\2 *$"
    for _, _, *found in re.findall(form, text, re.MULTILINE | re.DOTALL):
        language, options, code = found
        yield Fence(language, options, textwrap.dedent(code))


def commands(text: str) -> list[Typed]:
    """All that a page's blocks of shell have of them."""
    blocks = [fence.code for fence in fences(text) if fence.language == "bash"]
    return [command for code in blocks for command in typed(code)]


def typed(code: str) -> Iterator[Typed]:
    """A block's commands, one for every time that it has `bash docker/dev.sh`."""
    for line in code.replace("\\\n", " ").splitlines():
        words = shlex.shlex(line.replace("$seed", "0"), posix=True, punctuation_chars=True)
        words.whitespace_split = True
        found = list(words)
        for start, pair in enumerate(itertools.pairwise(found)):
            if pair == DEV:
                settings = itertools.takewhile(_is_setting, reversed(found[:start]))
                rest = itertools.takewhile(lambda word: word[0] not in ";&|<>", found[start + 2 :])
                yield Typed(dict(one.split("=", 1) for one in settings), list(rest))


def _is_setting(word: str) -> bool:
    return re.match(r"[A-Z_]+=", word) is not None


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
    command = attempt["command"].replace("|", "\\|")
    return [f"`{command}`", outcome, clock(attempt["wall_seconds"])]
