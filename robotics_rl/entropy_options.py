"""How the entropy coefficient α of SAC may move: what ``--ent-coef`` says instead of a number."""

import math
from dataclasses import dataclass

from robotics_rl.errors import UsageError
from robotics_rl.options import option, positive, rate


def _target_entropy(value: float | str) -> str | None:
    fine = value == "auto" if isinstance(value, str) else math.isfinite(value)
    return None if fine else "must be a number, or auto"


@dataclass(frozen=True, kw_only=True)
class AutoEntropy:
    """α learned, so that the policy keeps a certain entropy (Haarnoja et al. 2018)."""

    target_entropy: float | str = option(
        "auto", "entropy that α aims at (auto: minus the number of actions)", _target_entropy
    )


@dataclass(frozen=True, kw_only=True)
class WatchedEntropy:
    """α that is kept in bounds, and told on the way."""

    ent_coef_min: float = option(0.01, "least α", positive)
    ent_coef_log_pct: float = option(10.0, "tell α after each of these percents", positive)


@dataclass(frozen=True, kw_only=True)
class FlooredEntropy(AutoEntropy, WatchedEntropy):
    """α learned, but never below a minimum."""


@dataclass(frozen=True, kw_only=True)
class BoundedEntropy(WatchedEntropy):
    """α that is set now and then, between two bounds."""

    ent_coef_max: float = option(0.3, "largest α", positive)
    ent_coef_check_freq: int = option(1_000, "environment steps between two settings", positive)


@dataclass(frozen=True, kw_only=True)
class ScheduledEntropy(BoundedEntropy):
    """α that stays at its maximum for a while, then falls linearly to its minimum."""

    ent_coef_warmup_frac: float = option(0.1, "share of the training at the maximum", rate)


@dataclass(frozen=True, kw_only=True)
class AdaptiveEntropy(BoundedEntropy):
    """α that rises while success is rarer than wanted, and falls while it is more frequent."""

    ent_coef_adaptive_start: float | None = option(
        None, "α at first (default: the largest)", positive
    )
    ent_coef_adaptive_target: float = option(0.2, "success rate wanted", rate)
    ent_coef_adaptive_tolerance: float = option(0.05, "distance from it that is ignored", rate)
    ent_coef_adaptive_rate: float = option(0.1, "share by which α changes", rate)
    ent_coef_adaptive_window: int = option(200, "episodes that the success rate is of", positive)
    ent_coef_adaptive_key: str = option("is_success", "what `info` calls success")

    @property
    def start(self) -> float:
        """α at first."""
        start = self.ent_coef_adaptive_start
        return self.ent_coef_max if start is None else start


EntropyOptions = AutoEntropy | WatchedEntropy
# what --ent-coef may say instead of a number → its settings
ENTROPY_MODES: dict[str, type[EntropyOptions]] = {
    "auto": AutoEntropy,
    "auto-floor": FlooredEntropy,
    "schedule": ScheduledEntropy,
    "adaptive": AdaptiveEntropy,
}


def entropy_coefficient(value: float | str) -> str | None:
    """A number, or the name of a mode."""
    known = isinstance(value, str) and value in ENTROPY_MODES
    fine = known or (not isinstance(value, str) and value >= 0 and math.isfinite(value))
    return None if fine else f"must be a number of at least 0, or {', '.join(ENTROPY_MODES)}"


def require_bounds(entropy: EntropyOptions | None) -> None:
    """Refuse bounds that leave α no place.

    Raises:
        UsageError: they do.
    """
    if not isinstance(entropy, BoundedEntropy):
        return
    low, high = entropy.ent_coef_min, entropy.ent_coef_max
    if low > high:
        raise UsageError(f"--ent-coef-min {low} is above --ent-coef-max {high}; swap them")
    if isinstance(entropy, AdaptiveEntropy) and not low <= entropy.start <= high:
        raise UsageError(
            f"--ent-coef-adaptive-start {entropy.start} is out of bounds; "
            f"choose between {low} and {high}"
        )
