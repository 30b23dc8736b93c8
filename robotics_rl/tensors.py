"""Files of tensors, read without running code that may be in them."""

import io
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

_BOUND = 1e6  # weights of a network that learns are of the order of 1


class DamagedTensorsError(Exception):
    """The file holds no plain tensors."""


def have_diverged(weights: Iterable[torch.Tensor]) -> bool:
    """Whether any of them is NaN, infinite, or so large that outputs soon will be."""
    return not all(bool((tensor.abs() < _BOUND).all()) for tensor in weights)


def load(source: Path | io.BytesIO, device: str = "cpu", *, mmap: bool = False) -> Any:
    """What ``torch.save`` wrote, if it is tensors, numbers, strings and containers of these.

    Args:
        source: a file, or one in memory.
        device: where tensors go.
        mmap: leave tensors on disk until they are used; of files alone.

    Raises:
        DamagedTensorsError: it is anything else, or cut short.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch wonders aloud about damaged files
            return torch.load(source, map_location=device, weights_only=True, mmap=mmap)
    except Exception as error:  # damage shows as whatever the parser stumbles over
        raise DamagedTensorsError(f"{type(error).__name__}: {error}") from error
