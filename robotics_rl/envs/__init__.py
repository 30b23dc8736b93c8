"""Environments by id, and the vector of environments that training steps.

Importing it registers the ids of Gymnasium-Robotics and, in this process, lets
`gymnasium.make_vec` of the eight ``Fetch…-v4`` ids give a ``FetchVectorEnv``: same-step autoreset,
neither wrappers nor pictures. ``vectorization_mode="sync"`` and `gymnasium.make` are unchanged.
"""

import difflib
import re
import warnings
from collections.abc import Callable, Iterable
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
        UsageError: no environment has this id (the message names the nearest ones), or it needs a
            package that is not installed.
    """
    require_id(env_id, gym.registry)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of ids that a newer one replaces
            return gym.make(env_id, **kwargs)
    except gym.error.DependencyNotInstalled as error:
        raise UsageError(
            f"{env_id} needs a package that is not installed ({error}); choose another environment"
        ) from None


def require_id(env_id: str, known: Iterable[str]) -> None:
    """Make sure that ``env_id`` is ``known``.

    Raises:
        UsageError: it is not; the message names the nearest ids.
    """
    ids = list(known)
    if env_id not in ids:
        usable = [name for name in ids if not re.fullmatch(r"Fetch\w+-v1", name)]
        near = difflib.get_close_matches(env_id, usable, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else "see ch01_env_anatomy.py list-envs"
        raise UsageError(f"unknown environment {env_id!r}; {hint}")


def fetch_ids() -> list[str]:
    """Ids of the Fetch tasks; the ``-v1`` beside them need mujoco-py, which has ended."""
    return sorted(name for name in gym.registry if re.fullmatch(r"Fetch\w+-v4", name))


# What `gymnasium.make_vec` makes of a Fetch task where this package was imported.
for _env_id in fetch_ids():
    gym.registry[_env_id].vector_entry_point = f"robotics_rl.envs.fetch_vector_env:{_env_id}"


def has_goals(space: spaces.Space[Any]) -> bool:
    """Whether observations are the dictionaries of a goal-conditioned environment."""
    keys = {"observation", "achieved_goal", "desired_goal"}
    return isinstance(space, spaces.Dict) and keys <= set(space.spaces)
