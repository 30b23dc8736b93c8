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

MAP = "for layer in maps:\n        pictures = layer(pictures)"
HEAD = "torch.relu(self.linear(self.maps(pixels).flatten(1)))"
CAUGHT_BY_VERIFY = {
    "check_maps": [
        Fault("stride 2 first", "kernel_size=8, stride=4", "kernel_size=8, stride=2"),
        Fault("a smaller first kernel", "kernel_size=8,", "kernel_size=7,"),
        Fault("padded", "kernel_size=3, stride=1)", "kernel_size=3, stride=1, padding=1)"),
        Fault("fewer filters", "nn.Conv2d(32, 64, ", "nn.Conv2d(32, 48, "),
        Fault("another activation", "stride=2),  # 20 -> 9\n            nn.ReLU()", "stride=2),\n            nn.ELU()"),
        Fault("columns for rows", MAP, MAP.replace("layer(pictures)", "layer(pictures.mT)")),
    ],
    "check_features": [
        Fault("no activation at the end", HEAD, HEAD.removeprefix("torch.relu")),
        Fault("pixels divided again", HEAD, HEAD.replace("(pixels)", "(pixels / 255)")),
        Fault("wrong order of cells", HEAD, HEAD.replace(".flatten", ".mT.flatten")),
        Fault("no bias", "64 * 7 * 7, features_dim)", "64 * 7 * 7, features_dim, bias=False)"),
        Fault("always 512", "64 * 7 * 7, features_dim)", "64 * 7 * 7, 512)"),
    ],
    "check_windows": [
        Fault("strides not multiplied", "stride *= layer.stride[0]", "stride = layer.stride[0]"),
        Fault("windows too large", "(kernel - 1) * stride\n        ", "kernel * stride\n        "),
        Fault("padding forgotten", "(kernel - 1) / 2 - padding", "(kernel - 1) / 2"),
        Fault("half a pixel aside", "((kernel - 1) / 2", "(kernel / 2"),
        Fault("place without its stride", "self.first + self.stride * cells", "self.first + cells"),
    ],
    "check_blocks": [
        Fault("the same layer twice", "return NatureCNN().maps[:2]", "return stride_2()"),
        Fault("rows for columns", "[cell % width, cell // width]", "[cell // width, cell % width + 9]"),
        Fault("weakest cell", ".flatten(1).max(dim=1)", ".flatten(1).min(dim=1)"),
        Fault("the block stays", "picture[:, y : y + size, x", "picture[:, y : y + size, 40"),
        Fault("an empty picture changes nothing", "seen.features[1:] - seen.features[0]", "seen.features[1:]"),
    ],
}
CAUGHT_BY_COMPARISON = [
    Fault("no activation at the end", HEAD, HEAD.removeprefix("torch.relu"), "--compare-sb3"),
    Fault("pixels divided again", HEAD, HEAD.replace("(pixels)", "(pixels / 255)"), "--compare-sb3"),
    Fault("wrong order of cells", HEAD, HEAD.replace(".flatten", ".mT.flatten"), "--compare-sb3"),
    Fault("no gradient", HEAD, f"{HEAD} + 0 * pixels.detach().sum() * self.linear.weight.sum() if 0 else torch.relu(self.linear(self.maps(pixels).flatten(1).detach() + 0 * self.maps(pixels).flatten(1)))", "--compare-sb3"),
]
