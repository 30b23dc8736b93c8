"""What people read: result tables, criteria and experiment cards."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from robotics_rl import options
from robotics_rl.artifacts import metadata_path, read_json
from robotics_rl.config import EvalSettings, TrainSettings
from robotics_rl.progress import clock
from robotics_rl.recipes import origins
from robotics_rl.schemas import (
    Aggregate,
    Benchmark,
    Comparison,
    Evaluation,
    HindsightAblation,
    Journey,
    SeedSpread,
    SweepAnalysis,
    SweepSetting,
)

NO_MATTER = ("cuda_graphs",)  # settings that change no outcome


def evaluation_table(result: Evaluation) -> str:
    """A few aligned lines."""
    mean = result.aggregate
    rows = [
        ("success", _rate(mean.success_rate, mean.success_rate_ci95)),
        ("success, unsolved starts", _unsolved(mean)),
        ("return", f"{mean.return_mean:.2f} (sd {mean.return_std:.2f})"),
        ("final distance", _millimetres(mean)),
        ("first success at step", _optional(mean.time_to_success_mean, ".1f")),
        ("action smoothness", f"{mean.action_smoothness_mean:.2f}"),
        ("time", f"{result.wall_seconds:.1f} s ({result.steps_per_second:,.0f} steps/s)"),
    ]
    how = "deterministic" if result.deterministic else "stochastic"
    title = f"{result.algo} on {result.env_id}, {result.n_episodes} episodes, {how}"
    width = max(len(name) for name, _ in rows)
    return "\n".join([title, *(f"  {name:<{width}}  {value}" for name, value in rows)])


def cores(document: Mapping[str, Any]) -> str:
    """How many processor cores there were to use, as a document says: ``2 cores``."""
    n = document["cpu_cores"]
    return f"{n} core{'s' * (n > 1)}"


def machine(document: Mapping[str, Any]) -> str:
    """What a training computed on, as its metadata says."""
    if document["device"] == "cpu":
        return f"{cores(document)} of {document['device_name']}"
    return f"an {document['device_name']} beside {cores(document)}"


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table whose first row is its header."""
    header, *body = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([header, "|" + " --- |" * len(rows[0]), *body])


def linked(text: str, path: Path) -> str:
    """A link to a file, from the page in the folder of results."""
    folder = EvalSettings.results_dir
    place = path.relative_to(folder) if path.is_relative_to(folder) else Path("..", path)
    return f"[{text}]({place.as_posix()})"


def trained_in(evaluation: Mapping[str, Any], metadata: Mapping[str, Any]) -> str:
    """How long a policy was trained, as a link to its command, settings and versions."""
    took = clock(metadata["training"]["wall_seconds"])
    return linked(took, metadata_path(Path(evaluation["checkpoint"])))


def other_settings(metadata: Mapping[str, Any], settings: TrainSettings) -> dict[str, Any]:
    """What a training had otherwise than ``settings``, where that can matter."""
    used, values = metadata["hyperparameters"], settings.flat_hyperparameters()
    names = sorted(used.keys() & values.keys() - set(NO_MATTER))
    return {name: used[name] for name in names if used[name] != values[name]}


def typed_settings(settings: Mapping[str, Any]) -> str:
    """Settings for a table, as they would be typed: ```gamma` 0.95, `net_arch` 64,64``."""
    return ", ".join(
        f"`{name}` {options.as_typed(tuple(value) if isinstance(value, list) else value)}"
        for name, value in settings.items()
    )


def rate(aggregate: Mapping[str, Any], name: str = "success_rate") -> str:
    """A rate over episodes with Wilson's interval: ``0.97 (0.92 to 0.99)``."""
    low, high = aggregate[f"{name}_ci95"]
    return f"{aggregate[name]:.2f} ({low:.2f} to {high:.2f})"


def over_seeds(
    metric: str, mean: float, half_width: float | None, form: str = ".3f", half_form: str = ""
) -> str:
    """A mean over seeds with Student's interval: ``-0.51 ± 0.28``; a rate: ``0.98 (0.95 to 1.00)``.

    Args:
        metric: its name, which says whether it is a rate.
        mean: over the seeds.
        half_width: None where there are too few seeds for an interval.
        form: of the numbers.
        half_form: of the half width, if another.
    """
    shown = format(mean, form)
    if half_width is None:
        return shown
    if metric.startswith("success"):
        return f"{shown} ({student_of_rate(mean, half_width, form)})"
    return f"{shown} ± {half_width:{half_form or form}}"


def student_of_rate(mean: float, half_width: float, form: str = ".3f") -> str:
    """Student's interval of a mean rate, without what no rate can be: ``0.992 to 1.000``."""
    low, high = max(mean - half_width, 0.0), min(mean + half_width, 1.0)
    return f"{low:{form}} to {high:{form}}"


def _rate(value: float | None, interval: tuple[float, float] | None) -> str:
    if value is None or interval is None:
        return "not defined here"
    return f"{value:.3f} (95 % interval {interval[0]:.3f} to {interval[1]:.3f})"


def _unsolved(mean: Aggregate) -> str:
    if mean.n_started_solved is None:
        return "not defined here"
    rate = _rate(mean.success_rate_unsolved_start, mean.success_rate_unsolved_start_ci95)
    return f"{rate}, {mean.n_started_solved} started solved"


def _millimetres(mean: Aggregate) -> str:
    if mean.final_distance_mean is None or mean.final_distance_std is None:
        return "not defined here"
    return f"{mean.final_distance_mean * 1000:.1f} mm (sd {mean.final_distance_std * 1000:.1f})"


def _optional(value: float | None, spec: str) -> str:
    return "-" if value is None else format(value, spec)


def run_time(path: Path) -> str:
    """How long a chapter's `all` took, and on what, from its ``run/1`` document."""
    if not path.exists():
        return "not measured yet"
    document = read_json(path)
    return f"{clock(document['wall_seconds'])} ({document['device_name']})"


def algorithm(settings: TrainSettings) -> str:
    """What learns, and from what: ``SAC + HER from pictures``."""
    hindsight, seen = " + HER" * bool(settings.her), " from pictures" * bool(settings.pixels)
    return f"{settings.algo.upper()}{hindsight}{seen}"


def training_time(metadata: Path) -> str:
    """How long the training behind a checkpoint took, on what, and which training it is."""
    if not metadata.exists():
        return "not measured yet"
    document = read_json(metadata)
    training = document["training"]
    return (
        f"{clock(training['wall_seconds'])} for {document['steps_done']:,} steps "
        f"({training['steps_per_second']:,.0f} steps/s, {document['device_name']}): {metadata}"
    )


def benchmark_table(result: Benchmark) -> str:
    """Medians with their range, then the ratios."""
    lines = [
        f"{result.name}; {result.unit}, median of {result.rounds} rounds, {result.cpu_cores} cores"
    ]
    width = max(map(len, result.rows))
    for name, values in result.rows.items():
        low, high = (f"{value:,.4g}" for value in (min(values), max(values)))
        lines.append(f"  {name:<{width}}  {result.medians[name]:>8,.4g}  ({low} to {high})")
    return "\n".join(
        [*lines, *(f"  {ratio:5.2f}  {name}" for name, ratio in result.ratios.items())]
    )


def algorithms_table(found: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]]) -> str:
    """Algorithms side by side, each with its metadata and evaluation."""
    rows = [["metric", *found]]
    metrics = {
        "success_rate": ".2f",
        "return_mean": ".2f",
        "final_distance_mean": ".4f",
        "action_smoothness_mean": ".2f",
        "time_to_success_mean": ".1f",
    }
    for metric, form in metrics.items():
        means = (evaluation["aggregate"][metric] for _, evaluation in found.values())
        rows.append([metric, *(_optional(mean, form) for mean in means)])
    trainings = [metadata["training"] for metadata, _ in found.values()]
    rows += [
        ["training steps", *(f"{metadata['steps_done']:,}" for metadata, _ in found.values())],
        ["training time", *(clock(training["wall_seconds"]) for training in trainings)],
        ["steps per second", *(f"{training['steps_per_second']:,.0f}" for training in trainings)],
    ]
    episodes = {len(evaluation["seeds"]) for _, evaluation in found.values()}
    title = f"side by side, over {' and '.join(map(str, sorted(episodes)))} episodes"
    return "\n".join([title, *_columns(rows)])


def settings_table(
    settings: TrainSettings, sources: Sequence[tuple[str, Mapping[str, Any]]]
) -> str:
    """Every setting, its value and which of the ``sources`` that comes from."""
    values = {"total_steps": settings.run.total_steps, **settings.flat_hyperparameters()}
    rows = [["setting", "value", "from"]]
    rows += [[name, f"{values[name]}", origin] for name, origin in origins(values, sources).items()]
    title = f"{settings.run_name} on {settings.env_id}, engine {settings.run.engine}"
    return "\n".join([title, *_columns(rows)])


def hindsight_table(ablation: HindsightAblation) -> str:
    """Metrics as rows, numbers of relabelled goals as columns."""
    columns = ablation.aggregates
    rows = [["relabelled goals", *columns]]
    for metric in ("success_rate", "return_mean", "final_distance_mean"):
        rows.append([metric, *(_optional(mean[metric], ".3f") for mean in columns.values())])
    return "\n".join([f"HER on {ablation.env_id}, training seed {ablation.seed}", *_columns(rows)])


def journey_table(journey: Journey) -> str:
    """A row per training: success on the way and in the end, and how far α fell."""
    steps = list(journey.runs[0].success_at)
    on_the_way = [f"at {int(one):,}" for one in steps]
    rows = [["arm", "seed", *on_the_way, "evaluated", "lowest alpha", "last alpha"]]
    for run in sorted(journey.runs, key=lambda run: (list(journey.arms).index(run.arm), run.seed)):
        success = [*(run.success_at[one] for one in steps), run.success_rate]
        alphas = (run.ent_coef_lowest, run.ent_coef_last)
        cells = [*(_optional(rate, ".2f") for rate in success), *(f"{one:.2g}" for one in alphas)]
        rows.append([run.arm, str(run.seed), *cells])
    return "\n".join([f"success on {journey.env_id}, in training and evaluated", *_columns(rows)])


def sweep_table(analysis: SweepAnalysis) -> str:
    """The ranking, then the means per level of each factor."""
    rows = [["setting", "seeds", "mean", "sd", "min", "max", "95 % (Student)", "95 % (bootstrap)"]]
    rows += [_sweep_row(one) for one in analysis.ranking]
    if again := analysis.best_on_other_episodes:
        rows.append(["the best, on other episodes", *_sweep_row(again)[1:]])
    marginal = [["factor", "level", "runs", "mean"]]
    for level in analysis.marginal_means:
        marginal.append([level.factor, f"{level.level}", str(level.n_runs), f"{level.mean:.3f}"])
    pairs = [["factors", "levels", "runs", "mean"]]
    for pair in analysis.interactions:
        levels = " x ".join(map(str, pair.levels))
        pairs.append([" x ".join(pair.factors), levels, str(pair.n_runs), f"{pair.mean:.3f}"])
    title = f"success on {analysis.env_id}, {analysis.n_runs} runs"
    return "\n".join([title, *_columns(rows), *_columns(marginal), *_columns(pairs)])


def _sweep_row(one: SweepSetting) -> list[str]:
    low_high = one.bootstrap_ci95
    return [
        ", ".join(f"{name} {level}" for name, level in one.parameters.items()),
        str(len(one.seeds)),
        *(
            "-" if value is None else f"{value:.3f}"
            for value in (one.mean, one.sd, one.lowest, one.highest)
        ),
        "-" if one.t_half_width is None else student_of_rate(one.mean, one.t_half_width),
        "-" if low_high is None else f"{low_high[0]:.3f} to {low_high[1]:.3f}",
    ]


def _differing(trainings: Mapping[str, Mapping[str, Any] | None]) -> list[str]:
    """Settings that all groups have, and not alike: a difference may come of any of them."""
    known = [made for made in trainings.values() if made]
    common = set.intersection(*(set(made) for made in known)) if len(known) > 1 else set()
    common -= {"recipe", "engine", "n_envs", "total_steps"}  # told apart
    common -= {"target_entropy"}  # it is of an α that is learned, which ``ent_coef`` tells
    return sorted(name for name in common if any(made[name] != known[0][name] for made in known))


def comparison_table(comparison: Comparison) -> str:
    """Metrics as rows, groups and floors as columns, then the values per training seed."""
    seeds = ", ".join(map(str, comparison.seeds))
    delta = ["delta"] if comparison.deltas else []
    header = ["metric", *comparison.groups, *delta, *comparison.baselines]
    rows = [header]
    for metric in next(iter(comparison.groups.values())):
        cells = [_spread(metric, group[metric]) for group in comparison.groups.values()]
        cells += [f"{comparison.deltas[metric]:+.3f}" for _ in delta]
        floors = [_optional(floor[metric], ".3f") for floor in comparison.baselines.values()]
        rows.append([metric, *cells, *floors])
    lines = [
        f"{comparison.env_id}, training seeds {seeds}, {comparison.n_episodes} episodes each; "
        "+/-, and brackets after rates: Student's 95 % interval over seeds",
        *_columns(rows),
    ]
    for name, made in comparison.trainings.items():
        if made:
            how = f"{made['total_steps']:,} steps, recipe {made['recipe']}, engine {made['engine']}"
            lines.append(f"  {name}: {how}, {made['n_envs']} environments")
    if differ := _differing(comparison.trainings):
        lines.append(f"  the groups also differ in: {', '.join(differ)}")
    for name, group in comparison.groups.items():
        for metric, spread in group.items():
            if spread.iqm is not None and spread.iqm_bootstrap_ci95 is not None:
                low, high = spread.iqm_bootstrap_ci95
                lines.append(
                    f"  {name} {metric}: interquartile mean over episodes {spread.iqm:.3f}, "
                    f"95 % bootstrap {low:.3f} to {high:.3f}"
                )
            values = ", ".join(f"seed {seed} {value:.3f}" for seed, value in spread.values.items())
            lines.append(f"  {name} {metric}: {values}")
    return "\n".join(line.rstrip() for line in lines)


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """A table by itself."""
    return "\n".join(_columns(rows))


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as aligned lines."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  "
        + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _spread(metric: str, spread: SeedSpread) -> str:
    if spread.t_half_width is None:
        return f"{spread.mean:.3f} (no interval: {len(spread.values)} seeds)"
    return over_seeds(metric, spread.mean, spread.t_half_width).replace("±", "+/-")
