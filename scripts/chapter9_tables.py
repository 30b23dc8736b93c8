"""The part of results/README.md about policies that see."""

import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import ch09_pixel_push as ch09
import dense_reach_tables
import pixel_distill
import pixel_miniature
import pixel_probe
from benchmark_tables import Rows
from book_figures import Found
from pixel_investigation import LENGTHS, STEPS

from robotics_rl import artifacts, options
from robotics_rl.artifacts import metadata_path, read_json
from robotics_rl.config import EvalSettings
from robotics_rl.curves import read_curves
from robotics_rl.progress import clock
from robotics_rl.reporting import linked, machine, other_settings, rate, trained_in, typed_settings

Document = dict[str, Any]
RESULTS = Path(EvalSettings.results_dir)
RUNS, CURVES = Path("runs"), f"{ch09.PUSH}/seed*/curves.csv"
TITLE, BOOK = ch09.CARD.title, ch09.CARD.book
SOLVED = 0.5  # success that no failing policy has
WHY = (
    "**Why not the book's figures?** The recipe `fast` learns from few trivial goals, scales what "
    "is told beside pictures, takes more and larger gradient steps and looks from near, at a block "
    "of many more pixels. The goals matter most: with every one kept it stayed on the floor, other "
    "things equal. Without shifts it took longer, and then an encoder trained by the actor did no "
    "worse than one trained by the critic. NatureCNN trained by the actor, without shifts and "
    "without a sense of the robot, stayed on the floor. All of this is one run each; what else "
    "matters was not measured. The book's own settings were not trained to their end, which takes "
    "days."
)
CURVE_ALONE = (
    "Trained with the other settings of the recipe `fast`; its policy failed, is large, and is not "
    "published, only its curve."
)
DRAWN = "with `MUJOCO_GL=osmesa`: "  # the processor drew while the GPU learned
NOT_THERE = "not in the book"
PROBE = (
    "Off by: mean distance on pictures that were not learned from; "
    "±: Student's 95 % interval over seeds"
)
DISTILL = (
    "Success: of an evaluation, brackets hold Wilson's 95 % interval over its episodes; in "
    "training: when the last 100 episodes were good enough for the first time"
)
HIDDEN = "no-achieved"  # the policy's inputs without the object's position


def headlines() -> Rows:
    """Rows of the README's table."""
    best = ch09.CARD.settings(ch09.CARD.fast_flags).run_name
    return [
        [
            f"{title}: {metadata['steps_done']:,} steps, seed {metadata['seed']}",
            commands,
            f"{clock(metadata['training']['wall_seconds'])} on {machine(metadata)}",
            dense_reach_tables.summary(result["aggregate"]),
            book,
        ]
        for _, result, metadata in _published()
        for title, commands, book in _headline(metadata, best)
    ]


def _headline(metadata: Mapping[str, Any], best: str) -> Iterator[tuple[str, str, str]]:
    """Title, commands and the book's figure of a policy that the README tells of."""
    if metadata["run_name"] == best:
        # What trains by the recipe and judges, with this policy's seed and tag.
        own = ch09.CARD.short_run(seed=metadata["seed"], run_tag=metadata["run_tag"])
        yield TITLE, DRAWN + dense_reach_tables.in_turn(own), BOOK
    elif _was_taught(metadata):
        title = f"{TITLE}, camera {metadata['hyperparameters']['camera']}, taught by a policy"
        command = f"`{shlex.join(metadata['command'])}`"
        yield f"{title} that is told where the block is", command, NOT_THERE


def _was_taught(metadata: Mapping[str, Any]) -> bool:
    return "teacher" in metadata["hyperparameters"]


def policies() -> Rows:
    """A row per published policy."""
    rows = [["policy", "told where the block is", "camera", "not as the recipe `fast`",
             "environment steps", "gradient steps", "training", "success",
             "of what did not start solved", "return", "distance (m)"]]  # fmt: skip
    recipe = ch09.CARD.settings({"recipe": "fast"})
    for path, result, metadata in _published():
        if _was_taught(metadata):
            continue
        mean, settings = result["aggregate"], metadata["hyperparameters"]
        rows.append(
            [
                f"[{metadata['run_name']}, seed {metadata['seed']}]({path.relative_to(RESULTS)})",
                "no" if settings.get("policy_inputs") == HIDDEN else "yes",
                settings.get("camera", "none"),
                typed_settings(other_settings(metadata, recipe)) or "nothing",
                f"{metadata['steps_done']:,}",
                f"{metadata['gradient_steps']:,}",
                f"{trained_in(result, metadata)} on {machine(metadata)}",
                rate(mean),
                f"{mean['success_rate_unsolved_start']:.2f}",
                f"{mean['return_mean']:.2f}",
                f"{mean['final_distance_mean']:.4f}",
            ]
        )
    return rows


def _published() -> Iterator[tuple[Path, dict[str, Any], dict[str, Any]]]:
    """Path and document of every evaluation, and the metadata of its policy."""
    for path, result in artifacts.checkpoint_evaluations(EvalSettings.results_dir):
        if path.name.startswith(f"{ch09.CARD.chapter}_"):
            yield path, result, read_json(metadata_path(Path(result["checkpoint"])))


def experiments() -> Iterator[tuple[str, Path, Rows, str]]:
    """Title, document, table and a note of every experiment on two cores that was made."""
    made: dict[str, tuple[str, Callable[[Document], Rows], str]] = {
        pixel_probe.NAME: ("Probe: can encoders tell where the block is?", pixel_probe.rows, PROBE),
        pixel_miniature.NAME: (
            "Miniature: who trains the encoder?",
            pixel_miniature.rows,
            pixel_miniature.NOTE,
        ),
        pixel_distill.NAME: (
            "Distill: a policy that is told teaches one that sees",
            lambda document: pixel_distill.rows(document["students"]),
            DISTILL,
        ),
    }
    for name, (title, rows, note) in made.items():
        path = RESULTS / f"{name}.json"
        if path.exists():
            document = read_json(path)
            yield title, path, rows(document), note


def of_step(step: str) -> Found | None:
    """Every policy of a step that was evaluated, whatever else it was trained with."""
    book = ch09.CARD.settings({**STEPS[step], **LENGTHS[step]})
    cells, whys = [], []
    for path, result, metadata in _published():
        if metadata["run_name"] != book.run_name:
            continue
        mean = result["aggregate"]
        after = f"after {metadata['steps_done']:,} steps on {machine(metadata)}"
        cells.append(f"success {linked(rate(mean), path)} {after}")
        whys.append(_not_the_book_s(other_settings(metadata, book)))
        if step == "4" and mean["success_rate"] > SOLVED:
            whys.append("Shifted pictures and spatial softmax, at odds in the book, go together.")
    if not cells:
        cells = [_in_training(path) for path in sorted(RUNS.glob(f"*/{book.run_name}/{CURVES}"))]
        whys = [CURVE_ALONE]
    return Found("; ".join(cells), " ".join(dict.fromkeys(whys))) if cells else None


def _in_training(path: Path) -> str:
    last = read_curves(path)[-1]
    told = f"success {last['success_rate']:.2f} after {last['env_steps']:,.0f} steps"
    return f"{linked(told, path)} in training"


def _not_the_book_s(used: Mapping[str, Any]) -> str:
    return f"Settings that are not the book's: {typed_settings(used)}." if used else ""


def commands(step: str) -> list[str]:
    """What trains and judges a policy of a step as the book does."""
    flags = {**STEPS[step], "seed": 0}
    train, judge = (
        shlex.join(options.as_flags(given)) for given in ({**flags, **LENGTHS[step]}, flags)
    )
    return [f"python {ch09.SCRIPT} train {train}", f"python {ch09.SCRIPT} eval {judge}"]
