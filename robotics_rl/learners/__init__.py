"""Engines: what steps the environments and what learns from them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from stable_baselines3.common.base_class import BaseAlgorithm

from robotics_rl.config import TrainSettings
from robotics_rl.envs import Env, MakeEnv
from robotics_rl.learners import fast, memory, sb3
from robotics_rl.learners.diagnosis import Diagnosis
from robotics_rl.learners.sb3 import gradient_steps, hyperparameters

__all__ = ["ENGINES", "Engine", "ResumableEnv", "gradient_steps", "hyperparameters"]


class ResumableEnv(Protocol):
    """What training asks of a ``VecEnv`` beyond Stable-Baselines3's own interface."""

    def state(self) -> dict[str, Any]:
        """Exact state between two steps."""

    def restore(self, state: dict[str, Any]) -> bool:
        """Go on from a state; False where episodes had to start anew."""


@dataclass(frozen=True)
class Engine:
    """The functions that make up an engine; training itself is the same for every one.

    ``make_env`` gives a Stable-Baselines3 ``VecEnv`` that is a ``ResumableEnv`` too.
    ``make_model`` gives an algorithm that steps it and writes Stable-Baselines3's checkpoints.
    """

    make_env: Callable[[TrainSettings, MakeEnv], Any]
    make_model: Callable[[TrainSettings, Any, str], BaseAlgorithm]
    check_memory: Callable[[TrainSettings, Env, int], None]  # for trainings side by side
    export: Callable[[TrainSettings, BaseAlgorithm], BaseAlgorithm]  # what a checkpoint holds
    diagnose: Callable[[BaseAlgorithm], Diagnosis | None]  # of twin critics on a random batch


ENGINES = {
    "fast": Engine(
        make_env=fast.make_training_env,
        make_model=fast.make_model,
        check_memory=partial(memory.check, fast.transition_bytes),
        export=fast.export,
        diagnose=fast.diagnose,
    ),
    "sb3": Engine(
        make_env=sb3.make_training_env,
        make_model=sb3.make_model,
        check_memory=partial(memory.check, sb3.transition_bytes),
        export=lambda _, model: model,
        diagnose=sb3.diagnose,
    ),
}
