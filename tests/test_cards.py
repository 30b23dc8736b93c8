"""An experiment card says of the run that its command makes what that command says."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from typing import Any, NamedTuple

import ch02_ppo_dense_reach as ch02
import ch03_sac_dense_reach as ch03
import ch04_her_sparse_reach_push as ch04
import ch09_pixel_push as ch09
import pytest
from support import ROOT, read_strict_json

from robotics_rl import chapters, cli
from robotics_rl.chapters import Card
from robotics_rl.config import TrainSettings


class Chapter(NamedTuple):
    """A card, and what its script makes of flags."""

    card: Card
    parser: Callable[[], cli.Parser]
    settings: Callable[[Any], TrainSettings]


CHAPTERS = [
    Chapter(ch02.CARD, lambda: chapters.parser(ch02.CARD, ""), ch02.CARD.settings),
    Chapter(ch03.CARD, lambda: chapters.parser(ch03.CARD, ""), ch03.CARD.settings),
    Chapter(ch04.CARD, ch04._parser, ch04._settings),
    Chapter(ch09.CARD, ch09._parser, ch09.CARD.settings),
]
every_chapter = pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda one: one.card.chapter)


def row(card: Card, name: str) -> str:
    """What a card says."""
    found = re.search(rf"^  {name} +(.*)$", card.text(), re.MULTILINE)
    assert found is not None
    return found[1]


@every_chapter
def test_the_settings_are_those_of_the_command(chapter: Chapter) -> None:
    typed = shlex.split(row(chapter.card, "fast path").removeprefix("bash docker/dev.sh python "))
    assert typed.pop(0) == chapter.card.script
    given = vars(chapter.parser().parse_args(typed))
    del given["command"]
    made = chapter.settings(given)
    assert made.identity() == chapter.card.settings(chapter.card.fast_flags).identity()
    steps = f"{made.run.total_steps:,} in {made.run.n_envs} environments"
    assert row(chapter.card, "steps") == steps
    assert f"/{made.run_name}_{made.env_id}_seed0.zip" in row(chapter.card, "artifacts")


@every_chapter
def test_the_time_is_of_a_published_run_of_as_many_steps(
    chapter: Chapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    told, _, path = row(chapter.card, "time").partition(": checkpoints/")
    made = read_strict_json(ROOT / "checkpoints" / path)
    assert f"for {made['steps_done']:,} steps" in told
    assert row(chapter.card, "steps").startswith(f"{made['total_steps']:,} in ")
    assert made["seed"] == 0


def test_policies_that_see_are_said_to() -> None:
    assert row(ch09.CARD, "algorithm") == "SAC + HER from pictures on FetchPush-v4"
    assert row(ch09.CARD, "over seeds").endswith("ch09_pixel_push.py compare --seeds 0,1,2")
