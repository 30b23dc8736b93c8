"""Speeds side by side: contestants take turns, so that what else the machine does hits all."""

import statistics
from collections.abc import Callable, Mapping

from robotics_rl.devices import device_name
from robotics_rl.progress import Progress
from robotics_rl.provenance import command_line, git_state, machine, utc_now
from robotics_rl.schemas import Benchmark
from robotics_rl.versions import gather_versions

Measure = Callable[[float], float]  # for about so many seconds → the value measured


def measure_in_turn(
    contestants: Mapping[str, Measure], rounds: int, seconds: float
) -> dict[str, list[float]]:
    """Measure each contestant once per round.

    Returns:
        Contestant → its values, one per round.
    """
    rows: dict[str, list[float]] = {name: [] for name in contestants}
    with Progress(rounds * len(contestants), "measurements") as progress:
        for number in range(rounds):
            for place, (name, measure) in enumerate(contestants.items(), 1):
                rows[name].append(measure(seconds))
                progress.update(number * len(contestants) + place)
    return rows


def benchmark(
    name: str,
    unit: str,
    rows: Mapping[str, list[float]],
    ratios: Mapping[str, tuple[str, str]],
    device: str = "cpu",
) -> Benchmark:
    """The document of values measured on this machine.

    Args:
        name: what was measured.
        unit: of the values.
        rows: contestant → its values.
        ratios: what → (contestant measured, contestant compared with).
        device: what learned.
    """
    medians = {contestant: statistics.median(values) for contestant, values in rows.items()}
    return Benchmark(
        name=name,
        created_at=utc_now(),
        command=command_line(),
        git=git_state(),
        device_name=device_name(device),
        versions=gather_versions(),
        unit=unit,
        rounds=max(map(len, rows.values())),
        rows=dict(rows),
        medians=medians,
        ratios={what: medians[one] / medians[other] for what, (one, other) in ratios.items()},
        **machine(),
    )
