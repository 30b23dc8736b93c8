"""Checkpoints know nothing of this project, and their metadata tells how they came about."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from building import entries
from numpy.typing import NDArray
from stable_baselines3 import SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from support import TINY_SAC_HER, read_strict_json, succeed

from robotics_rl.config import TrainSettings
from robotics_rl.learners import ENGINES, fast

RUNS = {
    "sac": [*TINY_SAC_HER, "--recipe", "fast"],
    "td3": [*TINY_SAC_HER, "--algo", "td3"],
    "ddpg": [*TINY_SAC_HER, "--algo", "ddpg"],
}
LOAD = """
import sys

sys.modules["robotics_rl"] = None
import numpy as np
import stable_baselines3

observations = dict(np.load("observations.npz"))
actions = {}
for name in sys.argv[1:]:
    algorithm = getattr(stable_baselines3, name.upper())
    model = algorithm.load(f"checkpoints/{name}_her_FetchPush-v4_seed0.zip", device="cpu")
    actions[name], _ = model.predict(observations, deterministic=True)
np.savez("actions.npz", **actions)
"""


@dataclasses.dataclass
class Published:
    """Checkpoints of every algorithm, and the models that they were made of."""

    root: Path
    models: dict[str, Any]
    actions: dict[str, NDArray[Any]]  # of plain Stable-Baselines3

    def metadata(self, algo: str) -> dict[str, Any]:
        name = f"{algo}_her_FetchPush-v4_seed0.meta.json"
        return read_strict_json(self.root / "checkpoints" / name)


@pytest.fixture(scope="module")
def published(
    tmp_path_factory: pytest.TempPathFactory, observed: dict[str, NDArray[Any]]
) -> Published:
    root = tmp_path_factory.mktemp("published")
    models: list[Any] = []

    def export(settings: TrainSettings, model: BaseAlgorithm) -> BaseAlgorithm:
        models.append(model)
        return fast.export(settings, model)

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        spied = dataclasses.replace(ENGINES["fast"], export=export)
        patch.setitem(ENGINES, "fast", spied)
        for arguments in RUNS.values():
            succeed("train.py", *arguments, "--engine", "fast", "--track", "none")
    np.savez(root / "observations.npz", **{name: part[:50] for name, part in observed.items()})
    subprocess.run([sys.executable, "-c", LOAD, *RUNS], cwd=root, check=True)
    return Published(
        root, dict(zip(RUNS, models, strict=True)), dict(np.load(root / "actions.npz"))
    )


@pytest.mark.parametrize("algo", RUNS)
def test_plain_sb3_acts_as_the_policy_that_was_trained(
    algo: str, published: Published, inputs: NDArray[np.float32]
) -> None:
    model = published.models[algo]
    with torch.no_grad():
        seen = entries(model.normalizer(torch.from_numpy(inputs[:50])))
        expected = model.policy._predict(seen, deterministic=True).numpy()
    assert expected.shape == (50, 4)
    np.testing.assert_allclose(published.actions[algo], expected, rtol=0, atol=1e-4)


def test_saved_networks_do_not_look_at_the_achieved_goal_twice(published: Published) -> None:
    """It is part of the observation; the recipe leaves its own inputs out."""
    model, n_goal = published.models["sac"], 3
    plain = SAC.load(published.root / "checkpoints" / "sac_her_FetchPush-v4_seed0.zip")
    first_layers = [plain.actor.latent_pi[0], *(q[0] for q in plain.critic.q_networks)]
    for layer in first_layers:
        assert (layer.weight[:, :n_goal] == 0).all()
        assert (layer.weight[:, n_goal:] != 0).all()
    assert (model.actor.latent_pi[0].weight[:, :n_goal] != 0).all()


def test_recipe_fast_scales_inputs(published: Published) -> None:
    """Otherwise the test above says nothing of folding."""
    normalizer = published.models["sac"].normalizer
    assert normalizer.enabled
    assert normalizer.count == 200  # one episode of two environments, with own and other goals
    assert (normalizer.std != 1).all()


def test_metadata_records_the_recipe_fast(published: Published) -> None:
    document = published.metadata("sac")
    assert (document["engine"], document["recipe"], document["her"]) == ("fast", "fast", True)
    assert document["gradient_steps"] == 3 * 25  # vector steps that end with 102 or more
    used = {
        # of the recipe
        "learning_rate": 1e-3, "gamma": 0.95, "tau": 0.01, "ent_coef": 0.05, "gradient_steps": 3,
        "trivial_goal_keep": 0.05, "normalize_observations": True, "random_action_prob": 0.3,
        "policy_delay": 2,
        # given
        "n_envs": 2, "net_arch": [16], "learning_starts": 100, "batch_size": 16,
        "buffer_size": 2000,
        # neither
        "n_sampled_goal": 4, "goal_selection_strategy": "future", "train_freq": 1,
        "deterministic_engine": False, "bf16": False,
        "policy": "MultiInputPolicy", "activation": "ReLU", "target_entropy": -4.0,
    }  # fmt: skip
    assert document["hyperparameters"] == used


@pytest.mark.parametrize("algo", ["td3", "ddpg"])
def test_metadata_records_the_book_recipe(algo: str, published: Published) -> None:
    document = published.metadata(algo)
    assert (document["engine"], document["recipe"], document["her"]) == ("fast", "book", True)
    assert document["gradient_steps"] == 25
    hyperparameters = document["hyperparameters"]
    used = {
        "learning_rate": 1e-3, "gamma": 0.95, "tau": 0.005, "action_noise": 0.1,
        "trivial_goal_keep": 1.0, "normalize_observations": False, "random_action_prob": 0.0,
        "net_arch": [16], "n_envs": 2, "policy_delay": 2 if algo == "td3" else 1,
    }  # fmt: skip
    assert {name: hyperparameters[name] for name in used} == used


def test_metadata_describes_the_model_that_trained(published: Published) -> None:
    model = published.models["sac"]
    assert (model.gamma, model.tau, model.batch_size, model.gradient_steps) == (0.95, 0.01, 16, 3)
    assert model.ent_coef_tensor.item() == pytest.approx(0.05)
    assert model.lr_schedule(1) == model.actor.optimizer.param_groups[0]["lr"] == 1e-3
    assert model._random_action_prob == 0.3
    assert model.replay_buffer.hindsight.trivial_goal_keep == 0.05
