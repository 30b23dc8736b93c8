"""Learning from state vectors: one row of numbers per observation, scaled for every network."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robotics_rl.learners.normalizer import InputNormalizer
from robotics_rl.learners.overlapped import Observation, Overlapped, Transitions
from robotics_rl.replay.hindsight import Batch, HindsightReplay

_AT_ONCE = 16  # batches that are drawn together: it costs little more than drawing one


class FromVectors(Overlapped):
    """Mixin for ``Overlapped`` algorithms on the Fetch tasks' state observations.

    Args:
        replay: where transitions go and batches come from.
        normalize_observations: scale the inputs of all networks, which then see the achieved goal
            once, as part of the observation.
        settings: as for ``Overlapped``.
    """

    replay_buffer: HindsightReplay

    def __init__(
        self, *, replay: HindsightReplay, normalize_observations: bool = False, **settings: Any
    ) -> None:
        shape = replay.store.shape
        normalizer = InputNormalizer(
            2 * shape.goal + shape.observation,
            enabled=normalize_observations,
            n_unused=shape.goal,  # a Fetch observation holds the achieved goal, which comes first
        )
        super().__init__(replay=replay, normalizer=normalizer, **settings)

    def transitions(self, batch: Batch) -> Transitions:
        """A batch as networks see it."""

        def to_device(array: NDArray[np.float32]) -> Tensor:
            return torch.from_numpy(array).to(self.device, non_blocking=True)

        inputs, next_inputs = map(
            self.normalizer, map(to_device, (batch.inputs, batch.next_inputs))
        )
        actions, rewards = to_device(batch.actions), to_device(batch.rewards)
        return Transitions(inputs, inputs, actions, rewards, next_inputs, next_inputs)

    def batches(self, count: int) -> Iterator[Transitions]:
        """Batches to learn from, drawn and carried to the device many at a time."""
        for first in range(0, count, _AT_ONCE):
            n = min(_AT_ONCE, count - first)
            drawn = self.transitions(self.replay_buffer.sample(n * self.batch_size))
            yield from (drawn.part(index, n) for index in range(n))

    def look(self, observation: Observation) -> Tensor:
        """What the networks see now: (n_envs, inputs), in the order of ``Batch``."""
        names = ("achieved_goal", "desired_goal", "observation")
        joined = np.concatenate([observation[name] for name in names], axis=1, dtype=np.float32)
        return self.normalizer(torch.from_numpy(joined).to(self.device))  # type: ignore[no-any-return]

    def store(
        self,
        observation: Observation,
        actions: NDArray[np.float32],
        rewards: NDArray[np.float32],
        dones: NDArray[np.bool_],
        reached: Observation,
    ) -> None:
        """Keep one step of every environment, and scale inputs by what episodes showed."""
        finished = self.replay_buffer.store.add(observation, actions, reached)
        assert finished == dones.all(), "episodes must end at their time limit"
        if finished:
            self.normalizer.update(self.replay_buffer.newest_inputs())
