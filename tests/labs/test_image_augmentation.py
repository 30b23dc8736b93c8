"""The augmentation lab: what it prints and draws, what it computes, that its checks can fail."""

from __future__ import annotations

import io
import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict
from mutation import LABS, Fault, Outcome, loaded_lab, run_lab, run_module

LAB = LABS / "image_augmentation.py"
REGIONS = {
    "random_shift_aug": "class RandomShiftAug",
    "drq_replay_buffer": "def augment",
    "her_drq_replay_buffer": "class HerDrQDictReplayBuffer",
}
CHECKS = ["check_kept", "check_crops", "check_uniform", "check_drq_buffer", "check_her_buffer"]

PADDED = "[first] * self.pad + [images] + [last] * self.pad"
SIZE = "height, width = images.shape[2:]\n        for"
DRAWN = "torch.randint(2 * self.pad + 1, (2, batch), device=device)"
CHOSEN = "crops[torch.arange(batch, device=device), :, down, right]"
BEFORE = "observations={**obs, key: aug_fn(obs[key])}"
GOALS_TOO = BEFORE[:-1] + ', "desired_goal": obs["desired_goal"] + 0.1}'
AFTER = "next_observations={**next_obs, key: aug_fn(next_obs[key])}"
SAMPLED = "return augment(super().sample(batch_size, env), self.aug_fn, self.image_key)"
SAMPLE = LAB.read_text(encoding="utf-8").partition("def sample(")[2].partition("\n\n\n")[0]
SAMPLE = f"def sample({SAMPLE}"
REAL = """def _get_real_samples(self, *where: Any) -> Samples:
        return augment(super()._get_real_samples(*where), self.aug_fn, self.image_key)
"""
FAULTS = {
    "check_kept": [
        Fault("zeros around the picture", PADDED, PADDED.replace("first", "0 * first")),
        Fault("floats come back", f"return {CHOSEN}", f"return {CHOSEN}.float()"),
        Fault("the original is changed", SIZE, SIZE.replace("\n", "; images += 1\n")),
        Fault("pad ignored", "self.pad = pad", "self.pad = 4"),
        Fault("no copy", SIZE, "return images\n        " + SIZE),
    ],
    "check_crops": [
        Fault("zeros around the picture", PADDED, PADDED.replace("last", "0 * last")),
        Fault("one shift for the batch", DRAWN, DRAWN.replace("(2, batch)", "(2, 1)")),
        Fault("the same shifts each time", SIZE, "torch.manual_seed(0)\n        " + SIZE),
        Fault(
            "each channel by its own shift",
            CHOSEN,
            "crops[torch.arange(batch)[:, None], torch.arange(12), "
            "torch.randint(9, (batch, 12)), right[:, None]]",
        ),
        Fault("rolled round, not repeated", PADDED, PADDED.replace("first", "last")),
    ],
    "check_uniform": [
        Fault("never to the far side", DRAWN, DRAWN.replace("pad + 1", "pad")),
        Fault("down as far as right", CHOSEN, CHOSEN.replace("down, right", "right, right")),
        Fault("small shifts preferred", DRAWN, f"({DRAWN} + {DRAWN}) // 2"),
    ],
    "check_drq_buffer": [
        Fault("next pictures as stored", AFTER, "next_observations=next_obs"),
        Fault("pictures as stored", BEFORE, "observations=obs"),
        Fault("one shift for both", SIZE, "torch.manual_seed(0)\n        " + SIZE),
        Fault("goals augmented", BEFORE, GOALS_TOO),
        Fault(
            "proprioception augmented",
            AFTER,
            "next_observations={**{k: 1.1 * v for k, v in next_obs.items()}, "
            "key: aug_fn(next_obs[key])}",
        ),
        Fault("next is now", AFTER, AFTER.replace("**next_obs", "**obs")),
        Fault("rewards lost", f"{AFTER},", f"{AFTER},\n        rewards=0 * samples.rewards,"),
        Fault(
            "the store is written",
            SAMPLED,
            f"self.observations['pixels'] //= 2\n        {SAMPLED}",
        ),
    ],
    "check_her_buffer": [
        Fault(
            "shifted before relabelling", SAMPLE, f"{REAL}\n    {REAL.replace('real', 'virtual')}"
        ),
        Fault("relabelled ones not shifted", SAMPLE, REAL),
        Fault("no shift at all", SAMPLED, "return super().sample(batch_size, env)"),
        Fault("no relabelling", SAMPLED, f"self.her_ratio = 0.0\n        {SAMPLED}"),
        Fault("goals augmented", BEFORE, GOALS_TOO),
        Fault("own shift forgotten", "aug_fn or RandomShiftAug()", "RandomShiftAug()"),
    ],
}


@pytest.fixture
def lab() -> Iterator[ModuleType]:
    with loaded_lab(LAB) as module:
        yield module


def run_only(lab: ModuleType, check: str) -> Outcome:
    """Run --verify with its other checks emptied."""
    for other in {*CHECKS} - {check}:
        setattr(lab, other, lambda: iter(()))
    return run_module(lab, "--verify")


def last_line(outcome: Outcome) -> str:
    return outcome.output.splitlines()[-1]


# What it prints and draws


def test_verify_passes(lab: ModuleType) -> None:
    outcome = run_module(lab, "--verify")
    assert outcome.output.startswith("Image Augmentation -- Verification\n")
    assert last_line(outcome) == "[ALL PASS] Image augmentation verified"
    assert outcome.output.count("[PASS] ") == len(CHECKS)
    assert outcome.exit_code == 0


def test_the_seed_decides_the_numbers(lab: ModuleType) -> None:
    first, again, other = (run_module(lab, "--verify", "--seed", seed) for seed in ("0", "0", "3"))
    assert first.output == again.output
    assert first.output != other.output
    assert other.exit_code == 0


def test_without_a_mode_it_prints_help_and_exits_2() -> None:
    outcome = run_lab(LAB)
    assert outcome.exit_code == 2
    assert "--demo" in outcome.output


@pytest.mark.parametrize(
    "arguments", [("--verify", "--seed", "-1"), ("--demo", "--seed", "a"), ("--demo", "--verify")]
)
def test_a_wrong_command_line_exits_2(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_lab(LAB, *arguments).exit_code == 2
    assert "error:" in capsys.readouterr().err


def test_demo_measures_and_draws(lab: ModuleType, tmp_path: Path) -> None:
    picture = tmp_path / "new" / "a.png"
    outcome = run_module(lab, "--demo", "--out", str(picture))
    assert outcome.output.startswith("Image Augmentation -- Demo\n")
    assert "a shift, 4 of 84 pixels: 0.09639 " in outcome.output  # the book's 0.10
    assert last_line(outcome) == "[ALL PASS] Image augmentation verified"
    assert outcome.exit_code == 0
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_demo_fails_where_shifts_cost_nothing(tmp_path: Path) -> None:
    fault = Fault("no shift", "self.pad = pad", "self.pad = 0")
    outcome = run_lab(LAB, "--demo", "--out", str(tmp_path / "a.png"), fault=fault)
    assert outcome.exit_code == 1
    assert last_line(outcome) == "[FAILED] 1 of 1 checks"


@pytest.mark.parametrize("path", ["file/x", "folder"])
def test_a_path_it_cannot_write_exits_2(
    path: str,
    lab: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    Path("folder").mkdir()
    assert run_module(lab, "--demo", "--out", path).exit_code == 2
    error = capsys.readouterr().err
    assert re.fullmatch(r"error: [^\n]+; choose another file with --out\n", error)


# What it computes


@pytest.mark.parametrize("pad", [0, 1, 6])
def test_a_shift_goes_up_to_pad_pixels(lab: ModuleType, pad: int) -> None:
    places = torch.arange(20).expand(400, 1, 20, 20)
    at = lab.RandomShiftAug(pad)(places)[:, 0, 10, 10] - 10
    assert (at.min().item(), at.max().item()) == (-pad, pad)


def test_two_augmentations_of_8_images_differ(lab: ModuleType) -> None:
    torch.manual_seed(0)
    images = torch.randint(256, (8, 12, 84, 84), dtype=torch.uint8)
    assert not torch.equal(lab.RandomShiftAug()(images), lab.RandomShiftAug()(images))


def test_the_softmax_finds_the_block(lab: ModuleType) -> None:
    picture = torch.zeros(2, 1, 84, 84)
    picture[0, 0, 5, 0] = picture[1, 0, 60, 83] = 1.0
    assert lab.softmax_x(picture).tolist() == pytest.approx([-1.0, 1.0], abs=1e-6)


@pytest.mark.parametrize("kind", ["DrQDictReplayBuffer", "HerDrQDictReplayBuffer"])
def test_another_augmentation_of_another_key(lab: ModuleType, kind: str) -> None:
    box = {"camera": Box(0, 255, (3, 8, 8), np.uint8), "achieved_goal": Box(-1, 1, (2,))}
    space = Dict({**box, "desired_goal": Box(-1, 1, (2,))})
    turned = {"env": lab.GoalEnvStub()} if kind.startswith("Her") else {}
    turned |= {"aug_fn": lambda images: images + 1, "image_key": "camera"}
    buffer = getattr(lab, kind)(12, space, Box(-1, 1, (1,)), device="cpu", n_envs=2, **turned)
    obs = {key: np.zeros((2, *part.shape), part.dtype) for key, part in space.items()}
    for done in (False, False, True):
        still = np.zeros(2), np.full(2, done), [{}, {}]
        buffer.add(obs, obs, np.zeros((2, 1)), *still)
    batch = buffer.sample(7)
    assert batch.observations["camera"].unique().tolist() == [1]
    assert batch.next_observations["camera"].shape == (7, 3, 8, 8)
    assert batch.next_observations["camera"].dtype == torch.uint8
    assert not batch.observations["achieved_goal"].any()


def test_a_buffer_can_be_kept_in_a_file(lab: ModuleType) -> None:
    rng = np.random.default_rng(0)
    buffer = lab.filled(lab.HerDrQDictReplayBuffer, rng, env=lab.GoalEnvStub())
    kept = pickle.load(io.BytesIO(pickle.dumps(buffer)))
    kept.set_env(lab.GoalEnvStub())
    assert kept.sample(4).observations["pixels"].shape == (4, 2, 12, 12)


# How it is written


def test_each_region_holds_what_it_is_named_after() -> None:
    region = r"# --8<-- \[start:(\w+)\]\n(.*?)\n# --8<-- \[end:(\w+)\]"
    found = re.findall(region, LAB.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert [(start, end) for start, _, end in found] == [(name, name) for name in REGIONS]
    assert all(text.startswith(REGIONS[name]) for name, text, _ in found)


# That its checks can fail


@pytest.mark.parametrize(
    ("check", "fault"),
    [
        pytest.param(check, fault, id=f"{check}: {fault.name}")
        for check, faults in FAULTS.items()
        for fault in faults
    ],
)
def test_verify_notices(check: str, fault: Fault) -> None:
    with loaded_lab(LAB, fault) as lab:
        outcome = run_only(lab, check)
    assert outcome.exit_code == 1
    assert last_line(outcome) == f"[FAILED] 1 of {len(CHECKS)} checks"
