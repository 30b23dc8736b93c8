"""A benchmark of contestants that take turns, as a command."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from robotics_rl import artifacts, cli, options, rendering, reporting
from robotics_rl.errors import UsageError

if TYPE_CHECKING:
    from robotics_rl.benchmarking import Measure

ROUNDS = 7


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
    draws: bool = False

    def main(self, argv: Sequence[str]) -> int:
        """Measure, print, write.

        A shorter measurement replaces no published one: it is written where ``--out`` says, if
        anywhere.
        """
        prog = f"benchmarks/{self.script}.py"
        example = f"bash docker/dev.sh python {prog} --rounds 3 --seconds 1"
        parser = cli.Parser(
            prog=prog, description=self.story, epilog=f"example, a quick look:\n  {example}"
        )
        seconds_help = f"per measurement (default: {self.seconds:g})"
        parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"(default: {ROUNDS})")
        parser.add_argument("--seconds", type=float, default=self.seconds, help=seconds_help)
        parser.add_argument("--out", type=Path, help=f"JSON (default: {self._published('cpu')})")
        parser.set_defaults(device="cpu")
        if self.learns:
            parser.add_argument("--device", help="cpu, cuda or cuda:N (default: cpu)")
        flags = parser.parse_args(argv)
        if flags.rounds < 1 or options.positive(flags.seconds):
            raise UsageError("nothing is measured; give --rounds of 1 or more, --seconds above 0")
        if self.draws:
            rendering.choose_backend()
        else:
            rendering.render_nothing()
        from robotics_rl.benchmarking import benchmark, measure_in_turn  # loads torch
        from robotics_rl.devices import resolve_device

        device = resolve_device(flags.device)
        rows = measure_in_turn(dict(self.contestants(device)), flags.rounds, flags.seconds)
        result = benchmark(self.name, self.unit, rows, self.ratios, device)
        print(reporting.benchmark_table(result))
        shorter = flags.rounds < ROUNDS or flags.seconds < self.seconds
        if shorter and flags.out is None:
            print("nothing is written of so short a measurement; give --out FILE to keep it")
            return 0
        output = flags.out or self._published(device)
        artifacts.write_json(output, result)
        print(f"OK: wrote {output}")
        return 0

    def _published(self, device: str) -> Path:
        return artifacts.benchmark_path(self.script, device)
