"""Videos on disk."""

from collections.abc import Sequence
from pathlib import Path

import imageio.v3 as iio
import numpy as np
from numpy.typing import NDArray

from robotics_rl.artifacts import atomic_write


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
