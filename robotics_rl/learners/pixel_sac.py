"""Soft actor-critic from pictures: the update of ``SACUpdate`` on what encoders make of them.

Who trains an encoder is the policy's choice: each optimizer moves what it was made with. Where
actor and critics share one encoder it is in the critics' (Yarats et al. 2021), and what the actor
sees carries no gradient.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robotics_rl.learners.graphs import GraphedSteps
from robotics_rl.learners.lean_sac import SACUpdate
from robotics_rl.learners.normalizer import InputNormalizer
from robotics_rl.learners.overlapped import Observation, Transitions
from robotics_rl.replay.frames import FrameBatch, FrameReplay

_AT_ONCE = 8  # batches that are drawn together, which a GPU likes
_VECTORS = ("proprioception", "achieved_goal", "desired_goal")

Augment = Callable[[Tensor], Tensor]  # (n, channels, height, width) → the same


class Views(NamedTuple):
    """A batch on the learner's device, before anything looked at it; first axis the batch."""

    windows: Tensor  # as of ``FrameBatch``
    vectors: tuple[Tensor, ...]  # entries named as in ``_VECTORS``
    next_vectors: tuple[Tensor, ...]
    actions: Tensor
    rewards: Tensor
    channels: int  # of a frame

    def part(self, index: int, count: int) -> "Views":
        """One of ``count`` batches, each with its share of every kind of transition."""
        windows, vectors, next_vectors, actions, rewards, channels = self
        return Views(
            windows[index::count],
            tuple(vector[index::count] for vector in vectors),
            tuple(vector[index::count] for vector in next_vectors),
            actions[index::count],
            rewards[index::count],
            channels,
        )


class PixelSAC(SACUpdate):
    """``stable_baselines3.SAC`` on pictures and vectors, with a replay that stores frames once.

    Args:
        replay: where transitions go and batches come from.
        augment: what pictures go through before they are learned from; None: nothing.
        normalize_observations: scale the vectors that networks see beside pictures.
        cuda_graphs: record gradient steps on the GPU and replay them.
        settings: as for ``SACUpdate``.
    """

    replay_buffer: FrameReplay  # type: ignore[assignment]

    def __init__(
        self,
        *,
        replay: FrameReplay,
        augment: Augment | None = None,
        normalize_observations: bool = False,
        cuda_graphs: bool = False,
        **settings: Any,
    ) -> None:
        shape = replay.store.shape
        self._augment, self._sizes = augment, [shape.proprioception, shape.goal, shape.goal]
        normalizer = InputNormalizer(sum(self._sizes), enabled=normalize_observations)
        super().__init__(replay=replay, normalizer=normalizer, **settings)
        self._share_encoder = self.actor.features_extractor is self.critic.features_extractor
        self._graphed = GraphedSteps(self._noted_step) if cuda_graphs else None
        if self._graphed:
            for optimizer in (self.actor.optimizer, self.critic.optimizer, self.ent_coef_optimizer):
                for group in optimizer.param_groups if optimizer else ():
                    group["capturable"] = True

    def batches(self, count: int) -> Iterator[Views]:
        """Batches to learn from, drawn and carried to the device several at a time."""
        for first in range(0, count, _AT_ONCE):
            n = min(_AT_ONCE, count - first)
            drawn = self.views(self.replay_buffer.sample(n * self.batch_size))
            yield from (drawn.part(index, n) for index in range(n))

    def views(self, batch: FrameBatch) -> Views:
        """A batch on the learner's device."""
        now = (batch.proprioception, batch.achieved_goals, batch.desired_goals)
        after = (batch.next_proprioception, batch.next_achieved_goals, batch.desired_goals)
        return Views(
            self._to_device(batch.windows),
            tuple(map(self._to_device, now)),
            tuple(map(self._to_device, after)),
            self._to_device(batch.actions),
            self._to_device(batch.rewards),
            batch.channels,
        )

    def step(self, batch: Views) -> None:
        """One gradient step, as it is or replayed."""
        if self._graphed is None:
            self.update(self.see(batch))
            return
        phase = (self._n_updates + 1) % self._policy_delay
        for name, losses in self._graphed(batch, phase).items():
            self._losses.setdefault(name, []).extend(losses)

    def _noted_step(self, batch: Views) -> dict[str, list[Tensor]]:
        """One gradient step as it is, and the losses it noted."""
        before, self._losses = self._losses, {}
        self.update(self.see(batch))
        noted, self._losses = self._losses, before
        return noted

    @property
    def encoder_precision(self) -> str:
        """What encoders compute in while they learn."""
        return "bf16" if self._bf16 else "fp32"

    def see(self, batch: Views) -> Transitions:
        """What the networks make of a batch that they learn from.

        Only encoders compute in bfloat16: they take the time, while what follows is small and needs
        the digits of places.
        """
        with self.autocast():
            return self.seen(batch, self._augment)

    def seen(self, batch: Views, augment: Augment | None = None) -> Transitions:
        """What the networks make of a batch; each looks once.

        Pictures before and after a step are augmented apart, as in DrQ (Kostrikov et al. 2020); all
        frames of a stack alike, or still things would seem to move.
        """
        now, after = batch.windows[:, : -batch.channels], batch.windows[:, batch.channels :]
        if augment is not None:
            now, after = augment(now), augment(after)
        critic_inputs = self._features(self.critic, now, batch.vectors)
        if self._share_encoder:
            inputs = critic_inputs.detach()
        else:
            inputs = self._features(self.actor, now, batch.vectors)
        with torch.no_grad():
            next_inputs = self._features(self.actor, after, batch.next_vectors)
            target_inputs = self._features(self.critic_target, after, batch.next_vectors)
        return Transitions(
            inputs, critic_inputs, batch.actions, batch.rewards, next_inputs, target_inputs
        )

    def look(self, observation: Observation) -> Tensor:
        """What the actor makes of what the environments show: (n_envs, features)."""
        vectors = tuple(self._to_device(observation[name]).float() for name in _VECTORS)
        return self._features(self.actor, self._to_device(observation["pixels"]), vectors)

    def store(
        self,
        observation: Observation,
        actions: NDArray[np.float32],
        rewards: NDArray[np.float32],
        dones: NDArray[np.bool_],
        reached: Observation,
    ) -> None:
        """Keep one step of every environment, and scale vectors by what episodes showed."""
        self.replay_buffer.store.add(observation, actions, rewards, dones, reached)
        if dones.any() and self.replay_buffer.ready:
            self.normalizer.update(self.replay_buffer.newest_vectors())

    def fold_into(self, policy: Any) -> None:
        """Make a policy give for raw vectors what it gave for scaled ones."""
        ends = np.cumsum(self._sizes)
        places = {
            name: np.arange(end - size, end)
            for name, end, size in zip(_VECTORS, ends, self._sizes, strict=True)
        }
        extractor = policy.actor.features_extractor
        used = np.concatenate([places[name] for name in extractor.vectors])
        self.normalizer.fold_into(policy, first=extractor.features_dim - len(used), used=used)

    def _features(self, network: Any, pixels: Tensor, vectors: tuple[Tensor, ...]) -> Tensor:
        """What a network's encoder makes of pictures, as bytes, and of vectors."""
        # The layout that convolutions are fastest with.
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        seen = {"pixels": pixels, **dict(zip(_VECTORS, self._scaled(vectors), strict=True))}
        features: Tensor = network.features_extractor(seen)
        return features

    def _scaled(self, vectors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Vectors as networks get them."""
        return torch.split(self.normalizer(torch.cat(vectors, dim=1)), self._sizes, dim=1)

    def _to_device(self, part: Any) -> Tensor:
        return torch.as_tensor(part).to(self.device, non_blocking=True)
