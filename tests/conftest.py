"""Fixtures: a folder to work in, and two tiny trainings that many tests look at."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

# Must stand before torch is imported; subprocesses inherit it.
os.environ["OMP_NUM_THREADS"] = "1"

import pytest
from support import PPO_NAME, SAC_HER_NAME, TINY_PPO, TINY_SAC_HER, Trained, succeed


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


def _train(factory: pytest.TempPathFactory, name: str, arguments: list[str]) -> Trained:
    root = factory.mktemp(name)
    with contextlib.chdir(root):
        succeed("train.py", *arguments)
    return Trained(root, name)
