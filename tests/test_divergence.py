"""What a training whose weights are no numbers any more leaves behind."""

from __future__ import annotations

import re
from pathlib import Path
from unittest import mock

import pytest
from stable_baselines3 import PPO
from support import TINY_PPO, TINY_SAC_HER, Trained, run_script, start, tree


@pytest.mark.parametrize("engine", ["fast", "sb3"])
@pytest.mark.parametrize("tiny", [TINY_PPO, TINY_SAC_HER])
def test_a_training_that_diverged_publishes_nothing(
    tiny: list[str], engine: str, workdir: Path
) -> None:
    outcome = run_script("train.py", *tiny, "--engine", engine, "--learning-rate", "1e9")
    assert outcome.code == 2
    assert re.search("error: the training diverged: after .* smaller --learning-rate", outcome.err)
    assert not Path("checkpoints").exists() or not list(Path("checkpoints").glob("*.zip"))
    assert not Path("MUJOCO_LOG.TXT").exists(), "no simulation was stepped with such actions"


def test_a_training_that_diverged_leaves_the_curves_that_were_there(
    workdir: Path, trained_ppo: Trained
) -> None:
    trained_ppo.copy_to(workdir)
    logs = workdir / "runs/ppo/FetchReachDense-v4"
    old = tree(logs / "seed0")
    outcome = run_script("train.py", *TINY_PPO, "--learning-rate", "1e9")
    assert outcome.code == 2
    assert tree(logs / "seed0") == old
    assert [path.name.split("_")[-1] for path in (logs / "previous").iterdir()] == ["diverged"]


def test_an_error_of_another_kind_is_no_divergence(workdir: Path) -> None:
    with (
        mock.patch.object(PPO, "learn", side_effect=ValueError("unrelated")),
        pytest.raises(ValueError, match="unrelated"),
    ):
        run_script("train.py", *TINY_PPO, "--engine", "sb3")


def test_a_training_from_pictures_that_diverged_says_so(workdir: Path) -> None:
    flags = ["--critic-encoder", "--image-size", "36", "--num-filters", "4", "--net-arch", "16"]
    flags += ["--n-envs", "2", "--batch-size", "8", "--buffer-size", "2000", "--device", "cpu"]
    flags += ["--learning-starts", "100", "--total-steps", "300", "--no-progress"]
    training = start("scripts/ch09_pixel_push.py", "train", *flags, "--learning-rate", "1e18")
    _, err = training.communicate(timeout=240)
    assert training.returncode == 2
    assert re.search("error: the training diverged: after .* smaller --learning-rate", err)
    assert not list(Path("checkpoints").glob("*.zip"))
