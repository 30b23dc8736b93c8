"""Commands of the pages, typed: what becomes of each, and that none was left out."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import rehearsal_tables
import rehearse
import tutorial_macros
import typed_commands
from support import ROOT, read_strict_json
from typed_commands import Typed

from robotics_rl.errors import UsageError

SERVES = "import time; print('serving', flush=True); time.sleep(60)"
HANGS = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); " + SERVES
CRASHES = f"""
try: {SERVES}
except KeyboardInterrupt: raise ValueError
"""
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


def rehearsed(folder: Path = Path()) -> list[dict[str, Any]]:
    attempts: list[dict[str, Any]] = read_strict_json(folder / rehearsal_tables.PATH)["attempts"]
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


@pytest.mark.parametrize(
    ("code", "outcome"), [(SERVES, "stopped"), (HANGS, "failed"), (CRASHES, "failed")]
)
def test_what_does_not_end_is_stopped(
    code: str, outcome: str, clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rehearse, "GRACE_SECONDS", 1.0)
    attempt = rehearse.attempt(Typed({}, ["python", "-c", code]), "README.md", 5.0)
    assert (attempt.outcome, attempt.lines) == (outcome, ["serving"])


def test_a_setting_before_a_command_is_part_of_it(clone: Path) -> None:
    (command,) = typed_commands.typed("A_B='c d' bash docker/dev.sh python -c 'x' > file; ls")
    assert command == ({"A_B": "c d"}, ["python", "-c", "x"])
    tells = Typed({"A_B": "c d"}, ["python", "-c", "import os; print(os.environ['A_B'])"])
    assert rehearse.attempt(tells, "README.md", 20.0).lines == ["c d"]


def test_what_ends_with_2_and_says_nothing_is_no_refusal(clone: Path) -> None:
    silent = Typed({}, ["python", "-c", "raise SystemExit(2)"])
    assert rehearse.attempt(silent, "README.md", 20.0).outcome == "failed"


def test_a_rehearsal_that_is_stopped_leaves_nothing_running(
    clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rehearse, "git_state", dict)  # which waits for a process too
    outcomes = [KeyboardInterrupt, None]
    interrupted = mock.patch.object(subprocess.Popen, "wait", autospec=True, side_effect=outcomes)
    with interrupted as wait, pytest.raises(KeyboardInterrupt):
        rehearse.attempt(Typed({}, ["python", "-c", SERVES]), "README.md", 20.0)
    (process,) = {call.args[0] for call in wait.call_args_list}
    assert process.wait(10) == -signal.SIGKILL


def test_the_page_says_why_a_command_was_refused(clone: Path) -> None:
    Path("README.md").write_text(fence(REFUSES.replace("more", "a|b")))
    rehearse.main([])
    text = rehearsal_tables.page(read_strict_json(rehearsal_tables.PATH))
    assert "| refused: give a\\|b | 0:0" in text
    assert "## `README.md`" in text


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("/usr/lib/python3/threading.py:331: it", "threading.py:331: it"),
        ("Location 'file:///srv/simple/idna/' is ignored", "Location '' is ignored"),
        ("OK: wrote checkpoints/mine/x.zip, 3/4 of https://a.org/b/c", None),
        ("TensorBoard at http://localhost:6006/ (CTRL+C)", None),
    ],
)
def test_what_is_kept_names_no_machine(said: str, kept: str | None, clone: Path) -> None:
    assert rehearse.without_machine(said) == (kept or said)
    assert rehearse.without_machine(f"in {clone}/runs/x.csv") == "in runs/x.csv"


def test_no_machine_is_named_by_what_is_published() -> None:
    for one in rehearsed(ROOT):
        for line in one["lines"] + one["errors"]:
            assert rehearse.without_machine(line) == line


def test_no_time_is_refused(clone: Path) -> None:
    with pytest.raises(UsageError, match="--limit"):
        rehearse.main(["--limit", "0"])


PIXEL_LABS = ("pixel_wrapper", "visual_encoder", "manipulation_encoder", "image_augmentation",
              "drqv2_sac_policy")  # fmt: skip


@pytest.mark.parametrize(
    ("typed", "most_seconds"),
    [
        (["python scripts/ch09_pixel_push.py demo --seed 0"], 600),
        (["python scripts/capture_proposal_figures.py all"], 300),
        ([f"python scripts/labs/{lab}.py --verify" for lab in PIXEL_LABS], 90),
    ],
)
def test_a_reader_waits_no_longer_than_was_promised(
    typed: list[str], most_seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    found = {one["command"].partition("dev.sh ")[2]: one for one in rehearsed()}
    assert [found[one]["outcome"] for one in typed] == ["done"] * len(typed)
    assert sum(found[one]["wall_seconds"] for one in typed) <= most_seconds


def test_every_command_of_the_pages_was_typed_and_none_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    outcomes = {one["command"]: one for one in rehearsed()}
    assert list(outcomes) == list(rehearse._wanted()), "run scripts/rehearse.py in a fresh clone"
    assert [text for text, one in outcomes.items() if one["outcome"] == "failed"] == []
    refused = [one["errors"][-1] for one in outcomes.values() if one["outcome"] == "refused"]
    lacking = re.compile("needs an NVIDIA GPU|train it first|make them with|train, then eval")
    assert [why for why in refused if not lacking.search(why)] == []
