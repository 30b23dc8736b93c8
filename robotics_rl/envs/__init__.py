"""Environments by id, and the vector of environments that training steps."""

import difflib
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import gymnasium_robotics
from gymnasium import spaces

from robotics_rl.errors import UsageError

gym.register_envs(gymnasium_robotics)

Env = gym.Env[Any, Any]
MakeEnv = Callable[..., Env]


def make_env(env_id: str, **kwargs: Any) -> Env:
    """``gymnasium.make`` with an error that helps.

    Raises:
        UsageError: no environment has this id; the message names the nearest ones.
    """
    if env_id not in gym.registry:
        near = difflib.get_close_matches(env_id, gym.registry, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else "see ch01_env_anatomy.py list-envs"
        raise UsageError(f"unknown environment {env_id!r}; {hint}")
    return gym.make(env_id, **kwargs)


def has_goals(space: spaces.Space[Any]) -> bool:
    """Whether observations are the dictionaries of a goal-conditioned environment."""
    keys = {"observation", "achieved_goal", "desired_goal"}
    return isinstance(space, spaces.Dict) and keys <= set(space.spaces)
