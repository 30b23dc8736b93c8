"""Break one line of a lab on purpose and see whether its own checks notice.

The source is changed in memory only. A lab is run in this process, because its imports take longer
than most of its checks.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple
from unittest import mock

LABS = Path(__file__).resolve().parents[2] / "scripts" / "labs"


class Fault(NamedTuple):
    """One wrong edit: `old`, found exactly once, becomes `new`; `flag` is the mode to notice it."""

    name: str
    old: str
    new: str
    flag: str = "--verify"


class Outcome(NamedTuple):
    """What a run of a lab came to."""

    exit_code: int
    output: str
    seconds: float

    @property
    def failed_claims(self) -> list[str]:
        """The claims of the [FAIL] lines, in order."""
        marker = "[FAIL] "
        return [
            line.removeprefix(marker)
            for line in self.output.splitlines()
            if line.startswith(marker)
        ]


@contextlib.contextmanager
def loaded_lab(lab: Path, fault: Fault | None = None) -> Iterator[ModuleType]:
    """A fresh module of the lab, with the fault in it; the process is as before afterwards."""
    source = lab.read_text(encoding="utf-8")
    if fault is not None:
        found = source.count(fault.old)
        assert found == 1, f"{fault.name}: {lab.name} holds {fault.old!r} {found} times, not once"
        source = source.replace(fault.old, fault.new)
    module = ModuleType(f"{lab.stem}_under_test")
    module.__file__ = str(lab)
    sys.modules[module.__name__] = module  # dataclasses look their module up
    try:
        # A lab may set environment variables and import its neighbours.
        with (
            mock.patch.dict(os.environ),
            mock.patch.object(sys, "path", [str(lab.parent), *sys.path]),
        ):
            exec(compile(source, str(lab), "exec", dont_inherit=True), module.__dict__)
            yield module
    finally:
        del sys.modules[module.__name__]


def run_module(module: ModuleType, *arguments: str) -> Outcome:
    """Run `main(arguments)` of a loaded lab. An exception passes through: a crash is no verdict."""
    start = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()) as output:
        try:
            exit_code = module.main(list(arguments))
        except SystemExit as stop:  # argparse
            exit_code = stop.code
    return Outcome(exit_code, output.getvalue(), time.perf_counter() - start)


def run_lab(lab: Path, *arguments: str, fault: Fault | None = None) -> Outcome:
    """Load the lab, with the fault in it if one is given, and run it with these arguments."""
    with loaded_lab(lab, fault) as module:
        return run_module(module, *arguments)


def run_faults(lab: Path, faults: Iterable[Fault]) -> dict[str, Outcome]:
    """Per fault, what the lab with this one fault says when run with the fault's flag."""
    return {fault.name: run_lab(lab, fault.flag, fault=fault) for fault in faults}
