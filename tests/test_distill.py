"""A policy that is told teaches one that sees: refusals, what is written, and going on."""

from __future__ import annotations

import contextlib
import shutil
import time
from pathlib import Path

import pixel_distill
import pytest
from support import (
    SAC_HER_NAME,
    Trained,
    assert_equal_weights,
    edit_json,
    read_strict_json,
    run_script,
    start,
    succeed,
    tree,
)

from robotics_rl.artifacts import write_json

SCRIPT = "scripts/ch09_pixel_push.py"
NAME = "ch09_distill_close_FetchPush-v4_seed0"
CHECKPOINT = Path("checkpoints", f"{NAME}.zip")
RESUME = Path("checkpoints", f"{NAME}.resume")
TINY = ["--teacher", "teacher.zip", "--image-size", "36", "--num-filters", "4", "--n-envs", "2"]
TINY += ["--net-arch", "16", "--batch-size", "8", "--learning-starts", "100", "--device", "cpu"]
TINY += ["--total-steps", "400", "--buffer-size", "400", "--gradient-steps", "1"]
TINY += ["--checkpoint-freq", "100", "--n-eval-episodes", "2", "--no-progress", "--track", "none"]


def put_teacher(trained: Trained, folder: Path) -> None:
    for path in (trained.checkpoint, trained.metadata):
        shutil.copy(path, folder / path.name.replace(SAC_HER_NAME, "teacher"))


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory, trained_sac_her: Trained) -> Path:
    """A folder in which a student was taught; its teacher knows nothing, so it fails its goal."""
    folder = tmp_path_factory.mktemp("taught")
    put_teacher(trained_sac_her, folder)
    with contextlib.chdir(folder):
        outcome = run_script(SCRIPT, "distill", *TINY)
    assert outcome.code == 1, outcome
    (folder / "out.txt").write_text(outcome.out)
    return folder


def test_the_student_is_held_against_its_goal(taught: Path) -> None:
    assert "FAIL  success_rate 0 (must be >= 0.8)" in (taught / "out.txt").read_text()


def test_the_student_is_honest_and_says_who_taught_it(taught: Path) -> None:
    made = read_strict_json(taught / CHECKPOINT.with_suffix(".meta.json"))
    assert made["run_name"] == "ch09_distill_close"
    assert made["gradient_steps"] == pytest.approx(150, abs=2)
    told = {"policy_inputs": "no-achieved", "camera": "close", "teacher": "teacher.zip"}
    assert told.items() <= made["hyperparameters"].items()
    assert len(made["hyperparameters"]["teacher_sha256"]) == 64
    assert made["encoder_precision"] == "fp32"


def test_the_document_holds_its_curve_beside_the_teacher(taught: Path) -> None:
    document = read_strict_json(taught / "results" / "ch09_distill.json")
    assert document["schema"] == "distillation/1"
    [student] = document["students"]
    assert student["frames"] == 400
    assert student["n_episodes"] == 2
    assert student["teacher_success_rate"] in (0.0, 0.5, 1.0)
    assert [row["frames"] for row in student["curve"]] == [400]
    assert (taught / "figures" / "ch09_distill.png").exists()


def test_nothing_is_left_of_what_it_learned_from(taught: Path) -> None:
    assert not (taught / RESUME).exists()


def test_its_checkpoint_is_an_ordinary_one(taught: Path, workdir: Path) -> None:
    outcome = succeed("eval.py", "--ckpt", str(taught / CHECKPOINT), "--n-episodes", "2")
    assert f"OK: wrote results/{NAME}_eval.json" in outcome.out


def test_a_killed_run_goes_on_to_the_same_weights(
    taught: Path, workdir: Path, trained_sac_her: Trained
) -> None:
    put_teacher(trained_sac_her, workdir)
    process = start(SCRIPT, "distill", *TINY)
    deadline = time.monotonic() + 240
    while not (RESUME / "state.pt").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.communicate(timeout=60)
    assert (RESUME / "replay.bin").exists()
    outcome = run_script(SCRIPT, "distill", *TINY, "--resume")
    assert "resuming at" in outcome.out
    assert "WARN" not in outcome.out
    assert_equal_weights(CHECKPOINT, taught / CHECKPOINT)


def test_a_second_student_stands_beside_the_first(taught: Path, workdir: Path) -> None:
    shutil.copytree(taught, workdir, dirs_exist_ok=True)
    run_script(SCRIPT, "distill", *TINY, "--camera", "default", "--total-steps", "200")
    document = read_strict_json(Path("results", "ch09_distill.json"))
    assert [one["camera"] for one in document["students"]] == ["close", "default"]


@pytest.mark.parametrize(
    ("changes", "is_kept"),
    [
        ({}, False),
        ({"seed": 1}, False),
        ({"settings": {"total_steps": 400}}, True),
        ({"n_episodes": 2}, True),
    ],
)
def test_a_student_costs_none_that_was_taught_otherwise(
    changes: dict[str, object], is_kept: bool, workdir: Path
) -> None:
    path, figure = Path("results/x.json"), Path("figures/x.png")
    there = {"run_name": "a", "seed": 0, "settings": {"total_steps": 9_000}, "n_episodes": 100}
    write_json(path, {"students": [there]})
    figure.parent.mkdir()
    figure.touch()
    mine = {**there, **changes}
    students = pixel_distill.beside_others(mine, path, figure)
    assert students[-1] == mine
    assert len(students) == 1 + ("seed" in changes)
    assert [one.exists() for one in (path, figure)] == [not is_kept] * 2
    kept = [*workdir.rglob("previous/x_*")]
    assert len(kept) == 2 * is_kept


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (None, "there is no teacher teacher.zip; name a checkpoint with --teacher"),
        ({"env_id": "FetchSlide-v4"}, "teacher.zip is of FetchSlide-v4, not FetchPush-v4"),
        ({"hyperparameters": {"policy_inputs": "all"}}, "teacher.zip sees pictures"),
    ],
)
def test_who_cannot_teach_is_refused(
    changes: dict[str, object] | None, said: str, workdir: Path, trained_sac_her: Trained
) -> None:
    if changes is not None:
        put_teacher(trained_sac_her, workdir)
        edit_json(Path("teacher.meta.json"), **changes)
    before = tree(workdir)
    outcome = run_script(SCRIPT, "distill", *TINY)
    assert outcome.code == 2
    assert said in outcome.err
    assert len(outcome.err.splitlines()) == 1
    assert tree(workdir) == before
