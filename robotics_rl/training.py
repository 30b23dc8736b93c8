"""Train: one verb from settings to a checkpoint with its metadata, stoppable at any moment."""

import math
import platform
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.preprocessing import get_obs_shape
from stable_baselines3.common.utils import set_random_seed

from robotics_rl import artifacts, checkpoints, config, curves, envs, training_state
from robotics_rl.artifacts import RunPaths
from robotics_rl.callbacks import ProgressReporter, StateKeeper, stop_requests, success_rate
from robotics_rl.config import TrainSettings
from robotics_rl.devices import device_name, resolve_device
from robotics_rl.envs import MakeEnv
from robotics_rl.errors import UsageError
from robotics_rl.learners import ENGINES
from robotics_rl.learners.sb3 import gradient_steps, transition_bytes
from robotics_rl.progress import Progress, clock
from robotics_rl.schemas import Metadata, Training
from robotics_rl.versions import gather_versions

GIB = 2**30


def train(settings: TrainSettings, make_env: MakeEnv = envs.make_env) -> Metadata:
    """Train and write ``RUN_ENV_seedK.zip`` with its metadata and curves.

    Args:
        settings: what and how to train.
        make_env: builds one environment; ``gymnasium.make`` unless a chapter has its own.

    Returns:
        The metadata that stands beside the checkpoint.

    Raises:
        UsageError: the settings cannot be carried out; nothing was written.
        Interrupted: SIGINT or SIGTERM; the state is saved and ``--resume`` goes on.
    """
    paths = RunPaths.of(settings)
    device = resolve_device(settings.run.device)
    _check(settings, paths, make_env)
    with artifacts.run_lock(paths.resume, paths.logs):
        state = _saved_state(settings, paths)
        session = _start(settings, paths, device, make_env, state)
        try:
            _learn(session)
        finally:
            session.model.logger.close()
            session.env.close()
        metadata = _publish(session)
        shutil.rmtree(paths.resume)
    return metadata


@dataclass
class _Session:
    """One process's share of a training."""

    settings: TrainSettings
    paths: RunPaths
    model: BaseAlgorithm
    env: Any
    earlier_seconds: float  # training time of the processes before this one
    resumed: bool
    started: float = field(default_factory=time.monotonic)

    @property
    def wall_seconds(self) -> float:
        """Training time of the whole run, interruptions left out."""
        return self.earlier_seconds + time.monotonic() - self.started


def _check(settings: TrainSettings, paths: RunPaths, make_env: MakeEnv) -> None:
    """Everything that can be wrong is found here, before anything is written."""
    env = make_env(settings.env_id)
    observation_space, action_space = env.observation_space, env.action_space
    env.close()
    try:
        get_obs_shape(observation_space)
    except NotImplementedError:
        raise UsageError(
            f"no policy here takes the observation space of {settings.env_id} "
            f"({type(observation_space).__name__}); choose an environment that observes arrays"
        ) from None
    if settings.her and not envs.has_goals(observation_space):
        raise UsageError(f"--her needs goals and {settings.env_id} has none; leave out --her")
    values = settings.hyperparameters
    if isinstance(values, config.PPO):
        _check_rollout(values, settings.run.n_envs)
    if isinstance(values, config.OffPolicy):
        if not hasattr(action_space, "low"):
            raise UsageError(
                f"{settings.algo} needs continuous actions and {settings.env_id} has "
                f"{type(action_space).__name__} ones; use --algo ppo"
            )
        _check_memory(
            values.buffer_size, transition_bytes(settings, observation_space, action_space)
        )
        _check_learning_starts(settings, values, env.spec.max_episode_steps if env.spec else None)
    for folder in (paths.checkpoint.parent, paths.logs):
        artifacts.require_writable(folder)


def _check_rollout(values: config.PPO, n_envs: int) -> None:
    """Advantages are normalised over a batch, and one sample has no spread."""
    for name, size in (("batch_size", values.batch_size), ("n_steps", values.n_steps * n_envs)):
        if size < 2:
            raise UsageError(f"{config.flag_of(name)} leaves PPO one sample; it needs at least 2")


def _check_memory(buffer_size: int, bytes_each: int) -> None:
    needed, available = buffer_size * bytes_each, psutil.virtual_memory().available
    if needed > available:
        fits = int(available * 0.8) // bytes_each
        raise UsageError(
            f"a replay buffer of {buffer_size:,} transitions needs {needed / GIB:.1f} GiB and "
            f"{available / GIB:.1f} GiB are free; the largest that fits is --buffer-size {fits}"
        )


def _check_learning_starts(
    settings: TrainSettings, values: config.OffPolicy, episode_length: int | None
) -> None:
    run = settings.run
    first_episodes = (episode_length or 0) * run.n_envs
    if settings.her and values.learning_starts < first_episodes:
        raise UsageError(
            f"HER relabels finished episodes, and none is finished before {first_episodes} steps "
            f"({run.n_envs} environments × {episode_length}); "
            f"use --learning-starts {first_episodes}"
        )
    whole_episodes = 2 * first_episodes  # one to draw from while another is overwritten
    if settings.her and values.buffer_size < whole_episodes:
        raise UsageError(
            f"HER needs whole episodes in the replay buffer and {values.buffer_size} transitions "
            f"are too few for {run.n_envs} environments; use --buffer-size {whole_episodes}"
        )
    if run.total_steps <= values.learning_starts:
        print(
            f"WARN: {run.total_steps:,} steps end before learning starts "
            f"(--learning-starts {values.learning_starts:,}): nothing will be learned"
        )


def _saved_state(settings: TrainSettings, paths: RunPaths) -> dict[str, Any] | None:
    """The state to go on from, if that is asked for and there is one."""
    path = _state_path(paths)
    if settings.run.resume:
        if not path.exists():
            print(f"no unfinished run in {paths.resume}: starting from the first step")
            return None
        state = training_state.read(path)
        _require_same_settings(identity(settings), state["identity"])
        return state
    if path.exists():
        moved = artifacts.move_aside(
            path, paths.checkpoint.parent / "previous" / paths.resume.name, artifacts.file_stamp()
        )
        print(f"starting afresh: the unfinished run found here went to {moved}")
    return None


def _state_path(paths: RunPaths) -> Path:
    return paths.resume / "state.pt"


def identity(settings: TrainSettings) -> dict[str, Any]:
    """What makes two runs the same experiment."""
    run = settings.run
    return {
        "algo": settings.algo,
        "env_id": settings.env_id,
        "seed": run.seed,
        "her": settings.her is not None,
        "total_steps": run.total_steps,
        "engine": run.engine,
        "recipe": run.recipe,
        **settings.flat_hyperparameters(),
    }


def _require_same_settings(asked: dict[str, Any], saved: dict[str, Any]) -> None:
    for name, value in asked.items():
        if saved.get(name) != value:
            raise UsageError(
                f"the unfinished run had {config.flag_of(name)} {saved.get(name)}, not {value}; "
                "give the same flags, or start afresh without --resume"
            )


def _start(
    settings: TrainSettings,
    paths: RunPaths,
    device: str,
    make_env: MakeEnv,
    state: dict[str, Any] | None,
) -> _Session:
    run = settings.run
    set_random_seed(run.seed, using_cuda=device.startswith("cuda"))
    if isinstance(settings.hyperparameters, config.PPO):
        # Layers this small gain nothing from a second thread, and lose much on a busy machine.
        torch.set_num_threads(1)
    engine = ENGINES[run.engine]
    env = engine.make_env(settings, make_env)
    model = engine.make_model(settings, env, device)
    if state is None and paths.logs.exists():
        _move_old_curves(paths)
    earlier = state["wall_seconds"] if state else 0.0
    done = state["counters"]["num_timesteps"] if state else 0
    logger = curves.make_logger(
        paths.curves,
        done,
        lambda: gradient_steps(model),
        earlier,
        tensorboard=run.track == "tb",
    )
    model.set_logger(logger)
    if state:
        exact = training_state.restore(model, state)
        print(f"resuming at {done:,} of {run.total_steps:,} steps")
        if not exact:
            print(f"WARN: the state of {settings.env_id} cannot be saved: new episodes begin")
    return _Session(settings, paths, model, env, earlier, resumed=state is not None)


def _move_old_curves(paths: RunPaths) -> None:
    """Curves of two runs never mix in one folder."""
    old = [entry for entry in paths.logs.iterdir() if entry.suffix != ".lock"]
    if not old:
        return
    target = paths.logs.parent / "previous" / f"{paths.logs.name}_{artifacts.file_stamp()}"
    target.mkdir(parents=True, exist_ok=True)
    for entry in old:
        shutil.move(entry, target)
    print(f"the curves of an earlier run went to {target}")


def _learn(session: _Session) -> None:
    model, settings = session.model, session.settings
    run = settings.run
    off_policy = isinstance(model, OffPolicyAlgorithm)
    remaining = run.total_steps - model.num_timesteps
    rollout = run.n_envs * getattr(settings.hyperparameters, "n_steps", 1)
    planned = model.num_timesteps + math.ceil(remaining / rollout) * rollout
    if planned > run.total_steps:
        print(
            f"rounding {run.total_steps:,} steps up to {planned:,}: whole rollouts of {rollout:,}"
        )

    def describe() -> dict[str, Any]:
        return {"identity": identity(settings), "wall_seconds": session.wall_seconds}

    with (
        stop_requests() as stop,
        Progress(planned, "steps", model.num_timesteps, enabled=run.progress) as progress,
    ):
        state_path = _state_path(session.paths)
        model.learn(
            remaining,
            callback=[
                StateKeeper(state_path, run.checkpoint_freq, stop, describe),
                ProgressReporter(progress),
            ],
            log_interval=4 * run.n_envs if off_policy else 1,  # in episodes, or in rollouts
            reset_num_timesteps=not session.resumed,  # it would reset the environments too
        )
    if isinstance(model, OffPolicyAlgorithm):
        model.dump_logs()


def _publish(session: _Session) -> Metadata:
    """Write checkpoint and metadata, after moving an other experiment's out of the way."""
    paths = session.paths
    old = _metadata_of_old(paths.checkpoint)
    if paths.checkpoint.exists() and (
        old is None or _identity_of(old) != identity(session.settings)
    ):
        stamp = artifacts.file_stamp(old.created_at if old else None)
        for path in (paths.checkpoint, paths.metadata):
            moved = artifacts.move_aside(path, paths.checkpoint.parent / "previous", stamp)
            if moved:
                print(f"{path.name} was made with other settings: it went to {moved}")
    metadata = checkpoints.save(
        session.model, paths.checkpoint, lambda sha256: _describe(session, sha256)
    )
    print(
        f"trained {metadata.steps_done:,} steps in {clock(metadata.training.wall_seconds)} "
        f"({metadata.training.steps_per_second:,.0f} steps/s)"
    )
    for path in (paths.checkpoint, paths.metadata, paths.curves):
        print(f"OK: wrote {path}")
    return metadata


def _metadata_of_old(checkpoint: Path) -> Metadata | None:
    """None where it cannot be read: a damaged file must not cost the training just done."""
    try:
        return checkpoints.read_metadata(checkpoint)
    except UsageError:
        return None


def _identity_of(metadata: Metadata) -> dict[str, Any]:
    names = ("algo", "env_id", "seed", "her", "total_steps", "engine", "recipe")
    return {name: getattr(metadata, name) for name in names} | metadata.hyperparameters


def _describe(session: _Session, sha256: str) -> Metadata:
    settings, model, run = session.settings, session.model, session.settings.run
    seconds, updates = session.wall_seconds, gradient_steps(model)
    return Metadata(
        algo=settings.algo,
        env_id=settings.env_id,
        seed=run.seed,
        total_steps=run.total_steps,
        steps_done=model.num_timesteps,
        her=settings.her is not None,
        hyperparameters=settings.flat_hyperparameters(),
        engine=run.engine,
        recipe=run.recipe,
        chapter=settings.chapter,
        run_tag=run.run_tag,
        env_steps=model.num_timesteps,
        gradient_steps=updates,
        update_to_data=updates / model.num_timesteps,
        device=str(model.device),
        device_name=device_name(str(model.device)),
        created_at=artifacts.utc_now(),
        command=artifacts.command_line(),
        git=artifacts.git_state(),
        versions=gather_versions(),
        platform=platform.platform(),
        training=Training(
            wall_seconds=round(seconds, 2),
            steps_per_second=round(model.num_timesteps / seconds, 1),
            final_success_rate=success_rate(model),
        ),
        checkpoint_sha256=sha256,
    )
