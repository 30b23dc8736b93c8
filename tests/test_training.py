"""What a training writes, what it counts, and that it repeats itself."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any
from unittest import mock

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from support import (
    PPO_NAME,
    SAC_HER_NAME,
    TINY_OFF_POLICY,
    TINY_PPO,
    TINY_SAC_HER,
    Trained,
    assert_equal_weights,
    edit_json,
    have_equal_weights,
    read_strict_json,
    succeed,
    tensors,
    tree,
)
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from robotics_rl import artifacts, cli, envs, options
from robotics_rl.curves import read_curves
from robotics_rl.envs.resumable_vec_env import training_seeds
from robotics_rl.replay.episodes import EpisodeStore
from robotics_rl.training import train

METADATA = {
    "schema",
    "algo",
    "env_id",
    "seed",
    "total_steps",
    "steps_done",
    "her",
    "hyperparameters",
    "engine",
    "recipe",
    "env_steps",
    "gradient_steps",
    "update_to_data",
    "device",
    "device_name",
    "created_at",
    "command",
    "git",
    "versions",
    "platform",
    "training",
    "checkpoint_sha256",
}
VERSIONS = {
    "python",
    "torch",
    "cuda",
    "gymnasium",
    "gymnasium_robotics",
    "mujoco",
    "stable_baselines3",
    "numpy",
}
HYPERPARAMETERS = {
    "ppo": "n_envs batch_size learning_rate gamma ent_coef n_steps n_epochs clip_range gae_lambda "
    "net_arch vf_coef max_grad_norm normalize_advantage activation policy",
    "sac": "n_envs batch_size learning_rate gamma ent_coef buffer_size learning_starts tau "
    "gradient_steps train_freq n_sampled_goal goal_selection_strategy net_arch target_entropy "
    "activation policy trivial_goal_keep normalize_observations random_action_prob "
    "deterministic_engine bf16 policy_delay target_entropy_resolved",
}


def test_ppo_writes_exactly_the_artifacts_of_the_contract(trained_ppo: Trained) -> None:
    _assert_artifacts(trained_ppo, "ppo/FetchReachDense-v4/seed0")


def test_sac_her_writes_exactly_the_artifacts_of_the_contract(trained_sac_her: Trained) -> None:
    _assert_artifacts(trained_sac_her, "sac_her/FetchPush-v4/seed0")


def _assert_artifacts(trained: Trained, logs: str) -> None:
    files = {name for name, sha in tree(trained.root).items() if sha != "folder"}
    folders = {name for name, sha in tree(trained.root).items() if sha == "folder"}
    events = {name for name in files if "events.out.tfevents" in name}
    assert files - events == {
        f"checkpoints/{trained.name}.zip",
        f"checkpoints/{trained.name}.meta.json",
        f"runs/{logs}/curves.csv",
    }
    assert len(events) == 1
    assert Path(*events).parent == Path("runs", logs)
    run, env, seed = logs.split("/")
    assert folders == {
        "checkpoints", "runs", f"runs/{run}", f"runs/{run}/{env}", f"runs/{run}/{env}/{seed}"
    }  # fmt: skip


def test_nothing_but_curves_is_tracked_when_tracking_is_off(workdir: Path) -> None:
    succeed("train.py", *TINY_PPO, "--track", "none")
    assert [path.name for path in (workdir / "runs/ppo/FetchReachDense-v4/seed0").iterdir()] == [
        "curves.csv"
    ]


@pytest.mark.parametrize("algo", ["ppo", "sac"])
def test_metadata_is_complete_strict_json(
    algo: str, trained_ppo: Trained, trained_sac_her: Trained
) -> None:
    trained = trained_ppo if algo == "ppo" else trained_sac_her
    document = read_strict_json(trained.metadata)
    assert document.keys() >= METADATA
    assert document["schema"] == "meta/1"
    assert document["algo"] == algo
    assert document["her"] is (algo == "sac")
    assert document["versions"].keys() >= VERSIONS
    assert document["git"].keys() == {"commit", "dirty"}
    assert document["hyperparameters"].keys() == set(HYPERPARAMETERS[algo].split())
    assert document["hyperparameters"]["net_arch"] == [16]
    training = document["training"]
    assert training.keys() == {"wall_seconds", "steps_per_second", "final_success_rate"}
    speed = document["steps_done"] / training["wall_seconds"]
    assert training["steps_per_second"] == pytest.approx(speed, rel=0.1)
    assert document["checkpoint_sha256"] == artifacts.sha256_of(trained.checkpoint)
    assert document["created_at"].endswith("+00:00")
    assert document["command"][0] == "python"
    assert document["command"][1].endswith("train.py")
    assert document["command"][2:] == (TINY_PPO if algo == "ppo" else TINY_SAC_HER)
    text = trained.metadata.read_text(encoding="utf-8")
    assert text == artifacts.to_json(document), "sorted keys, 2 spaces, a newline at the end"


def test_ppo_counts_every_optimizer_step(trained_ppo: Trained) -> None:
    document = read_strict_json(trained_ppo.metadata)
    assert document["env_steps"] == document["steps_done"] == 64
    assert document["gradient_steps"] == 64 // 32 * 2  # minibatches × epochs
    assert document["gradient_steps"] == _adam_steps(trained_ppo.checkpoint, "policy.optimizer")
    assert document["update_to_data"] == 4 / 64


def test_sac_counts_every_optimizer_step(trained_sac_her: Trained) -> None:
    document = read_strict_json(trained_sac_her.metadata)
    assert document["env_steps"] == document["steps_done"] == 150
    assert document["gradient_steps"] == 25  # one per 2 steps, from step 102 on
    assert document["update_to_data"] == 25 / 150


@pytest.mark.parametrize("engine", ["sb3", "fast"])
def test_optimizers_take_the_steps_that_are_counted(workdir: Path, engine: str) -> None:
    with mock.patch.object(torch.optim.Adam, "step") as step:
        succeed("train.py", *TINY_SAC_HER, "--ent-coef", "0.1", "--engine", engine)
    document = read_strict_json(Path("checkpoints", f"{SAC_HER_NAME}.meta.json"))
    assert document["gradient_steps"] == 25
    assert step.call_count == 2 * 25, "one of the actor's, one of the critics'"


def test_update_to_data_of_one_means_one_gradient_step_per_step(workdir: Path) -> None:
    succeed("train.py", *TINY_SAC_HER, "--gradient-steps", "-1")
    document = read_strict_json(Path("checkpoints", f"{SAC_HER_NAME}.meta.json"))
    assert document["gradient_steps"] == 50


def _adam_steps(checkpoint: Path, optimizer: str) -> int:
    state = tensors(checkpoint, f"{optimizer}.pth")["state"]
    (steps,) = {int(moments["step"]) for moments in state.values()}
    return steps


def test_curve_tells_steps_updates_and_losses(trained_sac_her: Trained) -> None:
    (row,) = read_curves(trained_sac_her.root / "runs/sac_her/FetchPush-v4/seed0/curves.csv")
    assert row["env_steps"] == 150
    assert row["gradient_steps"] == 25
    told = ("critic_loss", "actor_loss", "ent_coef", "goal_moved_rate")
    assert all(row[name] is not None for name in told)
    assert row["ep_rew_mean"] == -50 or (row["success_rate"] or 0) > 0


def test_what_monitor_keywords_name_is_logged(workdir: Path) -> None:
    flags = ["--algo", "sac", "--env", "Reacher-v5", *TINY_OFF_POLICY, "--total-steps", "450"]
    flags += ["--monitor-keywords", "is_success,reward_dist"]
    outcome = succeed("train.py", *flags)
    assert outcome.out.count("engine sb3: fast serves the Fetch tasks") == 1
    events = EventAccumulator("runs/sac/Reacher-v5/seed0")
    events.Reload()
    logged = [event.value for event in events.Scalars("rollout/reward_dist")]
    assert logged
    assert all(-2 < value < 0 for value in logged), "the mean of distances"


def test_run_that_ends_with_an_episode_has_one_row_per_step_count(workdir: Path) -> None:
    succeed("train.py", *TINY_SAC_HER, "--total-steps", "400", "--learning-starts", "390")
    rows = read_curves(Path("runs/sac_her/FetchPush-v4/seed0/curves.csv"))
    assert [row["env_steps"] for row in rows] == [400]  # logged by the episode and at the end


def test_gradient_steps_move_the_weights(workdir: Path, trained_sac_her: Trained) -> None:
    outcome = succeed("train.py", *TINY_SAC_HER, "--learning-starts", "150")
    assert "WARN: 150 steps end before learning starts" in outcome.out
    assert "engine sb3" not in outcome.out
    document = read_strict_json(Path("checkpoints", f"{SAC_HER_NAME}.meta.json"))
    assert document["gradient_steps"] == 0
    assert document["update_to_data"] == 0
    untrained = Path("checkpoints", f"{SAC_HER_NAME}.zip")
    before, after = tensors(untrained), tensors(trained_sac_her.checkpoint)
    assert all((before[name] != after[name]).any() for name in before if "weight" in name)


OFF_POLICY = ["--env", "FetchReach-v4", *TINY_OFF_POLICY, "--total-steps", "120"]


@pytest.mark.parametrize(
    "arguments",
    [
        TINY_PPO,
        *(
            ["--algo", algo, *her, *OFF_POLICY]
            for algo in ("sac", "td3", "ddpg")
            for her in ([], ["--her"])
        ),
    ],
    ids=lambda arguments: "-".join(word for word in arguments[1:3] if word != "--env"),
)
def test_same_seed_gives_equal_weights_and_another_seed_does_not(
    workdir: Path, arguments: list[str]
) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        succeed("train.py", *arguments, "--seed", str(seed), "--out", f"{name}.zip")
    assert_equal_weights(Path("a.zip"), Path("b.zip"))
    assert not have_equal_weights(Path("a.zip"), Path("c.zip"))


def test_ppo_learns_the_same_on_both_engines(workdir: Path) -> None:
    for engine in ("fast", "sb3"):
        succeed("train.py", *TINY_PPO, "--total-steps", "192", "--engine", engine, "--out", engine)
    assert_equal_weights(Path("fast.zip"), Path("sb3.zip"))


def test_training_environments_never_see_the_seeds_of_evaluation(workdir: Path) -> None:
    seen: list[int | None] = []

    class Listening(gym.Wrapper[Any, Any, Any, Any]):
        def reset(self, *, seed: int | None = None, **kwargs: Any) -> Any:
            seen.append(seed)
            return super().reset(seed=seed, **kwargs)

    def listening(env_id: str, **kwargs: Any) -> envs.Env:
        return Listening(envs.make_env(env_id, **kwargs))

    train(cli.parse_train([*TINY_PPO, "--engine", "sb3"]), listening)
    given = [seed for seed in seen if seed is not None]
    assert len(given) == 2
    assert min(given) > 1_000_000  # no list of reset seeds reaches this far
    assert given == training_seeds(0, 2)[:2]


def test_training_seeds_share_no_random_stream() -> None:
    streams = [training_seeds(seed, 16) for seed in range(20)]
    flat = [stream for row in streams for stream in row]
    assert len(set(flat)) == len(flat) == 20 * 17
    assert not set(flat) & set(range(100_000))


def test_goals_of_training_are_not_those_of_evaluation() -> None:
    env = envs.make_env("FetchReach-v4")
    goals = {tuple(env.reset(seed=seed)[0]["desired_goal"]) for seed in range(100)}
    for seed in training_seeds(0, 8):
        assert tuple(env.reset(seed=seed)[0]["desired_goal"]) not in goals


def test_fewer_steps_than_a_rollout_are_rounded_up_and_said(workdir: Path) -> None:
    outcome = succeed("train.py", *TINY_PPO, "--total-steps", "10")
    assert "rounding 10 steps up to 64" in outcome.out
    document = read_strict_json(Path("checkpoints", f"{PPO_NAME}.meta.json"))
    assert document["total_steps"] == 10
    assert document["steps_done"] == document["env_steps"] == 64


@pytest.mark.parametrize(
    ("flags", "headline"),
    [
        (
            TINY_PPO,
            "ppo on FetchReachDense-v4: engine fast, recipe book, 2 environments, cpu",
        ),
        (
            [*TINY_SAC_HER, "--engine", "sb3", "--n-envs", "1"],
            "sac with HER on FetchPush-v4: engine sb3, recipe book, 1 environment, cpu",
        ),
    ],
)
def test_training_begins_by_saying_what_it_uses(
    flags: list[str], headline: str, workdir: Path
) -> None:
    outcome = succeed("train.py", *flags, "--device", "cpu")
    assert outcome.out.splitlines()[0] == headline


def test_checkpoint_of_other_settings_moves_aside(workdir: Path, trained_ppo: Trained) -> None:
    old = trained_ppo.copy_to(workdir)
    sha = artifacts.sha256_of(old.checkpoint)
    outcome = succeed("train.py", *TINY_PPO, "--gamma", "0.9")
    assert "made with other settings: it went to checkpoints/previous" in outcome.out
    kept = sorted((workdir / "checkpoints/previous").iterdir())
    assert [path.name.split("_")[:3] for path in kept] == [PPO_NAME.split("_")] * 2
    metadata, checkpoint = kept
    assert artifacts.sha256_of(checkpoint) == sha
    assert read_strict_json(metadata)["checkpoint_sha256"] == sha
    assert artifacts.metadata_path(checkpoint) == metadata, "the pair still belongs together"
    new = read_strict_json(old.metadata)
    assert new["hyperparameters"]["gamma"] == 0.9
    assert new["checkpoint_sha256"] == artifacts.sha256_of(old.checkpoint) != sha


def test_checkpoint_of_equal_settings_is_replaced(workdir: Path, trained_ppo: Trained) -> None:
    trained_ppo.copy_to(workdir)
    succeed("train.py", *TINY_PPO)
    assert not (workdir / "checkpoints/previous").exists()


@pytest.mark.parametrize("damage", ["", '{"schema": "meta/1", "algo": "ppo"', "[]"])
def test_checkpoint_with_unreadable_metadata_moves_aside(
    workdir: Path, trained_ppo: Trained, damage: str
) -> None:
    old = trained_ppo.copy_to(workdir)
    sha = artifacts.sha256_of(old.checkpoint)
    old.metadata.write_text(damage)
    succeed("train.py", *TINY_PPO)
    kept = sorted((workdir / "checkpoints/previous").iterdir())
    assert [artifacts.sha256_of(path) for path in kept if path.suffix == ".zip"] == [sha]
    assert [path.read_text() for path in kept if path.suffix == ".json"] == [damage]


def test_curves_of_an_earlier_run_move_aside(workdir: Path, trained_ppo: Trained) -> None:
    trained_ppo.copy_to(workdir)
    logs = workdir / "runs/ppo/FetchReachDense-v4"
    old = tree(logs / "seed0")
    assert len(old) == 2
    ended = "2026-01-02T03:04:05+00:00"
    edit_json(workdir / "checkpoints" / f"{PPO_NAME}.meta.json", created_at=ended)
    outcome = succeed("train.py", *TINY_PPO, "--gamma", "0.9")
    assert "the curves of an earlier run went to" in outcome.out
    (kept,) = (logs / "previous").iterdir()
    assert kept.name == "seed0_20260102T030405Z"
    assert (workdir / "checkpoints/previous" / f"{PPO_NAME}_20260102T030405Z.zip").exists()
    assert tree(kept) == old
    assert len(tree(logs / "seed0")) == 2
    assert not tree(logs / "seed0").keys() & {name for name in old if "events" in name}


def test_run_tag_is_a_sub_folder_of_every_root(workdir: Path) -> None:
    succeed("train.py", *TINY_PPO, "--run-tag", "fastpath")
    assert Path("checkpoints/fastpath", f"{PPO_NAME}.zip").exists()
    assert Path("checkpoints/fastpath", f"{PPO_NAME}.meta.json").exists()
    assert Path("runs/fastpath/ppo/FetchReachDense-v4/seed0/curves.csv").exists()
    checkpoint = f"checkpoints/fastpath/{PPO_NAME}.zip"
    succeed("eval.py", "--ckpt", checkpoint, "--n-episodes", "1")
    assert Path("results/fastpath/ppo_fetchreachdense-v4_seed0_eval.json").exists()
    assert {path.name for path in workdir.iterdir()} == {"checkpoints", "runs", "results"}


def test_roots_can_be_moved(workdir: Path) -> None:
    succeed("train.py", *TINY_PPO, "--checkpoints-dir", "a", "--log-dir", "b")
    assert {path.name for path in workdir.iterdir()} == {"a", "b"}


@pytest.mark.parametrize("out", ["elsewhere/policy", "elsewhere/policy.zip"])
def test_out_names_the_checkpoint(workdir: Path, out: str) -> None:
    succeed("train.py", *TINY_PPO, "--out", out)
    files = {path.name for path in Path("elsewhere").iterdir()}
    assert files == {"policy.zip", "policy.meta.json"}
    assert not Path("checkpoints").exists()


def test_entropy_coefficient_may_be_fixed(workdir: Path) -> None:
    succeed("train.py", *TINY_SAC_HER, "--ent-coef", "0.3")
    document = read_strict_json(Path("checkpoints", f"{SAC_HER_NAME}.meta.json"))
    assert document["hyperparameters"]["ent_coef"] == 0.3
    (row,) = read_curves(Path("runs/sac_her/FetchPush-v4/seed0/curves.csv"))
    assert row["ent_coef"] == pytest.approx(0.3)


def test_her_relabels_rewards(workdir: Path) -> None:
    """With HER the critic sees successes that never happened, so it learns something else."""
    without = [argument for argument in TINY_SAC_HER if argument != "--her"]
    succeed("train.py", *TINY_SAC_HER, "--out", "with")
    succeed("train.py", *without, "--out", "without")
    assert not have_equal_weights(Path("with.zip"), Path("without.zip"))


def test_smallest_buffer_that_her_accepts_never_runs_out_of_whole_episodes(workdir: Path) -> None:
    arguments = [*TINY_SAC_HER, "--buffer-size", "200", "--total-steps", "440"]
    succeed("train.py", *arguments)  # 2 environments, each with room for 2 of its 4 episodes
    document = read_strict_json(Path("checkpoints", f"{SAC_HER_NAME}.meta.json"))
    assert document["gradient_steps"] == 170


def test_command_line_values_reach_the_algorithm(workdir: Path) -> None:
    flags = {
        "n_steps": "16", "n_epochs": "3", "clip_range": "0.3", "gae_lambda": "0.8",
        "gamma": "0.5", "learning_rate": "0.01", "ent_coef": "0.02", "batch_size": "8",
    }  # fmt: skip
    given = [part for name, value in flags.items() for part in (options.flag_of(name), value)]
    succeed("train.py", *TINY_PPO, *given)
    model = PPO.load(Path("checkpoints", f"{PPO_NAME}.zip"))
    assert model.clip_range(1.0) == 0.3
    for name in set(flags) - {"clip_range"}:
        assert getattr(model, name) == float(flags[name]), name
    assert [layer.out_features for layer in model.policy.mlp_extractor.policy_net[::2]] == [16]
    assert math.isclose(model.lr_schedule(1.0), 0.01)
    assert np.isfinite(model.predict(model.observation_space.sample())[0]).all()


def test_what_the_replay_keeps_on_disk_is_let_go_of(workdir: Path) -> None:
    with mock.patch.object(EpisodeStore, "close", autospec=True) as close:
        succeed("train.py", *TINY_SAC_HER)
    close.assert_called_once()
