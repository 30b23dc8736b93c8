"""The part of results/README.md about policies that see."""

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ch09_pixel_push as ch09
import dense_reach_tables
from benchmark_tables import Rows
from book_figures import Found
from pixel_investigation import STEPS

from robotics_rl import artifacts, options
from robotics_rl.artifacts import metadata_path, read_json
from robotics_rl.config import EvalSettings
from robotics_rl.progress import clock
from robotics_rl.reporting import linked, machine

RESULTS = Path(EvalSettings.results_dir)
TITLE, BOOK = ch09.CARD.title, ch09.CARD.book
# What the book's steps from pictures take beside the flags that make them.
_LONG = {"buffer_size": 500_000, "n_sampled_goal": 8}
PIXELS: Mapping[str, Mapping[str, Any]] = {
    "0": {"total_steps": 2_000_000},
    "1": {"total_steps": 2_000_000},
    "2": {"total_steps": 5_000_000, **_LONG},
    "4": {"total_steps": 1_500_000, **_LONG},
    "control": {"total_steps": 2_000_000},
}
SOLVED = 0.5  # success that no failing policy has
WHY = (
    "**Why not the book's figures?** The recipe `fast` learns from few trivial goals, scales what "
    "is told beside pictures, takes more and larger gradient steps and looks from near, at a block "
    "of many more pixels. What of this matters most was not measured; the book's own settings were "
    "not trained to their end, which takes days."
)
HIDDEN = "no-achieved"  # the policy's inputs without the object's position


def headlines() -> Rows:
    """Rows of the README's table."""
    best = ch09.CARD.settings({"recipe": "fast"}).run_name
    train = ch09.CARD.fast_path.removesuffix(" --seed 0")
    return [
        [
            f"{TITLE}: {metadata['steps_done']:,} steps, seed {metadata['seed']}",
            f"`python {ch09.SCRIPT} {train} --seed {metadata['seed']} "
            f"--run-tag {metadata['run_tag']}`",
            f"{clock(metadata['training']['wall_seconds'])} on {machine(metadata)}",
            dense_reach_tables.summary(result["aggregate"]),
            BOOK,
        ]
        for _, result, metadata in _published()
        if metadata["run_name"] == best
    ]


def policies() -> Rows:
    """A row per published policy."""
    rows = [["policy", "told where the block is", "camera", "environment steps", "gradient steps",
             "training", "success", "of what did not start solved", "return",
             "distance (m)"]]  # fmt: skip
    for path, result, metadata in _published():
        mean, settings = result["aggregate"], metadata["hyperparameters"]
        low, high = mean["success_rate_ci95"]
        rows.append(
            [
                f"[{metadata['run_name']}, seed {metadata['seed']}]({path.relative_to(RESULTS)})",
                "no" if settings.get("policy_inputs") == HIDDEN else "yes",
                settings.get("camera", "none"),
                f"{metadata['steps_done']:,}",
                f"{metadata['gradient_steps']:,}",
                f"{clock(metadata['training']['wall_seconds'])} on {machine(metadata)}",
                f"{mean['success_rate']:.2f} ({low:.2f} to {high:.2f})",
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


def of_step(step: str) -> Found | None:
    """Every policy of a step that was evaluated, whatever else it was trained with."""
    book = ch09.CARD.settings({**STEPS[step], **PIXELS[step]})
    cells, whys = [], []
    for path, result, metadata in _published():
        if metadata["run_name"] != book.run_name:
            continue
        mean = result["aggregate"]
        low, high = mean["success_rate_ci95"]
        told = f"{mean['success_rate']:.2f} ({low:.2f} to {high:.2f})"
        after = f"after {metadata['steps_done']:,} steps on {machine(metadata)}"
        cells.append(f"success {linked(told, path)} {after}")
        whys.append(_other_settings(metadata, book.flat_hyperparameters()))
        if step == "4" and mean["success_rate"] > SOLVED:
            whys.append("Shifted pictures and spatial softmax, at odds in the book, go together.")
    return Found("; ".join(cells), " ".join(whys)) if cells else None


def _other_settings(metadata: dict[str, Any], book: Mapping[str, Any]) -> str:
    """What a training had otherwise than the book."""
    used = metadata["hyperparameters"]
    other = [
        f"`{name}` {options.as_typed(tuple(used[name]) if name == 'net_arch' else used[name])}"
        for name, value in sorted(book.items())
        if name in used and used[name] != value
    ]
    return f"Settings that are not the book's: {', '.join(other)}." if other else ""


def commands(step: str) -> list[str]:
    """What trains and judges a policy of a step as the book does."""
    flags = {**STEPS[step], "seed": 0}
    train, judge = (
        shlex.join(options.as_flags(given)) for given in ({**flags, **PIXELS[step]}, flags)
    )
    return [f"python {ch09.SCRIPT} train {train}", f"python {ch09.SCRIPT} eval {judge}"]
