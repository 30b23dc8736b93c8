"""What four samples per pixel change in a picture, over ten beginnings of episodes."""

import os

os.environ.setdefault("MUJOCO_GL", "egl")  # read when mujoco is imported

import numpy as np

from robotics_rl.envs.fetch import FetchBatch
from robotics_rl.envs.renderer import CAMERAS, FrameRenderer

for camera in CAMERAS:
    batch = FetchBatch("FetchPush-v4", n_envs=10)
    goals = batch.reset_all(range(10))["desired_goal"]
    pictures = []
    for msaa in (0, 4):
        renderer = FrameRenderer(batch.task.model, 84, CAMERAS[camera], msaa=msaa)
        drawn = [renderer.draw(data, goal) for data, goal in zip(batch.data, goals, strict=True)]
        pictures.append(np.stack(drawn).astype(int))
        renderer.close()
    difference = np.abs(pictures[0] - pictures[1])
    changed = (difference.max(axis=1) > 10).mean()  # in any of the three colours
    print(f"camera {camera:8} {difference.mean():.1f} of 255 on average", end=", ")
    print(f"{changed:.0%} of pixels by more than 10")
    batch.close()
