"""Soft actor-critic: Stable-Baselines3's update (Haarnoja et al. 2018), with less work.

From equal weights, batch and noise one update gives its numbers. What is left out changes none of
them: gradients that nobody reads, and operations on every parameter by itself.
"""

from typing import Any

import torch
from stable_baselines3 import SAC
from torch import Tensor

from robotics_rl.learners.networks import (
    FlatParameters,
    SquashedGaussian,
    linear_layers,
    lowest,
    without_gradients,
)
from robotics_rl.learners.overlapped import Overlapped, Transitions, flat_adam
from robotics_rl.learners.sb3 import entropy_coefficient
from robotics_rl.learners.vectors import FromVectors


class SACUpdate(Overlapped, SAC):
    """The update, whatever the networks see.

    Args:
        policy_delay: gradient steps of the critics per step of the policy and of α (Fujimoto et
            al. 2018); a step of the policy costs as much as one of theirs.
        settings: as for ``Overlapped``.
    """

    def __init__(self, *, policy_delay: int = 1, **settings: Any) -> None:
        super().__init__(**settings)
        self._policy_delay = policy_delay

    def prepare(self) -> None:
        """Lay out actor, critics and their targets."""
        learning_rate = self.lr_schedule(1)
        self._flat_actor = flat_adam(self.actor, learning_rate)
        self._flat_critic = flat_adam(self.critic, learning_rate)
        self._flat_target = FlatParameters(self.critic_target.parameters())
        self._gaussian = SquashedGaussian(self.actor)
        self.critics = [linear_layers(critic) for critic in self.critic.q_networks]
        self._fixed_critics = [without_gradients(critic) for critic in self.critics]
        self._targets = [linear_layers(critic) for critic in self.critic_target.q_networks]

    def explore(self, inputs: Tensor) -> Tensor:
        """A sample of the policy."""
        return self._gaussian.act(inputs)

    def update(self, batch: Transitions) -> None:
        """One step of the critics and the targets, and of the policy and α when it is due."""
        alpha = entropy_coefficient(self)
        if (self._n_updates + 1) % self._policy_delay == 0:
            # First, as Stable-Baselines3 does: noise is drawn in the same order.
            actions, log_prob = self._gaussian.sample(batch.inputs)
            self._update_alpha(log_prob.detach())
            self._update_critics(batch, alpha)
            self._update_actor(batch, actions, log_prob, alpha)
        else:
            self._update_critics(batch, alpha)
        self._flat_target.move_towards(self._flat_critic, self.tau)
        self.note("ent_coef", alpha.reshape(()))

    def _update_alpha(self, log_prob: Tensor) -> None:
        if self.ent_coef_optimizer is None:
            return
        assert self.log_ent_coef is not None
        assert isinstance(self.target_entropy, float)
        loss = -(self.log_ent_coef * (log_prob + self.target_entropy)).mean()
        self.ent_coef_optimizer.zero_grad()
        loss.backward()
        self.ent_coef_optimizer.step()
        self.note("ent_coef_loss", loss)

    def _update_critics(self, batch: Transitions, alpha: Tensor) -> None:
        with torch.no_grad():
            next_actions, next_log_prob = self._gaussian.sample(batch.next_inputs)
            next_values = lowest(self._targets, torch.cat([batch.target_inputs, next_actions], 1))
            # Fetch episodes are cut by their time limit and never end: every next state counts.
            wanted = batch.rewards + self.gamma * (next_values - alpha * next_log_prob)
        loss = 0.5 * self.critic_loss(batch, wanted)
        self._flat_critic.descend(loss, self.critic.optimizer)
        self.note("critic_loss", loss)

    def _update_actor(
        self, batch: Transitions, actions: Tensor, log_prob: Tensor, alpha: Tensor
    ) -> None:
        # Which action is worth most, not which picture: the critics' eyes learn nothing here.
        seen = torch.cat([batch.critic_inputs.detach(), actions], 1)
        values = lowest(self._fixed_critics, seen)
        loss = (alpha * log_prob - values).mean()
        self._flat_actor.descend(loss, self.actor.optimizer)
        self.note("actor_loss", loss)


class LeanSAC(FromVectors, SACUpdate):
    """``stable_baselines3.SAC`` with a replay of episodes, learning while environments step."""
