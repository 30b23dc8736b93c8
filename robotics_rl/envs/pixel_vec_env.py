"""A vector of Fetch environments seen through a camera, drawn while the learner learns."""

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from robotics_rl.envs.fetch import Observation
from robotics_rl.envs.fetch_vec_env import FetchVecEnv
from robotics_rl.envs.renderer import CAMERAS, FrameRenderer

# What a robot knows of itself among the 25 numbers of a task with an object: gripper position,
# fingers, gripper velocity, finger velocities. Everything else is of the object.
PROPRIOCEPTION = (0, 1, 2, 9, 10, 20, 21, 22, 23, 24)
_CHANNELS = 3


@dataclass(frozen=True)
class View:
    """How simulations are looked at.

    Attributes:
        size: pixels a side.
        frame_stack: newest frames side by side, so that motion shows; the first one of an episode
            stands for those before it.
        camera: name in ``CAMERAS``.
        msaa: samples per pixel, 0 or 4.
        show_goal: whether the goal's marker is drawn.
    """

    size: int = 84
    frame_stack: int = 4
    camera: str = "default"
    msaa: int = 0
    show_goal: bool = False


class PixelVecEnv(FetchVecEnv):
    """``FetchVecEnv`` whose observations are pictures, proprioception and goals.

    Pictures are drawn in a thread that holds the one OpenGL context, from ``step_async`` on.

    Args:
        env_id: one of the Fetch ids.
        n_envs: number of environments.
        seed: of the training.
        view: how they are looked at.
    """

    def __init__(self, env_id: str, n_envs: int, seed: int, view: View) -> None:
        super().__init__(env_id, n_envs, seed)
        self._view = view
        n_numbers = self.batch.observation_space["observation"].shape[0]
        self._own = PROPRIOCEPTION if self.batch.task.has_object else tuple(range(n_numbers))
        shape = (_CHANNELS * view.frame_stack, view.size, view.size)
        numbers = {"proprioception": len(self._own), "achieved_goal": 3, "desired_goal": 3}
        self.observation_space = spaces.Dict(
            {
                "pixels": spaces.Box(0, 255, shape, np.uint8),
                **{
                    name: spaces.Box(-np.inf, np.inf, (size,), np.float32)
                    for name, size in numbers.items()
                },
            }
        )
        self._stacks = np.zeros((n_envs, *shape), dtype=np.uint8)
        self._painter = ThreadPoolExecutor(1, thread_name_prefix="painter")
        self._pending: Future[VecEnvStepReturn]
        self._renderer = self._painter.submit(
            FrameRenderer,
            self.batch.task.model,
            view.size,
            CAMERAS[view.camera],
            msaa=view.msaa,
            show_goal=view.show_goal,
        ).result()

    def reset(self) -> Observation:
        """Begin an episode everywhere."""
        observation = super().reset()
        self._painter.submit(self._begin, range(self.num_envs)).result()
        return self._seen(observation)

    def step_async(self, actions: NDArray[Any]) -> None:
        """Begin to step, and then to draw."""
        self._pending = self._painter.submit(self._step, actions)

    def step_wait(self) -> VecEnvStepReturn:
        """Wait for the step and its pictures."""
        return self._pending.result()

    def state(self) -> dict[str, Any]:
        """Exact state between two steps."""
        return {**super().state(), "stacks": self._stacks.copy()}

    def restore(self, state: dict[str, Any]) -> bool:
        """Go on from a state; always exactly."""
        self._stacks[:] = state["stacks"]
        return super().restore(state)

    def close(self) -> None:
        """End the threads, and free the OpenGL context where it was made."""
        self._painter.submit(self._renderer.close).result()
        self._painter.shutdown()
        super().close()

    def _step(self, actions: NDArray[Any]) -> VecEnvStepReturn:
        self.batch.start(actions)
        step = self.batch.finish(look=self._push)
        _, rewards, dones, infos = self.results(step)
        ended = np.flatnonzero(dones)
        finals = {index: self._stacks[index].copy() for index in ended}
        self._begin(ended)
        for index, pixels in finals.items():
            last = self._numbers(infos[index]["terminal_observation"])
            infos[index]["terminal_observation"] = {"pixels": pixels, **last}
        return self._seen(step.observation), rewards, dones, infos

    def _push(self) -> None:
        """Draw every simulation, and let its oldest frame go."""
        self._stacks[:, :-_CHANNELS] = self._stacks[:, _CHANNELS:]
        for index in range(self.num_envs):
            self._stacks[index, -_CHANNELS:] = self._draw(index)

    def _begin(self, indices: Any) -> None:
        """The first frame of an episode stands for those before it."""
        for index in indices:
            self._stacks[index] = np.tile(self._draw(index), (self._view.frame_stack, 1, 1))

    def _draw(self, index: int) -> NDArray[np.uint8]:
        task = self.batch.task_of(index)
        return self._renderer.draw(task.data, task.goal)

    def _seen(self, observation: Observation) -> dict[str, NDArray[Any]]:
        return {"pixels": self._stacks.copy(), **self._numbers(observation)}

    def _numbers(self, observation: Observation) -> dict[str, NDArray[Any]]:
        """All but the pixels; the last axis holds the numbers."""
        numbers = {
            "proprioception": observation["observation"][..., self._own],
            "achieved_goal": observation["achieved_goal"],
            "desired_goal": observation["desired_goal"],
        }
        return {name: array.astype(np.float32) for name, array in numbers.items()}
