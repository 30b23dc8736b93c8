"""Whether a replay of whole transitions fits into the memory that is free."""

from collections.abc import Callable

import psutil

from robotics_rl import config
from robotics_rl.config import TrainSettings
from robotics_rl.envs import Env
from robotics_rl.errors import UsageError
from robotics_rl.replay.memory_plan import GIB, SHARE


def check(
    transition_bytes: Callable[[TrainSettings, Env], int],
    settings: TrainSettings,
    env: Env,
    side_by_side: int,
) -> None:
    """Refuse what does not fit.

    Args:
        transition_bytes: of one transition in the replay.
        settings: of the training.
        env: one of its environments.
        side_by_side: trainings like it that share the memory.

    Raises:
        UsageError: there is too little; it names the largest replay that fits.
    """
    values = settings.hyperparameters
    assert isinstance(values, config.OffPolicy)
    bytes_each = transition_bytes(settings, env) * side_by_side
    needed, available = values.buffer_size * bytes_each, psutil.virtual_memory().available
    if needed > available:
        fits = int(available * SHARE) // bytes_each
        times = f", {side_by_side} times," if side_by_side > 1 else ""
        raise UsageError(
            f"a replay buffer of {values.buffer_size:,} transitions{times} "
            f"needs {needed / GIB:.1f} GiB "
            f"and {available / GIB:.1f} GiB are free; the largest that fits is "
            f"--buffer-size {fits}"
        )
