"""Pictures: what they show, what must not be seen in them, and that drawing changes nothing.

All are drawn by functions that ``there`` calls in a process of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import mujoco
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from robotics_rl.envs import make_env
from robotics_rl.envs.fetch import FetchBatch
from robotics_rl.envs.pixels import PixelBatch, View
from robotics_rl.envs.renderer import CAMERAS, Camera, Frame, FrameRenderer

There = Callable[..., Any]
Array = NDArray[Any]

PUSH, PICK = "FetchPush-v4", "FetchPickAndPlace-v4"
SIZE = 84
AS_GYMNASIUM = View(msaa=4, show_goal=True)
ACTIONS = np.random.default_rng(0).uniform(-1, 1, (55, 1, 4)).astype(np.float32)
AWAY = (0.0, 0.0, -5.0)  # metres, under the floor
FREE = [(-0.15, -0.15), (0.15, -0.15), (0.15, 0.15), (0.1, 0.1)]  # metres; no gripper before it


def theirs(env_id: str, n_steps: int, msaa: int) -> Frame:
    """What Gymnasium-Robotics draws itself; once, as it changes the simulation."""
    env = make_env(
        env_id, render_mode="rgb_array", width=SIZE, height=SIZE, disable_env_checker=True
    )
    task: Any = env.unwrapped
    assert task.model.vis.quality.offsamples == 4
    task.model.vis.quality.offsamples = msaa
    env.reset(seed=0)
    for action in ACTIONS[:n_steps, 0]:
        env.step(action)
    picture: Any = env.render()
    env.close()
    frame: Frame = np.ascontiguousarray(picture.transpose(2, 0, 1))
    return frame


def ours(env_id: str, n_steps: int, view: View, afresh: bool = False) -> Frame:
    """What we draw; ``afresh``: after poses are computed from the joints again."""
    batch = PixelBatch(env_id, 1, view)
    frames: Any = batch.reset_all([0])["pixels"]
    for actions in ACTIONS[:n_steps]:
        frames = batch.step(actions).observation["pixels"]
    if afresh:
        mujoco.mj_forward(batch.task.model, batch.data[0])
        frames = [batch._draw(0)]
    batch.close()
    frame: Frame = frames[0]
    return frame


def firsts(view: View, seeds: Sequence[int]) -> Array:
    """First frames of Push; first axis: seeds."""
    batch = PixelBatch(PUSH, len(seeds), view)
    frames = batch.reset_all(seeds)["pixels"]
    batch.close()
    return frames


def history(view: View | None) -> list[Any]:
    """Everything but pictures that an episode and a bit of two simulations leads to."""
    batch = FetchBatch(PICK, 2) if view is None else PixelBatch(PICK, 2, view)
    seen: list[Any] = [batch.reset_all([0, 1])]
    for actions in ACTIONS:
        batch.start(np.tile(actions, (2, 1)))
        step = batch.finish()
        qpos, qvel = ([getattr(d, name).copy() for d in batch.data] for name in ("qpos", "qvel"))
        seen += [step.final_observation, step.observation, step.rewards, qpos, qvel, batch.state()]
    batch.close()
    return [without_pixels(part) if isinstance(part, dict) else part for part in seen]


def without_pixels(observation: dict[str, Array]) -> dict[str, Array]:
    return {name: part for name, part in observation.items() if name != "pixels"}


def with_goals(view: View, goals: Sequence[Sequence[float]]) -> list[Frame]:
    """One simulation of Push, whose goal is all that differs."""
    batch = PixelBatch(PUSH, 1, view)
    batch.reset(0, seed=0)
    frames = []
    for goal in goals:
        batch._goals[0] = goal
        frames.append(batch._draw(0))
    batch.close()
    return frames


def blocks(view: View, offsets: Sequence[tuple[float, float]]) -> list[NDArray[np.bool_]]:
    """Pixels that change as the block goes away from places on the table of Push.

    Args:
        offsets: of the places from under the gripper, metres.
    """
    batch = PixelBatch(PUSH, 1, view)
    batch.reset(0, seed=0)
    task = batch.task_of(0)

    def picture(place: Sequence[float]) -> Frame:
        pose = [*place, 1.0, 0.0, 0.0, 0.0]
        task._utils.set_joint_qpos(task.model, task.data, "object0:joint", pose)
        mujoco.mj_forward(task.model, task.data)
        return batch._draw(0)

    x, y = task.initial_gripper_xpos[:2]
    without = picture(AWAY)
    frames = [picture((x + dx, y + dy, task.height_offset)) for dx, dy in offsets]
    batch.close()
    return [(frame != without).any(axis=0) for frame in frames]


def drawn_once_more(disturb: Callable[[FrameRenderer], None]) -> Frame:
    """A second picture of a simulation that has not moved, with something done before it."""
    batch = FetchBatch(PUSH, 1)
    batch.reset(0, seed=0)
    renderer = FrameRenderer(batch.task.model, SIZE, CAMERAS["default"])
    try:
        first = renderer.draw(batch.data[0], batch.task.goal)
        disturb(renderer)
        second = renderer.draw(batch.data[0], batch.task.goal)
        assert np.array_equal(first, second)
    finally:
        renderer.close()
        batch.close()
    return second


def lose_the_context(renderer: FrameRenderer) -> None:
    renderer._renderer._mjr_context.free()


def paint_it_white(renderer: FrameRenderer) -> None:
    renderer._renderer.render = lambda out: out.fill(255)


def use_and_close_another(renderer: FrameRenderer) -> None:
    batch = FetchBatch(PUSH, 1)
    batch.reset(0, seed=1)
    other = FrameRenderer(batch.task.model, SIZE, CAMERAS["close"])
    other.draw(batch.data[0], batch.task.goal)
    renderer._renderer._gl_context.make_current()
    other.close()
    batch.close()


def projected(points: Array, camera: Camera, task: Any) -> Array:
    """Where points (n, 3), in metres, are in the picture: (n, 2), pixels right and down."""
    azimuth, elevation = np.radians([camera.azimuth, camera.elevation])
    flat = np.array([np.cos(azimuth), np.sin(azimuth), 0.0])
    ahead = np.cos(elevation) * flat + [0.0, 0.0, np.sin(elevation)]
    right = np.array([flat[1], -flat[0], 0.0])
    offsets = points - np.array(camera.lookat)
    depths = camera.distance + offsets @ ahead
    scales = SIZE / 2 / np.tan(np.radians(task.model.vis.global_.fovy) / 2) / depths
    across, up = offsets @ right * scales, offsets @ np.cross(right, ahead) * scales
    return np.stack([SIZE / 2 + across, SIZE / 2 - up], axis=1)


def middle(mask: NDArray[np.bool_]) -> Array:
    """Pixels right and down."""
    rows, columns = np.nonzero(mask)
    return np.array([columns.mean(), rows.mean()]) + 0.5


def differ(one: Array, other: Array) -> float:
    """Mean difference of values from 0 to 255."""
    return float(np.abs(one.astype(float) - other).mean())


@pytest.fixture(scope="module")
def task() -> Any:
    return make_env(PUSH, disable_env_checker=True).unwrapped


def on_the_table(task: Any, offsets: Sequence[tuple[float, float]]) -> Array:
    """Middles of the block, or goals, by how far they are from under the gripper."""
    x, y = task.initial_gripper_xpos[:2]
    return np.array([(x + dx, y + dy, task.height_offset) for dx, dy in offsets])


@pytest.mark.parametrize(
    ("env_id", "n_steps"), [("FetchReach-v4", 20), (PUSH, 0), (PUSH, 20), ("FetchSlide-v4", 20)]
)
def test_pictures_are_those_of_gymnasium_robotics(there: There, env_id: str, n_steps: int) -> None:
    frame = there(ours, env_id, n_steps, AS_GYMNASIUM)
    assert frame.shape == (3, SIZE, SIZE)
    assert frame.dtype == np.uint8
    assert frame.std() > 40
    np.testing.assert_array_equal(frame, there(theirs, env_id, n_steps, 4))


def test_without_msaa_they_are_those_of_gymnasium_robotics_without_it(there: There) -> None:
    frame = there(ours, PUSH, 20, View(show_goal=True))
    np.testing.assert_array_equal(frame, there(theirs, PUSH, 20, 0))


def test_where_fingers_move_a_picture_is_of_the_poses_that_the_observation_has(
    there: There,
) -> None:
    """They are those before the last 2 ms; Gymnasium-Robotics computes new ones to draw."""
    picture = there(theirs, PICK, 20, 4)
    np.testing.assert_array_equal(there(ours, PICK, 20, AS_GYMNASIUM, True), picture)
    changed = (there(ours, PICK, 20, AS_GYMNASIUM) != picture).any(axis=0)
    assert 0 < changed.mean() < 0.05  # 0.02 measured, at edges of what moves


def test_each_simulation_is_drawn_as_if_it_were_alone(there: There) -> None:
    together = there(firsts, View(), [0, 1, 2])
    alone = np.concatenate([there(firsts, View(), [seed]) for seed in range(3)])
    np.testing.assert_array_equal(together, alone, strict=True)
    assert len({frame.tobytes() for frame in together}) == 3


def test_drawing_changes_nothing_in_the_simulations(there: There) -> None:
    np.testing.assert_equal(there(history, View(show_goal=True)), there(history, None))


@pytest.mark.parametrize("camera", CAMERAS)
def test_the_goal_is_seen_only_where_it_was_asked_for(there: There, task: Any, camera: str) -> None:
    goals = [*on_the_table(task, FREE[1:]), AWAY]  # where the first is, the block hides it
    *hidden, nowhere = there(with_goals, View(camera=camera), goals)
    *shown, gone = there(with_goals, View(camera=camera, show_goal=True), goals)
    assert all(np.array_equal(frame, nowhere) for frame in hidden)
    np.testing.assert_array_equal(gone, nowhere)
    middles = [middle((frame != gone).any(axis=0)) for frame in shown]
    expected = projected(np.array(goals[:-1]), CAMERAS[camera], task)
    np.testing.assert_allclose(middles, expected, atol=1)


@pytest.mark.parametrize("camera", CAMERAS)
def test_wherever_block_and_goal_may_be_on_the_table_is_in_the_picture(
    there: There, task: Any, camera: str
) -> None:
    """In it, not always to be seen: in a corner that is farther away, the gripper hides them."""
    reach = max(task.obj_range, task.target_range + task.target_offset)
    corners = [(x, y) for x in (-reach, reach) for y in (-reach, reach)]
    half = task.model.geom("object0").size
    sides = half * np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    points = (on_the_table(task, corners)[:, None] + sides).reshape(-1, 3)
    places = projected(points, CAMERAS[camera], task)
    assert places.min() > 2
    assert places.max() < SIZE - 2
    middles = [middle(mask) for mask in there(blocks, View(camera=camera), FREE)]
    expected = projected(on_the_table(task, FREE), CAMERAS[camera], task)
    np.testing.assert_allclose(middles, expected, atol=1)


@pytest.mark.parametrize(("camera", "across"), [("default", 3), ("close", 8)])
def test_the_block_is_a_few_pixels_across(there: There, camera: str, across: int) -> None:
    masks = there(blocks, View(camera=camera), FREE)
    extents = [[np.ptp(pixels) + 1 for pixels in np.nonzero(mask)] for mask in masks]
    assert np.mean(extents, axis=0) == pytest.approx([across, across], abs=1), "height, width"


@pytest.mark.parametrize("damage", [lose_the_context, paint_it_white])
def test_an_empty_picture_is_an_error(
    there: There, damage: Callable[[FrameRenderer], None]
) -> None:
    with pytest.raises(RuntimeError, match="an empty picture"):
        there(drawn_once_more, damage)


def test_closing_another_context_disturbs_nothing(there: There) -> None:
    """What is freed is that of the current context, except with EGL, which then has none."""
    there(drawn_once_more, use_and_close_another)


@pytest.mark.parametrize("camera", CAMERAS)
def test_msaa_and_drawing_large_change_pictures_a_little(there: There, camera: str) -> None:
    view, seeds = View(camera=camera), range(3)
    plain = there(firsts, view, seeds)
    smooth = there(firsts, replace(view, msaa=4), seeds)
    shrunk = there(firsts, replace(view, native=False), seeds)
    assert shrunk.shape == plain.shape == (3, 3, SIZE, SIZE)
    assert 0.5 < differ(plain, smooth) < 3.5  # 2.1 and 2.6 measured
    assert 0.5 < differ(plain, shrunk) < 4  # 2.4 and 3.1 measured
    large = there(firsts, replace(view, size=480), seeds)
    for small, picture in zip(shrunk, large, strict=True):
        image = Image.fromarray(picture.transpose(1, 2, 0))
        resized = image.resize((SIZE, SIZE), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(small, np.asarray(resized).transpose(2, 0, 1))
