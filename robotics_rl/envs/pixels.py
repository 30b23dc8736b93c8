"""Fetch simulations seen through a camera: a picture with every observation."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from robotics_rl.envs.fetch import FetchBatch, Step
from robotics_rl.envs.renderer import CAMERAS, FOR_PEOPLE, Frame, FrameRenderer


@dataclass(frozen=True)
class View:
    """How simulations are looked at.

    Attributes:
        size: pixels a side.
        frame_stack: newest frames side by side, so that motion shows; the first one of an episode
            stands for those before it.
        camera: name in ``CAMERAS``, or task in ``FOR_PEOPLE``.
        msaa: samples per pixel, 0 or 4.
        show_goal: whether the goal's marker is drawn.
        halo: whether it is also shown how near is near enough, through all that hides the goal.
        native: whether pictures are drawn at this size, or large and made smaller.
    """

    size: int = 84
    frame_stack: int = 4
    camera: str = "default"
    msaa: int = 0
    show_goal: bool = False
    halo: bool = False
    native: bool = True


class PixelBatch(FetchBatch):
    """``FetchBatch`` with a picture in each observation: ``pixels``, (n_envs, 3, size, size) uint8.

    All are drawn in one OpenGL context, which belongs to the thread that makes the batch.

    Args:
        env_id: one of the Fetch ids.
        n_envs: number of simulations.
        view: how they are looked at; stacking is left to whoever takes the frames.
    """

    def __init__(self, env_id: str, n_envs: int, view: View) -> None:
        super().__init__(env_id, n_envs)
        self._renderer = FrameRenderer(
            self.task.model,
            view.size,
            (CAMERAS | FOR_PEOPLE)[view.camera],
            msaa=view.msaa,
            show_goal=view.show_goal,
            halo=self.task.distance_threshold if view.halo else 0.0,
            native=view.native,
        )

    def reset(self, index: int, seed: int | None = None) -> dict[str, Any]:
        """Begin an episode of one simulation."""
        return {**super().reset(index, seed), "pixels": self._draw(index)}

    def observe(self) -> dict[str, Any]:
        """What every simulation shows after a step."""
        pixels = np.stack([self._draw(index) for index in range(self.n_envs)])
        return {**super().observe(), "pixels": pixels}

    def step(self, actions: Any) -> Step:
        """Step every simulation; actions: (n_envs, 4)."""
        self.start(actions)
        return self.finish()

    def close(self) -> None:
        """End the threads, and free the OpenGL context."""
        self._renderer.close()
        super().close()

    def _draw(self, index: int) -> Frame:
        return self._renderer.draw(self._simulations[index].data, self._goals[index])
