"""What the chapter scripts share: the experiment card, its criteria, and comparing seeds."""

import argparse
import operator
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from robotics_rl import artifacts, cli, commands, config, options, reporting
from robotics_rl.artifacts import RunPaths
from robotics_rl.config import EvalSettings, TrainSettings
from robotics_rl.errors import UsageError
from robotics_rl.provenance import command_line, machine, utc_now
from robotics_rl.schemas import ChapterRun, Comparison
from robotics_rl.versions import gather_versions

_HOLDS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    ">": operator.gt,
    "<": operator.lt,
}

Result = Mapping[str, Any]  # metric → value, as in ``schemas.Aggregate``


@dataclass(frozen=True)
class Criterion:
    """One bound that a chapter's result must keep."""

    metric: str
    relation: str  # >=, > or <
    bound: float

    def is_met(self, result: Result) -> bool:
        """Whether the result keeps the bound; a value that is missing does not."""
        value = result[self.metric]
        return value is not None and _HOLDS[self.relation](value, self.bound)

    def verdict(self, result: Result) -> str:
        """One line: the measured value, the bound, PASS or FAIL."""
        verdict = "PASS" if self.is_met(result) else "FAIL"
        value = result[self.metric]
        shown = "none" if value is None else f"{value:.4g}"
        return f"  {verdict}  {self.metric} {shown} (must be {self.relation} {self.bound:g})"


@dataclass(frozen=True)
class Card:
    """An experiment card: everything a reader needs to repeat a chapter's result."""

    chapter: str
    title: str
    script: str
    algo: str
    env_id: str
    criteria: tuple[Criterion, ...]
    book: str  # the book's own figures, quoted
    book_fast_path: str  # and those of its short run
    training: Mapping[str, Any] = field(default_factory=dict)  # flags that differ from the defaults
    book_metrics: Mapping[str, str] = field(default_factory=dict)  # the book's, by our names
    # of curves.csv: (column, environment steps) → the book's value there; column → its good range
    book_curve: Mapping[tuple[str, int], str] = field(default_factory=dict)
    book_signs: Mapping[str, str] = field(default_factory=dict)
    fast_verb: str = "all"  # the sub-command of our short run
    fast_flags: Mapping[str, Any] = field(default_factory=lambda: {"seed": 0})
    published_as: str = "fastpath"  # the tag of our short run that is published
    over_seeds: str = "compare --seeds 0,1,2"

    @property
    def fast_path(self) -> str:
        """Sub-command and flags of the short run, as they are typed."""
        return " ".join([self.fast_verb, *options.as_flags(self.fast_flags, " ")])

    def short_run(self, **own: Any) -> list[str]:
        """The commands that train and judge as ``fast_path`` does, with some flags ``own``."""
        flags = {**self.fast_flags, **own}
        typed = " ".join(options.as_flags(flags, " "))
        commands = [f"python {self.script} {self.fast_verb} {typed}"]
        if self.fast_verb == "train":
            path = RunPaths.of(self.settings(flags)).checkpoint.as_posix()
            commands.append(f"python {self.script} eval --ckpt {path}")
        return commands

    def settings(self, given: Mapping[str, Any]) -> TrainSettings:
        """The chapter's training with the flags given on the command line."""
        defaults = {"algo": self.algo, "env": self.env_id, **self.training}
        return cli.training_settings(given, chapter=self.chapter, **defaults)

    def owns(self, metadata: Mapping[str, Any]) -> bool:
        """Whether a checkpoint with this metadata is of the chapter."""
        return (metadata.get("algo"), metadata.get("env_id")) == (self.algo, self.env_id)

    def evaluation_path(self, settings: TrainSettings, results_dir: str) -> Path:
        """Where this training's evaluation goes."""
        name = artifacts.evaluation_name(settings.run_name, settings.env_id, settings.run.seed)
        return artifacts.evaluation_path(results_dir, settings.run.run_tag, self.chapter, name)

    def comparison_path(self, results_dir: str, run_tag: str | None) -> Path:
        """Where the comparison over training seeds goes."""
        return comparison_path(self.chapter, self.env_id, results_dir, run_tag)

    def text(self) -> str:
        """The card as it is printed."""
        settings = self.settings(self.fast_flags)
        paths = RunPaths.of(settings)
        tagged = self.settings({**self.fast_flags, "run_tag": self.published_as})
        published = RunPaths.of(tagged).metadata
        timed = published if published.exists() else paths.metadata
        command = f"bash docker/dev.sh python {self.script}"
        rows = [
            ("algorithm", f"{reporting.algorithm(settings)} on {self.env_id}"),
            ("fast path", f"{command} {self.fast_path}"),
            ("steps", f"{settings.run.total_steps:,} in {settings.run.n_envs} environments"),
            ("time", reporting.training_time(timed)),
            ("artifacts", f"{paths.checkpoint}, {paths.metadata.name}"),
            ("", str(self.evaluation_path(settings, EvalSettings.results_dir))),
            ("", str(paths.curves)),
            ("criteria", f"{self.criteria[0].metric} {_bound(self.criteria[0])}"),
            *(("", f"{criterion.metric} {_bound(criterion)}") for criterion in self.criteria[1:]),
            ("over seeds", f"{command} {self.over_seeds}"),
            ("book", self.book),
            ("", self.book_fast_path),
        ]
        return card_text(self.title, rows)


def report(criteria: Sequence[Criterion], result: Result) -> bool:
    """Print every criterion with its measured value; True if all are met."""
    print("success criteria:")
    for criterion in criteria:
        print(criterion.verdict(result))
    return all(criterion.is_met(result) for criterion in criteria)


def card_text(title: str, rows: Sequence[tuple[str, str]]) -> str:
    """An experiment card as it is printed."""
    width = max(len(name) for name, _ in rows)
    return "\n".join([title, *(f"  {name:<{width}}  {text}" for name, text in rows)])


def run_path(chapter: str) -> Path:
    """Where the time that a chapter's `all` took is kept."""
    return Path(EvalSettings.results_dir, f"{chapter}_run.json")


def record_run(chapter: str, seconds: Mapping[str, float], device: str) -> None:
    """Keep how long each part of a chapter took; its card and the README show it."""
    from robotics_rl.devices import device_name  # torch takes seconds; by now it is loaded

    path = run_path(chapter)
    run = ChapterRun(
        chapter=chapter,
        command=command_line(),
        created_at=utc_now(),
        seconds={name: round(value, 2) for name, value in seconds.items()},
        wall_seconds=round(sum(seconds.values()), 2),
        device_name=device_name(device),
        versions=gather_versions(),
        **machine(),
    )
    artifacts.write_json(path, run)
    print(f"OK: wrote {path}")


def _bound(criterion: Criterion) -> str:
    return f"{criterion.relation} {criterion.bound:g}"


def add_command(subparsers: Any, script: str, name: str, text: str, flags: str = "") -> cli.Parser:
    """Add a sub-command whose help ends with an example."""
    example = f"example:\n  bash docker/dev.sh python {script} {name} {flags}".rstrip()
    added: cli.Parser = subparsers.add_parser(name, help=text, description=text, epilog=example)
    return added


# The flags of evaluation, by their field. Beside training, --seed and --device are training's.
_EVALUATION_FLAGS = {
    "n_episodes": "n_eval_episodes",
    "seed": "eval_seed",
    "seeds": "eval_seeds",
    "deterministic": "eval_deterministic",
    "device": "eval_device",
    "algo": "eval_algo",
    "ckpt": "ckpt",
    "results_dir": "results_dir",
    "video": "video",
}
SHARED = ("run_tag", "progress", "engine")  # training's, and evaluation's too


def parser(
    card: Card, story: str, more: Callable[[Callable[..., cli.Parser]], None] = lambda add: None
) -> cli.Parser:
    """The sub-commands of every training chapter.

    Args:
        card: the experiment.
        story: what the chapter does.
        more: adds the chapter's own sub-commands; called with a function that adds one by name,
            help text and example flags.
    """
    top = cli.Parser(prog=card.script, description=story)
    subparsers = top.add_subparsers(
        prog=card.script, dest="command", required=True, metavar="COMMAND"
    )

    def add(name: str, text: str, flags: str = "") -> cli.Parser:
        return add_command(subparsers, card.script, name, text, flags)

    checkpoint = RunPaths.of(card.settings({})).checkpoint
    whole = add("all", "train, evaluate, hold against the criteria", "--seed 0")
    train = add("train", "train the policy", "--seed 0 --total-steps 5000")
    for one in (whole, train):
        cli.add_options(one, *config.parts_of(card.algo), config.Run, defaults=card.training)
    evaluate = add("eval", "evaluate a checkpoint", f"--ckpt {checkpoint}")
    add_checkpoint_options(evaluate)
    add_evaluation_options(whole)
    compare = add("compare", "mean and intervals over training seeds", "--seeds 0,1,2")
    compare.add_argument("--seeds", default="0,1,2", help="training seeds (default: 0,1,2)")
    cli.add_options(compare, config.Run, only=("run_tag",))
    cli.add_options(compare, EvalSettings, only=("results_dir",))
    more(add)
    add("card", "print the experiment card")
    return top


def add_evaluation_options(parser: cli.Parser) -> None:
    """The flags of evaluation, by the names that they have beside those of training."""
    flags = {field: flag for field, flag in _EVALUATION_FLAGS.items() if field != "ckpt"}
    cli.add_options(parser, EvalSettings, renamed=flags)


def add_checkpoint_options(parser: cli.Parser) -> None:
    """The flags of `eval`: a checkpoint, or the run that it is of, and how to evaluate it."""
    add_evaluation_options(parser)
    cli.add_options(parser, EvalSettings, only=("ckpt",))
    cli.add_options(parser, config.Run, only=("seed", "checkpoints_dir", *SHARED))
    same = "the same as --eval-device"
    parser.add_argument("--device", dest="eval_device", default=argparse.SUPPRESS, help=same)


def run(card: Card, command: str, given: Mapping[str, Any]) -> int:
    """Carry out a sub-command that every training chapter has."""
    match command:
        case "card":
            print(card.text())
            return 0
        case "compare":
            return compare_seeds(card, given)
    require_one_name(given)
    training, evaluation = split(given)
    settings = card.settings(training)
    if command != "eval":
        commands.train(settings)
    if command == "train":
        return 0
    evaluation = {"ckpt": str(RunPaths.of(settings).checkpoint), **evaluation}
    require_same_chapter(card, evaluation["ckpt"])
    result = commands.evaluate(*cli.eval_settings(evaluation), chapter=card.chapter)
    return 0 if report(card.criteria, vars(result.aggregate)) else 1


def require_one_name(given: Mapping[str, Any], naming: Collection[str] = ()) -> None:
    """Refuse ``--ckpt`` together with flags that name a run as well.

    Args:
        given: flags of ``eval``.
        naming: the flags that a chapter names its runs by, beside those that all have.

    Raises:
        UsageError: it is named by both.
    """
    if "ckpt" in given and (also := given.keys() & {"seed", "checkpoints_dir", *naming}):
        flags = ", ".join(sorted(map(options.flag_of, also)))
        raise UsageError(f"--ckpt says which checkpoint; leave out {flags}")


def require_same_chapter(card: Card, checkpoint: str) -> None:
    """Refuse a checkpoint of another chapter: these criteria are not for it.

    Raises:
        UsageError: the checkpoint is of another chapter.
    """
    path = artifacts.metadata_path(artifacts.existing_checkpoint(Path(checkpoint)))
    if not path.exists():
        return
    made = artifacts.read_json(path)
    if not card.owns(made):
        name = made.get("run_name") or made.get("algo")
        raise UsageError(
            f"{checkpoint} is of {name} on {made.get('env_id')}, not of this chapter; "
            f"use: python eval.py --ckpt {checkpoint}"
        )


def split(given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The flags of training and of evaluation, apart; the latter by their own names."""
    fields = {**_EVALUATION_FLAGS, **{name: name for name in SHARED}}
    evaluation = {name: given[flag] for name, flag in fields.items() if flag in given}
    elsewhere = _EVALUATION_FLAGS.values()
    return {name: value for name, value in given.items() if name not in elsewhere}, evaluation


def compare_seeds(card: Card, given: Mapping[str, Any]) -> int:
    """Mean, intervals and per-seed values over training seeds, beside the two floors."""
    results_dir, tag = given.get("results_dir", EvalSettings.results_dir), given.get("run_tag")
    settings = [
        card.settings({"seed": seed, "run_tag": tag})
        for seed in options.parse_seeds(given["seeds"])
    ]
    by_seed = {one.run.seed: card.evaluation_path(one, results_dir) for one in settings}
    missing = [seed for seed, path in by_seed.items() if not path.exists()]
    if missing:
        place = {name: given[name] for name in ("run_tag", "results_dir") if name in given}
        flags = " ".join(options.as_flags({"seed": missing[0], **place}))
        raise UsageError(
            f"no result for training seed {', '.join(map(str, missing))} in {results_dir}; "
            f"make it with: bash docker/dev.sh python {card.script} all {flags}"
        )
    compare_groups({settings[0].run_name: by_seed}, card.env_id, card.chapter, given)
    return 0


def compare_groups(
    groups: Mapping[str, Mapping[int, Path]],
    env_id: str,
    chapter: str,
    given: Mapping[str, Any],
    *,
    same_steps: bool = True,
) -> Comparison:
    """Set trained policies beside the floors, on the same episodes; write and print it.

    Args:
        groups: name → training seed → evaluation JSON, which exists.
        env_id: what they were evaluated on.
        chapter: prefix of the comparison's name.
        given: flags; ``results_dir`` and ``run_tag`` say where it goes.
        same_steps: whether the groups must have been trained equally long.
    """
    results_dir, tag = given.get("results_dir", EvalSettings.results_dir), given.get("run_tag")
    from robotics_rl.comparison import compare, read_alike  # scipy takes a second

    documents, _ = read_alike(groups, same_steps=same_steps)  # refuses before a floor is played
    floors = baselines(env_id, results_dir, tag, next(iter(documents.values()))["seeds"])
    comparison = compare(groups, floors, env_id, same_steps=same_steps)
    path = comparison_path(chapter, env_id, results_dir, tag)
    same = ("seeds", "n_episodes", "sources", "trainings")
    artifacts.keep_other(path, "comparison", artifacts.has_same(comparison, *same))
    artifacts.write_json(path, comparison)
    print(reporting.comparison_table(comparison))
    print(f"OK: wrote {path}")
    return comparison


def comparison_path(chapter: str, env_id: str, results_dir: str, run_tag: str | None) -> Path:
    """Where a comparison over training seeds goes."""
    return Path(results_dir, run_tag or "", f"{chapter}_{env_id.lower()}_comparison.json")


def baselines(
    env_id: str, results_dir: str, tag: str | None, episodes: Sequence[int]
) -> dict[str, Path]:
    """The evaluations of the two floors, made where they are missing or of other episodes."""
    paths = {}
    for name in ("do-nothing", "random"):
        run_name = name.replace("-", "_")
        file_name = artifacts.evaluation_name(run_name, env_id, None)
        path = artifacts.evaluation_path(results_dir, tag, None, file_name)
        if not path.exists() or artifacts.read_json(path)["seeds"] != episodes:
            settings = EvalSettings(baseline=name, env=env_id, results_dir=results_dir, run_tag=tag)
            commands.evaluate(settings, episodes)
        paths[run_name] = path
    return paths
