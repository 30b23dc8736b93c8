"""Figures of learning curves: the labs' demos, and trainings over seeds beside the book's."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import book_figures
import ch03_sac_dense_reach as ch03
import ch04_her_sparse_reach_push as ch04
import dense_reach_tables
import lab_seeds
import numpy as np
from chapter5_tables import CONTROL_TAG
from matplotlib.axes import Axes

from robotics_rl import plotting
from robotics_rl.artifacts import evaluation_name, evaluation_path, read_json
from robotics_rl.config import ALGORITHMS, EvalSettings, Run
from robotics_rl.curves import points, read_run
from robotics_rl.plotting import Points
from robotics_rl.schemas import Journey, JourneyRun

# column of a curve → what it is called, and the metric of a criterion that is about the same
PANELS = {
    "success_rate": ("success rate", "success_rate"),
    "ep_rew_mean": ("return of an episode", "return_mean"),
}
TARGET, RESULT = "book's target", "book's result"  # what a dashed line is
SMOOTHED = "Training episodes with their exploration, mean of the last 100."  # as SB3 logs


@dataclass(frozen=True)
class Runs:
    """The trainings of one policy over seeds."""

    env_id: str
    run_name: str  # ppo, sac, sac_her …
    tag: str  # of the runs; none: empty
    folder: Path
    seeds: dict[int, list[dict[str, float | None]]]  # training seed → rows of its curve

    @property
    def policy(self) -> str:
        """What was trained, as figures call it."""
        is_plain = self.run_name.split("_")[0] in ALGORITHMS
        return self.run_name.upper().replace("_", " + ") if is_plain else self.run_name

    @property
    def title(self) -> str:
        """These trainings, as figures call them."""
        if self.tag == CONTROL_TAG:
            return f"{self.policy}, recipe's settings"
        return f"{self.policy} ({self.tag})" if self.tag else self.policy

    @property
    def source(self) -> str:
        """Who they are and where they lie, for a caption."""
        seeds = ", ".join(map(str, sorted(self.seeds)))
        return f"{self.title}: seeds {seeds}, {self.folder.as_posix()}"

    def curves(self, column: str) -> list[Points]:
        """A column of every seed that logged it."""
        found = [points(rows, column) for rows in self.seeds.values()]
        return [curve for curve in found if curve[0]]

    def of_the_book(self) -> tuple[str, dict[str, float]]:
        """What the book's card asks of this policy, or else what the book's own came to."""
        cards = {(card.env_id, card.algo): card for card in dense_reach_tables.CARDS}
        cards[ch04.CARD.env_id, "sac_her"] = ch04.CARD
        if card := cards.get((self.env_id, self.run_name)):
            return TARGET, {one.metric: one.bound for one in card.criteria}
        if (self.env_id, self.run_name) == (ch04.REACH, "sac_her"):
            quoted = book_figures.HER_ON_REACH.items()
            return RESULT, {metric: float(text.split()[0]) for metric, text in quoted}
        return "", {}


def runs_under(folder: Path) -> Iterator[Runs]:
    """What lies in or under a folder of trainings, ``…/[TAG/]RUN/ENV/seedK``."""
    by_parent: dict[Path, dict[int, list[dict[str, float | None]]]] = {}
    for path in sorted([folder, *folder.glob("**/seed*")]):
        seed = re.fullmatch(r"seed(\d+)", path.name)
        if path.is_dir() and seed and (rows := read_run(path)):
            by_parent.setdefault(path.parent, {})[int(seed[1])] = rows
    for parent, seeds in by_parent.items():
        run, root = parent.parent, Path(Run.log_dir)
        tag = run.parent.relative_to(root) if run.is_relative_to(root) else run.parent
        yield Runs(parent.name, run.name, "" if tag == Path() else tag.as_posix(), parent, seeds)


def learning_curves(runs: Sequence[Runs], path: Path) -> None:
    """Success and return over environment steps: mean and range over seeds, beside the book."""
    env_id = runs[0].env_id
    caption = f"{env_id}. {_lines(runs)} {SMOOTHED} "
    dashed = {one.of_the_book()[0] for one in runs}
    if TARGET in dashed:
        caption += "Dashed: what the book's experiment card asks of the evaluated policy. "
    if RESULT in dashed:
        steps = book_figures.SPARSE_STEPS[env_id]
        caption += f"Dashed: the evaluation of the book's policy after {steps:,} steps. "
    caption += _sources(runs)
    with plotting.figure(path, 7.5, 3.9, caption) as figure:
        panels = figure.subplots(1, len(PANELS))
        for panel, (column, (label, metric)) in zip(panels, PANELS.items(), strict=True):
            for number, one in enumerate(runs):
                _draw_runs(panel, one, column, number)
            _draw_book(panel, runs, metric)
            panel.set_ylabel(label)
            plotting.steps_axis(panel)
        panels[0].set_ylim(-0.02, 1.02)
        _draw_floor(panels[0], env_id)
        lines = panels[0].get_legend_handles_labels()
        figure.legend(*lines, loc="outside upper center", ncols=3)


def entropy_coefficient(runs: Sequence[Runs], path: Path) -> None:
    """α of SAC over environment steps, beside the values that the book prints."""
    with plotting.figure(path, 6.0, 3.6, f"{_lines(runs)} {_sources(runs)}") as figure:
        axes = figure.add_subplot()
        for number, one in enumerate(runs):
            _draw_runs(axes, one, "ent_coef", number, f"{one.title} on {one.env_id}")
        book = {
            at: float(v) for (name, at), v in ch03.CARD.book_curve.items() if name == "ent_coef"
        }
        if any(one.env_id == ch03.CARD.env_id for one in runs):
            look: Any = {"marker": "D", "linestyle": "none", "markerfacecolor": "none"}
            axes.plot(*zip(*book.items(), strict=True), color="0.3", label="book, seed 0", **look)
        axes.set(ylabel="entropy coefficient α", yscale="log")
        plotting.steps_axis(axes)
        axes.legend()


def read_journey(path: Path) -> Journey:
    """A document of ``ch04_her_sparse_reach_push.py journey``."""
    document = read_json(path)
    document.pop("schema")
    return Journey(**{**document, "runs": [JourneyRun(**run) for run in document["runs"]]})


def ppo_demo(sources: dict[str, Path], path: Path) -> None:
    """The PPO lab's demos: a line per seed until it reached its target.

    Args:
        sources: environment id → document of ``lab_seeds.py``.
        path: of the PNG.
    """
    lab = lab_seeds.load_lab("ppo_from_scratch")
    found = {env_id: read_json(source) for env_id, source in sources.items()}
    told = "; ".join(_seeds_in(sources[env_id], one) for env_id, one in found.items())
    caption = (
        "PPO lab: mean return of the last 20 training episodes after every rollout. A seed ends "
        "(dot) once 20 fresh episodes reach the target (dashed). "
        f"From {told}."
    )
    with plotting.figure(path, 7.5, 3.6, caption) as figure:
        panels = figure.subplots(1, len(found), squeeze=False)[0]
        for panel, (env_id, document) in zip(panels, found.items(), strict=True):
            target, settings = lab.TASKS[env_id]
            for number, row in enumerate(document["rows"]):
                returns = np.array(row["curve"], float)  # None where no episode had ended
                steps = settings.n_steps * np.arange(1, len(returns) + 1)
                look = {"color": "black", "zorder": 3} if number == 0 else {"color": "0.65"}
                label = {0: f"seed {row['seed']}", 1: "other seeds"}.get(number)
                panel.plot(steps, returns, label=label, **look)
                if row["learned"]:
                    panel.plot(steps[-1], returns[-1], "o", markersize=4, **look)
            panel.axhline(target, color="0.3", label=f"target {target:g}", **plotting.TARGET)
            panel.set_title(document["title"])
            plotting.steps_axis(panel)
            panel.legend(fontsize=8)
        panels[0].set_ylabel("return of an episode")


def sac_demo(source: Path, path: Path) -> None:
    """The SAC lab's demo over seeds: return, and α that was paid for on the way."""
    lab = lab_seeds.load_lab("sac_from_scratch")
    document = read_json(source)
    labels = {
        "return": f"return, mean of {lab.RECENT} episodes",
        "alpha": "entropy coefficient α",
    }
    caption = (
        "SAC lab on Pendulum-v1. Lines: mean over seeds; bands: from the lowest to the highest "
        f"seed. From {_seeds_in(source, document)}."
    )
    with plotting.figure(path, 7.5, 3.4, caption) as figure:
        panels = figure.subplots(1, len(labels))
        for panel, (name, label) in zip(panels, labels.items(), strict=True):
            curves = [
                (
                    [point["steps"] for point in row["curve"]],
                    [point[name] for point in row["curve"]],
                )
                for row in document["rows"]
            ]
            plotting.draw_over_seeds(panel, curves, 0, "mean over seeds")
            panel.set_ylabel(label)
            plotting.steps_axis(panel)
        solved = f"solved above {lab.SOLVED:g}"
        panels[0].axhline(lab.SOLVED, color="0.3", label=solved, **plotting.TARGET)
        panels[0].legend(loc="lower right")
        panels[1].set_yscale("log")


def _draw_runs(axes: Axes, runs: Runs, column: str, number: int, label: str = "") -> None:
    if curves := runs.curves(column):
        plotting.draw_over_seeds(axes, curves, number, label or runs.title)


def _draw_book(axes: Axes, runs: Sequence[Runs], metric: str) -> None:
    """What the book says of each policy, in the colour of its first trainings."""
    lines: dict[str, tuple[float, str]] = {}
    for number, one in enumerate(runs):
        kind, values = one.of_the_book()
        if metric in values:
            colour = plotting.line_style(number)["color"]
            lines.setdefault(f"{kind}, {one.policy}", (values[metric], colour))
    for label, (value, colour) in lines.items():
        axes.axhline(value, color=colour, label=label, **plotting.TARGET)


def _draw_floor(axes: Axes, env_id: str) -> None:
    """What a policy that rests comes to, where that was measured."""
    name = evaluation_name("do_nothing", env_id, None)
    path = evaluation_path(EvalSettings.results_dir, None, None, name)
    if path.exists():
        rate = read_json(path)["aggregate"]["success_rate"]
        axes.axhline(rate, color="0.5", linestyle=":", linewidth=1.0, label="doing nothing")


def _seeds_in(source: Path, document: dict[str, Any]) -> str:
    seeds = ", ".join(str(row["seed"]) for row in document["rows"])
    return f"{source.as_posix()}: seeds {seeds}"


def _lines(runs: Sequence[Runs]) -> str:
    """What lines and bands are."""
    if any(len(one.seeds) > 1 for one in runs):
        return "Lines: mean over training seeds; bands: from the lowest to the highest seed."
    return "One training seed."


def _sources(runs: Sequence[Runs]) -> str:
    return f"From {'; '.join(one.source for one in runs)}."
