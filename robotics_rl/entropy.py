"""How the entropy coefficient α of SAC moves where it is neither fixed nor learned freely.

Each mode acts on the α that the update reads, in either engine, and counts environment steps.
"""

import math
from abc import abstractmethod
from collections import deque
from collections.abc import Mapping
from typing import Any

import torch
from stable_baselines3 import SAC
from stable_baselines3.common.callbacks import BaseCallback
from tqdm import tqdm

from robotics_rl.callbacks import ended
from robotics_rl.config import TrainSettings
from robotics_rl.entropy_options import (
    AdaptiveEntropy,
    BoundedEntropy,
    FlooredEntropy,
    ScheduledEntropy,
    WatchedEntropy,
)
from robotics_rl.learners.sb3 import entropy_coefficient


class EntropyMode(BaseCallback):
    """Tells α on the way; a subclass moves it.

    Args:
        settings: of the mode.
        total_steps: environment steps of the whole training.
    """

    model: SAC

    def __init__(self, settings: WatchedEntropy, total_steps: int) -> None:
        super().__init__()
        self.total_steps = total_steps
        self._tell_every = total_steps * settings.ent_coef_log_pct / 100
        self._told = 0

    def state(self) -> dict[str, Any]:
        """What a resumed run needs beside the step count."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Counterpart of ``state``; called before training goes on."""

    def _on_training_start(self) -> None:
        self._told = self._tellings()

    def _on_step(self) -> bool:
        if self._tellings() > self._told:
            self._told = self._tellings()
            alpha, done = entropy_coefficient(self.model).item(), self.num_timesteps
            tqdm.write(f"entropy coefficient {alpha:.4g} after {done:,} steps")
        return True

    def _tellings(self) -> int:
        return math.floor(self.num_timesteps / self._tell_every)


class Floor(EntropyMode):
    """α is learned, and lifted whenever a step takes it below the minimum."""

    def __init__(self, settings: FlooredEntropy, total_steps: int) -> None:
        super().__init__(settings, total_steps)
        self._least = math.log(settings.ent_coef_min)

    def _on_training_start(self) -> None:
        super()._on_training_start()
        optimizer = self.model.ent_coef_optimizer
        assert optimizer is not None
        self._lift()
        optimizer.register_step_post_hook(self._lift)

    def _lift(self, *_: Any) -> None:
        log_alpha = self.model.log_ent_coef
        assert log_alpha is not None
        log_alpha.data.clamp_(min=self._least)


class BoundedMode(EntropyMode):
    """α is set every so many environment steps, between two rollouts.

    Args:
        settings: of the mode.
        total_steps: environment steps of the whole training.
        start: α at first.
    """

    def __init__(self, settings: BoundedEntropy, total_steps: int, start: float) -> None:
        super().__init__(settings, total_steps)
        self._low, self._high = settings.ent_coef_min, settings.ent_coef_max
        self._every, self._checks, self._alpha = settings.ent_coef_check_freq, 0, start

    @abstractmethod
    def next_alpha(self) -> float:
        """What α is to be from now on."""

    def state(self) -> dict[str, Any]:
        """α and the number of times it was set."""
        return {"alpha": self._alpha, "checks": self._checks}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Counterpart of ``state``."""
        self._alpha, self._checks = state["alpha"], state["checks"]

    def _on_training_start(self) -> None:
        super()._on_training_start()
        self._set()

    def _on_rollout_start(self) -> None:
        checks = self.num_timesteps // self._every
        if checks > self._checks:
            self._checks, self._alpha = checks, self.next_alpha()
            self._set()

    def _set(self) -> None:
        # A new tensor: the old one may still wait to be logged.
        self.model.ent_coef_tensor = torch.full_like(self.model.ent_coef_tensor, self._alpha)


class Schedule(BoundedMode):
    """α stays at its maximum for a while, then falls linearly."""

    def __init__(self, settings: ScheduledEntropy, total_steps: int) -> None:
        super().__init__(settings, total_steps, settings.ent_coef_max)
        self._warmup = settings.ent_coef_warmup_frac * total_steps

    def next_alpha(self) -> float:
        """By the step count alone."""
        left = (self.total_steps - self.num_timesteps) / max(self.total_steps - self._warmup, 1)
        return self._low + (self._high - self._low) * min(1.0, max(0.0, left))


class Adaptation(BoundedMode):
    """α rises while success is rarer than wanted, and falls while it is more frequent."""

    def __init__(self, settings: AdaptiveEntropy, total_steps: int) -> None:
        super().__init__(settings, total_steps, settings.start)
        self._settings = settings
        self._successes: deque[float] = deque(maxlen=settings.ent_coef_adaptive_window)

    def next_alpha(self) -> float:
        """A share more or less than before; as it is while no episode has ended."""
        if not self._successes:
            return self._alpha
        want = self._settings
        surplus = sum(self._successes) / len(self._successes) - want.ent_coef_adaptive_target
        if abs(surplus) <= want.ent_coef_adaptive_tolerance:
            return self._alpha
        change = math.copysign(want.ent_coef_adaptive_rate, -surplus)
        return min(self._high, max(self._low, self._alpha * (1 + change)))

    def state(self) -> dict[str, Any]:
        """The episodes that α is judged by, too."""
        return {**super().state(), "successes": list(self._successes)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Counterpart of ``state``."""
        super().restore(state)
        self._successes.extend(state["successes"])

    def _on_step(self) -> bool:
        key = self._settings.ent_coef_adaptive_key
        self._successes.extend(float(info[key]) for info in ended(self.locals))
        return super()._on_step()


def entropy_mode(settings: TrainSettings, total_steps: int) -> EntropyMode | None:
    """What moves α in this training; None where it is fixed, or learned freely."""
    match settings.entropy:
        case FlooredEntropy() as chosen:
            return Floor(chosen, total_steps)
        case ScheduledEntropy() as chosen:
            return Schedule(chosen, total_steps)
        case AdaptiveEntropy() as chosen:
            return Adaptation(chosen, total_steps)
    return None
