"""The Gymnasium face of the batched Fetch environment."""

from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from robotics_rl.envs import fetch_ids
from robotics_rl.envs.fetch import FetchBatch, Observation, require_at_least_one


class FetchVectorEnv(VectorEnv[Observation, NDArray[Any], NDArray[Any]]):
    """What ``SyncVectorEnv`` with same-step autoreset gives, bit for bit, computed together.

    Args:
        env_id: one of the eight Fetch ids.
        num_envs: number of environments.
        n_threads: threads that step them.
        max_episode_steps: time limit; the registered one if None.
        reward_type: as registered; anything else is refused.
        render_mode: None; the batch draws nothing.

    Raises:
        ValueError: another environment or reward, or nothing to step.
        gymnasium.error.UnsupportedMode: a way to render.
    """

    metadata: dict[str, Any] = {"autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012

    def __init__(
        self,
        env_id: str,
        num_envs: int = 1,
        n_threads: int = 1,
        max_episode_steps: int | None = None,
        reward_type: str | None = None,
        render_mode: str | None = None,
    ) -> None:
        if render_mode is not None:
            raise gym.error.UnsupportedMode(
                f"batched {env_id} cannot render as {render_mode!r}; "
                'leave out render_mode, or use vectorization_mode="sync"'
            )
        if max_episode_steps is not None:
            require_at_least_one(max_episode_steps, "steps per episode")
        self._batch = FetchBatch(env_id, num_envs, n_threads)
        if max_episode_steps is not None:
            self._batch.max_episode_steps = max_episode_steps
        if reward_type not in (None, self._batch.task.reward_type):
            raise ValueError(f"{env_id} has {self._batch.task.reward_type} rewards")
        self.num_envs = num_envs
        self.single_observation_space = self._batch.observation_space
        self.single_action_space = self._batch.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(
        self,
        *,
        seed: int | list[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode everywhere; one ``seed`` counts up over the environments.

        Raises:
            ValueError: not one seed per environment, or an option: episodes end by themselves,
                so there is nothing to reset in part.
        """
        if options:
            raise ValueError(f"Fetch tasks have no options to reset with, such as {list(options)}")
        if seed is None:
            seed = [None] * self.num_envs
        elif isinstance(seed, int):
            seed = [seed + index for index in range(self.num_envs)]
        if len(seed) != self.num_envs:
            raise ValueError(f"{len(seed)} seeds for {self.num_envs} environments; give one each")
        return self._batch.reset_all(seed), {}

    def step(
        self, actions: NDArray[Any]
    ) -> tuple[Observation, NDArray[Any], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Step everywhere; where an episode ended, ``final_obs`` and ``final_info`` tell of it."""
        self._batch.start(actions)
        step = self._batch.finish()
        infos: dict[str, Any] = {}
        for index in range(self.num_envs):
            info = {"is_success": step.successes[index]}
            if step.truncated[index]:
                final = {key: array[index] for key, array in step.final_observation.items()}
                info = {"final_obs": final, "final_info": info}
            infos = self._add_info(infos, info, index)
        return (
            step.observation,
            step.rewards.astype(np.float64),
            np.zeros(self.num_envs, dtype=np.bool_),
            step.truncated,
            infos,
        )

    def close_extras(self, **kwargs: Any) -> None:
        """End the threads."""
        self._batch.close()


def __getattr__(name: str) -> Callable[..., FetchVectorEnv]:
    """The entry point of a Fetch id: Gymnasium looks it up by name, so specs stay plain text."""
    if name not in fetch_ids():
        raise AttributeError(f"module {__name__} has no attribute {name!r}")
    return partial(FetchVectorEnv, name)
