"""Chapter 2 of the book: the description is true, rewards agree, and the floor is measured."""

import re

import gymnasium as gym
import numpy as np
import pytest
from gymnasium_robotics.utils import mujoco_utils
from gymnasium_robotics.utils.rotations import mat2euler
from support import ROOT, read_strict_json, run_script, succeed

from robotics_rl import envs

SCRIPT = "scripts/ch01_env_anatomy.py"
DESCRIPTION = "results/ch01_env_describe.json"
FLOOR = "results/ch01_random_metrics.json"


def planted(monkeypatch, change):
    """Make environments with ``change`` applied."""
    monkeypatch.setattr(envs, "make_env", lambda env_id, **_: change(gym.make(env_id)))


def test_all_describes_checks_and_measures(workdir):
    out = succeed(SCRIPT, "all", "--seed", "0", "--n-episodes", "3").out
    assert "FetchReachDense-v4: dense reward, success within 0.05 m, 50 steps at 25 Hz" in out
    assert "OK: reward checks passed (atol=1e-6, n_steps=500, n_random_goals=3)\n" in out
    assert f"OK: wrote {DESCRIPTION}\n" in out
    assert f"OK: wrote {FLOOR}\n" in out
    assert "PASS  success_rate 0 (must be < 0.3)" in out
    assert "book, for FetchReachDense-v4: " in out


def test_the_description_has_the_paths_that_the_book_reads(workdir):
    succeed(SCRIPT, "describe")
    found = read_strict_json(workdir / DESCRIPTION)
    assert found["schema"] == "env/1"
    assert found["env_id"] == "FetchReachDense-v4"
    shapes = {name: box["shape"] for name, box in found["observation_space"].items()}
    assert shapes == {"observation": [10], "achieved_goal": [3], "desired_goal": [3]}
    assert found["observation_space"]["observation"]["low"] == ["-inf"] * 10
    assert found["observation_space"]["observation"]["high"] == ["inf"] * 10
    assert found["observation_space"]["observation"]["dtype"] == "float64"
    action = found["action_space"]
    assert (action["shape"], action["low"], action["high"]) == ([4], [-1.0] * 4, [1.0] * 4)
    assert (found["reward_type"], found["distance_threshold"]) == ("dense", 0.05)
    assert (found["max_episode_steps"], found["control_frequency_hz"]) == (50, 25.0)


def test_the_published_description_is_still_true(workdir):
    succeed(SCRIPT, "describe")
    documents = [read_strict_json(root / DESCRIPTION) for root in (workdir, ROOT)]
    for document in documents:
        del document["created_at"], document["versions"]
    assert documents[0] == documents[1]


@pytest.mark.parametrize("env_id", ["FetchReachDense-v4", "FetchPush-v4", "FetchSlide-v4"])
def test_the_index_map_means_what_it_says(workdir, env_id):
    succeed(SCRIPT, "describe", "--env-id", env_id)
    parts = read_strict_json(workdir / DESCRIPTION)["observation_index_map"]
    with gym.make(env_id) as env:
        env.reset(seed=0)
        env.action_space.seed(0)
        for _ in range(5):
            observation = env.step(env.action_space.sample())[0]["observation"]
        simulated = simulated_quantities(env.unwrapped)
    assert [part["first"] for part in parts] == [0, *(part["last"] + 1 for part in parts[:-1])]
    assert parts[-1]["last"] == len(observation) - 1
    for part in parts:
        described = observation[part["first"] : part["last"] + 1]
        expected = simulated[part["meaning"], part["unit"]]
        np.testing.assert_allclose(described, expected, atol=1e-12, err_msg=part["meaning"])
        # Zeros would agree with anything; the fingers of Reach are blocked.
        assert np.any(expected) or "finger" in part["meaning"]


def simulated_quantities(fetch):
    """By meaning and unit, straight from MuJoCo."""
    model, data, dt = fetch.model, fetch.data, 0.04
    grip = data.site("robot0:grip").xpos
    grip_velocity = mujoco_utils.get_site_xvelp(model, data, "robot0:grip")
    fingers = [data.joint(f"robot0:{side}_gripper_finger_joint") for side in ("r", "l")]
    found = {
        ("gripper position x, y, z", "m"): grip,
        ("finger positions right, left", "m"): [finger.qpos[0] for finger in fingers],
        ("gripper velocity", "m per step"): grip_velocity * dt,
        ("finger velocities", "m per step"): [finger.qvel[0] * dt for finger in fingers],
    }
    if not fetch.has_object:
        return found
    cube = data.site("object0")
    velocity = mujoco_utils.get_site_xvelp(model, data, "object0") - grip_velocity
    angular = mujoco_utils.get_site_xvelr(model, data, "object0")
    return found | {
        ("object position x, y, z", "m"): cube.xpos,
        ("object minus gripper position", "m"): cube.xpos - grip,
        ("object rotation, Euler angles", "rad"): mat2euler(cube.xmat.reshape(3, 3)),
        ("object minus gripper velocity", "m per step"): velocity * dt,
        ("object angular velocity", "rad per step"): angular * dt,
    }


def test_looking_at_another_task_does_not_cost_the_published_description(workdir):
    succeed(SCRIPT, "describe")
    published = (workdir / DESCRIPTION).read_bytes()
    out = succeed(SCRIPT, "describe", "--env-id", "FetchPush-v4").out
    assert "was of another task: it went to results/previous" in out
    (kept,) = (workdir / "results/previous").iterdir()
    assert kept.read_bytes() == published


@pytest.mark.parametrize("env_id", ["FetchReach-v4", "FetchPushDense-v4"])
def test_rewards_agree_on_dense_and_sparse_tasks(env_id):
    flags = ["--env-id", env_id, "--n-steps", "60", "--atol", "1e-10"]
    out = succeed(SCRIPT, "reward-check", *flags).out
    assert out == "OK: reward checks passed (atol=1e-10, n_steps=60, n_random_goals=3)\n"


@pytest.mark.parametrize(("error", "code"), [(1e-9, 0), (1e-3, 1)])
def test_a_step_reward_is_held_against_compute_reward(monkeypatch, error, code):
    planted(monkeypatch, lambda env: gym.wrappers.TransformReward(env, lambda r: r + error))
    outcome = run_script(SCRIPT, "reward-check", "--n-steps", "5")
    assert outcome.code == code
    if code:
        assert outcome.out.startswith("FAIL: 5 reward mismatches (atol=1e-6, n_steps=5")
        assert "step 1: step() gave " in outcome.out


def test_all_fails_if_one_of_its_parts_does_and_still_measures_the_rest(workdir, monkeypatch):
    planted(monkeypatch, lambda env: gym.wrappers.TransformReward(env, lambda r: r + 1e-3))
    outcome = run_script(SCRIPT, "all", "--n-steps", "5", "--n-episodes", "1")
    assert outcome.code == 1
    assert "FAIL: 5 reward mismatches" in outcome.out
    assert f"OK: wrote {FLOOR}" in outcome.out


@pytest.mark.parametrize(("n_random_goals", "code"), [(0, 0), (3, 1)])
def test_a_compute_reward_deaf_to_other_goals_is_found(monkeypatch, n_random_goals, code):
    def deafen(env: gym.Env) -> gym.Env:
        fetch = env.unwrapped
        compute = fetch.compute_reward
        fetch.compute_reward = lambda achieved, _, info: compute(achieved, fetch.goal, info)
        return env

    planted(monkeypatch, deafen)
    flags = ["--n-steps", "5", "--n-random-goals", str(n_random_goals)]
    outcome = run_script(SCRIPT, "reward-check", *flags)
    assert outcome.code == code
    assert ("random goal" in outcome.out) == bool(code)


@pytest.mark.filterwarnings("ignore:.*The reward is a NaN value")
@pytest.mark.parametrize(
    "wrong",
    [
        lambda distance: -1.0 if distance > 0.06 else 0.0,
        lambda distance: -1.0 if distance > 0.04 else 0.0,
        lambda distance: float("nan"),
    ],
)
def test_a_sparse_reward_with_another_threshold_is_found(monkeypatch, wrong):
    def replace(env: gym.Env) -> gym.Env:
        env.unwrapped.compute_reward = lambda a, g, _: wrong(np.linalg.norm(a - g))
        return env

    planted(monkeypatch, replace)
    # The gripper's own goal hardly ever lies at the threshold; the other goals do.
    outcome = run_script(SCRIPT, "reward-check", "--env-id", "FetchReach-v4", "--n-steps", "40")
    assert outcome.code == 1
    assert "random goal: compute_reward gave " in outcome.out


def test_the_random_floor_is_the_evaluation_of_the_random_baseline(workdir):
    succeed(SCRIPT, "random-episodes", "--n-episodes", "4", "--seed", "2")
    succeed("eval.py", "--baseline", "random", "--env", "FetchReachDense-v4", "--seeds", "2-5")
    floor = read_strict_json(workdir / FLOOR)
    result = read_strict_json(workdir / "results/random_fetchreachdense-v4_eval.json")
    assert floor["schema"] == "eval/1"
    assert floor["seeds"] == [2, 3, 4, 5]
    assert floor["per_episode"] == result["per_episode"]
    names = {"success_rate", "return_mean", "ep_len_mean", "final_distance_mean"}
    assert names <= floor["aggregate"].keys()


def test_easy_success_at_random_fails_the_criterion(workdir, monkeypatch):
    def ease(env: gym.Env) -> gym.Env:
        env.unwrapped.distance_threshold = 1.0
        return env

    monkeypatch.setattr("robotics_rl.envs.gym.make", lambda i, **_: ease(_make(i)))
    outcome = run_script(SCRIPT, "random-episodes", "--n-episodes", "1")
    assert outcome.code == 1
    assert "FAIL  success_rate 1 (must be < 0.3)" in outcome.out


_make = gym.make


def test_the_threshold_table_counts_the_same_episodes_at_every_threshold(workdir):
    out = succeed(SCRIPT, "threshold-table", "--n-episodes", "12", "--env-id", "FetchReach-v4").out
    rates = {float(t): float(r) for t, r in re.findall(r"^ +(0\.\d+) m +(\d\.\d+)", out, re.M)}
    assert list(rates) == [0.01, 0.02, 0.05, 0.10, 0.20]
    assert list(rates.values()) == sorted(rates.values())
    assert rates[0.20] > 0
    succeed(SCRIPT, "random-episodes", "--n-episodes", "12", "--env-id", "FetchReach-v4")
    floor = read_strict_json(workdir / FLOOR)
    assert rates[0.05] == pytest.approx(floor["aggregate"]["success_rate"], abs=0.005)
    near = [episode["final_distance"] < 0.2 for episode in floor["per_episode"]]
    assert rates[0.20] == pytest.approx(np.mean(near), abs=0.005)


def test_dense_and_sparse_reach_play_the_same_episodes(workdir):
    """Exercise 2: same seed, same actions, two rewards."""
    floors = []
    for env_id in ("FetchReachDense-v4", "FetchReach-v4"):
        flags = ["--n-episodes", "1", "--env-id", env_id, "--random-out", f"{env_id}.json"]
        succeed(SCRIPT, "random-episodes", *flags)
        floors.append(read_strict_json(workdir / f"{env_id}.json")["per_episode"][0])
    dense, sparse = floors
    assert dense["final_distance"] == sparse["final_distance"]
    assert dense["return"] != sparse["return"] == int(sparse["return"])


def test_list_envs_prints_what_env_id_takes():
    out = succeed(SCRIPT, "list-envs").out
    assert out.split() == envs.fetch_ids()
    assert len(out.split()) == 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["describe", "--env-id", "FetchReachDens-v4"], "did you mean FetchReachDense-v4"),
        (["describe", "--env-id", "FetchPush-v1"], "did you mean FetchPush-v4"),
        (["all", "--env-id", "CartPole-v1"], "unknown environment 'CartPole-v1'; see"),
        (["reward-check", "--n-steps", "0"], "must be at least 1"),
        (["reward-check", "--atol", "nan"], "must be at least 0"),
        (["random-episodes", "--n-episodes", "-1"], "--n-episodes"),
        (["describe", "--seed", "-1"], "--seed"),
        (["describe", "--describe-out", "file/x.json"], "cannot write to file: "),
        (["describe", "--n-steps", "5"], "unrecognized arguments: --n-steps 5"),
    ],
)
def test_bad_usage_exits_with_2_and_one_line(workdir, arguments, message):
    (workdir / "file").touch()
    outcome = run_script(SCRIPT, *arguments)
    assert outcome.code == 2
    assert message in outcome.err
    assert len(outcome.err.splitlines()) == 1
    assert [path.name for path in workdir.iterdir()] == ["file"]


def test_the_card_prints_the_defaults_that_the_code_uses():
    out = succeed(SCRIPT, "card").out
    assert "500 steps, 3 other goals each" in out
    assert f"{DESCRIPTION}, {FLOOR}" in out
    assert "success_rate < 0.3" in out


@pytest.mark.parametrize(
    "command",
    ["all", "list-envs", "describe", "reward-check", "random-episodes", "threshold-table", "card"],
)
def test_every_sub_command_has_help_with_an_example(command):
    outcome = succeed(SCRIPT, command, "--help")
    assert f"bash docker/dev.sh python {SCRIPT} {command}" in outcome.out
