"""One style for every figure: legible in print, in grey, and to colour-blind eyes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from robotics_rl.artifacts import atomic_write

# Colours of Okabe and Ito (2008), ordered so that neighbours differ in grey as well.
COLOURS = ("#000000", "#E69F00", "#0072B2", "#CC79A7", "#009E73", "#D55E00")
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)))  # and lines without colours
STYLE: Any = {  # matplotlib lists every name it takes
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "legend.frameon": False,
    "savefig.dpi": 200,
}


@contextmanager
def figure(path: Path, width: float, height: float) -> Iterator[Figure]:
    """A figure to draw on, ``width`` by ``height`` inches, written to ``path`` as PNG afterwards.

    Raises:
        UsageError: the file cannot be written.
    """
    with matplotlib.rc_context(STYLE):
        drawn = Figure(figsize=(width, height), layout="constrained")
        yield drawn
        with atomic_write(path) as temporary:
            drawn.savefig(temporary, format="png")
    print(f"OK: wrote {path}")
