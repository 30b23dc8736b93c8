"""The engine ``fast`` learns what Stable-Baselines3 learns, and its outcome is not left to chance.

Where a test compares with Stable-Baselines3, both draw the same noise from the same torch seed: our
updates ask for it in the same order, so nothing has to be patched.
"""

from __future__ import annotations

import copy
import dataclasses
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from stable_baselines3 import DDPG, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.type_aliases import DictReplayBufferSamples
from stable_baselines3.common.utils import set_random_seed
from support import TINY_SAC_HER, read_strict_json, succeed
from torch import Tensor, nn

from robotics_rl import envs
from robotics_rl.config import TrainSettings, resolve
from robotics_rl.envs.fetch_vec_env import FetchVecEnv
from robotics_rl.learners import ENGINES, fast
from robotics_rl.learners.lean_sac import LeanSAC
from robotics_rl.learners.lean_td3 import LeanDDPG, LeanTD3
from robotics_rl.learners.networks import FlatParameters
from robotics_rl.learners.normalizer import MIN_STD, InputNormalizer
from robotics_rl.learners.overlapped import Overlapped
from robotics_rl.replay.episodes import Shape
from robotics_rl.replay.hindsight import Batch
from robotics_rl.training import train

PUSH = Shape(n_envs=2, horizon=50, observation=25, goal=3, action=4)
N_INPUTS = 31
BATCH_SIZE = 64
PAIRS: dict[str, tuple[type[BaseAlgorithm], type[Overlapped]]] = {
    "sac": (SAC, LeanSAC),
    "td3": (TD3, LeanTD3),
    "ddpg": (DDPG, LeanDDPG),
}
# Of plain SAC; a fixed coefficient is far from what "auto" begins with.
VARIANTS: dict[str, dict[str, Any]] = {
    "fixed": {"algo": "sac", "ent_coef": 0.2},
    "auto": {"algo": "sac", "ent_coef": "auto"},
    "td3": {"algo": "td3"},
    "ddpg": {"algo": "ddpg"},
}


@pytest.fixture(scope="module")
def push() -> Iterator[FetchVecEnv]:
    """Spaces to build models for; nobody trains in it."""
    env = FetchVecEnv("FetchPush-v4", PUSH.n_envs, seed=0)
    yield env
    env.close()


@pytest.fixture(scope="module")
def observed(push: FetchVecEnv) -> dict[str, NDArray[Any]]:
    """100 observations of random actions."""
    rng = np.random.default_rng(0)
    seen = [push.reset()]
    while len(seen) < 50:
        push.step_async(rng.uniform(-1, 1, (PUSH.n_envs, PUSH.action)).astype(np.float32))
        seen.append(push.step_wait()[0])
    return {name: np.concatenate([one[name] for one in seen]) for name in seen[0]}


@pytest.fixture(scope="module")
def inputs(observed: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
    """The same 100 as networks see them: (100, 31)."""
    names = ("achieved_goal", "desired_goal", "observation")
    return np.concatenate([observed[name] for name in names], axis=1, dtype=np.float32)


@pytest.fixture
def make_model() -> Iterator[Callable[..., Any]]:
    """Makes models of the engine with environments of their own, which end with the test."""
    made: list[FetchVecEnv] = []

    def make(settings: TrainSettings) -> Any:
        set_random_seed(settings.run.seed)
        env = fast.make_training_env(settings, envs.make_env)
        made.append(env)
        return fast.make_model(settings, env, "cpu")

    yield make
    for env in made:
        env.close()


def tiny(algo: str = "sac", *, her: bool = True, **given: Any) -> TrainSettings:
    """Settings of the engine that train in about a second."""
    defaults = {
        "n_envs": 2,
        "net_arch": (32, 32),
        "batch_size": BATCH_SIZE,
        "buffer_size": 2_000,
        "learning_starts": 100,
        "total_steps": 200,
        "device": "cpu",
        "track": "none",
        "progress": False,
        "engine": "fast",
    }
    return resolve(algo, "FetchPush-v4", defaults | given, her=her)


def entries(inputs: Tensor) -> dict[str, Tensor]:
    """Inputs taken apart, as Stable-Baselines3's policies take them."""
    parts = torch.split(inputs, [PUSH.goal, PUSH.goal, PUSH.observation], dim=1)
    return dict(zip(("achieved_goal", "desired_goal", "observation"), parts, strict=True))


# The same numbers as Stable-Baselines3


class Batches:
    """Stands in for our replay: the same batches for whoever asks."""

    def __init__(self, batches: list[Batch]) -> None:
        self.store = SimpleNamespace(shape=PUSH)
        self._batches = iter(batches)

    def sample(self, batch_size: int) -> Batch:
        batch = next(self._batches)
        assert len(batch.rewards) == batch_size
        return batch


class Sb3Batches(Batches):
    """Stands in for Stable-Baselines3's replay buffer."""

    def sample(self, batch_size: int, env: Any = None) -> DictReplayBufferSamples:  # type: ignore[override]
        batch = super().sample(batch_size)
        rewards = torch.from_numpy(batch.rewards)[:, None]
        return DictReplayBufferSamples(
            observations=entries(torch.from_numpy(batch.inputs)),
            actions=torch.from_numpy(batch.actions),
            next_observations=entries(torch.from_numpy(batch.next_inputs)),
            dones=torch.zeros_like(rewards),
            rewards=rewards,
        )


def random_batches(count: int) -> list[Batch]:
    rng = np.random.default_rng(1)
    normal, uniform = rng.standard_normal, rng.uniform
    return [
        Batch(
            inputs=normal((BATCH_SIZE, N_INPUTS), dtype=np.float32),
            actions=uniform(-1, 1, (BATCH_SIZE, PUSH.action)).astype(np.float32),
            rewards=-rng.integers(0, 2, BATCH_SIZE).astype(np.float32),
            next_inputs=normal((BATCH_SIZE, N_INPUTS), dtype=np.float32),
        )
        for _ in range(count)
    ]


def arguments(variant: str, env: FetchVecEnv) -> dict[str, Any]:
    """What Stable-Baselines3's class and ours are both called with."""
    return {
        "policy": "MultiInputPolicy",
        "env": env,
        "learning_rate": 1e-3,
        "gamma": 0.95,
        "tau": 0.05,
        "batch_size": BATCH_SIZE,
        "buffer_size": 1_000,
        "policy_kwargs": {"net_arch": [32, 32]},
        "device": "cpu",
        **{name: value for name, value in VARIANTS[variant].items() if name != "algo"},
    }


def build_lean(variant: str, env: FetchVecEnv, batches: list[Batch], **more: Any) -> Any:
    kind: Any = PAIRS[VARIANTS[variant]["algo"]][1]
    return kind(**arguments(variant, env), replay=Batches(batches), **more)


def build_pair(variant: str, env: FetchVecEnv, n_updates: int) -> tuple[Any, Any]:
    """Stable-Baselines3's model and ours, with equal weights that are all different."""
    batches = random_batches(n_updates)
    torch.manual_seed(0)
    kind: Any = PAIRS[VARIANTS[variant]["algo"]][0]
    theirs = kind(**arguments(variant, env))
    theirs.replay_buffer = Sb3Batches(batches)
    theirs.set_logger(Logger(None, []))
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():  # targets apart from what they follow, so that taking one shows
        for part in theirs.policy.parameters():
            part += 0.1 * torch.randn(part.shape, generator=generator)
    _level(theirs.critic)
    _level(theirs.critic_target)
    ours = build_lean(variant, env, batches)
    ours.policy.load_state_dict(theirs.policy.state_dict())
    return theirs, ours


def _level(critic: Any) -> None:
    """Shift the critics to a mean of 0, so that now the one is the least and now the other."""
    (batch,) = random_batches(1)
    with torch.no_grad():
        seen, actions = entries(torch.from_numpy(batch.inputs)), torch.from_numpy(batch.actions)
        values = torch.cat(critic(seen, actions), dim=1)
        for network, mean in zip(critic.q_networks, values.mean(dim=0), strict=True):
            network[-1].bias -= mean
    least = (values - values.mean(dim=0)).argmin(dim=1)
    assert len(least.unique()) == len(critic.q_networks)


def train_both(theirs: Any, ours: Any, n_updates: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Train from the same torch seed; what each of them logs, means over the updates."""
    torch.manual_seed(3)
    theirs.train(n_updates, BATCH_SIZE)
    logged = {
        name.removeprefix("train/"): value for name, value in theirs.logger.name_to_value.items()
    }
    torch.manual_seed(3)
    noted: dict[str, list[float]] = {}
    ours.note = lambda name, value: noted.setdefault(name, []).append(float(value.detach()))
    ours.train(n_updates)
    return logged, {name: np.mean(values) for name, values in noted.items()}


# A policy update of TD3 comes with every second one of its critics.
@pytest.mark.parametrize(
    ("variant", "n_updates"),
    [
        *(("fixed", n) for n in (1, 3)),
        *(("auto", n) for n in (1, 3)),
        *(("td3", n) for n in (1, 2, 5)),
        *(("ddpg", n) for n in (1, 3)),
    ],
)
def test_updates_are_those_of_sb3(variant: str, n_updates: int, push: FetchVecEnv) -> None:
    theirs, ours = build_pair(variant, push, n_updates)
    before = copy.deepcopy(theirs.policy.state_dict())
    logged, noted = train_both(theirs, ours, n_updates)
    losses = logged.keys() - {"n_updates", "learning_rate"}
    assert losses == noted.keys()
    assert "critic_loss" in losses
    for name in losses:
        assert noted[name] == pytest.approx(logged[name], rel=1e-5, abs=1e-5), name
    expected, found = theirs.policy.state_dict(), ours.policy.state_dict()
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-5, msg=name)
        if not variant.startswith("td3") or n_updates > 1 or name.startswith("critic."):
            assert not torch.equal(value, before[name]), f"{name} was to learn"
    assert ours._n_updates == theirs._n_updates == n_updates


def test_entropy_coefficient_is_learned_like_that_of_sb3(push: FetchVecEnv) -> None:
    theirs, ours = build_pair("auto", push, 3)
    train_both(theirs, ours, 3)
    assert theirs.log_ent_coef.item() != 0
    torch.testing.assert_close(ours.log_ent_coef, theirs.log_ent_coef, rtol=0, atol=1e-6)


def test_fixed_entropy_coefficient_stays(push: FetchVecEnv) -> None:
    ours = build_lean("fixed", push, random_batches(2))
    ours.train(2)
    assert ours.ent_coef_tensor.item() == pytest.approx(0.2)


def test_noise_matters_to_the_comparison(push: FetchVecEnv) -> None:
    """With other noise the weights part by more than the tolerance of the tests above."""
    theirs, ours = build_pair("fixed", push, 1)
    torch.manual_seed(3)
    theirs.train(1, BATCH_SIZE)
    torch.manual_seed(4)
    ours.train(1)
    expected, found = theirs.policy.state_dict(), ours.policy.state_dict()
    assert max(float((found[name] - expected[name]).abs().max()) for name in expected) > 1e-4


# Parameters side by side


@pytest.mark.parametrize("variant", VARIANTS)
def test_parameters_stay_views_of_the_flat_ones(variant: str, push: FetchVecEnv) -> None:
    model = build_lean(variant, push, random_batches(4))
    model.train(2)
    _assert_flat(model)
    model.policy.load_state_dict(copy.deepcopy(model.policy.state_dict()))
    _assert_flat(model)
    model.train(2)
    _assert_flat(model)


def _assert_flat(model: Any) -> None:
    flats = {name: flat for name, flat in vars(model).items() if isinstance(flat, FlatParameters)}
    assert len(flats) == (3 if isinstance(model, SAC) else 4)
    where = {flat.values.data_ptr(): flat for flat in flats.values()}
    for module in model.policy.children():
        parameters = list(module.parameters())
        flat = where.pop(parameters[0].data_ptr())
        joined = torch.cat([part.detach().reshape(-1) for part in parameters])
        assert torch.equal(flat.values.detach(), joined)
        offset = flat.values.data_ptr()
        for part in parameters:
            assert part.data_ptr() == offset
            offset += part.numel() * part.element_size()
    assert not where


def test_one_optimizer_step_moves_every_parameter_of_the_module() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2))
    twin = copy.deepcopy(module)
    flat = FlatParameters(module.parameters())
    ours, theirs = flat.adam(1e-2), torch.optim.Adam(twin.parameters(), lr=1e-2)
    for inputs in torch.randn(3, 8, 5):
        flat.descend(module(inputs).square().mean(), ours)
        theirs.zero_grad()
        twin(inputs).square().mean().backward()
        theirs.step()
        _assert_close(module, twin)
        assert all(part.grad is not None and not part.grad.any() for part in module.parameters())


def test_moving_average_goes_through_to_the_module() -> None:
    first, second = nn.Linear(3, 2), nn.Linear(3, 2)
    expected = nn.Linear(3, 2)
    with torch.no_grad():
        for name, part in expected.named_parameters():
            part.copy_(0.75 * first.get_parameter(name) + 0.25 * second.get_parameter(name))
    follower, leader = FlatParameters(first.parameters()), FlatParameters(second.parameters())
    follower.move_towards(leader, 0.25)
    _assert_close(first, expected)


def _assert_close(one: nn.Module, other: nn.Module) -> None:
    for left, right in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(left.detach(), right.detach(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("variant", VARIANTS)
def test_names_and_shapes_of_weights_are_those_of_sb3(variant: str, push: FetchVecEnv) -> None:
    theirs, ours = build_pair(variant, push, 0)
    expected, found = theirs.policy.state_dict(), ours.policy.state_dict()
    assert list(found) == list(expected)
    assert [part.shape for part in found.values()] == [part.shape for part in expected.values()]


@pytest.mark.parametrize("variant", VARIANTS)
def test_critics_get_no_gradient_from_the_actor(variant: str, push: FetchVecEnv) -> None:
    torch.manual_seed(0)
    model = build_lean(variant, push, random_batches(2))
    before = copy.deepcopy(model.actor.state_dict())
    model.train(2)
    assert not are_equal(model.actor.state_dict(), before)
    networks = (model.actor, model.critic, model.critic_target)
    for part in (part for network in networks for part in network.parameters()):
        assert part.grad is not None
        assert not part.grad.any()


# Scaled inputs


def test_normalizer_knows_mean_and_deviation_of_all_inputs(inputs: NDArray[np.float32]) -> None:
    normalizer = InputNormalizer(N_INPUTS, enabled=True)
    for part in np.split(inputs, [10, 64]):
        normalizer.update(part)
    std = np.maximum(inputs.astype(np.float64).std(axis=0), MIN_STD)
    np.testing.assert_allclose(normalizer.mean, inputs.mean(axis=0, dtype=np.float64), atol=1e-6)
    np.testing.assert_allclose(normalizer.std, std, rtol=1e-5)


def test_normalizer_treats_inputs_that_hardly_vary_as_if_they_did() -> None:
    normalizer = InputNormalizer(3, enabled=True)
    rng = np.random.default_rng(0)
    varying = 1.3 + rng.standard_normal((1_000, 3)) * [0, 1e-3, 0.5]
    normalizer.update(varying.astype(np.float32))
    assert MIN_STD == 1e-2
    assert normalizer.std[:2].tolist() == pytest.approx([1e-2, 1e-2])
    assert normalizer.std[2].item() == pytest.approx(0.5, rel=0.1)


def test_normalizer_clips_nothing(inputs: NDArray[np.float32]) -> None:
    normalizer = InputNormalizer(N_INPUTS, enabled=True)
    normalizer.update(inputs)
    far = normalizer.mean + torch.tensor([[-1e4], [1e4]]) * normalizer.std
    torch.testing.assert_close(normalizer(far), torch.tensor([[-1e4], [1e4]]).expand(2, N_INPUTS))


def test_normalizer_that_is_off_changes_nothing(inputs: NDArray[np.float32]) -> None:
    normalizer = InputNormalizer(N_INPUTS, enabled=False)
    normalizer.update(inputs)
    assert torch.equal(normalizer(torch.from_numpy(inputs)), torch.from_numpy(inputs))


@pytest.mark.parametrize("outliers", [False, True])
@pytest.mark.parametrize("variant", ["auto", "td3", "ddpg"])
def test_folded_policy_gives_for_raw_inputs_what_it_gave_for_scaled_ones(
    variant: str, outliers: bool, push: FetchVecEnv, inputs: NDArray[np.float32]
) -> None:
    theirs, _ = build_pair(variant, push, 0)
    normalizer = InputNormalizer(N_INPUTS, enabled=True)
    normalizer.update(inputs)
    folded = copy.deepcopy(theirs.policy)
    normalizer.fold_into(folded)
    raw = torch.from_numpy(inputs)
    if outliers:  # Q-values then reach hundreds, and float32 seven digits
        raw = raw + 30 * normalizer.std * torch.randn(raw.shape)
    scaled = normalizer(raw)
    actions = torch.linspace(-1, 1, len(raw))[:, None].expand(-1, PUSH.action)
    found, expected = _outputs(folded, raw, actions), _outputs(theirs.policy, scaled, actions)
    assert len(found) == 2 * theirs.critic.n_critics + (1 if variant == "auto" else 2)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-5 if outliers else 0)
    unfolded = _outputs(theirs.policy, raw, actions)
    assert all((one - other).abs().max() > 1e-2 for one, other in zip(found, unfolded, strict=True))


def _outputs(policy: Any, inputs: Tensor, actions: Tensor) -> list[Tensor]:
    """Actions of every actor and values of every critic, targets included."""
    seen = entries(inputs)
    with torch.no_grad():
        values = [*policy.critic(seen, actions), *policy.critic_target(seen, actions)]
        if hasattr(policy, "actor_target"):
            return [policy.actor(seen), policy.actor_target(seen), *values]
        return [policy.actor(seen, deterministic=True), *values]


# Checkpoints that know nothing of this project

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
        "trivial_goal_keep": 0.02, "normalize_observations": True, "random_action_prob": 0.3,
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
        "learning_rate": 1e-3, "gamma": 0.99, "tau": 0.005, "action_noise": 0.1,
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
    assert model.replay_buffer.hindsight.trivial_goal_keep == 0.02


# Repeatable, however long things take


def weights_after(
    make_model: Callable[..., Any], settings: TrainSettings, pause: float = 0
) -> dict[str, Tensor]:
    """Weights and input statistics of a training in which every update takes a while longer."""
    model = make_model(settings)
    update = model.update

    def slow(batch: Any) -> None:
        time.sleep(pause)
        update(batch)

    model.update = slow
    model.learn(settings.run.total_steps)
    assert model._n_updates > 50
    return {**model.policy.state_dict(), **model.normalizer.state_dict()}


def are_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


# With HER and inputs to scale: learning goes on while a second episode ends and enters the replay.
WITH_HER = {"recipe": "fast", "gradient_steps": 2, "total_steps": 420}
# Without HER every step can be drawn at once, so that what is learned depends on when.
WITHOUT_HER = {"her": False, "gradient_steps": 3, "total_steps": 280}


def repeated(algo: str = "sac", **given: Any) -> TrainSettings:
    """With four environments; with four cores, three threads step them."""
    return tiny(algo, n_envs=4, learning_starts=200, **given)


@pytest.mark.parametrize(("algo", "given"), [("sac", WITH_HER), ("td3", WITHOUT_HER)])
def test_outcome_depends_on_neither_threads_nor_timing(
    algo: str,
    given: dict[str, Any],
    make_model: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = repeated(algo, **given)
    runs = []
    threads = []
    chosen = FetchVecEnv

    def spy(*arguments: Any, n_threads: int) -> FetchVecEnv:
        threads.append(n_threads)
        return chosen(*arguments, n_threads=n_threads)

    monkeypatch.setattr(fast, "FetchVecEnv", spy)
    for cores, pause in ((1, 0), (4, 0), (4, 2e-3)):
        monkeypatch.setattr(fast, "usable_cores", lambda cores=cores: cores)
        runs.append(weights_after(make_model, settings, pause))
    assert threads == [1, 3, 3]
    assert are_equal(runs[0], runs[1])
    assert are_equal(runs[0], runs[2])


def test_learning_in_turns_is_repeatable_and_another_training(
    make_model: Callable[..., Any],
) -> None:
    in_turns = repeated(**WITHOUT_HER, deterministic_engine=True)
    first, second = (weights_after(make_model, in_turns) for _ in range(2))
    assert are_equal(first, second)
    overlapped = weights_after(make_model, repeated(**WITHOUT_HER))
    assert not are_equal(first, overlapped)


def test_another_seed_gives_other_weights(make_model: Callable[..., Any]) -> None:
    both = [weights_after(make_model, repeated(**WITHOUT_HER, seed=seed)) for seed in (0, 1)]
    assert not are_equal(*both)


class Order:
    """What a training does, in order, and how much was stored by then."""

    def __init__(self, model: Any) -> None:
        self.events: list[str] = []
        self.stored: list[tuple[str, int]] = []
        store = model.replay_buffer.store
        for owner, name in (
            (model, "explore"),
            (model.env, "step_async"),
            (model, "update"),
            (model.env, "step_wait"),
        ):
            self._watch(owner, name, store)

    def _watch(self, owner: Any, name: str, store: Any) -> None:
        real = getattr(owner, name)

        def call(*arguments: Any) -> Any:
            self.events.append(name)
            self.stored.append((name, store.step))
            return real(*arguments)

        setattr(owner, name, call)


def watched(
    make_model: Callable[..., Any], *, synchronous: bool = False, train_freq: int = 1
) -> Order:
    """Ten vector steps, the last six of which act with the policy and learn twice."""
    settings = tiny(
        her=False,
        learning_starts=8,
        deterministic_engine=synchronous,
        train_freq=train_freq,
        gradient_steps=2,
    )
    model = make_model(settings)
    order = Order(model)
    model.learn(20)
    return order


BEFORE = ["step_async", "step_wait"]


def test_updates_happen_while_environments_step(make_model: Callable[..., Any]) -> None:
    events = watched(make_model).events
    step = ["explore", "step_async", "update", "update", "step_wait"]
    assert events == 4 * BEFORE + 6 * step


def test_learning_in_turns_waits_for_the_environments(make_model: Callable[..., Any]) -> None:
    events = watched(make_model, synchronous=True).events
    step = ["explore", "step_async", "step_wait", "update", "update"]
    assert events == 4 * BEFORE + 6 * step


def test_several_steps_per_training_learn_during_the_first(make_model: Callable[..., Any]) -> None:
    events = watched(make_model, train_freq=2).events
    act = ["explore", "step_async"]
    rollout = [*act, "update", "update", "step_wait", *act, "step_wait"]
    assert events == 4 * BEFORE + 3 * rollout


@pytest.mark.parametrize(("synchronous", "lag"), [(False, 1), (True, 0)])
def test_policy_that_acts_is_one_step_older_where_learning_overlaps(
    make_model: Callable[..., Any], synchronous: bool, lag: int
) -> None:
    stored = watched(make_model, synchronous=synchronous).stored
    seen = None  # vector steps that the last update could draw from
    lags = []
    for name, steps in stored:
        if name == "update":
            seen = steps
        elif name == "explore" and seen is not None:
            lags.append(steps - seen)
    assert lags == 5 * [lag]


# Random actions


def collected(
    make_model: Callable[..., Any], random_action_prob: float
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Actions before learning starts and after; the policy's own would all be 0.5."""
    settings = tiny(
        n_envs=8, learning_starts=400, total_steps=1_200, random_action_prob=random_action_prob
    )
    model = make_model(settings)
    actions: list[NDArray[Any]] = []
    step_async = model.env.step_async

    def watch(values: NDArray[Any]) -> None:
        actions.append(values.copy())
        step_async(values)

    model.env.step_async = watch
    model.explore = lambda inputs: torch.full((8, 4), 0.5)
    model.train = lambda _: None
    model.learn(settings.run.total_steps)
    assert len(actions) == 150
    return np.concatenate(actions[:50]), np.concatenate(actions[50:])


def assert_uniform(values: NDArray[Any]) -> None:
    """Kolmogorov-Smirnov in every dimension; one sample of 100,000 strays as far."""
    assert values.dtype == np.float32
    assert values.min() < -0.98
    assert values.max() > 0.98
    assert np.abs(values).max() <= 1
    n = len(values)
    for column in values.T:
        distance = np.abs((np.sort(column) + 1) / 2 - (np.arange(n) + 0.5) / n).max()
        assert distance < 2.5 / np.sqrt(n)
    correlations = np.corrcoef(values.T)[np.triu_indices(4, k=1)]
    assert np.abs(correlations).max() < 4.5 / np.sqrt(n)


def test_actions_before_learning_are_uniform(make_model: Callable[..., Any]) -> None:
    before, after = collected(make_model, random_action_prob=0.0)
    assert not (before == 0.5).any()
    assert_uniform(before)
    assert (after == 0.5).all()


def test_share_of_actions_is_uniform_while_learning(make_model: Callable[..., Any]) -> None:
    before, after = collected(make_model, random_action_prob=0.3)
    assert_uniform(before)
    own = (after == 0.5).all(axis=1)
    assert not (after[~own] == 0.5).any(), "an action is the policy's or random, never a mixture"
    n = len(after)
    assert abs(np.mean(~own) - 0.3) < 4 * np.sqrt(0.3 * 0.7 / n)
    assert_uniform(after[~own])
    # Each environment draws for itself: all 8 agree in 6 % of steps, not in all.
    assert np.mean([len(set(step)) == 2 for step in own.reshape(-1, 8)]) > 0.8


def test_td3_explores_with_gaussian_noise_within_bounds(
    make_model: Callable[..., Any],
) -> None:
    settings = tiny("td3", n_envs=8, learning_starts=0, total_steps=8, action_noise=0.2)
    model = make_model(settings)
    model.learn(8)  # Stable-Baselines3 sets up the noise of several environments only then
    set_random_seed(0)
    seen = torch.zeros(8, N_INPUTS)
    with torch.no_grad():
        own = model.actor(entries(seen))[0]
        model.actor.mu[-2].bias[0] = 10  # the first action is at its bound
        noisy = torch.cat([model.explore(seen) for _ in range(250)])
    assert (noisy.abs() <= 1).all()
    assert 0.4 < (noisy[:, 0] == 1).float().mean() < 0.6
    torch.testing.assert_close(noisy[:, 1:].mean(dim=0), own[1:], rtol=0, atol=0.02)
    torch.testing.assert_close(noisy[:, 1:].std(dim=0), torch.full((3,), 0.2), rtol=0.1, atol=0)
    assert len(noisy[:8, 1].unique()) == 8, "each environment has noise of its own"


# bfloat16


@pytest.mark.parametrize("variant", VARIANTS)
def test_bf16_updates_are_nearly_those_of_fp32(variant: str, push: FetchVecEnv) -> None:
    _, full = build_pair(variant, push, 2)
    half = build_lean(variant, push, random_batches(2), bf16=True)
    half.policy.load_state_dict(full.policy.state_dict())
    start = copy.deepcopy(full.policy.state_dict())
    noted: tuple[dict[str, list[float]], ...] = ({}, {})
    for model, losses in zip((full, half), noted, strict=True):
        model.note = lambda name, value, to=losses: to.setdefault(name, []).append(
            float(value.detach())
        )
        torch.manual_seed(3)
        model.train(2)
    assert noted[1]["critic_loss"] == pytest.approx(noted[0]["critic_loss"], rel=0.05)
    assert noted[1]["critic_loss"] != noted[0]["critic_loss"]
    assert noted[1]["actor_loss"] == pytest.approx(noted[0]["actor_loss"], rel=0.05, abs=0.05)
    moved, apart = (
        torch.cat([(half.policy.state_dict()[n] - other[n]).reshape(-1) for n in start]).norm()
        for other in (start, full.policy.state_dict())
    )
    assert 0 < apart < 0.5 * moved
    assert all(part.dtype == torch.float32 for part in half.policy.state_dict().values())


@pytest.mark.parametrize("algo", ["sac", "td3", "ddpg"])
def test_bf16_trains_and_says_so(algo: str, workdir: Path) -> None:
    losses: list[Tensor] = []
    kind = PAIRS[algo][1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kind, "note", lambda self, name, value: losses.append(value.detach()))
        train(tiny(algo, bf16=True, total_steps=140))
    assert len(losses) >= 20
    assert torch.stack([loss.reshape(()) for loss in losses]).isfinite().all()
    document = read_strict_json(Path(f"checkpoints/{algo}_her_FetchPush-v4_seed0.meta.json"))
    assert document["hyperparameters"]["bf16"] is True


# Learning


@pytest.mark.slow
@pytest.mark.parametrize("bf16", [False, True])
def test_sac_learns_to_reach(bf16: bool, workdir: Path) -> None:
    given = {"total_steps": 8_000, "device": "cpu", "track": "none", "progress": False}
    settings = resolve("sac", "FetchReach-v4", {**given, "bf16": bf16}, her=True)
    assert (settings.run.engine, settings.run.recipe) == ("fast", "fast")
    train(settings)
    checkpoint = "checkpoints/sac_her_FetchReach-v4_seed0.zip"
    succeed("eval.py", "--ckpt", checkpoint, "--n-episodes", "50", "--json-out", "result.json")
    assert read_strict_json(Path("result.json"))["aggregate"]["success_rate"] >= 0.9
