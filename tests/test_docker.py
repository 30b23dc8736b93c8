"""What the scripts of docker/ do (bats, with a fake Docker), and the style of its files."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = [*sorted(ROOT.glob("docker/*.sh")), *sorted(ROOT.glob("tests/docker/*.ba[st]*"))]
FAKES = sorted(ROOT.glob("tests/docker/fakes/*"))
DOCKERFILES = sorted(ROOT.glob("docker/Dockerfile*"))


def check(tool: str, *arguments: object) -> None:
    """Run a tool of requirements-dev.txt; it stands beside this Python."""
    program = Path(sys.executable).with_name(tool)
    command = [str(argument) for argument in (program, *arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("file", sorted(ROOT.glob("tests/docker/*.bats")), ids=lambda f: f.stem)
def test_scripts_behave(file: Path) -> None:
    bats = shutil.which("bats")
    if bats is None:
        missing = "bats is missing: apt-get install bats, or brew install bats-core"
        (pytest.fail if "CI" in os.environ else pytest.skip)(missing)
    done = subprocess.run(
        [bats, str(file)],
        env=os.environ | {"REAL_PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_shell_scripts_are_free_of_known_mistakes() -> None:
    check("shellcheck", "--external-sources", *SCRIPTS, *FAKES)


def test_shell_scripts_are_formatted() -> None:
    check("shfmt", "-i", "2", "-d", *SCRIPTS, *FAKES)


def test_dockerfiles_are_free_of_known_mistakes() -> None:
    check("hadolint", "--config", ROOT / ".hadolint.yaml", *DOCKERFILES)
