"""Checkpoints from strangers run no code here, and ours load anywhere."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import pickle
import random
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import PPO, SAC
from support import (
    TINY_OFF_POLICY,
    TINY_PPO,
    Trained,
    edit_json,
    read_strict_json,
    rewrite_entries,
    run_script,
    succeed,
)

from robotics_rl import artifacts, checkpoints
from robotics_rl.envs import make_env
from robotics_rl.errors import UsageError


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self._target = str(target)

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path(self._target),)


@pytest.fixture
def stranger(workdir: Path, trained_ppo: Trained) -> Trained:
    """A checkpoint with sound metadata, to be tampered with."""
    return trained_ppo.copy_to(workdir)


def _arm_data(checkpoint: Path, bomb: Bomb) -> None:
    """Put the bomb into every pickle of the zip's ``data``, as SB3 itself would store it."""
    serialized = base64.b64encode(pickle.dumps(bomb)).decode()

    def armed(name: str, content: bytes) -> bytes:
        if name != "data":
            return content
        document = json.loads(content)
        pickles = [value for value in document.values() if isinstance(value, dict)]
        armed_values = [value for value in pickles if ":serialized:" in value]
        assert armed_values
        for value in armed_values:
            value[":serialized:"] = serialized
        return json.dumps(document).encode()

    rewrite_entries(checkpoint, armed)


def _arm_entry(checkpoint: Path, entry: str, content: bytes) -> None:
    rewrite_entries(checkpoint, lambda name, old: content if name == entry else old)


def _torch_file(value: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def _legacy_torch_file(value: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


def _describe_honestly(trained: Trained) -> None:
    """The stranger's metadata fits the armed file: nothing looks wrong."""
    edit_json(trained.metadata, checkpoint_sha256=artifacts.sha256_of(trained.checkpoint))


def test_code_in_the_data_of_a_checkpoint_does_not_run(stranger: Trained) -> None:
    harm = stranger.root / "harm"
    _arm_data(stranger.checkpoint, Bomb(harm))
    _describe_honestly(stranger)
    outcome = succeed("eval.py", "--ckpt", str(stranger.checkpoint), "--n-episodes", "1")
    assert "WARN" not in outcome.out
    assert not harm.exists()
    with contextlib.suppress(Exception), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        PPO.load(stranger.checkpoint)
    assert harm.exists(), "the bomb was no bomb"


@pytest.mark.parametrize(
    "pack",
    [_torch_file, _legacy_torch_file, pickle.dumps],
    ids=["torch zip", "torch legacy", "bare pickle"],
)
def test_code_in_the_tensors_of_a_checkpoint_does_not_run(stranger: Trained, pack: Any) -> None:
    harm = stranger.root / "harm"
    content = pack({"log_std": Bomb(harm)})
    _arm_entry(stranger.checkpoint, "policy.pth", content)
    _describe_honestly(stranger)
    refused = run_script("eval.py", "--ckpt", str(stranger.checkpoint))
    assert refused.code == 2
    assert "not plain tensors; it was not loaded" in refused.err
    assert len(refused.err.splitlines()) == 1
    assert not harm.exists()
    if pack is pickle.dumps:
        pickle.loads(content)
    else:
        torch.load(io.BytesIO(content), weights_only=False)
    assert harm.exists(), "the bomb was no bomb"


@pytest.mark.parametrize("entry", ["policy.optimizer.pth", "pytorch_variables.pth"])
def test_other_entries_of_a_checkpoint_are_not_even_read(stranger: Trained, entry: str) -> None:
    harm = stranger.root / "harm"
    _arm_entry(stranger.checkpoint, entry, _torch_file({"x": Bomb(harm)}))
    _describe_honestly(stranger)
    succeed("eval.py", "--ckpt", str(stranger.checkpoint), "--n-episodes", "1")
    assert not harm.exists()


def test_only_trust_pickle_runs_code_and_the_refusal_says_so(stranger: Trained) -> None:
    harm = stranger.root / "harm"
    _arm_data(stranger.checkpoint, Bomb(harm))
    stranger.metadata.unlink()
    arguments = ["--ckpt", str(stranger.checkpoint), "--env", "FetchReachDense-v4"]
    refused = run_script("eval.py", *arguments)
    assert refused.code == 2
    assert "runs code from the file" in refused.err
    assert "--trust-pickle" in refused.err
    assert not harm.exists()
    with contextlib.suppress(Exception), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run_script("eval.py", *arguments, "--trust-pickle", "--algo", "ppo")
    assert harm.exists(), "--trust-pickle unpickles, so the flag is what guards"


def test_damaged_tensors_are_refused_wherever_the_damage_is(stranger: Trained) -> None:
    with zipfile.ZipFile(stranger.checkpoint) as archive:
        policy = archive.read("policy.pth")
    with zipfile.ZipFile(io.BytesIO(policy)) as inner:
        entries = {name: inner.read(name) for name in inner.namelist()}
    pickled = next(name for name in entries if name.endswith("data.pkl"))
    env = make_env("FetchReachDense-v4")
    rng = random.Random(0)
    refused = 0
    for _ in range(150):
        damaged = bytearray(entries[pickled])
        for _ in range(2):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            for name, content in entries.items():
                archive.writestr(name, bytes(damaged) if name == pickled else content)
        _arm_entry(stranger.checkpoint, "policy.pth", file.getvalue())
        try:
            checkpoints.load_policy(stranger.checkpoint, env.observation_space, env.action_space)
        except UsageError:
            refused += 1
    assert refused > 100


def test_other_sha256_than_the_metadata_says_warns_and_evaluates(stranger: Trained) -> None:
    edit_json(stranger.metadata, checkpoint_sha256="0" * 64)
    outcome = succeed("eval.py", "--ckpt", str(stranger.checkpoint), "--n-episodes", "1")
    assert "WARN: " in outcome.out
    assert "SHA-256 differs" in outcome.out
    result = read_strict_json(next(Path("results").glob("*_eval.json")))
    assert result["checkpoint_sha256"] == artifacts.sha256_of(stranger.checkpoint)


@pytest.mark.parametrize("field", ["run_tag", "chapter", "seed"])
@pytest.mark.parametrize("path", ["x/../../../../elsewhere", "{root}/elsewhere"])
def test_metadata_cannot_choose_where_results_are_written(
    workdir: Path, trained_ppo: Trained, monkeypatch: pytest.MonkeyPatch, field: str, path: str
) -> None:
    home = workdir / "a" / "b"
    home.mkdir(parents=True)
    stranger = trained_ppo.copy_to(home)
    monkeypatch.chdir(home)
    edit_json(stranger.metadata, **{field: path.format(root=workdir)})
    run_script("eval.py", "--ckpt", str(stranger.checkpoint), "--n-episodes", "1")
    written = set(workdir.rglob("*_eval.json"))
    assert all(home / "results" in file.parents for file in written)


def test_trust_pickle_evaluates_a_plain_sb3_checkpoint(workdir: Path) -> None:
    model = PPO("MlpPolicy", "Pendulum-v1", n_steps=8, batch_size=8, device="cpu", seed=0)
    model.save("plain")
    outcome = succeed(
        "eval.py", "--ckpt", "plain.zip", "--env", "Pendulum-v1", "--trust-pickle",
        "--n-episodes", "2",
    )  # fmt: skip
    assert "OK: wrote results/plain_eval.json" in outcome.out
    result = read_strict_json(Path("results/plain_eval.json"))
    assert result["algo"] == "ppo"
    assert result["aggregate"]["success_rate"] is None
    env = gym.make("Pendulum-v1")
    observation, _ = env.reset(seed=0)
    total = 0.0
    for _ in range(200):
        action, _ = model.predict(observation, deterministic=True)
        observation, reward, *_ = env.step(action)
        total += float(reward)
    assert result["per_episode"][0]["return"] == pytest.approx(total)


PLAIN_SB3 = """
import sys
sys.modules["robotics_rl"] = None  # importing it fails from here on
import numpy as np
from stable_baselines3 import SAC

checkpoint, observations, answers = sys.argv[1:]
model = SAC.load(checkpoint)
assert model.env is None
batch = dict(np.load(observations))
actions, _ = model.predict(batch, deterministic=True)

import gymnasium
import gymnasium_robotics
from stable_baselines3.common.env_util import make_vec_env

gymnasium.register_envs(gymnasium_robotics)
model.set_env(make_vec_env("FetchPush-v4", n_envs=2))
before = [p.detach().clone() for p in model.policy.parameters()]
updates = model._n_updates
model.learn(20, reset_num_timesteps=False)
assert model._n_updates > updates
assert any((a != b).any() for a, b in zip(before, model.policy.parameters()))
np.save(answers, actions)
"""


def test_published_checkpoint_loads_and_learns_on_without_this_project(
    workdir: Path, trained_sac_her: Trained
) -> None:
    env = make_env("FetchPush-v4")
    env.action_space.seed(0)
    observations = [env.reset(seed=0)[0]]
    observations += [env.step(env.action_space.sample())[0] for _ in range(9)]
    batch = {key: np.stack([one[key] for one in observations]) for key in observations[0]}
    np.savez("observations.npz", **batch)
    done = subprocess.run(
        [sys.executable, "-c", PLAIN_SB3, trained_sac_her.checkpoint, "observations.npz", "a.npy"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    loaded = checkpoints.load_policy(
        trained_sac_her.checkpoint, env.observation_space, env.action_space
    )
    ours, _ = loaded.policy.predict(batch, deterministic=True)
    np.testing.assert_array_equal(ours, np.load("a.npy"))
    assert np.ptp(ours, axis=0).min() > 0, "the actions must depend on the observations"


def test_published_checkpoint_asks_for_no_environment_and_no_large_buffer(
    trained_sac_her: Trained,
) -> None:
    with zipfile.ZipFile(trained_sac_her.checkpoint) as archive:
        data = json.loads(archive.read("data"))
    assert data["replay_buffer_class"] is None
    assert data["replay_buffer_kwargs"] == {}
    assert data["buffer_size"] <= 1000
    assert data["_last_obs"] is None
    recorded = read_strict_json(trained_sac_her.metadata)["hyperparameters"]
    assert recorded["buffer_size"] == 2000
    assert recorded["n_sampled_goal"] == 4


def test_saving_leaves_the_running_training_as_it_was(workdir: Path) -> None:
    model = SAC("MlpPolicy", "Pendulum-v1", buffer_size=5000, device="cpu")
    metadata = object()
    with pytest.raises(AttributeError):  # no metadata: nothing may be written
        checkpoints.save(model, Path("x.zip"), lambda _: metadata.nothing, lambda: None)
    assert model.buffer_size == 5000
    assert list(workdir.iterdir()) == []


@pytest.mark.parametrize("algo", ["ppo", "sac", "td3", "ddpg"])
def test_every_algorithm_is_rebuilt_from_its_metadata(workdir: Path, algo: str) -> None:
    arguments = TINY_PPO if algo == "ppo" else [*TINY_OFF_POLICY, "--total-steps", "110"]
    succeed("train.py", *arguments, "--algo", algo, "--env", "FetchReachDense-v4", "--out", "x")
    succeed("eval.py", "--ckpt", "x", "--n-episodes", "1")


def test_trusting_a_file_with_sound_metadata_still_runs_no_code(
    trained_ppo: Trained, tmp_path: Path
) -> None:
    trained, proof = trained_ppo.copy_to(tmp_path / "run"), tmp_path / "proof"
    _arm_data(trained.checkpoint, Bomb(proof))
    with contextlib.chdir(tmp_path):
        arguments = ["--ckpt", str(trained.checkpoint), "--trust-pickle", "--n-episodes", "1"]
        outcome = succeed("eval.py", *arguments)
    assert not proof.exists()
    assert "SHA-256 differs" in outcome.out
