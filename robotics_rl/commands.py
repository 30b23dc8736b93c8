"""The two commands behind `train.py`, `eval.py` and the chapter scripts.

What they need takes seconds to import and loads MuJoCo, so it is imported only when the arguments
are known to be right and the rendering backend is chosen.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from robotics_rl import artifacts, rendering, reporting
from robotics_rl.config import EvalSettings, TrainSettings
from robotics_rl.pixel_options import were_of_pictures

if TYPE_CHECKING:
    from robotics_rl.learners.pixels import MakeVision
    from robotics_rl.schemas import Evaluation, Metadata


def train(settings: TrainSettings, make_vision: "MakeVision | None" = None) -> "Metadata":
    """Train, and say what was written.

    Args:
        settings: what and how to train.
        make_vision: what a policy sees with, if it is to see pictures.
    """
    _prepare(draws=settings.pixels is not None)
    from robotics_rl import training
    from robotics_rl.learners import pixels

    engine = None
    if settings.pixels:
        assert make_vision is not None
        engine = pixels.engine(make_vision)
    return training.train(settings, engine=engine)


def evaluate(
    settings: EvalSettings,
    seeds: Sequence[int],
    chapter: str | None = None,
    make_vision: "MakeVision | None" = None,
) -> "Evaluation":
    """Evaluate, show a short table, and say what was written.

    Args:
        settings: what to evaluate and where to write.
        seeds: one reset seed per episode.
        chapter: prefix of the result's name; the one in the checkpoint's metadata if None.
        make_vision: what policies see with that were trained on pictures.
    """
    _prepare(draws=settings.video or sees_pictures(settings.ckpt))
    from robotics_rl import evaluation

    result, path = evaluation.evaluate(settings, seeds, chapter=chapter, make_vision=make_vision)
    print(reporting.evaluation_table(result))
    print(f"OK: wrote {path}")
    return result


def sees_pictures(checkpoint: str | None) -> bool:
    """Whether it is a policy that was trained on pictures."""
    if checkpoint is None:
        return False
    path = artifacts.metadata_path(artifacts.existing_checkpoint(Path(checkpoint)))
    made = artifacts.read_json(path) if path.exists() else {}
    return were_of_pictures(made.get("hyperparameters", {}))


def _prepare(*, draws: bool) -> None:
    """Choose what MuJoCo draws with, before it is imported."""
    if draws:
        rendering.choose_backend()
    else:
        rendering.render_nothing()
