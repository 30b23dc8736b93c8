"""The Stable-Baselines3 face of the batched Fetch environment."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvStepReturn

from robotics_rl.envs.fetch import FetchBatch, Observation, Step
from robotics_rl.envs.resumable_vec_env import training_seeds


class FetchVecEnv(VecEnv):
    """A ``VecEnv`` that gives, bit for bit, what monitored environments in a ``DummyVecEnv`` give.

    ``step_async`` computes in the background: whoever has other work does it before ``step_wait``.

    Args:
        env_id: one of the eight Fetch ids.
        n_envs: number of environments.
        seed: of the training; each environment has a random stream of its own.
        n_threads: threads that step them.
        make_batch: makes what is stepped of id, number and threads: a ``FetchBatch``, or what
            has its methods.
    """

    def __init__(
        self,
        env_id: str,
        n_envs: int,
        seed: int,
        n_threads: int = 1,
        make_batch: Callable[[str, int, int], Any] = FetchBatch,
    ) -> None:
        self.batch = make_batch(env_id, n_envs, n_threads)
        super().__init__(n_envs, self.batch.observation_space, self.batch.action_space)
        *env_seeds, action_seed = training_seeds(seed, n_envs)
        self.batch.reset_all(env_seeds)
        self.batch.needs_reset = True  # these episodes began for their seeds alone
        self.action_space.seed(action_seed)
        self._rewards: list[list[float]] = [[] for _ in range(n_envs)]
        self._started = time.time()

    def reset(self) -> Observation:
        """Begin an episode everywhere."""
        seeds = list(self._seeds)
        self._reset_seeds()
        self._reset_options()
        self._rewards = [[] for _ in range(self.num_envs)]
        observation: Observation = self.batch.reset_all(seeds)
        return observation

    def step_async(self, actions: NDArray[Any]) -> None:
        """Begin to step."""
        self.batch.start(actions)

    def step_wait(self) -> VecEnvStepReturn:
        """Wait for the step; where an episode ended, the first observation of the next."""
        return self.results(self.batch.finish())

    def results(self, step: Step) -> VecEnvStepReturn:
        """A step as Stable-Baselines3 wants it."""
        infos: list[dict[str, Any]] = []
        for index in range(self.num_envs):
            self._rewards[index].append(float(step.rewards[index]))
            info: dict[str, Any] = {
                "is_success": step.successes[index],
                "TimeLimit.truncated": bool(step.truncated[index]),
            }
            if step.truncated[index]:
                info["episode"] = self._finished_episode(index)
                info["terminal_observation"] = {
                    key: array[index] for key, array in step.final_observation.items()
                }
            infos.append(info)
        return step.observation, step.rewards.astype(np.float32), step.truncated, infos

    def _finished_episode(self, index: int) -> dict[str, Any]:
        """What Stable-Baselines3's ``Monitor`` tells of an episode."""
        rewards, self._rewards[index] = self._rewards[index], []
        seconds = time.time() - self._started
        return {"r": round(sum(rewards), 6), "l": len(rewards), "t": round(seconds, 6)}

    def state(self) -> dict[str, Any]:
        """Exact state between two steps."""
        return {
            "batch": self.batch.state(),
            "rewards": [list(rewards) for rewards in self._rewards],
            "action_rng": self.action_space.np_random.bit_generator.state,
        }

    def restore(self, state: dict[str, Any]) -> bool:
        """Go on from a state; always exactly."""
        self.batch.restore(state["batch"])
        self._rewards = [list(rewards) for rewards in state["rewards"]]
        self.action_space.np_random.bit_generator.state = state["action_rng"]
        return True

    def close(self) -> None:
        """End the threads."""
        self.batch.close()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """An attribute of each environment."""
        if attr_name == "render_mode":
            return [None for _ in self._get_indices(indices)]
        return [getattr(self.batch.task_of(i), attr_name) for i in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set an attribute of the task, which all environments share."""
        if len(list(self._get_indices(indices))) != self.num_envs:
            raise ValueError(f"all environments share {attr_name}; set it for all of them")
        setattr(self.batch.task, attr_name, value)

    def env_method(
        self, method_name: str, *args: Any, indices: VecEnvIndices = None, **kwargs: Any
    ) -> list[Any]:
        """Call a method of each environment; ``compute_reward`` takes batches."""
        tasks = (self.batch.task_of(index) for index in self._get_indices(indices))
        return [getattr(task, method_name)(*args, **kwargs) for task in tasks]

    def env_is_wrapped(self, wrapper_class: type, indices: VecEnvIndices = None) -> list[bool]:
        """Monitored, and nothing else."""
        return [wrapper_class is Monitor for _ in self._get_indices(indices)]
