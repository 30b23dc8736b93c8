"""TD3 and DDPG: Stable-Baselines3's update (Fujimoto et al. 2018), with less work.

DDPG is TD3 with one critic, a policy update per critic update and no smoothing of target actions,
and Stable-Baselines3 writes it so, too.
"""

import torch
from stable_baselines3 import DDPG, TD3
from torch import Tensor

from robotics_rl.learners.networks import (
    FlatParameters,
    Network,
    forward,
    linear_layers,
    lowest,
    without_gradients,
)
from robotics_rl.learners.overlapped import Transitions, flat_adam
from robotics_rl.learners.vectors import FromVectors


class LeanTD3(FromVectors, TD3):
    """``stable_baselines3.TD3`` with a replay of episodes, learning while environments step."""

    def prepare(self) -> None:
        """Lay out actor, critics and their targets."""
        learning_rate = self.lr_schedule(1)
        self._flat_actor = flat_adam(self.actor, learning_rate)
        self._flat_critic = flat_adam(self.critic, learning_rate)
        self._flat_actor_target = FlatParameters(self.actor_target.parameters())
        self._flat_critic_target = FlatParameters(self.critic_target.parameters())
        self._actor, self._actor_target = (
            linear_layers(actor.mu[:-1])
            for actor in (self.actor, self.actor_target)  # less tanh
        )
        self.critics = [linear_layers(critic) for critic in self.critic.q_networks]
        self._fixed_first_critic = without_gradients(self.critics[0])
        self._critic_targets = [linear_layers(part) for part in self.critic_target.q_networks]

    def explore(self, inputs: Tensor) -> Tensor:
        """The policy's actions with Gaussian noise, within bounds."""
        assert self.action_noise is not None
        noise = torch.as_tensor(self.action_noise(), dtype=torch.float32, device=self.device)
        return (_act(self._actor, inputs) + noise).clamp(-1, 1)

    def update(self, batch: Transitions) -> None:
        """One step of the critics, and every ``policy_delay`` steps of everything else."""
        self._update_critics(batch)
        if (self._n_updates + 1) % self.policy_delay == 0:
            self._update_actor(batch)
            self._flat_critic_target.move_towards(self._flat_critic, self.tau)
            self._flat_actor_target.move_towards(self._flat_actor, self.tau)

    def _update_critics(self, batch: Transitions) -> None:
        with torch.no_grad():
            limit = self.target_noise_clip
            noise = torch.empty_like(batch.actions).normal_(0, self.target_policy_noise)
            next_actions = _act(self._actor_target, batch.next_inputs)
            next_actions = (next_actions + noise.clamp(-limit, limit)).clamp(-1, 1)
            next_values = lowest(
                self._critic_targets, torch.cat([batch.next_inputs, next_actions], 1)
            )
            # Fetch episodes are cut by their time limit and never end: every next state counts.
            wanted = batch.rewards + self.gamma * next_values
        loss = self.critic_loss(batch, wanted)
        self._flat_critic.descend(loss, self.critic.optimizer)
        self.note("critic_loss", loss)

    def _update_actor(self, batch: Transitions) -> None:
        actions = _act(self._actor, batch.inputs)
        loss = -lowest([self._fixed_first_critic], torch.cat([batch.inputs, actions], 1)).mean()
        self._flat_actor.descend(loss, self.actor.optimizer)
        self.note("actor_loss", loss)


class LeanDDPG(LeanTD3, DDPG):
    """``stable_baselines3.DDPG`` the same way."""


def _act(actor: Network, inputs: Tensor) -> Tensor:
    """The policy's actions (n, action) in (-1, 1)."""
    return torch.tanh(forward(actor, inputs).float())
