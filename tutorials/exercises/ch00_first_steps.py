"""Steps by hand: what the arm is told, what it may do, and what that is worth."""

import gymnasium as gym
import gymnasium_robotics
import numpy as np

gym.register_envs(gymnasium_robotics)
env = gym.make("FetchReachDense-v4")
obs, _ = env.reset(seed=2)
for key in ("observation", "achieved_goal", "desired_goal"):
    print(f"{key:<14}{obs[key].shape!s:<6}{obs[key].round(3)}")

for step in range(1, 8):
    gap = obs["desired_goal"] - obs["achieved_goal"]  # metres, from the gripper to the goal
    action = np.append(np.clip(10 * gap, -1, 1), 0.0)  # dx, dy, dz, fingers: straight towards it
    obs, reward, _, _, info = env.step(action.astype(np.float32))
    print(f"step {step}: reward {reward:.4f}, success {info['is_success']:.0f}")

again = env.unwrapped.compute_reward(obs["achieved_goal"], obs["desired_goal"], {})
print("the reward is a function of two goals:", reward == again)
env.close()
