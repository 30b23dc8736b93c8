"""Five resets with five seeds, and five with one: where is the goal?"""

import gymnasium as gym
import gymnasium_robotics

gym.register_envs(gymnasium_robotics)

with gym.make("FetchReachDense-v4") as env:
    for seed in range(5):
        obs, _ = env.reset(seed=seed)
        shapes = ", ".join(f"{key} {value.shape}" for key, value in sorted(obs.items()))
        print(f"seed {seed}: goal {obs['desired_goal'].round(3)} ({shapes})")
    same = {tuple(env.reset(seed=42)[0]["desired_goal"]) for _ in range(5)}
    going_on = {tuple(env.reset()[0]["desired_goal"]) for _ in range(5)}
print(f"reset(seed=42) five times: {len(same)} goal; reset() five times: {len(going_on)} goals")
