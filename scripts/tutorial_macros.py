"""What a tutorial page may write between double braces: numbers come from files, never from a hand.

A page that asks for what is not there raises UsageError, and the site is not built.
"""

import html
import math
import os
import re
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ch00_proof_of_life
import ch01_env_anatomy
import ch02_ppo_dense_reach
import ch03_sac_dense_reach
import ch04_her_sparse_reach_push
import ch09_pixel_push
import jinja2
import report
from dense_reach_tables import nearest_row
from keep_output import kept_path

from robotics_rl.artifacts import read_json
from robotics_rl.curves import read_curves
from robotics_rl.errors import UsageError
from robotics_rl.progress import clock

FOLDER = Path("tutorials")
DEV = "bash docker/dev.sh"
CARDS: dict[str, Callable[[], str]] = {
    "ch00": lambda: ch00_proof_of_life.card(ch00_proof_of_life.Plan.of({}).training),
    "ch01": ch01_env_anatomy.card,
    "ch02": ch02_ppo_dense_reach.CARD.text,
    "ch03": ch03_sac_dense_reach.CARD.text,
    "ch04": ch04_her_sparse_reach_push.CARD.text,
    "ch09": ch09_pixel_push.CARD.text,
}
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)\s#]+)")  # the target of a link to a file


def pages() -> list[Path]:
    """What a reader reads: the README, and the tutorials in their order."""
    return [Path("README.md"), FOLDER / "index.md", *sorted(FOLDER.glob("ch*.md"))]


def expand(text: str) -> str:
    """A page with its macros replaced.

    Raises:
        UsageError: a macro is unknown, used wrongly, or asks for what is not there.
    """
    # {# stands before names in attribute lists, so comments begin with something else.
    environment = jinja2.Environment(  # noqa: S701 - makes Markdown, of our own pages
        undefined=jinja2.StrictUndefined, comment_start_string="{##", keep_trailing_newline=True
    )
    environment.globals |= MACROS
    try:
        return environment.from_string(text).render()
    except (jinja2.TemplateError, TypeError, ValueError) as error:
        raise UsageError(f"{error}; the macros stand in scripts/tutorial_macros.py") from error


def ours(path: str, key: str, form: str = "") -> str:
    """A value of a JSON document: ``ours("results/x.json", "aggregate.success_rate", ".2f")``.

    Args:
        path: from the repository's root.
        key: names and, in lists, positions, joined by dots.
        form: as in an f-string, or ``clock`` for seconds as minutes.
    """
    value: Any = read_json(Path(path))
    for name in key.split("."):
        try:
            value = value[int(name)] if isinstance(value, list) else value[name]
        except (KeyError, IndexError, TypeError, ValueError):
            raise UsageError(f"{path} has no {key}; look into it, or make it again") from None
    return _measured(value, form, f"{path}: {key}")


def logged(path: str, column: str, step: int, form: str = "") -> str:
    """What a ``curves.csv`` holds near an environment step."""
    if not Path(path).exists():
        raise UsageError(f"{path} does not exist; make it first, or check the path")
    row = nearest_row(read_curves(Path(path)), step)
    if row is None or row.get(column) is None:
        raise UsageError(f"{path} has no {column} near step {step:,}; name another")
    return _measured(row[column], form, f"{path}: {column} at step {step:,}")


def _measured(value: Any, form: str, source: str) -> str:
    if isinstance(value, dict | list) or value is None:
        raise UsageError(f"{source} is no single value; name one in it")
    shown = clock(value) if form == "clock" else format(value, form)
    return f'<span class="ours" title="{html.escape(source)}">{shown}</span>'


def book(quoted: str) -> str:
    """A figure that the book gives, marked as such."""
    return f'<span class="book" title="the book\'s figure">{html.escape(quoted)}</span>'


def table(page: str, heading: str | None = None) -> str:
    """What report.py makes: all of a page's made part, or what stands under one of its headings.

    Args:
        page: ``results`` or ``benchmarks``.
        heading: how it begins, without ``#`` and the link that it may be.
    """
    made = {"results": report.results_page, "benchmarks": report.benchmark_sections}
    if page not in made:
        raise UsageError(f"there is no table {page!r}; name one of {', '.join(made)}")
    text = made[page]()
    if heading is not None:
        text = _below(heading, text, page)
    return _from_tutorials(text, Path(page))


def _below(heading: str, text: str, page: str) -> str:
    """The lines between a heading and the next one of any level."""
    parts = re.split(r"^(#+ .*)$", text, flags=re.MULTILINE)[1:]
    found = [
        body.strip()
        for title, body in zip(parts[::2], parts[1::2], strict=True)
        if title.lstrip("# [").startswith(heading)
    ]
    if len(found) != 1:
        raise UsageError(f"{len(found)} headings of {page} begin with {heading!r}; name one")
    return found[0]


def headline(chapter: str | None = None) -> str:
    """The README's table, or its rows about one chapter, such as ``ch02``."""
    header, line, *rows = report.headline_table().splitlines()
    if chapter is not None:
        rows = [row for row in rows if f"scripts/{chapter}_" in row]
    if not rows:
        raise UsageError(f"the README's table has no row about {chapter}; run its chapter first")
    return _from_tutorials("\n".join([header, line, *rows]), Path())


def _from_tutorials(text: str, folder: Path) -> str:
    """Links as they have to read in a page of tutorials/ when the text was made for ``folder``."""
    return LINK.sub(lambda link: os.path.relpath(folder / link[1], FOLDER), text)


def card(chapter: str) -> str:
    """A chapter's experiment card, as its script prints it."""
    return _fence("text", _card(chapter))


def command(chapter: str, row: str = "fast path") -> str:
    """A command of a chapter's card."""
    found = re.search(rf"^  {re.escape(row)} +({DEV} .*)$", _card(chapter), re.MULTILINE)
    if found is None:
        raise UsageError(f"the card of {chapter} has no command {row!r}; print it to see them")
    return _fence("bash", found[1])


def _card(chapter: str) -> str:
    if chapter not in CARDS:
        raise UsageError(f"there is no card of {chapter!r}; name one of {', '.join(CARDS)}")
    return CARDS[chapter]()


def shown(name: str, last: int | None = None) -> str:
    """A command that keep_output.py ran, the time it took, and what it printed.

    Args:
        name: what its output is kept as.
        last: show only so many lines at the end.
    """
    document = read_json(kept_path(name))
    lines = document["lines"]
    if last is not None and last < len(lines):
        lines = ["…", *lines[-last:]]
    typed = _fence("bash", f"{DEV} {shlex.join(document['command'])}", took(document))
    return f"{typed}\n\n{_fence('text', chr(10).join(lines))}"


def took(document: Mapping[str, Any]) -> str:
    """How much processor time a kept command took: the clock of a busy machine says less."""
    seconds = document["cpu_seconds"]
    time = f"{max(math.ceil(seconds), 1)} s" if seconds < 60 else f"{clock(seconds)} min:s"
    return f"takes one core {time}"


def _fence(language: str, text: str, title: str = "") -> str:
    return f"```{language}" + (f' title="{title}"' if title else "") + f"\n{text}\n```"


MACROS: dict[str, Callable[..., str]] = {
    macro.__name__: macro for macro in (ours, logged, book, table, headline, card, command, shown)
}
