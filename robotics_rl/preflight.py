"""What can be wrong with a training is found here, before anything is written."""

import math
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.preprocessing import get_obs_shape

from robotics_rl import artifacts, config, envs, options
from robotics_rl.artifacts import RunPaths
from robotics_rl.config import TrainSettings
from robotics_rl.devices import device_name, multiplies_bf16, resolve_device
from robotics_rl.entropy_options import AdaptiveEntropy
from robotics_rl.envs import Env, MakeEnv
from robotics_rl.errors import UsageError
from robotics_rl.learners import Engine


def check(
    settings: TrainSettings,
    paths: RunPaths,
    make_env: MakeEnv,
    engine: Engine,
    side_by_side: int = 1,
) -> None:
    """Refuse what cannot be carried out.

    Args:
        settings: of the training.
        paths: of its files.
        make_env: makes its environments.
        engine: steps them and learns.
        side_by_side: trainings like it that share the memory.

    Raises:
        UsageError: the environment, its spaces, the memory or a folder is not fit for it.
    """
    with closing(make_env(settings.env_id)) as env:
        _check_info(settings, env)
    _check_spaces(settings, env)
    values = settings.hyperparameters
    if isinstance(values, config.PPO):
        _check_rollout(values, settings.run.n_envs)
    if isinstance(values, config.OffPolicy):
        engine.check_memory(settings, env, side_by_side)
    if settings.pixels and settings.pixels.cuda_graphs:
        _check_graphs(settings)
    if (settings.her or settings.fast) and isinstance(values, config.OffPolicy):
        _check_episodes_fit(settings, values, env)
    artifacts.require_file(Path(settings.run.out or paths.checkpoint))
    artifacts.require_file(paths.checkpoint)
    for folder in (paths.resume, paths.logs):
        artifacts.require_writable(folder)


def remarks(settings: TrainSettings, device: str) -> Iterator[str]:
    """Warnings and notes about a training, one line each."""
    values = settings.hyperparameters
    asked, planned = settings.run.total_steps, planned_steps(settings)
    if config.engine_for(settings.env_id) == "sb3":
        yield "engine sb3: fast serves the Fetch tasks with state observations only"
    asks_bf16 = (settings.fast and settings.fast.bf16) or (
        settings.pixels and settings.pixels.precision == "bf16"
    )
    if asks_bf16 and not multiplies_bf16(device):
        yield f"WARN: {device_name(device)} has no units for bf16: training will be slow"
    if isinstance(values, config.OffPolicy) and asked <= values.learning_starts:
        yield (
            f"WARN: {asked:,} steps end before learning starts "
            f"(--learning-starts {values.learning_starts:,}): nothing will be learned"
        )
    if planned > asked:
        whole = f"whole rollouts of {settings.rollout_steps:,}"
        yield f"rounding {asked:,} steps up to {planned:,}: {whole}"


def planned_steps(settings: TrainSettings) -> int:
    """Environment steps that will be taken: whole rollouts."""
    rollout = settings.rollout_steps
    return math.ceil(settings.run.total_steps / rollout) * rollout


def _check_spaces(settings: TrainSettings, env: Env) -> None:
    try:
        get_obs_shape(env.observation_space)
    except NotImplementedError:  # how Stable-Baselines3 says that it knows no such space
        raise UsageError(
            f"no policy here takes the observation space of {settings.env_id} "
            f"({type(env.observation_space).__name__}); choose one that observes arrays"
        ) from None
    if settings.her and not envs.has_goals(env.observation_space):
        raise UsageError(f"--her needs goals and {settings.env_id} has none; leave out --her")
    off_policy = isinstance(settings.hyperparameters, config.OffPolicy)
    if off_policy and not isinstance(env.action_space, spaces.Box):
        raise UsageError(
            f"{settings.algo} needs continuous actions and {settings.env_id} has "
            f"{type(env.action_space).__name__} ones; use --algo ppo"
        )


def _check_info(settings: TrainSettings, env: Env) -> None:
    """What flags name must be in ``info``, and be numbers."""
    asked = [(key, "monitor_keywords") for key in settings.run.monitor_keywords]
    asked = [(key, flag) for key, flag in asked if key != "is_success"]  # told where it is there
    if isinstance(settings.entropy, AdaptiveEntropy):
        asked.append((settings.entropy.ent_coef_adaptive_key, "ent_coef_adaptive_key"))
    if not asked:
        return
    env.reset()
    info = env.step(env.action_space.sample())[4]
    numbers = [key for key, value in info.items() if np.ndim(value) == 0]
    for key, name in asked:
        if key not in numbers:
            raise UsageError(
                f"{options.flag_of(name)} {key} is no number in the info of {settings.env_id}; "
                f"choose one of: {', '.join(numbers) or 'nothing is'}"
            )


def _check_rollout(values: config.PPO, n_envs: int) -> None:
    """Advantages are normalised over a batch, and one sample has no spread."""
    for name, size in (("batch_size", values.batch_size), ("n_steps", values.n_steps * n_envs)):
        if size < 2:
            raise UsageError(f"{options.flag_of(name)} leaves PPO one sample; it needs at least 2")


def _check_graphs(settings: TrainSettings) -> None:
    if not resolve_device(settings.run.device).startswith("cuda"):
        raise UsageError("--cuda-graphs needs an NVIDIA GPU; leave it out")
    if settings.entropy:
        raise UsageError("--cuda-graphs records one --ent-coef; give a number")


def _check_episodes_fit(settings: TrainSettings, values: config.OffPolicy, env: Env) -> None:
    """Whole episodes are kept; HER draws from finished ones, so there must be one."""
    n_envs, length = settings.run.n_envs, env.spec.max_episode_steps if env.spec else None
    first_episodes = (length or 0) * n_envs
    if settings.her and values.learning_starts < first_episodes:
        raise UsageError(
            f"HER relabels finished episodes, and none is finished before {first_episodes} steps "
            f"({n_envs} environments × {length}); use --learning-starts {first_episodes}"
        )
    two_episodes = 2 * first_episodes  # one to draw from while another is overwritten
    if values.buffer_size < two_episodes:
        raise UsageError(
            f"the replay buffer keeps whole episodes and {values.buffer_size} transitions are too "
            f"few for {n_envs} environments; use --buffer-size {two_episodes}"
        )
