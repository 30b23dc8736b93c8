"""Stable-Baselines3's networks, computed with fewer operations: same weights, same numbers.

The modules stay where they are and keep their names, so checkpoints do not change.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

LOG_STD_MIN, LOG_STD_MAX = -20.0, 2.0  # bounds of Stable-Baselines3's actor
_HALF_LOG_2_PI = 0.9189385332046727


class FlatParameters:
    """Parameters of a module laid side by side in one tensor, and their gradients in another.

    The module's own parameters become views of it. One operation then does what takes one per
    parameter otherwise: a step of Adam, or of the target network's moving average.
    """

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        own = list(parameters)
        self.values = nn.Parameter(torch.cat([part.detach().reshape(-1) for part in own]))
        self.values.grad = torch.zeros_like(self.values)
        sizes = [part.numel() for part in own]
        values = torch.split(self.values.detach(), sizes)
        gradients = torch.split(self.values.grad, sizes)
        for part, value, gradient in zip(own, values, gradients, strict=True):
            part.data = value.view_as(part)
            part.grad = gradient.view_as(part)  # backward adds to it in place

    def adam(self, learning_rate: float) -> torch.optim.Adam:
        """An optimizer of all of them."""
        return torch.optim.Adam([self.values], lr=learning_rate, fused=True)

    def descend(self, loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
        """Take one step down the gradient of a loss."""
        loss.backward()
        optimizer.step()
        assert self.values.grad is not None
        self.values.grad.zero_()

    def move_towards(self, other: "FlatParameters", share: float) -> None:
        """Polyak averaging: this becomes (1 - share) · this + share · other."""
        self.values.detach().lerp_(other.values.detach(), share)


class Layer(NamedTuple):
    """Weight (out, in) and bias (out,) of a linear layer."""

    weight: Tensor
    bias: Tensor


Network = Sequence[Layer]  # with ReLU between them


def linear_layers(module: nn.Module) -> list[Layer]:
    """The layers of a Stable-Baselines3 multi-layer perceptron."""
    layers = [part for part in module.modules() if isinstance(part, nn.Linear)]
    others = [p for p in module.modules() if not isinstance(p, nn.Linear | nn.ReLU | nn.Sequential)]
    assert not others, f"not a plain perceptron with ReLU: {module}"
    return [Layer(layer.weight, layer.bias) for layer in layers]


def without_gradients(network: Network) -> list[Layer]:
    """The same weights, for a pass that needs gradients of its input alone."""
    return [Layer(layer.weight.detach(), layer.bias.detach()) for layer in network]


def forward(network: Network, inputs: Tensor) -> Tensor:
    """(n, in) → (n, out)."""
    return functional.linear(_hidden(network[:-1], inputs), *network[-1])


def _hidden(layers: Network, inputs: Tensor) -> Tensor:
    """What the last of some layers passes on."""
    for layer in layers:
        inputs = functional.linear(inputs, *layer).relu_()
    return inputs


def lowest(critics: Sequence[Network], inputs: Tensor) -> Tensor:
    """The least of the critics' values: (n, in) → (n,)."""
    values = [forward(critic, inputs).squeeze(1).float() for critic in critics]
    return values[0] if len(values) == 1 else torch.minimum(*values)


class SquashedGaussian:
    """SAC's actor (Haarnoja et al. 2018): tanh of a normal distribution.

    Args:
        actor: Stable-Baselines3's.
    """

    def __init__(self, actor: Any) -> None:
        self._body = linear_layers(actor.latent_pi)
        self._mean, self._log_std = (
            Layer(*actor.mu.parameters()),
            Layer(*actor.log_std.parameters()),
        )

    def sample(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Actions (n, action) in (-1, 1) and their log-probabilities (n,), reparametrized."""
        actions, noise, log_std = self._draw(inputs)
        normal = -0.5 * noise.square() - log_std - _HALF_LOG_2_PI
        # Density under tanh (paper, appendix C), with Stable-Baselines3's guard against log 0.
        return actions, (normal - torch.log(1 - actions.square() + 1e-6)).sum(dim=1)

    def act(self, inputs: Tensor) -> Tensor:
        """Actions (n, action) without their probabilities."""
        return self._draw(inputs)[0]

    def _draw(self, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Actions, the standard normal noise in them, and the log of its scale."""
        hidden = _hidden(self._body, inputs)
        mean = functional.linear(hidden, *self._mean).float()
        log_std = functional.linear(hidden, *self._log_std).float().clamp(LOG_STD_MIN, LOG_STD_MAX)
        noise = torch.randn_like(mean)
        return torch.tanh(mean + log_std.exp() * noise), noise, log_std
