"""Book chapter 5: hindsight experience replay makes the sparse reward enough.

A failed episode reaches some place, and seen with that place as its goal it is a success. In the
book SAC learns FetchReach without HER too, as chance finds the goal now and then, and FetchPush
only with it. `env-all` trains both over several seeds, evaluates and sets them side by side.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import starmap
from pathlib import Path
from typing import Any

import book_figures

from robotics_rl import (
    artifacts,
    campaign,
    chapters,
    cli,
    commands,
    config,
    options,
    recipes,
    reporting,
)
from robotics_rl.artifacts import RunPaths
from robotics_rl.campaign import Experiment
from robotics_rl.chapters import Card, Criterion
from robotics_rl.config import EvalSettings, Run, SelectiveHER, TrainSettings
from robotics_rl.errors import UsageError
from robotics_rl.jobs import default_parallel
from robotics_rl.options import one_of, option
from robotics_rl.provenance import command_line, git_state, utc_now
from robotics_rl.schemas import HindsightAblation, Journey
from robotics_rl.versions import gather_versions

CHAPTER, SCRIPT = "ch04", "scripts/ch04_her_sparse_reach_push.py"
REACH, PUSH = "FetchReach-v4", "FetchPush-v4"
BOOK: dict[str, Any] = {"total_steps": 1_000_000, **recipes.BOOK_HER}  # without HER as with it
CARD = Card(
    chapter=CHAPTER,
    title="SAC with HER on sparse Reach and Push (book chapter 5)",
    script=SCRIPT,
    algo="sac",
    env_id=PUSH,
    training={**BOOK, "her": True, "total_steps": 500_000, "ent_coef": 0.05},
    criteria=tuple(starmap(Criterion, book_figures.FAST_PATHS["push"])),
    book=book_figures.RESULTS[PUSH].text,
    book_fast_path=book_figures.RESULTS["push_fast_path"].text,
    fast_verb="train",
    fast_flags={"env": PUSH, "her": True, "seed": 0, "total_steps": 500_000, "ent_coef": 0.05},
    over_seeds=f"env-all --env {PUSH} --seeds 0,1,2",
)
# of policies with HER
CRITERIA = {PUSH: CARD.criteria, REACH: (Criterion("success_rate", ">=", 0.95),)}
GROUPS = {"no-HER": False, "HER": True}
# What was wrong before Push was learned, one thing at a time: flags that differ from the recipe.
JOURNEY: dict[str, dict[str, Any]] = {
    "α learned, every goal": {"ent_coef": "auto", "trivial_goal_keep": 1.0},
    "α learned, selected goals": {"ent_coef": "auto"},
    "α 0.05, every goal": {"trivial_goal_keep": 1.0},
    "α 0.05, selected goals": {},
}
JOURNEY_FACTORS = ("ent_coef", "trivial_goal_keep")
JOURNEY_STEPS = 150_000


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which of the chapter's policies, and what draws their videos."""

    env: str | None = option(None, "Gymnasium id of a task with goals")
    her: bool = option(False, "relabel goals in hindsight")
    print_defaults: bool = option(False, "print every setting and where it comes from, and exit")
    mujoco_gl: str | None = option(
        None, "what draws videos: egl, osmesa or glfw", one_of("egl", "osmesa", "glfw")
    )


@dataclass(frozen=True, kw_only=True)
class Several:
    """Flags of what trains more than one policy."""

    train_seeds: str = option("0,1,2", "training seeds", None, "--seeds")
    nsg_values: str = option("2,4,8", "numbers of relabelled goals per real one")
    parallel: int = option(
        default_parallel(), "trainings side by side (two cores each are best)", options.positive
    )


def main(argv: Sequence[str]) -> int:
    """Run one sub-command."""
    given = vars(_parser().parse_args(argv))
    command = given.pop("command")
    options.fill(Choice, given)
    options.fill(Several, given)
    if backend := given.pop("mujoco_gl", None):
        os.environ["MUJOCO_GL"] = backend
    if command in ("reach-all", "push-all"):
        given["env"] = REACH if command == "reach-all" else PUSH
    k = given.get("n_sampled_goal", SelectiveHER.n_sampled_goal)
    if k != SelectiveHER.n_sampled_goal and "run_tag" not in given:
        given["run_tag"] = f"nsg{k}"  # keeps the files of the default
    match command:
        case "card":
            print(CARD.text())
            return 0
        case "train":
            return train(given)
        case "eval":
            return evaluate(given)
        case "compare":
            return compare(given)
        case "ablation":
            return ablation(given)
        case "journey":
            return journey(given)
    return env_all(given)


def train(given: dict[str, Any]) -> int:
    """Train one policy, or say with which settings."""
    asked = given.pop("print_defaults", False)
    settings = _settings(given)
    if asked:
        recipe, her = settings.run.recipe, settings.her is not None
        sources = recipes.layers(settings.env_id, recipe, given, BOOK, her=her)
        print(reporting.settings_table(settings, sources))
    else:
        commands.train(settings)
    return 0


def evaluate(given: Mapping[str, Any]) -> int:
    """Evaluate a checkpoint, and hold a policy with HER against its criteria."""
    chapters.require_one_name(given, ["her"])
    training, evaluation = chapters.split(given)
    if "ckpt" not in evaluation:
        evaluation["ckpt"] = str(RunPaths.of(_settings(training)).checkpoint)
    elif "env" in training:
        evaluation["env"] = training["env"]  # another one than it was trained on
    result = commands.evaluate(*cli.eval_settings(evaluation), chapter=CHAPTER)
    metadata = artifacts.metadata_path(artifacts.existing_checkpoint(Path(evaluation["ckpt"])))
    made = artifacts.read_json(metadata) if metadata.exists() else {}
    if not made.get("her") or result.env_id not in CRITERIA:
        return 0
    return 0 if chapters.report(CRITERIA[result.env_id], vars(result.aggregate)) else 1


def env_all(given: Mapping[str, Any]) -> int:
    """Train and evaluate with and without HER over seeds, skip what is there, then compare."""
    seeds = options.parse_seeds(given.get("train_seeds", Several.train_seeds))
    pairs = [(seed, her) for seed in seeds for her in GROUPS.values()]
    if not _complete([_experiment(given, seed, her) for seed, her in pairs], given):
        return 1
    return compare(given)


def compare(given: Mapping[str, Any]) -> int:
    """HER beside no HER over training seeds, with the two floors; HER against its criteria."""
    env_id = _env_id(given)
    asked = given.get("train_seeds", Several.train_seeds)
    place = {name: given[name] for name in ("run_tag", "results_dir") if name in given}
    seeds = options.parse_seeds(asked)
    groups = {
        name: {seed: _result_path({"env": env_id, **place}, seed, her) for seed in seeds}
        for name, her in GROUPS.items()
    }
    missing = [
        f"{name} seed {seed}"
        for name, by_seed in groups.items()
        for seed, path in by_seed.items()
        if not path.exists()
    ]
    if missing:
        again = " ".join(options.as_flags({"env": env_id, "seeds": asked, **place}))
        raise UsageError(
            f"no result of {', '.join(missing)} on {env_id}; make them with: "
            f"bash docker/dev.sh python {SCRIPT} env-all {again}"
        )
    comparison = chapters.compare_groups(groups, env_id, CHAPTER, place)
    print(comparison.verdict)
    means = {metric: spread.mean for metric, spread in comparison.groups["HER"].items()}
    criteria = CRITERIA.get(env_id, ())
    return 0 if not criteria or chapters.report(criteria, means) else 1


def ablation(given: Mapping[str, Any]) -> int:
    """HER with several numbers of relabelled goals per real one."""
    values = [_count(part) for part in given.get("nsg_values", Several.nsg_values).split(",")]
    seed, folder = given.get("seed", Run.seed), given.get("run_tag", "")
    experiments = {
        k: _experiment(
            {**given, "n_sampled_goal": k, "run_tag": str(Path(folder, f"nsg{k}"))}, seed, her=True
        )
        for k in values
    }
    if not _complete(list(experiments.values()), given):
        return 1
    document = HindsightAblation(
        env_id=_env_id(given),
        seed=seed,
        created_at=utc_now(),
        aggregates={
            str(k): artifacts.read_json(one.result)["aggregate"] for k, one in experiments.items()
        },
        sources=[one.result.as_posix() for one in experiments.values()],
        command=command_line(),
        git=git_state(),
        versions=gather_versions(),
    )
    results_dir = given.get("results_dir", EvalSettings.results_dir)
    path = Path(results_dir, folder, f"{CHAPTER}_{document.env_id.lower()}_ablation.json")
    same = artifacts.has_same(document, "seed", "sources", "aggregates")
    artifacts.keep_other(path, "ablation", same)
    artifacts.write_json(path, document)
    print(reporting.hindsight_table(document))
    print(f"OK: wrote {path}")
    return 0


def journey(given: Mapping[str, Any]) -> int:
    """Entropy learned or fixed, hindsight goals all or selected: over seeds, with α on the way."""
    given = {"env": PUSH, "total_steps": JOURNEY_STEPS, **given}
    seeds = options.parse_seeds(given.get("train_seeds", Several.train_seeds))
    tag, folder = given.get("run_tag", ""), given.get("results_dir", EvalSettings.results_dir)
    experiments = {
        (arm, seed): _experiment(
            {**given, **flags, "run_tag": str(Path(tag, "journey", f"arm{number}"))}, seed, her=True
        )
        for seed in seeds
        for number, (arm, flags) in enumerate(JOURNEY.items(), 1)
    }
    if not _complete(list(experiments.values()), given):
        return 1
    from robotics_rl.journey import draw, run_of  # matplotlib takes a second

    document = Journey(
        env_id=given["env"],
        total_steps=given["total_steps"],
        arms=JOURNEY,
        runs=[run_of(arm, one) for (arm, _), one in experiments.items()],
        created_at=utc_now(),
        command=command_line(),
        git=git_state(),
        versions=gather_versions(),
    )
    path = Path(folder, tag, f"{CHAPTER}_journey.json")
    figure = artifacts.figure_path(path)
    # What comes of a run tells its settings apart, as it repeats to the bit.
    same = artifacts.has_same(document, "env_id", "total_steps", "arms", "runs")
    artifacts.keep_other(path, "journey", same, figure)
    artifacts.write_json(path, document)
    print(reporting.journey_table(document))
    print(f"OK: wrote {path}")
    draw(document, figure)
    return 0


def _complete(experiments: Sequence[Experiment], given: Mapping[str, Any]) -> bool:
    return campaign.complete(
        experiments,
        given.get("parallel", Several.parallel),
        show_progress=given.get("progress", True),
    )


def _settings(given: Mapping[str, Any]) -> TrainSettings:
    asked = {**given, "env": _env_id(given)}
    return cli.training_settings(asked, chapter=CHAPTER, algo="sac", **BOOK)


def _env_id(given: Mapping[str, Any]) -> str:
    if "env" not in given:
        raise UsageError("the environment is not known; name it with --env")
    return str(given["env"])


def _experiment(given: Mapping[str, Any], seed: int, her: bool) -> Experiment:
    """One training and its evaluation; without HER less what only HER has a use for."""
    training, evaluation = chapters.split(given)
    useless = options.option_names(Several)
    if not her:
        useless |= {"recipe", *options.option_names(SelectiveHER)}
    training = {name: value for name, value in training.items() if name not in useless}
    training |= {"seed": seed} | ({"her": True} if her else {})
    settings = _settings(training)
    evaluation["ckpt"] = str(RunPaths.of(settings).checkpoint)
    judged, episodes = cli.eval_settings(evaluation)
    result = _result_path({**training, **evaluation}, seed, her)
    return Experiment(
        settings=settings,
        result=result,
        episodes=episodes,
        deterministic=judged.deterministic,
        train=[SCRIPT, "train", *options.as_flags(training)],
        evaluate=["eval.py", *options.as_flags({**evaluation, "json_out": str(result)})],
    )


def _result_path(given: Mapping[str, Any], seed: int, her: bool) -> Path:
    place = {name: given[name] for name in ("env", "run_tag") if name in given}
    settings = _settings({**place, "seed": seed, "her": her})
    results_dir = given.get("results_dir", EvalSettings.results_dir)
    name = artifacts.evaluation_name(settings.run_name, settings.env_id, seed)
    return artifacts.evaluation_path(results_dir, settings.run.run_tag, CHAPTER, name)


def _count(text: str) -> int:
    if not text.strip().isdecimal() or int(text) == 0:
        raise UsageError("cannot read --nsg-values; write them as 2,4,8")
    return int(text)


def _parser() -> cli.Parser:
    top = cli.Parser(prog=SCRIPT, description=__doc__)
    subparsers = top.add_subparsers(prog=SCRIPT, dest="command", required=True, metavar="COMMAND")

    def add(name: str, text: str, flags: str, *choices: str) -> cli.Parser:
        parser = chapters.add_command(subparsers, SCRIPT, name, text, flags)
        cli.add_options(parser, Choice, Several, only=choices)
        return parser

    def add_training(parser: cli.Parser, *without: str, **defaults: Any) -> None:
        parts = (*config.parts_of("sac"), SelectiveHER, Run)
        cli.add_options(parser, *parts, defaults=BOOK | defaults, without=without)

    add_training(add("train", "train one policy", CARD.fast_path.removeprefix("train "),
                     "env", "her", "print_defaults", "mujoco_gl"))  # fmt: skip
    checkpoint = RunPaths.of(CARD.settings({})).checkpoint
    judge = add("eval", "evaluate a checkpoint", f"--ckpt {checkpoint}", "env", "her", "mujoco_gl")
    chapters.add_checkpoint_options(judge)
    several, over_seeds = ("train_seeds", "parallel", "mujoco_gl"), "--seeds 0,1,2"
    for parser in (
        add("env-all", "train, evaluate, compare", f"--env {REACH} {over_seeds}", "env", *several),
        add("reach-all", f"env-all on {REACH}", over_seeds, *several),
        add("push-all", f"env-all on {PUSH}", over_seeds, *several),
    ):
        add_training(parser, "seed", "out", "resume")
        chapters.add_evaluation_options(parser)
    over_k = add("ablation", "numbers of relabelled goals", f"--env {PUSH} --nsg-values 2,4,8",
                 "env", "nsg_values", "parallel", "mujoco_gl")  # fmt: skip
    add_training(over_k, "n_sampled_goal", "out", "resume")
    chapters.add_evaluation_options(over_k)
    story = add("journey", "entropy and hindsight goals, two by two", over_seeds, "env", *several)
    add_training(story, "seed", "out", "resume", *JOURNEY_FACTORS, total_steps=JOURNEY_STEPS)
    chapters.add_evaluation_options(story)
    beside = add("compare", "HER beside no HER over seeds", f"--env {REACH} {over_seeds}",
                 "env", "train_seeds")  # fmt: skip
    cli.add_options(beside, Run, only=("run_tag",))
    cli.add_options(beside, EvalSettings, only=("results_dir",))
    add("card", "print the experiment card", "")
    return top


if __name__ == "__main__":
    cli.run(main)
