"""The SAC lab: what it prints and writes, what it computes, and that its checks can fail."""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from mutation import LABS, Fault, Outcome, loaded_lab, run_lab, run_module

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

CORRECTION = "log_prob = log_prob - (2 * (math.log(2) - x - softplus(-2 * x))).sum(-1)"
UNSTABLE = "log_prob = log_prob - torch.log(1 - torch.tanh(x) ** 2).sum(-1)"
ROWS = "column[rows]"
SCALED = "env.step(low + (action + 1.0) / 2 * (high - low))"
STORED = "buffer.add(obs, action, reward, next_obs, terminated)"
NEXT = 'policy(batch["next_obs"], "next")'
SUMMED = "loss = q1_loss + q2_loss"
CAUGHT_BY_VERIFY = {
    "check_buffer": [
        Fault("each column from other steps", ROWS, "column[torch.randint(self.size, rows.shape)]"),
        Fault("a place never used", "% self.capacity", "% (self.capacity - 1)"),
    ],
    "check_networks": [
        Fault("no tanh correction", CORRECTION, "pass"),
        Fault("tanh correction added", CORRECTION, CORRECTION.replace("b - (", "b + (")),
        Fault("correction infinite at the bounds", CORRECTION, UNSTABLE),
        Fault("one critic twice", "self.q2(pairs)", "self.q1(pairs)"),
        Fault("values (B, 1)", "self.q1(pairs).squeeze(-1)", "self.q1(pairs)"),
        Fault("not squashed", "return torch.tanh(x), log_prob", "return x, log_prob"),
    ],
    "check_losses": [
        Fault("max for min", "torch.min(target_q1, target_q2)", "torch.max(target_q1, target_q2)"),
        Fault("one critic", "target_q = torch.min(target_q1, target_q2)", "target_q = target_q1"),
        Fault(
            "the other critic", "target_q = torch.min(target_q1, target_q2)", "target_q = target_q2"
        ),
        Fault("done mask missing", ' * (1.0 - batch["dones"])', ""),
        Fault("done mask inverted", '(1.0 - batch["dones"])', 'batch["dones"]'),
        Fault("entropy sign, critics", "target_q - alpha *", "target_q + alpha *"),
        Fault("entropy sign, actor", "(alpha * log_probs - ", "(-alpha * log_probs - "),
        Fault("actor believes the higher critic", "torch.min(q1, q2))", "torch.max(q1, q2))"),
        Fault("temperature sign", "loss = -alpha * ", "loss = alpha * "),
        Fault("log-probs not detached", "log_probs.detach()", "log_probs"),
        Fault("target entropy subtracted", "+ target_entropy)", "- target_entropy)"),
        Fault("second critic not trained", SUMMED, "loss = q1_loss"),
    ],
    "check_gradients": [
        Fault(
            "gradient through the target",
            "with torch.no_grad():  # the target",
            "if True:  # the target",
        ),
        Fault("critic loss moves the policy", SUMMED, f"{SUMMED} + policy(batch['obs'])[1].mean()"),
        Fault(
            "actor loss moves alpha", "alpha = log_alpha.exp().item()", "alpha = log_alpha.exp()"
        ),
    ],
    "check_updates": [
        Fault("tau and 1 - tau swapped", "slow.lerp_(fast, tau)", "slow.lerp_(fast, 1.0 - tau)"),
        Fault("target not moved", "slow.lerp_(fast, tau)", "slow.lerp(fast, tau)"),
        Fault("target copied", "slow.lerp_(fast, tau)", "slow.copy_(fast)"),
        Fault("alpha not moved", "    alpha_optimizer.step()", "    pass"),
    ],
    "check_step": [
        Fault("truncation is termination", STORED, f"{STORED[:-1]} or truncated)"),
        Fault("action not scaled", SCALED, "env.step(action)"),
        Fault("scaled action stored", STORED, STORED.replace("action", "2 * action")),
    ],
}
CAUGHT_BY_COMPARISON = {
    "compare_log_probs": [
        Fault("tanh correction halved", "log_prob - (2 * (math", "log_prob - (1 * (math"),
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
        Fault("max for min", "torch.min(target_q1, target_q2)", "torch.max(target_q1, target_q2)"),
    ],
}


@pytest.fixture
def lab() -> Iterable[ModuleType]:
    with loaded_lab(LAB) as module:
        yield module


def by_check(faults: dict[str, list[Fault]]) -> list[object]:
    """Parameters (check, fault) for pytest."""
    pairs = [(check, fault) for check, listed in faults.items() for fault in listed]
    return [pytest.param(*pair, id=f"{pair[0]}: {pair[1].name}") for pair in pairs]


def last_line(outcome: Outcome) -> str:
    return outcome.output.splitlines()[-1]


# What it prints


def test_verify_passes(lab: ModuleType) -> None:
    outcome = run_module(lab, "--verify")
    lines = outcome.output.splitlines()
    assert lines[0] == "SAC From Scratch -- Verification"
    assert lines[-2:] == ["[PASS] All checks passed.", "[ALL PASS] SAC implementation verified"]
    assert outcome.output.count("[PASS] ") == len(lab.VERIFY) + 1
    assert outcome.exit_code == 0
    assert outcome.seconds < 30


def test_the_comparison_passes(lab: ModuleType) -> None:
    outcome = run_module(lab, "--compare-sb3")
    assert outcome.output.startswith("SAC From Scratch -- SB3 Comparison\n")
    assert "[PASS] Our squashed Gaussian log_prob matches SB3\n" in outcome.output
    assert outcome.output.count("(bound: 0.001)") == outcome.output.count("(bound: 1e-05)") == 7
    assert last_line(outcome).startswith("[ALL PASS] ")
    assert outcome.exit_code == 0


def test_the_seed_decides_the_numbers(lab: ModuleType) -> None:
    lab.VERIFY = [lab.check_networks]
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
        ("--demo", "--steps", "199"),
        ("--demo", "--seeds", "a-b"),
        ("--demo", "--seeds", "4-0"),
        ("--demo", "--fixed-alpha", "0"),
        ("--demo", "--verify"),
    ],
)
def test_a_wrong_command_line_exits_2(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_lab(LAB, *arguments).exit_code == 2
    assert "error:" in capsys.readouterr().err


# What it writes


def test_demo_learns_prints_and_writes(lab: ModuleType, tmp_path: Path) -> None:
    lab.WARMUP, lab.BATCH_SIZE, updates = 300, 32, []
    update = lab.sac_update
    lab.sac_update = lambda **inputs: updates.append(update(**inputs)) or updates[-1]
    picture, table = tmp_path / "new" / "a.png", tmp_path / "tables" / "b.json"
    files = ("--out", str(picture), "--json", str(table))
    outcome = run_module(lab, "--demo", "--steps", "400", "--seeds", "0,2", *files)
    assert outcome.exit_code == 0
    assert last_line(outcome).startswith("not judged")
    assert len(updates) == 2 * 101
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.rglob("*.*")) == ["a.png", "b.json"]
    text = table.read_text(encoding="utf-8")
    found = json.loads(text)
    assert text == json.dumps(found, indent=2, sort_keys=True) + "\n"
    assert (found["schema"], found["lab"], found["steps"]) == ("lab-seeds/1", LAB.stem, 400)
    assert set(found["versions"]) == {"gymnasium", "numpy", "torch"}
    assert found["command"].endswith(f"--seeds 0,2 --out {picture} --json {table}")
    assert [row["seed"] for row in found["rows"]] == [0, 2]
    for row in found["rows"]:
        assert set(row) == {"seed", "steps_to_solved", "final_return", "final_alpha", "seconds"}
        assert row["steps_to_solved"] is None
        assert 0.9 < row["final_alpha"] < 1.0
        assert f"     400 {row['final_return']:8.1f} {row['final_alpha']:8.3f}" in outcome.output


@pytest.mark.parametrize("flag", ["--out", "--json"])
def test_a_path_it_cannot_write_exits_2_before_learning(
    flag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    assert run_lab(LAB, "--demo", "--steps", "200", flag, "file/x").exit_code == 2
    error = capsys.readouterr().err
    assert re.fullmatch(
        r"error: [^\n]*file[^\n]*; choose other files with --out and --json\n", error
    )
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["file"]


@pytest.mark.parametrize(
    ("changed", "alpha", "single"),
    [({"fixed_alpha": 0.2}, 0.2, False), ({"single_q": True}, None, True)],
)
def test_what_the_exercises_turn(
    lab: ModuleType, changed: dict[str, float], alpha: float | None, single: bool
) -> None:
    lab.WARMUP, lab.BATCH_SIZE, targets = 195, 8, []
    update = lab.sac_update

    def watched(**inputs: object) -> object:
        q1, q2 = inputs["target_q_network"](inputs["batch"]["obs"], inputs["batch"]["actions"])
        targets.append(torch.equal(q1, q2))
        return update(**inputs)

    lab.sac_update = watched
    flags = {"steps": 200, "target_entropy": -1.0, "fixed_alpha": None, "single_q": False}
    (row,) = lab.train(SimpleNamespace(**flags | changed), 0)
    assert targets == [single] * 6
    assert row["gap"] > 0
    assert row["alpha"] == pytest.approx(alpha) if alpha else row["alpha"] < 1.0


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_demo_swings_the_pendulum_up(lab: ModuleType, tmp_path: Path) -> None:
    outcome = run_module(lab, "--demo", "--steps", "12000", "--out", str(tmp_path / "a.png"))
    assert "[PASS] Pendulum swung up, seed 0" in outcome.output
    assert outcome.exit_code == 0


# How it is written


def test_it_imports_the_rest_only_where_needed() -> None:
    tree = ast.parse(LAB.read_text(encoding="utf-8"))

    def imported(nodes: Iterable[ast.AST]) -> set[str]:
        names = set()
        for node in nodes:
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names.add((node.module or "").partition(".")[0])
        return names - sys.stdlib_module_names

    always = {"gymnasium", "numpy", "torch"}
    assert imported(tree.body) == always
    assert imported(ast.walk(tree)) - always == {"matplotlib", "stable_baselines3"}


def test_each_region_holds_what_it_is_named_after() -> None:
    source = LAB.read_text(encoding="utf-8")
    region = r"# --8<-- \[start:(\w+)\]\n(.*?)\n# --8<-- \[end:(\w+)\]"
    found = re.findall(region, source, flags=re.DOTALL)
    assert [(start, end) for start, _, end in found] == [(name, name) for name in REGIONS]
    assert all(text.startswith(REGIONS[name]) for name, text, _ in found)


def test_no_function_is_longer_than_40_lines() -> None:
    tree = ast.parse(LAB.read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    lengths = {node.name: node.end_lineno - node.lineno + 1 for node in functions}
    assert {name: length for name, length in lengths.items() if length > 40} == {}


# What it computes


def test_log_std_stays_in_its_bounds(lab: ModuleType) -> None:
    policy = lab.GaussianPolicy(3, 1)
    policy.net[-1].bias.data = torch.tensor([0.0, 1e3])
    assert policy.mean_and_log_std(torch.zeros(1, 3))[1].item() == lab.LOG_STD_MAX == 2
    policy.net[-1].bias.data = torch.tensor([0.0, -1e3])
    assert policy.mean_and_log_std(torch.zeros(1, 3))[1].item() == lab.LOG_STD_MIN == -20


def test_the_info_keys_are_the_ones_the_book_names(lab: ModuleType) -> None:
    learner, batch = lab.make_learner(10, 4), lab.random_batch()
    info = lab.sac_update(*vars_in_order(learner), batch, -4.0)
    critics = {"q1_loss", "q2_loss", "q1_mean", "q2_mean", "target_q_mean"}
    others = {"actor_loss", "entropy", "log_prob_mean", "alpha_loss", "alpha"}
    assert set(info) == critics | others


def vars_in_order(learner: SimpleNamespace) -> list[object]:
    """The first seven arguments of sac_update by position, as the book passes them."""
    names = ["policy", "q_network", "target_q_network", "log_alpha"]
    names += ["policy_optimizer", "q_optimizer", "alpha_optimizer"]
    return [getattr(learner, name) for name in names]


# That its checks can fail


@pytest.mark.parametrize(("check", "fault"), by_check(CAUGHT_BY_VERIFY))
def test_verify_notices(check: str, fault: Fault) -> None:
    with loaded_lab(LAB, fault) as lab:
        lab.VERIFY = [getattr(lab, check)]
        outcome = run_module(lab, "--verify")
    assert outcome.exit_code == 1
    assert last_line(outcome) == "[FAILED] 1 of 1 checks"


@pytest.mark.parametrize(("check", "fault"), by_check(CAUGHT_BY_COMPARISON))
def test_the_comparison_notices(check: str, fault: Fault) -> None:
    with loaded_lab(LAB, fault) as lab:
        lab.COMPARE = [getattr(lab, check)]
        outcome = run_module(lab, "--compare-sb3")
    assert outcome.exit_code == 1
    assert last_line(outcome) == "[FAILED] 1 of 1 checks"
