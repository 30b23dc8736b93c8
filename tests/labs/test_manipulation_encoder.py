"""The manipulation encoder: what it prints and draws and computes, and that checks can fail."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from unittest.mock import Mock

import gymnasium as gym
import pytest
import torch
from gymnasium import spaces
from mutation import LABS, Fault, Outcome, loaded_lab, run_lab, run_module
from stable_baselines3 import SAC

LAB = LABS / "manipulation_encoder.py"
REGIONS = {
    "manipulation_cnn": "class ManipulationCNN(nn.Module):",
    "spatial_softmax": "class SpatialSoftmax(nn.Module):",
    "manipulation_extractor": "class ManipulationExtractor(BaseFeaturesExtractor):",
}
VERIFY = ["check_maps", "check_softmax", "check_temperature", "check_extractor", "check_learning"]

FIRST = "stride=2, padding=1),  # 84 -> 42"
LAST = "stride=2, padding=1),  # 42 -> 21"
LINSPACES = "torch.linspace(-1, 1, height), torch.linspace(-1, 1, width)"
SUMS = "(attention * self.x).sum(-1), (attention * self.y).sum(-1)"
TEMPERATURE = "self.log_temperature.exp()"
PIXELS = "if pixels.dtype == torch.uint8:"
JOINED = "[self.trunk(self.cnn(pixels)), *vectors]"
CAUGHT_BY_VERIFY = {
    "check_maps": [
        Fault("stride 4", FIRST, FIRST.replace("2", "4", 1)),
        Fault("stride 1", LAST, LAST.replace("2", "1", 1)),
        Fault("not padded", FIRST, FIRST.replace("padding=1", "padding=0")),
        Fault("no activation at the end", f"{LAST}\n            nn.ReLU(),", LAST),
        Fault(
            "PyTorch's own weights",
            'nn.init.orthogonal_(weights, nn.init.calculate_gain("relu"))',
            "pass",
        ),
        Fault("weights too large", 'calculate_gain("relu")', 'calculate_gain("relu") * 2'),
    ],
    "check_softmax": [
        Fault(
            "x and y swapped", SUMS, "(attention * self.y).sum(-1), (attention * self.x).sum(-1)"
        ),
        Fault(
            "pairs of x and y",
            f"torch.cat([{SUMS}], dim=-1)",
            f"torch.stack([{SUMS}], dim=-1).flatten(1)",
        ),
        Fault("grid transposed", "y, x = torch.meshgrid(", "x, y = torch.meshgrid("),
        Fault(
            "height for width",
            LINSPACES,
            "torch.linspace(-1, 1, width), torch.linspace(-1, 1, height)",
        ),
        Fault("y upwards", LINSPACES, LINSPACES.replace("(-1, 1, height)", "(1, -1, height)")),
        Fault("from 0 to 1", LINSPACES, LINSPACES.replace("-1", "0")),
        Fault("other indexing", 'indexing="ij"', 'indexing="xy"'),
        Fault("softmax over channels", "dim=-1)  # (B, C, H * W)", "dim=1)"),
        Fault("temperature multiplied", "flatten(2) / self.temp", "flatten(2) * self.temp"),
        Fault("temperature forgotten", " / self.temperature, dim", ", dim"),
    ],
    "check_temperature": [
        Fault("temperature not kept positive", TEMPERATURE, "self.log_temperature + 1"),
        Fault("temperature itself learned", f"{TEMPERATURE}\n", "self.log_temperature\n"),
        Fault("its inverse learned", TEMPERATURE, "(-self.log_temperature).exp()"),
        Fault("cut from the loss", "/ self.temperature, dim", "/ self.temperature.detach(), dim"),
        Fault("always 1 at the start", "math.log(temperature)", "0.0"),
    ],
    "check_extractor": [
        Fault("floats divided again", PIXELS, "if True:"),
        Fault("bytes not divided", "pixels = pixels / 255.0", "pixels = pixels.float()"),
        Fault("pictures last", JOINED, "[*vectors, self.trunk(self.cnn(pixels))]"),
        Fault(
            "goals swapped", '"achieved_goal", "desired_goal")', '"desired_goal", "achieved_goal")'
        ),
        Fault("a goal forgotten", '"achieved_goal", "desired_goal")', '"achieved_goal")'),
        Fault("every vector read", "for name in vectors if", "for name in VECTORS if"),
        Fault("encoder detached", "self.cnn(pixels))", "self.cnn(pixels).detach())"),
        Fault("no tanh", "linear, norm, nn.Tanh()", "linear, norm"),
        Fault("always 50", "else flat_features_dim\n", "else 64\n"),
    ],
    "check_learning": [
        Fault("no step", "        optimizer.step()\n    with", "    with"),
        Fault("half of the steps", "range(STEPS):", "range(STEPS // 2):"),
        Fault("encoder left out", "[*extractor.parameters(), *head", "[*head"),
        Fault(
            "only one coordinate learned",
            "(extractor(seen)), wanted)",
            "(extractor(seen))[:, 0], wanted[:, 0])",
        ),
        Fault(
            "places of other pictures",
            'return {"pixels": pixels}, 2.0 * corners',
            'return {"pixels": pixels}, 2.0 * corners.flip(0)',
        ),
        Fault("no block in the picture", "x : x + 3] = 255", "x : x + 3] = 128"),
    ],
}


@pytest.fixture
def lab() -> Iterator[ModuleType]:
    with loaded_lab(LAB) as module:
        yield module


def by_check() -> list[object]:
    """Parameters (check, fault) for pytest."""
    pairs = [(check, fault) for check, listed in CAUGHT_BY_VERIFY.items() for fault in listed]
    return [pytest.param(*pair, id=f"{pair[0]}: {pair[1].name}") for pair in pairs]


def last_line(outcome: Outcome) -> str:
    return outcome.output.splitlines()[-1]


def make_sac(lab: ModuleType, **settings: object) -> SAC:
    """SB3's SAC with the extractor; nothing but its spaces is asked of the environment."""
    env = Mock(gym.Env, observation_space=lab.make_space(84, 12, lab.DIMS))
    env.action_space = spaces.Box(-1, 1, (4,))
    kwargs = {"features_extractor_class": lab.ManipulationExtractor}
    kwargs["features_extractor_kwargs"] = settings
    return SAC("MultiInputPolicy", env, buffer_size=1, policy_kwargs=kwargs, device="cpu")


# What it prints


def test_verify_passes(lab: ModuleType) -> None:
    outcome = run_module(lab, "--verify")
    assert outcome.output.startswith("Manipulation Encoder -- Verification\n")
    assert last_line(outcome) == "[ALL PASS] Manipulation encoder verified"
    assert outcome.output.count("[PASS] ") == len(VERIFY)
    assert outcome.exit_code == 0


def test_the_progression_is_printed_and_drawn(lab: ModuleType, tmp_path: Path) -> None:
    picture = tmp_path / "new" / "a.png"
    outcome = run_module(lab, "--compare-nature", "--out", str(picture))
    assert outcome.output.startswith("Manipulation Encoder -- Spatial Progression\n")
    sizes = re.findall(r"^(\w+) +(\d+) x", outcome.output, re.MULTILINE)
    nature = [("NatureCNN", side) for side in ("20", "9", "7")]
    assert sizes == nature + [("ManipulationCNN", side) for side in ("42", "42", "42", "21")]
    assert last_line(outcome).startswith("[ALL PASS] ")
    assert outcome.exit_code == 0
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_seed_decides_the_numbers(lab: ModuleType) -> None:
    lab.check_learning = lambda: iter(())  # the longest
    first, again, other = (run_module(lab, "--verify", "--seed", seed) for seed in ("0", "0", "3"))
    assert first.output == again.output
    assert first.output != other.output
    assert other.exit_code == 0


def test_without_a_mode_it_prints_help_and_exits_2() -> None:
    outcome = run_lab(LAB)
    assert outcome.exit_code == 2
    assert "--compare-nature" in outcome.output


@pytest.mark.parametrize(
    "arguments",
    [("--verify", "--seed", "-1"), ("--verify", "--seed", "a"), ("--verify", "--compare-nature")],
)
def test_a_wrong_command_line_exits_2(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_lab(LAB, *arguments).exit_code == 2
    assert "error:" in capsys.readouterr().err


def test_a_path_it_cannot_write_exits_2(
    lab: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    assert run_module(lab, "--compare-nature", "--out", "file/x").exit_code == 2
    error = capsys.readouterr().err
    assert re.fullmatch(r"error: [^\n]+; choose another file with --out\n", error)


def test_each_region_holds_what_it_is_named_after() -> None:
    source = LAB.read_text(encoding="utf-8")
    region = r"# --8<-- \[start:(\w+)\]\n(.*?)\n# --8<-- \[end:\1\]"
    found = re.findall(region, source, flags=re.DOTALL)
    assert [name for name, _ in found] == list(REGIONS)
    assert all(text.startswith(REGIONS[name]) for name, text in found)


# What it computes


def test_the_sizes_are_the_ones_the_book_names(lab: ModuleType) -> None:
    features = lab.ManipulationCNN(in_channels=12, num_filters=32)(torch.rand(4, 12, 84, 84))
    assert features.shape == (4, 32, 21, 21)
    assert lab.SpatialSoftmax(21, 21, 32)(features).shape == (4, 64)


def test_a_peak_at_the_top_left_is_near_minus_one_minus_one(lab: ModuleType) -> None:
    features = torch.zeros(1, 1, 21, 21)
    features[0, 0, 0, 0] = 20.0
    assert lab.SpatialSoftmax(21, 21, 1)(features)[0].tolist() == pytest.approx([-1, -1], abs=1e-3)


def test_each_cell_of_a_map_has_its_own_coordinates(lab: ModuleType) -> None:
    cells = 1000 * torch.eye(6 * 4).reshape(24, 1, 6, 4)
    found = lab.SpatialSoftmax(6, 4, 1)(cells)
    expected = [[-1 + 2 * j / 3, -1 + 2 * i / 5] for i in range(6) for j in range(4)]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_a_map_of_another_shape_is_refused(lab: ModuleType) -> None:
    with pytest.raises(AssertionError, match=r"\(2, 4, 6\) is not \(2, 6, 4\)"):
        lab.SpatialSoftmax(6, 4, 2)(torch.zeros(1, 2, 4, 6))


@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_a_temperature_that_is_not_positive_is_refused(lab: ModuleType, temperature: float) -> None:
    with pytest.raises(ValueError, match=r"math domain error|expected a positive input"):
        lab.SpatialSoftmax(6, 4, 2, temperature)


@pytest.mark.parametrize(
    ("settings", "missing", "dim"),
    [
        ({}, (), 80),
        ({"spatial_softmax": False}, (), 66),
        ({"spatial_softmax": False, "flat_features_dim": 20}, (), 36),
        ({"num_filters": 16}, (), 48),
        ({}, ("proprioception",), 70),
        ({}, ("proprioception", "achieved_goal", "desired_goal"), 64),
        ({"vectors": ("proprioception", "desired_goal")}, (), 77),
    ],
)
def test_features_are_counted(
    lab: ModuleType, settings: dict[str, object], missing: tuple[str, ...], dim: int
) -> None:
    dims = {name: n for name, n in lab.DIMS.items() if name not in missing}
    space = lab.make_space(84, 12, dims)
    extractor = lab.ManipulationExtractor(space, **settings)
    assert extractor.features_dim == dim
    assert extractor(lab.random_observations(space, 2)).shape == (2, dim)


@pytest.mark.parametrize("size", [42, 64, 83, 100])
def test_pictures_may_have_other_sizes(lab: ModuleType, size: int) -> None:
    space = lab.make_space(size, 3, {})
    for keypoints in (True, False):
        extractor = lab.ManipulationExtractor(space, spatial_softmax=keypoints)
        features = extractor(lab.random_observations(space, 2))
        assert features.shape == (2, extractor.features_dim)


def test_what_an_sb3_policy_computes_is_what_we_compute(lab: ModuleType) -> None:
    policy = make_sac(lab).policy
    seen = lab.random_observations(policy.observation_space, 4)
    extractor = policy.actor.features_extractor
    within = policy.actor.extract_features(seen, extractor)
    torch.testing.assert_close(within, extractor(seen), rtol=0, atol=0)
    assert within[:, 64:].equal(torch.cat([seen[name] for name in lab.VECTORS], dim=1))
    assert policy.actor.latent_pi[0].in_features == 80


def test_a_policy_that_does_not_list_the_achieved_goal_cannot_see_it(lab: ModuleType) -> None:
    policy = make_sac(lab, vectors=("proprioception", "desired_goal")).policy
    seen = lab.random_observations(policy.observation_space, 4)
    other = seen | {"achieved_goal": seen["achieved_goal"] + 1}
    action = torch.zeros(4, 4)
    assert policy.actor(seen, deterministic=True).equal(policy.actor(other, deterministic=True))
    for values, others in zip(
        policy.critic(seen, action), policy.critic(other, action), strict=True
    ):
        assert values.equal(others)


# That its checks can fail


@pytest.mark.parametrize(("check", "fault"), by_check())
def test_verify_notices(check: str, fault: Fault) -> None:
    with loaded_lab(LAB, fault) as lab:
        for other in {*VERIFY} - {check}:
            setattr(lab, other, lambda: iter(()))
        outcome = run_module(lab, "--verify")
    assert outcome.exit_code == 1
    assert last_line(outcome) == f"[FAILED] 1 of {len(VERIFY)} checks"


def test_the_progression_notices_stride_4(tmp_path: Path) -> None:
    fault = Fault("stride 4", FIRST, FIRST.replace("2", "4", 1))
    outcome = run_lab(LAB, "--compare-nature", "--out", str(tmp_path / "a.png"), fault=fault)
    assert outcome.exit_code == 1
    assert last_line(outcome) == "[FAILED] 1 of 1 checks"
