"""A hundred resets: what changes between them, and is all of it a sound number?"""

import gymnasium as gym
import gymnasium_robotics
import numpy as np

gym.register_envs(gymnasium_robotics)

with gym.make("FetchReachDense-v4") as env:
    resets = [env.reset(seed=seed)[0] for seed in range(100)]

for key in ("observation", "achieved_goal", "desired_goal"):
    values = np.array([obs[key] for obs in resets])  # (100, length)
    print(f"{key} {values.shape[1:]} {values.dtype}")
    print(f"  {values.min():.2f} to {values.max():.2f}, finite: {np.isfinite(values).all()}")
    print(f"  different ones: {len(np.unique(values.round(6), axis=0))}")

goals = np.array([obs["desired_goal"] for obs in resets])
for name, axis in zip("xyz", goals.T, strict=True):
    print(f"goal {name}: {axis.min():.2f} to {axis.max():.2f} m")
print(f"velocities: {np.abs(resets[0]['observation'][5:]).max():.0e} m per step at most")

distances = [np.linalg.norm(obs["desired_goal"] - obs["achieved_goal"]) for obs in resets]
print(f"first distance: {min(distances):.3f} to {max(distances):.3f} m")
print(f"within 0.05 m already: {sum(distance < 0.05 for distance in distances)} of 100")
