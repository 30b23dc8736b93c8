"""An environment that nobody trains in, and what it shows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from building import PUSH
from numpy.typing import NDArray

from robotics_rl.envs.fetch_vec_env import FetchVecEnv


@pytest.fixture(scope="session")
def push() -> Iterator[FetchVecEnv]:
    """Spaces to build models for."""
    env = FetchVecEnv("FetchPush-v4", PUSH.n_envs, seed=0)
    yield env
    env.close()


@pytest.fixture(scope="session")
def observed(push: FetchVecEnv) -> dict[str, NDArray[Any]]:
    """100 observations of random actions."""
    rng = np.random.default_rng(0)
    seen = [push.reset()]
    while len(seen) < 50:
        push.step_async(rng.uniform(-1, 1, (PUSH.n_envs, PUSH.action)).astype(np.float32))
        seen.append(push.step_wait()[0])
    return {name: np.concatenate([one[name] for one in seen]) for name in seen[0]}


@pytest.fixture(scope="session")
def inputs(observed: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
    """The same 100 as networks see them: (100, 31)."""
    names = ("achieved_goal", "desired_goal", "observation")
    return np.concatenate([observed[name] for name in names], axis=1, dtype=np.float32)
