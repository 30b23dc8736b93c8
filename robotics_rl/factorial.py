"""What a full factorial sweep says: every setting, every factor, every pair of factors."""

from collections.abc import Mapping, Sequence
from itertools import combinations, product
from typing import Any

import numpy as np

from robotics_rl.schemas import FactorLevel, FactorPair, SweepAnalysis, SweepSetting
from robotics_rl.statistics import bootstrap_interval_of_mean, student_t_half_width

Factors = Mapping[str, Sequence[Any]]  # name → levels


def settings_of(factors: Factors) -> list[dict[str, Any]]:
    """Every combination of levels."""
    return [dict(zip(factors, levels, strict=True)) for levels in product(*factors.values())]


def analyze(
    env_id: str, total_steps: int, runs: Sequence[Mapping[str, Any]], factors: Factors
) -> SweepAnalysis:
    """Rank the settings by success, and average over what else was varied.

    Args:
        env_id: what was trained on.
        total_steps: for how long.
        runs: each with its ``parameters``, ``seed`` and ``success_rate``.
        factors: what was varied; levels that no run has are left out.
    """
    return SweepAnalysis(
        env_id=env_id,
        n_runs=len(runs),
        total_steps=total_steps,
        factors={name: list(levels) for name, levels in factors.items()},
        ranking=sorted(_ranking(runs, factors), key=lambda one: (-one.mean, one.sd)),
        marginal_means=[
            FactorLevel(factor=name, level=level, n_runs=len(values), mean=float(np.mean(values)))
            for name, levels in factors.items()
            for level in levels
            if (values := _rates(runs, {name: level}))
        ],
        interactions=[
            FactorPair(factors=pair, levels=levels, n_runs=len(values), mean=float(np.mean(values)))
            for pair in combinations(factors, 2)
            for levels in product(*(factors[name] for name in pair))
            if (values := _rates(runs, dict(zip(pair, levels, strict=True))))
        ],
    )


def over_seeds(parameters: Mapping[str, Any], runs: Sequence[Mapping[str, Any]]) -> SweepSetting:
    """Success of the runs with these levels; there must be one."""
    values = _rates(runs, parameters)
    return SweepSetting(
        parameters=dict(parameters),
        seeds=[run["seed"] for run in runs if _is_of(run, parameters)],
        mean=float(np.mean(values)),
        sd=float(np.std(values, ddof=1)) if len(values) > 1 else 0.0,
        lowest=min(values),
        highest=max(values),
        t_half_width=student_t_half_width(values),
        bootstrap_ci95=bootstrap_interval_of_mean(values) if len(values) > 2 else None,
    )


def _ranking(runs: Sequence[Mapping[str, Any]], factors: Factors) -> list[SweepSetting]:
    settings = settings_of(factors)
    return [over_seeds(setting, runs) for setting in settings if _rates(runs, setting)]


def _rates(runs: Sequence[Mapping[str, Any]], levels: Mapping[str, Any]) -> list[float]:
    return [float(run["success_rate"]) for run in runs if _is_of(run, levels)]


def _is_of(run: Mapping[str, Any], levels: Mapping[str, Any]) -> bool:
    return all(run["parameters"].get(name) == level for name, level in levels.items())
