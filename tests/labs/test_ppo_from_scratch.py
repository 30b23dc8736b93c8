"""The PPO lab: what it prints, that its checks can fail, what the exercises turn."""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import gymnasium as gym
import numpy as np
import pytest
import torch
from mutation import LABS, Fault, assert_notices, by_check, loaded_lab, run_lab, run_module

LAB = LABS / "ppo_from_scratch.py"
LOOP = ["collect_rollout", "transitions_to_batch", "TASKS", "make_env", "evaluate", "learn"]
REGIONS = {
    "actor_critic_network": ["ActorCritic"],
    "gae_computation": ["compute_gae"],
    "ppo_loss": ["compute_ppo_loss"],
    "value_loss": ["compute_value_loss"],
    "ppo_update": ["ppo_update"],
    "ppo_training_loop": LOOP,
}
PARTS = ["Actor-critic network", "GAE", "PPO loss", "Value loss", "PPO update"]

CAUGHT_BY_VERIFY = {
    "check_network": [
        Fault("variance for deviation", "self.log_std.exp()", "(2 * self.log_std).exp()"),
        Fault("one layer too many", "second, nn.Tanh())", "second, nn.Linear(64, 64), nn.Tanh())"),
        Fault("a value per row and column", "(features).squeeze(-1)", "(features)"),
    ],
    "check_gae": [
        Fault("no done mask on the advantage", "going_on * next_advantage", "next_advantage"),
        Fault("no done mask on the value", "next_value * going_on", "next_value"),
        Fault("lambda for gamma", "rewards[t] + gamma *", "rewards[t] + gae_lambda *"),
        Fault("lambda left out", "gamma * gae_lambda * going_on", "gamma * going_on"),
        Fault("advantage sign", "next_value = next_advantage,", "next_value = -next_advantage,"),
        Fault("one next value for all", "next_advantage, values[t]", "next_advantage, next_value"),
        Fault("returns without values", "advantages + values", "advantages"),
        Fault("truncation as termination", "if truncated and not terminated", "if False"),
        Fault("termination as truncation", "if truncated and not terminated", "if True"),
        Fault("last value not discounted", "rewards + gamma * cut_values", "rewards + cut_values"),
        Fault("a new episode each time", 'getattr(env, "unfinished", None) or', "None or"),
        Fault("no reset", "obs, so_far = env.reset()[0], 0.0\n", "env.reset()\n"),
    ],
    "check_ppo_loss": [
        Fault("max for min", "-torch.min(", "-torch.max("),
        Fault("loss sign", "loss = -torch.min(", "loss = torch.min("),
        Fault(
            "ratio inverted",
            "log_ratio = dist.log_prob(actions).sum(-1) - old_log_probs",
            "log_ratio = old_log_probs - dist.log_prob(actions).sum(-1)",
        ),
        Fault("components averaged", "log_prob(actions).sum(-1) -", "log_prob(actions).mean(-1) -"),
        Fault("old log-probs reused", "ratio = log_ratio.exp()", "ratio = (0 * log_ratio).exp()"),
        Fault("no clip", "ratio.clamp(1.0 - clip_range, 1.0 + clip_range)", "ratio"),
        Fault("clipped above only", "ratio.clamp(1.0 - clip_range, ", "ratio.clamp(0.0, "),
        Fault("clipped always", "min(ratio * adv", "min(clipped * adv"),
        Fault("KL without its correction", "(ratio - 1.0 - log_ratio)", "(-log_ratio)"),
    ],
    "check_value_loss": [
        Fault("value loss sign", "loss = 0.5 *", "loss = -0.5 *"),
        Fault("no half", "loss = 0.5 *", "loss ="),
        Fault("explained is unexplained", "explained = 1.0 - errors", "explained = errors"),
    ],
    "check_update": [
        Fault("no step", "    optimizer.step()\n", ""),
        Fault("value loss subtracted", "+ value_coef * value_loss", "- value_coef * value_loss"),
        Fault("policy loss subtracted", "loss = policy_loss +", "loss = -policy_loss +"),
        Fault("policy left out", "loss = policy_loss +", "loss = 0 * policy_loss +"),
    ],
}  # fmt: skip
# By the words of the claim that they break.
CAUGHT_BY_COMPARISON = {
    "Our GAE": [
        Fault("no done mask", "going_on * next_advantage", "next_advantage"),
        Fault("returns without values", "advantages + values", "advantages"),
    ],
    "Our loss and update": [
        Fault("max for min", "-torch.min(", "-torch.max("),
        Fault("advantages not scaled", " / (advantages.std() + 1e-8)", ""),
        Fault("entropy punished", "- entropy_coef * entropy", "+ entropy_coef * entropy"),
        Fault("entropy averaged", "entropy().sum(-1)", "entropy().mean(-1)"),
        Fault("gradients pile up", "    optimizer.zero_grad()\n", ""),
        Fault("gradient not clipped", "parameters(), max_grad_norm)", "parameters(), 1e9)"),
        Fault("value loss without half", "loss = 0.5 *", "loss ="),
    ],
}


@pytest.fixture
def lab() -> Iterator[ModuleType]:
    with loaded_lab(LAB) as module:
        yield module


@pytest.fixture(scope="module")
def fetch() -> Iterator[gym.Env]:
    """What --compare-sb3 asks for its spaces, made once for all tests."""
    with loaded_lab(LAB) as module:
        env = module.make_env("FetchReachDense-v4")
    yield env
    env.close()


@pytest.fixture(autouse=True)
def same_threads_afterwards() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


class Corridor(gym.Env):
    """Reward 1 for every step, whatever is done; it never ends by itself."""

    observation_space = gym.spaces.Box(-1.0, 1.0, (4,))
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        return np.zeros(4, dtype=np.float32), {}

    def step(self, action):
        return np.zeros(4, dtype=np.float32), 1.0, False, False, {}


class Swarm(Corridor):
    """The same for three components of an action at once."""

    action_space = gym.spaces.Box(-1.0, 1.0, (3,))

    def step(self, action):
        assert action.shape == (3,)
        return super().step(action)


def short_demo(folder: Path, *arguments: str) -> list[str]:
    settings = ["--steps", "300", "--n-steps", "150", "--n-epochs", "2"]
    return ["--demo", *settings, "--out", str(folder / "new" / "curve.png"), *arguments]


# What it prints


def test_verify_passes_its_five_parts_in_order() -> None:
    outcome = run_lab(LAB, "--verify")
    assert outcome.exit_code == 0
    assert outcome.output.startswith("PPO From Scratch -- Verification\n")
    assert re.findall(r"^\[PASS\] (.*?):", outcome.output, flags=re.MULTILINE) == PARTS
    assert outcome.last_line == "[ALL PASS] PPO implementation verified"


def test_comparison_agrees_with_stable_baselines3() -> None:
    outcome = run_lab(LAB, "--compare-sb3")
    assert outcome.exit_code == 0
    assert outcome.output.startswith("PPO From Scratch -- SB3 Comparison\n")
    assert "gamma=0.99, lambda=0.95" in outcome.output
    assert "[PASS] Our GAE matches SB3 RolloutBuffer\n" in outcome.output
    assert "[PASS] Our loss and update match SB3 PPO.train()\n" in outcome.output
    assert outcome.last_line.startswith("[ALL PASS]")


def test_without_a_mode_it_prints_help_and_exits_2() -> None:
    outcome = run_lab(LAB)
    assert outcome.exit_code == 2
    assert "--verify" in outcome.output


@pytest.mark.parametrize(
    "arguments",
    [
        ("--verify", "--demo"),
        ("--verify", "--seed", "-1"),
        ("--demo", "--seed", "a"),
        ("--demo", "--seed", "0,1"),
        ("--demo", "--steps", "0"),
        ("--demo", "--steps", "1000"),  # less than a rollout
        ("--demo", "--n-epochs", "0"),
        ("--demo", "--clip-range", "-0.1"),
        ("--demo", "--env", "Nowhere-v0"),
    ],
)
def test_a_wrong_command_line_exits_2(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_lab(LAB, *arguments).exit_code == 2
    assert "error:" in capsys.readouterr().err


def test_a_picture_that_cannot_be_written_is_refused_before_the_work(
    lab: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.delattr(lab, "learn")
    outcome = run_module(lab, "--demo", "--out", str(tmp_path / "file" / "curve.png"))
    assert outcome.exit_code == 2
    assert re.fullmatch(r"error: .*file.*\n", capsys.readouterr().err)


def test_the_seed_alone_decides_what_is_printed(lab: ModuleType) -> None:
    default = run_module(lab, "--verify")
    same, other = (run_module(lab, "--verify", "--seed", seed) for seed in ("0", "8"))
    assert default.output == same.output
    assert default.output != other.output
    assert other.exit_code == 0


@pytest.mark.parametrize("mode", ["--verify", "--compare-sb3"])
def test_it_passes_with_other_seeds_as_well(lab: ModuleType, mode: str) -> None:
    for seed in (1, 2):
        outcome = run_module(lab, mode, "--seed", str(seed))
        assert outcome.exit_code == 0, outcome.output


# How it is written


def test_regions_hold_what_the_tutorial_shows() -> None:
    source = LAB.read_text(encoding="utf-8")
    for region, names in REGIONS.items():
        (listing,) = re.findall(
            rf"# --8<-- \[start:{region}\]\n(.*?)# --8<-- \[end:{region}\]", source, flags=re.DOTALL
        )
        nodes = ast.parse(listing).body
        found = [n.targets[0].id if isinstance(n, ast.Assign) else n.name for n in nodes]
        assert found == names


# That its checks can fail


@by_check(CAUGHT_BY_VERIFY)
def test_verify_notices(check: str, fault: Fault) -> None:
    assert_notices(LAB, fault, check=check)


@by_check(CAUGHT_BY_COMPARISON)
def test_comparison_notices(check: str, fault: Fault, fetch: gym.Env) -> None:
    fault = fault._replace(flag="--compare-sb3", sign=f"[FAIL] {check}")
    assert_notices(LAB, fault, prepare=lambda module: setattr(module, "make_env", lambda _: fetch))


# What it computes


def test_a_last_reward_reaches_back_and_nothing_passes_an_end(lab: ModuleType) -> None:
    rewards, dones = torch.tensor([0.0, 0.0, 0.0, 1.0]), torch.tensor([0.0, 1.0, 0.0, 1.0])
    advantages, returns = lab.compute_gae(rewards, torch.zeros(4), 100.0, dones, 0.5, 0.5)
    assert advantages.tolist() == [0.0, 0.0, 0.25, 1.0]
    assert torch.equal(returns, advantages)


def test_truncation_bootstraps_from_the_last_value(lab: ModuleType) -> None:
    model = lab.ActorCritic(4, 2, discrete=True)
    torch.nn.init.constant_(model.value_head.bias, 100.0)  # = 1 / (1 - 0.99): as if for ever
    env = gym.wrappers.TimeLimit(Corridor(), 5)
    transitions, next_value, returns = lab.collect_rollout(env, model, 12, "cpu")
    batch = lab.transitions_to_batch(transitions, next_value, 0.99, 0.95)
    assert [step.done for step in transitions].count(True) == 2
    assert returns == [5.0, 5.0]
    torch.testing.assert_close(batch.returns, torch.full((12,), 100.0))


def test_a_rollout_goes_on_with_the_unfinished_episode(lab: ModuleType) -> None:
    env, model = gym.wrappers.TimeLimit(Corridor(), 10), lab.ActorCritic(4, 2, discrete=True)
    ended = [lab.collect_rollout(env, model, 4, "cpu")[2] for _ in range(3)]
    assert ended == [[], [], [10.0]]


def test_a_rollout_keeps_the_log_probabilities_of_whole_actions(lab: ModuleType) -> None:
    model = lab.ActorCritic(4, 3)
    transitions, next_value, _ = lab.collect_rollout(Swarm(), model, 8, "cpu")
    batch = lab.transitions_to_batch(transitions, next_value)
    expected = model(batch.observations)[0].log_prob(batch.actions).sum(-1)
    assert expected.shape == (8,)
    torch.testing.assert_close(batch.old_log_probs, expected.detach())


def test_updates_report_what_the_book_reads(lab: ModuleType) -> None:
    model = lab.ActorCritic(13, 4)
    optimizer, before = torch.optim.Adam(model.parameters()), model.policy_head.weight.clone()
    obs, actions = torch.randn(8, 13), torch.randn(8, 4)
    batch = lab.Batch(obs, actions, torch.zeros(8), torch.randn(8), torch.randn(8))
    info = lab.ppo_update(model, optimizer, batch)
    names = "policy_loss approx_kl clip_fraction ratio_mean value_loss explained_variance"
    assert set(info) == {*names.split(), "entropy", "total_loss", "grad_norm"}
    assert all(math.isfinite(number) for number in info.values())
    assert not torch.equal(before, model.policy_head.weight)


# The demo and the exercises


def test_a_short_demo_draws_its_picture(tmp_path: Path) -> None:
    outcome = run_lab(LAB, *short_demo(tmp_path))
    assert outcome.exit_code == 1  # nothing is learned in 300 steps
    assert outcome.output.startswith("PPO From Scratch -- Demo\nCartPole-v1, seed 0\n")
    assert outcome.failed_claims == ["CartPole-v1, seed 0"]
    assert outcome.last_line == "[FAILED] 1 of 1 checks"
    assert (tmp_path / "new" / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["curve.png"]


def test_a_demo_that_reaches_its_target_passes(
    lab: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(lab.TASKS, "CartPole-v1", (9.0, lab.Settings()))
    outcome = run_module(lab, *short_demo(tmp_path, "--seed", "1"))
    assert outcome.exit_code == 0
    assert "[PASS] CartPole-v1, seed 1\n" in outcome.output
    assert outcome.last_line == "[ALL PASS] PPO learned the task"


def test_learning_ends_where_fresh_episodes_reach_the_target(
    lab: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = lab.Settings(n_steps=500, n_epochs=1)
    monkeypatch.setitem(lab.TASKS, "CartPole-v1", (9.0, settings))
    found = lab.learn("CartPole-v1", 0, 2000, settings)
    assert found["steps_to_target"] == 500 * len(found["curve"]) < 2000
    assert found["final_mean"] >= 9.0


def test_learning_takes_no_more_steps_than_it_is_given(lab: ModuleType) -> None:
    settings, asked, collect = lab.Settings(n_steps=100, n_epochs=1), [], lab.collect_rollout
    lab.collect_rollout = lambda *given: asked.append(given[2]) or collect(*given)
    found = lab.learn("CartPole-v1", 0, 250, settings)
    assert asked[:3] == [100, 100, 500]  # the last is of the fresh episodes
    assert (found["steps_to_target"], len(found["curve"])) == (None, 2)


def test_the_same_seed_learns_the_same(lab: ModuleType) -> None:
    settings = lab.Settings(n_steps=100, n_epochs=2)
    first, again, other = (lab.learn("CartPole-v1", seed, 200, settings) for seed in (3, 3, 4))
    assert json.loads(json.dumps(first)) == first
    for row in (first, again, other):
        assert row.pop("seconds") >= 0
        assert set(row) == {"seed", "steps_to_target", "final_mean", "curve"}
        assert len(row["curve"]) == 2
    assert first == again
    assert first["curve"] != other["curve"]


def test_exercise_2_lambda_widens_the_advantages(lab: ModuleType) -> None:
    spread = []
    for gae_lambda in ("0", "0.5", "1"):
        outcome = run_module(lab, "--verify", "--gae-lambda", gae_lambda)
        assert outcome.exit_code == 0
        found = re.findall(rf"spread ([\d.]+)\), lambda {gae_lambda}:", outcome.output)
        spread.append(float(found[0]))
    assert spread[0] < spread[1] < spread[2]


def test_exercise_3_the_clip_range_reaches_the_update(
    lab: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen, update = set(), lab.ppo_update
    monkeypatch.setattr(lab, "ppo_update", lambda *given: seen.add(given[3:]) or update(*given))
    flags = ["--clip-range", "0.4", "--value-coef", "0.3", "--entropy-coef", "0.01"]
    run_module(lab, *short_demo(tmp_path, *flags))
    assert seen == {(0.4, 0.3, 0.01)}


def test_exercise_5_fetch_is_13_numbers_and_4_actions(
    lab: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes, update = set(), lab.ppo_update

    def watched_update(model, optimizer, batch, *given):
        shapes.add((batch.observations.shape[1:], batch.actions.shape[1:]))
        return update(model, optimizer, batch, *given)

    monkeypatch.setattr(lab, "ppo_update", watched_update)
    settings = lab.TASKS["FetchReachDense-v4"][1]._replace(n_steps=150, n_epochs=2)
    found = lab.learn("FetchReachDense-v4", 0, 300, settings)
    assert shapes == {((13,), (4,))}
    assert all(-30 < mean < 0 for mean in (*found["curve"], found["final_mean"]))
    assert 0 <= found["final_success"] <= 1
    assert json.loads(json.dumps(found)) == found


@pytest.mark.filterwarnings("ignore:var")
def test_a_batch_of_one_step_leaves_the_weights_finite(lab: ModuleType) -> None:
    model = lab.ActorCritic(16, 4)
    row = lab.Batch(*(torch.ones(1, n) for n in (16, 4)), *(torch.ones(1) for _ in range(3)))
    lab.ppo_update(model, torch.optim.Adam(model.parameters()), row)
    assert all(weights.isfinite().all() for weights in model.parameters())


class EverySecondSucceeds(gym.Env):
    """Episodes of two steps; every second one ends in success."""

    observation_space, action_space = gym.spaces.Box(-1, 1, (3,)), gym.spaces.Discrete(2)
    episode = step_of_it = 0

    def reset(self, **given):
        self.episode, self.step_of_it = self.episode + 1, 0
        return np.zeros(3), {}

    def step(self, action):
        self.step_of_it += 1
        over = self.step_of_it == 2
        return np.zeros(3), 0.0, False, over, {"is_success": float(over and self.episode % 2 == 0)}


def test_fresh_episodes_tell_return_and_success(lab: ModuleType) -> None:
    env, model = EverySecondSucceeds(), lab.ActorCritic(3, 2, discrete=True)
    lab.collect_rollout(env, model, 3, "cpu")  # leaves a second episode unfinished
    assert lab.evaluate(env, model, 5) == [(0.0, success) for success in (0, 1, 0, 1, 0)]


def test_fresh_episodes_leave_the_scale_of_observations_as_it_is(lab: ModuleType) -> None:
    env = gym.wrappers.NormalizeObservation(gym.wrappers.TimeLimit(Corridor(), 10))
    seen, model = env.obs_rms, lab.ActorCritic(4, 2, discrete=True)
    lab.collect_rollout(env, model, 20, "cpu")
    learned_from = seen.count
    lab.evaluate(env, model)
    assert seen.count == learned_from
    lab.collect_rollout(env, model, 1, "cpu")
    assert seen.count > learned_from


def test_a_demo_on_fetch_tells_the_success(
    lab: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = {"curve": [-2.0], "final_mean": -1.0, "final_success": 0.85}
    monkeypatch.setattr(lab, "learn", lambda *given: found)
    outcome = run_module(lab, *short_demo(tmp_path, "--env", "FetchReachDense-v4"))
    assert "20 episodes: final_mean -1 final_success 0.85\n" in outcome.output


@pytest.mark.slow
@pytest.mark.parametrize("seed", ["0", "1", "2"])
def test_the_demo_learns_cartpole(tmp_path: Path, seed: str) -> None:
    outcome = run_lab(LAB, "--demo", "--out", str(tmp_path / "curve.png"), "--seed", seed)
    assert outcome.exit_code == 0, outcome.output


@pytest.mark.slow
def test_exercise_5_learns(tmp_path: Path) -> None:
    arguments = ["--env", "FetchReachDense-v4", "--out", str(tmp_path / "curve.png")]
    outcome = run_lab(LAB, "--demo", *arguments)
    assert outcome.exit_code == 0, outcome.output
