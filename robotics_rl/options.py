"""Options: dataclass fields that are flags, help, checks and metadata at once.

What makes a setting; the settings themselves stand in ``config``.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import field
from pathlib import PurePath
from typing import Any

from robotics_rl.errors import UsageError

MAX_SEED = 2**32 - 1  # numpy takes no larger one
MAX_EPISODES = 1_000_000
Check = Callable[[Any], str | None]  # what a value must be, or None where it is fine


def positive(value: float) -> str | None:
    """Above 0."""
    return None if value > 0 and math.isfinite(value) else "must be a number above 0"


def not_negative(value: float) -> str | None:
    """At least 0."""
    return None if value >= 0 and math.isfinite(value) else "must be a number of at least 0"


def seed_number(value: int) -> str | None:
    """A seed that numpy takes."""
    return None if 0 <= value <= MAX_SEED else f"must lie between 0 and {MAX_SEED}"


def number_of_episodes(value: int) -> str | None:
    """As many episodes as one can wait for."""
    return None if 0 < value <= MAX_EPISODES else f"must lie between 1 and {MAX_EPISODES:,}"


def rate(value: float) -> str | None:
    """From 0 to 1."""
    return None if 0 <= value <= 1 else "must lie between 0 and 1"


def layer_sizes(value: tuple[int, ...]) -> str | None:
    """At least one layer, none empty."""
    return None if value and all(size > 0 for size in value) else "needs layer sizes such as 64,64"


def file_path(value: str) -> str | None:
    """Not a folder."""
    return "must name a file, not a folder" if value.endswith("/") else None


def folder_name(value: str) -> str | None:
    """A folder inside the other one."""
    return None if is_folder_name(value) else "must name a folder inside the other one"


def is_folder_name(value: Any) -> bool:
    """Whether it names something inside a folder, and not elsewhere."""
    path = PurePath(value) if isinstance(value, str) and value else None
    return path is not None and not path.is_absolute() and ".." not in path.parts


def positive_or_minus_one(value: int) -> str | None:
    """Above 0, or -1."""
    return (
        None if value == -1 or value > 0 else "must be positive, or -1 for one per step collected"
    )


def one_of(*choices: str | int) -> Check:
    """A check that a value is among the choices."""
    listed = ", ".join(map(str, choices))
    return lambda value: None if value in choices else f"must be one of: {listed}"


def option(default: Any, help_text: str, check: Check | None = None, *aliases: str) -> Any:
    """A dataclass field that is also a flag; ``--field-name`` and the ``aliases`` set it."""
    return field(default=default, metadata={"help": help_text, "check": check, "aliases": aliases})


def revised(owner: type, name: str, default: Any) -> Any:
    """The field ``name`` of ``owner`` with another default."""
    inherited = next(row for row in dataclasses.fields(owner) if row.name == name)
    return field(default=default, metadata=inherited.metadata)


def fill(part: type, values: Mapping[str, Any]) -> Any:
    """An instance of a settings dataclass with ``values``, every one checked."""
    filled = part(**{name: values[name] for name in option_names(part) & values.keys()})
    for row in dataclasses.fields(part):
        check: Check | None = row.metadata["check"]
        value = getattr(filled, row.name)
        try:
            problem = check(value) if check and value is not None else None
        except TypeError:  # a word where a number belongs
            problem = "must be a number"
        if problem:
            raise UsageError(f"{flag_of(row.name)} is {as_typed(value) or 'empty'}; it {problem}")
    return filled


def as_typed(value: Any) -> str:
    """A value as its flag takes it."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def flag_of(name: str) -> str:
    """``batch_size`` → ``--batch-size``."""
    return "--" + name.replace("_", "-")


def as_flags(values: Mapping[str, Any], between: str = "=") -> list[str]:
    """Settings as they would be typed, with ``between`` a flag and its value."""
    flags: list[str] = []
    for name, value in values.items():
        if isinstance(value, bool):
            flags.append(switch(name, on=value))
        else:
            # Not a space for programs: a value may begin with a dash.
            flags.append(f"{flag_of(name)}{between}{as_typed(value)}")
    return flags


def switch(name: str, *, on: bool) -> str:
    """``--video`` or ``--no-video``."""
    return flag_of(name if on else f"no_{name}")


def option_rows(*parts: type) -> Iterator[dataclasses.Field[Any]]:
    """The fields of several dataclasses, each name once."""
    seen: set[str] = set()
    for part in parts:
        for row in dataclasses.fields(part):
            if row.name not in seen:
                seen.add(row.name)
                yield row


def option_names(part: type) -> set[str]:
    """The fields of a settings dataclass."""
    return {row.name for row in dataclasses.fields(part)}


def parse_seeds(text: str) -> list[int]:
    """``0,1,2``, ``0-99`` or both → seeds.

    Raises:
        UsageError: anything else.
    """
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise UsageError(f"cannot read seeds {text!r}; write them as 0,1,2 or 0-99")
        span = range(int(first), int(last if dash else first) + 1)
        if not span:
            raise UsageError(f"seeds {part.strip()!r} count down; write them as 0,1,2 or 0-99")
        if len(seeds) + len(span) > MAX_EPISODES:
            raise UsageError(f"{text!r} names too many seeds; {MAX_EPISODES:,} are the most")
        seeds += span
    if not seeds:
        raise UsageError(f"no seeds in {text!r}; write them as 0,1,2 or 0-99")
    if len(set(seeds)) < len(seeds):
        raise UsageError(f"{text!r} names a seed twice; name each of them once")
    return seeds
