"""Book chapter 5: which settings of SAC with HER matter, by a full factorial sweep.

Every combination of the factors is trained with several seeds. What is done is never done again,
so a sweep that was stopped goes on where it was, on one machine or on many (`--shard`).
"""

import dataclasses
import tarfile
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from robotics_rl import artifacts, campaign, cli, cluster, commands, config, options, reporting
from robotics_rl.artifacts import RunPaths
from robotics_rl.campaign import Experiment
from robotics_rl.chapters import add_command
from robotics_rl.config import EvalSettings, Run, SelectiveHER
from robotics_rl.errors import UsageError
from robotics_rl.factorial import Factors, analyze, left_out, settings_of, summary_of
from robotics_rl.jobs import Job, carry_out, default_parallel
from robotics_rl.options import option
from robotics_rl.progress import clock
from robotics_rl.provenance import git_state, utc_now
from robotics_rl.schemas import CONFIRMED, SweepAnalysis, SweepRun, SweepRuns, SweepSetting
from robotics_rl.versions import gather_versions

SCRIPT = "scripts/ch04_sweep.py"
PUSH = "FetchPush-v4"
FACTORS: Factors = {  # the book's
    "ent_coef": (0.05, 0.1, 0.2),
    "n_sampled_goal": (4, 8),
    "learning_starts": (1_000, 5_000),
    "gamma": (0.95, 0.98),
}
SHORT = {"ent_coef": "ent", "n_sampled_goal": "nsg", "learning_starts": "ls"}  # in file names
DEFAULTS: dict[str, Any] = {"total_steps": 2_000_000}
N_SHOWN = 5  # settings at either end of the ranking


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Flags of the sweep itself."""

    env: str = option(PUSH, "Gymnasium id of a task with goals")
    train_seeds: str = option("0,1,2,42,77", "training seeds", None, "--seeds")
    grid: str | None = option(None, "JSON file with other factors: {name: [level, …]}")
    shard: str = option("1/1", "this part of the runs, as I/N: each machine takes another")
    parallel: int = option(
        default_parallel(), "trainings side by side (two cores each are best)", options.positive
    )
    ray: str | None = option(
        None, "run on the Ray cluster at this address, auto for the one this machine is part of"
    )
    retry_failed: bool = option(False, "try runs again that have failed twice")


@dataclass(frozen=True, kw_only=True)
class Export:
    """Flags of `export` alone."""

    all: bool = option(False, "every checkpoint, not only the best and the worst")
    out: str = option("sweep_ENV.tar.gz", "archive to write", options.file_path)


def main(argv: Sequence[str]) -> int:
    """Run one sub-command."""
    given = vars(_parser().parse_args(argv))
    return {"run": run, "status": status, "analyze": analysis, "export": export}[
        given.pop("command")
    ](given)


@dataclass(frozen=True)
class Trial:
    """One setting of the factors with one seed."""

    parameters: Mapping[str, Any]
    experiment: Experiment

    @property
    def name(self) -> str:
        """Of its files."""
        return self.experiment.name


def run(given: Mapping[str, Any]) -> int:
    """Train and evaluate what is missing; a run that fails twice is recorded and left."""
    trials, book = _of_shard(_trials(given), given.get("shard", Sweep.shard)), _Book.of(given)
    entries = {one.name: book.find(one) for one in trials}
    given_up = [name for name, entry in entries.items() if entry and entry["error"]]
    if given.get("retry_failed", False):
        entries |= dict.fromkeys(given_up)
        given_up = []
    missing = {one.name: one for one in trials if entries[one.name] is None}
    n_done = len(trials) - len(missing) - len(given_up)
    print(f"{n_done} of {len(trials)} runs are done", flush=True)
    parallel = given.get("parallel", Sweep.parallel)
    experiments = [one.experiment for one in missing.values()]
    jobs, environment = campaign.prepare(experiments, 1 if "ray" in given else parallel)
    for name in missing.keys() - {job.name for job in jobs}:
        _settle(book, missing[name])  # made, and killed before it was entered
    failed: list[Job] = []

    def outcomes_of(jobs: Sequence[Job]) -> Generator[tuple[Job, int]]:
        show = given.get("progress", True)
        if "ray" in given:
            experiments = [missing[job.name].experiment for job in jobs]
            return cluster.carry_out(experiments, given["ray"], show_progress=show)
        return carry_out(jobs, parallel, environment=environment, show_progress=show)

    with closing(outcomes_of(jobs)) as outcomes:
        for job, code in outcomes:
            if code:
                print(f"{campaign.failure(job, code)}; it is tried again", flush=True)
                failed.append(job)
            else:
                _settle(book, missing[job.name])
    with closing(outcomes_of(failed)) as outcomes:
        for job, code in outcomes:
            _settle(book, missing[job.name], job.last_lines() if code else None)
            given_up += [job.name] if code else []
    if given_up:
        print(f"FAIL: {', '.join(given_up)}; why is in {book.path}; again with --retry-failed")
        return 1
    print(f"OK: all runs are in {book.path}")
    return 0


def _settle(book: "_Book", trial: Trial, error: str | None = None) -> None:
    entry = book.enter(trial, error)
    outcome = "failed twice" if error else f"success {entry.success_rate:.2f}"
    print(f"{trial.name}: {outcome}", flush=True)


def status(given: Mapping[str, Any]) -> int:
    """How many runs are done, failed, half done and not begun."""
    trials, book = _trials(given), _Book.of(given)
    states: dict[str, list[str]] = {"done": [], "failed": [], "half done": [], "not begun": []}
    for one in trials:
        entry = book.find(one)
        begun = RunPaths.of(one.experiment.settings).resume.exists()
        state = "half done" if begun else "not begun"
        if entry is not None:
            state = "failed" if entry["error"] else "done"
        states[state].append(one.name)
    for state, names in states.items():
        print(f"{len(names):4} {state}", *(names if state == "failed" else []), sep="\n       ")
    seconds = [entry["wall_seconds"] for one in trials if (entry := book.find(one))]
    known = [value for value in seconds if value is not None]
    left = len(trials) - len(states["done"]) - len(states["failed"])
    if known and left:
        each = sum(known) / len(known)
        print(f"about {clock(each * left / given.get('parallel', Sweep.parallel))} left")
    return 0


def analysis(given: Mapping[str, Any]) -> int:
    """Rank the settings, average over factors and pairs of them, judge the best once more."""
    book, factors = _Book.of(given), _factors(given)
    env_id = given.get("env", Sweep.env)
    runs = _alike(book, given)
    for remark in left_out(runs, factors):
        print(remark)
    total_steps, source = runs[0]["identity"]["total_steps"], book.path.as_posix()
    result = analyze(env_id, total_steps, runs, factors, source)
    path = book.path.with_name(f"sweep_{env_id.lower()}_analysis.json")
    confirmed = _confirmation(result, runs, book, path)
    result = dataclasses.replace(result, best_on_other_episodes=confirmed)
    figures = [
        artifacts.figure_path(book.path.parents[1] / f"sweep_{env_id.lower()}_{what}")
        for what in ("heatmap", "marginals")
    ]
    same = artifacts.has_same(result, "env_id", "total_steps", "factors", "source")
    artifacts.keep_other(path, "sweep", same, *figures)
    artifacts.write_json(path, result)
    print(reporting.sweep_table(result))
    print(f"OK: wrote {path}")
    _draw(result, path, figures)
    return 0


def _alike(book: "_Book", given: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The runs that differ in the factors and the seed, and in nothing else."""
    env_id, factors = given.get("env", Sweep.env), _factors(given)
    steps = given.get("total_steps")
    runs = [
        entry
        for entry in book.entries()
        if entry["env_id"] == env_id and not entry["error"] and _is_within(entry, factors)
        if steps is None or steps == entry["identity"]["total_steps"]
    ]
    if not runs:
        raise UsageError(
            f"no run on {env_id} in {book.path}; make some with: "
            f"bash docker/dev.sh python {SCRIPT} run --env {env_id}"
        )
    for name in sorted({name for run in runs for name in run["identity"]} - {*factors, "seed"}):
        values = sorted({str(run["identity"].get(name)) for run in runs})
        if len(values) > 1:
            raise UsageError(
                f"{book.path} mixes runs with {name} {' and '.join(values)}; "
                + (f"choose with {options.flag_of(name)}" if name == "total_steps" else _APART)
            )
    return runs


_APART = "keep such sweeps apart with --run-tag"


def _is_within(entry: Mapping[str, Any], factors: Factors) -> bool:
    """Whether a run is of this grid."""
    levels = entry["parameters"]
    return levels.keys() == factors.keys() and all(levels[name] in factors[name] for name in levels)


def _confirmation(
    result: SweepAnalysis, runs: Sequence[Mapping[str, Any]], book: "_Book", path: Path
) -> SweepSetting | None:
    """The best setting on other episodes; where it is not at hand, what an earlier look found."""
    winner = result.ranking[0]
    best = [run for run in runs if run["parameters"] == winner.parameters]
    absent = [run["checkpoint"] for run in best if not _is_at_hand(run)]
    if not absent:
        again = [{**run, "success_rate": _on_other_episodes(run, book)} for run in best]
        return summary_of(winner.parameters, again)
    old = artifacts.read_json(path) if path.exists() else {}
    same = ("parameters", "seeds", "mean")
    known = old and all(old["ranking"][0][name] == getattr(winner, name) for name in same)
    if known and (found := old["best_on_other_episodes"]):
        return SweepSetting(**found)
    print(f"the best setting is not judged on other episodes: {absent[0]} is not here as entered")
    return None


def _is_at_hand(run: Mapping[str, Any]) -> bool:
    """Whether the run's own checkpoint is here, and not one trained since."""
    path = Path(run["checkpoint"])
    return path.exists() and artifacts.sha256_of(path) == run["checkpoint_sha256"]


def _draw(result: SweepAnalysis, source: Path, figures: Sequence[Path]) -> None:
    from robotics_rl import sweep_figures  # matplotlib takes a second

    heatmap, marginals = figures
    sweep_figures.heatmap(result, source, heatmap)
    sweep_figures.marginal_means(result, source, marginals)


def _on_other_episodes(run: Mapping[str, Any], book: "_Book") -> float:
    checkpoint = Path(run["checkpoint"])
    result = book.path.with_name(f"{checkpoint.stem}_other_eval.json")
    given = {
        "ckpt": str(checkpoint),
        "seeds": f"{CONFIRMED[0]}-{CONFIRMED[-1]}",
        "json_out": str(result),
    }
    rate = commands.evaluate(*cli.eval_settings(given)).aggregate.success_rate
    assert rate is not None, "tasks with goals tell success"
    return rate


def export(given: Mapping[str, Any]) -> int:
    """Pack checkpoints with their metadata: all of them, or the best and the worst."""
    book, env_id = _Book.of(given), given.get("env", Sweep.env)
    runs = sorted(_alike(book, given), key=lambda entry: -entry["success_rate"])
    if not given.get("all", False) and len(runs) > 2 * N_SHOWN:
        runs = runs[:N_SHOWN] + runs[-N_SHOWN:]
    checkpoints = [Path(entry["checkpoint"]) for entry in runs]
    if missing := [path for path in checkpoints if not path.exists()]:
        raise UsageError(
            f"{len(missing)} of {len(checkpoints)} checkpoints are not here, such as {missing[0]}; "
            "a sweep is published without them: make your own with run --run-tag mine"
        )
    path = Path(given.get("out", Export.out.replace("ENV", env_id.lower())))
    artifacts.require_file(path)
    with artifacts.atomic_write(path) as temporary, tarfile.open(temporary, "w:gz") as archive:
        for checkpoint in checkpoints:
            for part in (checkpoint, artifacts.metadata_path(checkpoint)):
                archive.add(part, arcname=part.name)
    print(f"OK: wrote {path}: {len(checkpoints)} checkpoints with their metadata")
    return 0


@dataclass(frozen=True)
class _Book:
    """The JSON that every run is entered into, once; several sweeps may write to it."""

    path: Path

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> "_Book":
        results_dir = given.get("results_dir", EvalSettings.results_dir)
        return cls(Path(results_dir, given.get("run_tag", ""), "sweep", "sweep_results_raw.json"))

    def entries(self) -> list[dict[str, Any]]:
        """All runs so far."""
        return artifacts.read_json(self.path)["runs"] if self.path.exists() else []

    def find(self, trial: Trial) -> dict[str, Any] | None:
        """What became of a run; None where it has no end yet."""
        identity = trial.experiment.settings.identity()
        return next((one for one in self.entries() if one["identity"] == identity), None)

    def enter(self, trial: Trial, error: str | None) -> SweepRun:
        """Write down how a run ended."""
        entry = _entry(trial, error)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self.path.with_suffix(".lock")):
            others = [one for one in self.entries() if one["identity"] != entry.identity]
            runs = [*others, dataclasses.asdict(entry)]
            artifacts.write_json(self.path, SweepRuns(runs=runs))
        return entry


def _entry(trial: Trial, error: str | None) -> SweepRun:
    settings = trial.experiment.settings
    checkpoint = RunPaths.of(settings).checkpoint
    made = {} if error else artifacts.read_json(artifacts.metadata_path(checkpoint))
    result = {} if error else artifacts.read_json(trial.experiment.result)["aggregate"]
    return SweepRun(
        env_id=settings.env_id,
        parameters=dict(trial.parameters),
        seed=settings.run.seed,
        identity=settings.identity(),
        success_rate=result.get("success_rate"),
        return_mean=result.get("return_mean"),
        wall_seconds=made.get("training", {}).get("wall_seconds"),
        checkpoint=checkpoint.as_posix(),
        checkpoint_sha256=made.get("checkpoint_sha256"),
        error=error,
        created_at=utc_now(),
        git=git_state(),
        device_name=made.get("device_name"),
        versions=gather_versions(),
    )


def _trials(given: Mapping[str, Any]) -> list[Trial]:
    seeds = options.parse_seeds(given.get("train_seeds", Sweep.train_seeds))
    return [
        _trial(given, parameters, seed)
        for seed in seeds  # outermost: a sweep that is cut short has seen every setting
        for parameters in settings_of(_factors(given))
    ]


def _trial(given: Mapping[str, Any], parameters: Mapping[str, Any], seed: int) -> Trial:
    """The training of one setting, in files of its own."""
    env_id, tag = given.get("env", Sweep.env), given.get("run_tag", "")
    levels = "_".join(f"{SHORT.get(name, name)}{level}" for name, level in parameters.items())
    name = f"sweep_{env_id}_{levels}_seed{seed}"
    folder = Path(given.get("checkpoints_dir", Run.checkpoints_dir), tag)
    results = Path(given.get("results_dir", EvalSettings.results_dir), tag, "sweep")
    flags = {
        **{key: value for key, value in given.items() if key not in options.option_names(Sweep)},
        **parameters,
        "seed": seed,
        "out": str(folder / f"{name}.zip"),
        "run_tag": str(Path(tag, "sweep", levels)),  # keeps the curves apart
    }
    settings = cli.training_settings(flags, algo="sac", env=env_id, her=True, **DEFAULTS)
    checkpoint = str(RunPaths.of(settings).checkpoint)
    result = results / f"{name}_eval.json"
    judged, episodes = cli.eval_settings({"ckpt": checkpoint})
    typed = options.as_flags({**flags, "total_steps": settings.run.total_steps})
    return Trial(
        parameters,
        Experiment(
            settings=settings,
            result=result,
            episodes=episodes,
            deterministic=judged.deterministic,
            train=["train.py", "--algo", "sac", "--her", "--env", env_id, *typed],
            evaluate=["eval.py", "--ckpt", checkpoint, "--json-out", str(result)],
        ),
    )


def _factors(given: Mapping[str, Any]) -> Factors:
    """The book's, or those of a file."""
    if "grid" not in given:
        return FACTORS
    factors = artifacts.read_json(Path(given["grid"]))
    known = options.option_names(config.SAC) | options.option_names(SelectiveHER)
    for name, levels in factors.items():
        if name not in known or not isinstance(levels, list) or not levels:
            raise UsageError(
                f"{given['grid']}: {name} is no setting with a list of levels; "
                'write it as {"gamma": [0.95, 0.98]}'
            )
        if any(levels.count(level) > 1 for level in levels):
            raise UsageError(f"{given['grid']}: {name} has a level twice; name each of them once")
    return factors


def _of_shard(trials: Sequence[Trial], shard: str) -> list[Trial]:
    first, slash, count = shard.partition("/")
    if not (slash and first.isdecimal() and count.isdecimal() and 0 < int(first) <= int(count)):
        raise UsageError(f"cannot read --shard {shard}; write it as 1/4, 2/4, 3/4 and 4/4")
    return list(trials[int(first) - 1 :: int(count)])


def _parser() -> cli.Parser:
    top = cli.Parser(prog=SCRIPT, description=__doc__)
    subparsers = top.add_subparsers(prog=SCRIPT, dest="command", required=True, metavar="COMMAND")
    for name, text, flags in (
        ("run", "train and evaluate what is missing", "--parallel 2 --seeds 0,1"),
        ("status", "what is done and what is left", "--seeds 0,1"),
    ):
        parser = add_command(subparsers, SCRIPT, name, text, flags)
        cli.add_options(parser, Sweep)
        cli.add_options(parser, *config.parts_of("sac"), SelectiveHER, Run, defaults=DEFAULTS)
        cli.add_options(parser, EvalSettings, only=("results_dir",))
    for name, text in (
        ("analyze", "rank the settings, average over factors"),
        ("export", "pack checkpoints, the best and the worst"),
    ):
        parser = add_command(subparsers, SCRIPT, name, text)
        cli.add_options(parser, Sweep, only=("env", "grid"))
        cli.add_options(parser, Run, only=("run_tag", "total_steps"))
        cli.add_options(parser, EvalSettings, only=("results_dir",))
        if name == "export":
            cli.add_options(parser, Export)
    return top


if __name__ == "__main__":
    cli.run(main)
