"""How many pixels is the block? The same table drawn with the block and without it."""

import os

os.environ.setdefault("MUJOCO_GL", "egl")  # read when mujoco is imported

import mujoco
import numpy as np

from robotics_rl.envs.fetch import FetchBatch
from robotics_rl.envs.renderer import CAMERAS, FrameRenderer

for camera in CAMERAS:
    batch = FetchBatch("FetchPush-v4", n_envs=1)
    goal = batch.reset_all([0])["desired_goal"][0]
    model, data = batch.task.model, batch.data[0]
    renderer = FrameRenderer(model, 84, CAMERAS[camera])
    with_block = renderer.draw(data, goal).astype(int)
    data.joint("object0:joint").qpos[:2] += 10.0  # metres: out of sight
    mujoco.mj_forward(model, data)
    without = renderer.draw(data, goal).astype(int)
    seen = np.abs(with_block - without).max(axis=0) > 40  # of 255: shadows change less
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    print(f"camera {camera:8} {seen.sum():4} of {seen.size} pixels", end=", ")
    print(f"{np.ptp(columns) + 1} wide and {np.ptp(rows) + 1} high")
    renderer.close()
    batch.close()
