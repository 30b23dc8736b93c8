"""What holds for every lab: it can be read on paper, and stands alone."""

from __future__ import annotations

import ast
import re
import resource
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from mutation import LABS, run_lab, typed

EVERY_LAB = sorted(LABS.glob("*.py"))
DRAWING, SB3 = {"matplotlib"}, {"stable_baselines3"}
RENDERING = {"pixel_wrapper"}  # the one whose checks look through a camera
# lab → packages that it always imports, and those that only a function does that needs them; of
# other labs only the encoder's and the policy's are built on one
IMPORTS: dict[str, tuple[set[str], set[str]]] = {
    "ddpg_her_from_scratch": ({"gymnasium", "numpy", "torch"}, {"plotly"} | DRAWING | SB3),
    "drqv2_sac_policy": (
        {"gymnasium", "numpy", "stable_baselines3", "torch"},
        {"manipulation_encoder"},
    ),
    "env_anatomy": ({"gymnasium", "gymnasium_robotics", "numpy"}, set()),
    "her_relabeler": ({"numpy"}, {"gymnasium"} | DRAWING | SB3),
    "image_augmentation": ({"gymnasium", "numpy", "stable_baselines3", "torch"}, DRAWING),
    "manipulation_encoder": (
        {"gymnasium", "numpy", "torch"} | SB3,
        {"visual_encoder"} | DRAWING,
    ),
    "pixel_wrapper": ({"PIL", "gymnasium", "numpy", "torch"}, {"gymnasium_robotics"} | SB3),
    "ppo_from_scratch": ({"gymnasium", "numpy", "torch"}, DRAWING | SB3),
    "sac_from_scratch": ({"gymnasium", "torch"}, DRAWING | SB3),
    "trivial_goals": ({"gymnasium", "gymnasium_robotics", "numpy"}, DRAWING | SB3),
    "visual_encoder": ({"torch"}, {"gymnasium", "numpy"} | DRAWING | SB3),
}

every_lab = pytest.mark.parametrize("lab", EVERY_LAB, ids=lambda lab: lab.stem)


def tree_of(lab: Path) -> ast.Module:
    return ast.parse(lab.read_text(encoding="utf-8"))


def packages(nodes: Iterable[ast.AST]) -> set[str]:
    """What is imported there, besides the standard library."""
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").partition(".")[0])
    return names - sys.stdlib_module_names


@every_lab
def test_it_has_at_most_450_lines_and_each_function_40(lab: Path) -> None:
    assert len(lab.read_text(encoding="utf-8").splitlines()) <= 450
    functions = [node for node in ast.walk(tree_of(lab)) if isinstance(node, ast.FunctionDef)]
    lengths = {node.name: (node.end_lineno or 0) - node.lineno + 1 for node in functions}
    assert {name: length for name, length in lengths.items() if length > 40} == {}


@every_lab
def test_it_imports_neither_the_project_nor_another_lab(lab: Path) -> None:
    tree, (always, where_needed) = tree_of(lab), IMPORTS[lab.stem]
    assert packages(tree.body) == always
    assert packages(ast.walk(tree)) == always | where_needed


@every_lab
def test_every_region_is_closed_before_the_next_one_starts(lab: Path) -> None:
    marks = re.findall(r"^# --8<-- \[(start|end):(\w+)\]$", lab.read_text("utf-8"), re.MULTILINE)
    assert [kind for kind, _ in marks] == ["start", "end"] * (len(marks) // 2)
    assert [name for _, name in marks[::2]] == [name for _, name in marks[1::2]]
    assert marks


@every_lab
@pytest.mark.parametrize("wrong", ["--seed=-1", "--seed=one", "--no-such-flag"])
def test_a_wrong_command_line_ends_in_one_line(
    lab: Path, wrong: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_lab(lab, "--verify", wrong).exit_code == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1, told
    assert "error: " in told


@every_lab
def test_typed_verify_passes_within_a_minute_without_a_gl_backend(lab: Path) -> None:
    before = cpu_seconds_of_children()
    backend = {} if lab.stem in RENDERING else {"MUJOCO_GL": "no-such-backend"}
    outcome = typed(lab, "--verify", **backend)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    assert outcome.stdout.splitlines()[-1].startswith("[ALL PASS] ")
    assert cpu_seconds_of_children() - before <= 60


def cpu_seconds_of_children() -> float:
    """What a busy machine does not change, unlike the time on the clock."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
