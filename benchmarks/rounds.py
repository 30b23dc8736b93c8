"""A benchmark of contestants that take turns, as a command."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from robotics_rl import artifacts, cli, rendering, reporting
from robotics_rl.errors import UsageError

if TYPE_CHECKING:
    from robotics_rl.benchmarking import Measure


@dataclass(frozen=True)
class Race:
    """A benchmark: who takes part, and what is compared with what."""

    script: str  # environments: benchmarks/environments.py writes environments.json
    story: str
    name: str
    unit: str
    contestants: Callable[[str], Iterable[tuple[str, "Measure"]]]  # given the device
    ratios: Mapping[str, tuple[str, str]]  # what → (measured, compared with)
    seconds: float = 3.0  # per measurement
    learns: bool = True  # on a device that may be chosen

    def main(self, argv: Sequence[str]) -> int:
        """Measure, write, print."""
        parser = cli.Parser(prog=f"benchmarks/{self.script}.py", description=self.story)
        seconds_help = f"per measurement (default: {self.seconds:g})"
        parser.add_argument("--rounds", type=int, default=7, help="rounds (default: 7)")
        parser.add_argument("--seconds", type=float, default=self.seconds, help=seconds_help)
        parser.set_defaults(device="cpu")
        if self.learns:
            parser.add_argument("--device", help="cpu, cuda or cuda:N (default: cpu)")
        flags = parser.parse_args(argv)
        if flags.rounds < 1 or flags.seconds <= 0:
            raise UsageError("nothing is measured; give --rounds of 1 or more, --seconds above 0")
        rendering.render_nothing()
        from robotics_rl.benchmarking import benchmark, measure_in_turn  # loads torch
        from robotics_rl.devices import resolve_device

        device = resolve_device(flags.device)
        rows = measure_in_turn(dict(self.contestants(device)), flags.rounds, flags.seconds)
        result = benchmark(self.name, self.unit, rows, self.ratios, device)
        output = artifacts.benchmark_path(self.script, device)
        artifacts.write_json(output, result)
        print(reporting.benchmark_table(result))
        print(f"OK: wrote {output}")
        return 0
