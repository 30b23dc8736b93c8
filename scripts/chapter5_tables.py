"""The part of results/README.md about sparse tasks: trainings, comparisons, sweep, journey."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import book_figures
import ch04_her_sparse_reach_push as ch04
from benchmark_tables import Rows

from robotics_rl import artifacts
from robotics_rl.artifacts import metadata_path, read_json
from robotics_rl.chapters import comparison_path
from robotics_rl.config import EvalSettings
from robotics_rl.progress import clock
from robotics_rl.reporting import cores, over_seeds, student_of_rate
from robotics_rl.schemas import SweepSetting
from robotics_rl.solving_tables import spread

RESULTS = Path(EvalSettings.results_dir)
AFTER_MORE = {
    ch04.REACH: "; the book gives it the time to meet the goal by luck often enough.",
    ch04.PUSH: ", as do two million in the book.",
}
NO_DIFFERENCE = 0.02  # between the best and the worst level of a factor
N_SHOWN = 5  # settings at either end of a sweep's ranking


def comparisons() -> Iterator[tuple[str, dict[str, Any]]]:
    """Task and document of every comparison of HER with no HER."""
    for env_id in (ch04.REACH, ch04.PUSH):
        path = comparison_path(ch04.CHAPTER, env_id, EvalSettings.results_dir, None)
        if path.exists():
            yield env_id, read_json(path)


def headlines() -> Rows:
    """Rows of the README's table: HER beside no HER and beside doing nothing."""
    rows = []
    for env_id, document in comparisons():
        seeds = document["seeds"]
        steps = document["trainings"]["HER"]["total_steps"]
        rates = [
            f"{name} {_over('success_rate', group)}" for name, group in document["groups"].items()
        ]
        floor = document["baselines"]["do_nothing"]["success_rate"]
        rows.append(
            [
                f"Sparse {env_id} (book chapter 5): {steps:,} steps, seeds {_listed(seeds)}",
                f"`python {ch04.SCRIPT} env-all --env {env_id} --seeds {_listed(seeds, ',')} "
                f"--total-steps {steps}`",
                f"{clock(_seconds(document))} in all",
                f"success: {', '.join(rates)}, doing nothing {floor:.2f}",
                book_figures.RESULTS[env_id].text,
            ]
        )
    return rows


def _seconds(document: dict[str, Any]) -> float:
    """Of all trainings of a comparison, one after the other."""
    checkpoints = (read_json(Path(source))["checkpoint"] for source in document["sources"])
    made = (read_json(metadata_path(Path(path))) for path in checkpoints if path)
    return float(sum(one["training"]["wall_seconds"] for one in made))


def trainings() -> Rows:
    """A row per published policy of the chapter."""
    rows = [["task", "policy", "steps", "training", "success", "of what did not start solved",
             "return", "distance (m)"]]  # fmt: skip
    for path, result in artifacts.checkpoint_evaluations(EvalSettings.results_dir):
        if not path.name.startswith(f"{ch04.CHAPTER}_"):
            continue
        metadata = read_json(metadata_path(Path(result["checkpoint"])))
        mean = result["aggregate"]
        low, high = mean["success_rate_ci95"]
        how = f"{'HER' if metadata['her'] else 'no HER'}, recipe {metadata['recipe']}"
        rows.append(
            [
                result["env_id"],
                f"[{how}, seed {metadata['seed']}]({path.relative_to(RESULTS)})",
                f"{metadata['steps_done']:,}",
                f"{clock(metadata['training']['wall_seconds'])} on {cores(metadata)}",
                f"{mean['success_rate']:.2f} ({low:.2f} to {high:.2f})",
                f"{mean['success_rate_unsolved_start']:.2f}",
                f"{mean['return_mean']:.2f}",
                f"{mean['final_distance_mean']:.4f}",
            ]
        )
    return rows


def comparison(document: dict[str, Any]) -> Rows:
    """Metrics as rows; groups over seeds, then the floors."""
    floors = document["baselines"]
    rows = [["metric", *document["groups"], *(name.replace("_", " ") for name in floors)]]
    for metric in next(iter(document["groups"].values())):
        groups = [_over(metric, group) for group in document["groups"].values()]
        rows.append([metric, *groups, *(f"{floor[metric]:.3f}" for floor in floors.values())])
    for name, group in document["groups"].items():
        values = ", ".join(f"{value:.2f}" for value in group["success_rate"]["values"].values())
        rows.append([f"success by seed, {name}", *([values] + [""] * (len(rows[0]) - 2))])
    return rows


def sweeps() -> Iterator[tuple[Path, dict[str, Any]]]:
    """Every analysis of a sweep."""
    for path in sorted(RESULTS.rglob("sweep_*_analysis.json")):
        yield path, read_json(path)


def differences(env_id: str, document: dict[str, Any]) -> str:
    """Why these are not the book's figures."""
    ours = {name: training["total_steps"] for name, training in document["trainings"].items()}
    her, plain = ours["HER"], ours["no-HER"]
    rates = {name: group["success_rate"]["mean"] for name, group in document["groups"].items()}
    floor = document["baselines"]["do_nothing"]["success_rate"]
    story = (
        f"Both groups took {her:,} steps, which are enough for HER with the recipe `fast`, and "
        f"{her / book_figures.SPARSE_STEPS[env_id]:.0%} of the book's."
    )
    if rates["no-HER"] > floor + 0.05:
        return story
    return (
        f"{story} Without HER, {plain:,} steps with {_whose(document)} leave the policy where "
        f"doing nothing is ({rates['no-HER']:.2f} beside {floor:.2f}){AFTER_MORE[env_id]}"
    )


def _whose(document: dict[str, Any]) -> str:
    """Whose settings the policies without HER were trained with; the book fixes α on Push."""
    learned = document["trainings"]["no-HER"]["ent_coef"] == "auto"
    differs = learned and document["env_id"] == ch04.PUSH
    return "the book's settings" + (" but a learned α" if differs else "")


def ranking(analysis: dict[str, Any]) -> Rows:
    """The best and the worst settings."""
    rows = [["", *analysis["factors"], "seeds", "success", "sd", "lowest", "highest", "95 %"]]
    settings = list(enumerate(analysis["ranking"], 1))
    if len(settings) > 2 * N_SHOWN:
        settings = settings[:N_SHOWN] + settings[-N_SHOWN:]
    rows += [[str(place), *_setting(SweepSetting(**one))] for place, one in settings]
    if again := analysis["best_on_other_episodes"]:
        rows.append(["1, on other episodes", *_setting(SweepSetting(**again))])
    return rows


def _setting(one: SweepSetting) -> list[str]:
    numbers = (one.mean, one.sd, one.lowest, one.highest)
    return [
        *(str(level) for level in one.parameters.values()),
        str(len(one.seeds)),
        *("" if number is None else f"{number:.3f}" for number in numbers),
        "" if one.t_half_width is None else student_of_rate(one.mean, one.t_half_width),
    ]


def marginal_means(analysis: dict[str, Any]) -> Rows:
    """Means over the runs with one level of a factor, beside the book's where it has them."""
    rows = [["factor", "level", "runs", "mean success", "book"]]
    for one in analysis["marginal_means"]:
        factor, level = one["factor"], one["level"]
        told = book_figures.SWEEP.get(factor, {}) if analysis["env_id"] == ch04.PUSH else {}
        book = f"{told[level]:.3f}" if level in told else ""
        rows.append([factor, f"{level}", f"{one['n_runs']}", f"{one['mean']:.3f}", book])
    return rows


def agreement(analysis: dict[str, Any]) -> str:
    """What a sweep says of its factors, and whether the book's says the same."""
    means: dict[str, dict[Any, float]] = {}
    for one in analysis["marginal_means"]:
        means.setdefault(one["factor"], {})[one["level"]] = one["mean"]
    if all(max(levels.values()) == min(levels.values()) for levels in means.values()):
        return (
            f"All {len(analysis['ranking'])} settings do equally well, so there is no best one: "
            f"{analysis['total_steps']:,} steps are enough for each of them."
        )
    same: list[str] = []
    other: list[str] = []
    neither: list[str] = []
    for factor, levels in means.items():
        book = book_figures.SWEEP.get(factor)
        if analysis["env_id"] != ch04.PUSH or book is None or book.keys() != levels.keys():
            continue
        if min(_spread(levels), _spread(book)) < NO_DIFFERENCE:
            neither.append(factor)
        else:
            agrees = max(levels, key=lambda one: levels[one]) == max(
                book, key=lambda one: book[one]
            )
            (same if agrees else other).append(factor)
    parts = {"the same level is best for": same, "another level is best for": other}
    parts["levels differ by less than two points, here or there, for"] = neither
    told = [f"{what} {' and '.join(factors)}" for what, factors in parts.items() if factors]
    beside = f"Beside the book's sweep of {book_figures.SWEEP_STEPS:,} steps: {'; '.join(told)}."
    if all(len(setting["seeds"]) == 1 for setting in analysis["ranking"]):
        return f"{beside} With one seed a setting, no setting is the best or the worst."
    best, worst = (analysis["ranking"][place]["parameters"] for place in (0, -1))
    typed = book_figures.of_levels
    return (
        f"{beside} The book's best setting is {typed(book_figures.SWEEP_BEST)}, here it is "
        f"{typed(best)}; its worst is {typed(book_figures.SWEEP_WORST)}, here {typed(worst)}."
    )


def _spread(levels: Mapping[Any, float]) -> float:
    return max(levels.values()) - min(levels.values())


def journey() -> tuple[str, Rows] | None:
    """The arms of the debugging journey over their seeds; None where it has not been run."""
    path = RESULTS / f"{ch04.CHAPTER}_journey.json"
    if not path.exists():
        return None
    document = read_json(path)
    steps = sorted(document["runs"][0]["success_at"], key=int)
    header = ["arm", *(f"success at {int(one):,}" for one in steps), "evaluated"]
    rows = [[*header, "lowest α", "last α"]]
    for arm in ch04.JOURNEY:
        runs = [run for run in document["runs"] if run["arm"] == arm]
        at = [[run["success_at"][one] for run in runs] for one in steps]
        success = [*at, [run["success_rate"] for run in runs]]
        cells = [spread([v for v in values if v is not None], ".2f") for values in success]
        alphas = ([run[name] for run in runs] for name in ("ent_coef_lowest", "ent_coef_last"))
        rows.append([arm, *cells, *(spread(values, ".2g") for values in alphas)])
    n_seeds = len({run["seed"] for run in document["runs"]})
    return f"{document['env_id']}, {n_seeds} seeds an arm: median (lowest to highest)", rows


def _over(metric: str, group: dict[str, Any]) -> str:
    return over_seeds(metric, group[metric]["mean"], group[metric]["t_half_width"])


def _listed(seeds: list[int], separator: str = ", ") -> str:
    return separator.join(map(str, seeds))
