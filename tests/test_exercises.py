"""What readers find in the book's exercises, in short: the answers that no other test asserts."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from labs.mutation import LABS, Fault, loaded_lab, run_module  # of tests/labs
from support import Outcome, read_strict_json, run_script, succeed

from robotics_rl.curves import read_curves

CH01 = "scripts/ch01_env_anatomy.py"
CH02 = "scripts/ch02_ppo_dense_reach.py"
CH03 = "scripts/ch03_sac_dense_reach.py"
ANATOMY, SAC = LABS / "env_anatomy.py", LABS / "sac_from_scratch.py"
HER, DDPG = LABS / "her_relabeler.py", LABS / "ddpg_her_from_scratch.py"

QUICK = ["--n-envs", "2", "--batch-size", "32", "--no-progress"]
QUICK_PPO = [*QUICK, "--n-steps", "64", "--total-steps", "256"]
QUICK_SAC = [*QUICK, "--learning-starts", "100", "--buffer-size", "2000", "--total-steps", "150"]

# What the exercises of book chapter 4 have the reader edit.
ONE_CRITIC = Fault(
    "exercise 2", "target_q = torch.min(target_q1, target_q2)", "target_q = target_q1"
)
FIXED_ALPHA = Fault("exercise 3", "alpha = log_alpha.exp().item()", "alpha = 0.2")


class Chapters(NamedTuple):
    """A folder in which book chapters 3 and 4 were run whole, in short, and what they printed."""

    root: Path
    ppo: Outcome
    sac: Outcome

    def metadata(self, algo: str) -> dict[str, Any]:
        return read_strict_json(
            self.root / f"checkpoints/{algo}_FetchReachDense-v4_seed0.meta.json"
        )


@pytest.fixture(scope="module")
def chapters(tmp_path_factory: pytest.TempPathFactory) -> Chapters:
    root = tmp_path_factory.mktemp("chapters")
    with contextlib.chdir(root):
        flags = ["--device", "cpu", "--eval-device", "cpu", "--n-eval-episodes", "2"]
        ppo = run_script(CH02, "all", *QUICK_PPO, *flags)
        sac = run_script(CH03, "all", *QUICK_SAC, *flags)
    return Chapters(root, ppo, sac)


# Book chapter 1


def test_ch1_exercise_3_a_hundred_resets_are_finite_and_differ_in_the_goal_alone() -> None:
    with loaded_lab(ANATOMY) as lab:
        with lab.make_env("FetchReachDense-v4") as env:
            resets = [env.reset(seed=seed)[0] for seed in range(100)]
        inspected = lab.obs_inspector(seed=99)
    for key, length in {"observation": 10, "achieved_goal": 3, "desired_goal": 3}.items():
        values = np.array([obs[key] for obs in resets])
        assert values.shape == (100, length)
        assert values.dtype == np.float64
        assert np.isfinite(values).all()
        assert inspected[key]["min"] == values[99].min()
        assert inspected[key]["max"] == values[99].max()
        n_different = len(np.unique(values.round(6), axis=0))
        assert n_different == (100 if key == "desired_goal" else 1), key
    goals = np.array([obs["desired_goal"] for obs in resets])
    # The book's 0.42 to 0.60 m for z are too narrow: it is the gripper's 0.53 m ± 0.15 m.
    assert np.all((goals > [1.05, 0.40, 0.38]) & (goals < [1.55, 1.10, 0.69]))
    assert np.all(np.ptp(goals, axis=0) > 0.25)
    assert np.abs(resets[0]["observation"][5:]).max() < 0.1  # velocities, metres per step


def test_ch1_exercise_4_an_env_with_another_threshold_counts_what_the_table_counts() -> None:
    seeds, own = range(10, 15), {}  # three of these episodes end between 0.05 and 0.10 m
    out = succeed(CH01, "threshold-table", "--seed", "10", "--n-episodes", "5").out
    table = {float(t): float(r) for t, r in re.findall(r"^ +(0\.\d+) m +(\d\.\d+)", out, re.M)}
    with loaded_lab(ANATOMY) as lab, lab.make_env("FetchReachDense-v4") as env:
        assert env.unwrapped.distance_threshold == 0.05
        for threshold in (0.01, 0.05, 0.10):
            env.unwrapped.distance_threshold = threshold
            ends = [list(lab.rollout(env, 50, seed))[-1] for seed in seeds]
            own[threshold] = sum(info["is_success"] == 1.0 for _, _, info in ends) / len(seeds)
    assert own == {0.01: 0.0, 0.05: 0.0, 0.10: 0.6}
    assert own.items() <= table.items()


# Book chapter 2


def test_ch2_exercise_2_random_actions_cost_fifty_sparse_and_a_fifth_of_it_dense(
    workdir: Path,
) -> None:
    returns = {}
    for env_id in ("FetchReachDense-v4", "FetchReach-v4"):
        flags = ["--env-id", env_id, "--n-episodes", "5", "--random-out", f"{env_id}.json"]
        succeed(CH01, "random-episodes", *flags)
        returns[env_id] = read_strict_json(workdir / f"{env_id}.json")["aggregate"]["return_mean"]
    assert -50 <= returns["FetchReach-v4"] < -45
    # The book's -25 to -10 is what the worst third of the episodes comes to.
    assert -15 < returns["FetchReachDense-v4"] < -5


# Book chapter 3


def test_ch3_exercise_1_time_and_steps_per_second_are_printed_and_kept(chapters: Chapters) -> None:
    training = chapters.metadata("ppo")["training"]
    printed = re.search(
        r"^trained 256 steps in \d+:\d\d \(([\d,]+) steps/s\)$", chapters.ppo.out, re.M
    )
    assert printed is not None
    assert printed[1] == f"{training['steps_per_second']:,.0f}"
    assert min(training["steps_per_second"], training["wall_seconds"]) > 0
    with contextlib.chdir(chapters.root):
        assert f"256 steps ({printed[1]} steps/s" in succeed(CH02, "card").out


def test_ch3_exercise_3_a_wider_clip_range_clips_less_and_moves_the_policy_further(
    workdir: Path,
) -> None:
    rows: list[dict[str, Any]] = []
    for clip_range in ("0.1", "0.2", "0.4"):
        tag = f"clip{clip_range}"
        succeed(CH02, "train", *QUICK_PPO, "--clip-range", clip_range, "--run-tag", tag)
        curve = workdir / "runs" / tag / "ppo/FetchReachDense-v4/seed0/curves.csv"
        rows += read_curves(curve)[-1:]
    columns = ("approx_kl", "clip_fraction", "success_rate")
    (divergences, clipped, successes) = ([row[column] for row in rows] for column in columns)
    assert 0 < 2 * divergences[0] < divergences[1] < divergences[2] / 2
    assert 1 > clipped[0] > clipped[1] > clipped[2] > 0
    assert None not in successes


def test_ch3_exercise_4_the_evaluation_tells_its_time_speed_and_device(chapters: Chapters) -> None:
    path = chapters.root / "results/ch02_ppo_fetchreachdense-v4_seed0_eval.json"
    result = read_strict_json(path)
    seconds, speed = result["wall_seconds"], result["steps_per_second"]
    assert 100 / speed == pytest.approx(seconds, abs=0.006)  # two episodes of 50 steps
    assert re.search(rf"^  time +{seconds:.1f} s \({speed:,.0f} steps/s\)$", chapters.ppo.out, re.M)
    assert result["device"] == chapters.metadata("ppo")["device"] == "cpu"


# Book chapter 4


def test_ch4_exercise_1_the_speed_of_sac_stands_beside_that_of_ppo(chapters: Chapters) -> None:
    speeds = [chapters.metadata(algo)["training"]["steps_per_second"] for algo in ("ppo", "sac")]
    (row,) = re.findall(r"^ *steps per second +(\S+) +(\S+)$", chapters.sac.out, re.M)
    assert row == tuple(f"{speed:,.0f}" for speed in speeds)


def test_ch4_exercise_2_one_critic_in_place_of_the_lower_one_raises_q1_mean() -> None:
    with loaded_lab(SAC) as lab:
        usual, by_flag = q1_mean(lab), short_curve(lab, single_q=True)
    with loaded_lab(SAC, ONE_CRITIC) as edited:
        assert q1_mean(edited) > usual + 0.01
        assert short_curve(edited) == by_flag


def test_ch4_exercise_3_the_flag_fixes_alpha_as_the_edit_does() -> None:
    with loaded_lab(SAC) as lab:
        automatic, by_flag = short_curve(lab), short_curve(lab, fixed_alpha=0.2)
    with loaded_lab(SAC, FIXED_ALPHA) as edited:
        by_edit = short_curve(edited)
    for column in ("return", "gap"):  # after the edit the lab still prints the alpha it would learn
        fixed, same, other = (curve[-1][column] for curve in (by_flag, by_edit, automatic))
        assert fixed == pytest.approx(same, rel=1e-5)
        assert fixed != pytest.approx(other, rel=1e-3)
    assert by_flag[-1]["alpha"] == pytest.approx(0.2)


@pytest.fixture
def float32_afterwards() -> Iterator[None]:
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("float32_afterwards")
def test_ch4_exercise_4_the_critics_of_twenty_updates_stay_as_close_as_verify_says() -> None:
    with loaded_lab(SAC) as lab:
        printed = run_module(lab, "--verify").output  # which leaves float64 behind
        torch.manual_seed(0)  # as --verify does before its updates
        learner = lab.make_learner(10, 4)
        infos = [lab.sac_update(*learner, lab.random_batch(), -4.0) for _ in range(20)]
    gaps = [abs(info["q1_mean"] - info["q2_mean"]) for info in infos]
    (largest,) = re.findall(r"^\|q1_mean - q2_mean\|, largest: (\S+),", printed, re.M)
    assert largest == f"{max(gaps):.5g}"
    assert 0 < min(gaps) <= max(gaps) < 0.5


def test_ch4_exercise_5_the_lower_the_target_entropy_the_sooner_alpha_falls() -> None:
    alphas = []
    with loaded_lab(SAC) as lab:
        lab.WARMUP, lab.BATCH_SIZE = 200, 32
        lab.LEARNING_RATE = 1e-2  # of alpha too: 200 updates tell what else takes thousands
        for target_entropy in (-0.5, -1.0, -2.0):
            found = lab.learn(0, lab.Settings(steps=400, target_entropy=target_entropy))
            alphas.append(found["final_alpha"])
            assert found["final_return"] < -200
            assert found["steps_to_solved"] is None
    assert 1 > alphas[0] > 1.05 * alphas[1] > 1.05**2 * alphas[2] > 0


def q1_mean(lab: ModuleType) -> float:
    """What the first critic thinks after 60 updates on made-up steps, always the same."""
    torch.manual_seed(0)
    learner = lab.make_learner(10, 4)
    return float(
        [lab.sac_update(*learner, lab.random_batch(), -4.0) for _ in range(60)][-1]["q1_mean"]
    )


def short_curve(lab: ModuleType, **settings: Any) -> list[dict[str, float]]:
    """The curve of three episodes of the demo, of which the last is learned from."""
    lab.WARMUP, lab.BATCH_SIZE = 400, 8
    curve: list[dict[str, float]] = lab.learn(0, lab.Settings(steps=600, **settings))["curve"]
    return curve


# Book chapter 5


def test_ch5_exercise_4_relabelled_goals_are_near_and_those_within_5_cm_succeed() -> None:
    with loaded_lab(HER) as lab:
        episodes = [lab.create_synthetic_episode() for _ in range(10)]
        stored = [lab.process_episode_with_her(each, lab.sparse_reward) for each in episodes]
        before = [lab.compute_success_fraction(each.transitions) for each in episodes]
        after = [lab.compute_success_fraction(each) for each in stored]
    assert before == [0.0] * 10
    assert 3.9 < sum(map(len, stored)) / 500 < 4.5
    for fraction, steps in zip(after, stored, strict=True):
        assert 3.2 < len(steps) / 50 < 5
        distances = np.array([np.linalg.norm(s.achieved_goal - s.desired_goal) for s in steps])
        assert fraction == np.mean(distances <= 0.05) > 0.1
        assert np.sum(distances > 10) == 50  # the episode's own goal, 12 m away
        assert np.sum(distances < 1) == len(steps) - 50


def test_ch5_exercises_2_3_and_5_no_hindsight_no_successes_and_future_goals_bring_most() -> None:
    rng = np.random.default_rng(0)
    with loaded_lab(DDPG) as lab:
        env = lab.PointReachGoalEnv(seed=0)
        episodes = [lab.play(env, lambda _: rng.uniform(-1, 1, 2)) for _ in range(20)]

        def successes(k: int, strategy: str) -> float:
            buffer = lab.HindsightReplayBuffer(lab.HERConfig(k, strategy), env.compute_reward)
            for episode in episodes:
                buffer.add(episode)
            rewards = buffer.sample(4000, rng)[3]
            return float((rewards == 0).float().mean())

        shares = [successes(k, "future") for k in (0, 1, 4, 16)]
        final = successes(4, "final")
    assert shares[0] < 0.01  # random actions alone: nothing to learn from
    assert shares == sorted(shares)
    assert shares[1] > 0.05
    assert shares[3] - shares[2] < shares[2] - shares[1]
    assert 0.01 < final < shares[2] / 2
