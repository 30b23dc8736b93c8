"""Parameters lie side by side, and one optimizer step or moving average takes them all."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from building import VARIANTS, are_equal, build_lean, random_batches
from stable_baselines3 import SAC
from torch import nn

from robotics_rl.envs.fetch_vec_env import FetchVecEnv
from robotics_rl.learners.networks import FlatParameters


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
