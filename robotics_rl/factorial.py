"""What a full factorial sweep says: every setting, every factor, every pair of factors."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, product
from typing import Any

import numpy as np

from robotics_rl.provenance import command_line, git_state, utc_now
from robotics_rl.schemas import FactorLevel, FactorPair, SweepAnalysis, SweepSetting
from robotics_rl.statistics import bootstrap_interval_of_mean, student_t_half_width
from robotics_rl.versions import gather_versions

Factors = Mapping[str, Sequence[Any]]  # name → levels


def settings_of(factors: Factors) -> list[dict[str, Any]]:
    """Every combination of levels."""
    return [dict(zip(factors, levels, strict=True)) for levels in product(*factors.values())]


def analyze(
    env_id: str,
    total_steps: int,
    runs: Sequence[Mapping[str, Any]],
    factors: Factors,
    source: str = "",
) -> SweepAnalysis:
    """Rank the settings by success, and average over what else was varied.

    Args:
        env_id: what was trained on.
        total_steps: for how long.
        runs: each with its ``parameters``, ``seed`` and ``success_rate``.
        factors: what was varied; levels that no run has are left out.
        source: the file of the runs.
    """
    even = _even(runs)
    return SweepAnalysis(
        env_id=env_id,
        n_runs=len(runs),
        total_steps=total_steps,
        factors={name: list(levels) for name, levels in factors.items()},
        ranking=sorted(_ranking(runs, factors), key=_rank),
        marginal_means=[
            FactorLevel(factor=name, level=level, n_runs=len(values), mean=float(np.mean(values)))
            for name, levels in factors.items()
            for level in levels
            if (values := _rates(even, {name: level}))
        ],
        interactions=[
            FactorPair(factors=pair, levels=levels, n_runs=len(values), mean=float(np.mean(values)))
            for pair in combinations(factors, 2)
            for levels in product(*(factors[name] for name in pair))
            if (values := _rates(even, dict(zip(pair, levels, strict=True))))
        ],
        source=source,
        created_at=utc_now(),
        command=command_line(),
        git=git_state(),
        versions=gather_versions(),
    )


def left_out(runs: Sequence[Mapping[str, Any]], factors: Factors) -> Iterator[str]:
    """What an unfinished sweep cannot say, a line each."""
    settings = settings_of(factors)
    missing = sum(not _rates(runs, one) for one in settings)
    if missing:
        yield f"{missing} of {len(settings)} settings have no run yet: means are over the others"
    if not (shared := _shared_seeds(runs)):
        yield "no seed was run with every setting: means over settings are of other seeds each"
    elif seeds := sorted({run["seed"] for run in runs} - shared):
        named = ", ".join(map(str, seeds))
        yield f"seeds that not every setting has are left out of means over settings: {named}"


def _even(runs: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The runs with seeds that every setting has, so that no mean is of luckier seeds; or all."""
    shared = _shared_seeds(runs)
    return [run for run in runs if run["seed"] in shared or not shared]


def _shared_seeds(runs: Sequence[Mapping[str, Any]]) -> set[int]:
    by_setting: dict[str, set[int]] = {}
    for run in runs:
        by_setting.setdefault(repr(sorted(run["parameters"].items())), set()).add(run["seed"])
    return set.intersection(*by_setting.values())


def _rank(setting: SweepSetting) -> tuple[float, float]:
    """Best first, and of equals the one that varies least; of one seed nobody knows."""
    return -setting.mean, math.inf if setting.sd is None else setting.sd


def summary_of(parameters: Mapping[str, Any], runs: Sequence[Mapping[str, Any]]) -> SweepSetting:
    """Success of the runs with these levels; there must be one."""
    values = _rates(runs, parameters)
    return SweepSetting(
        parameters=dict(parameters),
        seeds=[run["seed"] for run in runs if _is_of(run, parameters)],
        mean=float(np.mean(values)),
        sd=float(np.std(values, ddof=1)) if len(values) > 1 else None,
        lowest=min(values),
        highest=max(values),
        t_half_width=student_t_half_width(values),
        bootstrap_ci95=bootstrap_interval_of_mean(values) if len(values) > 2 else None,
    )


def _ranking(runs: Sequence[Mapping[str, Any]], factors: Factors) -> list[SweepSetting]:
    settings = settings_of(factors)
    return [summary_of(setting, runs) for setting in settings if _rates(runs, setting)]


def _rates(runs: Sequence[Mapping[str, Any]], levels: Mapping[str, Any]) -> list[float]:
    return [float(run["success_rate"]) for run in runs if _is_of(run, levels)]


def _is_of(run: Mapping[str, Any], levels: Mapping[str, Any]) -> bool:
    return all(run["parameters"].get(name) == level for name, level in levels.items())
