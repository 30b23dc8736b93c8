"""The two commands behind `train.py`, `eval.py` and the chapter scripts.

What they need takes seconds to import and loads MuJoCo, so it is imported only when the arguments
are known to be right and the rendering backend is chosen.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from robotics_rl import rendering, reporting
from robotics_rl.config import EvalSettings, TrainSettings

if TYPE_CHECKING:
    from robotics_rl.schemas import Evaluation, Metadata


def train(settings: TrainSettings) -> "Metadata":
    """Train, and say what was written."""
    rendering.render_nothing()
    from robotics_rl import training

    return training.train(settings)


def evaluate(
    settings: EvalSettings, seeds: Sequence[int], chapter: str | None = None
) -> "Evaluation":
    """Evaluate, show a short table, and say what was written."""
    if settings.video:
        rendering.choose_backend()
    else:
        rendering.render_nothing()
    from robotics_rl import evaluation

    result, path = evaluation.evaluate(settings, seeds, chapter=chapter)
    print(reporting.evaluation_table(result))
    print(f"OK: wrote {path}")
    return result
