"""The Python that the README shows runs; links of pages that GitHub shows lead somewhere."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support import ROOT

BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)


def test_there_is_python_in_the_readme() -> None:
    assert len(BLOCKS) == 3


@pytest.mark.parametrize("block", BLOCKS)
def test_it_runs(block: str, workdir: Path) -> None:
    Path("checkpoints").symlink_to(ROOT / "checkpoints")
    left: dict[str, Any] = {}
    exec(block, left)
    if "model" in left:
        assert left["model"]._n_updates > 0, "it learns"


def test_a_checkpoint_is_loaded_without_this_project() -> None:
    assert [("robotics_rl" in block, "SAC.load" in block) for block in BLOCKS] == [
        (True, False), (True, False), (False, True),
    ]  # fmt: skip


def pages() -> list[Path]:
    done = subprocess.run(
        ["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [Path(name) for name in done.stdout.splitlines()]


def links(page: str) -> list[str]:
    """Files that a page links to; what is in fenced blocks or made by macros is none."""
    text = re.sub(r"^( *)(`{3,}).*?^\1\2 *$", "", page, flags=re.MULTILINE | re.DOTALL)
    targets = re.findall(r"\]\(([^)\s#]+)[^)]*\)", text)
    return [one for one in targets if "{" not in one and not re.match("[a-z]+:", one)]


@pytest.mark.parametrize("page", pages(), ids=str)
def test_links_of_a_page_lead_to_files(page: Path) -> None:
    found = links((ROOT / page).read_text("utf-8"))
    lost = [one for one in found if not (ROOT / page.parent / one).exists()]
    assert not lost


def test_a_link_to_nowhere_is_found() -> None:
    assert links("[a](x.md#top) [b](https://a.b)\n```\n[c](z)\n```\n![d](y.png)") == [
        "x.md",
        "y.png",
    ]
