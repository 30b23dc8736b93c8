"""Commands that a page asks its reader to type."""

import itertools
import re
import shlex
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

DEV = ("bash", "docker/dev.sh")


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
        settings = [f"{name}={shlex.quote(value)}" for name, value in self.environment.items()]
        return " ".join([*settings, shlex.join([*DEV, *self.words])])


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
