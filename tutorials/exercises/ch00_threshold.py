"""A hundred random episodes, and how many of them end in success at three thresholds."""

import gymnasium as gym
import gymnasium_robotics

gym.register_envs(gymnasium_robotics)
reached = {0.10: 0, 0.05: 0, 0.01: 0}  # threshold in metres → episodes

with gym.make("FetchReach-v4") as env:  # sparse: the reward is 0 within the threshold, else -1
    task = env.unwrapped
    print(f"threshold as it comes: {task.distance_threshold} m")
    env.action_space.seed(0)  # reset() does not seed the actions
    for seed in range(100):
        env.reset(seed=seed)
        for _ in range(50):
            obs, *_ = env.step(env.action_space.sample())
        for threshold in reached:
            task.distance_threshold = threshold
            reward = task.compute_reward(obs["achieved_goal"], obs["desired_goal"], {})
            reached[threshold] += int(reward == 0)

for threshold, episodes in reached.items():
    print(f"within {threshold:.2f} m at the last step: {episodes} of 100 episodes")
