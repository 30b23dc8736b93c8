"""Which numbers of a Push observation are the block's, and what does doing nothing do to it?"""

import gymnasium as gym
import gymnasium_robotics
import numpy as np

gym.register_envs(gymnasium_robotics)

with gym.make("FetchPushDense-v4") as env:
    obs, _ = env.reset(seed=0)
    for first in range(23):
        if np.array_equal(obs["observation"][first : first + 3], obs["achieved_goal"]):
            print(f"achieved_goal is observation[{first}:{first + 3}]")
    start = obs["achieved_goal"].copy()
    for _ in range(50):
        obs, reward, *_ = env.step(np.zeros(4, dtype=np.float32))
    moved = np.linalg.norm(obs["achieved_goal"] - start)
    away = np.linalg.norm(obs["achieved_goal"] - obs["desired_goal"])
print(f"after 50 zero actions the block has moved by {1000 * moved:.2f} mm")
print(f"it is {away:.3f} m from its goal; the reward is {reward:.3f}")
