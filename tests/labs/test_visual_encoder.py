"""The NatureCNN lab: what it prints and draws, what it computes, and that its checks can fail."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from mutation import LABS, Fault, Outcome, loaded_lab, run_lab, run_module

LAB = LABS / "visual_encoder.py"
VERIFY = ["check_maps", "check_features", "check_windows", "check_blocks"]

OUTPUT = "torch.relu(self.linear(self.maps(pixels).flatten(1)))"
LAYERS = "for layer in maps:\n        pictures = layer(pictures)"
BLOCK = "picture[:, y : y + size, x : x + size] = 1.0"
CAUGHT_BY_VERIFY = {
    "check_maps": [
        Fault("stride 2 first", "kernel_size=8, stride=4", "kernel_size=8, stride=2"),
        Fault("first layer padded", "stride=4)", "stride=4, padding=1)"),
        Fault("padded", "kernel_size=3, stride=1)", "kernel_size=3, stride=1, padding=1)"),
        Fault("fewer filters", "nn.Conv2d(64, 64, ", "nn.Conv2d(64, 32, "),
        Fault(
            "another activation",
            "nn.ReLU(),\n            nn.Conv2d(64",
            "nn.ELU(),\n            nn.Conv2d(64",
        ),
        Fault("columns for rows", LAYERS, f"{LAYERS[:-1]}.mT)"),
    ],
    "check_features": [
        Fault("no activation at the end", OUTPUT, OUTPUT.removeprefix("torch.relu")),
        Fault("pixels divided again", OUTPUT, OUTPUT.replace("(pixels)", "(pixels / 255)")),
        Fault("another order of cells", OUTPUT, OUTPUT.replace(".flatten", ".mT.flatten")),
        Fault("always 512", "64 * 7 * 7, features_dim)", "64 * 7 * 7, 512)"),
    ],
    "check_windows": [
        Fault("stride 4 for small things, too", "stride=2, padding=1", "stride=4, padding=1"),
        Fault("strides not multiplied", "stride *= layer", "stride = layer"),
        Fault("windows too large", "window += (kernel - 1)", "window += kernel"),
        Fault("strides of the layer itself", "(kernel - 1) * stride", "(kernel - 1)"),
        Fault("padding forgotten", "(kernel - 1) / 2 - padding", "(kernel - 1) / 2"),
        Fault("half a pixel aside", "((kernel - 1) / 2", "(kernel / 2"),
        Fault("cells one pixel apart", "self.first + self.stride * cells", "self.first + cells"),
    ],
    "check_blocks": [
        Fault("stride 2 twice", "list(NatureCNN().maps)[:2]", "list(stride_2())"),
        Fault("x is y", "[cell % width, cell // width]", "[cell // width, cell % width]"),
        Fault("a neighbour of the cell", "cell // width]", "cell // width + 1]"),
        Fault("x and y swapped", BLOCK, "picture[:, x : x + size, y : y + size] = 1.0"),
        Fault("diagonal steps", "path[1:] - path[:-1]", "path[1:, 1:] - path[:-1, :-1]"),
        Fault("the average cell", "(strongest / seen", "(change.norm(dim=1).mean() / seen"),
    ],
}
CAUGHT_BY_COMPARISON = [
    *CAUGHT_BY_VERIFY["check_features"][:3],
    CAUGHT_BY_VERIFY["check_maps"][4],
]


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


# What it prints


def test_verify_passes(lab: ModuleType) -> None:
    outcome = run_module(lab, "--verify")
    assert outcome.output.startswith("Visual Encoder -- Verification\n")
    assert last_line(outcome) == "[ALL PASS] Visual encoder verified"
    assert outcome.output.count("[PASS] ") == len(VERIFY)
    assert outcome.exit_code == 0


def test_the_comparison_passes(lab: ModuleType) -> None:
    outcome = run_module(lab, "--compare-sb3")
    assert outcome.output.startswith("Visual Encoder -- SB3 Comparison\n")
    assert "[PASS] Our NatureCNN matches SB3's" in outcome.output
    assert last_line(outcome).startswith("[ALL PASS] ")
    assert outcome.exit_code == 0


def test_demo_draws_what_is_left_of_a_block(lab: ModuleType, tmp_path: Path) -> None:
    lab.DRAWS, picture = 2, tmp_path / "new" / "a.png"
    outcome = run_module(lab, "--demo", "--out", str(picture))
    assert outcome.output.startswith("Visual Encoder -- Demo\n")
    assert f"wrote {picture}\n" in outcome.output
    assert outcome.exit_code == 0
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_seed_decides_the_numbers(lab: ModuleType) -> None:
    lab.DRAWS = 2
    first, again, other = (run_module(lab, "--verify", "--seed", seed) for seed in ("0", "0", "3"))
    assert first.output == again.output
    assert first.output != other.output


def test_without_a_mode_it_prints_help_and_exits_2() -> None:
    outcome = run_lab(LAB)
    assert outcome.exit_code == 2
    assert "--compare-sb3" in outcome.output


@pytest.mark.parametrize(
    "arguments", [("--verify", "--seed", "-1"), ("--demo", "--seed", "a"), ("--demo", "--verify")]
)
def test_a_wrong_command_line_exits_2(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_lab(LAB, *arguments).exit_code == 2
    assert "error:" in capsys.readouterr().err


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


def test_the_region_holds_the_network() -> None:
    source = LAB.read_text(encoding="utf-8")
    regions = re.findall(r"# --8<-- \[start:(\w+)\]\n(.*?)# --8<-- \[end:\1\]", source, re.DOTALL)
    ((name, text),) = regions
    assert name == "nature_cnn"
    assert text.startswith("class NatureCNN(nn.Module):")


# What it computes


def test_the_sizes_are_the_ones_the_book_names(lab: ModuleType) -> None:
    network = lab.NatureCNN()
    sides = [seen.features.shape[-1] for seen in lab.trace(network.maps, torch.rand(1, 3, 84, 84))]
    assert sides == [20, 9, 7]
    assert sum(weights.numel() for weights in network.parameters()) == 1_682_080
    assert network(torch.rand(4, 3, 84, 84)).shape == (4, 512)
    assert lab.NatureCNN(12, 50)(torch.rand(2, 12, 84, 84)).shape == (2, 50)


def test_a_picture_of_another_size_is_refused(lab: ModuleType) -> None:
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        lab.NatureCNN()(torch.rand(1, 3, 42, 42))


def test_a_block_is_where_it_was_drawn(lab: ModuleType) -> None:
    empty, full = lab.draw_blocks(3, torch.tensor([[10, 20]]))
    changed = (full - empty).sum(0).nonzero()
    assert changed.amin(0).tolist() == [20, 10]
    assert changed.amax(0).tolist() == [22, 12]
    assert len(changed) == 9


def test_a_map_as_fine_as_the_picture_shows_the_very_pixel(lab: ModuleType) -> None:
    pictures = lab.draw_blocks(1, lab.CORNERS)
    row = lab.describe(lab.Map(pictures, stride=1, window=1, first=0.0), 1)
    assert row["off by"] == 0
    assert row["filled"] == row["places"] == 1
    assert row["contrast"] == pytest.approx(1.0)  # from 0.5 to 1
    assert row["1 px on"] == pytest.approx(2**0.5)  # one pixel goes, another one comes


def test_moving_by_the_stride_moves_the_map_by_one_cell(lab: ModuleType) -> None:
    """Why 16 patterns have to be learned at stride 4: only every fourth place looks the same."""
    pictures = lab.draw_blocks(3, torch.tensor([[40, 40], [41, 40], [44, 40]]))
    with torch.no_grad():
        first = lab.trace(lab.NatureCNN().maps, pictures)[0].features
    _, start, one_on, four_on = first
    torch.testing.assert_close(four_on[..., 1:], start[..., :-1])
    assert not torch.allclose(one_on, start, atol=1e-3)


# That its checks can fail


@pytest.mark.parametrize(("check", "fault"), by_check())
def test_verify_notices(check: str, fault: Fault) -> None:
    with loaded_lab(LAB, fault) as lab:
        lab.DRAWS = 4
        for other in {*VERIFY} - {check}:
            setattr(lab, other, lambda: iter(()))
        outcome = run_module(lab, "--verify")
    assert outcome.exit_code == 1
    assert last_line(outcome) == f"[FAILED] 1 of {len(VERIFY)} checks"


@pytest.mark.parametrize("fault", CAUGHT_BY_COMPARISON, ids=lambda fault: fault.name)
def test_the_comparison_notices(fault: Fault) -> None:
    outcome = run_lab(LAB, "--compare-sb3", fault=fault)
    assert outcome.exit_code == 1
    assert last_line(outcome) == "[FAILED] 1 of 1 checks"


def test_the_demo_notices_a_block_that_does_not_fade(lab: ModuleType, tmp_path: Path) -> None:
    lab.measure = lambda make, size: [{"contrast": 0.4}] * 3
    outcome = run_module(lab, "--demo", "--out", str(tmp_path / "a.png"))
    assert outcome.exit_code == 1
    assert last_line(outcome) == "[FAILED] 1 of 1 checks"
