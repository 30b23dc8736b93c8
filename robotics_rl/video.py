"""Videos on disk."""

import subprocess
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from tempfile import TemporaryFile
from typing import cast

import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from robotics_rl.artifacts import atomic_write
from robotics_rl.envs import Env
from robotics_rl.errors import UsageError

Picture = NDArray[np.uint8]  # (height, width, 3)
FPS = 25.0  # Fetch is controlled at 25 Hz
GIF_EVERY, GIF_SMALLER = 2, 2  # of frames, and of pixels a side: for web pages
GIF_COLOURS, GIF_SAMPLES = 128, 16  # in the palette, and frames that it is made from


@dataclass
class Recorder:
    """Keeps the frames of the first ``n_episodes`` episodes, (H, W, 3) uint8 each."""

    n_episodes: int
    frames: list[Picture] = field(default_factory=list)

    def look(self, env: Env, episode: int) -> None:
        """Draw ``env`` as it stands, if its episode is one of those."""
        if episode < self.n_episodes:
            self.frames.append(cast(Picture, env.render()))


def write_mp4(path: Path, frames: Iterable[Picture]) -> None:
    """Write an H.264 video, frame by frame as they come.

    Args:
        path: ends in ``.mp4``.
        frames: one or more pictures of one size, both sides even.

    Raises:
        UsageError: it cannot be written.
    """
    encoder = require_encoder()
    with atomic_write(path) as temporary, TemporaryFile() as said:
        rest = iter(frames)
        first = next(rest)
        arguments = _arguments(temporary, first)
        with subprocess.Popen(
            [encoder, *arguments], stdin=subprocess.PIPE, stderr=said, start_new_session=True
        ) as process:
            assert process.stdin is not None
            with suppress(BrokenPipeError):  # it has ended before its time, and said why
                try:
                    for frame in chain([first], rest):
                        process.stdin.write(frame.tobytes())
                finally:
                    process.stdin.close()
        if process.returncode:
            said.seek(0)
            reason = said.read().decode(errors="replace").strip().splitlines() or ["no reason"]
            raise UsageError(
                f"cannot write {path}: ffmpeg says: {reason[-1]}; choose another folder"
            )


def require_encoder() -> str:
    """The program that writes MP4.

    Raises:
        UsageError: there is none.
    """
    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError:
        raise UsageError(
            "there is no ffmpeg to write MP4 with; run: pip install 'imageio[ffmpeg]'"
        ) from None


def _arguments(path: Path, frame: Picture) -> list[str]:
    """Of ffmpeg, which reads frames like this one from its input."""
    height, width, _ = frame.shape
    taken = f"-f rawvideo -pix_fmt rgb24 -s {width}x{height} -r {FPS} -i -"
    # Colours as every player knows them; the index stands first, so that browsers need not wait.
    given = "-c:v libx264 -pix_fmt yuv420p -movflags +faststart -f mp4 -y"
    return [*f"-v error {taken} {given}".split(), str(path)]


@dataclass
class Gif:
    """Collects the frames of a video that a GIF shows, smaller, as they pass."""

    _frames: list[Image.Image] = field(default_factory=list)

    def passing(self, frames: Iterable[Picture]) -> Iterator[Picture]:
        """The same frames; every second one is kept."""
        for index, frame in enumerate(frames):
            if index % GIF_EVERY == 0:
                self._frames.append(Image.fromarray(frame).reduce(GIF_SMALLER))
            yield frame

    def write(self, path: Path) -> None:
        """Write them with one palette, endlessly repeated.

        Colours of its own in every frame would flicker, and nothing could be left out of a frame
        that is as it was in the one before.

        Args:
            path: ends in ``.gif``.

        Raises:
            UsageError: it cannot be written.
        """
        palette = _palette(self._frames[:: max(1, len(self._frames) // GIF_SAMPLES)])
        first, *rest = (
            frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in self._frames
        )
        with atomic_write(path) as temporary:
            first.save(
                temporary,
                format="gif",
                save_all=True,
                append_images=rest,
                duration=round(1000 * GIF_EVERY / FPS),  # milliseconds
                loop=0,
            )


def _palette(frames: list[Image.Image]) -> Image.Image:
    """A picture whose palette has the colours of all."""
    together = Image.fromarray(np.concatenate([np.asarray(frame) for frame in frames]))
    # The median cut would take the few red pixels of the goal for grey ones.
    return together.quantize(GIF_COLOURS, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
