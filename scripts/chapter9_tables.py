"""The part of results/README.md about policies that see."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ch09_pixel_push as ch09
import dense_reach_tables
from benchmark_tables import Rows

from robotics_rl.artifacts import metadata_path, read_json
from robotics_rl.config import EvalSettings
from robotics_rl.progress import clock
from robotics_rl.reporting import machine

RESULTS = Path(EvalSettings.results_dir)
TITLE, BOOK = ch09.CARD.title, ch09.CARD.book
HIDDEN = "no-achieved"  # the policy's inputs without the object's position


def headlines() -> Rows:
    """Rows of the README's table."""
    return [
        [
            f"{TITLE}: {metadata['steps_done']:,} steps",
            f"`python {ch09.SCRIPT} {ch09.CARD.fast_path} --run-tag {metadata['run_tag']}`",
            f"{clock(metadata['training']['wall_seconds'])} on {machine(metadata)}",
            dense_reach_tables.summary(result["aggregate"]),
            BOOK,
        ]
        for _, result, metadata in _published()
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
                "no" if settings["policy_inputs"] == HIDDEN else "yes",
                settings["camera"],
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
    for path in sorted(RESULTS.rglob(f"{ch09.CARD.chapter}_*_eval.json")):
        result = read_json(path)
        yield path, result, read_json(metadata_path(Path(result["checkpoint"])))
