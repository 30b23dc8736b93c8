"""Figures of the simulated scenes: a task after reset, and where in the picture everything is."""

from collections.abc import Mapping
from contextlib import closing
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from robotics_rl import plotting
from robotics_rl.envs import make_env
from robotics_rl.envs.renderer import FOR_PEOPLE, Camera, Frame, FrameRenderer
from robotics_rl.filming import task_of

Places = Mapping[str, NDArray[np.float64]]  # name → position (3,), metres
SIZE = 1080  # pixels a side; more than are printed, so that edges are smooth
NBSP = "\N{NO-BREAK SPACE}"
OUTLINE = [withStroke(linewidth=3, foreground="white")]  # or a line on something dark is lost


def env_setup(env_id: str, seed: int, path: Path) -> None:
    """The scene right after a reset; gripper, object and goal named."""
    with closing(make_env(env_id, width=SIZE, height=SIZE)) as env:
        observation, _ = env.reset(seed=seed)
        task: Any = env.unwrapped
        places = places_of(observation, has_object=task.has_object)
        camera = FOR_PEOPLE[task_of(env_id)]
        frame = _draw(task, camera, places["goal"])
        fovy = float(task.model.vis.global_.fovy)
        threshold = float(task.distance_threshold)
    pixels = camera.project(np.array(list(places.values())), SIZE, fovy)
    away = float(np.linalg.norm(observation["achieved_goal"] - places["goal"]))
    what = "object" if "object" in places else "gripper"
    caption = (
        f"{env_id} after a reset with seed {seed}. The {what} is {100 * away:.1f}{NBSP}cm from the "
        f"goal; a step succeeds within {100 * threshold:g}{NBSP}cm (the ball). Lines "
        "end where the positions (x, y, z) of the simulation are in the picture."
    )
    with plotting.figure(path, 6.0, 4.5, caption) as figure:
        axes = figure.add_subplot(anchor="W")
        axes.imshow(
            frame.transpose(1, 2, 0), extent=(0, SIZE, SIZE, 0), interpolation="antialiased"
        )
        axes.set_axis_off()
        label(axes, places, pixels)


def places_of(observation: Mapping[str, NDArray[np.float64]], *, has_object: bool) -> Places:
    """What is named: observations of every Fetch task begin with the gripper's position."""
    places = {"gripper": observation["observation"][:3]}
    if has_object:
        places["object"] = observation["achieved_goal"]
    return {**places, "goal": observation["desired_goal"]}


def label(axes: Axes, places: Places, pixels: NDArray[np.float64]) -> None:
    """Names in a column beside the picture, each with a line to its place.

    Args:
        axes: that show a picture of ``SIZE`` pixels.
        places: what to name.
        pixels: (n, 2), where they are in the picture.
    """
    for (name, (x, y, z)), pixel, end in zip(
        places.items(), pixels, _ends_of_lines(pixels), strict=True
    ):
        axes.annotate(
            f"{name}\n({x:.2f}, {y:.2f}, {z:.2f}) m",
            xy=tuple(pixel),
            xytext=tuple(end),
            va="center",
            fontsize=9,
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "relpos": (0.0, 0.5),
                "shrinkA": 3,
                "shrinkB": 0,
                "path_effects": OUTLINE,
            },
        )
        axes.plot(*pixel, "o", color="white", markeredgecolor="black", markersize=3.5)


def _ends_of_lines(pixels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where names stand, (n, 2): evenly in a column, in the order that makes lines shortest.

    Of two lines that cross, the ends can be exchanged, and both together are shorter.
    """
    n = len(pixels)
    column = np.stack([np.full(n, 1.05), (np.arange(n) + 1) / (n + 1)], axis=1) * SIZE
    orders = (column[list(order)] for order in permutations(range(n)))
    return min(orders, key=lambda ends: float(np.linalg.norm(ends - pixels, axis=1).sum()))


def _draw(task: Any, camera: Camera, goal: NDArray[np.float64]) -> Frame:
    renderer = FrameRenderer(
        task.model, SIZE, camera, msaa=4, show_goal=True, halo=task.distance_threshold
    )
    frame = renderer.draw(task.data, goal)
    renderer.close()
    return frame
