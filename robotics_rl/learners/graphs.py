"""Gradient steps recorded once as CUDA graphs: the GPU need not wait for Python in between."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_EAGER = 3  # steps of a kind taken as they are, on the graphs' stream, before it is recorded

Learn = Callable[[Any], dict[str, list[Tensor]]]  # a batch → the losses noted


@dataclass(frozen=True)
class _Recording:
    graph: torch.cuda.CUDAGraph
    losses: dict[str, list[Tensor]]  # written anew by every replay


class GraphedSteps:
    """Replays gradient steps on batches of one size.

    A recorded step does what it did when it was recorded, to the same memory: parameters,
    optimizers and scales must stay where they are, and nothing may be read back from the GPU.
    Optimizers must be ``capturable``.

    Args:
        learn: takes one gradient step on a batch (a tuple of tensors, of tuples of them, and of
            plain values), and returns the losses that it noted.
    """

    def __init__(self, learn: Learn) -> None:
        self._learn = learn
        self._stream = torch.cuda.Stream()
        self._batch: Any = None  # what recorded steps read
        self._taken: dict[int, int] = {}  # steps of each kind so far
        self._recordings: dict[int, _Recording] = {}

    def __call__(self, batch: Any, kind: int) -> dict[str, list[Tensor]]:
        """Take one gradient step; steps of a kind all do the same.

        Returns:
            The losses noted.
        """
        self._taken[kind] = self._taken.get(kind, 0) + 1
        if self._taken[kind] <= _EAGER:
            with _beside(self._stream):
                return self._learn(batch)
        self._batch = _copied(batch, self._batch)
        if kind not in self._recordings:
            self._recordings[kind] = self._record()
        recording = self._recordings[kind]
        recording.graph.replay()
        return {name: [one.clone() for one in all_] for name, all_ in recording.losses.items()}

    def _record(self) -> _Recording:
        """Recording executes nothing."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self._stream):
            losses = self._learn(self._batch)
        return _Recording(graph, losses)


@contextmanager
def _beside(stream: torch.cuda.Stream) -> Iterator[None]:
    """Work on another stream, in order with what the current one does before and after."""
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        yield
    torch.cuda.current_stream().wait_stream(stream)


def _copied(source: Any, target: Any) -> Any:
    """``source`` in the memory of ``target``, or in memory of its own where that is None."""
    if isinstance(source, Tensor):
        return source.clone() if target is None else target.copy_(source)
    if not isinstance(source, tuple):
        return source
    parts = [_copied(part, target and target[i]) for i, part in enumerate(source)]
    return type(source)(*parts) if hasattr(source, "_fields") else tuple(parts)
