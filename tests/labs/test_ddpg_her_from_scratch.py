"""The DDPG + HER lab: what it prints and writes, and that its checks can fail."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from mutation import LABS, Fault, assert_notices, by_check, loaded_lab, run_lab, run_module

LAB = LABS / "ddpg_her_from_scratch.py"
REGIONS = ["point_reach_env", "replay_buffer", "ddpg_agent", "training_loop"]

WALL = "np.where(moved == self.position, velocity, 0.0)"
SPARSE = "return (distance <= self.distance_threshold) - 1.0"
STORED = 'self.compute_reward_fn(parts["achieved_goal"][episode, step + 1], goal, {})'
HINDSIGHT = 'parts["achieved_goal"][episode, outcome + 1]'
LATER = "rng.integers(first, horizon, size=batch_size)"
NEXT = "t], goal]) for t in"
OTHER_NEXT = 't], goal if t is step else parts["desired_goal"][episode, t]]) for t in'
PLACE = "self.added % self.config.capacity"
KEPT = "kept = min(self.added, self.config.capacity)"
BOTH = "self.targets, self.networks"
CAUGHT_BY_VERIFY = {
    "check_environment": [
        Fault("threshold excluded", "<= self.dist", "< self.dist"),
        Fault("no speed limit", "velocity /= ", "_ = "),
        Fault("walls do not stop it", WALL, "velocity"),
        Fault("time limit terminates", "return False", "return self.steps >= 50"),
        Fault("no time limit", "self.steps >= self.max_steps", "False"),
        Fault("dense reward", SPARSE, "return -distance"),
    ],
    "check_replay": [
        Fault("reused reward", STORED, 'parts["reward"][episode, step + 1]'),
        Fault("reward before the step", STORED, STORED.replace(" + 1", "")),
        Fault("wrong goal index", HINDSIGHT, HINDSIGHT.replace(" + 1", "")),
        Fault("other episode", HINDSIGHT, HINDSIGHT.replace("episode", "episode - 1")),
        Fault("goals from the past", LATER, "rng.integers(0, step + 1)"),
        Fault("own outcome left out", LATER, f"np.minimum({LATER} + 1, horizon - 1)"),
        Fault("relabel probability", "size) < k / (k + 1)", "size) < 1 / (k + 1)"),
        Fault("all relabelled", "np.where(relabel[:, None], ", "np.where(True, "),
        Fault("goal not replaced in next", NEXT, OTHER_NEXT),
        Fault("newest overwritten", PLACE, "min(self.added, self.config.capacity - 1)"),
        Fault("newest never drawn", KEPT, f"{KEPT} - 1"),
    ],
    "check_update": [
        Fault("no target critic", "self.target_critic(torch", "self.critic(torch"),
        Fault("no target actor", "self.target_actor(after)", "self.actor(after)"),
        Fault("done mask dropped", "(1.0 - done) * ", ""),
        Fault("gradient into the target", "with torch.no_grad():", "if True:"),
        Fault("target not clipped", ".clamp(-1.0 / (1.0 - self.config.gamma), 0.0)", ""),
        Fault("tau and 1 - tau swapped", "lerp_(fast, tau)", "lerp_(fast, 1 - tau)"),
        Fault("gradients pile up", "self.critic_optimizer.zero_grad()", ""),
        Fault("the actor's pile up", "self.actor_optimizer.zero_grad()", ""),
        Fault("critic left out", "self.critic_optimizer.step()", ""),
        Fault("actor left out", "self.actor_optimizer.step()", ""),
        Fault("target actor frozen", BOTH, "self.target_critic, self.critic"),
        Fault("actor loss sign", "price - self.critic(", "price + self.critic("),
        Fault("large actions for free", "price - self.critic(", "-self.critic("),
        Fault("noise ignored", "rng.normal(action, noise_std)", "action"),
        Fault("noise not clipped", "np.clip(rng.normal(", "(lambda *a: a[0])(rng.normal("),
    ],
    "check_training": [
        Fault("done at the time limit", '"done": terminated', '"done": truncated'),
        Fault("never done", '"done": terminated', '"done": False'),
        Fault("networks not seeded", "torch.manual_seed(config.seed)", "torch.seed()"),
        Fault("replay not seeded", "default_rng(config.seed)", "default_rng()"),
        Fault("goals not seeded", "GoalEnv(seed=config.seed)", "GoalEnv()"),
    ],
}


def evaluate_nothing(module: ModuleType) -> None:
    """Evaluations play most of all steps, and change nothing."""
    module.evaluate = lambda env, policy: 0.0


@pytest.fixture
def lab() -> Iterator[ModuleType]:
    with loaded_lab(LAB) as module:
        yield module


# What it prints


def test_verify_passes(lab: ModuleType) -> None:
    outcome = run_module(lab, "--verify")
    assert outcome.exit_code == 0, outcome.output
    assert outcome.output.startswith("DDPG + HER From Scratch -- Verification\n")
    assert outcome.output.count("[PASS] ") == len(CAUGHT_BY_VERIFY)
    assert outcome.last_line == "[ALL PASS] DDPG + HER implementation verified"


def test_verify_passes_on_another_seed(lab: ModuleType) -> None:
    assert run_module(lab, "--verify", "--seed", "7").failed_claims == []


def test_without_a_mode_it_prints_help_and_exits_2(lab: ModuleType) -> None:
    outcome = run_module(lab)
    assert outcome.exit_code == 2
    assert "--hyperparameters" in outcome.output


@pytest.mark.parametrize(
    "arguments",
    [
        ("--verify", "--seed", "-1"),
        ("--demo", "--episodes", "0"),
        ("--demo", "--verify"),
    ],
)
def test_a_wrong_command_line_exits_2(
    lab: ModuleType, arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_module(lab, *arguments).exit_code == 2
    assert "error:" in capsys.readouterr().err


def test_every_setting_is_explained(lab: ModuleType) -> None:
    outcome = run_module(lab, "--hyperparameters")
    assert outcome.exit_code == 0
    for config in (lab.TrainConfig(), lab.DDPGConfig(), lab.HERConfig()):
        for name, value in vars(config).items():
            if name not in ("ddpg", "her"):
                assert re.search(rf"^  {name} +{re.escape(str(value))}  \w", outcome.output, re.M)


# What it writes


def test_a_short_demo_takes_gradient_steps_and_draws(lab: ModuleType, tmp_path: Path) -> None:
    evaluate_nothing(lab)
    picture = tmp_path / "new" / "a.png"
    command = ("--demo", "--episodes", "2", "--seed", "3", "--out", str(picture))
    outcome = run_module(lab, *command)
    assert outcome.output == run_module(lab, *command).output, "the seed alone decides it"
    assert outcome.exit_code == 1  # two episodes are not enough to learn anything
    assert "success with HER: 0 (bound: 1 ± 0.1)" in outcome.output
    assert "success without HER: 0 (bound: 0 ± 0.2)" in outcome.output
    assert outcome.last_line == "[FAILED] 1 of 1 checks"
    assert picture.read_bytes().startswith(b"\x89PNG")
    page = picture.with_suffix(".html")
    assert f"wrote {picture} and {page}" in outcome.output
    for name in ("returns", "success", "critic_loss", "actor_loss", "q_mean"):
        assert f'"{name}, with HER"' in page.read_text(encoding="utf-8")
        assert f'"{name}, without HER"' in page.read_text(encoding="utf-8")


def test_a_path_it_cannot_write_exits_2_before_it_trains(
    lab: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lab, "train", None)
    Path("file").touch()
    assert run_module(lab, "--demo", "--out", "file/x.png").exit_code == 2
    error = capsys.readouterr().err
    assert re.fullmatch(r"error: [^\n]*file[^\n]*; choose another file [^\n]*\n", error)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_hindsight_makes_the_difference(tmp_path: Path) -> None:
    outcome = run_lab(LAB, "--demo", "--out", str(tmp_path / "a.png"))
    assert outcome.exit_code == 0, outcome.output
    assert outcome.last_line == "[ALL PASS] DDPG + HER does as claimed"


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_sb3_agrees() -> None:
    outcome = run_lab(LAB, "--compare-sb3")
    assert outcome.exit_code == 0, outcome.output


# How it is written


def test_regions_are_as_the_tutorial_names_them() -> None:
    source = LAB.read_text(encoding="utf-8")
    assert re.findall(r"# --8<-- \[start:(\w+)\]", source) == REGIONS
    assert re.findall(r"# --8<-- \[end:(\w+)\]", source) == REGIONS


# What it computes


def test_sb3_accepts_the_environment(lab: ModuleType) -> None:
    from stable_baselines3.common.env_checker import check_env

    check_env(lab.PointReachGoalEnv(seed=0))


def test_it_is_registered_with_its_settings(lab: ModuleType) -> None:
    import gymnasium as gym

    with gym.make("PointReach-v0", max_steps=3, goal_range=0.5, seed=1) as env:
        obs, _ = env.reset()
        again, _ = lab.PointReachGoalEnv(goal_range=0.5, seed=1).reset()
        np.testing.assert_array_equal(obs["desired_goal"], again["desired_goal"])
        assert np.abs(obs["desired_goal"]).max() <= 0.5
        ends = [env.step(np.zeros(2, np.float32))[2:4] for _ in range(3)]
    assert ends == [(False, False), (False, False), (False, True)]


def test_what_is_trained_is_returned_and_can_be_stored(lab: ModuleType) -> None:
    result = lab.train(lab.TrainConfig(episodes=2, updates_per_episode=1, her=lab.HERConfig(k=0)))
    curves = json.loads(json.dumps(result.curves))
    lengths = {name: len(curve) for name, curve in curves.items()}
    once = {"at": 1, "success": 1}
    assert lengths == {"returns": 2, "critic_loss": 2, "actor_loss": 2, "q_mean": 2, **once}
    assert result.seconds > 0
    assert isinstance(result.agent, lab.DDPGAgent)


def test_how_often_it_is_evaluated_changes_nothing_else(lab: ModuleType) -> None:
    rarely = lab.train(lab.TrainConfig(episodes=3, updates_per_episode=5)).curves
    often = lab.train(lab.TrainConfig(episodes=3, updates_per_episode=5, eval_every=1)).curves
    assert often["at"] == [1, 2, 3]
    assert often["q_mean"] == rarely["q_mean"]


def test_the_actor_sees_the_observation_and_the_goal(
    lab: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, act = [], lab.DDPGAgent.act

    def recorded(agent: Any, state: Any, *noise: Any) -> Any:
        seen.append(state)
        return act(agent, state, *noise)

    monkeypatch.setattr(lab.DDPGAgent, "act", recorded)
    lab.train(lab.TrainConfig(seed=5, episodes=1, updates_per_episode=1))
    obs, _ = lab.PointReachGoalEnv(seed=5).reset()
    np.testing.assert_array_equal(seen[0], [0, 0, 0, 0, *obs["desired_goal"]])


def test_shapes(lab: ModuleType) -> None:
    agent = lab.DDPGAgent(6, 2, lab.DDPGConfig())
    rng = np.random.default_rng(0)
    assert agent.act(np.zeros(6), rng).shape == (2,)
    assert agent.act(np.zeros((3, 6)), rng, 0.2).shape == (3, 2)
    assert agent.critic(torch.zeros(3, 8)).shape == (3,)
    assert lab.Actor(5, 3, 16)(torch.zeros(4, 5)).shape == (4, 3)


def test_episodes_of_another_length_are_refused(lab: ModuleType) -> None:
    buffer = lab.HindsightReplayBuffer(lab.HERConfig(), lab.PointReachGoalEnv().compute_reward)
    for steps in (5, 4):
        path, column = np.zeros((steps + 1, 2)), np.zeros(steps + 1)
        goals = {"achieved_goal": path, "desired_goal": path}
        episode = {"observation": path, **goals, "action": path, "reward": column, "done": column}
        if steps == 5:
            buffer.add(episode)
        else:
            with pytest.raises(ValueError, match="broadcast"):
                buffer.add(episode)


# That its checks can fail


@by_check(CAUGHT_BY_VERIFY)
def test_verify_notices(check: str, fault: Fault) -> None:
    assert_notices(LAB, fault, check=check, prepare=evaluate_nothing)
