"""Stopping on request: a signal asks, and long work answers where nothing is half done."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from robotics_rl.errors import Interrupted


@dataclass
class Stop:
    """Set by a signal, read between two steps."""

    signum: int | None = None

    def raise_if_asked(self) -> None:
        """End what can be begun again with the same command.

        Raises:
            Interrupted: a signal came.
        """
        if self.signum is not None:
            message = "stopped; the same command goes on where this one was"
            raise Interrupted(message, self.signum)


@contextmanager
def stop_requests() -> Iterator[Stop]:
    """Turn the first SIGINT or SIGTERM into a request; a second one ends the process at once."""
    stop = Stop()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def give_back() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def request(signum: int, _: Any) -> None:
        stop.signum = signum
        give_back()

    for number in before:
        signal.signal(number, request)
    try:
        yield stop
    finally:
        give_back()
