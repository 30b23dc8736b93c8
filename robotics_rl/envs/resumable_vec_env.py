"""The vector of environments that Stable-Baselines3 trains on, seeded apart from evaluation."""

from functools import partial
from typing import Any

import numpy as np
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from robotics_rl.envs import Env, MakeEnv, snapshot


class ResumableVecEnv(DummyVecEnv):
    """``DummyVecEnv`` whose exact state can be saved between two steps and restored."""

    def state(self) -> dict[str, Any]:
        """State of every environment and of the stream of random actions."""
        return {
            "envs": [snapshot.capture(env) for env in self.envs],
            "action_rng": self.action_space.np_random.bit_generator.state,
        }

    def restore(self, state: dict[str, Any]) -> bool:
        """Go on from a saved state; False where episodes had to start anew."""
        self.action_space.np_random.bit_generator.state = state["action_rng"]
        exact = [
            snapshot.restore(env, saved)
            for env, saved in zip(self.envs, state["envs"], strict=True)
        ]
        return all(exact)


def make_vec_env(env_id: str, n_envs: int, seed: int, make_env: MakeEnv) -> ResumableVecEnv:
    """``n_envs`` monitored environments, each with a random stream of its own.

    Stable-Baselines3 would seed them ``seed … seed + n_envs − 1``: streams that overlap between
    training seeds and with the evaluation's reset seeds 0–99. Children of a ``SeedSequence`` do
    neither.
    """
    *env_seeds, action_seed = training_seeds(seed, n_envs)

    def build(env_seed: int) -> Env:
        env = make_env(env_id, disable_env_checker=True)
        env.reset(seed=env_seed)
        return Monitor(env)

    venv = ResumableVecEnv([partial(build, env_seed) for env_seed in env_seeds])
    venv.action_space.seed(action_seed)
    return venv


def training_seeds(seed: int, n_envs: int) -> list[int]:
    """64-bit seeds: one per environment, and one for random actions."""
    children = np.random.SeedSequence(seed).spawn(n_envs + 1)
    return [int(child.generate_state(1, np.uint64)[0]) for child in children]
