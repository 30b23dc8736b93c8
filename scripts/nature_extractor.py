"""The Atari encoder of chapter 9's step 0 as a part of a Stable-Baselines3 policy."""

from collections.abc import Sequence
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor
from visual_encoder import NatureCNN

FEATURES = 512  # of the pictures


class NatureExtractor(BaseFeaturesExtractor):
    """What ``NatureCNN`` makes of pictures, then the vectors.

    Args:
        observation_space: with ``pixels`` (channels, 84, 84).
        vectors: entries that are read beside them.
    """

    def __init__(self, observation_space: spaces.Dict, vectors: Sequence[str]) -> None:
        parts: dict[str, Any] = observation_space.spaces
        super().__init__(observation_space, FEATURES + sum(parts[v].shape[0] for v in vectors))
        self.vectors, self.cnn = vectors, NatureCNN(parts["pixels"].shape[0], FEATURES)

    def forward(self, observations: dict[str, Tensor]) -> Tensor:
        """pixels: (B, channels, 84, 84), bytes or floats in [0, 1] -> (B, features_dim)."""
        pixels = observations["pixels"]
        if pixels.dtype == torch.uint8:  # Stable-Baselines3's policies have divided them already
            pixels = pixels / 255.0
        vectors = (observations[name] for name in self.vectors)
        return torch.cat([self.cnn(pixels), *vectors], dim=-1)
