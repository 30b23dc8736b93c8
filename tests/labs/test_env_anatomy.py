"""The environment-anatomy lab: what it prints, what it measures, and that its checks can fail."""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import ModuleType

import gymnasium as gym
import numpy as np
import pytest
from mutation import (
    LABS,
    Fault,
    assert_notices,
    by_check,
    loaded_lab,
    run_lab,
    run_module,
    typed,
)

LAB = LABS / "env_anatomy.py"
REGIONS = [
    "obs_inspector",
    "goal_space",
    "action_explorer",
    "dense_reward_check",
    "sparse_reward_check",
    "relabel_check",
    "cross_env_compare",
]
PRINTED_BY_VERIFY = [
    "obs=(10,), ag=(3,), dg=(3,)",
    "desired_goal in workspace: True",
    "goal_dim=3",
    "phi matches obs[:3]: True",
    "action_shape=(4,)",
    "dense: 100 steps, mismatches=0",
    "threshold=0.05 mismatches=0 non_binary=0",
    "relabel: 10 goals, mismatches=0",
    "FetchReach-v4: obs_dim=10 ag_matches_grip=True",
    "FetchPush-v4: obs_dim=25 ag_matches_grip=False",
    "FetchPickAndPlace-v4: obs_dim=25 ag_matches_grip=False",
    "[ALL PASS] ",
]
PRINTED_BY_BRIDGE = [
    "Environment Anatomy -- Bridging Proof\n",
    "FetchReachDense-v4, seed 42, 100 steps, 5 goals per step\n",
    "\nStep reward checks:    100 steps, mismatches=0\n",
    "\nRelabel reward checks: 500 checks, mismatches=0\n",
    "\n[MATCH] ",
    "atol=1e-10\n",
    "\n[BRIDGE OK] Bridging proof passed\n",
]

# The words by which a claim of --verify is recognised.
DENSE, SPARSE, RELABEL = "dense: ", "sparse: ", "relabel: "

CAUGHT_BY_VERIFY = {
    "check_dense": [
        Fault("reward with the wrong sign", "return -distance", "return distance"),
        Fault("distance in the plane only", "(achieved - goal) **", "(achieved - goal)[:2] **"),
        Fault("squared distance", "np.sqrt(np.sum(", "np.abs(np.sum("),
        Fault(
            "observation before the step",
            "obs, reward, terminated, truncated, info = env.step(action)",
            "_, reward, terminated, truncated, info = env.step(action)",
        ),
    ],
    "check_sparse": [
        Fault("threshold of 4 cm", "> DISTANCE_THRESHOLD else", "> 0.04 else"),
        Fault("threshold a hair off", "> DISTANCE_THRESHOLD else", "> 0.05 + 1e-15 else"),
        Fault("threshold excluded", "> DISTANCE_THRESHOLD else", ">= DISTANCE_THRESHOLD else"),
        Fault("sparse reward of +1", "-1.0 if -dense", "1.0 if -dense"),
        Fault("arm never near the goal", "if towards_goal:", "if False:"),
    ],
    "check_relabel": [
        Fault(
            "old reward reused",
            "relabelled = fetch.compute_reward(achieved, goal, info)",
            "relabelled = step_reward",
        ),
        Fault(
            "relabelled with the goal it had",
            "goals = goals_around(achieved, n_goals, np.random.default_rng(seed))",
            'goals = np.tile(obs["desired_goal"], (n_goals, 1))',
        ),
        Fault("rewards never differ", "return not np.ptp(rewards) <= atol", "return False"),
    ],
    "check_goal_space": [
        Fault("phi off by one", 'state["observation"][:3]', 'state["observation"][1:4]'),
        Fault("one seed at every reset", "seed=seed if i == 0 else None", "seed=seed"),
    ],
    "check_actions": [
        Fault("wrong axis", "action[axis] = 1.0", "action[axis - 1] = 1.0"),
        Fault("wrong direction", "action[axis] = 1.0", "action[axis] = -1.0"),
        Fault("diagonal action", "action[axis] = 1.0", "action[axis] = action[axis - 1] = 1.0"),
    ],
    "check_cross_env": [
        Fault("gripper is the object", "observed[:, :3]", "observed[:, 3:6]"),
        Fault("object is the distance to it", "observed[:, 3:6]", "observed[:, 6:9]"),
        Fault(
            "gripper and object swapped",
            'grip": np.array_equal(achieved, observed[:, :3]),\n            "ag_matches_object"',
            'object": np.array_equal(achieved, observed[:, :3]),\n            "ag_matches_grip"',
        ),
    ],
    "check_observation": [
        Fault("workspace upside down", "low, high = WORKSPACE\n", "high, low = WORKSPACE\n"),
    ],
}
CAUGHT_BY_BRIDGE = [
    Fault("reward with the wrong sign", "return -distance", "return distance", "--bridge"),
    Fault(
        "old reward reused",
        "relabelled = env.unwrapped.compute_reward(achieved, new_goal, info)",
        "relabelled = step_reward",
        "--bridge",
    ),
    Fault(
        "relabelled with the goal it had",
        "in goals_around(achieved, n_goals, rng):",
        "in [goal] * n_goals:",
        "--bridge",
    ),
    Fault(
        "reward of the achieved goal itself",
        "computed = env.unwrapped.compute_reward(achieved, goal, info)\n            steps",
        "computed = env.unwrapped.compute_reward(goal, goal, info)\n            steps",
        "--bridge",
    ),
]


@pytest.fixture
def lab() -> Iterator[ModuleType]:
    with loaded_lab(LAB) as module:
        yield module


def assert_in_order(fragments: list[str], text: str) -> None:
    position = 0
    for fragment in fragments:
        assert fragment in text[position:], f"{fragment!r} is missing or comes too early"
        position = text.index(fragment, position)


# What it prints


def test_verify_prints_what_the_book_prints_and_exits_0() -> None:
    outcome = run_lab(LAB, "--verify")
    assert_in_order(PRINTED_BY_VERIFY, outcome.output)
    assert outcome.last_line.startswith("[ALL PASS]")
    assert outcome.output.count("[PASS] ") == 7
    assert outcome.exit_code == 0


def test_bridge_prints_what_the_book_prints_and_exits_0() -> None:
    outcome = run_lab(LAB, "--bridge")
    assert_in_order(PRINTED_BY_BRIDGE, outcome.output)
    assert outcome.last_line == "[BRIDGE OK] Bridging proof passed"
    assert outcome.exit_code == 0


@pytest.mark.parametrize("mode", ["--verify", "--bridge"])
def test_typed_command_prints_the_same_even_where_no_gl_backend_works(mode: str) -> None:
    outcome = typed(LAB, mode, MUJOCO_GL="no-such-backend")
    assert outcome.returncode == 0, outcome.stderr
    assert outcome.stdout == run_lab(LAB, mode).output


def test_without_a_mode_it_prints_help_and_exits_2() -> None:
    outcome = run_lab(LAB)
    assert outcome.exit_code == 2
    assert "--verify" in outcome.output


@pytest.mark.parametrize("arguments", [("--verify", "--seed", "-1"), ("--verify", "--bridge")])
def test_a_wrong_command_line_exits_2(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_lab(LAB, *arguments).exit_code == 2
    assert "error:" in capsys.readouterr().err


@pytest.mark.parametrize(("mode", "default_seed"), [("--verify", "0"), ("--bridge", "42")])
def test_the_seed_alone_decides_what_is_printed(mode: str, default_seed: str) -> None:
    default = run_lab(LAB, mode)
    same, other = (run_lab(LAB, mode, "--seed", seed) for seed in (default_seed, "8"))
    assert default.output == same.output
    assert default.output != other.output
    assert default.exit_code == other.exit_code == 0


def test_the_same_seed_draws_the_same_actions(lab: ModuleType) -> None:
    def rewards(seed: int) -> list[float]:
        with lab.make_env("FetchReachDense-v4") as env:
            return [reward for _, reward, _ in lab.rollout(env, 60, seed)]

    assert rewards(3) == rewards(3)
    assert rewards(3) != rewards(4)


# How it is written


def test_each_region_holds_the_function_it_is_named_after() -> None:
    source = LAB.read_text(encoding="utf-8")
    region = r"# --8<-- \[start:(\w+)\]\ndef (\w+)\(.*?\n# --8<-- \[end:(\w+)\]"
    found = re.findall(region, source, flags=re.DOTALL)
    assert found == [(name, name, name) for name in REGIONS]


# What it measures


def test_results_have_the_keys_the_book_uses(lab: ModuleType) -> None:
    inspected = lab.obs_inspector()
    for key in ("observation", "achieved_goal", "desired_goal"):
        assert set(inspected[key]) == {"shape", "dtype", "min", "max", "finite"}
    assert inspected["desired_goal_in_workspace"] is True
    goals = lab.goal_space(n_resets=3)
    assert set(goals) == {"n_resets", "goal_dim", "desired_goal_bounds", "all_phi_match"}
    assert set(goals["desired_goal_bounds"]) == {"min", "max"}
    actions = lab.action_explorer()
    assert set(actions) == {"action_shape", "action_low", "action_high", "displacements"}
    assert {"action", "displacement", "moved_positive"} <= set(actions["displacements"]["z"])
    assert lab.dense_reward_check(n_steps=5) == {"n_steps": 5, "mismatches": 0}
    sparse = {"n_steps", "mismatches", "threshold", "non_binary"}
    assert sparse <= set(lab.sparse_reward_check(n_steps=5))
    assert {"n_goals", "mismatches"} <= set(lab.relabel_check(n_goals=5))
    assert all({"obs_dim", "ag_matches_grip"} <= set(t) for t in lab.cross_env_compare().values())


@pytest.mark.parametrize("env_id", ["FetchPush", "FetchPickAndPlace"])
def test_reward_checks_hold_on_tasks_with_an_object(lab: ModuleType, env_id: str) -> None:
    assert lab.dense_reward_check(f"{env_id}Dense-v4")["mismatches"] == 0
    assert lab.sparse_reward_check(f"{env_id}-v4")["mismatches"] == 0
    assert lab.relabel_check(f"{env_id}-v4")["mismatches"] == 0
    assert lab.goal_space(f"{env_id}-v4", n_resets=2)["all_phi_match"] is False


def test_a_full_action_moves_the_gripper_three_centimetres(lab: ModuleType) -> None:
    for axis in lab.action_explorer()["displacements"].values():
        assert axis["displacement"] == pytest.approx(0.030, abs=0.001)


# That its checks can fail


@by_check(CAUGHT_BY_VERIFY)
def test_verify_notices(check: str, fault: Fault) -> None:
    assert_notices(LAB, fault, check=check)


@pytest.mark.parametrize("fault", CAUGHT_BY_BRIDGE, ids=lambda fault: fault.name)
def test_bridge_notices(fault: Fault) -> None:
    assert_notices(LAB, fault)


def offset_step_reward(env: gym.Env) -> gym.Env:
    return gym.wrappers.TransformReward(env, lambda reward: reward + 1e-9)


def stretch_every_reward(env: gym.Env) -> gym.Env:
    right = env.unwrapped.compute_reward
    env.unwrapped.compute_reward = lambda a, g, info: right(a, g, info) * (1 + 1e-6)
    return env


def ignore_the_goal_asked_for(env: gym.Env) -> gym.Env:
    fetch, right = env.unwrapped, env.unwrapped.compute_reward
    fetch.compute_reward = lambda a, g, info: right(a, np.broadcast_to(fetch.goal, a.shape), info)
    return env


def reward_the_first_of_a_batch_only(env: gym.Env) -> gym.Env:
    right = env.unwrapped.compute_reward
    env.unwrapped.compute_reward = lambda a, g, info: right(
        a, g if g.ndim == 1 else np.broadcast_to(g[0], g.shape), info
    )
    return env


@pytest.mark.parametrize(
    ("breakage", "claims"),
    [
        (offset_step_reward, [DENSE, SPARSE]),
        (stretch_every_reward, [DENSE, SPARSE, RELABEL]),
        (ignore_the_goal_asked_for, [SPARSE, RELABEL]),
        (reward_the_first_of_a_batch_only, [RELABEL]),
    ],
)
def test_verify_notices_an_environment_that_rewards_wrongly(
    lab: ModuleType, monkeypatch: pytest.MonkeyPatch, breakage, claims: list[str]
) -> None:
    monkeypatch.setattr(lab, "make_env", lambda env_id: breakage(gym.make(env_id)))
    outcome = run_module(lab, "--verify")
    assert outcome.exit_code == 1
    for failed, claim in zip(outcome.failed_claims, claims, strict=True):
        assert failed.startswith(claim)


@pytest.mark.parametrize(
    "breakage", [offset_step_reward, stretch_every_reward, ignore_the_goal_asked_for]
)
def test_bridge_notices_an_environment_that_rewards_wrongly(
    lab: ModuleType, monkeypatch: pytest.MonkeyPatch, breakage
) -> None:
    monkeypatch.setattr(lab, "make_env", lambda env_id: breakage(gym.make(env_id)))
    outcome = run_module(lab, "--bridge")
    assert outcome.exit_code == 1
    assert len(outcome.failed_claims) == 1


# The chapter's exercises


def test_exercise_1_seeds_change_goals_but_not_shapes(lab: ModuleType) -> None:
    shapes, goals = set(), set()
    for seed in range(5):
        inspected = lab.obs_inspector(seed=seed)
        assert inspected["desired_goal_in_workspace"]
        parts = ("observation", "achieved_goal", "desired_goal")
        shapes.add(tuple((key, inspected[key]["shape"]) for key in parts))
        goals.add(tuple(lab.goal_space(n_resets=1, seed=seed)["desired_goal_bounds"]["min"]))
    assert len(shapes) == 1
    assert len(goals) == 5


def test_exercise_2_dense_and_sparse_reach_see_the_same_and_reward_it_differently(
    lab: ModuleType,
) -> None:
    with lab.make_env("FetchReachDense-v4") as dense, lab.make_env("FetchReach-v4") as sparse:
        pairs = list(zip(lab.rollout(dense, 50, 2), lab.rollout(sparse, 50, 2), strict=True))
    for (dense_obs, dense_reward, _), (sparse_obs, sparse_reward, _) in pairs:
        np.testing.assert_array_equal(dense_obs["observation"], sparse_obs["observation"])
        assert (sparse_reward == 0.0) == (-dense_reward <= 0.05)
    assert -50 <= sum(float(reward) for _, (_, reward, _) in pairs) <= -45


def test_exercise_3_the_achieved_goal_of_push_is_an_object_that_stays_put(lab: ModuleType) -> None:
    with lab.make_env("FetchPushDense-v4") as env:
        obs, _ = env.reset(seed=0)
        start = obs["observation"][3:6]
        for _ in range(50):
            obs = env.step(np.zeros(4, dtype=np.float32))[0]
            np.testing.assert_array_equal(obs["achieved_goal"], obs["observation"][3:6])
            np.testing.assert_allclose(obs["observation"][3:6], start, atol=1e-6)


def test_exercise_4_a_wider_threshold_is_met_more_often(lab: ModuleType) -> None:
    n_episodes = 25
    with lab.make_env("FetchReach-v4") as env:
        steps = list(lab.rollout(env, 50 * n_episodes, 0))
    distances = [
        -lab.dense_reward(o["achieved_goal"], o["desired_goal"]) for o, _, _ in steps[49::50]
    ]
    rates = [np.mean(np.less(distances, limit)) for limit in (0.01, 0.02, 0.05, 0.10, 0.20)]
    assert rates == sorted(rates)
    assert rates[0] <= 0.01
    assert rates[2] <= 0.05
    assert rates[4] > rates[2]
