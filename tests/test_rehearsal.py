"""Commands of the pages, typed: what becomes of each, and that none was left out."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import rehearse
import tutorial_macros
import typed_commands
from support import ROOT, read_strict_json
from typed_commands import Typed

from robotics_rl.errors import UsageError

SERVES = "import time; print('serving', flush=True); time.sleep(60)"
HANGS = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(60)"
REFUSES = "import sys; print('error: give more', file=sys.stderr); sys.exit(2)"


@pytest.fixture
def clone(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of two pages, in which docker/dev.sh runs the Python of the tests."""
    Path("docker").mkdir()
    Path("docker/dev.sh").write_text(f'shift\nexec {shlex.quote(sys.executable)} "$@"\n')
    monkeypatch.setattr(tutorial_macros, "pages", lambda: [Path("README.md"), Path("ch00.md")])
    Path("README.md").write_text(fence("print('hello')", "raise ValueError"))
    Path("ch00.md").write_text(fence("print('hello')", REFUSES))
    return workdir


def fence(*codes: str) -> str:
    lines = [f"bash docker/dev.sh python -c {shlex.quote(code)}" for code in codes]
    return "```bash\n" + "\n".join(lines) + "\n```\n"


def rehearsed() -> list[dict[str, Any]]:
    attempts: list[dict[str, Any]] = read_strict_json(typed_commands.PATH)["attempts"]
    return attempts


def test_every_command_is_typed_once_and_its_outcome_kept(clone: Path) -> None:
    assert rehearse.main([]) == 1, "one failed"
    found = [(one["page"], one["outcome"], one["exit_code"]) for one in rehearsed()]
    assert found == [
        ("README.md", "done", 0),
        ("README.md", "failed", 1),
        ("ch00.md", "refused", 2),
    ]
    assert rehearsed()[0]["lines"] == ["hello"]
    assert rehearsed()[1]["errors"][-1] == "ValueError"


def test_only_some_are_typed_again_and_what_no_page_has_is_forgotten(clone: Path) -> None:
    rehearse.main([])
    before = rehearsed()
    Path("README.md").write_text(fence("print('hello')", "print('mended')"))
    assert rehearse.main(["--only", "*mended*"]) == 0
    assert [one["lines"] for one in rehearsed()] == [["hello"], ["mended"], []]
    assert rehearsed()[0] == before[0]
    with pytest.raises(UsageError, match="no page has a command like 'hello'"):
        rehearse.main(["--only", "hello"])


@pytest.mark.parametrize(("code", "outcome"), [(SERVES, "stopped"), (HANGS, "failed")])
def test_what_does_not_end_is_stopped(
    code: str, outcome: str, clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rehearse, "GRACE_SECONDS", 1.0)
    attempt = rehearse.attempt(Typed({}, ["python", "-c", code]), "README.md", 2.0)
    assert attempt.outcome == outcome


def test_a_setting_before_a_command_is_part_of_it(clone: Path) -> None:
    (command,) = typed_commands.typed("A_B='c d' bash docker/dev.sh python -c 'x' > file; ls")
    assert command == ({"A_B": "c d"}, ["python", "-c", "x"])
    tells = Typed({"A_B": "c d"}, ["python", "-c", "import os; print(os.environ['A_B'])"])
    assert rehearse.attempt(tells, "README.md", 20.0).lines == ["c d"]


def test_no_time_is_refused(clone: Path) -> None:
    with pytest.raises(UsageError, match="--limit"):
        rehearse.main(["--limit", "0"])


def test_every_command_of_the_pages_was_typed_and_none_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    outcomes = {one["command"]: one for one in rehearsed()}
    assert list(outcomes) == list(rehearse._wanted()), "run scripts/rehearse.py in a fresh clone"
    assert [text for text, one in outcomes.items() if one["outcome"] == "failed"] == []
    refused = [one["errors"][-1] for one in outcomes.values() if one["outcome"] == "refused"]
    assert [why for why in refused if "GPU" not in why] == []
