"""An update of ours is that of Stable-Baselines3, from the same batch and the same noise."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from building import (
    BATCH_SIZE,
    VARIANTS,
    are_equal,
    build_lean,
    build_pair,
    random_batches,
    train_noting,
)
from stable_baselines3.common.logger import Logger

from robotics_rl.envs.fetch_vec_env import FetchVecEnv
from robotics_rl.learners import vectors


def train_theirs(theirs: Any, n_updates: int) -> dict[str, Any]:
    """Train from the torch seed of `train_noting`; what is logged, means over the updates."""
    torch.manual_seed(3)
    theirs.train(n_updates, BATCH_SIZE)
    logged = theirs.logger.name_to_value
    return {name.removeprefix("train/"): value for name, value in logged.items()}


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
    logged, noted = train_theirs(theirs, n_updates), train_noting(ours, n_updates)
    losses = logged.keys() - {"n_updates", "learning_rate"}
    assert losses == noted.keys()
    assert "critic_loss" in losses
    for name in losses:
        assert np.mean(noted[name]) == pytest.approx(logged[name], rel=1e-5, abs=1e-5), name
    expected, found = theirs.policy.state_dict(), ours.policy.state_dict()
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-5, msg=name)
        if not variant.startswith("td3") or n_updates > 1 or name.startswith("critic."):
            assert not torch.equal(value, before[name]), f"{name} was to learn"
    assert ours._n_updates == theirs._n_updates == n_updates


def test_how_many_batches_are_drawn_together_does_not_matter(
    push: FetchVecEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    together, by_twos = (build_lean("fixed", push, random_batches(5)) for _ in range(2))
    by_twos.policy.load_state_dict(together.policy.state_dict())
    train_noting(together, 5)
    monkeypatch.setattr(vectors, "_AT_ONCE", 2)
    train_noting(by_twos, 5)
    assert next(by_twos.replay_buffer._batches, None) is None, "every batch was to be taken"
    found = by_twos.policy.state_dict()
    for name, value in together.policy.state_dict().items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-6, msg=name)


def test_a_delayed_policy_waits_while_the_critics_go_on(push: FetchVecEnv) -> None:
    waiting = build_lean("auto", push, random_batches(4), policy_delay=2)
    policies = [
        copy.deepcopy(waiting.actor.state_dict()) | {"α": waiting.log_ent_coef.detach().clone()}
    ]
    critics = [copy.deepcopy(waiting.critic.state_dict())]
    for number in range(1, 5):
        noted = train_noting(waiting, 1)
        alpha = waiting.log_ent_coef.detach().clone()
        policies.append(copy.deepcopy(waiting.actor.state_dict()) | {"α": alpha})
        critics.append(copy.deepcopy(waiting.critic.state_dict()))
        assert ("actor_loss" in noted) == ("ent_coef_loss" in noted) == (number % 2 == 0)
    stays = [are_equal(*pair) for pair in itertools.pairwise(policies)]
    assert stays == [True, False, True, False]
    assert not any(are_equal(*pair) for pair in itertools.pairwise(critics))


def test_a_policy_that_waits_keeps_its_last_loss_in_the_log(push: FetchVecEnv) -> None:
    model = build_lean("fixed", push, random_batches(3), policy_delay=2)
    model.set_logger(Logger(None, []))
    model.train(2)
    model.train(1)  # waits
    model.record_losses()
    logged = dict(model.logger.name_to_value)
    assert {"train/actor_loss", "train/critic_loss", "train/ent_coef"} <= logged.keys()
    model.record_losses()
    assert model.logger.name_to_value == logged, "nothing is recorded twice"


def test_entropy_coefficient_is_learned_like_that_of_sb3(push: FetchVecEnv) -> None:
    theirs, ours = build_pair("auto", push, 3)
    train_theirs(theirs, 3)
    train_noting(ours, 3)
    assert theirs.log_ent_coef.item() != 0
    torch.testing.assert_close(ours.log_ent_coef, theirs.log_ent_coef, rtol=0, atol=1e-6)


def test_fixed_entropy_coefficient_stays(push: FetchVecEnv) -> None:
    ours = build_lean("fixed", push, random_batches(2))
    ours.train(2)
    assert ours.ent_coef_tensor.item() == pytest.approx(0.2)


def test_noise_matters_to_the_comparison(push: FetchVecEnv) -> None:
    """With other noise the weights part by more than the tolerance of the tests above."""
    theirs, ours = build_pair("fixed", push, 1)
    train_theirs(theirs, 1)
    train_noting(ours, 1, seed=4)
    expected, found = theirs.policy.state_dict(), ours.policy.state_dict()
    assert max(float((found[name] - expected[name]).abs().max()) for name in expected) > 1e-4


@pytest.mark.parametrize("variant", VARIANTS)
def test_names_and_shapes_of_weights_are_those_of_sb3(variant: str, push: FetchVecEnv) -> None:
    theirs, ours = build_pair(variant, push, 0)
    expected, found = theirs.policy.state_dict(), ours.policy.state_dict()
    assert list(found) == list(expected)
    assert [part.shape for part in found.values()] == [part.shape for part in expected.values()]
