"""Intervals for success rates and for means over training seeds."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

CONFIDENCE = 0.95  # of every interval


def wilson_interval(successes: int, n: int) -> tuple[float, float]:
    """Wilson score interval of a rate; stays within [0, 1] (Wilson 1927).

    Args:
        successes: number of successes.
        n: number of trials, at least 1.
    """
    interval = stats.binomtest(successes, n).proportion_ci(CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)


def student_t_half_width(values: Sequence[float]) -> float | None:
    """Half-width of the confidence interval of a mean over training seeds.

    With three seeds the multiplier is 4.30, not 1.96. Fewer than three values give None: the
    values themselves say more than an interval would.
    """
    n = len(values)
    if n < 3:
        return None
    multiplier = float(stats.t.ppf(0.5 + CONFIDENCE / 2, df=n - 1))
    return multiplier * float(np.std(values, ddof=1)) / math.sqrt(n)


def bootstrap_interval_of_mean(
    values: Sequence[float], n_resamples: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean over training seeds (Efron 1979)."""
    rng = np.random.default_rng(seed)
    resampled = rng.choice(np.asarray(values, dtype=float), size=(n_resamples, len(values)))
    return _percentiles(resampled.mean(axis=1))


def interquartile_mean(values: ArrayLike) -> float:
    """Mean of the middle half of the values (Agarwal et al. 2021, "rliable")."""
    return float(stats.trim_mean(np.asarray(values).ravel(), 0.25))


def bootstrap_interval_of_iqm(
    episodes_by_seed: Sequence[Sequence[float]], n_resamples: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """Bootstrap interval of the interquartile mean over all episodes, stratified by training seed.

    Episodes are drawn again within each training seed, and the seeds stay as they are. So it says
    how exactly *these* policies were measured, not what other seeds would come to: that is what
    Student's interval over seeds is for. (Agarwal et al. 2021 draw the seeds again, within tasks.)

    Args:
        episodes_by_seed: one row of episode values per training seed.
        n_resamples: bootstrap samples.
        seed: of the resampling.
    """
    rng = np.random.default_rng(seed)
    resampled = [
        rng.choice(np.asarray(row, dtype=float), size=(n_resamples, len(row)))
        for row in episodes_by_seed
    ]
    return _percentiles(stats.trim_mean(np.concatenate(resampled, axis=1), 0.25, axis=1))


def _percentiles(resampled: NDArray[np.float64]) -> tuple[float, float]:
    """What lies in the middle of the resampled values, as much of it as is asked for."""
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(resampled, [tail, 100 - tail])
    return float(low), float(high)
