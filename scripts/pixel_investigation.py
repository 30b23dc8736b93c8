"""The chapter's story from the runs there are: policies side by side, and figures 9.1 to 9.4.

Whatever is missing is named, with the command that makes it; nothing is drawn without a run.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robotics_rl import artifacts, chapters, cli, options, plotting, rendering
from robotics_rl.artifacts import RunPaths
from robotics_rl.chapters import Card
from robotics_rl.config import EvalSettings, Run
from robotics_rl.errors import UsageError
from robotics_rl.reporting import other_settings

SMOKE_TEST = "smoke-test"  # the tag of trainings that show nothing but that all runs
# The book's pictures show the goal, and its networks compute in single precision.
_BOOK_VIEW: dict[str, Any] = {"hide_goal_marker": False, "precision": "fp32"}
# step of the book → the flags that make it
STEPS: dict[str, dict[str, Any]] = {
    "control": {"full_state": True},
    "0": _BOOK_VIEW,
    "1": {"encoder": "manipulation", "drq": False, **_BOOK_VIEW},
    "2": {"critic_encoder": True, "drq": False, **_BOOK_VIEW},
    "4": {"critic_encoder": True, **_BOOK_VIEW},
}
_MORE_MEMORY: dict[str, Any] = {"buffer_size": 500_000, "n_sampled_goal": 8}
# step of the book → how long it is trained, and with how much memory
LENGTHS: dict[str, dict[str, Any]] = {
    "control": {"total_steps": 2_000_000},
    "0": {"total_steps": 2_000_000},
    "1": {"total_steps": 2_000_000},
    "2": {"total_steps": 5_000_000, **_MORE_MEMORY},
    "4": {"total_steps": 1_500_000, **_MORE_MEMORY},
}
SAYS = {
    "control": "told the state",
    "0": "NatureCNN",
    "1": "ManipulationCNN",
    "2": "trained by the critic",
    "4": "with DrQ",
}
FIGURES = ("pixel_view", "encoder_progression", "pixel_investigation", "pixel_phases")  # 9.1 to 9.4
PHASES = {
    "success_rate": "success, last 100 episodes",
    "goal_moved_rate": "episodes whose block moved",
    "critic_loss": "critic loss",
    "actor_loss": "actor loss",
}
SOURCE = "Training episodes with their exploration; from runs/**/ch09_*/**/curves.csv."
LIKE = "like"  # a step of the book, but for settings or length


@dataclass(frozen=True)
class Curve:
    """A training of one of the steps."""

    step: str
    tag: str  # of the run; none: empty
    seed: str
    rows: list[dict[str, float | None]]
    is_of_book: bool  # trained as in the book, to the end

    def points(self, column: str) -> tuple[list[float], list[float]]:
        """Environment steps, and the values at those where there is one."""
        from robotics_rl import curves  # TensorBoard takes a second

        return curves.points(self.rows, column)


def titles(curves: Sequence[Curve]) -> list[str]:
    """Curves as a figure calls them, with their tags where these tell them apart."""
    tagged = len({curve.tag for curve in curves}) > 1
    parts = [(_likeness(one), one.tag * tagged, f"seed {one.seed}") for one in curves]
    return [", ".join(filter(None, three)) for three in parts]


def _likeness(curve: Curve) -> str:
    return _title(curve.step) if curve.is_of_book else f"{LIKE} {_title(curve.step)}"


def _title(step: str) -> str:
    return f"{_name(step)} ({SAYS[step]})"


def _name(step: str) -> str:
    return step if step == "control" else f"step {step}"


def add_compare_flags(parser: cli.Parser) -> None:
    """The flags of `compare`."""
    parser.add_argument("--steps", default=",".join(STEPS), help="which (default: %(default)s)")
    parser.add_argument("--seeds", default="0,1,2", help="training seeds (default: %(default)s)")
    cli.add_options(parser, Run, only=("run_tag",))
    cli.add_options(parser, EvalSettings, only=("results_dir",))


def compare(card: Card, given: Mapping[str, Any]) -> int:
    """Mean and intervals over training seeds of every step that was evaluated; 0 if any was."""
    results_dir = given.get("results_dir", EvalSettings.results_dir)
    groups: dict[str, dict[int, Path]] = {}
    missing: list[str] = []
    for step in _steps(given["steps"]):
        lacking: list[int] = []
        for seed in options.parse_seeds(given["seeds"]):
            own = {"seed": seed, **_given(given, "run_tag")}
            settings = card.settings({**STEPS[step], **own})
            path = card.evaluation_path(settings, results_dir)
            if path.exists():
                groups.setdefault(settings.run_name, {})[seed] = path
            else:
                lacking.append(seed)
        if lacking:
            seeds = ", ".join(map(str, lacking))
            own = {"seed": lacking[0], **_given(given, "run_tag")}
            train = _command(card, "train", {**STEPS[step], **LENGTHS[step], **own})
            judge = _command(card, "eval", {**STEPS[step], **own})
            missing.append(f"{_name(step)}, seed {seeds}: {train}, then {judge}")
    _tell_missing("evaluations", missing)
    if not groups:
        raise UsageError(f"nothing was evaluated yet in {results_dir}; train, then eval")
    rendering.render_nothing()
    # The book's steps are not equally long; the table says how long each was.
    chapters.compare_groups(groups, card.env_id, card.chapter, given, same_steps=False)
    return 0


def _given(given: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: given[name] for name in names if name in given}


def _steps(text: str) -> list[str]:
    steps = [part.strip() for part in text.split(",")]
    for step in steps:
        if step not in STEPS:
            raise UsageError(f"the book has no step {step!r}; choose among {', '.join(STEPS)}")
    return steps


def _command(card: Card, verb: str, flags: Mapping[str, Any]) -> str:
    return " ".join(["bash docker/dev.sh python", card.script, verb, *options.as_flags(flags, " ")])


def _tell_missing(what: str, missing: Sequence[str]) -> None:
    if missing:
        print(f"missing {what}:", *(f"  {one}" for one in missing), sep="\n")


def add_plot_flags(parser: cli.Parser) -> None:
    """The flags of `plot-investigation`."""
    parser.add_argument("--out-dir", default="figures", help="where PNGs go (default: %(default)s)")
    cli.add_options(parser, Run, only=("seed", "log_dir", "checkpoints_dir"))


def plot_investigation(card: Card, given: Mapping[str, Any]) -> int:
    """Draw what can be drawn, and name what is missing."""
    paths = {name: Path(given["out_dir"], file_name(name)) for name in FIGURES}
    for path in paths.values():
        artifacts.require_file(path)
    rendering.choose_backend()
    draw_view(card.env_id, given.get("seed", Run.seed), paths["pixel_view"])
    draw_encoders(paths["encoder_progression"])
    found = list(curves_of(card, **_given(given, "log_dir", "checkpoints_dir")))
    if found:
        draw_success(card.env_id, found, paths["pixel_investigation"])
        draw_phases(longest(found), paths["pixel_phases"])
    missing = missing_trainings(card, found)
    _tell_missing("trainings", [f"{step}: {command}" for step, command in missing.items()])
    return 0


def file_name(figure: str) -> str:
    """Of one of ``FIGURES``."""
    return f"ch09_{figure}.png"


def missing_trainings(card: Card, found: Sequence[Curve]) -> dict[str, str]:
    """The book's steps that were not trained as in the book yet → what trains them so."""
    there = {curve.step for curve in found if curve.is_of_book}
    return {
        _title(step): _command(card, "train", {**flags, **LENGTHS[step], "seed": 0})
        for step, flags in STEPS.items()
        if step not in there
    }


def curves_of(
    card: Card, log_dir: str = Run.log_dir, checkpoints_dir: str = Run.checkpoints_dir
) -> Iterator[Curve]:
    """Every training of a step, with whatever tag and settings; smoke tests are none."""
    from robotics_rl.curves import read_curves

    for step, flags in STEPS.items():
        roots = {"log_dir": log_dir, "checkpoints_dir": checkpoints_dir}
        inner = RunPaths.of(card.settings({**flags, **roots})).logs.parent.relative_to(log_dir)
        for path in sorted(Path(log_dir).glob(f"**/{inner}/seed*/curves.csv")):
            folder = path.parent
            outer = folder.parents[len(inner.parts)].relative_to(log_dir).as_posix()
            seed, tag = folder.name.removeprefix("seed"), "" if outer == "." else outer
            rows = read_curves(path)
            if rows and seed.isdecimal() and tag != SMOKE_TEST:
                own = {"seed": int(seed), "run_tag": tag or None, **roots}
                metadata = RunPaths.of(card.settings({**flags, **own})).metadata
                yield Curve(step, tag, seed, rows, _is_of_book(card, step, metadata))


def _is_of_book(card: Card, step: str, metadata: Path) -> bool:
    """Whether a training had the book's settings and number of steps; without metadata, no."""
    if not metadata.exists():
        return False
    made, book = artifacts.read_json(metadata), card.settings({**STEPS[step], **LENGTHS[step]})
    return made["steps_done"] >= book.run.total_steps and not other_settings(made, book)


def longest(curves: Sequence[Curve]) -> Curve:
    """The training to show phases of: the longest that saw pictures, or else the longest."""
    return max(curves, key=lambda curve: (curve.step != "control", curve.rows[-1]["env_steps"]))


def draw_view(env_id: str, seed: int, path: Path) -> None:
    """Figure 9.1: the table as people see it, and as policies do from both cameras."""
    from robotics_rl.envs.pixels import PixelBatch, View

    views = {
        "for people, 480 px": View(size=480, msaa=4, show_goal=True),
        "camera default, 84 px": View(camera="default"),
        "camera close, 84 px": View(camera="close"),
    }
    with plotting.figure(path, 7.5, 2.9) as figure:
        panels = figure.subplots(1, len(views))
        for panel, (title, view) in zip(panels, views.items(), strict=True):
            batch = PixelBatch(env_id, 1, view)
            frame = batch.reset(0, seed)["pixels"]
            batch.close()
            panel.imshow(frame.transpose(1, 2, 0), interpolation="nearest")
            panel.set(title=title, xticks=[], yticks=[])
        figure.suptitle(f"{env_id}, reset seed {seed}; policies do not see the goal's marker")


def draw_encoders(path: Path) -> None:
    """Figure 9.2: what untrained encoders make of a small block, by the lab that has them."""
    import torch
    from manipulation_encoder import compare_nature

    torch.manual_seed(0)
    # What the lab says of its measurements and of its file is for its own mode.
    with artifacts.atomic_write(path) as temporary, redirect_stdout(io.StringIO()):
        with plotting.in_style():
            for _ in compare_nature(temporary):
                pass
        plotting.shrink(temporary)
    print(f"OK: wrote {path}", flush=True)


def draw_success(env_id: str, curves: Sequence[Curve], path: Path) -> None:
    """Figure 9.3: success over steps of every training there is."""
    with plotting.figure(path, 7.0, 4.2, _caption(curves)) as figure:
        axes = figure.add_subplot()
        for number, (curve, title) in enumerate(zip(curves, titles(curves), strict=True)):
            look = plotting.line_style(number)
            axes.plot(*curve.points("success_rate"), label=title, **look)
        axes.set(ylabel=PHASES["success_rate"], ylim=(-0.02, 1.02))
        plotting.steps_axis(axes)
        axes.legend(fontsize=8)
        figure.suptitle(f"{env_id} from pictures: every training there is")


def _caption(curves: Sequence[Curve]) -> str:
    """Where curves are from, and that they are not what the book trained, if so."""
    parts = [SOURCE]
    if len({curve.tag for curve in curves}) > 1:
        parts.append("Named by the book's step, the run's tag and its seed.")
    if not all(curve.is_of_book for curve in curves):
        parts.append("Like a step: with other settings than the book's, or shorter.")
    return " ".join(parts)


def draw_phases(curve: Curve, path: Path) -> None:
    """Figure 9.4: success and losses of one training, one above the other."""
    columns = {name: label for name, label in PHASES.items() if curve.points(name)[0]}
    with plotting.figure(path, 6.0, 1.6 * len(columns) + 0.7, _caption([curve])) as figure:
        panels = figure.subplots(len(columns), 1, sharex=True, squeeze=False)[:, 0]
        for panel, (name, label) in zip(panels, columns.items(), strict=True):
            panel.plot(*curve.points(name), color=plotting.COLOURS[2])
            panel.set_title(label, loc="left")
            if name.endswith("_rate"):
                panel.set_ylim(-0.02, 1.02)
        plotting.steps_axis(panels[-1])
        figure.suptitle(*titles([curve]))
