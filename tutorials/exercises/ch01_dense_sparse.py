"""The same random actions in the same ten episodes, rewarded densely and sparsely."""

import gymnasium as gym
import gymnasium_robotics
import numpy as np

gym.register_envs(gymnasium_robotics)
rewards = {}  # environment → (episodes, steps)

for env_id in ("FetchReachDense-v4", "FetchReach-v4"):
    episodes = []
    with gym.make(env_id) as env:
        env.action_space.seed(0)
        for seed in range(10):
            env.reset(seed=seed)
            episodes.append([env.step(env.action_space.sample())[1] for _ in range(50)])
    rewards[env_id] = np.array(episodes)
    returns = rewards[env_id].sum(axis=1)
    print(f"{env_id:<19} return {returns.mean():7.2f} ({returns.min():.2f} to {returns.max():.2f})")

near = rewards["FetchReachDense-v4"] >= -0.05
paid = rewards["FetchReach-v4"] == 0.0
print(f"{near.sum()} of {near.size} steps end within 0.05 m, {paid.sum()} have the sparse reward 0")
print("they are the same steps:", np.array_equal(near, paid))
