"""Visual encoder (book chapter 9): NatureCNN, and what it makes of a block of three pixels.

It learned to play Atari, whose pictures are large sprites. `--verify` checks the network and
measures what its first layer, with a stride of 4, keeps of a small block; `--demo` draws it.
"""

import argparse
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector as flat

Claims = Iterator[tuple[str, Any, Any, float]]  # name, measured, expected, bound on the difference
Row = dict[str, float]

SIZE = 84  # px, height and width of a picture
BLOCKS = (3, 5)  # px: FetchPush's block as the default camera shows it, and as the book has it
DRAWS = 16  # networks with weights of their own, whose results are averaged
# Upper left corners of the block, x and y: 8 x 8 places one pixel apart.
CORNERS = torch.cartesian_prod(torch.arange(36, 44), torch.arange(36, 44))
FOUND = """filled: part of a cell's window that the block covers
contrast: change of the strongest cell, to its activity without the block
places per cell: of the block; off by: from the middle of the strongest cell to the block's
1 px on: change of all cells when the block moves by a pixel, to what the block changes
- Nothing is erased, though the book says so: at either stride, a step of the block by one pixel
  changes as much as in the picture itself.
- The block gets faint: it fills a small part of an 8 x 8 window, all of a 3 x 3 one.
- Its place gets coarse: 16 places share a cell, and only the mix of filters tells which it is. That
  is 16 mixes to learn, not 4 as at stride 2; and 64 in NatureCNN's last map, a cell every 8 px.
If a block of 50 mm is 3 px wide, a pixel is 17 mm. FetchPush wants the block within 50 mm."""


# --8<-- [start:nature_cnn]
class NatureCNN(nn.Module):
    """Three convolutions and a linear layer, as in Mnih et al. 2015 (Nature 518, DQN)."""

    def __init__(self, in_channels: int = 3, features_dim: int = 512) -> None:
        super().__init__()
        self.maps = nn.Sequential(
            nn.Conv2d(in_channels, 32, kernel_size=8, stride=4),  # 84 -> 20
            nn.ReLU(),
            nn.Conv2d(32, 64, kernel_size=4, stride=2),  # 20 -> 9
            nn.ReLU(),
            nn.Conv2d(64, 64, kernel_size=3, stride=1),  # 9 -> 7
            nn.ReLU(),
        )
        self.linear = nn.Linear(64 * 7 * 7, features_dim)

    def forward(self, pixels: Tensor) -> Tensor:
        """pixels: (B, in_channels, 84, 84), floats in [0, 1] -> features: (B, features_dim)."""
        return torch.relu(self.linear(self.maps(pixels).flatten(1)))


# --8<-- [end:nature_cnn]
class Map(NamedTuple):
    """Features (B, C, H, W) and what part of the picture their cells see, in pixels."""

    features: Tensor
    stride: int  # from one cell to the next
    window: int  # height and width of the square that a cell sees
    first: float  # where the middle of the first cell's window is

    def place(self, cells: Tensor) -> Tensor:
        """Cells, counted along an axis -> the middles of their windows in the picture."""
        return self.first + self.stride * cells


def trace(maps: nn.Sequential, pictures: Tensor) -> list[Map]:
    """What convolutions make of pictures (B, C, 84, 84): one map after each ReLU."""
    found, stride, window, first = [], 1, 1, 0.0
    for layer in maps:
        pictures = layer(pictures)
        if isinstance(layer, nn.Conv2d):
            kernel, padding = layer.kernel_size[0], int(layer.padding[0])
            first += ((kernel - 1) / 2 - padding) * stride
            window += (kernel - 1) * stride
            stride *= layer.stride[0]
        else:
            found.append(Map(pictures, stride, window, first))
    return found


def draw_blocks(size: int, corners: Tensor) -> Tensor:
    """Grey pictures (1 + N, 3, 84, 84): an empty one, then one per corner (N, 2) of the block."""
    pictures = torch.full((1 + len(corners), 3, SIZE, SIZE), 0.5)
    for picture, (x, y) in zip(pictures[1:], corners.tolist(), strict=True):
        picture[:, y : y + size, x : x + size] = 1.0
    return pictures


def describe(seen: Map, size: int) -> Row:
    """How a map shows a block of size x size pixels that was drawn at CORNERS."""
    change = seen.features[1:] - seen.features[0]  # (64, C, H, W), what the block does
    strongest, cell = change.norm(dim=1).flatten(1).max(dim=1)  # (64,), (64,)
    width = change.shape[-1]
    found = seen.place(torch.stack([cell % width, cell // width], dim=1))  # (64, 2), x and y
    path = change.flatten(1).unflatten(0, (8, 8))  # (8, 8, C * H * W), along x and along y
    step = (path[1:] - path[:-1]).norm(dim=-1).mean()
    return {
        "filled": min(size / seen.window, 1.0) ** 2,  # of the window, by the block
        "contrast": (strongest / seen.features[0].norm(dim=0).flatten()[cell]).mean().item(),
        "places": seen.stride**2,  # of the block, that share a cell
        "off by": (found - CORNERS - (size - 1) / 2).abs().mean().item(),  # px, the strongest cell
        "1 px on": (step / change.flatten(1).norm(dim=1).mean()).item(),  # change, to the block's
    }


def measure(make: Callable[[], nn.Sequential], size: int) -> list[Row]:
    """One row per map of such a network, averaged over DRAWS of its weights."""
    pictures = draw_blocks(size, CORNERS)
    with torch.no_grad():
        draws = [[describe(m, size) for m in trace(make(), pictures)] for _ in range(DRAWS)]
    return [
        {name: fmean(row[name] for row in rows) for name in rows[0]}
        for rows in zip(*draws, strict=True)
    ]


def stride_4() -> nn.Sequential:
    """NatureCNN's first layer."""
    return nn.Sequential(*list(NatureCNN().maps)[:2])


def stride_2() -> nn.Sequential:
    """A first layer made for small things, as ManipulationCNN has it."""
    return nn.Sequential(nn.Conv2d(3, 32, kernel_size=3, stride=2, padding=1), nn.ReLU())


def check_maps() -> Claims:
    """Maps: 84 -> 20 -> 9 -> 7, cells computed by hand."""
    maps, before = NatureCNN().maps, torch.rand(2, 3, SIZE, SIZE)
    found, parts = trace(maps, before), list(maps.parameters())
    shapes = [[*seen.features.shape] for seen in found]
    yield "channels, height, width", shapes, [[2, 32, 20, 20], [2, 64, 9, 9], [2, 64, 7, 7]], 0
    by_hand = ((8, 4), (4, 2), (3, 1))
    pieces = zip(found, parts[::2], parts[1::2], by_hand, strict=True)
    for seen, weight, bias, (kernel, stride) in pieces:
        # f[c, i, j] = max(0, bias[c] + sum of weight[c] * window, from stride * (i, j) on)
        for i, j in ((0, 0), (2, 5), (6, 1)):
            rows, columns = (slice(stride * k, stride * k + kernel) for k in (i, j))
            products = weight * before[:, None, :, rows, columns]  # (2, C, c, kernel, kernel)
            expected = (products.sum((2, 3, 4)) + bias).clamp(min=0)
            yield f"cell {i}, {j} at stride {stride}", seen.features[:, :, i, j], expected, 1e-5
        before = seen.features


def check_features() -> Claims:
    """Features: 512 of them, none negative, 1 682 080 parameters as counted by hand."""
    network, pictures = NatureCNN(), torch.rand(4, 3, SIZE, SIZE)
    features = network(pictures)
    yield "shape", features.shape, [4, 512], 0
    expected = network.maps(pictures).reshape(4, 3136) @ network.linear.weight.T
    expected = (expected + network.linear.bias).clamp(min=0)
    yield "features", features, expected, 1e-5
    by_hand = 32 * (3 * 8 * 8 + 1) + 64 * (32 * 4 * 4 + 1) + 64 * (64 * 3 * 3 + 1) + 512 * 3137
    yield "parameters", flat(network.parameters()).numel(), by_hand, 0
    stacked = NatureCNN(in_channels=12, features_dim=50)
    yield "shape, 4 frames and 50 features", stacked(pictures.repeat(1, 4, 1, 1)).shape, [4, 50], 0
    more = flat(stacked.parameters()).numel() - by_hand
    yield "parameters more", more, 32 * 9 * 8 * 8 - 462 * 3137, 0


def check_windows() -> Claims:
    """Windows: what a cell sees and how far the next one is, found by gradients."""
    by_hand = [(8, 4, 11.5), (20, 8, 25.5), (36, 8, 33.5)]
    for maps, expected in ((NatureCNN().maps, by_hand), (stride_2(), [(3, 2, 4)])):
        for weights in maps.parameters():
            weights.data.abs_()  # so that no ReLU is closed and nothing cancels
        pictures = torch.ones(1, 3, SIZE, SIZE, requires_grad=True)
        for seen, wanted in zip(trace(maps, pictures), expected, strict=True):
            spans = []
            for i in (2, 3):
                total = seen.features[0, :, i, 2].sum()
                (gradient,) = torch.autograd.grad(total, pictures, retain_graph=True)
                rows = gradient.sum((0, 1, 3)).nonzero()
                spans.append((rows.min().item(), rows.max().item()))
            (start, end), (following, _) = spans
            found = [end - start + 1, following - start, (start + end) / 2]
            yield "window, px to the next, middle of cell 2", found, wanted, 0
            told = [seen.window, seen.stride, seen.place(torch.tensor(2)).item()]
            yield "the same as trace tells it", told, wanted, 0


def check_blocks() -> Claims:
    """Blocks of 3 and 5 pixels: not erased at stride 4, but fainter and placed less exactly."""
    print("block  first layer      filled  contrast  places per cell  off by  1 px on")
    for size in BLOCKS:
        (at_4,), (at_2,) = measure(stride_4, size), measure(stride_2, size)
        for name, row in (("8 x 8, stride 4", at_4), ("3 x 3, stride 2", at_2)):
            print(f"{size} px   {name} {row['filled']:7.0%} {row['contrast']:9.0%}", end="")
            print(f"{row['places']:17.0f} {row['off by']:4.2f} px {row['1 px on']:8.2f}")
        # In the picture itself a step changes 2 * size pixels, and the block size ** 2.
        step = math.sqrt(2 / size)
        for stride, row in ((4, at_4), (2, at_2)):
            yield f"{size} px: 1 px on at stride {stride}", row["1 px on"], step, 0.12
        yield f"{size} px: contrast, stride 4 to 2", at_4["contrast"] / at_2["contrast"], 0.5, 0.4
        yield f"{size} px: off by at stride 2", at_2["off by"], 0.5, 0.4
        yield f"{size} px: off by, stride 2 to 4", at_2["off by"] / at_4["off by"], 0.5, 0.25
    print(FOUND)


def compare_sb3() -> Claims:
    """Our NatureCNN matches SB3's: features and gradients, from the same weights."""
    import numpy as np
    from gymnasium import spaces
    from stable_baselines3.common import preprocessing, torch_layers

    for channels in (3, 12):
        space = spaces.Box(0, 255, (channels, SIZE, SIZE), np.uint8)
        ours, theirs = NatureCNN(channels), torch_layers.NatureCNN(space)
        for our, their in zip(ours.parameters(), theirs.parameters(), strict=True):
            our.data.copy_(their)
        pixels = torch.randint(256, (8, *space.shape), dtype=torch.uint8)
        prepared: Any = preprocessing.preprocess_obs(pixels, space)  # what SB3's policies call
        features, expected = ours(pixels / 255.0), theirs(prepared)
        yield f"features, {channels} channels", features, expected, 1e-6
        gradients = [
            torch.autograd.grad(output.square().mean(), list(network.parameters()))
            for network, output in ((ours, features), (theirs, expected))
        ]
        ours_flat, theirs_flat = (torch.cat([g.flatten() for g in part]) for part in gradients)
        yield f"gradients, {channels} channels", ours_flat, theirs_flat, 1e-6


def run(
    heading: str, checks: list[Callable[..., Claims]], seed: int, done: str, *inputs: Any
) -> int:
    """Print what each check measured, the bound it was held to and its verdict; the exit code."""
    print(f"Visual Encoder -- {heading}")
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


def draw_maps(panels: Any, maps: nn.Sequential, size: int) -> None:
    """A picture with a block, and what part of each cell's activity the block changes."""
    pictures = draw_blocks(size, torch.tensor([[40, 40]]))
    with torch.no_grad():
        found = trace(maps, pictures)
    panels[0].imshow(pictures[1].movedim(0, -1).numpy())
    panels[0].set_title(f"picture, block of {size} x {size} px", fontsize=9)
    low, high = 39.5, 39.5 + size
    outline = (low, high, high, low, low), (low, low, high, high, low)
    for panel, seen in zip(panels[1:], found, strict=False):
        empty, full = seen.features
        contrast, n = (full - empty).norm(dim=0) / empty.norm(dim=0), full.shape[-1]
        ends = seen.place(torch.tensor([-0.5, n - 0.5])).tolist()
        panel.imshow(contrast.numpy(), cmap="Greys", vmin=0, vmax=0.7, extent=(*ends, *ends[::-1]))
        panel.plot(*outline, color="0", lw=0.8)
        told = f"{n} x {n} cells, {seen.stride} px apart\nsee {seen.window} px, change"
        panel.set_title(f"{told} by {contrast.max():.0%}", fontsize=9)
    for panel in panels[: len(found) + 1]:
        panel.set(xlim=(-0.5, SIZE - 0.5), ylim=(SIZE - 0.5, -0.5))


def draw_places(panel: Any, size: int) -> None:
    """Where the cell is that a block changes most, for a block that moves pixel by pixel."""
    corners = torch.tensor([[x, 40] for x in range(24, 56)])
    pictures, true = draw_blocks(size, corners), corners[:, 0] + (size - 1) / 2
    with torch.no_grad():
        first, _, last = trace(NatureCNN().maps, pictures)
        (fine,) = trace(stride_2(), pictures)
    lines = (("3 x 3, stride 2", fine, "-"), ("NatureCNN, first map", first, "--"))
    for name, seen, style in (*lines, ("NatureCNN, last map", last, ":")):
        strength = (seen.features[1:] - seen.features[0]).norm(dim=1)  # (N, H, W)
        places = seen.place(strength.amax(1).argmax(1))
        panel.plot(
            true.numpy(), places.numpy(), style, color="0", drawstyle="steps-mid", label=name
        )
    panel.set(xlabel="middle of the block, px", ylabel="middle of the cell, px")
    panel.set_title(f"where the cell is that a block of {size} x {size} px changes most")
    panel.legend()


def demo(path: Path) -> Claims:
    """What is left of a block: less of each cell's activity from map to map."""
    from matplotlib.figure import Figure

    path.parent.mkdir(parents=True, exist_ok=True)
    network, figure = NatureCNN(), Figure(figsize=(10, 9), layout="constrained")
    grid = figure.add_gridspec(len(BLOCKS) + 1, 4)
    for row, size in enumerate(BLOCKS):
        draw_maps([figure.add_subplot(grid[row, i]) for i in range(4)], network.maps, size)
    draw_places(figure.add_subplot(grid[-1, :]), BLOCKS[0])
    figure.suptitle(
        "NatureCNN with untrained weights: what part of a cell's activity the block changes"
    )
    figure.savefig(path, format="png", dpi=150)
    print(f"wrote {path}")
    for size in BLOCKS:
        contrasts = [row["contrast"] for row in measure(lambda: NatureCNN().maps, size)]
        yield f"{size} px: change of the strongest cell, by map", contrasts, 0, 0.7
        yield f"{size} px: last map to first", contrasts[-1] / contrasts[0], 0, 0.5


def main(argv: list[str] | None = None) -> int:
    """Run the chosen mode and return its exit code; without one, print the help and return 2."""
    parser = argparse.ArgumentParser(usage=argparse.SUPPRESS, description=__doc__)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument(
        "--verify", action="store_true", help="check the network, measure small blocks"
    )
    mode.add_argument("--compare-sb3", action="store_true", help="compare with Stable-Baselines3")
    mode.add_argument("--demo", action="store_true", help="draw what is left of a block")
    parser.add_argument("--seed", type=int, default=0, help="0 or more (default: 0)")
    parser.add_argument(
        "--out", type=Path, default=Path("figures/visual_encoder_demo.png"), help="PNG"
    )
    args = parser.parse_args(argv)
    if args.seed < 0:
        parser.error("--seed must be 0 or more")
    if args.verify:
        checks = [check_maps, check_features, check_windows, check_blocks]
        return run("Verification", checks, args.seed, "Visual encoder verified")
    if args.compare_sb3:
        return run("SB3 Comparison", [compare_sb3], args.seed, "Visual encoder matches SB3")
    if not args.demo:
        parser.print_help()
        return 2
    try:
        return run("Demo", [demo], args.seed, "Visual encoder drawn", args.out)
    except OSError as error:
        parser.exit(2, f"error: {error}; choose another file with --out\n")


if __name__ == "__main__":
    sys.exit(main())
