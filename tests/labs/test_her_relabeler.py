"""The HER-relabeler lab: what it prints, draws and computes, and that its checks can fail."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from mutation import LABS, Fault, assert_notices, by_check, loaded_lab, run_lab, run_module

LAB = LABS / "her_relabeler.py"
REGIONS = {
    "data_structures": [
        "class Transition(",
        "class Episode:",
        "class GoalStrategy(",
        "def sparse_reward(",
    ],
    "goal_sampling": ["def sample_her_goals("],
    "relabel_transition": ["def relabel_transition("],
    "her_buffer_insert": ["def process_episode_with_her("],
}

CHOSEN = "return achieved[chosen]"
FUTURE = "np.arange(transition_idx + 1, last + 1)"
PADDED = "np.concatenate([drawn, np.full(k - len(drawn), last)])"
EPISODE = "rng.integers(0, last + 1, size=k)"
BOX = "rng.uniform(achieved.min(axis=0), achieved.max(axis=0), size=(k, 3))"
REWARD = "compute_reward_fn(transition.achieved_goal, new_goal, {"
RELABELLED = "_replace(reward=float(reward), desired_goal=new_goal.copy())"
CHANCE = "if rng.random() < her_ratio:"
STORED = "stored.append(transition)"
DRAWN = "sample_her_goals(episode, t, strategy, k, rng):"
SUCCESS = "step.reward == 0.0 for step in transitions"
SUCCESS_OR_NOT = "-1.0 if distance > info"
# Faults that several modes notice.
REUSED = ("reward reused", "reward=float(reward)", "reward=transition.reward")
TOO_EARLY = ("reward before the step", REWARD, REWARD.replace("achieved_goal", "obs"))
CLEARED = ("done cleared", RELABELLED, RELABELLED.replace("_replace(", "_replace(done=False, "))
IGNORED = ("threshold ignored", '{"threshold": threshold}', "{}")


def faulty(line: str, name: str, old: str, new: str) -> Fault:
    """A fault that is told by a line which begins like this one."""
    return Fault(name, old, new, sign=f"\nwrong: {line}")


FUTURE_FILLED, FUTURE_AT_THE_END = "future, t = 5, k = 16:", "future, t = 19, k = 4:"
CAUGHT_BY_VERIFY = {
    "check_sampling": [
        faulty("final", "goal before the outcome", CHOSEN, "return achieved[chosen - 1]"),
        faulty(
            "final, k = 4:", "last step but one copied", "np.full(k, last)", "np.full(k, last - 1)"
        ),
        faulty("final, k = 4:", "one final goal", "np.full(k, last)", "np.full(1, last)"),
        faulty(FUTURE_FILLED, "goals of the past", FUTURE, "np.arange(0, transition_idx + 1)"),
        faulty(FUTURE_FILLED, "own outcome let in", FUTURE, "np.arange(transition_idx, last + 1)"),
        faulty(
            "future, t = 5, k = 4, ",
            "horizon one short",
            FUTURE,
            "np.arange(transition_idx + 1, last)",
        ),
        faulty(FUTURE_FILLED, "with replacement", "replace=False", "replace=True"),
        faulty(FUTURE_AT_THE_END, "padding missing", PADDED, "drawn"),
        faulty(FUTURE_AT_THE_END, "padded with the first", PADDED, PADDED.replace("last)", "0)")),
        faulty("future", "k ignored, future", "min(k, len(future))", "min(k, 4, len(future))"),
        faulty("episode, k = 32, number", "k ignored, episode", EPISODE, EPISODE.replace("k", "4")),
        faulty("random, k = 20000, number", "k ignored, random", BOX, BOX.replace("(k,", "(4,")),
        faulty(
            "episode, k = 4, ", "episode without its end", EPISODE, "rng.integers(0, last, size=k)"
        ),
        faulty(
            "episode, k = 4, ",
            "episode without its past",
            EPISODE,
            "rng.integers(transition_idx, last + 1, size=k)",
        ),
        faulty("random, ", "half the box", BOX, BOX.replace("achieved.max(axis=0)", "0.0")),
    ],
    "check_relabel": [
        faulty("reward", *REUSED),
        faulty(
            "reward = outcome - 3 goal:",
            "outcome and goal swapped",
            REWARD,
            "compute_reward_fn(new_goal, transition.achieved_goal, {",
        ),
        faulty("reward = outcome - 3 goal:", *TOO_EARLY),
        faulty("on the threshold, just beyond it, within a wider one:", *IGNORED),
        faulty(
            "on the threshold, ", "threshold excluded", SUCCESS_OR_NOT, "-1.0 if distance >= info"
        ),
        faulty("on the threshold, ", "threshold of 4 cm", "NEAR = 0.05", "NEAR = 0.04"),
        faulty("goal + [1, 1, 1]:", "all rewards 0", SUCCESS_OR_NOT, "0.0 if distance > info"),
        faulty(
            "fields changed by success:",
            "done set on success",
            RELABELLED,
            f"{RELABELLED[:-1]}, done=reward == 0.0)",
        ),
        faulty("fields changed at the end:", *CLEARED),
        faulty(
            "fields changed",
            "outcome replaced",
            RELABELLED,
            RELABELLED.replace("desired_goal=", "achieved_goal="),
        ),
        faulty("new goal shares memory:", "goal array aliased", "new_goal.copy()", "new_goal"),
    ],
    "check_process": [
        faulty("N:", "ratio inverted", CHANCE, CHANCE.replace("<", ">")),
        faulty("N for her_ratio 0 and 1:", "ratio ignored", CHANCE, "if True:"),
        faulty(
            "relabelled of 2000 steps:",
            "ratio a little off",
            CHANCE,
            "if rng.random() ** 1.5 < her_ratio:",
        ),
        faulty("episode stored as it was:", "episode dropped", STORED, "pass"),
        faulty(
            "episode stored as it was:",
            "episode dropped where relabelled",
            "            for goal in sample",
            "            stored.pop()\n            for goal in sample",
        ),
        faulty(
            "wrong rewards:",
            "episode itself relabelled",
            STORED,
            "stored.append(transition._replace(reward=0.0))",
        ),
        faulty("goals not ahead:", "future of step 0", DRAWN, DRAWN.replace(" t,", " 0,")),
        faulty(
            "FINAL, last outcomes:",
            "strategy ignored",
            DRAWN,
            DRAWN.replace("strategy", "GoalStrategy.FUTURE"),
        ),
        faulty("N = 50 + 4 m with m = ", "one goal only", DRAWN, DRAWN.replace(" k,", " 1,")),
        faulty(
            "success fraction before:",
            "failures counted",
            SUCCESS,
            SUCCESS.replace("== 0.0", "< 0.0"),
        ),
        faulty(
            "success fraction before:",
            "goal within reach",
            "np.array([12.0, 0.0, 0.0])",
            "np.array([0.01, 0.0, 0.0])",
        ),
    ],
}
CAUGHT_BY_COMPARISON = [
    faulty("Max abs reward diff: 1.000e+00", *REUSED),
    faulty("Max abs reward diff: 1.000e+00", *TOO_EARLY),
    faulty("Max abs reward diff:", *IGNORED),
    faulty("Fields that differ:", *CLEARED),
    faulty("Fields that differ:", "goal kept", ", desired_goal=new_goal.copy())", ")"),
    faulty("lab, worst", "own outcome let in", FUTURE, FUTURE.replace("+ 1, ", ", ")),
    faulty("lab, worst", "horizon one short", FUTURE, FUTURE.replace("last + 1", "last")),
    faulty("lab, worst", "goals of the past", FUTURE, "np.arange(transition_idx + 1)"),
    faulty("lab, worst", "padded with the first", PADDED, PADDED.replace("last)", "0)")),
]
CAUGHT_BY_DEMO = [
    faulty("amplification, future", "ratio inverted", CHANCE, CHANCE.replace("<", ">")),
    faulty("success fraction, FINAL", *REUSED),
    faulty("success fraction bef", "all rewards 0", SUCCESS_OR_NOT, "0.0 if distance > info"),
    faulty("amplification, future", "one goal only", DRAWN, DRAWN.replace(" k,", " 1,")),
]


@pytest.fixture
def lab() -> Iterator[ModuleType]:
    with loaded_lab(LAB) as module:
        yield module


@pytest.fixture(scope="module")
def sampled() -> dict[tuple[float, int], list[Any]]:
    """What SB3 samples in --compare-sb3, by threshold and size; the same whatever is relabelled."""
    found = {}
    with loaded_lab(LAB) as module:
        draw = module.sb3_samples

        def remember(steps: list[Any], threshold: float, size: int) -> list[Any]:
            found[threshold, size] = draw(steps, threshold, size)
            return found[threshold, size]

        module.sb3_samples = remember
        assert run_module(module, "--compare-sb3").exit_code == 0
    return found


# What it prints


def test_verify_prints_what_the_book_prints(lab: ModuleType) -> None:
    outcome = run_module(lab, "--verify")
    assert outcome.exit_code == 0, outcome.output
    lines = outcome.output.splitlines()
    assert lines[0] == "HER Relabeler -- Verification"
    assert lines[-1] == "[ALL PASS] HER implementation verified"
    passed = [line.split(":")[0] for line in lines if line.startswith("[PASS] ")]
    assert passed == ["[PASS] goal sampling", "[PASS] relabelling", "[PASS] processing"]
    first_words = [line.split(",")[0] for line in lines]
    assert [first_words.index(name) for name in ("final", "future", "episode")] == [1, 2, 5]
    counted = re.search(r"^Transitions: 50 -> (\d+)$", outcome.output, flags=re.MULTILINE)
    relabelled = re.search(r"with m = (\d+) relabelled", outcome.output)
    assert counted is not None
    assert relabelled is not None
    assert int(counted[1]) == 50 + 4 * int(relabelled[1])
    assert 160 <= int(counted[1]) <= 250


def test_comparison_prints_what_the_book_prints(lab: ModuleType) -> None:
    outcome = run_module(lab, "--compare-sb3")
    lines = outcome.output.splitlines()
    assert lines[0] == "HER Relabeler -- SB3 Comparison"
    assert lines[1].startswith("Max abs reward diff: 0.000e+00 ")
    assert lines[2].startswith("Success fraction:    0.799 ")
    assert any(line.startswith("n_sampled_goal:     4 ") for line in lines)
    claim = "[PASS] SB3 HER relabeling is reward-consistent (compute_reward invariant)"
    assert claim in lines
    assert outcome.output.count("[PASS] ") == 3
    assert outcome.last_line == "[ALL PASS] HER rewards match SB3's, goals begin a step later"
    assert outcome.exit_code == 0


def test_without_a_mode_it_prints_help_and_exits_2() -> None:
    outcome = run_lab(LAB)
    assert outcome.exit_code == 2
    assert "--verify" in outcome.output


@pytest.mark.parametrize(
    "arguments",
    [("--verify", "--seed", "-1"), ("--demo", "--verify"), ("--demo", "--strategy", "past")],
)
def test_a_wrong_command_line_exits_2(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_lab(LAB, *arguments).exit_code == 2
    assert "error:" in capsys.readouterr().err


def test_the_seed_alone_decides_what_is_printed() -> None:
    default, same, other = (run_lab(LAB, "--verify", "--seed", seed) for seed in ("0", "0", "8"))
    assert default.output == same.output != other.output
    assert default.exit_code == other.exit_code == 0


# What it draws


def test_demo_prints_the_table_and_writes_the_figure(lab: ModuleType, tmp_path: Path) -> None:
    picture = tmp_path / "new" / "a.png"
    outcome = run_module(lab, "--demo", "--out", str(picture))
    assert outcome.exit_code == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    cells = r"\s+(\d+) \(\s*([\d.]+)x, ([\d.]+)\)"
    table = re.findall(rf"^(\w+) +(\d+){cells * 4}$", outcome.output, flags=re.MULTILINE)
    strategies = ("final", "future", "episode", "random")
    rows = [(name, k) for name in strategies for k in ("1", "4", "8", "16")]
    assert [row[:2] for row in table] == rows
    for _, k, *numbers in table:
        counts, growths = [int(n) for n in numbers[::3]], [float(x) for x in numbers[1::3]]
        assert (counts[0], counts[3]) == (500, 500 * (1 + int(k)))
        assert growths == pytest.approx([n / 500 for n in counts], abs=0.005)
        assert float(numbers[2]) == 0.0 < float(numbers[5])


def test_demo_shows_the_strategy_asked_for(lab: ModuleType, tmp_path: Path) -> None:
    out = ("--out", str(tmp_path / "a.png"))
    for name in ("final", "random"):
        outcome = run_module(lab, "--demo", "--strategy", name, *out)
        assert outcome.exit_code == 0
        assert f"\namplification, {name}, k = 4" in outcome.output


def test_demo_follows_a_default_that_the_reader_has_edited(tmp_path: Path) -> None:
    default = "compute_reward_fn: RewardFn,\n    strategy: GoalStrategy = GoalStrategy."
    edited = Fault("exercise 3", f"{default}FUTURE", f"{default}FINAL")
    outcome = run_lab(LAB, "--demo", "--out", str(tmp_path / "a.png"), fault=edited)
    assert outcome.exit_code == 0
    assert "\namplification, final, k = 4" in outcome.output


def test_a_path_it_cannot_write_exits_2(
    lab: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert run_module(lab, "--demo", "--out", str(tmp_path / "file" / "x.png")).exit_code == 2
    assert re.fullmatch(r"error: [^\n]*; choose another file with --out\n", capsys.readouterr().err)


# How it is written


def test_each_region_holds_what_the_tutorial_shows() -> None:
    source = LAB.read_text(encoding="utf-8")
    region = r"# --8<-- \[start:(\w+)\]\n(.*?)\n# --8<-- \[end:(\w+)\]"
    found = re.findall(region, source, flags=re.DOTALL)
    assert [(start, end) for start, _, end in found] == [(name, name) for name in REGIONS]
    for name, text, _ in found:
        assert all(definition in text for definition in REGIONS[name])


# What it computes


def test_names_and_order_of_the_fields_are_those_of_the_book(lab: ModuleType) -> None:
    fields = "obs action reward next_obs done achieved_goal desired_goal"
    assert lab.Transition._fields == tuple(fields.split())
    assert [strategy.value for strategy in lab.GoalStrategy] == [
        "final",
        "future",
        "episode",
        "random",
    ]


def test_a_synthetic_episode_is_one_walk_that_fails(lab: ModuleType) -> None:
    episode = lab.create_synthetic_episode(n_steps=30)
    steps = episode.transitions
    assert len(episode) == 30
    assert [step.done for step in steps] == [False] * 29 + [True]
    assert all(np.array_equal(a.next_obs, b.obs) for a, b in itertools.pairwise(steps))
    assert all(np.array_equal(step.next_obs, step.achieved_goal) for step in steps)
    assert {step.reward for step in steps} == {-1.0}
    assert all(np.linalg.norm(s.achieved_goal - s.desired_goal) > 10 for s in steps)
    assert lab.compute_success_fraction(steps) == lab.compute_success_fraction([]) == 0.0


def test_the_goals_of_the_checkpoints(lab: ModuleType) -> None:
    episode = lab.create_synthetic_episode(n_steps=20)
    future = lab.sample_her_goals(episode, 5, k=4)
    assert len(future) == 4
    assert all(goal.shape == (3,) for goal in future)
    assert set(lab.indices_of(future, episode.achieved_goals).tolist()) <= set(range(6, 20))
    final = lab.sample_her_goals(episode, 5, lab.GoalStrategy.FINAL, k=4)
    np.testing.assert_array_equal(final, [episode.transitions[-1].achieved_goal] * 4)


@pytest.mark.parametrize("k", [0, 1, 4, 40])
@pytest.mark.parametrize("strategy", ["final", "future", "episode", "random"])
def test_there_are_always_k_goals_and_they_are_copies(
    lab: ModuleType, strategy: str, k: int
) -> None:
    episode = lab.create_synthetic_episode(n_steps=20)
    before = episode.achieved_goals
    for t in (0, 17, 18, 19):
        goals = lab.sample_her_goals(episode, t, lab.GoalStrategy(strategy), k)
        assert goals.shape == (k, 3)
        goals += 1.0
    np.testing.assert_array_equal(episode.achieved_goals, before)


def test_goals_come_from_the_generator_that_is_passed(lab: ModuleType) -> None:
    episode = lab.create_synthetic_episode(50, np.random.default_rng(3))
    same = lab.create_synthetic_episode(50, np.random.default_rng(3))
    np.testing.assert_array_equal(episode.achieved_goals, same.achieved_goals)
    draws = [
        lab.process_episode_with_her(episode, lab.sparse_reward, rng=np.random.default_rng(seed))
        for seed in (1, 1, 2)
    ]
    first, second, third = ([step.desired_goal.tolist() for step in stored] for stored in draws)
    assert first == second != third


def test_ten_episodes_without_a_generator_differ_and_come_again_in_the_next_run() -> None:
    runs = []
    for _ in range(2):
        with loaded_lab(LAB) as lab:
            ends = [lab.create_synthetic_episode().achieved_goals[-1].tolist() for _ in range(10)]
        runs.append(ends)
    assert runs[0] == runs[1]
    assert len({tuple(end) for end in runs[0]}) == 10


def test_a_reward_that_returns_numpy_scalars_as_that_of_fetch_fits_in(lab: ModuleType) -> None:
    def compute_reward(achieved: np.ndarray, goal: np.ndarray, info: dict[str, Any]) -> Any:
        return -(np.linalg.norm(achieved - goal, axis=-1) > 0.05).astype(np.float32)

    episode = lab.create_synthetic_episode(n_steps=20)
    stored = lab.process_episode_with_her(episode, compute_reward, her_ratio=1.0)
    for step in stored:
        assert type(step.reward) is float
        assert step.reward == lab.sparse_reward(step.achieved_goal, step.desired_goal, {})


# That its checks can fail


@by_check(CAUGHT_BY_VERIFY)
def test_verify_notices(check: str, fault: Fault) -> None:
    assert_notices(LAB, fault, check=check)


@pytest.mark.parametrize("fault", CAUGHT_BY_COMPARISON, ids=lambda fault: fault.name)
def test_comparison_notices(fault: Fault, sampled: dict[tuple[float, int], list[Any]]) -> None:
    def share(module: ModuleType) -> None:
        module.sb3_samples = lambda steps, threshold, size: sampled[threshold, size]

    assert_notices(LAB, fault._replace(flag="--compare-sb3"), prepare=share)


@pytest.mark.parametrize("fault", CAUGHT_BY_DEMO, ids=lambda fault: fault.name)
def test_demo_notices(fault: Fault, tmp_path: Path) -> None:
    def shorten(module: ModuleType) -> None:
        module.draw = lambda *_: None
        module.KS, module.RATIOS = (4,), (0.0, 0.8)

    out = ("--out", str(tmp_path / "a.png"))
    assert_notices(LAB, fault._replace(flag="--demo"), *out, prepare=shorten)


def test_comparison_notices_a_buffer_that_draws_otherwise(
    lab: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stable_baselines3 import HerReplayBuffer

    def from_the_whole_episode(
        self: Any, batch_indices: np.ndarray, env_indices: np.ndarray
    ) -> np.ndarray:
        start = self.ep_start[batch_indices, env_indices]
        chosen = start + np.random.randint(0, self.ep_length[batch_indices, env_indices])
        return self.next_observations["achieved_goal"][chosen, env_indices]

    monkeypatch.setattr(HerReplayBuffer, "_sample_goals", from_the_whole_episode)
    outcome = run_module(lab, "--compare-sb3")
    assert outcome.exit_code == 1
    assert [failed[:10] for failed in outcome.failed_claims] == ["SB3: goals"]
    assert "\nwrong: SB3, worst" in outcome.output
