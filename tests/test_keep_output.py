"""A command of the tutorials is run once, and what it printed is kept."""

from pathlib import Path

import keep_output
import pytest
from support import read_strict_json, run_script, succeed

SCRIPT = "scripts/keep_output.py"
PRINTS = ["python", "-c", "print('a\\nb')"]
FAILS = ["python", "-c", "raise SystemExit(3)"]
KEPT = Path("results", "tutorials", "words_output.json")


def test_the_output_is_kept_with_where_it_comes_from(workdir):
    succeed(SCRIPT, "--quick", "words", "--", *PRINTS)
    kept = read_strict_json(workdir / KEPT)
    assert kept["schema"] == "kept-output/1"
    assert (kept["command"], kept["lines"]) == (PRINTS, ["a", "b"])
    assert kept["quick"]
    assert 0 <= kept["cpu_seconds"] < keep_output.QUICK_SECONDS
    assert {"git", "versions", "device_name", "created_at", "cpu_cores"} <= kept.keys()


def test_the_folder_that_it_ran_in_is_no_part_of_it(workdir):
    succeed(
        SCRIPT,
        "words",
        "--",
        "python",
        "-c",
        "from pathlib import Path; print(Path('x').absolute())",
    )
    assert read_strict_json(workdir / KEPT)["lines"] == ["x"]


def test_a_command_that_fails_leaves_what_there_was(workdir):
    outcome = run_script(SCRIPT, "words", "--", *FAILS)
    assert outcome.code == 1
    assert "exit code 3" in outcome.out
    assert not KEPT.exists()
    succeed(SCRIPT, "--exit-code", "3", "words", "--", *FAILS)
    assert read_strict_json(workdir / KEPT)["exit_code"] == 3


def test_what_takes_longer_is_not_quick(workdir, monkeypatch):
    monkeypatch.setattr(keep_output, "QUICK_SECONDS", 0)
    with pytest.raises(keep_output.UsageError, match="is not quick"):
        keep_output.main(["--quick", "words", "--", *PRINTS])
    assert not KEPT.exists()


@pytest.mark.parametrize("flags", [[], ["words"], ["words", "--", "no-such-program"]])
def test_bad_input_is_one_line_and_writes_nothing(workdir, flags):
    outcome = run_script(SCRIPT, *flags)
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
    assert not KEPT.exists()
