"""A benchmark of contestants that take turns, as a command."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from robotics_rl import artifacts, cli, rendering, reporting
from robotics_rl.errors import UsageError

if TYPE_CHECKING:
    from robotics_rl.benchmarking import Measure

FOLDER = Path("results", "benchmarks")


@dataclass(frozen=True)
class Race:
    """A benchmark: who takes part, and what is compared with what."""

    script: str  # environments: benchmarks/environments.py writes environments.json
    story: str
    name: str
    unit: str
    contestants: Callable[[], Iterable[tuple[str, "Measure"]]]
    ratios: Mapping[str, tuple[str, str]]  # what → (measured, compared with)
    seconds: float = 3.0  # per measurement

    def main(self, argv: Sequence[str]) -> int:
        """Measure, write, print."""
        parser = cli.Parser(prog=f"benchmarks/{self.script}.py", description=self.story)
        seconds_help = f"per measurement (default: {self.seconds:g})"
        parser.add_argument("--rounds", type=int, default=7, help="rounds (default: 7)")
        parser.add_argument("--seconds", type=float, default=self.seconds, help=seconds_help)
        flags = parser.parse_args(argv)
        if flags.rounds < 1 or flags.seconds <= 0:
            raise UsageError("nothing is measured; give --rounds of 1 or more, --seconds above 0")
        rendering.render_nothing()
        from robotics_rl.benchmarking import benchmark, measure_in_turn  # loads torch

        rows = measure_in_turn(dict(self.contestants()), flags.rounds, flags.seconds)
        result = benchmark(self.name, self.unit, rows, self.ratios)
        output = FOLDER / f"{self.script}.json"
        artifacts.write_json(output, result)
        print(reporting.benchmark_table(result))
        print(f"OK: wrote {output}")
        return 0
