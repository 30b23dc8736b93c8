"""A ring of whole episodes.

Each observation is stored once, as the end of one step and the start of the next.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Shape:
    """Sizes of everything that is stored."""

    n_envs: int  # environments; their episodes begin and end together
    horizon: int  # steps of every episode
    observation: int
    goal: int
    action: int

    @property
    def transition_bytes(self) -> int:
        """Bytes per transition, without the one observation more that an episode has."""
        return 4 * (self.observation + self.action) + 8 * self.goal


class EpisodeStore:
    """The newest ``capacity`` transitions, in at least two blocks of ``n_envs`` episodes.

    Observations and actions are float32, as networks take them. Goals keep the environment's
    float64: rewards computed from them are then its own, bit for bit, at the threshold too.
    """

    def __init__(self, capacity: int, shape: Shape) -> None:
        self.shape = shape
        self.n_blocks = max(2, capacity // (shape.n_envs * shape.horizon))
        slots, steps = self.n_blocks * shape.n_envs, shape.horizon
        self.observations = np.empty((slots, steps + 1, shape.observation), dtype=np.float32)
        self.achieved_goals = np.empty((slots, steps + 1, shape.goal))
        self.desired_goals = np.empty((slots, shape.goal))
        self.actions = np.empty((slots, steps, shape.action), dtype=np.float32)
        self.step = 0  # of the running episodes
        self._block = 0  # that they are written to
        self._finished_blocks = 0

    @property
    def running(self) -> Indices:
        """Slots of the running episodes."""
        return self._slots_of(self._block)

    @property
    def n_finished(self) -> int:
        """Finished episodes that can be drawn from."""
        return self._finished_blocks * self.shape.n_envs

    def newest(self, n_episodes: int) -> Indices:
        """Slots of the last finished episodes: ``n_episodes``, or as many as there are."""
        count = min(n_episodes, self.n_finished)
        return self.finished(np.arange(count))

    def finished(self, ages: Indices) -> Indices:
        """Slots of finished episodes, by age: 0 is the one finished last."""
        return (self._block * self.shape.n_envs - 1 - ages) % len(self.desired_goals)

    def add(
        self,
        observation: Mapping[str, Array],
        actions: Array,
        next_observation: Mapping[str, Array],
    ) -> bool:
        """Store one step of every environment.

        Args:
            observation: ``observation``, ``achieved_goal``, ``desired_goal``; first axis n_envs.
            actions: (n_envs, action).
            next_observation: where the actions led, before a new episode begins.

        Returns:
            Whether the episodes are finished by it.
        """
        slots, step = slice(self.running[0], self.running[-1] + 1), self.step
        if step == 0:
            self.desired_goals[slots] = observation["desired_goal"]
            self.observations[slots, 0] = observation["observation"]
            self.achieved_goals[slots, 0] = observation["achieved_goal"]
        self.actions[slots, step] = actions
        self.observations[slots, step + 1] = next_observation["observation"]
        self.achieved_goals[slots, step + 1] = next_observation["achieved_goal"]
        self.step = (step + 1) % self.shape.horizon
        if self.step == 0:
            self._block = (self._block + 1) % self.n_blocks
            self._finished_blocks = min(self._finished_blocks + 1, self.n_blocks - 1)
        return self.step == 0

    def drop_running(self) -> None:
        """Forget the running episodes: the environments have begun new ones."""
        self.step = 0

    def close(self) -> None:
        """Nothing of it is on disk."""

    def state(self) -> dict[str, Any]:
        """Exact state; the arrays are not copied."""
        used = (self._finished_blocks + 1) * self.shape.n_envs
        counters = {"step": self.step, "block": self._block, "finished": self._finished_blocks}
        return counters | {name: getattr(self, name)[:used] for name in _ARRAYS}

    def restore(self, state: Mapping[str, Any]) -> int:
        """Counterpart of ``state``; returns how many transitions are lost, which is none."""
        self.step, self._block = state["step"], state["block"]
        self._finished_blocks = state["finished"]
        for name in _ARRAYS:
            getattr(self, name)[: len(state[name])] = state[name]
        return 0

    def _slots_of(self, block: int) -> Indices:
        first = block * self.shape.n_envs
        return np.arange(first, first + self.shape.n_envs)


_ARRAYS = ("observations", "achieved_goals", "desired_goals", "actions")
