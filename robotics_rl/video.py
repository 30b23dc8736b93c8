"""Videos on disk."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import imageio.v3 as iio
import numpy as np
from numpy.typing import NDArray

from robotics_rl.artifacts import atomic_write
from robotics_rl.envs import Env


@dataclass
class Recorder:
    """Keeps the frames of the first ``n_episodes`` episodes, (H, W, 3) uint8 each."""

    n_episodes: int
    frames: list[NDArray[np.uint8]] = field(default_factory=list)

    def look(self, env: Env, episode: int) -> None:
        """Draw ``env`` as it stands, if its episode is one of those."""
        if episode < self.n_episodes:
            self.frames.append(cast(NDArray[np.uint8], env.render()))


def write_mp4(path: Path, frames: Sequence[NDArray[np.uint8]], fps: float = 25.0) -> None:
    """Write an H.264 video.

    Args:
        path: ends in ``.mp4``.
        frames: pictures of one size, (H, W, 3) uint8.
        fps: frames per second; Fetch is controlled at 25 Hz.

    Raises:
        UsageError: it cannot be written.
    """
    with atomic_write(path) as temporary:
        encoded = iio.imwrite(
            "<bytes>",
            np.stack(frames),
            extension=".mp4",
            plugin="FFMPEG",
            fps=fps,
            macro_block_size=1,  # keep the size of the frames
        )
        temporary.write_bytes(encoded)
