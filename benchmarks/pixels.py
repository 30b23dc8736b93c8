"""How fast policies that see are trained: our pipeline, and the plain one it takes the place of.

The plain one draws 480 pixels a side and makes them 84, one environment after the other, and keeps
whole stacks in Stable-Baselines3's dictionary buffer, twice. It computes in single precision; ours,
by default, in bfloat16 where there are units for it. Everything else is equal: tasks, networks,
batches, and one gradient step per 4 environment steps.
"""

import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rounds import Race

from robotics_rl import cli

if TYPE_CHECKING:
    from robotics_rl.benchmarking import Measure

sys.path.append(str(Path(__file__).resolve().parents[1] / "scripts"))

N_ENVS, SIZE, LARGE = 4, 84, 480
# The chapter's step 4, with as much arithmetic as two processor cores are for.
SETTINGS: dict[str, Any] = {
    "critic_encoder": True,
    "n_envs": N_ENVS,
    "num_filters": 16,
    "batch_size": 32,
    "buffer_size": 5_000,
    "learning_starts": 400,
}
DRAWN_AT_ONCE = 256  # transitions, to time a replay with


def _contestants(device: str) -> Iterator[tuple[str, "Measure"]]:
    """Frames, draws from the replay, gradient steps, and whole trainings."""
    import ch09_pixel_push
    import torch

    from robotics_rl.provenance import usable_cores
    from robotics_rl.throughput import steps_per_second

    cores = usable_cores()
    yield "frames, plain", _frames(_plain_envs())
    yield "frames, 1 process", _frames(_studio(N_ENVS, 1))
    yield "frames, 1 process, 4 samples a pixel", _frames(_studio(N_ENVS, 1, msaa=4))
    yield "frames, a process per core", _frames(_studio(N_ENVS * cores, cores))
    settings = ch09_pixel_push.CARD.settings(SETTINGS)
    plain, ours = _plain_training(settings, device), _our_training(settings, device)
    yield f"draws of {DRAWN_AT_ONCE}, plain", _repeated(lambda: _draw_plain(plain))
    yield f"draws of {DRAWN_AT_ONCE}, ours", _repeated(lambda: _draw_ours(ours))
    yield "batches of a gradient step, ours", _repeated(lambda: next(ours.batches(1)))
    yield "gradient steps, plain", _repeated(lambda: plain.train(4, plain.batch_size), 4)
    yield "gradient steps, ours", _repeated(lambda: ours.train(4), 4)
    yield "actions chosen, ours", _repeated(ours._act, N_ENVS)
    if device.startswith("cuda"):
        for precision in ("bf16", "fp32"):
            flags = {**SETTINGS, "cuda_graphs": True, "device": device, "precision": precision}
            graphed = _our_training(ch09_pixel_push.CARD.settings(flags), device)
            name = f"gradient steps, ours with CUDA graphs, {precision}"
            yield name, _repeated(partial(graphed.train, 4), 4)

    def speed(model: Any, threads: int) -> "Measure":
        def measure(seconds: float) -> float:
            torch.set_num_threads(threads)
            return steps_per_second(model, seconds)

        return measure

    yield "training, plain, 1 torch thread", speed(plain, 1)
    yield "training, plain, 2 torch threads", speed(plain, 2)
    yield "training, ours, 1 torch thread", speed(ours, 1)
    yield "training, ours, 2 torch threads", speed(ours, 2)


def _repeated(work: Callable[[], object], count: int = 1) -> "Measure":
    """How often a second with one torch thread, ``count`` at a time, after one that warms up."""

    def measure(seconds: float) -> float:
        import torch

        torch.set_num_threads(1)

        def finished() -> float:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            return time.perf_counter()

        work()
        done, started = 0, finished()
        while (passed := finished() - started) < seconds:
            work()
            done += count
        return done / passed

    return measure


def _frames(venv: Any) -> "Measure":
    """Environment steps per second with random actions, each with its picture."""
    import numpy as np

    rng = np.random.default_rng(0)
    venv.reset()

    def step() -> None:
        venv.step(rng.uniform(-1, 1, (venv.num_envs, 4)).astype(np.float32))

    return _repeated(step, venv.num_envs)


def _studio(n_envs: int, n_processes: int, msaa: int = 0) -> Any:
    from robotics_rl.envs.fetch_vec_env import FetchVecEnv
    from robotics_rl.envs.pixels import View
    from robotics_rl.envs.studio import Studio

    make_batch = partial(Studio, view=View(size=SIZE, msaa=msaa))
    return FetchVecEnv("FetchPush-v4", n_envs, 0, n_processes, make_batch=make_batch)


def _plain_envs() -> Any:
    """Drawn large, made small, one after the other."""
    from pixel_wrapper import PixelObservationWrapper, make_env
    from stable_baselines3.common.monitor import Monitor
    from stable_baselines3.common.vec_env import DummyVecEnv

    def build() -> Any:
        return Monitor(PixelObservationWrapper(make_env(LARGE), (SIZE, SIZE)))

    return DummyVecEnv([build] * N_ENVS)


def _our_training(settings: Any, device: str) -> Any:
    """A model that has begun to learn."""
    from pixel_policies import make_vision
    from stable_baselines3.common.logger import Logger

    from robotics_rl.learners import pixels
    from robotics_rl.training import build

    model = build(settings, device, engine=pixels.engine(make_vision))
    model.set_logger(Logger(None, []))
    model.learn(SETTINGS["learning_starts"] + 40)
    return model


def _plain_training(settings: Any, device: str) -> Any:
    """The same of Stable-Baselines3's parts and the labs'."""
    from image_augmentation import HerDrQDictReplayBuffer
    from pixel_policies import make_vision
    from stable_baselines3 import SAC
    from stable_baselines3.common.logger import Logger

    values, vision = settings.hyperparameters, make_vision(settings.pixels)
    model = SAC(
        vision.policy,
        _plain_envs(),
        learning_rate=values.learning_rate,
        buffer_size=values.buffer_size,
        learning_starts=values.learning_starts,
        batch_size=values.batch_size,
        gamma=values.gamma,
        tau=values.tau,
        train_freq=1,
        gradient_steps=1,
        ent_coef=values.ent_coef,
        replay_buffer_class=HerDrQDictReplayBuffer,
        replay_buffer_kwargs={"n_sampled_goal": 4, "aug_fn": vision.augment},
        policy_kwargs={"net_arch": list(values.net_arch), **vision.policy_kwargs},
        seed=0,
        device=device,
    )
    model.set_logger(Logger(None, []))
    model.learn(SETTINGS["learning_starts"] + 40)
    return model


def _draw_plain(model: Any) -> object:
    return model.replay_buffer.sample(DRAWN_AT_ONCE)


def _draw_ours(model: Any) -> object:
    """With the augmentation that the plain buffer has within."""
    views, augment = model.views(model.replay_buffer.sample(DRAWN_AT_ONCE)), model._augment
    now, after = views.windows[:, : -views.channels], views.windows[:, views.channels :]
    return augment(now), augment(after)


RACE = Race(
    script="pixels",
    story=__doc__,
    name=f"learning FetchPush-v4 from pictures of {SIZE} pixels a side",
    unit="of each a second",
    contestants=_contestants,
    draws=True,
    ratios={
        "frames, a process per core / plain": ("frames, a process per core", "frames, plain"),
        "frames, 1 process / plain": ("frames, 1 process", "frames, plain"),
        "draws / plain": (f"draws of {DRAWN_AT_ONCE}, ours", f"draws of {DRAWN_AT_ONCE}, plain"),
        "gradient steps / plain": ("gradient steps, ours", "gradient steps, plain"),
        "training / plain, 1 torch thread": (
            "training, ours, 1 torch thread",
            "training, plain, 1 torch thread",
        ),
        "training / plain, 2 torch threads": (
            "training, ours, 1 torch thread",
            "training, plain, 2 torch threads",
        ),
    },
    seconds=8.0,
)

if __name__ == "__main__":
    cli.run(RACE.main)
