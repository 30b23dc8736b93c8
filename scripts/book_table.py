"""The table of results/README.md: what the book says, what was measured, and why they differ."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import book_figures
import ch01_env_anatomy as ch01
import ch02_ppo_dense_reach as ch02
import ch03_sac_dense_reach as ch03
import ch04_her_sparse_reach_push as ch04
import ch04_sweep
import chapter5_tables
import chapter9_tables
import dense_reach_tables
import lab_seeds
import sweep_tables
from benchmark_tables import Rows
from book_figures import Found
from pixel_investigation import STEPS

from robotics_rl import artifacts
from robotics_rl.artifacts import RunPaths, read_json
from robotics_rl.chapters import Card, comparison_path
from robotics_rl.config import EvalSettings
from robotics_rl.progress import clock
from robotics_rl.reporting import cores, linked, machine, over_seeds
from robotics_rl.solving_tables import spread

RESULTS = Path(EvalSettings.results_dir)
Document = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """How to find what was measured, and commands that make what is missing."""

    find: Callable[[], Found | None]
    commands: Sequence[str]


def rows() -> Rows:
    """A row for each result of the book."""
    table = [["what", "book", "measured", "why they differ"]]
    for name, quote in book_figures.RESULTS.items():
        row = ROWS[name]
        missing = ", then ".join(f"`{command}`" for command in row.commands)
        found = row.find() or Found(f"not measured yet: {missing}")
        what = f"{quote.what}: {quote.setting}"
        table.append([what, quote.whole, found.measured, found.why])
    return table


def _random() -> Found | None:
    path = Path(ch01.Anatomy().random_out)
    if not path.exists():
        return None
    mean = read_json(path)["aggregate"]
    measured = f"{dense_reach_tables.summary(mean)}, {mean['ep_len_mean']:g} steps"
    outside = [
        name for name, (low, high) in book_figures.RANDOM.items() if not low <= mean[name] <= high
    ]
    return Found(linked(measured, path), " ".join(_why_not_random(mean)) if outside else "")


def _why_not_random(mean: Document) -> Iterator[str]:
    """The book's ranges beside each other, and ours beside the floors."""
    best, farthest = (book_figures.RANDOM[name][1] for name in ("return_mean", METRE))
    yield (
        f"The book's best return means {-best / mean['ep_len_mean']:g} m from the goal on average, "
        f"but its final distance is {farthest:g} m at most."
    )
    for name, says in (("random", "random actions end"), ("do_nothing", "doing nothing ends")):
        stem = artifacts.evaluation_name(name, ch01.DEFAULT_ENV, None)
        path = artifacts.evaluation_path(str(RESULTS), None, None, stem)
        if path.exists():
            floor = read_json(path)
            away = f"{floor['aggregate'][METRE]:.3f} m away"
            yield f"Over {floor['n_episodes']} episodes {linked(says, path)} {away}."


METRE = "final_distance_mean"


def _dense(card: Card) -> Found | None:
    comparison = dense_reach_tables.comparison_of(card)
    if comparison is None:
        return None
    made = [dense_reach_tables.documents(card, {"seed": seed})[0] for seed in comparison["seeds"]]
    speed = fmean(one["training"]["steps_per_second"] for one in made)
    [group] = comparison["groups"].values()
    path = card.comparison_path(str(RESULTS), None)
    measured = linked(dense_reach_tables.means(comparison), path)
    return Found(
        f"{measured}; {speed:,.0f} steps/s on {machine(made[0])}",
        dense_reach_tables.verdict(card, group),
    )


def _fast_path(card: Card, why: str = "") -> Found | None:
    flags = {"seed": 0, **dense_reach_tables.short_run(card)}
    path = card.evaluation_path(card.settings(flags), str(RESULTS))
    if not path.exists():
        return None
    metadata, result = dense_reach_tables.documents(card, flags)
    mean = result["aggregate"]
    took = f"{clock(metadata['training']['wall_seconds'])} on {cores(metadata)}"
    missed = [one.metric for one in card.criteria if not one.is_met(mean)]
    verdict = f"Missed: {', '.join(missed)}." if missed else "Every bound is kept."
    measured = f"{linked(dense_reach_tables.summary(mean), path)}; {took}"
    return Found(measured, f"{verdict} {why}".strip())


def _milestones() -> Found | None:
    comparison = dense_reach_tables.comparison_of(ch02.CARD)
    if comparison is None:
        return None
    seeds: list[int] = comparison["seeds"]
    places: dict[str, list[str]] = {}
    cells = []
    curves = [dense_reach_tables.curve_of(ch02.CARD, {"seed": seed}) for seed in seeds]
    for steps, (low, high) in book_figures.MILESTONES.items():
        found = (dense_reach_tables.nearest_row(curve, steps) for curve in curves)
        rates = [row["success_rate"] or 0.0 for row in found if row]
        cells.append(f"{100 * min(rates):.0f} to {100 * max(rates):.0f} % at {steps:,}")
        middle = fmean(rates)
        place = "below" if middle < low else "above" if middle > high else "in"
        places.setdefault(place, []).append(f"{steps:,}")
    paths = {seed: RunPaths.of(ch02.CARD.settings({"seed": seed})).curves for seed in seeds}
    files = ", ".join(linked(f"seed {seed}", path) for seed, path in paths.items())
    told = " and ".join(
        f"{place} the book's range at {', '.join(steps)}" for place, steps in places.items()
    )
    return Found(
        f"{', '.join(cells)} steps ({files})",
        f"The mean over {len(seeds)} seeds is {told} steps. The settings are the book's; of how "
        "many seeds its ranges are, it does not say.",
    )


def _beside_ppo() -> Found | None:
    cards = (ch03.CARD, ch02.CARD)
    paths = [card.evaluation_path(card.settings({"seed": 0}), str(RESULTS)) for card in cards]
    comparisons = [dense_reach_tables.comparison_of(card) for card in cards]
    if not all(path.exists() for path in paths) or None in comparisons:
        return None
    name = "action_smoothness_mean"
    seed_0 = (linked(f"{read_json(path)['aggregate'][name]:.2f}", path) for path in paths)
    curve = dense_reach_tables.curve_of(ch03.CARD, {"seed": 0})
    alphas = [
        f"{row['ent_coef']:.2g} at {row['env_steps']:,.0f} steps"
        for steps in book_figures.ALPHA
        if (row := dense_reach_tables.nearest_row(curve, steps))
    ]
    spreads = [next(iter(one["groups"].values()))[name] for one in comparisons if one]
    return Found(
        f"action smoothness {' beside '.join(seed_0)}; α {', '.join(alphas)} "
        f"({linked('curve', RunPaths.of(ch03.CARD.settings({'seed': 0})).curves)})",
        _overlap(*spreads),
    )


def _overlap(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """Whether the intervals of two means overlap; nothing where seeds are too few for one."""
    halves = [spread["t_half_width"] for spread in (one, other)]
    if None in halves:
        return ""
    overlap = abs(one["mean"] - other["mean"]) <= sum(halves)
    means = (f"{spread['mean']:.2f} ± {spread['t_half_width']:.2f}" for spread in (one, other))
    return (
        f"Over {len(one['values'])} seeds smoothness is {' beside '.join(means)}: the "
        f"intervals {'overlap' if overlap else 'do not overlap'}."
    )


def _sparse(env_id: str) -> Found | None:
    for task, _, document in chapter5_tables.comparisons():
        if task == env_id:
            groups = (_group(*one) for one in document["groups"].items())
            path = comparison_path(ch04.CHAPTER, env_id, str(RESULTS), None)
            found = [linked("; ".join(groups), path), *_by_the_book_s_recipe(env_id)]
            return Found("; ".join(found), chapter5_tables.differences(env_id, document))
    return None


def _by_the_book_s_recipe(env_id: str) -> Iterator[str]:
    """What came of every setting of the book, with HER and without, one seed after the other."""
    for made in chapter5_tables.trained_as(chapter5_tables.BOOK_TAG, env_id):
        mean, training = made.mean, made.metadata
        told = (
            f"{mean['success_rate']:.2f}, return {mean['return_mean']:.2f}, "
            f"{1000 * mean[METRE]:.1f} mm"
        )
        name = "HER" if training["her"] else "no-HER"
        how = f"{training['steps_done']:,} steps, seed {training['seed']}"
        yield f"{name} with the book's recipe, {how}: {linked(told, made.path)}"


def _group(name: str, spreads: Mapping[str, Document]) -> str:
    """Success, return and distance over seeds."""
    success, reward = (_spread(one, spreads[one]) for one in ("success_rate", "return_mean"))
    return f"{name} {success}, return {reward}, {_spread(METRE, spreads[METRE], '.1f', 1000)} mm"


def _spread(metric: str, spread: Document, form: str = ".2f", scale: float = 1.0) -> str:
    """Mean and interval; where seeds are too few for one, their values."""
    half = spread["t_half_width"]
    if half is None:
        return " and ".join(f"{scale * value:{form}}" for value in spread["values"].values())
    return over_seeds(metric, scale * spread["mean"], scale * half, form)


def _push_auto() -> Found | None:
    path = RESULTS / f"{ch04.CHAPTER}_journey.json"
    if not path.exists():
        return None
    document = read_json(path)
    cells: dict[bool, list[str]] = {True: [], False: []}
    for arm, flags in document["arms"].items():
        runs = [run for run in document["runs"] if run["arm"] == arm]
        success, lowest = (
            spread([run[name] for run in runs], form)
            for name, form in (("success_rate", ".2f"), ("ent_coef_lowest", ".2g"))
        )
        learned = flags.get("ent_coef") == "auto"
        cells[learned].append(f"{arm}: success {success}, lowest α {lowest}")
    return Found(
        linked("; ".join(cells[True]), path),
        f"{document['total_steps']:,} steps of the recipe `fast` but for what is named; beside "
        f"{'; '.join(cells[False])}.",
    )


def _sweep() -> Found | None:
    for path, analysis in sweep_tables.sweeps():
        if analysis["env_id"] == ch04_sweep.PUSH:
            ends = (analysis["ranking"][place] for place in (0, -1))
            best, worst = map(_setting, ends)
            runs = f"{analysis['n_runs']} runs of {analysis['total_steps']:,} steps"
            measured = f"{linked(runs, path)}, best {best}; worst {worst}"
            return Found(measured, sweep_tables.agreement(analysis))
    return None


def _setting(one: Mapping[str, Any]) -> str:
    sd = "one seed" if one["sd"] is None else f"sd over seeds {100 * one['sd']:.1f}"
    return f"{book_figures.of_levels(one['parameters'])}: {100 * one['mean']:.1f} % ({sd})"


def _labs(names: Sequence[str], why: str) -> Found | None:
    cells = []
    for name in names:
        path = lab_seeds.FOLDER / f"{name}.json"
        if path.exists():
            document = read_json(path)
            seeds = f"{document['n_learned']} of {len(document['rows'])} seeds"
            cells.append(f"{linked(seeds, path)}: {lab_seeds.figures_of(name, document)}")
    return Found("; ".join(cells), why) if cells else None


def _dense_commands(card: Card) -> list[str]:
    every = [f"python {card.script} all --seed {seed} --total-steps 1000000" for seed in range(3)]
    return [*every, f"python {card.script} compare"]


def _sparse_commands(env_id: str) -> list[str]:
    steps = book_figures.SPARSE_STEPS[env_id]
    return [f"python {ch04.SCRIPT} env-all --env {env_id} --total-steps {steps}"]


def _fast_path_commands(card: Card) -> list[str]:
    return [f"python {card.script} {card.fast_path} --run-tag {card.published_as}"]


def _lab_commands(*names: str) -> list[str]:
    return [f"python scripts/lab_seeds.py {name}" for name in names]


_PUSH_WHY = (
    f"Elsewhere the book expects {book_figures.PUSH_MILESTONE}. The recipe `fast` learns sooner; "
    "[what each part of it does](../benchmarks/README.md) was measured."
)
_LAB_WHY = "The book shows one run; here it is medians and ranges over seeds."
_EXPECTED = lab_seeds.RELABELLING["n_steps"] * (
    1 + lab_seeds.RELABELLING["her_ratio"] * lab_seeds.RELABELLING["k"]
)
_HER_WHY = (
    f"Which steps are relabelled is drawn: {_EXPECTED:g} transitions on average. How many succeed "
    "is up to how far the walk goes in a step, which is the lab's own choice."
)
_CARTPOLE, _PENDULUM = ("ppo_cartpole",), ("sac_pendulum", "sac_pendulum_demo")
ROWS: Mapping[str, Row] = {
    "random": Row(_random, [f"python {ch01.SCRIPT} all --seed 0"]),
    "ppo": Row(partial(_dense, ch02.CARD), _dense_commands(ch02.CARD)),
    "ppo_fast_path": Row(partial(_fast_path, ch02.CARD), _fast_path_commands(ch02.CARD)),
    "ppo_milestones": Row(_milestones, _dense_commands(ch02.CARD)),
    "sac": Row(partial(_dense, ch03.CARD), _dense_commands(ch03.CARD)),
    "sac_fast_path": Row(partial(_fast_path, ch03.CARD), _fast_path_commands(ch03.CARD)),
    "sac_beside_ppo": Row(_beside_ppo, _dense_commands(ch03.CARD)),
    ch04.REACH: Row(partial(_sparse, ch04.REACH), _sparse_commands(ch04.REACH)),
    ch04.PUSH: Row(partial(_sparse, ch04.PUSH), _sparse_commands(ch04.PUSH)),
    "push_fast_path": Row(
        partial(_fast_path, ch04.CARD, _PUSH_WHY), _fast_path_commands(ch04.CARD)
    ),
    "push_auto": Row(_push_auto, [f"python {ch04.SCRIPT} journey"]),
    "sweep": Row(_sweep, [f"python {ch04_sweep.SCRIPT} {verb}" for verb in ("run", "analyze")]),
    "ppo_cartpole": Row(partial(_labs, _CARTPOLE, _LAB_WHY), _lab_commands(*_CARTPOLE)),
    "sac_pendulum": Row(partial(_labs, _PENDULUM, _LAB_WHY), _lab_commands(*_PENDULUM)),
    "her_relabeler": Row(
        partial(_labs, ("her_relabeler",), _HER_WHY), _lab_commands("her_relabeler")
    ),
    **{
        f"pixels_{step}": Row(
            partial(chapter9_tables.of_step, step), chapter9_tables.commands(step)
        )
        for step in STEPS
    },
}
