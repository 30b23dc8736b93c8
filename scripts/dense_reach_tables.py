"""The parts of the READMEs about dense Reach: PPO and SAC over seeds, beside the book's figures."""

import dataclasses
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean, linear_regression, stdev
from typing import Any

import ch02_ppo_dense_reach
import ch03_sac_dense_reach
from benchmark_tables import Rows

from robotics_rl import schemas
from robotics_rl.artifacts import RunPaths, read_json
from robotics_rl.chapters import Card
from robotics_rl.config import EvalSettings
from robotics_rl.curves import read_curves
from robotics_rl.progress import clock
from robotics_rl.reporting import cores, over_seeds, rate
from robotics_rl.statistics import student_t_half_width

CARDS = (ch02_ppo_dense_reach.CARD, ch03_sac_dense_reach.CARD)
METRICS = [row.name for row in dataclasses.fields(schemas.Aggregate)]
TOLERANCE = 0.02  # by which the steps of a logged value may differ from those asked for
LAST_STEPS = 200_000  # of a training, in which its return is seen to wander
Flags = Mapping[str, Any]
Document = dict[str, Any]
Curve = list[dict[str, float | None]]


def headlines(card: Card) -> Iterator[list[str]]:
    """Rows of the README's table: a chapter's short run, then its policies over seeds."""
    if _evaluation(card, short_run(card)).exists():
        yield _short_run(card)
    if card in CARDS and (comparison := comparison_of(card)):
        yield _over_seeds(card, comparison)


def short_run(card: Card) -> Flags:
    """The flags that name the published run of a chapter's fast path."""
    return {"run_tag": card.published_as}


def summary(aggregate: Document) -> str:
    """An evaluation in a line."""
    return (
        f"success {rate(aggregate)}, "
        f"return {aggregate['return_mean']:.2f}, "
        f"distance {aggregate['final_distance_mean']:.4f} m"
    )


def policies(card: Card) -> Rows:
    """Every published policy, metric by metric; mean and interval over seeds; the book."""
    made = _trainings(card)
    columns = [["", *METRICS, *_moments(card, made[-1])]]
    columns += [list(_policy(card, given)) for given in made]
    if comparison := comparison_of(card):
        columns.append(list(_spreads(card, comparison)))
    book = [card.book_metrics.get(name, "") for name in METRICS]
    columns.append(["book", *book, *card.book_curve.values()])
    return [list(row) for row in zip(*columns, strict=True)]


def story(card: Card) -> str:
    """How a chapter's policies were made."""
    made = [documents(card, given) for given in _trainings(card)]
    metadata, result = made[-1]
    on = dict.fromkeys(cores(one) for one, _ in made)
    return (
        f"{result['n_episodes']} episodes each; trained, in this order, on {', then '.join(on)} of "
        f"{metadata['device_name']} with mujoco {metadata['versions']['mujoco']}, the last one by "
        f"`{shlex.join(metadata['command'])}`."
    )


def differences(card: Card) -> Iterator[str]:
    """Sentences on what separates a chapter's figures from the book's, as far as the data tell."""
    if comparison := comparison_of(card):
        [group] = comparison["groups"].values()
        yield _same_for_all(card, comparison["seeds"])
        yield _one_difference(card)
        yield _farthest(group["final_distance_mean"]["values"])
        ends = [_last_steps(curve_of(card, {"seed": seed})) for seed in comparison["seeds"]]
        if len(ends) > 1:
            yield _wandering(ends)
        yield from _signs(card, ends)
        yield verdict(card, group)


def throughput() -> tuple[str, Rows] | None:
    """What environments side by side are worth to SAC; None where it has not been measured."""
    path = ch03_sac_dense_reach.throughput_path(EvalSettings.results_dir, None)
    if not path.exists():
        return None
    document = read_json(path)
    story = (
        f"[{document['name']}]({path.name}), on {cores(document)} of "
        f"{document['device_name']}, median of {document['rounds']} rounds (range), by "
        f"`{shlex.join(document['command'])}`. SAC takes its gradient step after a step of all "
        "environments: more of them collect faster, and learn less from each step."
    )
    counts = sorted(document["rows"], key=int)
    rows = {n_envs: document["rows"][n_envs] for n_envs in counts}
    return story, ch03_sac_dense_reach.throughput_rows(rows)


def _same_for_all(card: Card, seeds: Sequence[int]) -> str:
    results = [documents(card, {"seed": seed})[1] for seed in seeds]
    simulators = sorted({result["versions"]["mujoco"] for result in results})
    episodes = results[0]["seeds"]
    return (
        "**Why not the book's figures?** Every seed was evaluated on the same "
        f"{len(episodes)} episodes (reset seeds {min(episodes)} to {max(episodes)}) with mujoco "
        f"{' and '.join(simulators)}, so only training differs between the seeds."
    )


def _one_difference(card: Card) -> str:
    """Return and distance of all policies lie on one line."""
    groups = [g for one in CARDS if (found := comparison_of(one)) for g in found["groups"].values()]
    distances, returns = (
        [value for group in groups for value in group[name]["values"].values()]
        for name in ("final_distance_mean", "return_mean")
    )
    slope, start = linear_regression(distances, returns)
    off = max(abs(start + slope * d - r) for d, r in zip(distances, returns, strict=True))
    distance, reward = (_book(card, name) for name in ("final_distance_mean", "return_mean"))
    return (
        "Return and distance tell of one difference, how far from its goal the arm comes to rest: "
        f"the {len(returns)} policies of both chapters that took the book's steps have a return of "
        f"{start:.2f} - {-slope:.1f} × distance, {off:.3f} off at most, and the book's distance "
        f"makes it {start + slope * distance:.2f}, beside its {reward:.2f}."
    )


def _farthest(distances: Mapping[str, float]) -> str:
    seed = max(distances, key=lambda seed: distances[seed])
    others = [f"{value:.4f}" for other, value in distances.items() if other != seed]
    return (
        f"Seed {seed} rests farthest away, at {distances[seed]:.4f} m, "
        f"the others at {' and '.join(others)} m."
    )


def _wandering(ends: Sequence[Curve]) -> str:
    """What counts for more: the seed, or the moment at which its training happens to end."""
    returns = [_column(end, "ep_rew_mean") for end in ends]
    within, between = fmean(map(stdev, returns)), stdev(map(fmean, returns))
    more, less = sorted(
        [(within, "the moment at which it ends"), (between, "its seed")], reverse=True
    )
    return (
        f"In the last {LAST_STEPS:,} steps of training the return of its episodes has a standard "
        f"deviation of {within:.3f} within a seed and of {between:.3f} between the means of seeds: "
        f"what a training comes to varies more with {more[1]} than with {less[1]}."
    )


def _signs(card: Card, ends: Sequence[Curve]) -> Iterator[str]:
    """What a training logs at its end, beside the range that the book calls good."""
    means = {name: fmean(fmean(_column(end, name)) for end in ends) for name in card.book_signs}
    told = (f"{name} {mean:.2f} (book: {card.book_signs[name]})" for name, mean in means.items())
    if means:
        yield f"On average it logs {' and '.join(told)} there."


def _last_steps(curve: Curve) -> Curve:
    return [row for row in curve if _steps(row) > _steps(curve[-1]) - LAST_STEPS]


def _column(curve: Curve, name: str) -> list[float]:
    return [value for row in curve if (value := row[name]) is not None]


def _steps(row: Mapping[str, float | None]) -> int:
    return int(row["env_steps"] or 0)


def verdict(card: Card, group: Mapping[str, Document]) -> str:
    """Whether the book's means can be told from ours."""
    n_seeds = len(group["return_mean"]["values"])
    if group["return_mean"]["t_half_width"] is None:
        return f"Too few seeds ({n_seeds}) for an interval to hold the book's means against."
    names = {"return_mean": "return", "final_distance_mean": "distance"}
    apart = [
        words
        for name, words in names.items()
        if abs(group[name]["mean"] - _book(card, name)) > group[name]["t_half_width"]
    ]
    if not apart:
        return (
            "The book's return and distance both lie within our intervals; "
            f"{n_seeds} seeds cannot tell the book's result from ours."
        )
    lie = "lies outside our interval" if len(apart) == 1 else "lie outside our intervals"
    return f"The book's {' and '.join(apart)} {lie}: {n_seeds} seeds do show a difference."


def _book(card: Card, metric: str) -> float:
    return float(card.book_metrics[metric].split()[0])


def _short_run(card: Card) -> list[str]:
    metadata, result = documents(card, short_run(card))
    seconds = metadata["training"]["wall_seconds"] + result["wall_seconds"]
    return [
        f"{card.title}: {metadata['steps_done']:,} steps",
        in_turn(card.short_run()),
        f"{clock(seconds)} on {cores(metadata)}",
        summary(result["aggregate"]),
        card.book_fast_path,
    ]


def in_turn(commands: Sequence[str]) -> str:
    """Commands as a sentence tells them."""
    return ", then ".join(f"`{one}`" for one in commands)


def _over_seeds(card: Card, comparison: Document) -> list[str]:
    """The chapter's published policies: Student's intervals over training seeds."""
    seeds = comparison["seeds"]
    metadata = [documents(card, {"seed": seed})[0] for seed in seeds]
    steps = metadata[0]["total_steps"]
    seconds = [one["training"]["wall_seconds"] for one in metadata]
    listed = ",".join(map(str, seeds))
    return [
        f"the same: {steps:,} steps, seeds {', '.join(map(str, seeds))}",
        f"`python {card.script} all --seed K --total-steps {steps}` for each seed K, then "
        f"`python {card.script} compare --seeds {listed}`",
        f"mean {clock(fmean(seconds))} a seed ({clock(min(seconds))} to "
        f"{clock(max(seconds))}) on {cores(metadata[0])}",
        means(comparison),
        card.book,
    ]


def means(comparison: Document) -> str:
    """A comparison of one group in a line: means and Student's intervals over training seeds."""
    [group] = comparison["groups"].values()
    forms = {"success_rate": ".2f", "return_mean": ".2f", "final_distance_mean": ".4f"}
    success, reward, distance = (
        over_seeds(name, group[name]["mean"], group[name]["t_half_width"], form)
        for name, form in forms.items()
    )
    return f"success {success}, return {reward}, distance {distance} m"


def _policy(card: Card, given: Flags) -> Iterator[str]:
    """A column: where a policy's files are, its metrics, what its curve logged."""
    metadata, result = documents(card, given)
    paths, evaluation = RunPaths.of(card.settings(given)), _evaluation(card, given)
    name = f"seed {metadata['seed']}, {metadata['steps_done']:,} steps"
    link = evaluation.relative_to(EvalSettings.results_dir)
    yield f"[{name}]({link}) ([metadata](../{paths.metadata}), [curve](../{paths.curves}))"
    for metric in METRICS:
        value = result["aggregate"][metric]
        numbers = value if isinstance(value, list) else [value]
        yield " to ".join("-" if n is None else f"{n:.4g}" for n in numbers)
    for value in _logged(card, given):
        yield "" if value is None else f"{value:.4g}"


def _spreads(card: Card, comparison: Document) -> Iterator[str]:
    """A column: mean and Student's interval over seeds, of metrics and of curves."""
    seeds = comparison["seeds"]
    link = card.comparison_path(EvalSettings.results_dir, None).name
    yield f"[seeds {', '.join(map(str, seeds))}]({link}): mean, 95 % (Student)"
    [group] = comparison["groups"].values()
    for metric in METRICS:
        one = group.get(metric)
        yield _over(metric, one["mean"], one["t_half_width"]) if one else ""
    by_moment = zip(*(_logged(card, {"seed": seed}) for seed in seeds), strict=True)
    for (name, _), values in zip(card.book_curve, by_moment, strict=True):
        known = [value for value in values if value is not None]
        is_whole = len(known) == len(seeds)
        yield _over(name, fmean(known), student_t_half_width(known)) if is_whole else ""


def _over(metric: str, mean: float, half_width: float | None) -> str:
    return over_seeds(metric, mean, half_width, ".4g", ".2g")


def _logged(card: Card, given: Flags) -> list[float | None]:
    """What a training's curve holds where the book tells of it; None where it ended before."""
    curve = curve_of(card, given)
    rows = {(name, step): nearest_row(curve, step) for name, step in card.book_curve}
    return [row[name] if row else None for (name, _), row in rows.items()]


def _moments(card: Card, given: Flags) -> Iterator[str]:
    """What the book tells of a curve, and at which steps this one has it."""
    for name, step in card.book_curve:
        row = nearest_row(curve_of(card, given), step)
        yield f"{name} at {_steps(row) if row else step:,} steps"


def nearest_row(curve: Curve, step: int) -> dict[str, float | None] | None:
    """The row logged nearest to a step; None where none is near."""
    nearest = min(curve, key=lambda row: abs(_steps(row) - step))
    return nearest if abs(_steps(nearest) - step) <= TOLERANCE * step else None


def curve_of(card: Card, given: Flags) -> Curve:
    """What a training of a chapter logged."""
    return read_curves(RunPaths.of(card.settings(given)).curves)


def _trainings(card: Card) -> list[Flags]:
    """The flags of a chapter's published trainings: the fast path, then every seed."""
    every: list[Flags] = [short_run(card), *({"seed": seed} for seed in range(10))]
    return [given for given in every if _evaluation(card, given).exists()]


def comparison_of(card: Card) -> Document | None:
    """A chapter's policies over seeds; None where they were not compared yet."""
    path = card.comparison_path(EvalSettings.results_dir, None)
    return read_json(path) if path.exists() else None


def _evaluation(card: Card, given: Flags) -> Path:
    return card.evaluation_path(card.settings(given), EvalSettings.results_dir)


def documents(card: Card, given: Flags) -> tuple[Document, Document]:
    """Metadata and evaluation of one training of a chapter."""
    metadata = RunPaths.of(card.settings(given)).metadata
    return read_json(metadata), read_json(_evaluation(card, given))
