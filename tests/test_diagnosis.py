"""What is logged of critics and replay is true, and looking changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from support import TINY_SAC_HER, assert_equal_weights, succeed

from robotics_rl import callbacks, config
from robotics_rl.curves import read_curves
from robotics_rl.learners import ENGINES
from robotics_rl.learners.diagnosis import Diagnosis
from robotics_rl.training import build

METRICS = {
    "q1_mean", "q2_mean", "q_min_mean", "reward_mean", "reward_std", "goal_distance_mean",
    "goal_distance_std", "ent_coef",
}  # fmt: skip


@pytest.mark.parametrize("engine", ["fast", "sb3"])
def test_looking_at_the_replay_does_not_change_the_training(workdir: Path, engine: str) -> None:
    arguments = [*TINY_SAC_HER, "--engine", engine]
    with mock.patch.object(callbacks.Diagnostician, "EVERY", 10**9):
        succeed("train.py", *arguments, "--out", "unseen.zip")
    with mock.patch.object(callbacks.Diagnostician, "EVERY", 2):
        succeed("train.py", *arguments, "--out", "seen.zip")
        [row] = read_curves(Path("runs/sac_her/FetchPush-v4/seed0/curves.csv"))
    assert row["q_min_mean"] is not None
    assert_equal_weights(Path("unseen.zip"), Path("seen.zip"))


@pytest.mark.parametrize("engine", ["fast", "sb3"])
def test_diagnosis_is_of_the_critics_and_of_real_transitions(engine: str) -> None:
    model = _trained("sac", engine, ent_coef=0.3)
    diagnosis = ENGINES[engine].diagnose(model)
    assert diagnosis is not None
    metrics = diagnosis.metrics()
    assert metrics.keys() == METRICS
    assert metrics["ent_coef"] == pytest.approx(0.3)
    assert metrics["q_min_mean"] <= min(metrics["q1_mean"], metrics["q2_mean"])
    # On dense Reach the reward is minus the distance between the goals, so both are of one batch.
    assert metrics["reward_mean"] == pytest.approx(-metrics["goal_distance_mean"], rel=1e-5)
    assert metrics["reward_std"] == pytest.approx(metrics["goal_distance_std"], rel=1e-4)
    assert torch.equal(diagnosis.q1, ENGINES[engine].diagnose(model).q1), "nothing was drawn"
    with torch.no_grad():
        for network in model.critic.q_networks:
            network[-1].bias.add_(7.0)
    shifted = ENGINES[engine].diagnose(model).metrics()
    assert shifted["q1_mean"] == pytest.approx(metrics["q1_mean"] + 7, rel=1e-4)
    assert shifted["q2_mean"] == pytest.approx(metrics["q2_mean"] + 7, rel=1e-4)


@pytest.mark.parametrize("engine", ["fast", "sb3"])
def test_the_whole_replay_is_looked_at_its_oldest_steps_as_much_as_its_newest(engine: str) -> None:
    model = build(_settings("sac", engine), "cpu").learn(330)
    model.batch_size = 6_600
    goals = ENGINES[engine].diagnose(model).desired_goals
    _, counts = torch.unique(goals, dim=0, return_counts=True)
    # In each of two environments three episodes of 50 steps, and 15 steps of a fourth.
    assert sorted((counts / 20).round().tolist()) == pytest.approx([15] * 2 + [50] * 6, abs=6)


def test_metrics_are_means_and_deviations_over_the_batch() -> None:
    zeros = torch.zeros(2, 3)
    goals = torch.tensor([[3.0, 0.0, 4.0], [0.0, 0.0, 0.0]])
    diagnosis = Diagnosis(
        q1=torch.tensor([1.0, 4.0]),
        q2=torch.tensor([3.0, 2.0]),
        rewards=torch.tensor([-1.0, 0.0]),
        achieved_goals=zeros,
        desired_goals=goals,
        ent_coef=None,
    )
    assert diagnosis.metrics() == {
        "q1_mean": 2.5, "q2_mean": 2.5, "q_min_mean": 1.5, "reward_mean": -0.5, "reward_std": 0.5,
        "goal_distance_mean": 2.5, "goal_distance_std": 2.5,
    }  # fmt: skip


@pytest.mark.parametrize("engine", ["fast", "sb3"])
def test_nothing_is_said_before_learning_or_of_a_single_critic(engine: str) -> None:
    settings = _settings("sac", engine)
    assert ENGINES[engine].diagnose(build(settings, "cpu")) is None
    assert ENGINES[engine].diagnose(build(settings, "cpu").learn(60)) is None
    assert ENGINES[engine].diagnose(_trained("ddpg", engine)) is None
    assert ENGINES[engine].diagnose(_trained("td3", engine)) is not None


def test_diagnoses_come_at_the_same_steps_whenever_a_run_is_resumed() -> None:
    looked: list[int] = []
    model = mock.Mock()
    watcher = callbacks.Diagnostician(lambda _: looked.append(model.num_timesteps), 16)
    watcher.model = model
    for steps in np.arange(0, 4_001, 16):
        watcher.num_timesteps = model.num_timesteps = int(steps)
        watcher._on_rollout_start()
    assert looked == [0, 1_008, 2_000, 3_008, 4_000]


def _settings(algo: str, engine: str, **given: Any) -> config.TrainSettings:
    tiny = {"n_envs": 2, "net_arch": (16,), "batch_size": 16, "learning_starts": 100}
    values = {**tiny, "buffer_size": 2_000, "engine": engine, **given}
    return config.resolve(algo, "FetchReachDense-v4", values)


def _trained(algo: str, engine: str, **given: Any) -> Any:
    return build(_settings(algo, engine, **given), "cpu").learn(130)
