"""A training that is stopped, by a signal or by ``kill -9``, goes on as if it never was."""

from __future__ import annotations

import contextlib
import pickle
import random
import signal
import subprocess
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3
import torch
from support import (
    PPO_NAME,
    TINY,
    TINY_OFF_POLICY,
    TINY_PPO,
    assert_equal_weights,
    read_strict_json,
    run_script,
    start,
    succeed,
    tree,
)

from robotics_rl import cli, envs, training_state
from robotics_rl.curves import read_curves
from robotics_rl.envs.fetch_vec_env import FetchVecEnv
from robotics_rl.envs.resumable_vec_env import ResumableVecEnv, make_vec_env
from robotics_rl.errors import Interrupted, UsageError
from robotics_rl.training import train

PPO = ["--algo", "ppo", "--env", "FetchPush-v4", *TINY, "--n-steps", "32", "--batch-size", "32"]
PPO += ["--n-epochs", "2", "--total-steps", "1024"]
SAC_HER = ["--algo", "sac", "--her", "--env", "FetchPush-v4", *TINY_OFF_POLICY]
SAC_HER += ["--total-steps", "900"]
TD3 = ["--algo", "td3", "--env", "FetchReach-v4", *TINY_OFF_POLICY]


class Run(NamedTuple):
    """A training and where its artifacts lie."""

    arguments: list[str]
    name: str
    curves: Path

    @property
    def checkpoint(self) -> Path:
        return Path("checkpoints", f"{self.name}.zip")

    @property
    def metadata(self) -> Path:
        return Path("checkpoints", f"{self.name}.meta.json")

    @property
    def state(self) -> Path:
        return Path("checkpoints", f"{self.name}.resume", "state.pt")


_PPO_CURVES = Path("runs/ppo/FetchPush-v4/seed0/curves.csv")
_SAC_HER_CURVES = Path("runs/sac_her/FetchPush-v4/seed0/curves.csv")
ON_SB3 = ["--engine", "sb3"]
RUNS = {
    "ppo": Run(PPO, "ppo_FetchPush-v4_seed0", _PPO_CURVES),
    "ppo sb3": Run([*PPO, *ON_SB3], "ppo_FetchPush-v4_seed0", _PPO_CURVES),
    "sac_her": Run(SAC_HER, "sac_her_FetchPush-v4_seed0", _SAC_HER_CURVES),
    "sac_her sb3": Run([*SAC_HER, *ON_SB3], "sac_her_FetchPush-v4_seed0", _SAC_HER_CURVES),
}


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders in which each run went through at once."""
    folders = {}
    for name, run in RUNS.items():
        folders[name] = tmp_path_factory.mktemp(f"uninterrupted_{name}")
        with contextlib.chdir(folders[name]):
            succeed("train.py", *run.arguments)
    return folders


def _wait_until(happened: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.002)


def _rows(path: Path) -> int:
    return len(path.read_text().splitlines()) - 1 if path.exists() else 0


def _assert_finished_like(run: Run, whole: Path) -> None:
    """Weights, counters and curve are those of the run that was never stopped."""
    assert not run.state.parent.exists()
    assert_equal_weights(run.checkpoint, whole / run.checkpoint)
    ours, theirs = read_strict_json(run.metadata), read_strict_json(whole / run.metadata)
    for key in ("env_steps", "steps_done", "gradient_steps", "hyperparameters"):
        assert ours[key] == theirs[key], key
    curve, expected = read_curves(run.curves), read_curves(whole / run.curves)
    steps = [row["env_steps"] or 0 for row in curve]
    assert all(earlier < later for earlier, later in pairwise(steps))
    seconds = [row["wall_seconds"] or 0 for row in curve]
    assert seconds == sorted(seconds)
    # Both are rounded, and their clocks start a moment apart.
    assert ours["training"]["wall_seconds"] >= seconds[-1] - 0.05, "the whole run's time"
    for row in (*curve, *expected):
        del row["wall_seconds"]
    assert curve == expected


@pytest.mark.parametrize(
    ("name", "number", "code"),
    [
        ("ppo", signal.SIGINT, 130),
        ("sac_her", signal.SIGTERM, 143),
        pytest.param("ppo", signal.SIGTERM, 143, marks=pytest.mark.slow),
        pytest.param("ppo sb3", signal.SIGTERM, 143, marks=pytest.mark.slow),
        pytest.param("sac_her", signal.SIGINT, 130, marks=pytest.mark.slow),
        pytest.param("sac_her sb3", signal.SIGINT, 130, marks=pytest.mark.slow),
    ],
)
def test_run_stopped_by_a_signal_resumes_to_bit_identical_weights(
    workdir: Path, uninterrupted: dict[str, Path], name: str, number: int, code: int
) -> None:
    run = RUNS[name]
    process = start("train.py", *run.arguments)
    _wait_until(lambda: _rows(run.curves) >= 1, process)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "--resume goes on" in err
    assert "Traceback" not in err
    assert not run.checkpoint.exists()
    assert [path.name for path in run.state.parent.iterdir()] == ["state.pt"]
    outcome = succeed("train.py", *run.arguments, "--resume")
    assert "resuming at" in outcome.out
    _assert_finished_like(run, uninterrupted[name])


class Stopping(gym.Wrapper[Any, Any, Any, Any]):
    """Sends this process a signal at one step of one environment."""

    remaining = 0

    def step(self, action: Any) -> Any:
        Stopping.remaining -= 1
        if Stopping.remaining == 0:
            signal.raise_signal(signal.SIGINT)
        return super().step(action)


def _stopping(env_id: str, **kwargs: Any) -> envs.Env:
    return Stopping(envs.make_env(env_id, **kwargs))


def _stop(arguments: list[str], env_steps: int) -> None:
    """Train and be asked to stop at one step: on the engine fast while all environments step."""
    settings = cli.parse_train(arguments)
    if settings.run.engine == "sb3":
        Stopping.remaining = env_steps
        with pytest.raises(Interrupted):
            train(settings, _stopping)
        Stopping.remaining = 0
        return
    steps = iter(range(-(-env_steps // settings.run.n_envs), 0, -1))

    def step_async(venv: FetchVecEnv, actions: Any) -> None:
        original(venv, actions)
        if next(steps, None) == 1:
            signal.raise_signal(signal.SIGINT)

    original = FetchVecEnv.step_async
    with (
        pytest.raises(Interrupted),
        mock.patch.object(FetchVecEnv, "step_async", step_async),
    ):
        train(settings)


SHORT = {
    "ppo": [*PPO, "--total-steps", "320"],
    "sac_her": [*SAC_HER, "--total-steps", "300"],
    "td3": [*TD3, "--total-steps", "200"],
    "full replay": [*TD3, "--total-steps", "700", "--buffer-size", "250", "--her"],
    "ddpg": [*TD3, "--algo", "ddpg", "--total-steps", "200"],
}
for _mode in ("adaptive", "schedule"):
    SHORT[_mode] = [*SHORT["sac_her"], "--ent-coef", _mode, "--ent-coef-check-freq", "30"]
SHORT["adaptive"] += ["--ent-coef-adaptive-start", "0.05"]
SHORT["auto-floor"] = [*SHORT["sac_her"], "--ent-coef", "auto-floor", "--ent-coef-min", "0.99"]
for _name in ("ppo", "sac_her", "td3", "full replay", "adaptive"):
    SHORT[f"{_name} sb3"] = [*SHORT[_name], *ON_SB3]


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        pytest.param("ppo", [130, 70], id="ppo-twice"),
        pytest.param("ppo sb3", [5], id="ppo sb3-first rollout"),
        pytest.param("ppo sb3", [130, 70], id="ppo sb3-twice"),
        pytest.param("sac_her", [1], id="sac_her-first step"),
        pytest.param("sac_her", [60], id="sac_her-before learning starts"),
        pytest.param("sac_her", [100], id="sac_her-end of the first episodes"),
        pytest.param("sac_her", [131, 100, 20], id="sac_her-three times"),
        pytest.param("sac_her sb3", [1], id="sac_her sb3-first step"),
        pytest.param("sac_her sb3", [131, 100, 20], id="sac_her sb3-three times"),
        pytest.param("adaptive", [185], id="adaptive-between two moves of α"),
        pytest.param("adaptive", [180], id="adaptive-at a move of α"),
        pytest.param("adaptive sb3", [180], id="adaptive sb3-at a move of α"),
        pytest.param("schedule", [185], id="schedule"),
        pytest.param("auto-floor", [200], id="auto-floor"),
        pytest.param("td3", [121], id="td3"),
        pytest.param("td3 sb3", [121], id="td3 sb3"),
        pytest.param("ddpg", [121], id="ddpg"),
        pytest.param("full replay", [650], id="replay wrapped around"),
        pytest.param("full replay sb3", [650], id="sb3-replay wrapped around"),
    ],
)
def test_run_stopped_at_any_step_resumes_to_bit_identical_weights(
    workdir: Path, name: str, steps: list[int]
) -> None:
    for index, count in enumerate(steps):
        again = ["--resume"] if index else []
        _stop([*SHORT[name], "--out", "stopped.zip", *again], count)
    succeed("train.py", *SHORT[name], "--out", "stopped.zip", "--resume")
    succeed("train.py", *SHORT[name], "--out", "whole.zip")
    assert_equal_weights(Path("stopped.zip"), Path("whole.zip"))


def test_run_killed_after_a_saved_state_resumes_to_bit_identical_weights(
    workdir: Path, uninterrupted: dict[str, Path]
) -> None:
    run = RUNS["sac_her"]
    arguments = [*run.arguments, "--checkpoint-freq", "300"]
    process = start("train.py", *arguments)
    _wait_until(lambda: run.state.exists() and _rows(run.curves) >= 1, process)
    process.kill()
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    saved = training_state.read(run.state)
    outcome = succeed("train.py", *arguments, "--resume")
    assert f"resuming at {saved['counters']['num_timesteps']:,} of 900" in outcome.out
    _assert_finished_like(run, uninterrupted["sac_her"])


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_run_killed_at_five_random_moments_resumes_to_bit_identical_weights(
    workdir: Path, uninterrupted: dict[str, Path], name: str
) -> None:
    run = RUNS[name]
    arguments = [*run.arguments, "--checkpoint-freq", "130"]
    moments = random.Random(name)
    # The first moment may lie before the first step; the others follow a saved state each.
    for target in (0, *sorted(moments.sample(range(1, 650), 4))):
        process = start("train.py", *arguments, "--resume")
        if target:
            _wait_until(lambda target=target: _steps_saved(run.state) >= target, process)
        time.sleep(moments.uniform(0, 0.05 if target else 3))
        process.kill()
        process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL
    outcome = succeed("train.py", *arguments, "--resume")
    assert "resuming at" in outcome.out
    _assert_finished_like(run, uninterrupted[name])


def _steps_saved(state: Path) -> int:
    return training_state.read(state)["counters"]["num_timesteps"] if state.exists() else 0


def test_resumed_run_reports_the_time_of_the_whole_run(workdir: Path) -> None:
    arguments = [*SHORT["ppo"], "--out", "policy.zip"]
    _stop(arguments, 200)
    state = Path("policy.resume/state.pt")
    stored = torch.load(state, weights_only=True)
    earlier = stored["wall_seconds"]
    assert earlier > 0
    torch.save({**stored, "wall_seconds": earlier + 1000}, state)
    metadata = train(cli.parse_train([*arguments, "--resume"]))
    assert 1000 < metadata.training.wall_seconds < 1100
    assert metadata.training.steps_per_second == pytest.approx(0.3, abs=0.05)


def test_resume_without_an_unfinished_run_starts_from_the_first_step(workdir: Path) -> None:
    outcome = succeed("train.py", *SHORT["ppo"], "--resume")
    assert "starting from the first step" in outcome.out
    assert RUNS["ppo"].checkpoint.exists()


def test_half_written_state_is_ignored(workdir: Path) -> None:
    run = RUNS["ppo"]
    run.state.parent.mkdir(parents=True)
    half = run.state.parent / ".state.pt.abcdef.tmp"
    half.write_bytes(b"half a state")
    outcome = succeed("train.py", *SHORT["ppo"], "--resume")
    assert "starting from the first step" in outcome.out
    assert run.checkpoint.exists()
    assert not half.parent.exists()


def test_state_that_fails_to_be_written_leaves_the_one_before(workdir: Path) -> None:
    state = Path("x.resume/state.pt")
    training_state.write(state, {"parameters": {}, "log_ent_coef": None, "count": 1})

    def fail(value: Any, path: Path) -> None:
        path.write(b"half")
        raise OSError(28, "No space left on device")

    with mock.patch.object(torch, "save", fail), pytest.raises(Exception, match="No space left"):
        training_state.write(state, {"parameters": {}, "log_ent_coef": None, "count": 2})
    assert training_state.read(state)["count"] == 1
    assert [path.name for path in state.parent.iterdir()] == ["state.pt"]


def test_fresh_run_moves_the_unfinished_one_aside(workdir: Path) -> None:
    _stop(SHORT["ppo"], 200)
    saved = RUNS["ppo"].state.read_bytes()
    outcome = succeed("train.py", *SHORT["ppo"])
    assert "the unfinished run found here went to" in outcome.out
    (kept,) = Path("checkpoints/previous").rglob("*.pt")
    assert kept.read_bytes() == saved


def test_resuming_with_other_settings_is_refused_and_costs_nothing(workdir: Path) -> None:
    _stop(SHORT["ppo"], 200)
    saved = RUNS["ppo"].state.read_bytes()
    refused = run_script("train.py", *SHORT["ppo"], "--gamma", "0.9", "--resume")
    assert refused.code == 2
    assert "had --gamma 0.99, not 0.9" in refused.err
    assert RUNS["ppo"].state.read_bytes() == saved


def test_code_in_a_training_state_does_not_run(workdir: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (workdir / "harm",)

    state = RUNS["ppo"].state
    state.parent.mkdir(parents=True)
    with mock.patch.object(pickle, "DEFAULT_PROTOCOL", 2):
        torch.save({"parameters": Bomb()}, state)
    refused = run_script("train.py", *SHORT["ppo"], "--resume")
    assert refused.code == 2
    assert len(refused.err.splitlines()) == 1
    assert not (workdir / "harm").exists()
    torch.load(state, weights_only=False)
    assert (workdir / "harm").exists(), "the bomb was no bomb"


def test_state_saved_on_a_gpu_is_read_into_main_memory(workdir: Path) -> None:
    state = {"parameters": {"policy": torch.ones(2)}, "log_ent_coef": None, "x": np.ones(3)}
    with mock.patch("torch.serialization.location_tag", return_value="cuda:0"):
        training_state.write(Path("state.pt"), state)
    read = training_state.read(Path("state.pt"))
    assert read["parameters"]["policy"].device.type == "cpu"
    np.testing.assert_array_equal(read["x"], np.ones(3))


def test_whose_a_state_is_can_be_told_without_reading_it_all(workdir: Path) -> None:
    path = Path("state.pt")
    replay = {"observations": np.zeros(1_000_000)}
    identity = {"gamma": 0.95, "net_arch": [64, 64], "seed": 0}
    state = {"parameters": {}, "log_ent_coef": None, "replay": replay, "identity": identity}
    training_state.write(path, state)
    assert training_state.identity(path) == identity
    path.write_bytes(path.read_bytes()[:1_000])
    with pytest.raises(UsageError, match="damaged or cut short"):
        training_state.identity(path)


@pytest.mark.parametrize(
    ("env_id", "moment"),
    [
        ("FetchReach-v4", 20),
        ("FetchPush-v4", 0),
        ("FetchPush-v4", 20),
        ("FetchPush-v4", 49),
        ("FetchPush-v4", 50),
        ("FetchPickAndPlace-v4", 35),
        ("FetchSlide-v4", 35),
    ],
)
def test_restored_environments_go_on_bit_for_bit(workdir: Path, env_id: str, moment: int) -> None:
    venv = make_vec_env(env_id, 2, 0, envs.make_env)
    rng = np.random.default_rng(0)
    observations: Any = venv.reset()
    for _ in range(moment):
        observations, *_ = venv.step(_towards_the_object(observations, rng))
    training_state.write(
        Path("state.pt"), {"env": venv.state(), "parameters": {}, "log_ent_coef": None}
    )
    actions, expected = [], []
    touched = 0.0
    for _ in range(120):  # two resets on the way
        actions.append(_towards_the_object(observations, rng))
        before = observations["achieved_goal"]
        observations, rewards, dones, infos = venv.step(actions[-1])
        touched += float(np.abs(observations["achieved_goal"] - before)[~dones].sum())
        expected.append((observations, rewards, dones, infos))
    expected_sample = [venv.action_space.sample() for _ in range(3)]
    assert touched > 0.1, "objects must move, or contacts are not tested"

    other = make_vec_env(env_id, 2, 99, envs.make_env)
    other.reset()
    for _ in range(7):
        other.step([other.action_space.sample() for _ in range(2)])
    assert other.restore(training_state.read(Path("state.pt"))["env"]) is True
    assert sum(step[2].sum() for step in expected) >= 4
    for step, (action, wanted) in enumerate(zip(actions, expected, strict=True)):
        found = other.step(action)
        for key, value in wanted[0].items():
            np.testing.assert_array_equal(found[0][key], value, err_msg=f"{key}, step {step}")
        np.testing.assert_array_equal(found[1], wanted[1])
        np.testing.assert_array_equal(found[2], wanted[2])
        for ours, theirs in zip(found[3], wanted[3], strict=True):
            assert ours["is_success"] == theirs["is_success"]
            assert ours.get("episode", {}).get("r") == theirs.get("episode", {}).get("r")
            assert ours.get("episode", {}).get("l") == theirs.get("episode", {}).get("l")
    np.testing.assert_array_equal([other.action_space.sample() for _ in range(3)], expected_sample)


def _towards_the_object(observations: Any, rng: np.random.Generator) -> Any:
    """Mostly random actions that come upon the object."""
    gripper = observations["observation"][:, :3]
    towards = 10 * (observations["achieved_goal"] - gripper)
    actions = 0.5 * rng.uniform(-1, 1, (len(gripper), 4))
    actions[:, :3] += towards
    return np.clip(actions, -1, 1).astype(np.float32)


def test_environment_without_a_snapshot_starts_new_episodes_and_says_so(workdir: Path) -> None:
    arguments = ["--algo", "ppo", "--env", "Pendulum-v1", *TINY, "--n-steps", "32"]
    arguments += ["--batch-size", "32", "--total-steps", "256"]
    _stop(arguments, 150)
    outcome = succeed("train.py", *arguments, "--resume")
    assert "WARN: the state of Pendulum-v1 cannot be saved: new episodes begin" in outcome.out
    document = read_strict_json(Path("checkpoints/ppo_Pendulum-v1_seed0.meta.json"))
    assert document["steps_done"] == 256


def test_vector_environment_keeps_its_seeds_when_a_model_is_built_on_it() -> None:
    """Stable-Baselines3 reseeds environments of a model that is given a seed; ours is not."""
    venv = make_vec_env("FetchReach-v4", 1, 5, envs.make_env)
    before = venv.state()["envs"][0]["rng"]
    settings = cli.parse_train(["--algo", "ppo", "--env", "FetchReach-v4", "--n-envs", "1"])
    from robotics_rl.learners.sb3 import make_model

    make_model(settings, venv, "cpu")
    assert isinstance(venv, ResumableVecEnv)
    assert venv.state()["envs"][0]["rng"] == before


def test_resuming_a_complete_run_trains_nothing(workdir: Path) -> None:
    succeed("train.py", *TINY_PPO)
    before = tree(workdir)
    outcome = succeed("train.py", *TINY_PPO, "--resume")
    assert "is complete: nothing to resume" in outcome.out
    assert tree(workdir) == before


def test_signal_during_the_last_update_is_not_swallowed(workdir: Path) -> None:
    def train_and_be_asked_to_stop(model: stable_baselines3.PPO) -> None:
        original(model)
        signal.raise_signal(signal.SIGTERM)

    original = stable_baselines3.PPO.train
    with mock.patch.object(stable_baselines3.PPO, "train", train_and_be_asked_to_stop):
        outcome = run_script("train.py", *TINY_PPO)
    assert outcome.code == 143
    assert "the training is complete" in outcome.err
    assert Path("checkpoints", f"{PPO_NAME}.zip").exists()


def test_full_disk_while_saving_a_state_is_one_line(workdir: Path) -> None:
    with (
        pytest.raises(UsageError, match="free some space"),
        mock.patch.object(
            torch,
            "save",
            side_effect=RuntimeError("[enforce fail at inline_container.cc] short write"),
        ),
    ):
        training_state.write(Path("state.pt"), {})
    assert list(workdir.iterdir()) == []
