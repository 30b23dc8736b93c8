"""Learning overlaps with stepping in a fixed order, so that its outcome is not left to chance."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from building import N_INPUTS, are_equal, entries, tiny
from numpy.typing import NDArray
from stable_baselines3.common.utils import set_random_seed
from torch import Tensor

from robotics_rl import envs
from robotics_rl.config import TrainSettings
from robotics_rl.envs.fetch_vec_env import FetchVecEnv
from robotics_rl.learners import fast

MakeModel = Callable[[TrainSettings], Any]


@pytest.fixture
def make_model() -> Iterator[MakeModel]:
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


# Repeatable, however long things take


def weights_after(
    make_model: MakeModel, settings: TrainSettings, pause: float = 0
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


# With HER and inputs to scale: learning goes on while a second episode ends and enters the replay.
WITH_HER = {"recipe": "fast", "gradient_steps": 2, "total_steps": 420}
# Without HER every step can be drawn at once, so that what is learned depends on when.
WITHOUT_HER = {"her": False, "gradient_steps": 3, "total_steps": 280}


def repeated(algo: str = "sac", **given: Any) -> TrainSettings:
    """With four environments; with four cores, three threads step them."""
    return tiny(algo, n_envs=4, learning_starts=200, **given)


@pytest.mark.parametrize(("algo", "given"), [("sac", WITH_HER), ("td3", WITHOUT_HER)])
def test_outcome_depends_on_neither_threads_nor_timing(
    algo: str, given: dict[str, Any], make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
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


def test_learning_in_turns_is_repeatable_and_another_training(make_model: MakeModel) -> None:
    in_turns = repeated(**WITHOUT_HER, deterministic_engine=True)
    first, second = (weights_after(make_model, in_turns) for _ in range(2))
    assert are_equal(first, second)
    overlapped = weights_after(make_model, repeated(**WITHOUT_HER))
    assert not are_equal(first, overlapped)


def test_another_seed_gives_other_weights(make_model: MakeModel) -> None:
    both = [weights_after(make_model, repeated(**WITHOUT_HER, seed=seed)) for seed in (0, 1)]
    assert not are_equal(*both)


# The order of things


def watched(
    make_model: MakeModel, *, synchronous: bool = False, train_freq: int = 1
) -> list[tuple[str, int]]:
    """What a training does, in order, and how many vector steps were stored by then.

    Of its ten vector steps, the last six act with the policy and learn twice.
    """
    settings = tiny(
        her=False,
        learning_starts=8,
        deterministic_engine=synchronous,
        train_freq=train_freq,
        gradient_steps=2,
    )
    model = make_model(settings)
    calls: list[tuple[str, int]] = []

    def watch(owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def call(*arguments: Any) -> Any:
            calls.append((name, model.replay_buffer.store.step))
            return real(*arguments)

        setattr(owner, name, call)

    for name in ("explore", "update"):
        watch(model, name)
    for name in ("step_async", "step_wait"):
        watch(model.env, name)
    model.learn(20)
    return calls


def names_of(calls: list[tuple[str, int]]) -> list[str]:
    return [name for name, _ in calls]


BEFORE = ["step_async", "step_wait"]


def test_updates_happen_while_environments_step(make_model: MakeModel) -> None:
    events = names_of(watched(make_model))
    step = ["explore", "step_async", "update", "update", "step_wait"]
    assert events == 4 * BEFORE + 6 * step


def test_learning_in_turns_waits_for_the_environments(make_model: MakeModel) -> None:
    events = names_of(watched(make_model, synchronous=True))
    step = ["explore", "step_async", "step_wait", "update", "update"]
    assert events == 4 * BEFORE + 6 * step


def test_several_steps_per_training_learn_during_the_first(make_model: MakeModel) -> None:
    events = names_of(watched(make_model, train_freq=2))
    act = ["explore", "step_async"]
    rollout = [*act, "update", "update", "step_wait", *act, "step_wait"]
    assert events == 4 * BEFORE + 3 * rollout


@pytest.mark.parametrize(("synchronous", "lag"), [(False, 1), (True, 0)])
def test_policy_that_acts_is_one_step_older_where_learning_overlaps(
    make_model: MakeModel, synchronous: bool, lag: int
) -> None:
    seen = None  # vector steps that the last update could draw from
    lags = []
    for name, steps in watched(make_model, synchronous=synchronous):
        if name == "update":
            seen = steps
        elif name == "explore" and seen is not None:
            lags.append(steps - seen)
    assert lags == 5 * [lag]


# Random actions


def collected(
    make_model: MakeModel, random_action_prob: float
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


def test_actions_before_learning_are_uniform(make_model: MakeModel) -> None:
    before, after = collected(make_model, random_action_prob=0.0)
    assert not (before == 0.5).any()
    assert_uniform(before)
    assert (after == 0.5).all()


def test_share_of_actions_is_uniform_while_learning(make_model: MakeModel) -> None:
    before, after = collected(make_model, random_action_prob=0.3)
    assert_uniform(before)
    own = (after == 0.5).all(axis=1)
    assert not (after[~own] == 0.5).any(), "an action is the policy's or random, never a mixture"
    n = len(after)
    assert abs(np.mean(~own) - 0.3) < 4 * np.sqrt(0.3 * 0.7 / n)
    assert_uniform(after[~own])
    # Each environment draws for itself: all 8 agree in 6 % of steps, not in all.
    assert np.mean([len(set(step)) == 2 for step in own.reshape(-1, 8)]) > 0.8


def test_td3_explores_with_gaussian_noise_within_bounds(make_model: MakeModel) -> None:
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
