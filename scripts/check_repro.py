"""Plays every published policy again, and tells how far that is from what was published.

`--retrain` trains one short setting twice instead, and compares the outcomes bit by bit.
"""

import io
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, redirect_stdout
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from pixel_policies import make_vision

from robotics_rl import artifacts, cli, commands, options, reporting
from robotics_rl.artifacts import RunPaths
from robotics_rl.campaign import ROOT
from robotics_rl.config import EvalSettings
from robotics_rl.errors import UsageError
from robotics_rl.jobs import Job, carry_out
from robotics_rl.progress import Progress

SCRIPT = "scripts/check_repro.py"
# By how much a result may differ on another machine: two episodes of a hundred, all of whose fifty
# steps fail instead of succeeding, and what they do to the mean distance in metres.
TOLERANCE = {"success_rate": 0.02, "return_mean": 1.0, "final_distance_mean": 0.002}
# Of policies that see. Renderers and processors round colours differently, and after some steps
# every episode is another one. So these are about three standard errors of the difference between
# two samples of a hundred, for a policy that succeeds in half of its episodes.
TOLERANCE_SEEN = {"success_rate": 0.2, "return_mean": 8.0, "final_distance_mean": 0.06}
FORMS = {"success_rate": ".2f", "return_mean": ".2f", "final_distance_mean": ".4f"}
RETRAINED = {"algo": "sac", "her": True, "env": "FetchReach-v4", "total_steps": 4_800}
N_SHOWN = 5  # names of tensors that differ
Document = dict[str, Any]


def main(argv: Sequence[str]) -> int:
    """Exit code 1 where something cannot be repeated."""
    parser = cli.Parser(
        prog=SCRIPT,
        description=__doc__,
        epilog=f"example:\n  bash docker/dev.sh python {SCRIPT} --only 'sac_her_*seed0'",
    )
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--only", metavar="PATTERN", help="checkpoints whose path has this in it")
    either.add_argument("--retrain", action="store_true", help="train twice, compare the outcomes")
    cli.add_options(parser, EvalSettings, only=("results_dir", "progress"))
    given = vars(parser.parse_args(argv))
    show_progress = given.get("progress", EvalSettings.progress)
    if given["retrain"]:
        return retrain(show_progress=show_progress)
    results_dir = given.get("results_dir", EvalSettings.results_dir)
    return check(results_dir, given["only"], show_progress=show_progress)


def check(results_dir: str, pattern: str | None, *, show_progress: bool) -> int:
    """Play policies again and print how they did."""
    found = [
        path
        for path, document in artifacts.checkpoint_evaluations(results_dir)
        if pattern is None or fnmatch(document["checkpoint"], f"*{pattern}*")
    ]
    if not found:
        which = "at all" if pattern is None else f"of checkpoints like {pattern!r}"
        raise UsageError(f"{results_dir} holds no evaluations {which}; choose others, or make some")
    replays: list[Replay] = []
    with Progress(len(found), "policies", enabled=show_progress) as progress:
        for path in found:
            replays.append(replay(path))
            progress.update(len(replays), path.stem)
    rows = [["policy", "success", "return", "distance (m)", "identical episodes", ""]]
    print("now, and in brackets by how much that is more than published")
    print(reporting.aligned(rows + [one.row() for one in replays]))
    n_held = sum(one.holds for one in replays)
    print(f"{n_held} of {len(replays)} are within {_told(TOLERANCE)}")
    if any(one.sees for one in replays):
        print(f"(policies that see pictures: {_told(TOLERANCE_SEEN)})")
    return 0 if n_held == len(replays) else 1


def _told(tolerance: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {bound:g}" for name, bound in tolerance.items())


@dataclass(frozen=True)
class Replay:
    """A published evaluation, and the same policy on the same episodes now."""

    published: Document
    again: Document | None
    problem: str = ""  # why it was not played

    @property
    def holds(self) -> bool:
        """Whether every metric is within its tolerance."""
        tolerance = TOLERANCE_SEEN if self.sees else TOLERANCE
        return self.again is not None and all(
            abs(self._difference(metric)) <= bound for metric, bound in tolerance.items()
        )

    @property
    def sees(self) -> bool:
        """Whether the policy was trained on pictures."""
        return commands.sees_pictures(self.published["checkpoint"])

    def row(self) -> list[str]:
        """What it does now, how far that is from what was published, and the verdict."""
        name = self.published["checkpoint"]
        if self.again is None:
            return [name, self.problem, "", "", "", "FAIL"]
        pairs = zip(self.published["per_episode"], self.again["per_episode"], strict=True)
        n_identical = sum(then == now for then, now in pairs)
        return [
            name,
            *(self._cell(metric, form) for metric, form in FORMS.items()),
            f"{n_identical} of {self.again['n_episodes']}",
            "PASS" if self.holds else "FAIL",
        ]

    def _cell(self, metric: str, form: str) -> str:
        assert self.again is not None
        now = self.again["aggregate"][metric]
        if now is None:
            return "not defined here"
        return f"{now:{form}} ({self._difference(metric):+{form}})"

    def _difference(self, metric: str) -> float:
        """Now less then; none for what the task does not define."""
        assert self.again is not None
        now, then = (one["aggregate"][metric] for one in (self.again, self.published))
        return 0.0 if now is None and then is None else float(now - then)


def replay(path: Path) -> Replay:
    """Play the policy of an evaluation again, as it was played then."""
    published = artifacts.read_json(path)
    checkpoint = Path(published["checkpoint"])
    if not checkpoint.exists():
        return Replay(published, None, "its checkpoint is missing")
    if artifacts.sha256_of(checkpoint) != published["checkpoint_sha256"]:
        return Replay(published, None, "another checkpoint is in its place")
    with tempfile.TemporaryDirectory() as folder:
        settings = EvalSettings(
            ckpt=str(checkpoint),
            engine=published["engine"],
            deterministic=published["deterministic"],
            device="cpu" if published["device"] == "cpu" else EvalSettings.device,
            json_out=str(Path(folder, "again.json")),
            progress=False,
        )
        with redirect_stdout(io.StringIO()):  # a table is to come of it, not one for each
            commands.evaluate(settings, published["seeds"], make_vision=make_vision)
        return Replay(published, artifacts.read_json(Path(folder, "again.json")))


def retrain(*, show_progress: bool) -> int:
    """Train one setting twice, side by side, and compare what comes of it."""
    with tempfile.TemporaryDirectory() as folder:
        jobs, checkpoints = [], []
        for name in ("first", "second"):
            places = {
                "checkpoints_dir": str(Path(folder, name)),
                "log_dir": str(Path(folder, name, "runs")),
            }
            given = {**RETRAINED, **places}
            checkpoints.append(RunPaths.of(cli.training_settings(given)).checkpoint)
            command = [str(ROOT / "train.py"), *options.as_flags(given)]
            jobs.append(Job(name, [command], Path(folder, f"{name}.log")))
        with closing(carry_out(jobs, len(jobs), show_progress=show_progress)) as outcomes:
            for job, code in outcomes:
                if code:
                    print(f"{job.last_lines()}\nFAIL: the {job.name} training", file=sys.stderr)
                    return 1
        n_tensors = len(dict(_bits(checkpoints[0])))
        differing = differing_tensors(*checkpoints)
    what = " ".join(options.as_flags(RETRAINED))
    if differing:
        named = ", ".join(differing[:N_SHOWN]) + (", …" if len(differing) > N_SHOWN else "")
        print(f"FAIL: {len(differing)} of {n_tensors} tensors differ: {named} ({what})")
        return 1
    print(f"OK: trained twice, all {n_tensors} tensors are equal bit by bit ({what})")
    return 0


def differing_tensors(first: Path, second: Path) -> list[str]:
    """What differs, bit by bit, between the policies and optimizers of two checkpoints."""
    one, other = dict(_bits(first)), dict(_bits(second))
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def _bits(checkpoint: Path) -> Iterator[tuple[str, tuple[str, bytes]]]:
    """Name, kind and content of every tensor and number."""
    from robotics_rl import tensors  # torch takes seconds

    with zipfile.ZipFile(checkpoint) as archive:
        for entry in archive.namelist():
            if entry.endswith(".pth"):
                yield from _parts(entry, tensors.load(io.BytesIO(archive.read(entry))))


def _parts(name: str, value: Any) -> Iterator[tuple[str, tuple[str, bytes]]]:
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _parts(f"{name}/{key}", part)
    elif isinstance(value, list | tuple):
        for index, part in enumerate(value):
            yield from _parts(f"{name}/{index}", part)
    elif hasattr(value, "numpy"):
        array = value.detach().cpu().numpy()
        yield name, (f"{array.dtype} {array.shape}", array.tobytes())
    else:
        yield name, (type(value).__name__, repr(value).encode())


if __name__ == "__main__":
    cli.run(main)
