"""A student that sees imitates a teacher that is told (DAgger, Ross et al. 2011).

The teacher knows where the object is (a privileged teacher, as in "Learning by Cheating" by Chen et
al. 2019), the student sees it. After some steps of the teacher's the student acts, so that it gets
into situations of its own making, and learns from everything that the teacher ever said.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.policies import BasePolicy
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from robotics_rl.learners.networks import FlatParameters
from robotics_rl.learners.overlapped import Observation
from robotics_rl.learners.pixel_sac import PixelSAC, Views


class Lesson(NamedTuple):
    """A batch as the student learns from it; first axis the batch."""

    features: Tensor  # what its actor makes of what it sees
    actions: Tensor  # the teacher's
    places: Tensor  # of the object, scaled


class Student(PixelSAC):
    """``PixelSAC``'s actor, taught; there is nothing for critics to do.

    A second loss asks where the object is, which only training knows: it tells the encoder what
    to look at long before actions do. The policy is not told, neither then nor later.

    Args:
        teacher: acts on the state observations that the environments keep as ``known``.
        place_weight: of the second loss.
        settings: as for ``PixelSAC``; ``learning_starts`` is how long the teacher acts.
    """

    encoder_precision = "fp32"  # places are what it learns

    def __init__(self, *, teacher: BasePolicy, place_weight: float, **settings: Any) -> None:
        self._teacher, self._place_weight = teacher, place_weight
        super().__init__(**settings)

    def prepare(self) -> None:
        """Lay out actor and encoder, and what tells the object's place."""
        assert self.critic.features_extractor is not self.actor.features_extractor
        goal = self.replay_buffer.store.shape.goal
        self.place_head = nn.Linear(self.actor.features_dim, goal).to(self.device)
        self._flat = FlatParameters([*self.actor.parameters(), *self.place_head.parameters()])
        self.actor.optimizer = self._flat.adam(self.lr_schedule(1))

    def explore(self, inputs: Tensor) -> Tensor:
        """What the student holds to be right."""
        action: Tensor = torch.tanh(self.actor.mu(self.actor.latent_pi(inputs)))
        return action

    def see(self, batch: Views) -> Lesson:  # type: ignore[override]
        """What the student makes of a batch, in single precision."""
        features = self._features(self.actor, batch.windows[:, : -batch.channels], batch.vectors)
        _, places, _ = self._scaled(batch.vectors)
        return Lesson(features, batch.actions, places)

    def update(self, batch: Lesson) -> None:  # type: ignore[override]
        """One step towards what the teacher does, and towards telling where the object is."""
        imitation = mse_loss(self.explore(batch.features), batch.actions)
        place = mse_loss(self.place_head(batch.features), batch.places)
        [group] = self.actor.optimizer.param_groups
        # Smaller and smaller steps, down to none: what remains does not hang on the last batches.
        group["lr"] = self.lr_schedule(1) * (1 - self.num_timesteps / self._total_timesteps)
        self._flat.descend(imitation + self._place_weight * place, self.actor.optimizer)
        self.note("actor_loss", imitation)
        self.note("place_loss", place)

    def store(
        self,
        observation: Observation,
        actions: NDArray[np.float32],
        rewards: NDArray[np.float32],
        dones: NDArray[np.bool_],
        reached: Observation,
    ) -> None:
        """Keep what the teacher would have done, whatever was done."""
        super().store(observation, self._said, rewards, dones, reached)

    def _act(self) -> NDArray[np.float32]:
        known = self.env.batch.known  # type: ignore[union-attr]
        self._said, _ = self._teacher.predict(known, deterministic=True)
        if self.num_timesteps < self.learning_starts:
            return self._said
        if self.num_timesteps < self.learning_starts + self.n_envs:
            self.ep_success_buffer.clear()  # type: ignore[union-attr]  # those were the teacher's
        with torch.no_grad():
            seen = self.look(self._last_obs)  # type: ignore[arg-type]
            actions: NDArray[np.float32] = self.explore(seen).cpu().numpy()
        return actions

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        modules, others = super()._get_torch_save_params()
        return [*modules, "place_head"], others
