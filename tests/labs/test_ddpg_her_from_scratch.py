"""The DDPG + HER lab: what it prints and writes, and that its checks can fail."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from mutation import LABS, Fault, loaded_lab, run_lab, run_module

LAB = LABS / "ddpg_her_from_scratch.py"
REGIONS = [
    "settings",
    "point_reach_env",
    "replay_buffer",
    "networks",
    "ddpg_agent",
    "training_loop",
]

WALL = "np.where(moved == self.position, velocity, 0.0)"
SPARSE = "return (distance <= self.distance_threshold) - 1.0"
NOT_DONE = "1.0 - batch.done"
STORED = "self.compute_reward_fn(parts.achieved[episode, step + 1], goal, {})"
HINDSIGHT = "parts.achieved[episode, outcome + 1]"
LATER = "rng.integers(step, horizon)"
TARGET_Q = "self.target_critic(batch.next_state, self.target_actor(batch.next_state))"
NO_GRAD = "@torch.no_grad()\n    def bellman_target"
FAULTS = [
    ("environment", Fault("threshold excluded", "<= self.dist", "< self.dist")),
    ("environment", Fault("no speed limit", "velocity *= ", "_ = ")),
    ("environment", Fault("walls do not stop it", WALL, "velocity")),
    ("environment", Fault("time limit terminates", "return False", "return self.steps >= 50")),
    ("environment", Fault("no time limit", "self.steps >= self.max_steps", "False")),
    ("environment", Fault("dense reward", SPARSE, "return -distance")),
    ("replay", Fault("reused reward", STORED, "parts.reward[episode, step]")),
    ("replay", Fault("reward before the step", STORED, STORED.replace(" + 1", ""))),
    ("replay", Fault("wrong goal index", HINDSIGHT, HINDSIGHT.replace(" + 1", ""))),
    ("replay", Fault("other episode", HINDSIGHT, HINDSIGHT.replace("episode", "episode - 1"))),
    ("replay", Fault("goals from the past", LATER, "rng.integers(0, step + 1)")),
    ("replay", Fault("own outcome left out", LATER, f"np.minimum({LATER} + 1, horizon - 1)")),
    ("replay", Fault("relabel probability", "size) < k / (k + 1)", "size) < 1 / (k + 1)")),
    ("replay", Fault("all relabelled", "np.where(relabel[:, None], ", "np.where(True, ")),
    (
        "replay",
        Fault(
            "goal not replaced in next", "step + 1], goal]", "step + 1], parts.desired[episode]]"
        ),
    ),
    ("replay", Fault("newest overwritten", "[self.added % self.config.capacity]", "[0]")),
    ("target", Fault("no target critic", TARGET_Q, TARGET_Q.replace("self.target_c", "self.c"))),
    ("target", Fault("no target actor", TARGET_Q, TARGET_Q.replace("self.target_a", "self.a"))),
    ("target", Fault("done mask dropped", NOT_DONE, "1.0")),
    ("target", Fault("gradient into the target", NO_GRAD, "def bellman_target")),
    ("target", Fault("target not clipped", ".clamp(-1.0 / (1.0 - self.config.gamma), 0.0)", "")),
    ("update", Fault("tau and 1 - tau swapped", "lerp_(fast, tau)", "lerp_(fast, 1 - tau)")),
    ("update", Fault("gradients pile up", "self.critic_optimizer.zero_grad()", "")),
    ("update", Fault("actor left out", "self.actor_optimizer.step()", "")),
    (
        "update",
        Fault(
            "target actor frozen", "soft_update(self.target_actor, self.actor, self.c", "(self.c"
        ),
    ),
    (
        "actor",
        Fault("actor loss sign", "-self.critic(state, action)", "self.critic(state, action)"),
    ),
    ("actor", Fault("noise ignored", "noise_std * rng", "0 * rng")),
    (
        "time_limit",
        Fault(
            "done at the time limit", "(action, reward, terminated)", "(action, reward, truncated)"
        ),
    ),
    ("time_limit", Fault("never done", "(action, reward, terminated)", "(action, reward, False)")),
    ("training", Fault("networks not seeded", "torch.manual_seed(config.seed)", "torch.seed()")),
    ("training", Fault("replay not seeded", "default_rng(config.seed)", "default_rng()")),
    ("training", Fault("goals not seeded", "GoalEnv(seed=config.seed)", "GoalEnv()")),
]


@pytest.fixture
def lab() -> Iterator[ModuleType]:
    with loaded_lab(LAB) as module:
        yield module


# What it prints


def test_typed_verify_passes() -> None:
    typed = subprocess.run(
        [sys.executable, "scripts/labs/ddpg_her_from_scratch.py", "--verify"],
        cwd=LABS.parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert typed.returncode == 0, typed.stdout + typed.stderr
    assert typed.stdout.startswith("DDPG + HER From Scratch -- Verification\n")
    assert typed.stdout.count("[PASS] ") == 7
    assert typed.stdout.splitlines()[-1] == "[ALL PASS] DDPG + HER implementation verified"


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
        ("--demo", "--seeds", "4-0"),
        ("--demo", "--seeds", "all"),
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


def test_a_short_demo_takes_gradient_steps_and_writes_its_files(
    lab: ModuleType, tmp_path: Path
) -> None:
    picture, table = tmp_path / "new" / "a.png", tmp_path / "b.json"
    files = ("--out", str(picture), "--json", str(table))
    outcome = run_module(lab, "--demo", "--episodes", "2", "--seeds", "3-4", *files)
    assert outcome.exit_code == 1  # two episodes are not enough to learn anything
    assert outcome.output.splitlines()[-1] == "[FAILED] 2 of 2 checks"
    assert picture.read_bytes().startswith(b"\x89PNG")
    has_plotly = importlib.util.find_spec("plotly") is not None
    assert picture.with_suffix(".html").exists() == has_plotly
    assert not list(tmp_path.rglob("*.tmp"))
    text = table.read_text(encoding="utf-8")
    found = json.loads(text)
    assert text == json.dumps(found, indent=2, sort_keys=True) + "\n"
    assert found["schema"] == "lab-seeds/1"
    assert found["command"].endswith(f"--seeds 3-4 --out {picture} --json {table}")
    assert set(found["versions"]) == {"gymnasium", "numpy", "torch"}
    assert [row["seed"] for row in found["rows"]] == [3, 4]
    for row in found["rows"]:
        names = {"episodes", "seconds", "seed", "success_with_her", "success_without_her"}
        assert set(row) == names
        assert row["episodes"] == 2


def test_a_path_it_cannot_write_exits_2_before_it_trains(
    lab: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lab, "train", None)
    Path("file").touch()
    assert run_module(lab, "--demo", "--json", "file/x").exit_code == 2
    error = capsys.readouterr().err
    assert re.fullmatch(r"error: [^\n]*file[^\n]*; choose other files [^\n]*\n", error)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["file"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_hindsight_makes_the_difference(tmp_path: Path) -> None:
    outcome = run_lab(LAB, "--demo", "--out", str(tmp_path / "a.png"))
    assert outcome.exit_code == 0, outcome.output
    assert outcome.output.splitlines()[-1] == "[ALL PASS] Hindsight made the difference"


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_sb3_agrees() -> None:
    outcome = run_lab(LAB, "--compare-sb3")
    assert outcome.exit_code == 0, outcome.output


# How it is written


def test_it_imports_only_what_it_may() -> None:
    tree = ast.parse(LAB.read_text(encoding="utf-8"))

    def imported(nodes: Iterator[ast.AST]) -> set[str]:
        names = set()
        for node in nodes:
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names.add((node.module or "").partition(".")[0])
        return names - sys.stdlib_module_names

    always = {"gymnasium", "numpy", "torch"}
    assert imported(iter(tree.body)) == always
    assert imported(ast.walk(tree)) - always == {"matplotlib", "plotly", "stable_baselines3"}


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


def test_shapes(lab: ModuleType) -> None:
    agent = lab.DDPGAgent(6, 2, lab.DDPGConfig())
    rng = np.random.default_rng(0)
    assert agent.act(np.zeros(6), rng).shape == (2,)
    assert agent.act(np.zeros((3, 6)), rng, 0.2).shape == (3, 2)
    assert agent.critic(torch.zeros(3, 6), torch.zeros(3, 2)).shape == (3,)


def test_episodes_of_another_length_are_refused(lab: ModuleType) -> None:
    buffer = lab.HindsightReplayBuffer(lab.HERConfig(), lab.PointReachGoalEnv().compute_reward)
    for steps in (5, 4):
        path, column = np.zeros((steps + 1, 2)), np.zeros(steps)
        episode = lab.Episode(path, path, np.zeros(2), path[1:], column, column)
        if steps == 5:
            buffer.add(episode)
        else:
            with pytest.raises(ValueError, match="broadcast"):
                buffer.add(episode)
    assert len(buffer) == 1


# That its checks can fail


@pytest.mark.parametrize(
    ("check", "fault"), FAULTS, ids=[f"{check}: {fault.name}" for check, fault in FAULTS]
)
def test_verify_notices(check: str, fault: Fault) -> None:
    with loaded_lab(LAB, fault) as module:
        module.CHECKS = [getattr(module, f"check_{check}")]  # the others take longer
        outcome = run_module(module, "--verify")
    assert outcome.exit_code == 1
    assert len(outcome.failed_claims) == 1
    assert outcome.failed_claims[0].startswith(check.replace("_", " ") + ": ")
