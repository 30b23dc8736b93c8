"""Inputs scaled to mean 0 and standard deviation 1, in a way that a checkpoint can do without."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from robotics_rl.replay.episodes import Indices

# Smaller deviations are scaled as if they had this one: an input that hardly varies must not
# become the largest of all, nor the folded layer's bias a difference of large numbers.
MIN_STD = 1e-2


class InputNormalizer(nn.Module):
    """Running mean and standard deviation of every input.

    No input is clipped, so scaling is linear, and the first layer of a network can absorb it.

    Args:
        size: number of inputs.
        enabled: leave inputs as they are where False.
        n_unused: inputs at the front that are not used: they become 0.
    """

    def __init__(self, size: int, *, enabled: bool, n_unused: int = 0) -> None:
        super().__init__()
        self.enabled, self._n_unused = enabled, n_unused
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("std", torch.ones(size))
        self._leave_out_unused()
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("sum", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("sum_of_squares", torch.zeros(size, dtype=torch.float64))

    mean: Tensor
    std: Tensor
    count: Tensor
    sum: Tensor
    sum_of_squares: Tensor

    def update(self, inputs: NDArray[np.float32]) -> None:
        """Take (n, size) more inputs into account."""
        if not self.enabled:
            return
        new = torch.as_tensor(inputs, dtype=torch.float64, device=self.sum.device)
        self.count += len(new)
        self.sum += new.sum(dim=0)
        self.sum_of_squares += new.square().sum(dim=0)
        mean = self.sum / self.count
        variance = (self.sum_of_squares / self.count - mean.square()).clamp(min=0)
        self.mean.copy_(mean)
        self.std.copy_(variance.sqrt().clamp(min=MIN_STD))
        self._leave_out_unused()

    def _leave_out_unused(self) -> None:
        self.std[: self._n_unused] = torch.inf  # divided by it, an input and its weight are 0

    def forward(self, inputs: Tensor) -> Tensor:
        """(n, size) → (n, size)."""
        return (inputs - self.mean) / self.std if self.enabled else inputs

    def fold_into(self, policy: nn.Module, *, first: int = 0, used: Indices | None = None) -> None:
        """Make a Stable-Baselines3 policy give for raw inputs what it gave for scaled ones.

        Args:
            policy: whose actor and critics get the inputs.
            first: features that they get before these.
            used: those of the inputs that they get; None: all.
        """
        mean, std = self.mean.double(), self.std.double()
        if used is not None:
            mean, std = mean[used], std[used]
        for network in policy.children():
            for body in network.children():
                if isinstance(body, nn.Sequential):  # of an actor, or of one critic
                    layer = next(part for part in body if isinstance(part, nn.Linear))
                    _fold_into_layer(layer, slice(first, first + len(mean)), mean, std)


def _fold_into_layer(layer: nn.Linear, columns: slice, mean: Tensor, std: Tensor) -> None:
    """Other columns stay as they are: learned features, and a critic's actions."""
    weight = layer.weight.data.double()
    weight[:, columns] /= std
    layer.bias.data.sub_(weight[:, columns] @ mean)
    layer.weight.data.copy_(weight)
