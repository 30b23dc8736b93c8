"""Soft actor-critic: Stable-Baselines3's update (Haarnoja et al. 2018), with less work.

From equal weights, batch and noise one update gives its numbers. What is left out changes none of
them: gradients that nobody reads, and operations on every parameter by itself.
"""

import torch
from stable_baselines3 import SAC
from torch import Tensor
from torch.nn import functional

from robotics_rl.learners.networks import (
    FlatParameters,
    SquashedGaussian,
    linear_layers,
    lowest,
    without_gradients,
)
from robotics_rl.learners.overlapped import Overlapped, Transitions, flat_adam


class LeanSAC(Overlapped, SAC):
    """``stable_baselines3.SAC`` with a replay of episodes, learning while environments step."""

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
        """One step of the entropy coefficient, the critics, the actor, and the targets."""
        actions, log_prob = self._gaussian.sample(batch.inputs)
        alpha = self._temperature(log_prob.detach())
        self._update_critics(batch, alpha)
        self._update_actor(batch, actions, log_prob, alpha)
        self._flat_target.move_towards(self._flat_critic, self.tau)

    def _temperature(self, log_prob: Tensor) -> Tensor:
        """The entropy coefficient α before this step, and a step of it where it is learned."""
        if self.ent_coef_optimizer is None:
            alpha = self.ent_coef_tensor
        else:
            assert self.log_ent_coef is not None
            assert isinstance(self.target_entropy, float)
            alpha = self.log_ent_coef.detach().exp()
            loss = -(self.log_ent_coef * (log_prob + self.target_entropy)).mean()
            self.ent_coef_optimizer.zero_grad()
            loss.backward()
            self.ent_coef_optimizer.step()
            self.note("ent_coef_loss", loss)
        self.note("ent_coef", alpha.reshape(()))
        return alpha

    def _update_critics(self, batch: Transitions, alpha: Tensor) -> None:
        with torch.no_grad():
            next_actions, next_log_prob = self._gaussian.sample(batch.next_inputs)
            next_values = lowest(self._targets, torch.cat([batch.next_inputs, next_actions], 1))
            # Fetch episodes are cut by their time limit and never end: every next state counts.
            wanted = batch.rewards + self.gamma * (next_values - alpha * next_log_prob)
        loss = (
            0.5
            * torch.stack(
                [functional.mse_loss(value, wanted) for value in self.values(batch)]
            ).sum()
        )
        self._flat_critic.descend(loss, self.critic.optimizer)
        self.note("critic_loss", loss)

    def _update_actor(
        self, batch: Transitions, actions: Tensor, log_prob: Tensor, alpha: Tensor
    ) -> None:
        values = lowest(self._fixed_critics, torch.cat([batch.inputs, actions], 1))
        loss = (alpha * log_prob - values).mean()
        self._flat_actor.descend(loss, self.actor.optimizer)
        self.note("actor_loss", loss)
