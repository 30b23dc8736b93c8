"""How fast a model trains right now, its learning included."""

import time

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback


class _StopAfter(BaseCallback):
    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._end = time.perf_counter() + seconds

    def _on_step(self) -> bool:
        return time.perf_counter() < self._end


def steps_per_second(model: BaseAlgorithm, seconds: float) -> float:
    """Go on training for about so many seconds; environment steps per second.

    Args:
        model: trained before this beyond its ``learning_starts``, so that it learns.
        seconds: of training.
    """
    before, started = model.num_timesteps, time.perf_counter()
    model.learn(10**9, callback=_StopAfter(seconds), reset_num_timesteps=False)
    return (model.num_timesteps - before) / (time.perf_counter() - started)
