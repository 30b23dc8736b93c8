"""Inputs are scaled by what was seen of them; a policy can take the scaling into its weights."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from building import N_INPUTS, PUSH, build_pair, entries
from numpy.typing import NDArray
from torch import Tensor

from robotics_rl.envs.fetch_vec_env import FetchVecEnv
from robotics_rl.learners.normalizer import MIN_STD, InputNormalizer


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


def test_normalizer_makes_unused_inputs_nothing_and_leaves_the_others(
    inputs: NDArray[np.float32],
) -> None:
    normalizers = [InputNormalizer(N_INPUTS, enabled=True, n_unused=n) for n in (3, 0)]
    fresh = normalizers[0](torch.from_numpy(inputs))
    assert torch.equal(fresh[:, :3], torch.zeros(len(inputs), 3)), "from the start"
    assert torch.equal(fresh[:, 3:], torch.from_numpy(inputs[:, 3:]))
    for normalizer in normalizers:
        normalizer.update(inputs)
    found, whole = (normalizer(torch.from_numpy(inputs)) for normalizer in normalizers)
    assert torch.equal(found[:, :3], torch.zeros(len(inputs), 3))
    assert torch.equal(found[:, 3:], whole[:, 3:])


def test_normalizer_that_is_off_changes_nothing(inputs: NDArray[np.float32]) -> None:
    normalizer = InputNormalizer(N_INPUTS, enabled=False)
    normalizer.update(inputs)
    assert torch.equal(normalizer(torch.from_numpy(inputs)), torch.from_numpy(inputs))


@pytest.mark.parametrize("n_unused", [0, 3])
@pytest.mark.parametrize("outliers", [False, True])
@pytest.mark.parametrize("variant", ["auto", "td3", "ddpg"])
def test_folded_policy_gives_for_raw_inputs_what_it_gave_for_scaled_ones(
    variant: str, outliers: bool, n_unused: int, push: FetchVecEnv, inputs: NDArray[np.float32]
) -> None:
    theirs, _ = build_pair(variant, push, 0)
    normalizer = InputNormalizer(N_INPUTS, enabled=True, n_unused=n_unused)
    normalizer.update(inputs)
    folded = copy.deepcopy(theirs.policy)
    normalizer.fold_into(folded)
    raw = torch.from_numpy(inputs)
    if outliers:  # Q-values then reach hundreds, and float32 seven digits
        raw = raw + 30 * normalizer.std.nan_to_num(posinf=1) * torch.randn(raw.shape)
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
