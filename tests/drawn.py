"""Pictures that tests of videos and figures look at; functions for a process that can draw."""

from __future__ import annotations

from contextlib import closing
from itertools import product
from typing import Any

import numpy as np

from robotics_rl.envs.fetch import FetchBatch
from robotics_rl.envs.pixels import PixelBatch, View
from robotics_rl.envs.renderer import CAMERAS, FOR_PEOPLE, Camera, FrameRenderer
from robotics_rl.filming import Projector, Take
from robotics_rl.schemas import Episode

SEED, N_STEPS, SMALL, LARGE = 3, 4, 160, 480
ACTIONS = np.linspace(-1.0, 1.0, 4 * N_STEPS, dtype=np.float32).reshape(N_STEPS, 4)


def side_by_side() -> dict[str, Any]:
    """A policy's pictures and those for people: together, one after the other's end, and alone."""
    policys = PixelBatch("FetchPush-v4", 1, View(camera="close"))
    seen = {"policy_alone": _played(policys)}
    peoples = Projector("FetchPush-v4", SMALL)
    policys.reset_all([SEED])
    shots = peoples.shots(_take(_played_distance(policys)))
    beside: list[Any] = [[policys.reset(0, SEED)["pixels"]], [next(shots).picture]]
    for action, shot in zip(ACTIONS, shots, strict=True):
        beside[0].append(policys.step(action[None]).final_observation["pixels"][0])
        beside[1].append(shot.picture)
    seen["policy_beside"], seen["people_beside"] = map(np.stack, beside)
    peoples.close()
    seen["policy_after"] = _played(policys)
    seen["distance"] = np.array(_played_distance(policys))
    policys.close()
    with closing(Projector("FetchPush-v4", SMALL)) as again:
        alone = [shot.picture for shot in again.shots(_take(float(seen["distance"])))]
        seen["people_alone"] = np.stack(alone)
        seen["refused"] = np.array(_is_refused(again, float(seen["distance"]) + 1e-12))
    plain = View(SMALL, 1, "Push", msaa=4, show_goal=True, halo=True)
    with closing(PixelBatch("FetchPush-v4", 1, plain)) as crossed:
        seen["with_crosshairs"] = _played(crossed).transpose(0, 2, 3, 1)
    return seen


def _played(batch: Any) -> Any:
    first = batch.reset_all([SEED])["pixels"][0]
    rest = [batch.step(action[None]).final_observation["pixels"][0] for action in ACTIONS]
    return np.stack([first, *rest])


def _played_distance(batch: Any) -> float:
    batch.reset_all([SEED])
    for action in ACTIONS:
        seen = batch.step(action[None]).final_observation
    return float(np.linalg.norm(seen["achieved_goal"] - seen["desired_goal"]))


def _take(distance: float) -> Take:
    episode = Episode(
        seed=SEED,
        return_=0.0,
        length=N_STEPS,
        success=False,
        success_any_step=False,
        started_solved=False,
        final_distance=distance,
        time_to_success=None,
        action_smoothness=0.0,
        action_max_abs=1.0,
    )
    return Take("pusher", episode, ACTIONS)


def _is_refused(projector: Any, distance: float) -> bool:
    try:
        list(projector.shots(_take(distance)))
    except RuntimeError:
        return True
    return False


def goals() -> dict[str, Any]:
    """By task: pixels that the goal takes, in every corner of where goals and objects may be."""
    shown = {}
    for task in FOR_PEOPLE:
        with closing(FetchBatch(f"Fetch{task}-v4", 1)) as batch:
            batch.reset_all([SEED])
            model, [data] = batch.task.model, batch.data
            bare = FrameRenderer(model, SMALL, FOR_PEOPLE[task], msaa=4)
            full = FrameRenderer(model, SMALL, FOR_PEOPLE[task], msaa=4, show_goal=True, halo=0.05)
            shown[task] = np.array(
                [
                    (bare.draw(data, place) != full.draw(data, place)).any(axis=0).sum()
                    for place in _corners(batch.task)
                ]
            )
            bare.close()
            full.close()
    return shown


def projections() -> Any:
    """By camera and goal, (9, 4): the middle of the marker that is drawn, then where it should be.

    Pixels.
    """
    found = []
    with closing(FetchBatch("FetchPush-v4", 1)) as batch:
        batch.reset_all([SEED])
        model, [data] = batch.task.model, batch.data
        model.geom_matid[:], model.geom_rgba[:, 3] = -1, 0.0  # nothing hides the goal, and of
        model.site_rgba[np.arange(model.nsite) != model.site("target0").id, 3] = 0.0  # red no more
        for camera in (*CAMERAS.values(), Camera(1.3, 200.0, -60.0, (1.2, 0.8, 0.5))):
            renderer = FrameRenderer(model, LARGE, camera, show_goal=True)
            for goal in np.array([[1.45, 0.9, 0.46], [1.5, 0.6, 0.5], [1.2, 0.95, 0.44]]):
                red, green, blue = renderer.draw(data, goal).astype(int)
                rows, columns = np.nonzero((red > 90) & (green < 60) & (blue < 60))
                [aim] = camera.project(goal[None], LARGE, float(model.vis.global_.fovy))
                found.append([columns.mean() + 0.5, rows.mean() + 0.5, *aim])
            renderer.close()
    return np.array(found)


def _corners(task: Any) -> list[Any]:
    centre, reach = task.initial_gripper_xpos[:3], task.target_range
    low, high = centre - reach, centre + reach
    if task.has_object:
        low[2] = high[2] = task.height_offset
    if task.target_in_the_air and task.has_object:
        high[2] += 0.45
    corners = [
        np.array(place) + task.target_offset for place in product(*zip(low, high, strict=True))
    ]
    if task.has_object:
        for x, y in product((-task.obj_range, task.obj_range), repeat=2):
            corners.append(np.array([centre[0] + x, centre[1] + y, task.height_offset]))
    return corners
