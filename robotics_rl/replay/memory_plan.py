"""Room for frames that are stored once: how much they take, whether it is there, and taking it.

It is memory, or a file that a later run finds again.
"""

import json
import math
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from filelock import FileLock, Timeout
from numpy.typing import DTypeLike, NDArray

from robotics_rl.artifacts import atomic_write, require_file
from robotics_rl.errors import UsageError

GIB = 2**30
_PAGE = 4096  # bytes; a file's header has the first one
SHARE = 0.8  # of what is free, in the size that is suggested: other programs want some, too


@dataclass(frozen=True)
class FrameShape:
    """Sizes of everything that is stored."""

    n_envs: int
    horizon: int  # steps of the longest episode
    frame: tuple[int, int, int]  # channels, height, width
    frame_stack: int  # frames that networks see at once
    proprioception: int
    goal: int
    action: int

    def n_slots(self, capacity: int) -> int:
        """Episodes that are kept, running ones included: two of every environment at least."""
        return max(2 * self.n_envs, capacity // self.horizon)

    def arrays(self, n_slots: int) -> dict[str, tuple[DTypeLike, tuple[int, ...]]]:
        """Type and shape of each array; an episode has one place more than steps."""
        places, steps = (n_slots, self.horizon + 1), (n_slots, self.horizon)
        return {
            "proprioception": (np.float32, (*places, self.proprioception)),
            "achieved_goals": (np.float32, (*places, self.goal)),
            "desired_goals": (np.float32, (n_slots, self.goal)),
            "actions": (np.float32, (*steps, self.action)),
            "rewards": (np.float32, steps),
            "frames": (np.uint8, (*places, *self.frame)),
        }

    def slots_bytes(self, n_slots: int) -> int:
        """Bytes of so many episodes."""
        return sum(_bytes(*array) for array in self.arrays(n_slots).values())

    def stacked_bytes(self, capacity: int) -> int:
        """Bytes of as many transitions that each hold both their stacks."""
        stack = self.frame_stack * math.prod(self.frame)
        numbers = 2 * (self.proprioception + 2 * self.goal) + self.action + 1
        return capacity * (2 * stack + 4 * numbers)


def plan(capacity: int, shape: FrameShape) -> str:
    """What the buffer takes, in words."""
    taken, stacked = shape.slots_bytes(shape.n_slots(capacity)), shape.stacked_bytes(capacity)
    _, height, width = shape.frame
    return (
        f"{taken / GIB:.1f} GiB for {capacity:,} transitions of {height}×{width}, "
        f"instead of {stacked / GIB:.1f} GiB as stacks"
    )


def check(
    capacity: int, shape: FrameShape, path: Path | None = None, side_by_side: int = 1
) -> None:
    """Refuse what does not fit, before anything is taken.

    Args:
        capacity: transitions.
        shape: of the buffer.
        path: of the file that holds it; None: it is kept in memory.
        side_by_side: buffers like it that share the memory.

    Raises:
        UsageError: it does not fit, or the file cannot be written.
    """
    if path is not None:
        require_file(path)
    needed = side_by_side * shape.slots_bytes(shape.n_slots(capacity))
    free = psutil.virtual_memory().available if path is None else _free_on_disk(path)
    if needed <= free:
        return
    times = f", {side_by_side} times," if side_by_side > 1 else ""
    where = "" if path is None else f" on the disk of {path}"
    n_slots = int(free * SHARE) // (side_by_side * shape.slots_bytes(1))
    if n_slots >= shape.n_slots(0):
        advice = f"the largest that fits is --buffer-size {n_slots * shape.horizon}"
    else:
        advice = f"not even two episodes of {shape.n_envs} environments fit: free some"
    raise UsageError(
        f"a replay buffer of {capacity:,} transitions{times} needs {needed / GIB:.2f} GiB "
        f"and {free / GIB:.2f} GiB are free{where}; {advice}"
        + (", or keep it on disk with --buffer-file" if path is None else "")
    )


class FrameMemory:
    """The arrays, and a mark for each slot that tells whose content it is.

    A slot gets a new random mark before it is written to again. So if the mark that a run saved is
    not the slot's mark now, the slot was overwritten since, by that run or by another one.

    Args:
        capacity: transitions.
        shape: of the buffer.
        path: of the file; one that is there already is taken over with its content.

    Raises:
        UsageError: it does not fit, or the file is in use or made for something else.
    """

    def __init__(self, capacity: int, shape: FrameShape, path: Path | None = None) -> None:
        check(capacity, shape, path)
        n_slots = shape.n_slots(capacity)
        size = shape.slots_bytes(n_slots)
        self._entropy = np.random.default_rng()  # not the run's: two runs must differ in it
        self._lock: FileLock | None = None
        self._marks: NDArray[np.int64]
        self._content: NDArray[np.uint8]
        if path is None:
            self._marks = np.zeros(n_slots, dtype=np.int64)
            self._content = np.empty(size, dtype=np.uint8)
        else:
            self._lock = _locked(path)
            start = _PAGE + math.ceil(8 * n_slots / _PAGE) * _PAGE  # of the content
            header = json.dumps({**asdict(shape), "slots": n_slots, "layout": 1}).encode()
            _make_or_find(path, header.ljust(_PAGE), start + size)
            self._marks = np.memmap(path, np.int64, "r+", _PAGE, (n_slots,))
            self._content = np.memmap(path, np.uint8, "r+", start, (size,))
        self.arrays: dict[str, NDArray[Any]] = {}
        offset = 0
        for name, (dtype, sizes) in shape.arrays(n_slots).items():
            self.arrays[name] = np.ndarray(sizes, dtype, self._content.data, offset)
            offset += _bytes(dtype, sizes)

    @property
    def marks(self) -> NDArray[np.int64]:
        """The mark of each slot, (slots,); 0 where nothing was written. A copy."""
        return np.array(self._marks)

    def mark(self, slots: NDArray[np.int64]) -> None:
        """Call before writing to slots anew: nothing reaches the disk before their new marks."""
        self._marks[slots] = self._entropy.integers(1, 2**63 - 1, size=len(slots))
        _flush(self._marks)

    def flush(self) -> None:
        """See that everything written is on disk."""
        _flush(self._content)

    def close(self) -> None:
        """Let another run have the file."""
        self.flush()
        if self._lock is not None:
            self._lock.release()


def _bytes(dtype: DTypeLike, sizes: tuple[int, ...]) -> int:
    return math.prod(sizes) * np.dtype(dtype).itemsize


def _flush(array: NDArray[Any]) -> None:
    if isinstance(array, np.memmap):
        array.flush()


def _free_on_disk(path: Path) -> int:
    existing = next(parent for parent in path.absolute().parents if parent.exists())
    return shutil.disk_usage(existing).free + (path.stat().st_size if path.exists() else 0)


def _locked(path: Path) -> FileLock:
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_name(path.name + ".lock"), timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise UsageError(
            f"another training uses {path}; wait for it, or name another file with --buffer-file"
        ) from None
    return lock


def _make_or_find(path: Path, header: bytes, size: int) -> None:
    """See to a file of this size that begins with the header."""
    if path.exists():
        with path.open("rb") as file:
            found = file.read(len(header))
        if found != header or path.stat().st_size != size:
            raise UsageError(
                f"{path} is no replay file of these sizes; name another one with --buffer-file, "
                "or delete it"
            )
        return
    with atomic_write(path) as temporary, temporary.open("r+b") as file:
        file.write(header)
        file.flush()
        file.truncate(size)
        if hasattr(os, "posix_fallocate"):  # else a disk that fills up later ends the process
            os.posix_fallocate(file.fileno(), 0, size)
