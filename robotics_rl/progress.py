"""Progress of long work: a live bar on a terminal, a line every ten seconds elsewhere."""

import sys
import time
from types import TracebackType
from typing import Self

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Counts up to ``total``; use it as a context manager.

    Args:
        total: units of work in all.
        unit: what is counted, e.g. ``steps``.
        done: units already done when this starts (a resumed run).
        enabled: show nothing where False.
    """

    def __init__(self, total: int, unit: str, done: int = 0, *, enabled: bool = True) -> None:
        self._total, self._unit, self._done, self._last_done = total, unit, done, done
        live = enabled and sys.stderr.isatty()
        self._bar = tqdm(total=total, initial=done, unit=f" {unit}", leave=False, disable=not live)
        self._lines = enabled and not live
        self._last_time = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()

    def update(self, done: int, note: str = "") -> None:
        """Say that ``done`` units are done; ``note`` stands beside it, e.g. ``success 0.93``."""
        self._bar.update(done - self._done)
        self._done = done
        if note:
            self._bar.set_postfix_str(note, refresh=False)
        now = time.monotonic()
        if self._lines and now - self._last_time >= SECONDS_BETWEEN_LINES:
            print(self._line(now, note), file=sys.stderr, flush=True)
            self._last_time, self._last_done = now, done

    def _line(self, now: float, note: str) -> str:
        """Speed and time left since the last line: learning is slower than the random start."""
        speed = (self._done - self._last_done) / max(now - self._last_time, 1e-9)
        parts = [
            f"{self._done:,}/{self._total:,} {self._unit}",
            f"{speed:,.0f} {self._unit}/s" if speed >= 10 else f"{speed:.1f} {self._unit}/s",
            note,
            f"{clock((self._total - self._done) / speed)} left" if speed else "",
        ]
        return "  " + " · ".join(part for part in parts if part)


def clock(seconds: float) -> str:
    """``1:02:03`` or ``2:03``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
