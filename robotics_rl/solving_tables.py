"""What trainings until a task was solved came to, as rows of a table."""

import statistics
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from robotics_rl.schemas import CONFIRMED
from robotics_rl.statistics import wilson_interval

Run = Mapping[str, Any]  # a ``SolvingRun``


def solving_rows(runs: Sequence[Run], *, timed: bool) -> list[list[str]]:
    """A header, then one row per task and variant; medians and ranges are over solved seeds.

    Args:
        runs: of all tasks.
        timed: whether seconds mean anything; without them ratios are of environment steps.
    """
    header = ["task", "what", "solved", "steps of the solved", "seconds", "ratio to the least"]
    rows = [[*header, "success on other episodes", "95% interval over them all"]]
    for env_id, of_task in groupby(sorted(runs, key=_place), key=lambda run: run["env_id"]):
        by_name = groupby(of_task, key=lambda run: run["name"])
        groups = {name: list(seeds) for name, seeds in by_name}
        cost = "solved_seconds" if timed else "solved_env_steps"
        medians = {name: _median(_solved(seeds, cost)) for name, seeds in groups.items()}
        least = min((value for value in medians.values() if value), default=None)
        for name, seeds in groups.items():
            rows.append([env_id, name, *_outcome(seeds), _ratio(medians[name], least)])
            rates = [run["confirmed_success_rate"] for run in seeds]
            rows[-1] += [spread(rates, ".2f"), _interval(rates)]
    seconds = header.index("seconds")
    return rows if timed else [[*row[:seconds], *row[seconds + 1 :]] for row in rows]


def spread(values: Sequence[float], form: str) -> str:
    """Median and range; nothing where there are no values."""
    if not values:
        return ""
    middle = format(statistics.median(values), form)
    if len(values) == 1:
        return middle
    return f"{middle} ({min(values):{form}} to {max(values):{form}})"


def _place(run: Run) -> tuple[str, str, int]:
    return run["env_id"], run["name"], run["seed"]


def _solved(seeds: Sequence[Run], cost: str) -> list[float]:
    return [run[cost] for run in seeds if run[cost] is not None]


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None


def _ratio(value: float | None, least: float | None) -> str:
    return f"{value / least:.2f}" if value and least else ""


def _outcome(seeds: Sequence[Run]) -> list[str]:
    """How many were solved, after how many steps and seconds."""
    steps = _solved(seeds, "solved_env_steps")
    return [
        f"{len(steps)} of {len(seeds)} seeds to {seeds[0]['target']:.0%}",
        spread(steps, ",.0f") or _given_up(seeds),
        spread(_solved(seeds, "solved_seconds"), ".1f"),
    ]


def _given_up(seeds: Sequence[Run]) -> str:
    ends = [run["examinations"][-1] for run in seeds]
    success = spread([end["success_rate"] for end in ends], ".2f")
    return f"given up at {ends[0]['env_steps']:,} with success {success}"


def _interval(rates: Sequence[float]) -> str:
    """Wilson's, of the success on the confirming episodes of all seeds."""
    n = len(CONFIRMED)
    low, high = wilson_interval(round(n * sum(rates)), n * len(rates))
    return f"{low:.2f} to {high:.2f}"
