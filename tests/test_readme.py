"""The Python that the README shows runs."""

from __future__ import annotations

import re
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
