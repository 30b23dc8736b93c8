"""A point that must be seen: the toy of the DDPG + HER lab in pictures, drawn without OpenGL.

Sizes are those of chapter 9 at a quarter of its pixels: what moves is 3 px wide, and being within
3 px of the goal is success, as FetchPush's 5 cm are for the default camera.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import pixel_policies  # noqa: F401 - lets labs be imported
from ddpg_her_from_scratch import PointReachGoalEnv
from gymnasium.spaces import Box, Dict
from numpy.typing import NDArray

SIZE, BLOCK, REACH = 42, 3, 18  # px: a side, what moves, and from the middle to a wall
FRAME_STACK = 2  # two pictures show how fast it goes
THRESHOLD = 3 / REACH  # of success, in the toy's own unit
HORIZON = 50  # steps of an episode
Frame = NDArray[np.uint8]  # (1, SIZE, SIZE), grey


def draw(position: NDArray[np.float64]) -> Frame:
    """The point as a white square on black; edges are as grey as it covers them.

    Args:
        position: (2,), x to the right and y up, from -1 to 1.
    """
    covered = [_covered(SIZE / 2 + REACH * place) for place in (-position[1], position[0])]
    return np.round(255 * np.outer(*covered)).astype(np.uint8)[None]


def _covered(middle: float) -> NDArray[np.float64]:
    """How much of each pixel of a row a block covers: (SIZE,), 0 to 1."""
    left = np.arange(SIZE)
    first, last = middle - BLOCK / 2, middle + BLOCK / 2
    covered = np.minimum(left + 1, last) - np.maximum(left, first)
    return np.asarray(covered.clip(0.0, 1.0))


class PixelPoint(gym.Env[dict[str, Any], NDArray[np.float32]]):
    """Where the point is stands in the picture alone; networks are told the goal, (2,).

    ``achieved_goal`` is there for hindsight. The toy has no body to feel: ``proprioception`` is 0.
    """

    def __init__(self) -> None:
        self._toy = PointReachGoalEnv(max_steps=HORIZON, distance_threshold=THRESHOLD)
        square = Box(-1.0, 1.0, (2,), np.float32)
        self.observation_space = Dict(
            {
                "pixels": Box(0, 255, (FRAME_STACK, SIZE, SIZE), np.uint8),
                "proprioception": Box(-1.0, 1.0, (1,), np.float32),
                "achieved_goal": square,
                "desired_goal": square,
            }
        )
        self.action_space = self._toy.action_space
        self.compute_reward = self._toy.compute_reward
        self._frames: list[Frame] = []

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], Any]:
        """Begin at rest in the middle; the first picture stands for those before it."""
        seen, info = self._toy.reset(seed=seed)
        self._frames = [draw(seen["achieved_goal"])] * FRAME_STACK
        return self._observation(seen), info

    def step(self, action: NDArray[np.float32]) -> tuple[dict[str, Any], float, bool, bool, Any]:
        """Accelerate by action (2,)."""
        seen, reward, terminated, truncated, info = self._toy.step(action)
        self._frames = [*self._frames[1:], draw(seen["achieved_goal"])]
        return self._observation(seen), reward, terminated, truncated, info

    def _observation(self, seen: dict[str, Any]) -> dict[str, Any]:
        goals = {name: seen[name].astype(np.float32) for name in ("achieved_goal", "desired_goal")}
        felt = np.zeros(1, dtype=np.float32)
        return {"pixels": np.concatenate(self._frames), "proprioception": felt, **goals}


class Floor:
    """A policy that looks at nothing: it acts at random, or not at all.

    Args:
        rng: draws the actions; None: there are none.
    """

    def __init__(self, rng: np.random.Generator | None = None) -> None:
        self._rng = rng

    def predict(
        self, seen: Mapping[str, NDArray[Any]], *, deterministic: bool
    ) -> tuple[NDArray[np.float32], None]:
        """Actions (n, 2) for n observations, as policies of Stable-Baselines3 give them."""
        shape = (len(seen["pixels"]), 2)
        actions = np.zeros(shape) if self._rng is None else self._rng.uniform(-1, 1, shape)
        return actions.astype(np.float32), None


def success_rate(policy: Any, seeds: Sequence[int]) -> float:
    """Share of episodes that end at their goal; played side by side, without noise."""
    envs = [PixelPoint() for _ in seeds]
    seen = [env.reset(seed=seed)[0] for env, seed in zip(envs, seeds, strict=True)]
    ends: list[bool] = []
    for _ in range(HORIZON):
        together = {name: np.stack([one[name] for one in seen]) for name in seen[0]}
        actions, _ = policy.predict(together, deterministic=True)
        steps = [env.step(action) for env, action in zip(envs, actions, strict=True)]
        seen, ends = [step[0] for step in steps], [step[4]["is_success"] for step in steps]
    return sum(ends) / len(ends)
