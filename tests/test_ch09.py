"""Chapter 9 from the command line: names, refusals, and a training that is stopped and goes on."""

from __future__ import annotations

import contextlib
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import ch09_pixel_push
import pytest
import torch
from PIL import Image
from support import (
    Trained,
    assert_equal_weights,
    read_strict_json,
    run_script,
    shown_by_tensorboard,
    start,
    succeed,
    tree,
)

from robotics_rl.devices import multiplies_bf16

SCRIPT = "scripts/ch09_pixel_push.py"
TINY = ["--critic-encoder", "--camera", "close", "--policy-inputs", "no-achieved"]
TINY += ["--image-size", "36", "--num-filters", "4", "--n-envs", "2", "--net-arch", "16"]
TINY += ["--batch-size", "8", "--buffer-size", "2000", "--learning-starts", "100"]
TINY += ["--total-steps", "500", "--no-progress", "--track", "none", "--device", "cpu"]
NAME = "ch09_manip_criticEnc_FetchPush-v4_seed0"
STATE = Path("checkpoints", f"{NAME}.resume", "state.pt")
ON_DISK = [*TINY, "--buffer-file", "replay.bin"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the training went through at once."""
    folder = tmp_path_factory.mktemp("whole")
    with contextlib.chdir(folder):
        succeed(SCRIPT, "train", *ON_DISK, "--track", "tb")
    return folder


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        ([], "ch09_nature"),
        (["--full-state"], "ch09_fullState"),
        (["--encoder", "manipulation", "--no-drq"], "ch09_manip_noDrQ"),
        (["--critic-encoder", "--no-drq"], "ch09_manip_noDrQ_criticEnc"),
        (["--critic-encoder"], "ch09_manip_criticEnc"),
        (["--critic-encoder", "--no-spatial-softmax"], "ch09_manip_criticEnc_noSS"),
        (["--critic-encoder", "--no-proprio"], "ch09_manip_criticEnc_noProprio"),
    ],
)
def test_a_run_is_named_after_its_step(workdir: Path, flags: list[str], name: str) -> None:
    outcome = run_script(SCRIPT, "eval", *flags)
    assert outcome.code == 2
    assert f"checkpoints/{name}_FetchPush-v4_seed0.zip does not exist" in outcome.err


@pytest.mark.parametrize(
    ("flags", "name"),
    [(["--no-critic-encoder"], "ch09_nature"), (["--no-drq"], "ch09_manip_noDrQ_criticEnc")],
)
def test_the_recipe_trains_other_steps_too(flags: list[str], name: str) -> None:
    given = vars(ch09_pixel_push._parser().parse_args(["train", "--recipe", "fast", *flags]))
    del given["command"]
    settings = ch09_pixel_push.CARD.settings(given)
    assert settings.run_name == name
    assert settings.pixels.camera == "close"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--image-size", "64"], "the nature encoder sees 84 pixels a side, not 64"),
        (
            ["--full-state", "--camera", "close"],
            "--full-state sees no pictures; leave out --camera",
        ),
        (["--msaa", "3"], "--msaa is 3; it must be one of: 0, 4"),
        (["--camera", "far"], "--camera is far; it must be one of: default, close"),
        (["--buffer-size", "500000000"], "the largest that fits is --buffer-size"),
        (["--cuda-graphs", "--device", "cpu"], "--cuda-graphs needs an NVIDIA GPU; leave it out"),
    ],
)
def test_what_cannot_be_is_refused(workdir: Path, flags: list[str], said: str) -> None:
    outcome = run_script(SCRIPT, "train", *flags)
    assert outcome.code == 2
    assert said in outcome.err
    assert len(outcome.err.splitlines()) == 1
    assert tree(workdir) == {}


def test_the_memory_plan_stands_before_the_training(workdir: Path) -> None:
    outcome = run_script(SCRIPT, "train", "--buffer-size", "500000000")
    assert re.search(r"replay: [\d.]+ GiB for 500,000,000 transitions of 84×84", outcome.out)


def test_a_tab_of_tensorboard_groups_what_the_chapter_reads(whole: Path) -> None:
    title, tags = shown_by_tensorboard(whole / "runs" / "ch09_manip_criticEnc/FetchPush-v4/seed0")
    assert title == "Book chapter 9: SAC from pictures"
    assert tags == {
        *("rollout/success_rate", "rollout/goal_moved_rate", "rollout/ep_rew_mean"),
        *("train/critic_loss", "train/actor_loss", "train/ent_coef"),
    }


def test_metadata_tells_what_it_saw(whole: Path, backend: str) -> None:
    metadata = read_strict_json(whole / "checkpoints" / f"{NAME}.meta.json")
    assert metadata["run_name"] == "ch09_manip_criticEnc"
    assert metadata["gradient_steps"] > 150
    told = {"camera": "close", "policy_inputs": "no-achieved", "drq": True, "frame_stack": 4}
    assert told.items() <= metadata["hyperparameters"].items()
    assert metadata["drawn_by"] == backend
    assert metadata["hyperparameters"]["precision"] == "auto"
    units = {True: "bf16", False: "fp32"}[multiplies_bf16(metadata["device"])]
    assert metadata["encoder_precision"] == units
    assert "buffer_file" not in metadata["hyperparameters"], "a place on one machine"


@pytest.mark.parametrize("script", [("eval.py",), (SCRIPT, "eval")])
def test_a_checkpoint_is_evaluated(whole: Path, workdir: Path, script: tuple[str, ...]) -> None:
    checkpoint = whole / "checkpoints" / f"{NAME}.zip"
    flag = "--n-episodes" if len(script) == 1 else "--n-eval-episodes"
    outcome = run_script(*script, "--ckpt", str(checkpoint), flag, "2", "--no-progress")
    assert outcome.code == len(script) - 1, outcome  # it did not learn to push
    result = read_strict_json(Path("results", f"{NAME}_eval.json"))
    assert result["n_episodes"] == 2
    assert [episode["length"] for episode in result["per_episode"]] == [50, 50]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--full-state", "--seed", "7"], "leave out --full-state, --seed"),
        (["--encoder", "nature"], "leave out --encoder"),
        (["--camera", "close"], "leave out --camera"),
    ],
)
def test_a_checkpoint_is_named_in_one_way(
    flags: list[str], said: str, whole: Path, workdir: Path
) -> None:
    checkpoint = whole / "checkpoints" / f"{NAME}.zip"
    outcome = run_script(SCRIPT, "eval", "--ckpt", str(checkpoint), *flags)
    assert outcome.code == 2
    assert f"--ckpt says which checkpoint; {said}" in outcome.err
    assert tree(workdir) == {}


def test_a_run_of_this_name_but_other_settings_is_not_evaluated(
    whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(whole)
    flags = ["--critic-encoder", "--no-hide-goal-marker", "--precision", "fp32"]
    outcome = run_script(SCRIPT, "eval", *flags)
    assert outcome.code == 2
    assert f"{NAME}.zip was made with --hide-goal-marker; say so, or use --ckpt" in outcome.err
    assert len(outcome.err.splitlines()) == 1


def test_a_policy_of_another_chapter_is_not_held_against_these_criteria(
    workdir: Path, trained_sac_her: Trained
) -> None:
    outcome = run_script(SCRIPT, "eval", "--ckpt", str(trained_sac_her.checkpoint))
    assert outcome.code == 2
    assert "is of sac on FetchPush-v4, not of this chapter; use: python eval.py" in outcome.err
    assert tree(workdir) == {}


def test_episodes_of_pixel_policies_are_not_filmed(whole: Path, workdir: Path) -> None:
    checkpoint = whole / "checkpoints" / f"{NAME}.zip"
    outcome = run_script("eval.py", "--ckpt", str(checkpoint), "--video")
    assert outcome.code == 2
    assert "leave out --video" in outcome.err


def _stopped(arguments: list[str]) -> tuple[int, str]:
    """Start, stop when learning has begun, and see how it ended."""
    process = start(SCRIPT, "train", *arguments)
    curves = Path("runs/ch09_manip_criticEnc/FetchPush-v4/seed0/curves.csv")
    _wait_until(lambda: curves.exists() and len(curves.read_text().splitlines()) > 1, process)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=120)
    return process.returncode, err


def _wait_until(happened: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 240
    while not happened():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder in which the training was stopped, its replay in memory, and what it said then."""
    folder = tmp_path_factory.mktemp("stopped")
    with contextlib.chdir(folder):
        code, err = _stopped(TINY)
    assert code == 143, err
    return folder, err


def test_a_run_whose_replay_is_on_disk_resumes_exactly(whole: Path, workdir: Path) -> None:
    code, err = _stopped(ON_DISK)
    assert code == 143, err
    outcome = succeed(SCRIPT, "train", *ON_DISK, "--resume")
    assert "WARN" not in outcome.out
    assert not STATE.exists()
    checkpoint = Path("checkpoints", f"{NAME}.zip")
    assert_equal_weights(checkpoint, whole / checkpoint)


def test_a_run_stopped_while_it_refills_goes_on_refilling(workdir: Path) -> None:
    code, err = _stopped(TINY)
    assert code == 143, err
    state = torch.load(STATE, weights_only=True)
    assert state["counters"]["_learns_after"] == 100, "--learning-starts"
    state["counters"]["_learns_after"] = 400  # as after a resume that lost its replay
    torch.save(state, STATE)
    succeed(SCRIPT, "train", *TINY, "--resume")
    metadata = read_strict_json(Path("checkpoints", f"{NAME}.meta.json"))
    done = int(re.search(r"stopped after (\d+) steps", err)[1])  # type: ignore[index]
    learned_before = done / 2 - 100 / 2
    assert metadata["gradient_steps"] <= learned_before + (500 - 400) / 2 + 1


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--camera", "default"], "had --camera close, not default"),
        (["--policy-inputs", "all"], "had --policy-inputs no-achieved, not all"),
        (["--msaa", "4"], "had --msaa 0, not 4"),
        (["--no-hide-goal-marker"], "had --hide-goal-marker True, not False"),
        (["--buffer-size", "1500"], "had --buffer-size 2000, not 1500"),
    ],
)
def test_a_resumed_run_sees_as_it_did(
    flags: list[str], said: str, stopped: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(stopped[0])
    before = tree(Path())
    outcome = run_script(SCRIPT, "train", *TINY, "--resume", *flags)
    assert outcome.code == 2
    assert f"the unfinished run {said}; give the same flags" in outcome.err
    assert tree(Path()) == before


def test_a_run_whose_replay_was_in_memory_refills_it(
    stopped: tuple[Path, str], workdir: Path
) -> None:
    folder, err = stopped
    shutil.copytree(folder, workdir, dirs_exist_ok=True)
    done = int(re.search(r"stopped after (\d+) steps", err)[1])  # type: ignore[index]
    outcome = succeed(SCRIPT, "train", *TINY, "--resume")
    assert "of the replay are lost; it refills before learning" in outcome.out
    metadata = read_strict_json(Path("checkpoints", f"{NAME}.meta.json"))
    assert metadata["steps_done"] == 500
    collecting = metadata["steps_done"] / 2 - metadata["gradient_steps"]  # vector steps
    assert collecting == pytest.approx(2 * 50, abs=2), "as long as before the first gradient step"
    assert done < 500


# What takes moments


@pytest.mark.parametrize(
    ("rows", "holds"),
    [
        ([(0.2, 0.1), (0.3, 0.1), (0.09, 0.1)], True),
        ([(0.2, 0.1), (0.3, 0.1), (0.11, 0.1)], False),  # the loss fell by less than half
        ([(0.2, 0.1), (0.3, 0.0), (0.09, 0.1)], False),  # once no gradient reached the encoder
    ],
)
def test_the_demo_judges_critics_and_encoder(rows: list[tuple[float, float]], holds: bool) -> None:
    assert ch09_pixel_push._verdicts(rows) == holds


def test_the_smoke_test_goes_all_the_way(workdir: Path) -> None:
    done = succeed(SCRIPT, "smoke-test", "--device", "cpu", "--no-progress")
    assert "[PASS]" in done.out
    assert list(Path("checkpoints", "smoke-test").glob("*.zip"))
    assert list(Path("results", "smoke-test").glob("*_eval.json"))


@pytest.mark.parametrize("camera", ["default", "close"])
def test_a_frame_is_written_as_a_policy_sees_it(workdir: Path, camera: str) -> None:
    # A process of its own: this one may have loaded MuJoCo without a renderer.
    out, err = start(SCRIPT, "render-frame", "--camera", camera, "--seed", "0").communicate()
    assert f"camera {camera}" in out, err
    with Image.open(f"figures/ch09_frame_{camera}.png") as picture:
        assert picture.size == (84 * ch09_pixel_push.ENLARGED,) * 2
        colours = picture.getcolors(maxcolors=10**6)
    assert colours is not None
    assert len(colours) > 20, "it shows something"
