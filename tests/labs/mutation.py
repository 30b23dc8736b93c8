"""Break one line of a lab on purpose and see whether its own checks notice.

The source is changed in memory only. A lab is run in this process, because its imports take longer
than most of its checks.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple
from unittest import mock

import pytest

LABS = Path(__file__).resolve().parents[2] / "scripts" / "labs"


class Fault(NamedTuple):
    """One wrong edit: `old`, found exactly once, becomes `new`.

    `flag` is the mode that notices it, `sign` what it then prints besides a [FAIL].
    """

    name: str
    old: str
    new: str
    flag: str = "--verify"
    sign: str = ""


class Outcome(NamedTuple):
    """What a run of a lab came to."""

    exit_code: int
    output: str

    @property
    def last_line(self) -> str:
        """The verdict on all checks."""
        return self.output.splitlines()[-1]

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
    with contextlib.redirect_stdout(io.StringIO()) as output:
        try:
            exit_code = module.main(list(arguments))
        except SystemExit as stop:  # argparse
            exit_code = stop.code
    return Outcome(exit_code, output.getvalue())


def run_lab(lab: Path, *arguments: str, fault: Fault | None = None) -> Outcome:
    """Load the lab, with the fault in it if one is given, and run it with these arguments."""
    with loaded_lab(lab, fault) as module:
        return run_module(module, *arguments)


def typed(lab: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The lab as a reader starts it, in a process of its own."""
    return subprocess.run(
        [sys.executable, f"scripts/labs/{lab.name}", *arguments],
        cwd=LABS.parents[1],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def by_check(faults: Mapping[str, Sequence[Fault]]) -> pytest.MarkDecorator:
    """Gives a test each `check`, a function of the lab, with each `fault` that it must notice."""
    pairs = [(check, fault) for check, listed in faults.items() for fault in listed]
    names = [f"{check}: {fault.name}" for check, fault in pairs]
    return pytest.mark.parametrize(("check", "fault"), pairs, ids=names)


def leave_only(module: ModuleType, check: str) -> None:
    """Empty every other check of the lab: one is to notice, and the others take their time."""
    checks = {
        name
        for name, value in vars(module).items()
        if name.startswith(("check_", "compare_")) and value.__module__ == module.__name__
    } - {"compare_sb3"}  # a mode
    assert check in checks
    for other in checks - {check}:
        setattr(module, other, lambda *_: ())  # no rows to judge, and no failure


def assert_notices(
    lab: Path,
    fault: Fault,
    *arguments: str,
    check: str | None = None,
    prepare: Callable[[ModuleType], None] = lambda module: None,
) -> None:
    """With the fault in it, the lab's own mode fails.

    Args:
        lab: file.
        fault: the wrong edit.
        arguments: more of them, after the mode's flag.
        check: the one function of the lab to run; None leaves the mode whole.
        prepare: what to do to the module before, say to share what takes long.
    """
    with loaded_lab(lab, fault) as module:
        prepare(module)
        if check is not None:
            leave_only(module, check)
        outcome = run_module(module, fault.flag, *arguments)
    assert outcome.exit_code == 1, f"{fault.name} goes unnoticed:\n{outcome.output}"
    n_failed = len(outcome.failed_claims)
    assert n_failed == 1 if check else n_failed >= 1
    assert re.fullmatch(rf"\[FAILED\] {n_failed} of \d+ checks", outcome.last_line)
    assert fault.sign in outcome.output
