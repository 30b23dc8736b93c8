"""The part of results/README.md about sparse tasks: trainings, comparisons, the journey."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import book_figures
import ch04_her_sparse_reach_push as ch04
from benchmark_tables import Rows

from robotics_rl import artifacts, config
from robotics_rl.artifacts import metadata_path, read_json
from robotics_rl.chapters import comparison_path
from robotics_rl.config import EvalSettings
from robotics_rl.progress import clock
from robotics_rl.reporting import (
    cores,
    linked,
    other_settings,
    over_seeds,
    rate,
    trained_in,
    typed_settings,
)
from robotics_rl.solving_tables import spread

RESULTS = Path(EvalSettings.results_dir)
BOOK_TAG = "book"  # of trainings with every setting of the book, for as long as there
CONTROL_TAG = "recipe"  # of trainings with every setting of the recipe but HER
NOTHING = 0.05  # above the floor: as good as doing nothing


def comparisons() -> Iterator[tuple[str, Path, dict[str, Any]]]:
    """Task, path and document of every comparison of HER with no HER."""
    for env_id in (ch04.REACH, ch04.PUSH):
        path = comparison_path(ch04.CHAPTER, env_id, EvalSettings.results_dir, None)
        if path.exists():
            yield env_id, path, read_json(path)


def headlines() -> Rows:
    """Rows of the README's table: HER beside no HER and beside doing nothing."""
    rows = []
    for env_id, _, document in comparisons():
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
                _time(document),
                f"success: {', '.join([*rates, *_control(env_id)])}, doing nothing {floor:.2f}",
                book_figures.RESULTS[env_id].text,
            ]
        )
    return rows


def _control(env_id: str) -> Iterator[str]:
    """Success with all of the recipe but HER, where that was trained."""
    if made := trained_as(CONTROL_TAG, env_id):
        yield f"no-HER with the recipe's other settings {_rates(made)}"


def _time(document: dict[str, Any]) -> str:
    """What all trainings of a comparison took, and on how many cores each."""
    checkpoints = (read_json(Path(source))["checkpoint"] for source in document["sources"])
    made = [read_json(metadata_path(Path(path))) for path in checkpoints if path]
    seconds = sum(one["training"]["wall_seconds"] for one in made)
    shares = " or ".join(sorted({cores(one) for one in made}))
    return f"{len(made)} trainings, {shares} each, {clock(seconds)} in all"


def trainings() -> Rows:
    """A row per published policy of the chapter."""
    rows = [["task", "policy", "not as its recipe", "steps", "training", "success",
             "of what did not start solved", "return", "distance (m)"]]  # fmt: skip
    for path, result in artifacts.checkpoint_evaluations(EvalSettings.results_dir):
        if not path.name.startswith(f"{ch04.CHAPTER}_"):
            continue
        metadata = read_json(metadata_path(Path(result["checkpoint"])))
        mean = result["aggregate"]
        how = f"{'HER' if metadata['her'] else 'no HER'}, recipe {metadata['recipe']}"
        rows.append(
            [
                result["env_id"],
                f"[{how}, seed {metadata['seed']}]({path.relative_to(RESULTS)})",
                _changed(metadata) or "nothing",
                f"{metadata['steps_done']:,}",
                f"{trained_in(result, metadata)} on {cores(metadata)}",
                rate(mean),
                f"{mean['success_rate_unsolved_start']:.2f}",
                f"{mean['return_mean']:.2f}",
                f"{mean['final_distance_mean']:.4f}",
            ]
        )
    return rows


def _changed(metadata: dict[str, Any]) -> str:
    """Settings that flags gave."""
    recipe = {"recipe": metadata["recipe"]}
    algo, env_id = metadata["algo"], metadata["env_id"]
    settings = config.resolve(algo, env_id, recipe, her=metadata["her"], chapter=ch04.CHAPTER)
    changed = other_settings(metadata, settings)
    if "ent_coef" in changed:
        changed.pop("target_entropy", None)  # nothing aims at it
    return typed_settings(changed)


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
    if rates["no-HER"] > floor + NOTHING:
        return story
    return (
        f"{story} Without HER, {plain:,} steps with {_whose(document)} leave the policy where "
        f"doing nothing is ({rates['no-HER']:.2f} beside {floor:.2f}){_after_more(env_id)}."
        f"{_what_makes_the_difference(document, floor)}"
    )


def _after_more(env_id: str) -> str:
    """What policies without HER come to when they are trained for longer."""
    if env_id == ch04.PUSH:
        return ", as do two million in the book"
    longer = [made for made in trained_as(BOOK_TAG, env_id) if not made.metadata["her"]]
    if not longer:
        return ""
    return f"; {longer[0].metadata['steps_done']:,} bring it to {_rates(longer)}"


def _what_makes_the_difference(document: dict[str, Any], floor: float) -> str:
    """What the control says of HER, whose group differs from the other in more than HER."""
    from robotics_rl.comparison import CLEAR  # scipy takes a second

    control = trained_as(CONTROL_TAG, document["env_id"])
    steps = {made.metadata["total_steps"] for made in control}
    if steps != {document["trainings"]["HER"]["total_steps"]}:
        return ""
    story = (
        " The group with HER has the recipe's other settings, too; with all of these and no HER as "
        f"many steps come to {_rates(control)}."
    )
    gains = [made.mean["success_rate"] - floor for made in control]
    if min(gains) > CLEAR:
        return f"{story} So these settings make the difference, and HER is not needed."
    if max(gains) <= NOTHING:
        return f"{story} So HER makes the difference."
    return story


@dataclass(frozen=True)
class Made:
    """A policy's evaluation: its file, its means, and the metadata of the training."""

    path: Path
    mean: dict[str, Any]
    metadata: dict[str, Any]


def _rates(policies: Sequence[Made]) -> str:
    """Success of each, and their training seeds."""
    rates = _listed([f"{made.mean['success_rate']:.2f}" for made in policies])
    seeds = _listed([made.metadata["seed"] for made in policies])
    return f"{rates} (seed{'s' * (len(policies) > 1)} {seeds})"


def trained_as(tag: str, env_id: str) -> list[Made]:
    """Policies of a task that were published under a tag; those without HER first."""
    paths = RESULTS.glob(f"{tag}/{ch04.CHAPTER}_*_{env_id.lower()}_seed*_eval.json")
    results = {path: read_json(path) for path in sorted(paths)}
    return [
        Made(path, result["aggregate"], read_json(metadata_path(Path(result["checkpoint"]))))
        for path, result in results.items()
    ]


def _whose(document: dict[str, Any]) -> str:
    """Whose settings the policies without HER were trained with; the book fixes α on Push."""
    learned = document["trainings"]["no-HER"]["ent_coef"] == "auto"
    differs = learned and document["env_id"] == ch04.PUSH
    return "the book's settings" + (" but a learned α" if differs else "")


def journey() -> tuple[str, str, Rows] | None:
    """Heading, command and table of the debugging journey; None where it has not been run."""
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
    told = f"{document['env_id']}, {n_seeds} seeds an arm: median (lowest to highest)"
    return f"{linked('Before it worked', path)}: {told}", shlex.join(document["command"]), rows


def _over(metric: str, group: dict[str, Any]) -> str:
    return over_seeds(metric, group[metric]["mean"], group[metric]["t_half_width"])


def _listed(values: Sequence[int | str], separator: str = ", ") -> str:
    return separator.join(map(str, values))
