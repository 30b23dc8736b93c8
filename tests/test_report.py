"""The tables of the README are those that the JSON documents give."""

import io
import subprocess
import tarfile

import pytest
from support import ROOT, run_script, succeed

SCRIPT = "scripts/report.py"


@pytest.fixture
def published(workdir):
    """What is committed: a reader's own results beside it are no fault."""
    names = ["results", "checkpoints", "runs", "videos", "README.md", "benchmarks/README.md"]
    archive = subprocess.run(
        ["git", "-C", str(ROOT), "archive", "HEAD", *names], capture_output=True, check=True
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(workdir, filter="data")
    return workdir


def test_the_committed_tables_match_the_results(published):
    assert run_script(SCRIPT, "--check").out == ""
    assert run_script(SCRIPT, "--check").code == 0


CARD = "checkpoints/ppo_FetchReachDense-v4_seed0.md"


@pytest.mark.parametrize("page", ["README.md", "results/README.md", "videos/README.md", CARD])
def test_a_typed_number_is_found_and_mended(published, page):
    text = (published / page).read_text()
    changed = text.replace("success", "succes", 1) if page != "README.md" else None
    if changed is None:
        before, marker, after = text.partition("<!-- made by scripts/report.py -->\n")
        changed = before + marker + "0.99\n" + after
    (published / page).write_text(changed)
    outcome = run_script(SCRIPT, "--check")
    assert outcome.code == 1
    assert page in outcome.out
    succeed(SCRIPT)
    assert (published / page).read_text() == text


def test_a_card_that_is_missing_is_found_and_written(published):
    text = (published / CARD).read_text()
    (published / CARD).unlink()
    outcome = run_script(SCRIPT, "--check")
    assert outcome == (1, f"{CARD} does not match the results; run: python {SCRIPT}\n", "")
    assert succeed(SCRIPT).out == f"OK: wrote {CARD}\n"
    assert (published / CARD).read_text() == text
