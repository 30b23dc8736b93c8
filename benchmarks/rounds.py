"""Measuring contestants in turn, round after round, so that what else the machine does hits all."""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from robotics_rl import artifacts, cli, rendering
from robotics_rl.progress import Progress
from robotics_rl.provenance import command_line, git_state, machine, utc_now
from robotics_rl.schemas import Benchmark
from robotics_rl.versions import gather_versions

FOLDER = Path("results", "benchmarks")

Measure = Callable[[float], float]  # for about so many seconds → the value measured


@dataclass(frozen=True)
class Race:
    """A benchmark: who takes part, and what is compared with what."""

    script: str  # environments: benchmarks/environments.py writes environments.json
    story: str
    name: str
    unit: str
    contestants: Callable[[], Iterable[tuple[str, Measure]]]
    ratios: Mapping[str, tuple[str, str]]  # what → (measured, compared with)
    seconds: float = 3.0  # per measurement

    @property
    def output(self) -> Path:
        """The JSON."""
        return FOLDER / f"{self.script}.json"

    def main(self, argv: Sequence[str]) -> int:
        """Measure, write, print."""
        parser = cli.Parser(prog=f"benchmarks/{self.script}.py", description=self.story)
        seconds_help = f"per measurement (default: {self.seconds:g})"
        parser.add_argument("--rounds", type=int, default=7, help="rounds (default: 7)")
        parser.add_argument("--seconds", type=float, default=self.seconds, help=seconds_help)
        flags = parser.parse_args(argv)
        rendering.render_nothing()
        from robotics_rl.devices import device_name

        rows = self._measure(flags.rounds, flags.seconds)
        medians = {name: statistics.median(values) for name, values in rows.items()}
        result = Benchmark(
            name=self.name,
            created_at=utc_now(),
            command=command_line(),
            git=git_state(),
            device_name=device_name("cpu"),
            versions=gather_versions(),
            unit=self.unit,
            rounds=flags.rounds,
            rows=rows,
            medians=medians,
            ratios={
                name: medians[one] / medians[other] for name, (one, other) in self.ratios.items()
            },
            **machine(),
        )
        artifacts.write_json(self.output, result)
        print(table(result))
        print(f"OK: wrote {self.output}")
        return 0

    def _measure(self, rounds: int, seconds: float) -> dict[str, list[float]]:
        rows: dict[str, list[float]] = {}
        contestants = dict(self.contestants())
        with Progress(rounds * len(contestants), "measurements") as progress:
            for number in range(rounds):
                for place, (name, measure) in enumerate(contestants.items(), 1):
                    rows.setdefault(name, []).append(measure(seconds))
                    progress.update(number * len(contestants) + place)
        return rows


def table(result: Benchmark) -> str:
    """Medians with their range, then the ratios."""
    lines = [
        f"{result.name}; {result.unit}, median of {result.rounds} rounds, {result.cpu_cores} cores"
    ]
    width = max(map(len, result.rows))
    for name, values in result.rows.items():
        low, high = (f"{value:,.4g}" for value in (min(values), max(values)))
        lines.append(f"  {name:<{width}}  {result.medians[name]:>8,.4g}  ({low} to {high})")
    return "\n".join(
        [*lines, *(f"  {ratio:5.2f}  {name}" for name, ratio in result.ratios.items())]
    )
