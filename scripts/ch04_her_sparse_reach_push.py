"""Book chapter 5: hindsight experience replay makes the sparse reward enough.

A failed episode reaches some place, and seen with that place as its goal it is a success. On
FetchReach chance finds the goal now and then, so SAC learns without HER too; on FetchPush it does
not. `env-all` trains both over several seeds, evaluates them and sets them side by side.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robotics_rl import artifacts, campaign, chapters, cli, commands, config, options, reporting
from robotics_rl.artifacts import RunPaths
from robotics_rl.campaign import Experiment, with_changes
from robotics_rl.chapters import Card, Criterion
from robotics_rl.config import EvalSettings, Run, SelectiveHER, TrainSettings
from robotics_rl.errors import UsageError
from robotics_rl.jobs import default_parallel
from robotics_rl.options import option
from robotics_rl.provenance import utc_now
from robotics_rl.schemas import Comparison, HindsightAblation

CHAPTER, SCRIPT = "ch04", "scripts/ch04_her_sparse_reach_push.py"
REACH, PUSH = "FetchReach-v4", "FetchPush-v4"
BOOK: dict[str, Any] = {"total_steps": 1_000_000, "gamma": 0.95, "learning_starts": 1_000}
FAST_PATH = {"her": True, "total_steps": 500_000, "ent_coef": 0.05}
CARD = Card(
    chapter=CHAPTER,
    title="SAC with HER on sparse Push (book chapter 5)",
    script=SCRIPT,
    algo="sac",
    env_id=PUSH,
    training={**BOOK, **FAST_PATH},
    criteria=(
        Criterion("success_rate", ">=", 0.90),
        Criterion("return_mean", ">", -20.0),
        Criterion("final_distance_mean", "<", 0.05),
    ),
    book="HER 0.99 ± 0.01, no HER 0.05 ± 0.00 (3 seeds × 2M steps)",
    book_fast_path="success ≥ 0.90, return > -20, distance < 0.05 m (500k steps)",
    fast_path=f"train --env {PUSH} --her --seed 0 --total-steps 500000 --ent-coef 0.05",
    over_seeds=f"env-all --env {PUSH} --seeds 0,1,2",
)
GROUPS = {"no-HER": False, "HER": True}
CLEAR = 0.5  # difference of success rates that nobody doubts


def main(argv: Sequence[str]) -> int:
    """Run one sub-command."""
    given = vars(_parser().parse_args(argv))
    command = given.pop("command")
    if backend := given.pop("mujoco_gl", None):
        os.environ["MUJOCO_GL"] = backend
    match command:
        case "card":
            print(CARD.text())
            return 0
        case "train":
            commands.train(_settings(given))
            return 0
        case "eval":
            return evaluate(given)
        case "compare":
            return compare(given)
        case "ablation":
            return ablation(given)
        case "reach-all" | "push-all":
            given["env"] = REACH if command == "reach-all" else PUSH
    return env_all(given)


def evaluate(given: Mapping[str, Any]) -> int:
    """Evaluate a checkpoint, and hold the chapter's own policy against its criteria."""
    training, evaluation = chapters.split(given)
    if ("ckpt" in evaluation) == ("env" in training):
        raise UsageError("there must be one policy to evaluate; give --ckpt, or --env (and --her)")
    if "ckpt" not in evaluation:
        evaluation["ckpt"] = str(RunPaths.of(_settings(training)).checkpoint)
    metadata = artifacts.metadata_path(artifacts.checkpoint_path(Path(evaluation["ckpt"])))
    result = commands.evaluate(*cli.eval_settings(evaluation), chapter=CHAPTER)
    made = artifacts.read_json(metadata) if metadata.exists() else {}
    if (made.get("env_id"), made.get("her")) != (CARD.env_id, True):
        return 0
    return 0 if chapters.report(CARD.criteria, result.aggregate) else 1


def env_all(given: Mapping[str, Any]) -> int:
    """Train and evaluate with and without HER over seeds, skip what is there, then compare."""
    seeds = options.parse_seeds(given.get("train_seeds", Several.train_seeds))
    experiments = [
        _experiment(given, seed=seed, her=her) for seed in seeds for her in GROUPS.values()
    ]
    if not campaign.complete(experiments, given.get("parallel", Several.parallel)):
        return 1
    return compare(given)


def compare(given: Mapping[str, Any]) -> int:
    """HER beside no HER over training seeds, with the two floors."""
    seeds = options.parse_seeds(given.get("train_seeds", Several.train_seeds))
    env_id, tag = _env_id(given), given.get("run_tag")
    results_dir = given.get("results_dir", EvalSettings.results_dir)
    groups = {name: dict(_results(given, her, seeds)) for name, her in GROUPS.items()}
    missing = [
        f"{name} seed {seed}"
        for name, by_seed in groups.items()
        for seed, path in by_seed.items()
        if not path.exists()
    ]
    if missing:
        raise UsageError(
            f"no result of {', '.join(missing)} on {env_id}; make them with: "
            f"bash docker/dev.sh python {SCRIPT} env-all --env {env_id} "
            f"--seeds {','.join(map(str, seeds))}"
        )
    episodes = artifacts.read_json(groups["HER"][seeds[0]])["seeds"]
    floors = chapters.baselines(env_id, results_dir, tag, episodes)
    from robotics_rl.comparison import compare as compare_groups  # scipy takes a second

    comparison = compare_groups(groups, floors, env_id)
    path = Path(results_dir, tag or "", f"{CHAPTER}_{env_id.lower()}_comparison.json")
    artifacts.write_json(path, comparison)
    print(reporting.comparison_table(comparison))
    print(verdict(comparison))
    print(f"OK: wrote {path}")
    return 0


def verdict(comparison: Comparison) -> str:
    """What the difference in success comes to, in one line."""
    rates = [
        f"{name} {group['success_rate'].mean:.2f}" for name, group in comparison.groups.items()
    ]
    delta, n_seeds = comparison.deltas["success_rate"], len(comparison.seeds)
    strength = "CLEAR" if delta > CLEAR else "WEAK"
    return (
        f"{strength} SEPARATION: {', '.join(rates)} on {comparison.env_id}, "
        f"{100 * delta:+.0f} points over {n_seeds} seed{'s' * (n_seeds > 1)}"
    )


def ablation(given: Mapping[str, Any]) -> int:
    """HER with several numbers of relabelled goals per real one."""
    values = [_count(part) for part in given.get("nsg_values", Several.nsg_values).split(",")]
    given = with_changes(given, nsg_values=None)
    seed, folder = given.get("seed", Run.seed), given.get("run_tag", "")
    changes = {k: {"n_sampled_goal": k, "run_tag": str(Path(folder, f"nsg{k}"))} for k in values}
    experiments = {
        k: _experiment({**given, **change}, seed=seed, her=True) for k, change in changes.items()
    }
    if not campaign.complete(list(experiments.values()), given.get("parallel", Several.parallel)):
        return 1
    results = {k: artifacts.read_json(one.result) for k, one in experiments.items()}
    document = HindsightAblation(
        env_id=_env_id(given),
        seed=seed,
        created_at=utc_now(),
        aggregates={str(k): result["aggregate"] for k, result in results.items()},
        sources=[one.result.as_posix() for one in experiments.values()],
    )
    results_dir = given.get("results_dir", EvalSettings.results_dir)
    path = Path(results_dir, folder, f"{CHAPTER}_{_env_id(given).lower()}_ablation.json")
    artifacts.write_json(path, document)
    print(reporting.hindsight_table(document))
    print(f"OK: wrote {path}")
    return 0


def _settings(given: Mapping[str, Any]) -> TrainSettings:
    k = given.get("n_sampled_goal", SelectiveHER.n_sampled_goal)
    if k != SelectiveHER.n_sampled_goal and "run_tag" not in given:
        given = {**given, "run_tag": f"nsg{k}"}  # keeps the files of the default
    return cli.training_settings(
        {**given, "env": _env_id(given)}, chapter=CHAPTER, algo="sac", **BOOK
    )


def _env_id(given: Mapping[str, Any]) -> str:
    if "env" not in given:
        raise UsageError("the environment is not known; name it with --env")
    return str(given["env"])


def _experiment(given: Mapping[str, Any], *, seed: int, her: bool) -> Experiment:
    """A training that goes on where it was, and its evaluation."""
    training, evaluation = chapters.split(
        with_changes(given, seed=seed, train_seeds=None, parallel=None)
    )
    if not her:
        of_her = {"recipe", *options.option_names(SelectiveHER)}
        training = {name: value for name, value in training.items() if name not in of_her}
    training |= {"resume": True} | ({"her": True} if her else {})
    settings = _settings(training)
    results_dir = evaluation.get("results_dir", EvalSettings.results_dir)
    checkpoint = str(RunPaths.of(settings).checkpoint)
    judged, episodes = cli.eval_settings({**evaluation, "ckpt": checkpoint})
    return Experiment(
        name=f"{settings.run_name}_{settings.env_id}_seed{seed}",
        settings=settings,
        result=_result_path(settings, results_dir),
        episodes=episodes,
        deterministic=judged.deterministic,
        train=[SCRIPT, "train", *options.as_flags(training)],
        evaluate=["eval.py", *options.as_flags({**evaluation, "ckpt": checkpoint})],
    )


def _results(
    given: Mapping[str, Any], her: bool, seeds: Sequence[int]
) -> Iterator[tuple[int, Path]]:
    results_dir = given.get("results_dir", EvalSettings.results_dir)
    for seed in seeds:
        place = {"env": given["env"], "seed": seed, "run_tag": given.get("run_tag"), "her": her}
        yield seed, _result_path(_settings(with_changes(place)), results_dir)


def _result_path(settings: TrainSettings, results_dir: str) -> Path:
    name = artifacts.evaluation_name(settings.run_name, settings.env_id, settings.run.seed)
    return artifacts.evaluation_path(results_dir, settings.run.run_tag, CHAPTER, name)


def _count(text: str) -> int:
    if not text.strip().isdecimal() or int(text) == 0:
        raise UsageError("cannot read --nsg-values; write them as 2,4,8")
    return int(text)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which of the chapter's policies."""

    env: str | None = option(None, "Gymnasium id of a task with goals")
    her: bool = option(False, "relabel goals in hindsight")
    mujoco_gl: str | None = option(None, "what draws videos: egl, osmesa or glfw")


@dataclass(frozen=True, kw_only=True)
class Several:
    """Flags of what trains more than one policy."""

    train_seeds: str = option("0,1,2", "training seeds", None, "--seeds")
    nsg_values: str = option("2,4,8", "numbers of relabelled goals per real one")
    parallel: int = option(
        default_parallel(), "trainings side by side (two cores each are best)", options.positive
    )


def _parser() -> cli.Parser:
    top = cli.Parser(prog=SCRIPT, description=__doc__)
    subparsers = top.add_subparsers(prog=SCRIPT, dest="command", required=True, metavar="COMMAND")

    def add(name: str, text: str, flags: str, *choices: str) -> cli.Parser:
        parser = chapters.add_command(subparsers, SCRIPT, name, text, flags)
        cli.add_options(parser, Choice, Several, only=(*choices, "mujoco_gl"))
        return parser

    def add_training(name: str, text: str, flags: str, *choices: str) -> cli.Parser:
        parser = add(name, text, flags, *choices)
        cli.add_options(parser, *config.parts_of("sac"), SelectiveHER, Run, defaults=BOOK)
        return parser

    add_training("train", "train one policy", CARD.fast_path.removeprefix("train "), "env", "her")
    checkpoint = RunPaths.of(CARD.settings({})).checkpoint
    judge = add("eval", "evaluate a checkpoint", f"--ckpt {checkpoint}", "env", "her")
    chapters.add_evaluation_options(judge)
    cli.add_options(judge, EvalSettings, only=("ckpt",))
    cli.add_options(judge, Run, only=("seed", "checkpoints_dir", *chapters.SHARED))
    over_seeds, several = f"--env {REACH} --seeds 0,1,2", ("train_seeds", "parallel")
    for parser in (
        add_training("env-all", "train, evaluate, compare", over_seeds, "env", *several),
        add_training("reach-all", f"env-all on {REACH}", "--seeds 0,1,2", *several),
        add_training("push-all", f"env-all on {PUSH}", "--seeds 0,1,2", *several),
        add_training(
            "ablation", "numbers of relabelled goals", f"--env {PUSH} --nsg-values 2,4,8",
            "env", "nsg_values", "parallel",
        ),
    ):  # fmt: skip
        chapters.add_evaluation_options(parser)
    beside = add("compare", "HER beside no HER over seeds", over_seeds, "env", "train_seeds")
    cli.add_options(beside, Run, only=("run_tag",))
    cli.add_options(beside, EvalSettings, only=("results_dir",))
    add("card", "print the experiment card", "")
    return top


if __name__ == "__main__":
    cli.run(main)
