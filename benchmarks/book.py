"""SAC with HER on Push as the book sets it, for benchmarks on any engine."""

from collections.abc import Callable
from typing import Any

from robotics_rl import config
from robotics_rl.recipes import BOOK_HER

ENV_ID = "FetchPush-v4"
BOOK: dict[str, Any] = {"recipe": "book", "ent_coef": 0.05}


def learning_model(
    engine_name: str, device: str, make_venv: Callable[..., Any] | None = None, **given: Any
) -> Any:
    """A model that has begun to learn, from the weights that every other of its size began with.

    Args:
        engine_name: of the learner.
        device: that it learns on.
        make_venv: of the environments, if they are not the engine's own.
        given: what differs from the book.
    """
    import torch
    from stable_baselines3.common.logger import Logger

    from robotics_rl.envs import make_env
    from robotics_rl.learners import ENGINES

    engine = ENGINES[engine_name]
    asked = {**BOOK, "buffer_size": 200_000, "engine": engine_name, **given}
    settings = config.resolve("sac", ENV_ID, asked, her=True)
    torch.manual_seed(0)
    model = engine.make_model(settings, (make_venv or engine.make_env)(settings, make_env), device)
    model.set_logger(Logger(None, []))
    model.learn(BOOK_HER["learning_starts"] + 200)
    return model
