"""Gradient steps recorded on a GPU: the same as those taken one operation after the other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from test_pixel_sac import VARIANTS, build, random_batch
from torch import Tensor

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need an NVIDIA GPU")
N_STEPS = 12  # more than are taken before each kind is recorded


@pytest.fixture
def exact() -> Iterator[None]:
    """The same sums in the same order, without shortened mantissas."""
    before = torch.backends.cudnn.deterministic, torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.deterministic, torch.backends.cudnn.allow_tf32 = True, False
    yield
    torch.backends.cudnn.deterministic, torch.backends.cudnn.allow_tf32 = before


def train(
    variant: str, *, cuda_graphs: bool, **settings: Any
) -> tuple[list[Tensor], dict[str, float]]:
    """Weights after some steps on batches that differ, and the mean of every loss."""
    model = build(
        **VARIANTS[variant],
        device="cuda",
        **settings,
        normalize_observations=True,
        cuda_graphs=cuda_graphs,
    )
    torch.manual_seed(7)
    for seed in range(N_STEPS):
        batch = random_batch(seed)
        seen = (batch.proprioception, batch.achieved_goals, batch.desired_goals)
        model.normalizer.update(np.concatenate(seen, 1))  # written where a recorded step reads
        model.step(model.views(batch))
        model._n_updates += 1
    return [part.detach().cpu() for part in model.policy.parameters()], model.take_losses()


@gpu
@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("policy_delay", [1, 2])
@pytest.mark.parametrize("variant", VARIANTS)
def test_recorded_steps_do_what_steps_do(
    exact: None, variant: str, policy_delay: int, bf16: bool
) -> None:
    settings: dict[str, Any] = {"policy_delay": policy_delay, "bf16": bf16}
    weights, losses = train(variant, cuda_graphs=False, **settings)
    recorded, noted = train(variant, cuda_graphs=True, **settings)
    for ours, theirs in zip(recorded, weights, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    assert noted == pytest.approx(losses, rel=1e-4)
