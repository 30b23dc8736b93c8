"""Two tasks, and a play of each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from plays import N_ENVS, Play, play

from robotics_rl.envs.fetch_vec_env import FetchVecEnv


@pytest.fixture(scope="session")
def push() -> Iterator[FetchVecEnv]:
    env = FetchVecEnv("FetchPush-v4", N_ENVS, seed=0)
    yield env
    env.close()


@pytest.fixture(scope="session")
def pushed(push: FetchVecEnv) -> Play:
    return play(push)


@pytest.fixture(scope="session")
def reach() -> Iterator[FetchVecEnv]:
    env = FetchVecEnv("FetchReachDense-v4", N_ENVS, seed=0)
    yield env
    env.close()


@pytest.fixture(scope="session")
def reached(reach: FetchVecEnv) -> Play:
    """The gripper moves in every step, so a goal tells which step achieved it."""
    return play(reach)
