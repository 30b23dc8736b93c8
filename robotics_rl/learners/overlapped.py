"""Learning and stepping at the same time: what our SAC, TD3 and DDPG share.

The environments step in threads of their own while the learner takes its gradient steps on what
came before. So the policy that acts is one vector step older than in Stable-Baselines3. While they
are apart the two share neither random stream nor buffer: the outcome does not depend on timing.
"""

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.type_aliases import MaybeCallback
from torch import Tensor
from torch.nn import functional

from robotics_rl.learners.networks import FlatParameters, Network, forward
from robotics_rl.learners.normalizer import InputNormalizer
from robotics_rl.replay.hindsight import HindsightDraws

Observation = Mapping[str, NDArray[Any]]


class Transitions(NamedTuple):
    """A batch on the learner's device, as networks see it; first axis the batch.

    Actor, critics and target critics may each have an encoder, so each has inputs of its own.
    """

    inputs: Tensor  # of the actor
    critic_inputs: Tensor
    actions: Tensor
    rewards: Tensor
    next_inputs: Tensor  # of the actor
    target_inputs: Tensor  # of the critics' targets, after the step

    def part(self, index: int, count: int) -> "Transitions":
        """One of ``count`` batches, each with its share of every kind of transition."""
        return Transitions(*(tensor[index::count] for tensor in self))


class Overlapped(OffPolicyAlgorithm):
    """Mixin for Stable-Baselines3's algorithms on goal environments whose episodes end together.

    Args:
        replay: where transitions go and batches come from.
        normalizer: scales numbers that all networks see.
        random_action_prob: probability of a uniformly random action while collecting.
        synchronous: step and learn in turns, for debugging.
        bf16: compute in bfloat16 where torch's autocast would.
        settings: what the Stable-Baselines3 class takes.
    """

    replay_buffer: Any  # ``HindsightDraws`` with the store that suits the observations
    critics: Sequence[Network]

    def __init__(
        self,
        *,
        replay: HindsightDraws,
        normalizer: InputNormalizer,
        random_action_prob: float = 0.0,
        synchronous: bool = False,
        bf16: bool = False,
        **settings: Any,
    ) -> None:
        super().__init__(**settings, _init_setup_model=False)  # type: ignore[call-arg]
        self.replay_buffer = replay  # before the set-up, which would make one
        self._setup_model()
        self.normalizer = normalizer.to(self.device)
        self._random_action_prob = random_action_prob
        self._synchronous = synchronous
        self._bf16 = bf16
        self._learns_after = self.learning_starts  # environment steps
        self._losses: dict[str, list[Tensor]] = {}
        self.prepare()

    @abstractmethod
    def prepare(self) -> None:
        """Lay out the parameters of the networks that were just set up."""

    @abstractmethod
    def explore(self, inputs: Tensor) -> Tensor:
        """Actions (n_envs, action) to collect with."""

    @abstractmethod
    def look(self, observation: Observation) -> Tensor:
        """What the actor sees of the environments: (n_envs, inputs)."""

    @abstractmethod
    def store(
        self,
        observation: Observation,
        actions: NDArray[np.float32],
        rewards: NDArray[np.float32],
        dones: NDArray[np.bool_],
        reached: Observation,
    ) -> None:
        """Keep one step of every environment; ``reached`` is before new episodes began."""

    @abstractmethod
    def batches(self, count: int) -> Iterable[Any]:
        """Batches to learn from, as ``see`` takes them."""

    def see(self, batch: Any) -> Transitions:
        """Inputs of the networks for one of the ``batches``; gradients flow back into encoders."""
        seen: Transitions = batch
        return seen

    @abstractmethod
    def update(self, batch: Transitions) -> None:
        """Take one gradient step of everything."""

    def values(self, batch: Transitions) -> list[Tensor]:
        """What each critic says of the actions taken: (n,) each."""
        seen = torch.cat([batch.critic_inputs, batch.actions], 1)
        return [forward(critic, seen).squeeze(1).float() for critic in self.critics]

    def critic_loss(self, batch: Transitions, wanted: Tensor) -> Tensor:
        """The critics' mean squared errors, summed; wanted: (n,)."""
        errors = [functional.mse_loss(value, wanted) for value in self.values(batch)]
        return torch.stack(errors).sum()

    def refill(self) -> None:
        """Collect as much as before the first gradient step: what there was to draw is lost."""
        self._learns_after = max(self._learns_after, self.num_timesteps + self.learning_starts)

    def learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 4,
        tb_log_name: str = "run",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> Self:
        """Train for a number of environment steps; arguments as in Stable-Baselines3."""
        total_timesteps, watcher = self._setup_learn(
            total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar
        )
        if reset_num_timesteps:
            self.replay_buffer.store.drop_running()  # the environments began new episodes
        watcher.on_training_start(locals(), globals())
        while self.num_timesteps < total_timesteps and self._rollout(watcher, log_interval):
            pass
        watcher.on_training_end()
        return self

    def _rollout(self, watcher: BaseCallback, log_interval: int) -> bool:
        """Collect as long as one training waits for, and train; False to stop."""
        watcher.on_rollout_start()
        n_steps = self.train_freq.frequency  # type: ignore[union-attr]
        per_rollout = n_steps * self.n_envs
        for step in range(n_steps):
            actions = self._act()
            self.env.step_async(actions)  # type: ignore[union-attr]
            if step == 0 and not self._synchronous:
                self._train_if_due(self.num_timesteps + per_rollout, per_rollout)
            finished = self._take(actions, watcher)
            if not watcher.on_step():
                return False
            if finished:
                self._count_episodes(log_interval)
        if self._synchronous:
            self._train_if_due(self.num_timesteps, per_rollout)
        watcher.on_rollout_end()
        return True

    def _train_if_due(self, timesteps: int, per_rollout: int) -> None:
        if timesteps > self._learns_after and self.replay_buffer.ready:
            self.train(self.gradient_steps if self.gradient_steps >= 0 else per_rollout)

    def train(self, gradient_steps: int, batch_size: int = 0) -> None:
        """Take gradient steps; the batch size is the model's own."""
        before, self._losses = self._losses, {}
        for batch in self.batches(gradient_steps):
            self.step(batch)
            self._n_updates += 1
        self._losses = before | self._losses  # a policy that waited keeps its last loss

    def step(self, batch: Any) -> None:
        """Take one gradient step of everything on one of the ``batches``."""
        with self.autocast():
            self.update(self.see(batch))

    def autocast(self) -> torch.autocast:
        """Bfloat16 where it is enough, if that was asked for."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self._bf16)

    def note(self, name: str, value: Tensor) -> None:
        """Log a loss; it is read from the device only by ``record_losses``."""
        self._losses.setdefault(name, []).append(value.detach())

    def take_losses(self) -> dict[str, float]:
        """Mean of each loss noted since the last time."""
        means = {name: torch.stack(values).mean().item() for name, values in self._losses.items()}
        self._losses = {}
        return means

    def record_losses(self) -> None:
        """Hand what was noted to the logger."""
        for name, mean in self.take_losses().items():
            self.logger.record(f"train/{name}", mean)

    def dump_logs(self) -> None:
        """Write log data, the learner's included."""
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.record_losses()
        moved = self.replay_buffer.moved_rate(self._stats_window_size)
        if moved is not None:
            self.logger.record("rollout/goal_moved_rate", moved)
        super().dump_logs()

    def close(self) -> None:
        """Let another run have what the replay keeps on disk."""
        self.replay_buffer.store.close()

    def _act(self) -> NDArray[np.float32]:
        """Actions for the observations at hand; random ones until learning starts."""
        rng, size = self.action_space.np_random, (self.n_envs, *self.action_space.shape)  # type: ignore[misc]
        random = rng.uniform(-1, 1, size).astype(np.float32)
        if self.num_timesteps < self.learning_starts:
            return random
        with torch.no_grad():
            seen = self.look(self._last_obs)  # type: ignore[arg-type]
            actions: NDArray[np.float32] = self.explore(seen).cpu().numpy()
        chosen = rng.random(self.n_envs) < self._random_action_prob
        return np.where(chosen[:, None], random, actions)

    def _take(self, actions: NDArray[np.float32], watcher: BaseCallback) -> bool:
        """Wait for the environments, and store where the actions led; True if episodes ended."""
        observation, rewards, dones, infos = self.env.step_wait()  # type: ignore[union-attr]
        watcher.update_locals({"dones": dones, "infos": infos})
        self.num_timesteps += self.n_envs
        self._update_info_buffer(infos, dones)
        assert isinstance(observation, dict)
        assert isinstance(self._last_obs, dict)
        reached = _before_reset(observation, infos) if dones.all() else observation
        finished = bool(dones.any())
        assert finished == dones.all(), "episodes must end together"
        self.store(self._last_obs, actions, rewards, dones, reached)
        self._last_obs = observation
        return finished

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        modules, others = super()._get_torch_save_params()
        return [*modules, "normalizer"], others

    def _count_episodes(self, log_interval: int) -> None:
        """Count the episodes just finished, and log every ``log_interval`` of them."""
        before = self._episode_num
        self._episode_num += self.n_envs
        if before // log_interval < self._episode_num // log_interval:
            self.dump_logs()


def flat_adam(module: Any, learning_rate: float) -> FlatParameters:
    """Lay out what a module's optimizer moves, and give it one of all of that at once."""
    groups = module.optimizer.param_groups
    flat = FlatParameters(part for group in groups for part in group["params"])
    module.optimizer = flat.adam(learning_rate)
    return flat


def _before_reset(
    observation: Mapping[str, Any], infos: list[dict[str, Any]]
) -> dict[str, NDArray[Any]]:
    """Where finished episodes ended."""
    ends = [info["terminal_observation"] for info in infos]
    return {name: np.stack([end[name] for end in ends]) for name in observation}
