"""Image augmentation (book chapter 9): shift pictures a little, so that none is learnt by heart.

DrQ (Kostrikov et al. 2020) and DrQ-v2 (Yarats et al. 2021) as replay buffers for SB3. `--verify`
checks them; `--demo` draws shifts and measures what they cost an encoder that reads positions.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.buffers import DictReplayBuffer
from stable_baselines3.common.type_aliases import DictReplayBufferSamples as Samples
from torch import Tensor, nn

Augmentation = Callable[[Tensor], Tensor]  # (B, C, H, W) -> (B, C, H, W)
Claim = tuple[str, float, tuple[float, float]]  # what was measured, the value, its least and most
Claims = Iterator[Claim]

SHIFTS = [(down, right) for down in range(9) for right in range(9)]  # of --verify, where pad is 4
UNMOVED = SHIFTS.index((4, 4))
EPISODE, EPISODES, BATCH = 5, 12, 64  # steps, of them in the buffers of --verify, drawn from those

PIXELS_PER_METRE = 60  # Fetch's default camera at 84x84: 3 pixels for a block of 5 cm
REACH, NEAR = 0.15, 0.05  # metres: the block starts this far off the centre, this near is success


# --8<-- [start:random_shift_aug]
class RandomShiftAug(nn.Module):
    """Move each picture by up to `pad` pixels, down or up, right or left."""

    def __init__(self, pad: int = 4) -> None:
        super().__init__()
        self.pad = pad

    def forward(self, images: Tensor) -> Tensor:
        """images: (B, C, H, W) of any dtype -> the same shape and dtype, a copy."""
        height, width = images.shape[2:]
        for dim in (2, 3):  # repeat the border; torch's own padding knows no uint8 on a GPU
            first, last = images.narrow(dim, 0, 1), images.narrow(dim, -1, 1)
            images = torch.cat([first] * self.pad + [images] + [last] * self.pad, dim)
        # All crops at once, (B, C, 2 pad + 1, 2 pad + 1, H, W): a view, so that it costs no memory.
        crops = images.unfold(2, height, 1).unfold(3, width, 1)
        batch, device = len(images), images.device
        down, right = torch.randint(2 * self.pad + 1, (2, batch), device=device)
        # One crop for an image with all its channels: stacked frames must stay aligned, or still
        # things would seem to move.
        return crops[torch.arange(batch, device=device), :, down, right]


# --8<-- [end:random_shift_aug]
# --8<-- [start:drq_replay_buffer]
def augment(samples: Samples, aug_fn: Augmentation, key: str) -> Samples:
    """Samples with new pictures at `key`; goals, proprioception, actions, rewards as they were."""
    obs, next_obs = samples.observations, samples.next_observations
    return samples._replace(  # two calls, so obs and next_obs are shifted independently, as in DrQ
        observations={**obs, key: aug_fn(obs[key])},
        next_observations={**next_obs, key: aug_fn(next_obs[key])},
    )


class DrQDictReplayBuffer(DictReplayBuffer):
    """SB3's buffer for dict observations; a picture looks a little different at each replay."""

    def __init__(
        self,
        *args: Any,
        aug_fn: Augmentation | None = None,
        image_key: str = "pixels",
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.aug_fn, self.image_key = aug_fn or RandomShiftAug(), image_key

    def sample(self, batch_size: int, env: Any = None) -> Samples:  # type: ignore[override]
        """As SB3's, then augmented; what is stored stays as it was."""
        return augment(super().sample(batch_size, env), self.aug_fn, self.image_key)


# --8<-- [end:drq_replay_buffer]
# --8<-- [start:her_drq_replay_buffer]
class HerDrQDictReplayBuffer(DrQDictReplayBuffer, HerReplayBuffer):
    """SB3's hindsight buffer; once goals are relabelled and rewarded, pictures are shifted.

    By the order of the two bases, the `super().sample` of the first one is that of the second: real
    and relabelled transitions are drawn, then all of their pictures augmented.
    """


# --8<-- [end:her_drq_replay_buffer]
def random_images(*shape: int) -> Tensor:
    """Noise as uint8: no two of its crops are alike."""
    return torch.randint(256, shape, dtype=torch.uint8)


def matches(images: Tensor, shifted: Tensor) -> Tensor:
    """Which of the 81 crops each shifted image (B, C, H, W) is, in all its channels: (81, B)."""
    height, width = images.shape[2:]
    padded = np.pad(images.numpy(), ((0, 0), (0, 0), (4, 4), (4, 4)), mode="edge")
    crops = (padded[..., y : y + height, x : x + width] for y, x in SHIFTS)
    return torch.as_tensor(np.array([(c == shifted.numpy()).all((1, 2, 3)) for c in crops]))


def check_kept() -> Claims:
    """Kept: shape, dtype, the original, a picture of one colour, and with pad 0 everything."""
    shift, changed = RandomShiftAug(), 0
    for shape in ((8, 12, 84, 84), (1, 3, 20, 31)):
        for dtype in (torch.uint8, torch.float32):
            images = random_images(*shape).to(dtype)
            before, shifted = images.clone(), shift(images)
            changed += (shifted.shape, shifted.dtype) != (images.shape, dtype)
            changed += not torch.equal(images, before) or shifted.data_ptr() == images.data_ptr()
    yield "shapes, dtypes or originals changed", changed, (0, 0)
    grey = torch.full((8, 12, 84, 84), 128, dtype=torch.uint8)
    yield "pixels changed in a constant image", (shift(grey) != grey).sum().item(), (0, 0)
    noise = random_images(8, 12, 84, 84)
    yield "pixels changed with pad 0", (RandomShiftAug(0)(noise) != noise).sum().item(), (0, 0)


def check_crops() -> Claims:
    """Crops: each image, with all its channels, is one of the 81 of its padded original."""
    images, shift = random_images(8, 12, 84, 84), RandomShiftAug()
    first, second = shift(images), shift(images)
    found = matches(images, first)
    just_one = (found.sum(0) == 1).sum().item()
    yield "of 8 images, those that are just one of 81 crops", just_one, (8, 8)
    yield "different shifts among them", found.any(1).sum().item(), (4, 8)
    differ = (first != second).any(3).any(2).any(1).sum().item()
    yield "that differ in a second augmentation", differ, (5, 8)


def check_uniform() -> Claims:
    """Uniform: 81 shifts, from 4 up and left to 4 down and right, each as likely as the others."""
    where = torch.cartesian_prod(torch.arange(9), torch.arange(9)).T.view(2, 9, 9)
    centres = RandomShiftAug()(where.expand(8100, 2, 9, 9))[:, :, 4, 4]  # a pixel says its place
    counts = torch.bincount(centres[:, 0] * 9 + centres[:, 1], minlength=81)
    yield "shifts seen in 8100 images", (counts > 0).sum().item(), (81, 81)
    sigma = (8100 / 81 * 80 / 81) ** 0.5
    yield "worst count, in standard deviations", ((counts - 100).abs().max() / sigma).item(), (0, 5)


class GoalEnvStub:
    """What a HerReplayBuffer asks of its environment, and a diary for rewards and shifts."""

    def __init__(self) -> None:
        self.diary: list[str] = []
        self.shift = RandomShiftAug()

    def env_method(self, name: str, achieved: Any, desired: Any, *_: Any, **__: Any) -> list[Any]:
        """Rewards (B,) for goals (B, 3): 0 where they are within 0.5, -1 elsewhere."""
        self.diary.append(name)
        return [np.where(np.linalg.norm(achieved - desired, axis=-1) <= 0.5, 0.0, -1.0)]

    def aug_fn(self, images: Tensor) -> Tensor:
        """Shift and note how many pictures there were."""
        self.diary.append(f"shift of {len(images)}")
        shifted: Tensor = self.shift(images)
        return shifted


def filled(kind: type[DictReplayBuffer], rng: np.random.Generator, **kwargs: Any) -> Any:
    """A buffer of this kind with twelve episodes of noise; the same rng gives the same ones."""
    sizes = {"proprioception": 2, "achieved_goal": 3, "desired_goal": 3}
    box: dict[str, Any] = {key: spaces.Box(-9.0, 9.0, (n,)) for key, n in sizes.items()}
    box["pixels"] = spaces.Box(0, 255, (2, 12, 12), np.uint8)
    actions = spaces.Box(-1.0, 1.0, (4,), np.float32)
    buffer = kind(EPISODES * EPISODE, spaces.Dict(box), actions, device="cpu", **kwargs)
    for step in range(EPISODES * EPISODE):
        pair: list[dict[str, Any]] = []
        for _ in range(2):
            pair.append({key: rng.normal(size=(1, n)) for key, n in sizes.items()})
            pair[-1]["pixels"] = rng.integers(256, size=(1, 2, 12, 12), dtype=np.uint8)
        done = np.array([step % EPISODE == EPISODE - 1])
        obs, next_obs = pair
        buffer.add(obs, next_obs, rng.normal(size=(1, 4)), rng.normal(size=1), done, [{}])
    return buffer


def columns(batch: Samples) -> dict[str, Tensor]:
    """All tensors of a batch by name, those of next observations with `next ` in front."""
    named = {"actions": batch.actions, "rewards": batch.rewards, "dones": batch.dones}
    after = {f"next {key}": value for key, value in batch.next_observations.items()}
    return named | batch.observations | after


def compare(ours: Any, sb3: Any) -> tuple[dict[str, Tensor], list[Claim]]:
    """A batch of ours, and claims about it beside what SB3's buffer draws with the same seed."""
    seed, stored = int(torch.randint(2**31, ())), ours.observations["pixels"].copy()
    batches = []
    for buffer in (ours, sb3):
        np.random.seed(seed)  # SB3's buffers draw from numpy's global stream, shifts from torch's
        batches.append(columns(buffer.sample(BATCH)))
    mine, theirs = batches
    unlike = sum((mine[k] != theirs[k]).sum().item() for k in mine if "pixels" not in k)
    now, then = (matches(theirs[key], mine[key]) for key in ("pixels", "next pixels"))
    return mine, [
        ("values unlike SB3's, pixels left aside", unlike, (0, 0)),
        ("pictures of 64 that are a shift of SB3's", now.any(0).sum().item(), (64, 64)),
        ("next pictures that are one", then.any(0).sum().item(), (64, 64)),
        ("of both, unmoved", (now[UNMOVED].sum() + then[UNMOVED].sum()).item(), (0, 10)),
        ("pairs with one shift in common", (now & then).any(0).sum().item(), (0, 6)),
        ("stored pixels changed", (ours.observations["pixels"] != stored).sum().item(), (0, 0)),
    ]


def check_drq_buffer() -> Claims:
    """DrQDictReplayBuffer: SB3's samples with shifted pictures, all else untouched."""
    seed = int(torch.randint(2**31, ()))
    kinds = (DrQDictReplayBuffer, DictReplayBuffer)
    ours, sb3 = (filled(kind, np.random.default_rng(seed)) for kind in kinds)
    yield from compare(ours, sb3)[1]


def check_her_buffer() -> Claims:
    """HerDrQDictReplayBuffer: first relabelled, goals and rewards as one, then shifted."""
    seed, env = int(torch.randint(2**31, ())), GoalEnvStub()
    ours = filled(HerDrQDictReplayBuffer, np.random.default_rng(seed), env=env, aug_fn=env.aug_fn)
    sb3 = filled(HerReplayBuffer, np.random.default_rng(seed), env=GoalEnvStub())
    batch, claims = compare(ours, sb3)
    yield from claims
    diary = ["compute_reward", *["shift of 64"] * 2]
    yield "events in their order: relabelled, shifts of 64 and 64", env.diary == diary, (1, 1)
    achieved, desired = batch["next achieved_goal"], batch["desired_goal"]
    outcomes = torch.as_tensor(ours.next_observations["achieved_goal"][:, 0])
    relabelled = (desired[:, None] == outcomes).all(2).any(1)  # (B,)
    yield "goals that are an outcome, of 64 with 4 in 5", relabelled.sum().item(), (51, 51)
    rewards = -((achieved - desired).norm(dim=1) > 0.5).float()
    wrong = (rewards != batch["rewards"][:, 0])[relabelled].sum().item()
    yield "rewards of these that disagree with their goals", wrong, (0, 0)
    yield "of these, rewards of 0", (rewards == 0)[relabelled].sum().item(), (1, 50)


def run(heading: str, checks: list[Callable[..., Claims]], seed: int, *inputs: Any) -> int:
    """Print what each check measured, the bound it was held to and its verdict; the exit code."""
    print(f"Image Augmentation -- {heading}")
    failed = 0
    for check in checks:
        torch.manual_seed(seed)
        passed = True
        for name, value, (least, most) in check(*inputs):
            bound = f"{least:g}" if least == most else f"{least:g} to {most:g}"
            print(f"{name}: {value:.4g} (bound: {bound})")
            passed = passed and least <= value <= most
        print(f"[{'PASS' if passed else 'FAIL'}] {str(check.__doc__).rstrip('.')}")
        failed += not passed
    good = "[ALL PASS] Image augmentation verified"
    print(f"[FAILED] {failed} of {len(checks)} checks" if failed else good)
    return min(failed, 1)


def scene(metres: float) -> Tensor:
    """A picture (1, 84, 84) in [0, 1]: table, arm, and a block so far right of the centre."""
    picture = torch.full((1, 84, 84), 0.15)
    picture[:, 38:76, 14:70] = 0.45  # table
    picture[:, 8:44, 40:46] = 0.3  # arm
    left = 41 + round(PIXELS_PER_METRE * metres)
    picture[:, 54:57, left : left + 3] = 1.0
    return picture


def softmax_x(pictures: Tensor) -> Tensor:
    """Where the block is by SpatialSoftmax: (B, 1, 84, 84) -> x (B,), in [-1, 1] left to right."""
    weights = (100.0 * pictures.flatten(1)).softmax(1).view(-1, 84, 84)  # all on what is brightest
    return weights.sum(1) @ torch.linspace(-1.0, 1.0, 84)


def draw(path: Path, obs: Tensor, next_obs: Tensor, bars: dict[str, tuple[float, float]]) -> None:
    """Two shifts of one scene, and below, from where to where each thing takes x; as PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 6.5), layout="constrained")
    halves: Any = figure.subfigures(2, height_ratios=(1.3, 1))
    panels = halves[0].subplots(1, 3)
    titles = ("a made-up scene", "obs: shifted", "next_obs: shifted anew")
    for panel, title, picture in zip(panels, titles, (scene(0.0), obs, next_obs), strict=True):
        panel.imshow(picture[0].numpy(), cmap="gray", vmin=0, vmax=1)
        panel.axvline(42, color="white", ls=":", lw=1)
        panel.axhline(55, color="white", ls=":", lw=1)
        panel.set(title=title, xlabel="pixels", ylabel="pixels")
    panel = halves[1].subplots()
    colours = ["0.75" if "shift" not in name else "0.25" for name in bars]
    left, right = zip(*bars.values(), strict=True)
    widths = [b - a for a, b in zip(left, right, strict=True)]
    panel.barh(list(bars), widths, left=left, color=colours)
    panel.axvline(0, color="0.5", lw=1)
    panel.invert_yaxis()
    panel.set(title="What moves the block: signal (grey) and shifts (black)")
    panel.set(xlabel="change of x by SpatialSoftmax, of a picture from -1 to 1", xlim=(-0.25, 0.25))
    figure.savefig(path, format="png", dpi=150)


def demo(path: Path) -> Claims:
    """Cost: a shift of 4 pixels moves x further than the 5 cm that decide over success."""
    path.parent.mkdir(parents=True, exist_ok=True)
    still, shift = scene(0.0).expand(1024, 1, 84, 84), RandomShiftAug()
    obs, next_obs = shift(still), shift(still)
    here = softmax_x(still[:1]).item()
    once, twice = softmax_x(obs) - here, softmax_x(next_obs) - softmax_x(obs)
    ends = softmax_x(torch.stack([scene(m) for m in (-REACH, REACH, 0.0, NEAR)])) - here
    far, near = (ends[1] - ends[0]).item(), (ends[3] - ends[2]).item()
    bars = {"block, its whole range of 30 cm": (ends[0].item(), ends[1].item())}
    bars["block, 5 cm off its goal: success"] = (-near, near)
    bars["a shift of obs"] = (once.min().item(), once.max().item())
    bars["shifts of obs and next_obs, block at rest"] = (twice.min().item(), twice.max().item())
    draw(path, obs[0], next_obs[0], bars)
    print(f"wrote {path}")
    yield "signal: x over the block's range of 30 cm", far, (0.25, 0.5)
    yield "signal: x over the 5 cm of success", near, (0.05, 0.09)
    most = [x.abs().max().item() for x in (once, twice)]
    yield "cost: largest change of x by a shift, 4 of 84 pixels", most[0], (near, 0.1)
    yield "cost: largest from obs to next_obs, block at rest", most[1], (0.18, 0.2)
    yield "cost: standard deviation of it", twice.std().item(), (0.08, 0.095)
    beyond = (twice.abs() > near + 1e-3).float().mean().item()
    yield "share of pairs in which it exceeds 5 cm, expected 30/81", beyond, (0.31, 0.43)


def main(argv: list[str] | None = None) -> int:
    """Run the chosen mode and return its exit code; without one, print the help and return 2."""
    parser = argparse.ArgumentParser(usage=argparse.SUPPRESS, description=__doc__)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--verify", action="store_true", help="check shifts and replay buffers")
    mode.add_argument("--demo", action="store_true", help="draw shifts and measure what they cost")
    parser.add_argument("--seed", type=int, default=0, help="0 or more (default: 0)")
    parser.add_argument("--out", type=Path, default=Path("figures/image_augmentation_demo.png"))
    args = parser.parse_args(argv)
    if args.seed < 0:
        parser.error(f"--seed {args.seed} is negative; give 0 or more")
    if args.verify:
        checks = [check_kept, check_crops, check_uniform, check_drq_buffer, check_her_buffer]
        return run("Verification", checks, args.seed)
    if not args.demo:
        parser.print_help()
        return 2
    try:
        return run("Demo", [demo], args.seed, args.out)
    except OSError as error:
        parser.exit(2, f"error: {error}; choose another file with --out\n")


if __name__ == "__main__":
    sys.exit(main())
