"""Training until a task is solved, examined on the way.

Solved means: two examinations in a row reach the target on 100 fixed episodes; the first of them
is the time that counts. The last policy is then confirmed on 100 other episodes. Examinations are
no training time. What is in the JSON already is not run again.
"""

import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock
from stable_baselines3.common.callbacks import BaseCallback

from robotics_rl import artifacts, cli, config, envs, options, reporting
from robotics_rl.config import TrainSettings
from robotics_rl.devices import device_name, resolve_device
from robotics_rl.episodes import side_by_side
from robotics_rl.errors import UsageError
from robotics_rl.learners import ENGINES, gradient_steps
from robotics_rl.progress import Progress
from robotics_rl.provenance import git_state, machine, usable_cores, utc_now
from robotics_rl.replay.hindsight import HindsightReplay
from robotics_rl.schemas import CONFIRMED, Examination, SolvingRun, SolvingRuns
from robotics_rl.solving_tables import solving_rows
from robotics_rl.statistics import wilson_interval
from robotics_rl.training import build
from robotics_rl.versions import gather_versions

EXAMINED = range(100)  # reset seeds; training never sees them


@dataclass(frozen=True)
class Task:
    """A training to time."""

    name: str  # what distinguishes it, e.g. "no normalisation"
    env_id: str
    total_steps: int  # where it is given up
    every: int  # environment steps between two examinations
    target: float = 0.95
    seeds: Sequence[int] = range(5)
    given: Mapping[str, Any] = field(default_factory=dict)  # flags

    def settings(self, seed: int) -> TrainSettings:
        """Everything resolved."""
        given = {**self.given, "total_steps": self.total_steps, "seed": seed}
        return config.resolve("sac", self.env_id, given, her=True)


@dataclass(frozen=True)
class Trial:
    """A benchmark made of tasks."""

    script: str
    story: str
    name: str
    tasks: Sequence[Task]
    timed: bool = True  # whether seconds count, or steps alone

    def main(self, argv: Sequence[str]) -> int:
        """Carry out every task and seed that is missing; write after each."""
        parser = cli.Parser(
            prog=f"benchmarks/{self.script}.py", description=self.story, epilog=self._epilog()
        )
        parser.add_argument("--seeds", help="only these training seeds, such as 0,1 or 0-4")
        parser.add_argument("--only", default="", help="only tasks with this name or environment")
        parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default: cpu)")
        published = artifacts.benchmark_path(self.script)
        parser.add_argument("--out", type=Path, help=f"JSON to go on with (default: {published})")
        flags = parser.parse_args(argv)
        chosen = options.parse_seeds(flags.seeds) if flags.seeds else None
        device = resolve_device(flags.device)
        tasks = [task for task in self.tasks if flags.only in ("", task.name, task.env_id)]
        if not tasks:
            names = ", ".join(self._names())
            raise UsageError(f"no task is called {flags.only!r}; choose one of: {names}")
        output = flags.out or artifacts.benchmark_path(self.script, device)
        for task in tasks:
            for seed in task.seeds if chosen is None else chosen:
                self._carry_out(task, seed, device, output)
        print(reporting.aligned(solving_rows(read_runs(output), timed=self.timed)))
        print(f"OK: wrote {output}")
        return 0

    def _names(self) -> list[str]:
        """What `--only` takes."""
        return sorted({name for task in self.tasks for name in (task.name, task.env_id)})

    def _epilog(self) -> str:
        names = "\n  ".join(shlex.quote(name) for name in self._names())
        script, first = f"benchmarks/{self.script}.py", shlex.quote(self.tasks[0].name)
        example = f"bash docker/dev.sh python {script} --only {first} --seeds 0"
        return f"--only takes one of:\n  {names}\n\nexample:\n  {example}"

    def _carry_out(self, task: Task, seed: int, device: str, output: Path) -> None:
        place = (task.name, task.env_id, seed)
        settings = task.settings(seed)
        for run in read_runs(output):
            if (
                _place(run) == place
                and _is_of(run, task, settings)
                and self._timed_here(run, device)
            ):
                print(f"done before: {describe(run)}")
                return
        new = asdict(solve(task, settings, device))
        with FileLock(output.with_suffix(".lock")):  # others may run beside this one
            kept = [run for run in read_runs(output) if _place(run) != place]
            runs = sorted([*kept, new], key=_place)
            document = SolvingRuns(name=self.name, timed=self.timed, runs=runs)
            artifacts.write_json(output, document)
        print(describe(new))

    def _timed_here(self, run: Mapping[str, Any], device: str) -> bool:
        """Whether its seconds are this machine's, or do not matter."""
        here = (device_name(device), usable_cores())
        return not self.timed or (run["device_name"], run["cpu_cores"]) == here


def read_runs(path: Path) -> list[dict[str, Any]]:
    """The runs in a JSON of this kind."""
    return list(artifacts.read_json(path)["runs"]) if path.exists() else []


def _place(run: Mapping[str, Any]) -> tuple[str, str, int]:
    return run["name"], run["env_id"], run["seed"]


def _is_of(run: Mapping[str, Any], task: Task, settings: TrainSettings) -> bool:
    """Whether a run is of just this task, examined as often."""
    same = run["hyperparameters"] == settings.flat_hyperparameters()
    asked = (settings.run.engine, task.target, task.total_steps)
    lateness = run["examinations"][0]["env_steps"] - min(task.every, task.total_steps)
    return (
        same
        and (run["engine"], run["target"], run["total_steps"]) == asked
        and 0 <= lateness < settings.rollout_steps
    )


def describe(run: Mapping[str, Any]) -> str:
    """One line."""
    end = run["examinations"][-1]
    outcome = f"not solved in {end['env_steps']:,} steps, {end['train_seconds']:.0f} s"
    if run["solved_env_steps"] is not None:
        outcome = f"solved at {run['solved_env_steps']:,} steps, {run['solved_seconds']:.1f} s"
    return (
        f"{run['name']}, {run['env_id']}, seed {run['seed']}: {outcome}; "
        f"{run['confirmed_success_rate']:.2f} on other episodes"
    )


def solve(task: Task, settings: TrainSettings, device: str = "cpu") -> SolvingRun:
    """Train until solved or given up."""
    model = build(settings, device, envs.make_env)
    with Progress(task.total_steps, "steps") as progress:
        examiner = _Examiner(task, settings, progress)
        model.learn(task.total_steps, callback=examiner)
        confirmed = examiner.success_rate(CONFIRMED)
    assert model.env is not None
    model.env.close()
    solved = examiner.solved
    return SolvingRun(
        name=task.name,
        algo=settings.algo,
        env_id=task.env_id,
        seed=settings.run.seed,
        engine=settings.run.engine,
        recipe=settings.run.recipe,
        hyperparameters=settings.flat_hyperparameters(),
        target=task.target,
        total_steps=task.total_steps,
        solved_env_steps=solved.env_steps if solved else None,
        solved_seconds=solved.train_seconds if solved else None,
        examinations=examiner.examinations,
        confirmed_success_rate=confirmed,
        confirmed_success_rate_ci95=_interval(confirmed, len(CONFIRMED)),
        created_at=utc_now(),
        git=git_state(),
        device_name=device_name(device),
        versions=gather_versions(),
        **machine(),
    )


class _Examiner(BaseCallback):
    """Examines the policy now and then, between two rollouts, and stops when it has passed."""

    def __init__(self, task: Task, settings: TrainSettings, progress: Progress) -> None:
        super().__init__()
        self._task, self._settings, self._progress = task, settings, progress
        self._started, self._paused = time.monotonic(), 0.0
        self.examinations: list[Examination] = []

    @property
    def solved(self) -> Examination | None:
        """The first of two passed examinations in a row."""
        for earlier, later in zip(self.examinations, self.examinations[1:], strict=False):
            if min(earlier.success_rate, later.success_rate) >= self._task.target:
                return earlier
        return None

    def _on_rollout_start(self) -> None:
        if self.num_timesteps >= (len(self.examinations) + 1) * self._task.every:
            self._examine()

    def _on_training_end(self) -> None:
        last = self.examinations[-1].env_steps if self.examinations else 0
        if self.solved is None and self.num_timesteps > last:
            self._examine()

    def _on_step(self) -> bool:
        note = f"success {self.examinations[-1].success_rate:.2f}" if self.examinations else ""
        self._progress.update(self.num_timesteps, note)
        return self.solved is None

    def _examine(self) -> None:
        began = time.monotonic()
        rate = self.success_rate(EXAMINED)
        replay: Any = getattr(self.model, "replay_buffer", None)
        moved = replay.moved_rate(100) if isinstance(replay, HindsightReplay) else None
        self.examinations.append(
            Examination(
                env_steps=self.num_timesteps,
                gradient_steps=gradient_steps(self.model),
                train_seconds=round(began - self._started - self._paused, 2),
                success_rate=rate,
                success_rate_ci95=_interval(rate, len(EXAMINED)),
                goal_moved_rate=moved,
            )
        )
        self._paused += time.monotonic() - began

    def success_rate(self, seeds: Sequence[int]) -> float:
        """Share of these episodes that end in success."""
        engine = ENGINES[self._settings.run.engine]
        policy = engine.export(self._settings, self.model).policy
        episodes = side_by_side(policy, self._task.env_id, seeds, usable_cores())
        return sum(bool(episode.success) for episode in episodes) / len(seeds)


def _interval(rate: float, n_episodes: int) -> tuple[float, float]:
    return wilson_interval(round(rate * n_episodes), n_episodes)
