"""Manipulation encoder (book chapter 9): where the small things are, and what the robot feels.

Small kernels keep a block of three pixels visible, a spatial softmax says where it is, and numbers
that need no camera go past both. `--verify` checks the parts, `--compare-nature` draws them.
"""

import argparse
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.preprocessing import preprocess_obs
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn
from torch.nn.functional import mse_loss, pad
from torch.nn.utils import parameters_to_vector as flat

Claims = Iterator[tuple[str, Any, Any, float]]  # name, measured, expected, bound on the difference
Observations = dict[str, Tensor]

VECTORS = ("proprioception", "achieved_goal", "desired_goal")
DIMS = {"proprioception": 10, "achieved_goal": 3, "desired_goal": 3}  # in the checks, of FetchPush
STEPS, BATCH_SIZE, LEARNING_RATE = 30, 32, 5e-3  # of the training check


# --8<-- [start:manipulation_cnn]
class ManipulationCNN(nn.Module):
    """Four 3 x 3 convolutions; like DrQ's encoder (arXiv 2004.13649) it begins with stride 2."""

    def __init__(self, in_channels: int = 12, num_filters: int = 32) -> None:
        super().__init__()
        self.maps = nn.Sequential(
            nn.Conv2d(in_channels, num_filters, kernel_size=3, stride=2, padding=1),  # 84 -> 42
            nn.ReLU(),
            nn.Conv2d(num_filters, num_filters, kernel_size=3, stride=1, padding=1),
            nn.ReLU(),
            nn.Conv2d(num_filters, num_filters, kernel_size=3, stride=1, padding=1),
            nn.ReLU(),
            nn.Conv2d(num_filters, num_filters, kernel_size=3, stride=2, padding=1),  # 42 -> 21
            nn.ReLU(),
        )
        # As in DrQ-v2 (arXiv 2107.09645). With PyTorch's own initial weights activity shrinks from
        # map to map, and a spatial softmax of nearly equal cells is slow to learn from.
        for weights in self.parameters():
            if weights.dim() > 1:
                nn.init.orthogonal_(weights, nn.init.calculate_gain("relu"))
            else:  # a bias
                nn.init.zeros_(weights)

    def forward(self, pixels: Tensor) -> Tensor:
        """pixels: (B, in_channels, 84, 84), floats in [0, 1] -> features: (B, filters, 21, 21)."""
        features: Tensor = self.maps(pixels)
        return features


# --8<-- [end:manipulation_cnn]
# --8<-- [start:spatial_softmax]
class SpatialSoftmax(nn.Module):
    """Where each channel is most active: Levine et al. 2016 (arXiv 1504.00702).

    The temperature is learned, as in Finn et al. 2016 (arXiv 1509.06113).
    """

    x: Tensor
    y: Tensor

    def __init__(
        self, height: int, width: int, num_channels: int, temperature: float = 1.0
    ) -> None:
        super().__init__()
        self.shape = (num_channels, height, width)
        # Its logarithm is learned: no gradient step can make the temperature negative.
        self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature)))
        y, x = torch.meshgrid(
            torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij"
        )
        self.register_buffer("x", x.flatten())  # (H * W,), of the cells in the order of flatten
        self.register_buffer("y", y.flatten())

    @property
    def temperature(self) -> Tensor:
        """A positive scalar: the lower, the more the most active cell decides alone."""
        return self.log_temperature.exp()

    def forward(self, features: Tensor) -> Tensor:
        """features: (B, C, H, W) -> (B, 2C) in [-1, 1]: x of every channel, then y of every one."""
        assert features.shape[1:] == self.shape, f"{tuple(features.shape[1:])} is not {self.shape}"
        attention = torch.softmax(features.flatten(2) / self.temperature, dim=-1)  # (B, C, H * W)
        # E[x] = sum over i, j of attention_ij * x_j
        return torch.cat([(attention * self.x).sum(-1), (attention * self.y).sum(-1)], dim=-1)


# --8<-- [end:spatial_softmax]
# --8<-- [start:manipulation_extractor]
class ManipulationExtractor(BaseFeaturesExtractor):
    """What the pictures show, then the vectors: 64 + 10 + 3 + 3 = 80 features for FetchPush.

    Without spatial_softmax the pictures become flat_features_dim numbers (Yarats et al. 2019,
    arXiv 1910.01741). Of `vectors` those are read that the observation space has.
    """

    def __init__(
        self,
        observation_space: spaces.Dict,
        spatial_softmax: bool = True,
        num_filters: int = 32,
        flat_features_dim: int = 50,
        vectors: Sequence[str] = VECTORS,
    ) -> None:
        parts: dict[str, Any] = observation_space.spaces
        names = [name for name in vectors if name in parts]
        pixel_dim = 2 * num_filters if spatial_softmax else flat_features_dim
        super().__init__(observation_space, pixel_dim + sum(parts[name].shape[0] for name in names))
        channels, *sides = parts["pixels"].shape
        height, width = (math.ceil(side / 4) for side in sides)  # two strides of 2
        self.vectors, self.cnn = names, ManipulationCNN(channels, num_filters)
        self.trunk: nn.Module = SpatialSoftmax(height, width, num_filters)
        if not spatial_softmax:
            linear = nn.Linear(num_filters * height * width, flat_features_dim)
            norm = nn.LayerNorm(flat_features_dim)
            self.trunk = nn.Sequential(nn.Flatten(), linear, norm, nn.Tanh())

    def forward(self, observations: Observations) -> Tensor:
        """pixels: (B, C, H, W), bytes or floats in [0, 1], vectors: (B, n) -> (B, features_dim)."""
        pixels = observations["pixels"]
        if pixels.dtype == torch.uint8:  # SB3's policies have divided them already
            pixels = pixels / 255.0
        vectors = (observations[name] for name in self.vectors)
        return torch.cat([self.trunk(self.cnn(pixels)), *vectors], dim=-1)


# --8<-- [end:manipulation_extractor]
def make_space(size: int, channels: int, dims: dict[str, int]) -> spaces.Dict:
    """An observation space as the pixel wrapper has it: a stack of pictures, and vectors."""
    parts: dict[str, spaces.Space[Any]] = {
        name: spaces.Box(-math.inf, math.inf, (n,)) for name, n in dims.items()
    }
    return spaces.Dict({"pixels": spaces.Box(0, 255, (channels, size, size), np.uint8), **parts})


def random_observations(space: spaces.Dict, n: int) -> Observations:
    """Made-up observations: n pictures as bytes, n of each vector."""
    parts: dict[str, Any] = dict(space.spaces)
    found = {"pixels": torch.randint(256, (n, *parts.pop("pixels").shape), dtype=torch.uint8)}
    return found | {name: torch.randn(n, *part.shape) for name, part in parts.items()}


def check_maps() -> Claims:
    """Maps: 84 -> 42 -> 42 -> 42 -> 21, cells and 31 232 parameters as counted by hand."""
    cnn, before = ManipulationCNN(), torch.rand(4, 12, 84, 84)
    spreads = [cnn.maps[:k](before).std() for k in (2, 8)]
    yield "spread of activities, last map to first", spreads[1] / spreads[0], 1.15, 0.85
    yield "shape", cnn(before).shape, [4, 32, 21, 21], 0
    by_hand = ((42, 2), (42, 1), (42, 1), (21, 2))
    parts = list(cnn.parameters())
    pieces = zip(parts[::2], parts[1::2], by_hand, strict=True)
    for k, (weight, bias, (side, stride)) in enumerate(pieces):
        after, padded = cnn.maps[2 * k : 2 * k + 2](before), pad(before, (1, 1, 1, 1))
        yield "channels, height, width", after.shape, [4, 32, side, side], 0
        # f[c, i, j] = max(0, bias[c] + sum of weight[c] * window, from stride * (i, j) - 1 on)
        for i, j in ((0, 0), (3, 8)):
            window = padded[:, None, :, stride * i : stride * i + 3, stride * j : stride * j + 3]
            expected = ((weight * window).sum((2, 3, 4)) + bias).clamp(min=0)
            yield f"cell {i}, {j}", after[:, :, i, j], expected, 1e-5
        before = after
    count = 32 * (12 * 9 + 1) + 3 * 32 * (32 * 9 + 1)
    yield "parameters", flat(cnn.parameters()).numel(), count, 0


def check_softmax() -> Claims:
    """Spatial softmax: peaks are where they were put, x before y, sums written out."""
    height, width = 5, 9  # not square, so that rows and columns are not taken for each other
    peaks = torch.zeros(1, 3, height, width)
    for channel, (row, column) in enumerate(((0, 0), (1, 6), (4, 8))):
        peaks[0, channel, row, column] = 30.0
    found = SpatialSoftmax(height, width, 3)(peaks)[0]
    yield "x, y of the peak at the top left", found[[0, 3]], [-1, -1], 1e-4
    yield "x, y of the peak in row 1 of 5, column 6 of 9", found[[1, 4]], [0.5, -0.5], 1e-4
    yield "x, y of the peak at the bottom right", found[[2, 5]], [1, 1], 1e-4
    flat_map = SpatialSoftmax(height, width, 3)(torch.ones(1, 3, height, width))
    yield "no peak: the middle", flat_map, torch.zeros(1, 6), 1e-6
    features, temperature = torch.randn(2, 3, height, width), 0.5
    expected = torch.zeros(2, 6)
    for b in range(2):
        for c in range(3):
            total = 0.0
            for i in range(height):
                for j in range(width):
                    weight = math.exp(features[b, c, i, j].item() / temperature)
                    total += weight
                    expected[b, c] += weight * (-1 + 2 * j / (width - 1))
                    expected[b, c + 3] += weight * (-1 + 2 * i / (height - 1))
            expected[b, [c, c + 3]] /= total
    found = SpatialSoftmax(height, width, 3, temperature)(features)
    yield "random maps, the double sum", found, expected, 1e-5
    found = SpatialSoftmax(height, width, 3)(100 * torch.randn(64, 3, height, width))
    yield "largest |coordinate|", found.abs().max(), 0, 1 + 1e-6


def check_temperature() -> Claims:
    """Temperature: learned, and positive however hard the loss pushes it down."""
    softmax = SpatialSoftmax(5, 9, 3, temperature=2.0)
    yield "at the start", softmax.temperature, 2.0, 1e-6
    optimizer = torch.optim.Adam(softmax.parameters(), 0.1)
    features = torch.randn(8, 3, 5, 9, requires_grad=True)  # as within an encoder
    for _ in range(100):
        loss = -softmax(features).square().mean()  # the sharper, the further from the middle
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    yield "after 100 steps through the coordinates", softmax.temperature, 0.05, 0.0499
    for _ in range(100):
        optimizer.zero_grad()
        softmax.temperature.backward()
        optimizer.step()
    yield "positive after 100 steps straight down", softmax.temperature > 0, True, 0
    yield "coordinates still finite", softmax(features).isfinite(), True, 0
    cold, columns = SpatialSoftmax(5, 9, 3, temperature=1e-5), features.flatten(2).argmax(-1) % 9
    yield "if low: x of the most active cell", cold(features)[:, :3], columns / 4 - 1, 1e-3


def check_extractor() -> Claims:
    """Extractor: 80 features in their order, bytes divided by 255 exactly once."""
    space = make_space(84, 12, DIMS)
    seen = random_observations(space, 4)
    for keypoints, size in ((True, 64), (False, 50)):
        extractor = ManipulationExtractor(space, spatial_softmax=keypoints)
        features = extractor(seen)
        yield "features", [extractor.features_dim, *features.shape], [size + 16, 4, size + 16], 0
        images = extractor.trunk(extractor.cnn(seen["pixels"] / 255))
        expected = torch.cat([images, *(seen[name] for name in DIMS)], dim=1)
        yield f"{size} of pictures, proprioception, achieved, desired goal", features, expected, 0
        yield "largest |feature of the pictures|", images.abs().max(), 0, 1
        floats = extractor(seen | {"pixels": seen["pixels"] / 255.0})
        yield "the same from floats in [0, 1]", floats, features, 0
        prepared: Any = preprocess_obs(seen, space)  # what SB3's policies call
        yield "the same within an SB3 policy", extractor(prepared), features, 0
        features.square().sum().backward()
        gradients = [part.grad for part in extractor.cnn.parameters() if part.dim() == 4]
        reached = sum(bool(part is not None and part.any()) for part in gradients)
        yield "convolutions that a gradient reaches", reached, 4, 0
    blind = ManipulationExtractor(space, vectors=("proprioception", "desired_goal"))
    other = seen | {"achieved_goal": seen["achieved_goal"] + 1}
    yield "features, achieved goal not listed", blind.features_dim, 77, 0
    yield "what another achieved goal changes then", blind(other) - blind(seen), 0, 0


def random_blocks(n: int, size: int) -> tuple[Observations, Tensor]:
    """Grey pictures (n, 3, size, size) as bytes with a white 3 x 3 block, its place (n, 2)."""
    pixels = torch.full((n, 3, size, size), 128, dtype=torch.uint8)
    corners = torch.randint(size - 2, (n, 2))
    for picture, (x, y) in zip(pixels, corners.tolist(), strict=True):
        picture[:, y : y + 3, x : x + 3] = 255
    return {"pixels": pixels}, 2.0 * corners / (size - 3) - 1.0


def learn_places(extractor: ManipulationExtractor, size: int) -> tuple[float, float, int]:
    """Learn to tell where the block is; returns the loss before and after, and how many steps."""
    head, steps = nn.Linear(extractor.features_dim, 2), []
    optimizer = torch.optim.Adam([*extractor.parameters(), *head.parameters()], LEARNING_RATE)
    optimizer.register_step_post_hook(lambda *_: steps.append(1))
    pictures, places = random_blocks(128, size)  # never learned from
    with torch.no_grad():
        before = mse_loss(head(extractor(pictures)), places)
    for _ in range(STEPS):
        seen, wanted = random_blocks(BATCH_SIZE, size)
        loss = mse_loss(head(extractor(seen)), wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        after = mse_loss(head(extractor(pictures)), places)
    return before.item(), after.item(), len(steps)


def check_learning() -> Claims:
    """Learning: 30 steps move every convolution; keypoints then find a block, flat ones do not."""
    losses = {}
    for keypoints, name in ((True, "spatial softmax"), (False, "flat")):
        extractor = ManipulationExtractor(make_space(42, 3, {}), spatial_softmax=keypoints)
        weights = [part for part in extractor.cnn.parameters() if part.dim() == 4]
        old = [weight.detach().clone() for weight in weights]
        before, losses[name], steps = learn_places(extractor, 42)
        moved = sum(not new.equal(was) for new, was in zip(weights, old, strict=True))
        yield f"{name}: gradient steps, convolutions that moved", [steps, moved], [STEPS, 4], 0
        yield f"{name}: loss before", before, 0.6, 0.4  # 1/3 for an answer of (0, 0)
        yield f"{name}: loss after", losses[name], 0, 0.2 if keypoints else 0.6
    ratio = losses["spatial softmax"] / losses["flat"]
    yield "loss after, spatial softmax to flat", ratio, 0, 0.5


def compare_nature(path: Path) -> Claims:
    """Spatial progression: the cells of the last map are 4 pixels apart, not 8, and see less."""
    import visual_encoder as visual
    from matplotlib.figure import Figure

    path.parent.mkdir(parents=True, exist_ok=True)
    figure, block = Figure(figsize=(13, 6.4), layout="constrained"), visual.BLOCKS[0]
    panels, last = figure.subplots(2, 5), []
    makers: dict[str, Callable[[], nn.Sequential]] = {
        "NatureCNN": lambda: visual.NatureCNN().maps,
        "ManipulationCNN": lambda: ManipulationCNN(in_channels=3).maps,
    }
    print(f"block of {block} px       cells  px apart  px seen  contrast  off by")
    for axes, (name, make) in zip(panels, makers.items(), strict=True):
        maps = make()
        visual.draw_maps(axes, maps, block)
        axes[0].set_ylabel(f"{name}, px")
        with torch.no_grad():
            found = visual.trace(maps, visual.draw_blocks(block, visual.CORNERS[:1]))
        for seen, row in zip(found, visual.measure(make, block), strict=True):
            n = seen.features.shape[-1]
            print(f"{name:16} {n:4} x {n:2} {seen.stride:9} {seen.window:8}", end="")
            print(f" {row['contrast']:9.0%} {row['off by']:4.2f} px")
        last.append((n, seen.stride, seen.window, row["off by"]))
    panels[0, 4].text(0.5, 0.5, "flatten: 3136 numbers\nlinear: 512 features", ha="center")
    panels[0, 4].axis("off")
    panels[1, 4].set_xlabel("spatial softmax: 64 features")
    what = "what part of a cell's activity the block changes, from none (white) to 70 % (black)"
    figure.suptitle(f"Encoders with their first random weights: {what}")
    figure.savefig(path, format="png", dpi=150)
    print(f"wrote {path}")
    (*nature, far), (*ours, near) = last
    yield "NatureCNN, last map: cells, px apart, px seen", nature, [7, 8, 36], 0
    yield "ManipulationCNN, last map: cells, px apart, px seen", ours, [21, 4, 15], 0
    yield f"{block} px: off by in the last maps, ours to NatureCNN's", near / far, 0.4, 0.25


def run(
    heading: str, checks: list[Callable[..., Claims]], seed: int, done: str, *inputs: Any
) -> int:
    """Print what each check measured, the bound it was held to and its verdict; the exit code."""
    print(f"Manipulation Encoder -- {heading}")
    failed = 0
    for check in checks:
        torch.manual_seed(seed)
        passed = True
        for name, measured, expected, bound in check(*inputs):
            found, wanted = (torch.as_tensor(v).detach().double() for v in (measured, expected))
            fits = found.shape == wanted.shape or wanted.numel() == 1  # no broadcasting by mistake
            error = (found - wanted).abs().max().item() if fits else math.inf
            values = " ".join(f"{value:.5g}" for value in found.flatten()[:5].tolist())
            print(f"{name}: {values}, off by {error:.1e} (bound: {bound:g})")
            passed = passed and error <= bound
        print(f"[{'PASS' if passed else 'FAIL'}] {str(check.__doc__).rstrip('.')}")
        failed += not passed
    print(f"[FAILED] {failed} of {len(checks)} checks" if failed else f"[ALL PASS] {done}")
    return min(failed, 1)


def main(argv: list[str] | None = None) -> int:
    """Run the chosen mode and return its exit code; without one, print the help and return 2."""
    parser = argparse.ArgumentParser(usage=argparse.SUPPRESS, description=__doc__)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--verify", action="store_true", help="check the parts one by one")
    mode.add_argument("--compare-nature", action="store_true", help="draw it beside NatureCNN")
    parser.add_argument("--seed", type=int, default=0, help="0 or more (default: 0)")
    parser.add_argument("--out", type=Path, default=Path("figures/encoder_progression.png"))
    args = parser.parse_args(argv)
    if args.seed < 0:
        parser.error("--seed must be 0 or more")
    if args.verify:
        checks = [check_maps, check_softmax, check_temperature, check_extractor, check_learning]
        return run("Verification", checks, args.seed, "Manipulation encoder verified")
    if not args.compare_nature:
        parser.print_help()
        return 2
    try:
        done = "Spatial progression drawn"
        return run("Spatial Progression", [compare_nature], args.seed, done, args.out)
    except OSError as error:
        parser.exit(2, f"error: {error}; choose another file with --out\n")


if __name__ == "__main__":
    sys.exit(main())
