"""How videos are composed: captions that cover nothing, grids, and pictures that are held."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from robotics_rl import filming
from robotics_rl.filming import Caption, Grid, Shot, Take
from robotics_rl.schemas import Episode

EPISODE = Episode(
    seed=7,
    return_=-2.0,
    length=2,
    success=True,
    success_any_step=True,
    started_solved=False,
    final_distance=0.01,
    time_to_success=2,
    action_smoothness=0.0,
    action_max_abs=1.0,
)


def _shots(n: int) -> list[Shot]:
    """Of an episode that gets lighter."""
    return [
        Shot(np.full((240, 240, 3), 100 + step, dtype=np.uint8), step, 0.1, success=step > 1)
        for step in range(n)
    ]


class _Projector:
    """Shows what is no simulation."""

    def shots(self, take: Take) -> list[Shot]:
        return _shots(take.episode.length + 1)


def _take(name: str = "sac", length: int = 2, seed: int = 7) -> Take:
    return Take(name, replace(EPISODE, seed=seed, length=length), np.zeros((length, 4)))


def _film(takes: list[Take], grid: Grid, caption: Caption) -> list[Any]:
    projector: Any = _Projector()
    return list(filming.film(projector, takes, grid, caption, lambda n: None))


@pytest.mark.parametrize(("name", "figures", "lines"), [(True, True, 2), (True, False, 1)])
def test_captions_stand_above_the_picture_and_cover_nothing(
    name: bool, figures: bool, lines: int
) -> None:
    [take] = takes = [_take()]
    frames = _film(takes, Grid(1, 1), Caption(240, name, figures))
    for frame, shot in zip(frames, _shots(3), strict=False):
        assert frame.shape == (240 + 16 * lines, 240, 3)
        assert np.array_equal(frame[-240:], shot.picture)
        assert frame[: 16 * lines].max() > 200
    assert take.episode.length + 1 + filming.HOLD == len(frames)


def test_without_captions_the_frame_is_the_picture() -> None:
    frames = _film([_take()], Grid(1, 1), Caption(240, name=False, figures=False))
    assert frames[0].shape == (240, 240, 3)


def test_what_has_ended_holds_its_last_picture() -> None:
    takes = [_take(length=2), _take(length=5)]
    frames = _film(takes, Grid(1, 2), Caption(240, name=False, figures=False))
    shown = [(int(frame[0, 0, 0]) - 100, int(frame[0, -1, 0]) - 100) for frame in frames]
    assert shown[:6] == [(0, 0), (1, 1), (2, 2), (2, 3), (2, 4), (2, 5)]
    assert shown[6:] == [(2, 5)] * filming.HOLD


def test_every_picture_drawn_is_told() -> None:
    told: list[int] = []
    projector: Any = _Projector()
    caption = Caption(240, name=False, figures=False)
    list(filming.film(projector, [_take(), _take()], Grid(1, 1), caption, told.append))
    assert told == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("width", [Grid(1, columns).size for columns in (1, 3, 6)])
@pytest.mark.parametrize("distance", [0.0, 1.2345])
def test_step_distance_and_success_stand_apart_and_are_large_enough_to_read(
    width: int, distance: float
) -> None:
    caption = Caption(width, name=False, figures=True)
    shot = Shot(np.zeros((width, width, 3), dtype=np.uint8), 50, distance, success=False)
    line = caption(_take(length=50), shot).max(axis=2)
    for left, right in ((0.285, 0.305), (0.695, 0.705)):
        assert line[:, round(left * width) : round(right * width)].max() == 0
    rows = np.flatnonzero((line[:, : width // 4] > 128).any(axis=1))
    assert np.ptp(rows) + 1 >= 8


def test_success_is_told_without_colours() -> None:
    shots = {"yet": (1, False), "reached": (1, True), "failed": (2, False), "done": (2, True)}
    captions = {
        name: np.asarray(
            Image.fromarray(
                Caption(480, name=False, figures=True)(
                    _take(), Shot(np.zeros((480, 480, 3), dtype=np.uint8), step, 0.04, success)
                )[:, 350:]
            ).convert("1", dither=Image.Dither.NONE)
        )
        for name, (step, success) in shots.items()
    }
    assert np.array_equal(captions["reached"], captions["done"])
    assert not np.array_equal(captions["yet"], captions["failed"])
    assert not np.array_equal(captions["failed"], captions["done"])


def test_of_a_long_name_the_end_can_be_read() -> None:
    caption = Caption(240, name=True, figures=False)
    names = ["x" * 100 + "_seed0", "x" * 300 + "_seed0", "x" * 100 + "_seed1"]
    lines = [caption(_take(name), _shots(1)[0])[:, :169] for name in names]
    assert np.array_equal(lines[0], lines[1])
    assert not np.array_equal(lines[0], lines[2])
    assert lines[0][:, -2:].max() == 0, "it stays clear of what stands beside it"


@pytest.mark.parametrize(
    ("grid", "read"),
    [
        (Grid(1, 2), "A0 B0 A1 B1 A2 B2 A3 B3"),
        (Grid(2, 1), "A0 B0 A1 B1 A2 B2 A3 B3"),
        (Grid(2, 2), "A0 B0 A1 B1 A2 B2 A3 B3"),
        (Grid(4, 2), "A0 B0 A1 B1 A2 B2 A3 B3"),
        (Grid(2, 4), "A0 A1 A2 A3 B0 B1 B2 B3"),
    ],
)
def test_each_policy_has_a_column_or_a_row(grid: Grid, read: str) -> None:
    policies = [[_take(name, seed=seed) for seed in range(4)] for name in "AB"]
    found = [f"{take.name}{take.episode.seed}" for take in grid.arranged(policies)]
    assert found == read.split()
