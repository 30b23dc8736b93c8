"""Fixtures: a folder to work in, two tiny trainings that many tests look at, and what can draw."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

# Must stand before torch is imported; subprocesses inherit it.
os.environ["OMP_NUM_THREADS"] = "1"

import pytest
from support import PPO_NAME, SAC_HER_NAME, TINY_PPO, TINY_SAC_HER, Trained, succeed

from robotics_rl import rendering
from robotics_rl.errors import UsageError


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """What a test leaves in the environment, such as no renderer, is gone after it."""
    with mock.patch.dict(os.environ):
        yield


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def trained_ppo(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """PPO on dense Reach, one rollout. Do not change its files: ``copy_to`` first."""
    return _train(tmp_path_factory, PPO_NAME, TINY_PPO)


@pytest.fixture(scope="session")
def trained_sac_her(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """SAC with HER on Push, 25 gradient steps. Do not change its files: ``copy_to`` first."""
    return _train(tmp_path_factory, SAC_HER_NAME, TINY_SAC_HER)


@pytest.fixture(scope="session")
def backend() -> str:
    """What draws here. A laptop may have nothing; CI draws, or fails."""
    with mock.patch.dict(os.environ):
        try:
            return rendering.choose_backend()
        except UsageError as error:
            if os.environ.get("CI"):
                raise
            pytest.skip(str(error))


@pytest.fixture(scope="module")
def drawing(backend: str) -> Iterator[None]:
    """Processes that are started from here draw."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MUJOCO_GL", backend)
        patch.delenv("PYOPENGL_PLATFORM", raising=False)  # else it may contradict the other
        yield


@pytest.fixture(scope="module")
def there(drawing: None) -> Iterator[Callable[..., Any]]:
    """Calls a function of a test module in a process that can draw; gives what it returns.

    Pytest's own process may have loaded MuJoCo without OpenGL.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield lambda function, *arguments: pool.submit(function, *arguments).result()


def _train(factory: pytest.TempPathFactory, name: str, arguments: list[str]) -> Trained:
    root = factory.mktemp(name)
    with contextlib.chdir(root):
        succeed("train.py", *arguments)
    return Trained(root, name)
