"""The trivial-goals lab: what it prints and writes, and that its checks can fail."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from mutation import LABS, Fault, assert_notices, by_check, loaded_lab, run_lab, run_module

from robotics_rl.recipes import RECIPES
from robotics_rl.replay.hindsight import MOVED_DISTANCE

LAB = LABS / "trivial_goals.py"
REGIONS = ["early_episodes", "future_goals", "is_trivial", "keep_few_trivial", "share_after"]

JUDGED = "is_trivial(pairs.before, pairs.goal, THRESHOLD)\n    return"
DRAWN = "rng.integers(step, horizon)"
CHOSEN = "goal=achieved[episode, outcome + 1]"
KEPT = "return ~trivial | (rng.random(trivial.shape) < keep)"
CAUGHT_BY_VERIFY = {
    "check_judgement": [
        Fault("comparison flipped", "axis=-1) <= threshold", "axis=-1) >= threshold"),
        Fault("threshold excluded", "axis=-1) <= threshold", "axis=-1) < threshold"),
        Fault("distance in the plane", "norm(before - goal,", "norm((before - goal)[..., :2],"),
        Fault("threshold of 4 cm", "THRESHOLD = 0.05", "THRESHOLD = 0.04"),
        Fault("judged after the step", JUDGED, JUDGED.replace("before", "after")),
        Fault(
            "rewarded before the step",
            "pairs.after, pairs.goal, THR",
            "pairs.before, pairs.goal, THR",
        ),
    ],
    "check_future": [
        Fault("goals of the past", DRAWN, "rng.integers(0, step + 1)"),
        Fault("goals of the episode", DRAWN, "rng.integers(0, horizon, size=len(step))"),
        Fault("goals of the end", DRAWN, "np.full_like(step, horizon - 1)"),
        Fault("own outcome left out", DRAWN, f"np.minimum({DRAWN} + 1, horizon - 1)"),
        Fault("goal before the outcome", CHOSEN, "goal=achieved[episode, outcome]"),
        Fault("goals of other episodes", CHOSEN, "goal=achieved[episode - 1, outcome + 1]"),
        Fault(
            "after is before", "after=achieved[episode, step + 1]", "after=achieved[episode, step]"
        ),
    ],
    "check_filter": [
        Fault("filter ignored", KEPT, "return np.ones_like(trivial)"),
        Fault("keep inverted", "< keep)", ">= keep)"),
        Fault("the wrong ones kept", KEPT, KEPT.replace("~", "")),
        Fault("all trivial ones dropped", KEPT, "return ~trivial | (keep == 1)"),
        Fault("formula without denominator", " / (keep * share + (1.0 - share))", ""),
        Fault("denominator of everything", "+ (1.0 - share))", "+ 1.0)"),
    ],
    "check_survivors": [
        Fault("all thinned out", KEPT, "return rng.random(trivial.shape) < keep"),
    ],
}
# These change what is played, so the episodes shared by the others would hide them.
CAUGHT_WHEN_PLAYED = [
    Fault("an arm at rest", "env.action_space.sample()", "0 * env.action_space.sample()"),
    Fault("one seed at every reset", "seed=seed if episode == 0 else None", "seed=seed"),
]
CAUGHT_BY_BRIDGE = [
    Fault("goals of the past", DRAWN, "rng.integers(0, step + 1)", "--bridge"),
    Fault("goals of the episode", DRAWN, "rng.integers(0, horizon, size=len(step))", "--bridge"),
    Fault("goals of the end", DRAWN, "np.full_like(step, horizon - 1)", "--bridge"),
    Fault("goals of other episodes", CHOSEN, "goal=achieved[episode - 1, outcome + 1]", "--bridge"),
    Fault("judged after the step", JUDGED, JUDGED.replace("before", "goal"), "--bridge"),
]


@pytest.fixture(scope="module")
def played() -> tuple[np.ndarray, np.ndarray]:
    """Achieved and desired goals of the episodes of --verify, played once for all tests."""
    with loaded_lab(LAB) as lab:
        return tuple(lab.early_episodes(60, 0))


@pytest.fixture
def lab(played: tuple[np.ndarray, np.ndarray]) -> Iterator[ModuleType]:
    with loaded_lab(LAB) as module:
        share(module, played)
        yield module


def share(module: ModuleType, played: tuple[np.ndarray, np.ndarray]) -> None:
    """Let the lab find its first episodes where they are already, as playing them takes longest."""
    module.early_episodes = lambda n, seed: module.Episodes(*(part[:n] for part in played))


# What it prints


def test_verify_passes(lab: ModuleType) -> None:
    outcome = run_module(lab, "--verify")
    assert outcome.exit_code == 0, outcome.output
    assert outcome.output.count("[PASS] ") == 5
    assert outcome.last_line == "[ALL PASS] Trivial goals verified"


def test_verify_passes_even_where_no_block_was_pushed_far() -> None:
    outcome = run_lab(LAB, "--verify", "--episodes", "12", "--seed", "3")
    assert "trivial goals 1.000 (measured) -> 1.000 (bound: 1.000 ± 0.000)" in outcome.output
    assert outcome.exit_code == 0


def test_bridge_passes(lab: ModuleType) -> None:
    outcome = run_module(lab, "--bridge")
    assert "SB3" in outcome.output
    assert outcome.last_line == "[BRIDGE OK] Bridging proof passed"
    assert outcome.exit_code == 0


def test_without_a_mode_it_prints_help_and_exits_2() -> None:
    outcome = run_lab(LAB)
    assert outcome.exit_code == 2
    assert "--verify" in outcome.output


@pytest.mark.parametrize(
    "arguments",
    [("--verify", "--seed", "-1"), ("--demo", "--episodes", "9"), ("--demo", "--verify")],
)
def test_a_wrong_command_line_exits_2(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_lab(LAB, *arguments).exit_code == 2
    assert "error:" in capsys.readouterr().err


def test_the_seed_decides_which_episodes_are_played(played: tuple[np.ndarray, np.ndarray]) -> None:
    with loaded_lab(LAB) as lab:
        same, other = lab.early_episodes(2, 0), lab.early_episodes(2, 1)
    np.testing.assert_array_equal(same.achieved, played[0][:2])
    np.testing.assert_array_equal(same.desired, played[1][:2])
    assert same.achieved.shape == other.achieved.shape == (2, 51, 3)
    assert not np.array_equal(same.desired, other.desired)


# What it writes


def test_demo_writes_the_table_and_the_figure(lab: ModuleType, tmp_path: Path) -> None:
    picture, table = tmp_path / "new" / "a.png", tmp_path / "b.json"
    files = ("--out", str(picture), "--json", str(table))
    first = run_module(lab, "--demo", "--episodes", "40", *files)
    assert first.exit_code == 0
    text = table.read_text(encoding="utf-8")
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.rglob("*.*")) == ["a.png", "b.json"]
    found = json.loads(text)
    assert text == json.dumps(found, indent=2, sort_keys=True) + "\n"
    assert (found["schema"], found["n_episodes"], found["seed"]) == ("trivial-goals/1", 40, 0)
    assert set(found["versions"]) == {"gymnasium-robotics", "mujoco", "numpy"}
    assert found["command"].endswith(f"--demo --episodes 40 --out {picture} --json {table}")
    assert [row["p"] for row in found["rows"]] == [1.0, 0.2, 0.05]
    for row in found["rows"]:
        kinds = row["trivial"] + row["achieved_by_step"] + row["to_be_achieved"]
        assert kinds == pytest.approx(1.0)
        assert f"{row['n_pairs']:8d} {row['trivial']:8.3f}" in first.output
    run_module(lab, "--demo", "--episodes", "40", *files)
    assert table.read_text(encoding="utf-8") == text


@pytest.mark.parametrize("flag", ["--out", "--json"])
def test_a_path_it_cannot_write_exits_2_and_leaves_nothing_behind(
    lab: ModuleType,
    flag: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    assert run_module(lab, "--demo", flag, "file/x").exit_code == 2
    error = capsys.readouterr().err
    assert re.fullmatch(
        r"error: [^\n]*file[^\n]*; choose other files with --out and --json\n", error
    )
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["file"]


# How it is written


def test_each_region_holds_the_function_it_is_named_after() -> None:
    source = LAB.read_text(encoding="utf-8")
    region = r"# --8<-- \[start:(\w+)\]\n(.*?)\n# --8<-- \[end:(\w+)\]"
    found = re.findall(region, source, flags=re.DOTALL)
    assert [(start, end) for start, _, end in found] == [(name, name) for name in REGIONS]
    assert all(f"def {name}(" in text for name, text, _ in found)


# What it computes


def test_share_after_by_hand(lab: ModuleType) -> None:
    assert lab.share_after(0.9, 1.0) == pytest.approx(0.9)
    assert lab.share_after(0.9, 0.1) == pytest.approx(0.09 / 0.19)
    assert lab.share_after(0.9, 0.0) == 0.0
    assert lab.share_after(0.0, 0.02) == 0.0


def test_every_later_outcome_is_drawn_equally_often(lab: ModuleType) -> None:
    achieved = np.arange(4.0)[None, :, None] * np.ones(3)  # (1, 4, 3): after step t it is at t + 1
    pairs = lab.future_goals(achieved, 3000, np.random.default_rng(0))
    steps = np.repeat(np.arange(3), 3000)
    np.testing.assert_array_equal(pairs.before[:, 0], steps)
    np.testing.assert_array_equal(pairs.after[:, 0], steps + 1)
    for step in range(3):
        values, counts = np.unique(pairs.goal[steps == step, 0], return_counts=True)
        np.testing.assert_array_equal(values, np.arange(step + 1, 4))
        np.testing.assert_allclose(counts / 3000, 1 / (3 - step), atol=0.04)


# That its checks can fail


@by_check(CAUGHT_BY_VERIFY)
def test_verify_notices(check: str, fault: Fault, played: tuple[np.ndarray, np.ndarray]) -> None:
    assert_notices(LAB, fault, check=check, prepare=lambda module: share(module, played))


@pytest.mark.parametrize("fault", CAUGHT_WHEN_PLAYED, ids=lambda fault: fault.name)
def test_verify_notices_what_was_not_played_at_random(fault: Fault) -> None:
    assert_notices(LAB, fault, "--episodes", "10", check="check_textbook")


@pytest.mark.parametrize("fault", CAUGHT_BY_BRIDGE, ids=lambda fault: fault.name)
def test_bridge_notices(fault: Fault, played: tuple[np.ndarray, np.ndarray]) -> None:
    assert_notices(LAB, fault, prepare=lambda module: share(module, played))


def test_it_counts_by_the_measures_of_training(lab: ModuleType) -> None:
    assert lab.KEEPS[-1] == RECIPES["fast"]["trivial_goal_keep"]
    assert lab.MOVED == MOVED_DISTANCE
