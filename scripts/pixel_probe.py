"""Can an encoder tell where the block is? Chapter 9's claim about stride 4, measured directly.

Encoders learn to tell the places of block and gripper from single pictures, by regression and end
to end; what counts is how far off they are on pictures that they never saw, in millimetres. No
reinforcement learning is in the way: what is not found here will not be found there.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pixel_policies import NATURE_SIZE as SIZE

from robotics_rl import artifacts, cli, options, plotting, rendering, reporting
from robotics_rl.config import EvalSettings, Run
from robotics_rl.errors import UsageError
from robotics_rl.options import one_of, option, positive
from robotics_rl.pixel_schemas import Probe, ProbeRow
from robotics_rl.progress import Progress
from robotics_rl.provenance import command_line, git_state, machine, usable_cores, utc_now
from robotics_rl.statistics import student_t_half_width
from robotics_rl.versions import gather_versions

if TYPE_CHECKING:
    from torch import Tensor, nn

NAME, ENV_ID = "ch09_probe", "FetchPush-v4"
ENCODERS = {
    "nature": "NatureCNN",
    "manipulation": "ManipulationCNN, spatial softmax",
    "flat": "ManipulationCNN, flattened",
}
PLACES = ("block", "gripper")  # three coordinates of each
TRAINING, HELD_OUT = 2_000_000, 3_000_000  # first reset seeds; evaluations of policies use others
WANDERING = 6  # steps of the arm before a picture is taken
AT_ONCE = 50  # simulations
HIDDEN = 256  # units
UNIT = 0.1  # metres, in which networks tell places: about as much as these vary
Errors = dict[tuple[str, str, int], NDArray[np.float64]]  # camera, encoder, seed → (2,), metres


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is learned from what."""

    cameras: tuple[str, ...] = option(("default", "close"), "where from: default, close")
    encoders: tuple[str, ...] = option(tuple(ENCODERS), f"some of {', '.join(ENCODERS)}")
    seeds: str = option("0,1,2", "of weights and batches, such as 0,1,2")
    n_frames: int = option(3_000, "pictures to learn from", positive)
    n_held_out: int = option(500, "pictures to be judged by", positive)
    n_updates: int = option(1_800, "gradient steps", positive)
    batch_size: int = option(32, "pictures per gradient step", positive)
    # At twice as much NatureCNN's units die on the default camera's pictures.
    learning_rate: float = option(1e-3, "step size of Adam, which falls to 0", positive)
    num_filters: int = option(16, "channels of the manipulation encoder's maps", positive)
    msaa: int = option(0, "samples per pixel against jagged edges: 0 or 4", one_of(0, 4))


@dataclass(frozen=True)
class Pictures:
    """Pictures of the table, and where things are in them."""

    frames: NDArray[np.uint8]  # (n, 3, SIZE, SIZE)
    places: NDArray[np.float64]  # (n, 2, 3): of block and gripper, metres


def add_flags(parser: cli.Parser) -> None:
    """The flags of `probe`."""
    cli.add_options(parser, Plan)
    cli.add_options(parser, Run, only=("progress",))
    cli.add_options(parser, EvalSettings, only=("results_dir",))


def probe(given: Mapping[str, Any]) -> int:
    """Learn with every camera, encoder and seed; tell, write and draw how far off they are."""
    plan: Plan = options.fill(Plan, given)
    seeds = options.parse_seeds(plan.seeds)
    path = Path(given.get("results_dir", EvalSettings.results_dir), f"{NAME}.json")
    artifacts.require_file(path)
    rendering.choose_backend()
    from robotics_rl.envs.renderer import CAMERAS

    _require_known("cameras", plan.cameras, CAMERAS)
    _require_known("encoders", plan.encoders, ENCODERS)
    errors: Errors = {}
    total = len(plan.cameras) * len(plan.encoders) * len(seeds)
    with Progress(total, "encoders", enabled=given.get("progress", True)) as progress:
        for camera in plan.cameras:
            seen = take(camera, TRAINING, plan.n_frames, plan.msaa)
            unseen = take(camera, HELD_OUT, plan.n_held_out, plan.msaa)
            for encoder, seed, error in learn_all(plan, seeds, seen, unseen):
                errors[camera, encoder, seed] = error
                progress.update(len(errors))
    found = [_row(*key, errors) for key in product(plan.cameras, plan.encoders, PLACES)]
    document = _document(plan, found, unguided_error(seen, unseen))
    figure = artifacts.figure_path(path)
    artifacts.keep_other(path, "probe", artifacts.has_same(document, "settings"), figure)
    artifacts.write_json(path, document)
    print(reporting.aligned(rows(dataclasses.asdict(document))))
    print(f"OK: wrote {path}")
    draw(document, path, figure)
    return 0


def _require_known(name: str, asked: Sequence[str], known: Mapping[str, Any]) -> None:
    if unknown := [one for one in asked if one not in known]:
        flag = options.flag_of(name)
        raise UsageError(f"{flag} {unknown[0]} is none; choose among {', '.join(known)}")


def take(camera: str, first_seed: int, n: int, msaa: int) -> Pictures:
    """Pictures of tables that differ: block and arm are somewhere else in each.

    An episode begins with the block anywhere around the gripper; then the arm moves in one
    direction for some steps, and may push the block.
    """
    from robotics_rl.envs.fetch import FetchBatch
    from robotics_rl.envs.renderer import CAMERAS, FrameRenderer

    batch = FetchBatch(ENV_ID, min(n, AT_ONCE), usable_cores())
    renderer = FrameRenderer(batch.task.model, SIZE, CAMERAS[camera], msaa=msaa)
    rng = np.random.default_rng(first_seed)
    frames, places = [], []
    for first in range(first_seed, first_seed + n, batch.n_envs):
        observation = batch.reset_all(range(first, first + batch.n_envs))
        actions = rng.uniform(-1, 1, (batch.n_envs, 4))
        for _ in range(WANDERING):
            batch.start(actions)
            observation = batch.finish().observation
        goals = observation["desired_goal"]
        frames += [renderer.draw(data, goal) for data, goal in zip(batch.data, goals, strict=True)]
        grippers = observation["observation"][:, :3]
        places.append(np.stack([observation["achieved_goal"], grippers], axis=1))
    renderer.close()
    batch.close()
    return Pictures(np.stack(frames[:n]), np.concatenate(places)[:n])


def learn_all(
    plan: Plan, seeds: Sequence[int], seen: Pictures, unseen: Pictures
) -> Iterator[tuple[str, int, NDArray[np.float64]]]:
    """Learn with every encoder and seed, one on each core.

    Yields:
        Encoder, seed, and how far off block and gripper are: (2,), metres.
    """
    import torch

    torch.set_num_threads(1)
    # Weights are drawn here, from the one random stream that there is, and not side by side.
    networks = {key: build(*key, plan) for key in product(plan.encoders, seeds)}
    stopped = Event()
    with ThreadPoolExecutor(usable_cores()) as pool:
        learning = {
            pool.submit(learn, network, key[1], plan, seen, unseen, stopped): key
            for key, network in networks.items()
        }
        try:
            for future in as_completed(learning):
                yield *learning[future], future.result()
        finally:  # by Ctrl-C, too, which the pool would answer when everything is learned
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)


def build(encoder: str, seed: int, plan: Plan) -> "nn.Module":
    """The chapter's encoder, and a small network that reads six coordinates from its features.

    The networks that act and judge have a hidden layer, too. Without one a spatial softmax, whose
    coordinates hardly differ at first, is read by weights that take long to grow.
    """
    import torch
    from gymnasium import spaces
    from manipulation_encoder import ManipulationExtractor
    from nature_extractor import NatureExtractor

    torch.manual_seed(seed)
    space = spaces.Dict({"pixels": spaces.Box(0, 255, (3, SIZE, SIZE), np.uint8)})
    extractor: Any
    if encoder == "nature":
        extractor = NatureExtractor(space, vectors=())
    else:
        keypoints = encoder == "manipulation"
        extractor = ManipulationExtractor(space, keypoints, plan.num_filters, vectors=())
    hidden, told = torch.nn.Linear(extractor.features_dim, HIDDEN), torch.nn.Linear(HIDDEN, 2 * 3)
    return torch.nn.Sequential(extractor, hidden, torch.nn.ReLU(), told)


def learn(
    network: "nn.Module", seed: int, plan: Plan, seen: Pictures, unseen: Pictures, stopped: Event
) -> NDArray[np.float64]:
    """Learn places from the pictures seen; (2,), how far off those of the unseen are, metres.

    Raises:
        CancelledError: ``stopped`` was set meanwhile.
    """
    import torch
    from torch.nn.functional import mse_loss

    mean = seen.places.mean(axis=0)
    wanted = torch.from_numpy((seen.places - mean) / UNIT).float().flatten(1)
    frames = torch.from_numpy(seen.frames)
    optimizer = torch.optim.Adam(network.parameters(), plan.learning_rate)
    falling = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, plan.n_updates)
    batches = np.random.default_rng(seed)
    for _ in range(plan.n_updates):
        if stopped.is_set():
            raise CancelledError
        batch = torch.from_numpy(batches.integers(len(frames), size=plan.batch_size))
        loss = mse_loss(_told(network, frames[batch]), wanted[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        falling.step()
    with torch.no_grad():
        told = [_told(network, part) for part in torch.from_numpy(unseen.frames).split(250)]
    found = torch.cat(told).numpy().reshape(unseen.places.shape) * UNIT + mean
    return _off_by(found, unseen)


def _told(network: "nn.Module", frames: "Tensor") -> "Tensor":
    """What a network makes of pictures (n, 3, SIZE, SIZE): (n, 6)."""
    import torch

    coordinates: Tensor = network({"pixels": frames.contiguous(memory_format=torch.channels_last)})
    return coordinates


def _off_by(found: NDArray[np.float64], pictures: Pictures) -> NDArray[np.float64]:
    """Mean distance of block and gripper from where they are: (2,), metres."""
    distances = np.linalg.norm(found - pictures.places, axis=-1)
    return np.asarray(distances.mean(axis=0))


def unguided_error(seen: Pictures, unseen: Pictures) -> NDArray[np.float64]:
    """How far off is who looks at nothing and always tells the mean: (2,), metres."""
    return _off_by(np.broadcast_to(seen.places.mean(axis=0), unseen.places.shape), unseen)


def _row(camera: str, encoder: str, place: str, errors: Errors) -> ProbeRow:
    off_by = {
        seed: 1000 * float(error[PLACES.index(place)])
        for (*names, seed), error in sorted(errors.items())
        if names == [camera, encoder]
    }
    values = list(off_by.values())
    return ProbeRow(
        camera=camera,
        encoder=encoder,
        place=place,
        off_by_mm={str(seed): round(mm, 2) for seed, mm in off_by.items()},
        mean_mm=round(float(np.mean(values)), 2),
        t_half_width_mm=student_t_half_width(values),
    )


def _document(plan: Plan, found: list[ProbeRow], unguided: NDArray[np.float64]) -> Probe:
    from robotics_rl.devices import device_name

    return Probe(
        env_id=ENV_ID,
        settings=dataclasses.asdict(plan),
        rows=found,
        unguided_mm=dict(zip(PLACES, np.round(1000 * unguided, 2).tolist(), strict=True)),
        created_at=utc_now(),
        command=command_line(),
        git=git_state(),
        device_name=device_name("cpu"),
        versions=gather_versions(),
        **machine(),
    )


def rows(document: Mapping[str, Any]) -> list[list[str]]:
    """How far off block and gripper are: a header, a row per camera and encoder, and the floor."""
    made = [["camera", "encoder", *(f"{place}, mm" for place in PLACES)]]
    found = document["rows"]
    for camera, encoder in dict.fromkeys((row["camera"], row["encoder"]) for row in found):
        own = [row for row in found if (row["camera"], row["encoder"]) == (camera, encoder)]
        made.append([camera, ENCODERS[encoder], *map(_cell, own)])
    mean = (f"{mm:.1f}" for mm in document["unguided_mm"].values())
    return [*made, ["none", "(always the mean of all pictures)", *mean]]


def _cell(row: Mapping[str, Any]) -> str:
    spread = row["t_half_width_mm"]
    return f"{row['mean_mm']:.1f}" + ("" if spread is None else f" ± {spread:.1f}")


def draw(document: Probe, source: Path, path: Path) -> None:
    """Every seed a dot, the mean a line; less is better."""
    cameras = list(dict.fromkeys(row.camera for row in document.rows))
    encoders = list(dict.fromkeys(row.encoder for row in document.rows))
    pictures = (document.settings[name] for name in ("n_frames", "n_held_out"))
    caption = "Learned from {:,} pictures, judged by {:,} others. From {}."
    caption = caption.format(*pictures, source.as_posix())
    with plotting.figure(path, 3.4 * len(cameras), 3.6, caption) as figure:
        panels = figure.subplots(1, len(cameras), sharey=True, squeeze=False)[0]
        for row in document.rows:
            panel, which = panels[cameras.index(row.camera)], PLACES.index(row.place)
            x, colour = (
                encoders.index(row.encoder) + 0.3 * which - 0.15,
                plotting.COLOURS[2 * which],
            )
            values = list(row.off_by_mm.values())
            panel.plot([x] * len(values), values, "os"[which], color=colour, markersize=3)
            panel.hlines(row.mean_mm, x - 0.1, x + 0.1, colors=colour)
        names = [ENCODERS[encoder].replace(", ", ",\n") for encoder in encoders]
        for panel, camera in zip(panels, cameras, strict=True):
            panel.set_xticks(range(len(names)), names, fontsize=8)
            panel.set(title=f"camera {camera}", ylim=(0, None), xlim=(-0.5, len(names) - 0.5))
        for which, place in enumerate(PLACES):
            panels[-1].plot([], [], "os"[which], color=plotting.COLOURS[2 * which], label=place)
        panels[-1].legend()
        panels[0].set_ylabel("off by, mm, on pictures not seen")
        figure.suptitle(f"{document.env_id}: where are block and gripper? Seeds, and their mean")
