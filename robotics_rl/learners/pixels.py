"""The engine for pixels: environments drawn in processes of their own, ``PixelSAC`` beside them."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3 import SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.sac.policies import SACPolicy

from robotics_rl import config, options
from robotics_rl.config import TrainSettings
from robotics_rl.devices import multiplies_bf16
from robotics_rl.envs import Env, MakeEnv
from robotics_rl.envs.fetch_vec_env import FetchVecEnv
from robotics_rl.envs.pixels import View
from robotics_rl.envs.studio import Studio, pixel_space
from robotics_rl.learners import Engine, fast, sb3
from robotics_rl.learners.diagnosis import Diagnosis
from robotics_rl.learners.pixel_sac import Augment, PixelSAC
from robotics_rl.pixel_options import Pixels
from robotics_rl.provenance import usable_cores
from robotics_rl.replay import device_frames, memory_plan
from robotics_rl.replay.frames import FrameReplay, FrameStore
from robotics_rl.replay.memory_plan import FrameShape


@dataclass(frozen=True)
class Vision:
    """A policy that sees; made of the labs' classes, which this library does not import."""

    policy: type[SACPolicy]
    policy_kwargs: Mapping[str, Any]
    augment: Augment | None  # of pictures that are learned from


MakeVision = Callable[[Pixels], Vision]


class Eyes:
    """What a trained policy sees with, from its metadata.

    Args:
        make_vision: gives the classes that policies are made of.
        hyperparameters: of the metadata.
    """

    def __init__(self, make_vision: MakeVision, hyperparameters: Mapping[str, Any]) -> None:
        self._pixels: Pixels = options.fill(Pixels, hyperparameters)
        self._vision, self._net_arch = make_vision(self._pixels), hyperparameters["net_arch"]

    def space(self, env: Env) -> spaces.Dict:
        """What it may see of a task."""
        return pixel_space(env, view(self._pixels))

    def build(self, metadata: Any, observation_space: Any, action_space: Any) -> SACPolicy:
        """The policy with weights of no use yet."""
        kwargs = {"net_arch": self._net_arch, **self._vision.policy_kwargs}
        # The learning rate only reaches optimizers, which are not used here.
        return self._vision.policy(observation_space, action_space, lambda _: 0.0, **kwargs)

    def make_batch(self, env_id: str, n_envs: int, n_processes: int) -> Studio:
        """Simulations that show what it was trained on."""
        return Studio(env_id, n_envs, n_processes, view(self._pixels))


def engine(make_vision: MakeVision, learner: Callable[..., PixelSAC] = PixelSAC) -> Engine:
    """The engine whose policies see with what ``make_vision`` gives for settings.

    ``learner`` is called with what ``PixelSAC`` takes.
    """
    return Engine(
        make_env=make_training_env,
        make_model=partial(make_model, make_vision, learner),
        check_memory=check_memory,
        export=partial(export, make_vision),
        diagnose=diagnose,
    )


def view(pixels: Pixels) -> View:
    """How simulations are looked at."""
    return View(
        size=pixels.image_size,
        frame_stack=pixels.frame_stack,
        camera=pixels.camera,
        msaa=pixels.msaa,
        show_goal=not pixels.hide_goal_marker,
        native=pixels.native_render,
    )


def make_training_env(settings: TrainSettings, make_env: MakeEnv) -> FetchVecEnv:
    """The environments of a training, shared out among processes."""
    assert settings.pixels is not None
    run, studio = settings.run, partial(Studio, view=view(settings.pixels))
    return FetchVecEnv(
        settings.env_id, run.n_envs, run.seed, n_processes(run.n_envs), make_batch=studio
    )


def n_processes(n_envs: int) -> int:
    """Processes that are of use: one a core, less the learner's, all with equally much to do."""
    cores = max(1, usable_cores() - 1)
    return math.ceil(n_envs / math.ceil(n_envs / cores))


def frame_shape(settings: TrainSettings, env: Env) -> FrameShape:
    """Sizes of what is stored; ``env``: the task with its state observations."""
    assert settings.pixels is not None
    assert env.spec is not None
    assert env.spec.max_episode_steps is not None
    assert env.action_space.shape is not None
    sizes: Any = {
        name: part.shape for name, part in pixel_space(env, view(settings.pixels)).items()
    }
    channels, *sides = sizes["pixels"]
    stack = settings.pixels.frame_stack
    return FrameShape(
        n_envs=settings.run.n_envs,
        horizon=env.spec.max_episode_steps,
        frame=(channels // stack, *sides),
        frame_stack=stack,
        proprioception=sizes["proprioception"][0],
        goal=sizes["desired_goal"][0],
        action=env.action_space.shape[0],
    )


def make_model(
    make_vision: MakeVision,
    learner: Callable[..., PixelSAC],
    settings: TrainSettings,
    env: Any,
    device: str,
) -> PixelSAC:
    """The algorithm with fresh weights."""
    own, values, pixels = settings.fast, settings.hyperparameters, settings.pixels
    assert isinstance(own, config.FastSAC)
    assert isinstance(values, config.OffPolicy)
    assert pixels is not None
    model = learner(
        **_arguments(make_vision, settings, env, device),
        replay=_make_replay(settings, env),
        augment=make_vision(pixels).augment,
        normalize_observations=own.normalize_observations,
        random_action_prob=own.random_action_prob,
        synchronous=own.deterministic_engine,
        policy_delay=own.policy_delay,
        bf16=computes_bf16(pixels, device),
        cuda_graphs=pixels.cuda_graphs,
    )
    frames = model.replay_buffer.store.frames
    if device_frames.fits(frames.nbytes, model.device):
        device_frames.DeviceFrames(model.replay_buffer, model.device)
    return model


def computes_bf16(pixels: Pixels, device: str) -> bool:
    """Whether networks compute in bfloat16 while they learn."""
    if pixels.precision == "auto":
        return multiplies_bf16(device)
    return pixels.precision == "bf16"


def _arguments(
    make_vision: MakeVision, settings: TrainSettings, env: Any, device: str
) -> dict[str, Any]:
    """What Stable-Baselines3's class is called with."""
    assert settings.pixels is not None
    vision = make_vision(settings.pixels)
    common = sb3.arguments(dataclasses.replace(settings, her=None), env, device)
    kwargs = {**common["policy_kwargs"], **vision.policy_kwargs}
    return common | {"policy": vision.policy, "policy_kwargs": kwargs}


def _make_replay(settings: TrainSettings, env: FetchVecEnv) -> FrameReplay:
    values, pixels = settings.hyperparameters, settings.pixels
    assert isinstance(values, config.OffPolicy)
    assert pixels is not None
    path = Path(pixels.buffer_file) if pixels.buffer_file else None
    store = FrameStore(values.buffer_size, frame_shape(settings, env.batch.env), path)
    return FrameReplay(store, *fast.drawing(settings, env.batch.task))


def check_memory(settings: TrainSettings, env: Env, side_by_side: int) -> None:
    """Say what the replay takes, and refuse what does not fit.

    Raises:
        UsageError: it does not, or its file cannot be written.
    """
    values, pixels = settings.hyperparameters, settings.pixels
    assert isinstance(values, config.OffPolicy)
    assert pixels is not None
    shape = frame_shape(settings, env)
    print(f"replay: {memory_plan.plan(values.buffer_size, shape)}")
    path = Path(pixels.buffer_file) if pixels.buffer_file else None
    memory_plan.check(values.buffer_size, shape, path, side_by_side)


def export(make_vision: MakeVision, settings: TrainSettings, model: BaseAlgorithm) -> BaseAlgorithm:
    """The same policy as Stable-Baselines3's SAC has it, for a checkpoint."""
    assert isinstance(model, PixelSAC)
    small = dataclasses.replace(settings.hyperparameters, buffer_size=1)  # type: ignore[call-arg]
    bare = dataclasses.replace(settings, hyperparameters=small)
    arguments = _arguments(make_vision, bare, model.env, str(model.device))
    plain = fast.plain_twin(model, lambda: SAC(**arguments))
    if model.normalizer.enabled:
        model.fold_into(plain.policy)
    return plain


def diagnose(model: BaseAlgorithm) -> Diagnosis | None:
    """The twin critics on a random batch; None with nothing to draw."""
    assert isinstance(model, PixelSAC)
    if model.num_timesteps <= model.learning_starts or not model.replay_buffer.ready:
        return None
    batch = model.replay_buffer.peek(model.batch_size)
    with torch.no_grad():
        q1, q2 = model.values(model.seen(model.views(batch)))
    parts = (batch.rewards, batch.next_achieved_goals, batch.desired_goals)
    rewards, achieved, desired = map(torch.from_numpy, parts)
    return Diagnosis(q1, q2, rewards, achieved, desired, sb3.entropy_coefficient(model))
