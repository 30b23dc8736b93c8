"""Cards beside checkpoints tell what metadata and evaluations tell, and their Python runs."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import model_cards
import pytest
from support import ROOT, Trained, edit_json, read_strict_json, succeed

RESULT = Path("results", "ppo_fetchreachdense-v4_seed0_eval.json")
ONE_OF_EACH = (
    "ppo_FetchReachDense-v4_seed0",
    "sac_her_FetchPush-v4_seed0",
    "step4/ch09_manip_criticEnc_FetchPush-v4_seed0",
    "ch09_distill_close_FetchPush-v4_seed0",
)
# Runs each block given, and prints what each left in `info`.
WITHOUT_THE_PROJECT = """
import contextlib, io, json, sys
sys.modules["robotics_rl"] = None
for block in json.load(sys.stdin):
    left = {}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(block, left)
    print(bool(left["info"]["is_success"]))
"""


@pytest.fixture
def published(workdir: Path, trained_ppo: Trained) -> Trained:
    """A policy, and what it does in three episodes."""
    trained = trained_ppo.copy_to(workdir)
    played("--ckpt", str(trained.checkpoint.relative_to(workdir)))
    return trained


def played(*flags: str, n_episodes: int = 3) -> None:
    succeed("eval.py", *flags, "--n-episodes", str(n_episodes))


def the_card() -> str:
    [(_, text)] = model_cards.cards()
    return text


def test_what_was_evaluated_has_a_card_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    there = subprocess.run(
        ["git", "ls-files", "checkpoints/*.md"], capture_output=True, text=True, check=True
    ).stdout.split()
    assert {Path(path) for path in there} <= {path for path, _ in model_cards.cards()}
    assert len(there) > len(ONE_OF_EACH)


def test_a_card_tells_what_metadata_and_result_tell(published: Trained) -> None:
    metadata, result = read_strict_json(published.metadata), read_strict_json(RESULT)
    [(path, text)] = model_cards.cards()
    assert path == Path("checkpoints", f"{published.name}.md")
    mean, (low, high) = result["aggregate"], result["aggregate"]["success_rate_ci95"]
    for told in (
        f"# {published.name}",
        f"`{shlex.join(metadata['command'])}`",
        "64 environment steps",
        f"| gradient steps | {metadata['gradient_steps']}, ",
        f"{metadata['cpu_cores']} cores of {metadata['device_name']}",
        metadata["git"]["commit"],
        metadata["checkpoint_sha256"],
        f"../{RESULT}",
        f"| {mean['success_rate']:.2f} ({low:.2f} to {high:.2f}) |",
        f"| {mean['return_mean']:.2f} | {mean['final_distance_mean']:.4f} |",
        "3 episodes, reset seeds 0 to 2",
        "| `n_envs` | 2 | environments stepped side by side |",
        "| `net_arch` | 16 |",
        f"| mujoco | {metadata['versions']['mujoco']} | {result['versions']['mujoco']} |",
    ):
        assert told in text, told


def test_a_card_tells_what_pictures_went_through(published: Trained) -> None:
    assert read_strict_json(published.metadata)["drawn_by"] is None
    assert read_strict_json(published.metadata)["encoder_precision"] is None
    assert "MUJOCO_GL" not in the_card()
    assert "encoder computed" not in the_card()
    edit_json(published.metadata, drawn_by="osmesa", encoder_precision="bf16")
    assert "| pictures drawn with | `MUJOCO_GL=osmesa` |" in the_card()
    assert "| encoder computed in | bf16 |" in the_card()


@pytest.mark.parametrize(
    ("changes", "settings", "said"),
    [
        ({}, {}, "typed settings equal to the recipe fast."),
        ({"recipe": "fast"}, {}, "recipe fast."),
        ({"total_steps": 200_000}, {}, "recipe book."),
        ({}, {"drq": False}, "recipe book."),
    ],
)
def test_a_card_tells_a_recipe_that_was_typed(
    changes: dict[str, Any], settings: dict[str, Any], said: str
) -> None:
    metadata = read_strict_json(ROOT / "checkpoints" / f"{ONE_OF_EACH[2]}.meta.json")
    used = {**metadata["hyperparameters"], **settings}
    made = {**metadata, **changes, "hyperparameters": used}
    assert f"engine fast, {said}" in model_cards._what(made)


def test_floors_are_those_of_the_same_episodes(published: Trained) -> None:
    command = "`python eval.py --baseline do-nothing --env FetchReachDense-v4`"
    assert f"| do nothing | not measured on these episodes: {command} |" in the_card()
    flags = ("--baseline", "do-nothing", "--env", "FetchReachDense-v4")
    played(*flags, n_episodes=2)
    assert command in the_card()
    played(*flags)
    assert command not in the_card()
    assert "| [do nothing](../results/do_nothing_fetchreachdense-v4_eval.json) | 0." in the_card()


def test_an_evaluation_of_another_checkpoint_makes_no_card(published: Trained) -> None:
    sha256 = read_strict_json(RESULT)["checkpoint_sha256"]
    edit_json(RESULT, checkpoint_sha256="0" * 64)
    assert list(model_cards.cards()) == []
    shutil.copytree("checkpoints", "elsewhere")
    edit_json(RESULT, checkpoint_sha256=sha256, checkpoint=f"elsewhere/{published.name}.zip")
    assert list(model_cards.cards()) == []
    edit_json(RESULT, checkpoint=f"checkpoints/{published.name}.zip")
    assert len(list(model_cards.cards())) == 1
    for path in (published.metadata, published.checkpoint):
        path.unlink()
        assert list(model_cards.cards()) == []


def test_the_python_of_cards_acts_as_the_results_say_without_this_project() -> None:
    blocks, expected = [], []
    for name in ONE_OF_EACH:
        text = (ROOT / "checkpoints" / f"{name}.md").read_text("utf-8")
        blocks += re.findall(r"```python\n(.*?)```", text, re.DOTALL)
        [result] = re.findall(r"\[this one\]\((.*?)\)", text)
        episode = read_strict_json(ROOT / "checkpoints" / Path(name).parent / result)
        expected.append(episode["per_episode"][0]["success"])
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_THE_PROJECT],
        input=json.dumps(blocks),
        cwd=ROOT,
        env={**os.environ, "MUJOCO_GL": "egl"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == list(map(str, expected))
    assert "stable_baselines3" in blocks[0]
