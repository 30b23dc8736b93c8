"""The table of published videos."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robotics_rl.artifacts import read_json

FOLDER = Path("videos")
SWEEP = "sweep_"  # how names of a sweep's policies begin
TITLE = "Videos of trained policies"
STORY = (
    "The goal is the red dot; within the pale ball around it, it is reached. Pictures for people: "
    "policies that see have a camera of their own. The episodes are those that `eval.py` plays "
    "from the same reset seeds on the same machine; the JSON beside a video tells all of them."
)


def films() -> list[list[str]]:
    """A row per video: what it shows, how it ends, and what made it."""
    rows = [["video", "policies", "episodes that end in success", "command"]]
    for path in sorted(FOLDER.glob("*.json")):
        document = read_json(path)
        evaluations = document["evaluations"]
        rows.append(
            [
                f"[![{path.stem}]({path.stem}.gif)]({path.stem}.mp4)",
                "<br>".join(map(_policy, evaluations)),
                "<br>".join(map(_outcome, evaluations)),
                f"`{shlex.join(evaluations[0]['command'])}`",
            ]
        )
    return rows


def _policy(evaluation: Mapping[str, Any]) -> str:
    """Its name, and the way to it; those of a sweep are too many to be published."""
    checkpoint = Path(evaluation["checkpoint"])
    if checkpoint.name.startswith(SWEEP):
        return f"`{checkpoint.stem}`"
    return f"[{checkpoint.stem}](../{checkpoint})"


def _outcome(evaluation: Mapping[str, Any]) -> str:
    n_successes = sum(episode["success"] for episode in evaluation["per_episode"])
    return f"{n_successes} of {evaluation['n_episodes']}"
