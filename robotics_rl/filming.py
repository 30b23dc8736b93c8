"""Episodes that were played, drawn again for people and set side by side."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from robotics_rl.envs.pixels import PixelBatch, View
from robotics_rl.schemas import Episode
from robotics_rl.video import Picture

SIZE, SMALL = 480, 240  # pixels a side of the picture of an episode, at most and at least
WIDTH = 2 * SIZE  # what several side by side are made smaller for
GAP = 4  # pixels between them
SMALLEST = 9  # pixels of a letter that can be read
HOLD = 15  # frames that the end is looked at
BLACK, WHITE, GREY = (0, 0, 0), (255, 255, 255), (160, 160, 160)
# Words differ as well: colours of Okabe and Ito (2008).
YET, SUCCESS, FAILURE = (80, 80, 80), (0, 158, 115), (213, 94, 0)


@dataclass(frozen=True)
class Take:
    """An episode to film.

    Attributes:
        name: of who played.
        episode: what came of it.
        actions: (length, n_actions), as they were played.
    """

    name: str
    episode: Episode
    actions: NDArray[Any]


@dataclass(frozen=True)
class Shot:
    """A moment of an episode: steps done, metres from the goal, and whether that is near enough."""

    picture: Picture  # (size, size, 3)
    step: int
    distance: float
    success: bool


@dataclass(frozen=True)
class Grid:
    """How many episodes are seen at once."""

    rows: int
    columns: int

    @property
    def n_cells(self) -> int:
        """Episodes that are seen at once."""
        return self.rows * self.columns

    @property
    def size(self) -> int:
        """Pixels a side of each picture, a multiple of 16."""
        return max(SMALL, min(SIZE, WIDTH // self.columns // 16 * 16))

    def arranged(self, policies: Sequence[Sequence[Take]]) -> list[Take]:
        """The episodes of every policy, as they are read: screen by screen, row by row.

        A policy has a column to itself, or a row. So episodes that started alike are neighbours.

        Args:
            policies: their episodes, from the same starts, as many as fill the screens.
        """
        n_each = self.n_cells // len(policies)
        takes: list[Take] = []
        for first in range(0, len(policies[0]), n_each):
            screen = [episodes[first : first + n_each] for episodes in policies]
            if self.columns == len(policies):
                screen = [list(row) for row in zip(*screen, strict=True)]
            takes += [take for row in screen for take in row]
        return takes


class Projector:
    """Plays episodes again, and draws every moment of them from where people see best.

    It has an OpenGL context, which belongs to the thread that makes it.

    Args:
        env_id: a Fetch task.
        size: pixels a side.
    """

    def __init__(self, env_id: str, size: int) -> None:
        view = View(size, 1, task_of(env_id), msaa=4, show_goal=True, halo=True)
        self._batch = PixelBatch(env_id, 1, view)
        model = self._batch.task.model
        # What drags the gripper along has crosshairs, which mean nothing to people.
        model.geom_rgba[model.body_mocapid[model.geom_bodyid] != -1, 3] = 0.0

    def shots(self, take: Take) -> Iterator[Shot]:
        """Every moment of an episode, the start included.

        Raises:
            RuntimeError: it went otherwise than when it was played.
        """
        episode = take.episode
        start = self._batch.reset_all([episode.seed])
        last = _shot(start, 0, bool(episode.started_solved))
        yield last
        for n_done, action in enumerate(take.actions, 1):
            step = self._batch.step(action[np.newaxis])
            last = _shot(step.final_observation, n_done, bool(step.successes[0]))
            yield last
        if (last.distance, last.success) != (episode.final_distance, episode.success):
            raise RuntimeError(
                f"the episode from seed {episode.seed} went otherwise than when it was played"
            )

    def close(self) -> None:
        """Free the OpenGL context."""
        self._batch.close()


def task_of(env_id: str) -> str:
    """``FetchPushDense-v4`` → ``Push``: tasks with another reward look the same."""
    found = re.fullmatch(r"Fetch(\w+?)(Dense)?-v4", env_id)
    assert found is not None
    return found[1]


def _shot(observation: dict[str, Any], step: int, success: bool) -> Shot:
    """A moment from the observation of a batch of one."""
    picture = observation["pixels"][0].transpose(1, 2, 0)
    [gap] = observation["achieved_goal"] - observation["desired_goal"]
    return Shot(picture, step, float(np.linalg.norm(gap)), success)


def film(
    projector: Projector,
    takes: Sequence[Take],
    grid: Grid,
    caption: Callable[[Take, Shot], Picture],
    tell: Callable[[int], None],
) -> Iterator[Picture]:
    """The frames of a video, screen by screen; what has ended holds its last picture.

    Args:
        projector: draws at the grid's size.
        takes: episodes as ``Grid.arranged`` has them.
        grid: how many of them are seen at once.
        caption: what stands above each picture.
        tell: called with the number of pictures drawn so far.
    """
    n_drawn = 0
    for first in range(0, len(takes), grid.n_cells):
        cells: list[list[Picture]] = []
        for take in takes[first : first + grid.n_cells]:
            cells.append([])
            for shot in projector.shots(take):
                cells[-1].append(np.concatenate([caption(take, shot), shot.picture]))
                n_drawn += 1
                tell(n_drawn)
        for moment in range(max(map(len, cells)) + HOLD):
            yield _tiled([cell[min(moment, len(cell) - 1)] for cell in cells], grid.columns)


def _tiled(pictures: Sequence[Picture], columns: int) -> Picture:
    """Pictures of one size side by side, row by row, with gaps between them."""
    height, width, _ = pictures[0].shape
    rows = -(-len(pictures) // columns)
    frame = np.zeros(
        (rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3), dtype=np.uint8
    )
    for index, picture in enumerate(pictures):
        top, left = index // columns * (height + GAP), index % columns * (width + GAP)
        frame[top : top + height, left : left + width] = picture
    return frame


@dataclass(frozen=True)
class Caption:
    """Draws what stands above the picture of an episode, where it covers nothing.

    Attributes:
        width: of the picture.
        name: whether it is said who plays, and from which start.
        figures: whether step, distance and success are told.
    """

    width: int
    name: bool
    figures: bool

    def __call__(self, take: Take, shot: Shot) -> Picture:
        """The lines, (height, width, 3); of no height where nothing is to be told."""
        lines = [self._name(take)] if self.name else []
        lines += [self._figures(take, shot)] if self.figures else []
        return np.concatenate([np.zeros((0, self.width, 3), dtype=np.uint8), *lines])

    @property
    def line_height(self) -> int:
        """Pixels, even, as videos need it."""
        return max(16, self.width // 30 * 2)

    def _name(self, take: Take) -> Picture:
        line = _Line(self.width, self.line_height)
        line.write(take.name, 0.01, 0.69, WHITE)
        line.write(f"reset seed {take.episode.seed}", 0.71, 0.99, GREY, to_the_right=True)
        return line.drawn

    def _figures(self, take: Take, shot: Shot) -> Picture:
        line = _Line(self.width, self.line_height)
        is_over = shot.step == take.episode.length
        line.write(f"step {shot.step}/{take.episode.length}", 0.01, 0.28, WHITE)
        line.write(f"distance {shot.distance * 1000:.0f} mm", 0.31, 0.69, WHITE)
        words, colour = ("failure", FAILURE) if is_over else ("not yet", YET)
        if shot.success:
            words, colour = "success", SUCCESS
        line.fill(0.71, 1.0, colour)
        line.write(words, 0.73, 0.98, WHITE)
        return line.drawn


class _Line:
    """A line of text in the making; places are fractions of the width."""

    def __init__(self, width: int, height: int) -> None:
        self._image = Image.new("RGB", (width, height), BLACK)
        self._draw = ImageDraw.Draw(self._image)

    @property
    def drawn(self) -> Picture:
        return np.asarray(self._image)

    def fill(self, left: float, right: float, colour: tuple[int, int, int]) -> None:
        width, height = self._image.size
        self._draw.rectangle((left * width, 0, right * width, height), fill=colour)

    def write(
        self,
        text: str,
        left: float,
        right: float,
        colour: tuple[int, int, int],
        *,
        to_the_right: bool = False,
    ) -> None:
        """Write as large as fits; of what is too long to be read then, the end."""
        width, height = self._image.size
        size = height * 2 // 3
        while _font(size).getlength(text) > (right - left) * width:
            size, text = (size - 1, text) if size > SMALLEST else (size, "…" + text[2:])
        place, anchor = (right, "rm") if to_the_right else (left, "lm")
        self._draw.text(
            (place * width, height / 2), text, fill=colour, font=_font(size), anchor=anchor
        )


@cache
def _font(size: int) -> Any:
    return ImageFont.load_default(size)  # Pillow's own, so that every machine has it
