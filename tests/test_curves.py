"""TensorBoard shows what a chapter reads, side by side."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import TINY_OFF_POLICY, TINY_PPO, layouts, shown_by_tensorboard, succeed

from robotics_rl import cli, curves
from robotics_rl.artifacts import RunPaths

SAC = ["--algo", "sac", *TINY_OFF_POLICY, "--total-steps", "1100"]
RUNS = {
    "ppo/FetchReachDense-v4": [*TINY_PPO, "--total-steps", "256"],
    "sac/FetchReachDense-v4": [*SAC, "--env", "FetchReachDense-v4"],
    "sac_her/FetchPush-v4": [*SAC, "--env", "FetchPush-v4", "--her", "--ent-coef", "auto"],
}
READ = {  # by the book
    "ppo/FetchReachDense-v4": (
        "Book chapter 3: PPO",
        {
            *("rollout/ep_rew_mean", "rollout/success_rate", "train/value_loss"),
            *("train/approx_kl", "train/clip_fraction", "train/entropy_loss"),
            "train/policy_gradient_loss",
        },
    ),
    "sac/FetchReachDense-v4": (
        "Book chapter 4: SAC",
        {
            *("rollout/ep_rew_mean", "rollout/success_rate", "replay/ent_coef"),
            *("replay/q_min_mean", "replay/q1_mean", "replay/q2_mean"),
            *("train/actor_loss", "train/critic_loss"),
        },
    ),
    "sac_her/FetchPush-v4": (
        "Book chapter 5: SAC with HER",
        {
            *("rollout/ep_rew_mean", "rollout/success_rate", "rollout/goal_moved_rate"),
            *("train/ent_coef", "train/critic_loss", "train/actor_loss"),
        },
    ),
}


@pytest.mark.parametrize("run", RUNS)
def test_a_tab_of_tensorboard_groups_what_the_chapter_reads(run: str, workdir: Path) -> None:
    succeed("train.py", *RUNS[run])
    assert shown_by_tensorboard(Path("runs", run, "seed0")) == READ[run]


@pytest.mark.parametrize(("track", "n_layouts"), [("tb", 1), ("none", 0)])
def test_a_run_that_goes_on_has_one_layout(track: str, n_layouts: int, workdir: Path) -> None:
    given = {"algo": "ppo", "env": "FetchReachDense-v4", "track": track}
    settings = cli.training_settings(given)
    for done in (0, 128):
        curves.make_logger(settings, done, lambda: 0, 0.0).close()
    assert len(layouts(RunPaths.of(settings).logs)) == n_layouts


def test_what_no_chapter_reads_has_no_tab() -> None:
    settings = cli.training_settings({"algo": "td3", "env": "FetchReach-v4"})
    assert curves.charts_of(settings) == {}
