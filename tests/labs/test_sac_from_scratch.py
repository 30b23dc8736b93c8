"""The SAC lab: what it prints and writes, what it computes, and that its checks can fail."""

from __future__ import annotations

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

LAB = LABS / "sac_from_scratch.py"
REGIONS = {
    "replay_buffer": "class ReplayBuffer",
    "twin_q_network": "class TwinQNetwork",
    "gaussian_policy": "class GaussianPolicy",
    "twin_q_loss": "def compute_q_loss",
    "actor_loss": "def compute_actor_loss",
    "temperature_loss": "def compute_temperature_loss",
    "sac_update": "def sac_update",
}

LOG_PROB = "(log_normal - log_slope).sum(-1)"
SLOPE = "log_slope = 2 * (math.log(2) - x - softplus(-2 * x))"
ROWS = "column[rows]"
SCALED = "env.step(action * env.action_space.high)"
STORED = "buffer.add(obs, action, reward, next_obs, terminated)"
NEXT = 'policy(batch["next_obs"], "next")'
SUMMED = 'loss = losses["q1_loss"] + losses["q2_loss"]'
MINIMUM = "target_q = torch.min(target_q1, target_q2)"
CAUGHT_BY_VERIFY = {
    "check_parts": [
        Fault("each column from other steps", ROWS, "column[torch.randint(self.size, rows.shape)]"),
        Fault("a place never used", "% self.capacity", "% (self.capacity - 1)"),
        Fault("no tanh correction", LOG_PROB, "log_normal.sum(-1)"),
        Fault("tanh correction added", LOG_PROB, LOG_PROB.replace(" - ", " + ")),
        Fault("tanh correction infinite", SLOPE, "log_slope = torch.log(1 - torch.tanh(x) ** 2)"),
        Fault("log-probabilities averaged", LOG_PROB, LOG_PROB.replace("sum", "mean")),
        Fault("one critic twice", "self.q2(pairs)", "self.q1(pairs)"),
        Fault("values (B, 1)", "self.q1(pairs).squeeze(-1)", "self.q1(pairs)"),
        Fault("not squashed", "return torch.tanh(x), (", "return x, ("),
        Fault("truncation is termination", STORED, f"{STORED[:-1]} or truncated)"),
        Fault("termination not stored", STORED, f"{STORED[:-11]} False)"),
        Fault("action not scaled", SCALED, "env.step(action)"),
        Fault("scaled action stored", STORED, STORED.replace("action", "2 * action")),
    ],
    "check_losses": [
        Fault("max for min", MINIMUM, MINIMUM.replace("min", "max")),
        Fault("one critic", MINIMUM, "target_q = target_q1"),
        Fault("the other critic", MINIMUM, "target_q = target_q2"),
        Fault("done mask missing", ' * (1.0 - batch["dones"])', ""),
        Fault("done mask inverted", '(1.0 - batch["dones"])', 'batch["dones"]'),
        Fault("entropy sign, critics", "(target_q - alpha *", "(target_q + alpha *"),
        Fault("entropy sign, actor", "(alpha * log_probs - ", "(-alpha * log_probs - "),
        Fault("actor believes the higher critic", "torch.min(q1, q2))", "torch.max(q1, q2))"),
        Fault("temperature sign", "loss = -alpha * ", "loss = alpha * "),
        Fault("log-probs not detached", "log_probs.detach()", "log_probs"),
        Fault("target entropy subtracted", "+ target_entropy)", "- target_entropy)"),
        Fault("second critic not trained", SUMMED, 'loss = losses["q1_loss"]'),
    ],
    "check_updates": [
        Fault(
            "gradient through the target",
            "with torch.no_grad():  # the target",
            "if True:  # the target",
        ),
        Fault("critic loss moves the policy", SUMMED, f"{SUMMED} + policy(batch['obs'])[1].mean()"),
        Fault(
            "actor loss moves alpha", "alpha = log_alpha.exp().item()", "alpha = log_alpha.exp()"
        ),
        Fault("tau and 1 - tau swapped", "lerp_(fast.data, tau)", "lerp_(fast.data, 1.0 - tau)"),
        Fault("target not moved", "slow.data.lerp_(", "slow.data.lerp("),
        Fault("target copied", "slow.data.lerp_(fast.data, tau)", "slow.data.copy_(fast.data)"),
        Fault("alpha not moved", "    alpha_optimizer.step()", "    pass"),
    ],
}
CAUGHT_BY_COMPARISON = {
    "compare_log_probs": [
        Fault("tanh correction halved", SLOPE, SLOPE.replace("2 *", "1 *", 1)),
        Fault("another activation", "nn.Linear(*dim), nn.ReLU()", "nn.Linear(*dim), nn.Tanh()"),
        Fault("one activation missing", "torch.relu(self.trunk(obs))", "self.trunk(obs)"),
    ],
    "compare_update": [
        Fault(
            "no reparametrisation",
            "log_std.exp() * noise  #",
            "(log_std.exp() * noise).detach()  #",
        ),
        Fault(
            "actor loss deaf to its actions",
            "q_network(obs, actions)  #",
            "q_network(obs, actions.detach())  #",
        ),
        Fault("next action from this state", NEXT, NEXT.replace("next_obs", "obs")),
        Fault("no target critics", "target_q1, target_q2 = target_q", "target_q1, target_q2 = q"),
        Fault("critic gradients add up", "    q_optimizer.zero_grad()", "    pass"),
        Fault("policy gradients add up", "    policy_optimizer.zero_grad()", "    pass"),
        Fault("alpha gradients add up", "    alpha_optimizer.zero_grad()", "    pass"),
        Fault(
            "old noise for alpha",
            's = policy(batch["obs"], "temperature")',
            's = policy(batch["obs"], "actor")',
        ),
        Fault("gamma forgotten", "policy, batch, gamma, alpha)", "policy, batch, 0.9, alpha)"),
        Fault("alpha fixed", "alpha = log_alpha.exp().item()", "alpha = 0.2"),
        Fault("max for min", MINIMUM, MINIMUM.replace("min", "max")),
    ],
}


@pytest.fixture(autouse=True)
def _default_dtype() -> Iterator[None]:
    """The checks run in float64, which PyTorch keeps for the whole process."""
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def lab() -> Iterator[ModuleType]:
    with loaded_lab(LAB) as module:
        yield module


@pytest.fixture
def quick(lab: ModuleType) -> ModuleType:
    """The lab with small batches and a warm-up that leaves 101 of 1000 steps to learn from."""
    lab.WARMUP, lab.BATCH_SIZE = 900, 8
    return lab


def learned(seed: int, steps_to_solved: int | None) -> dict[str, object]:
    """A result as `learn` returns it, without the learning."""
    rows = [
        {"steps": n, "return": -n, "alpha": 1 / n, "q1_mean": -3 * n, "gap": 0.1 * n}
        for n in (200, 400, 600)
    ]
    found = {"seed": seed, "steps_to_solved": steps_to_solved, "final_return": -140}
    return found | {"final_alpha": 1 / 600, "seconds": 0.1, "curve": rows}


# What it prints


def test_verify_passes(lab: ModuleType) -> None:
    outcome = run_module(lab, "--verify")
    lines = outcome.output.splitlines()
    assert lines[0] == "SAC From Scratch -- Verification"
    assert lines[-2:] == ["[PASS] All checks passed.", "[ALL PASS] SAC implementation verified"]
    assert outcome.output.count("[PASS] ") == len(CAUGHT_BY_VERIFY) + 1
    assert outcome.exit_code == 0


def test_the_comparison_passes_and_says_how_sb3_differs(lab: ModuleType) -> None:
    outcome = run_module(lab, "--compare-sb3")
    assert outcome.output.startswith("SAC From Scratch -- SB3 Comparison\n")
    assert "[PASS] Our squashed Gaussian log_prob matches SB3\n" in outcome.output
    assert f"\n{lab.DIFFERENCES}\n" in outcome.output
    assert outcome.output.count("(bound: 0.001)") == outcome.output.count("(bound: 1e-05)") == 7
    assert outcome.output.count("[PASS] ") == len(CAUGHT_BY_COMPARISON) + 1
    assert outcome.last_line == "[ALL PASS] SAC matches SB3"
    assert outcome.exit_code == 0


def test_the_seed_decides_the_numbers(lab: ModuleType) -> None:
    first, again, other = (run_module(lab, "--verify", "--seed", seed) for seed in ("0", "0", "3"))
    assert first.output == again.output
    assert first.output != other.output
    assert other.exit_code == 0


def test_without_a_mode_it_prints_help_and_exits_2() -> None:
    outcome = run_lab(LAB)
    assert outcome.exit_code == 2
    assert "--compare-sb3" in outcome.output


@pytest.mark.parametrize(
    "arguments",
    [
        ("--verify", "--seed", "-1"),
        ("--demo", "--seed", "a"),
        ("--demo", "--steps", "199"),
        ("--demo", "--fixed-alpha", "0"),
        ("--demo", "--fixed-alpha", "-1"),
        ("--demo", "--verify"),
    ],
)
def test_a_wrong_command_line_exits_2(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_lab(LAB, *arguments).exit_code == 2
    assert "error:" in capsys.readouterr().err


# What --demo does


def test_demo_learns_prints_and_draws(quick: ModuleType, tmp_path: Path) -> None:
    updates, update = [], quick.sac_update
    quick.sac_update = lambda *inputs: updates.append(update(*inputs)) or updates[-1]
    picture = tmp_path / "new" / "a.png"
    outcome = run_module(quick, "--demo", "--steps", "1000", "--out", str(picture))
    assert len(updates) == 101
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.rglob("*.*")] == ["a.png"]
    last = quick.learn(0, quick.Settings(steps=1000))["curve"][-1]
    row = " ".join(f"{name} {value:8.5g}" for name, value in last.items())
    assert f"\n{row}\n" in outcome.output


@pytest.mark.parametrize(
    ("steps_to_solved", "exit_code", "ending"),
    [
        (6000, 0, "[ALL PASS] SAC learned the task"),
        (15_000, 0, "[ALL PASS] SAC learned the task"),
        (15_200, 1, "[FAILED] 1 of 1 checks"),
        (None, 1, "[FAILED] 1 of 1 checks"),
    ],
)
def test_demo_passes_if_the_pendulum_is_up_by_step_15000(
    lab: ModuleType, tmp_path: Path, steps_to_solved: int | None, exit_code: int, ending: str
) -> None:
    lab.learn = lambda seed, settings: learned(seed, steps_to_solved)
    outcome = run_module(lab, "--demo", "--out", str(tmp_path / "a.png"))
    assert outcome.exit_code == exit_code
    assert outcome.last_line == ending
    assert "(bound: 15000)" in outcome.output


@pytest.mark.parametrize(
    ("steps", "final_return", "exit_code"),
    [(50_000, -1.0, 0), (50_000, -214.0, 0), (50_000, -216.0, 1), (15_000, -900.0, 0)],
)
def test_a_long_demo_has_to_end_near_140(
    lab: ModuleType, tmp_path: Path, steps: int, final_return: float, exit_code: int
) -> None:
    lab.learn = lambda seed, settings: learned(seed, 6000) | {"final_return": final_return}
    outcome = run_module(lab, "--demo", "--steps", str(steps), "--out", str(tmp_path / "a.png"))
    assert outcome.exit_code == exit_code


def test_the_figure_has_a_panel_for_all_that_is_told(
    lab: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = []
    keep = lambda figure, *_, **__: figures.append(figure)  # noqa: E731
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", keep)
    lab.learn = lambda seed, settings: learned(seed, 400)
    run_module(lab, "--demo", "--seed", "7", "--out", str(tmp_path / "a.png"))
    (figure,) = figures
    assert "seed 7" in figure.get_suptitle()
    for panel, name in zip(figure.axes, ("return", "alpha", "q1_mean", "gap"), strict=True):
        curve = [(row["steps"], row[name]) for row in learned(0, 400)["curve"]]
        assert panel.lines[0].get_xydata().tolist() == [list(point) for point in curve]
        assert panel.get_ylabel() == name


@pytest.mark.parametrize("path", ["file/x", "folder"])
def test_a_path_it_cannot_write_exits_2(
    path: str,
    lab: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    Path("folder").mkdir()
    calls = []
    lab.learn = lambda seed, settings: calls.append(seed) or learned(seed, 400)
    assert run_module(lab, "--demo", "--out", path).exit_code == 2
    error = capsys.readouterr().err
    assert re.fullmatch(r"error: [^\n]+; choose another file with --out\n", error)
    assert calls == [] or path == "folder"  # not after minutes of learning, if it can be known


def test_the_flags_of_demo_are_the_settings(lab: ModuleType, tmp_path: Path) -> None:
    calls = []
    lab.learn = lambda *inputs: calls.append(inputs) or learned(0, 400)
    out = ("--out", str(tmp_path / "a.png"))
    run_module(lab, "--demo", *out)
    turned = ("--steps", "300", "--target-entropy", "-2", "--fixed-alpha", "0.5", "--single-q")
    run_module(lab, "--demo", *out, "--seed", "3", *turned)
    assert calls == [(0, lab.Settings()), (3, lab.Settings(300, -2.0, 0.5, True))]
    assert lab.Settings() == (50_000, -1.0, None, False)


def test_learning_returns_plain_values_and_repeats_itself(quick: ModuleType) -> None:
    first, again = (quick.learn(2, quick.Settings(steps=1000)) for _ in range(2))
    assert json.loads(json.dumps(first)) == first
    assert list(first) == [
        "seed",
        "steps_to_solved",
        "final_return",
        "final_alpha",
        "seconds",
        "curve",
    ]
    assert first | {"seconds": 0} == again | {"seconds": 0}
    assert (first["seed"], first["steps_to_solved"]) == (2, None)
    assert [row["steps"] for row in first["curve"]] == [200, 400, 600, 800, 1000]
    last = first["curve"][-1]
    assert set(last) == {"steps", "return", "alpha", "q1_mean", "gap"}
    assert (first["final_return"], first["final_alpha"]) == (last["return"], last["alpha"])
    assert 0.9 < last["alpha"] < 1.0
    assert first["curve"][0]["gap"] == 0 < last["gap"]
    assert first["curve"][0]["q1_mean"] == 0 != last["q1_mean"]


def test_it_is_solved_when_the_mean_of_ten_returns_exceeds_200(
    quick: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    returns = iter([-1000.0] * 2 + [-100.0] * 12)

    class Episodes(gym.Env):
        """Of one step each."""

        action_space = gym.spaces.Box(-2.0, 2.0, (1,))

        def reset(self, **_: object) -> tuple[object, dict[str, object]]:
            return np.zeros(3, np.float32), {}

        def step(self, action: object) -> tuple[object, float, bool, bool, dict[str, object]]:
            return np.zeros(3, np.float32), next(returns), False, True, {}

    monkeypatch.setattr(gym, "make", lambda name: Episodes())
    found = quick.learn(0, quick.Settings(steps=14))
    # Ten episodes with one of -1000 among them come to -190, with both to -280.
    assert found["steps_to_solved"] == 11
    assert found["final_return"] == -100


@pytest.mark.parametrize(
    ("changed", "alpha", "single"),
    [({}, None, False), ({"fixed_alpha": 0.2}, 0.2, False), ({"single_q": True}, None, True)],
)
def test_what_the_exercises_turn(
    quick: ModuleType, changed: dict[str, float], alpha: float | None, single: bool
) -> None:
    quick.WARMUP, targets, update = 195, [], quick.sac_update

    def watched(*inputs: object) -> object:
        target_q_network, batch, target_entropy = inputs[2], inputs[7], inputs[8]
        q1, q2 = target_q_network(batch["obs"], batch["actions"])
        targets.append((torch.equal(q1, q2), target_entropy))
        return update(*inputs)

    quick.sac_update = watched
    settings = quick.Settings(steps=200, target_entropy=-0.5)._replace(**changed)
    (row,) = quick.learn(0, settings)["curve"]
    assert targets == [(single, -0.5)] * 6
    assert row["gap"] > 0
    assert row["alpha"] == pytest.approx(alpha) if alpha else row["alpha"] < 1.0


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_demo_swings_the_pendulum_up(lab: ModuleType, tmp_path: Path) -> None:
    outcome = run_module(lab, "--demo", "--steps", "12000", "--out", str(tmp_path / "a.png"))
    assert "[PASS] Pendulum swung up" in outcome.output
    assert outcome.exit_code == 0


# How it is written


def test_each_region_holds_what_it_is_named_after() -> None:
    source = LAB.read_text(encoding="utf-8")
    region = r"# --8<-- \[start:(\w+)\]\n(.*?)\n# --8<-- \[end:(\w+)\]"
    found = re.findall(region, source, flags=re.DOTALL)
    assert [(start, end) for start, _, end in found] == [(name, name) for name in REGIONS]
    assert all(text.startswith(REGIONS[name]) for name, text, _ in found)


# What it computes


def test_a_batch_has_the_shapes_the_book_names(lab: ModuleType) -> None:
    buffer = lab.ReplayBuffer(10, 4)
    for _ in range(100):
        buffer.add(np.ones(10), np.ones(4, np.float32), 1.0, np.ones(10), False)
    assert (buffer.size, buffer.ptr) == (100, 100)
    batch = buffer.sample(32)
    shapes = {"obs": (32, 10), "actions": (32, 4), "rewards": (32,), "next_obs": (32, 10)}
    assert {name: tuple(column.shape) for name, column in batch.items()} == shapes | {
        "dones": (32,)
    }
    assert {column.dtype for column in batch.values()} == {torch.float32}


@pytest.mark.parametrize(("wanted", "log_std"), [(1e3, 2), (-1e3, -20), (0.5, 0.5)])
def test_log_std_stays_in_its_bounds(lab: ModuleType, wanted: float, log_std: float) -> None:
    policy = lab.GaussianPolicy(3, 1)
    for head in (policy.mean, policy.log_std):
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.zeros_(head.bias)
    policy.log_std.bias.data += wanted
    policy.noise["act"] = torch.zeros(1, 1)
    _, log_prob = policy(torch.zeros(1, 3))  # at the mean, 0, where tanh has the slope 1
    assert log_prob.item() == pytest.approx(-log_std - 0.5 * math.log(2 * math.pi), rel=1e-5)
    assert (lab.LOG_STD_MIN, lab.LOG_STD_MAX) == (-20, 2)


def test_the_density_of_actions_integrates_to_one(lab: ModuleType) -> None:
    policy = lab.GaussianPolicy(1, 1)
    policy.noise["act"] = torch.linspace(-8.0, 8.0, 4001)[:, None]
    actions, log_probs = policy(torch.zeros(4001, 1))
    assert torch.trapezoid(log_probs.exp(), actions[:, 0]).item() == pytest.approx(1, abs=1e-3)


def test_noise_is_drawn_anew_unless_it_is_given(lab: ModuleType) -> None:
    policy, obs = lab.GaussianPolicy(3, 1), torch.zeros(8, 3)
    policy.noise["actor"] = torch.zeros(8, 1)
    assert not torch.equal(policy(obs)[0], policy(obs)[0])
    assert torch.equal(policy(obs, "actor")[0], policy(obs, "actor")[0])


def test_the_info_keys_are_the_ones_the_book_names(lab: ModuleType) -> None:
    info = lab.sac_update(*lab.make_learner(10, 4), lab.random_batch(), -4.0)
    critics = {"q1_loss", "q2_loss", "q1_mean", "q2_mean", "target_q_mean"}
    others = {"actor_loss", "entropy", "log_prob_mean", "alpha_loss", "alpha"}
    assert set(info) == critics | others


# That its checks can fail


@by_check(CAUGHT_BY_VERIFY)
def test_verify_notices(check: str, fault: Fault) -> None:
    assert_notices(LAB, fault, check=check)


@by_check(CAUGHT_BY_COMPARISON)
def test_the_comparison_notices(check: str, fault: Fault) -> None:
    assert_notices(LAB, fault._replace(flag="--compare-sb3"), check=check)
