"""Where results come from is told truly."""

import os
import shutil
import subprocess

import pytest

from robotics_rl import provenance


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A repository with one file of code and one result, both committed."""
    for name in ("robotics_rl", "results"):
        (tmp_path / name).mkdir()
    (tmp_path / "results" / "x.json").write_text("{}")
    shutil.copy(provenance.__file__, tmp_path / "robotics_rl" / "provenance.py")
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "robotics_rl" / "provenance.py"))
    who = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
    for command in (["init", "-q"], ["add", "."], [*who, "commit", "-qm", "all"]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    return tmp_path


def test_changed_code_is_dirty(checkout):
    assert provenance.git_state()["dirty"] is False
    (checkout / "robotics_rl" / "provenance.py").write_text("changed")
    assert provenance.git_state()["dirty"] is True


def test_a_changed_result_is_not_code(checkout):
    (checkout / "results" / "x.json").write_text("[]")
    state = provenance.git_state()
    assert state["dirty"] is False
    assert len(state["commit"]) == 40


def test_outside_a_checkout_nothing_is_claimed(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "a" / "b.py"))
    (tmp_path / "a").mkdir()
    assert provenance.git_state() == {"commit": None, "dirty": None}


def test_file_stamps_survive_nonsense():
    assert provenance.file_stamp("2026-01-02T03:04:05+00:00") == "20260102T030405Z"
    for nonsense in (None, "yesterday", 5):
        assert provenance.file_stamp(nonsense).endswith("Z")


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="cores cannot be chosen here")
def test_only_cores_that_the_process_may_use_count(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {1})
    assert provenance.machine()["cpu_cores"] == 1


def test_commands_name_no_folder_of_one_machine(monkeypatch):
    typed = ["train.py", "--out=/home/me/a.zip", "--json-out", "/home/me/b.json", "--seed=1", "x/y"]
    monkeypatch.setattr("sys.argv", typed)
    kept = ["python", "train.py", "--out=a.zip", "--json-out", "b.json", "--seed=1", "x/y"]
    assert provenance.command_line() == kept
