"""One style for every figure: legible in print, in grey, and to colour-blind eyes."""

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter
from PIL import Image

from robotics_rl.artifacts import atomic_write

# Colours of Okabe and Ito (2008), ordered so that neighbours differ in grey as well.
COLOURS = ("#000000", "#E69F00", "#0072B2", "#CC79A7", "#009E73", "#D55E00")
LINES = ("-", "-.", ":", (0, (9, 2)), (0, (1, 3)), (0, (5, 1, 1, 1, 1, 1)))  # without colours
TARGET: Any = {"linestyle": "--", "linewidth": 1.0}  # what is to be reached; nothing else is dashed
STYLE: Any = {  # matplotlib lists every name it takes
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "legend.frameon": False,
    "savefig.dpi": 200,
}
_CAPTION_SIZE = 7.5  # points
_LETTERS_PER_INCH = 17.0  # of a caption
_PALETTE = 256  # colours; a quarter of the bytes, and nobody sees it

Points = tuple[Sequence[float], Sequence[float]]  # x and y


def in_style() -> AbstractContextManager[None]:
    """The style, for what others draw within it."""
    return matplotlib.rc_context(STYLE)


@contextmanager
def figure(path: Path, width: float, height: float, caption: str = "") -> Iterator[Figure]:
    """A figure to draw on, written to ``path`` as PNG afterwards.

    Args:
        path: of the PNG.
        width: inches.
        height: inches.
        caption: what is shown and where it is from, in small letters below it.

    Raises:
        UsageError: the file cannot be written.
    """
    with in_style():
        drawn = Figure(figsize=(width, height), layout="constrained")
        yield drawn
        if caption:
            text = textwrap.fill(caption, int(_LETTERS_PER_INCH * width))
            drawn.supxlabel(text, x=0.01, ha="left", fontsize=_CAPTION_SIZE, color="0.3")
        with atomic_write(path) as temporary:
            drawn.savefig(temporary, format="png")
            shrink(temporary)
    print(f"OK: wrote {path}", flush=True)


def shrink(path: Path) -> None:
    """Fewer bytes for the same picture, at the same resolution."""
    with Image.open(path) as full:
        kind = Image.Quantize.MAXCOVERAGE  # keeps rare colours; k-means then mends frequent ones
        small = full.convert("RGB").quantize(_PALETTE, kind, kmeans=1, dither=Image.Dither.NONE)
        small.save(path, format="png", optimize=True, dpi=full.info["dpi"])


def line_style(number: int) -> dict[str, Any]:
    """A line that can be told from its neighbours, in colour and in grey."""
    n = number % len(LINES)
    return {"color": COLOURS[n], "linestyle": LINES[n]}


def steps_axis(axes: Axes, label: str = "environment steps") -> None:
    """Numbers along x as 500k or 1M."""
    axes.set_xlabel(label)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def draw_over_seeds(axes: Axes, curves: Sequence[Points], number: int, label: str) -> None:
    """Mean of several curves, and a band from the lowest to the highest of them.

    Steps need not be the same: between two of them, a curve is a straight line. Where not every
    curve has a value, nothing is drawn.

    Args:
        axes: to draw on.
        curves: one per training seed.
        number: of the line among the others.
        label: for the legend.
    """
    first, last = max(xs[0] for xs, _ in curves), min(xs[-1] for xs, _ in curves)
    steps = np.unique([x for xs, _ in curves for x in xs if first <= x <= last])
    values = np.array([np.interp(steps, *curve) for curve in curves])
    style = line_style(number)
    axes.plot(steps, values.mean(axis=0), label=label, **style)
    if len(curves) > 1:
        low, high = values.min(axis=0), values.max(axis=0)
        axes.fill_between(steps, low, high, color=style["color"], alpha=0.2, linewidth=0)
