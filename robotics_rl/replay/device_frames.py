"""Frames where the networks are: what a GPU gathers itself need not be carried to it."""

import torch
from torch import Tensor

from robotics_rl.replay.episodes import Indices
from robotics_rl.replay.frames import FrameReplay

_SHARE = 0.7  # of a GPU's free memory; networks want some, too


def fits(n_bytes: int, device: torch.device) -> bool:
    """Whether frames may have a copy there; the CPU reads the store itself."""
    return device.type == "cuda" and n_bytes <= _SHARE * torch.cuda.mem_get_info(device)[0]


class DeviceFrames:
    """A copy of a replay's frames on a device, which the replay then draws from.

    Args:
        replay: whose store it follows from here on.
        device: with room for it, as ``fits`` says.
    """

    def __init__(self, replay: FrameReplay, device: torch.device) -> None:
        self._store, self._device = replay.store, device
        frames = self._store.frames
        self._frames = torch.empty(frames.shape, dtype=torch.uint8, device=device)
        self._store.follower, replay.windows = self.follow, self.windows

    def follow(self, slots: Indices, places: Indices) -> None:
        """Copy frames that the store has got."""
        if len(slots) == 0:
            return
        new = torch.from_numpy(self._store.frames[slots, places]).to(self._device)
        self._frames[self._indices(slots), self._indices(places)] = new

    def windows(self, slots: Indices, steps: Indices) -> Tensor:
        """All frames of these transitions: see ``FrameBatch``."""
        rows = self._indices(self._store.rows(slots, steps).ravel())
        windows = self._frames.flatten(0, 1).index_select(0, rows)
        return windows.view(len(slots), -1, *windows.shape[-2:])

    def _indices(self, numbers: Indices) -> Tensor:
        return torch.from_numpy(numbers).to(self._device, non_blocking=True)
