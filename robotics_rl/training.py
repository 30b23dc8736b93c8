"""Train: one verb from settings to a checkpoint with its metadata, stoppable at any moment."""

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from stable_baselines3 import SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.utils import set_random_seed

from robotics_rl import (
    artifacts,
    checkpoints,
    curves,
    envs,
    options,
    preflight,
    rendering,
    tensors,
    training_state,
)
from robotics_rl.artifacts import RunPaths
from robotics_rl.callbacks import (
    Diagnostician,
    EpisodeInfo,
    ProgressReporter,
    StateKeeper,
    success_rate,
)
from robotics_rl.config import TrainSettings
from robotics_rl.devices import device_name, resolve_device
from robotics_rl.entropy import EntropyMode, entropy_mode
from robotics_rl.envs import MakeEnv
from robotics_rl.errors import Interrupted, UsageError
from robotics_rl.learners import ENGINES, Engine, gradient_steps, hyperparameters
from robotics_rl.learners.overlapped import Overlapped
from robotics_rl.progress import Progress, clock
from robotics_rl.provenance import command_line, file_stamp, git_state, machine, utc_now
from robotics_rl.schemas import Metadata, Training
from robotics_rl.signals import stop_requests
from robotics_rl.versions import gather_versions


def train(
    settings: TrainSettings, make_env: MakeEnv = envs.make_env, engine: Engine | None = None
) -> Metadata:
    """Train and write ``RUN_ENV_seedK.zip`` with its metadata and curves.

    Args:
        settings: what and how to train.
        make_env: builds one environment; ``gymnasium.make`` unless a chapter has its own.
        engine: steps and learns; the one that the settings name unless a chapter has its own.

    Returns:
        The metadata that stands beside the checkpoint.

    Raises:
        UsageError: the settings cannot be carried out, and nothing was written; or the training
            diverged, and no checkpoint was.
        Interrupted: SIGINT or SIGTERM; the state is saved and ``--resume`` goes on.
    """
    paths = RunPaths.of(settings)
    device = resolve_device(settings.run.device)
    engine = engine or ENGINES[settings.run.engine]
    preflight.check(settings, paths, make_env, engine)
    with artifacts.run_lock(paths.resume, paths.logs):
        complete = _complete(settings, paths)
        if complete:
            print(f"{paths.checkpoint} is complete: nothing to resume")
            return complete
        session = _start(settings, paths, device, make_env, engine)
        try:
            signum = _learn(session)
        except _DivergenceError:
            _put_back_old_curves(session)
            raise
        metadata = _publish(session)
        for leftover in paths.resume.glob("*state*"):
            leftover.unlink()
    if signum:
        raise Interrupted("stopped after the last step; the training is complete", signum)
    return metadata


def build(
    settings: TrainSettings,
    device: str,
    make_env: MakeEnv = envs.make_env,
    engine: Engine | None = None,
) -> BaseAlgorithm:
    """A model with fresh weights and the environments that it will step, everything seeded.

    Seeds the global random streams, and on a CPU leaves torch one thread.
    """
    run, engine = settings.run, engine or ENGINES[settings.run.engine]
    set_random_seed(run.seed, using_cuda=device.startswith("cuda"))
    if device == "cpu":
        # Networks this small gain little from a second thread, and it waits for a core to be free:
        # beside another program training would be slower many times over.
        torch.set_num_threads(1)
    return engine.make_model(settings, engine.make_env(settings, make_env), device)


@dataclass
class _Session:
    """One process's share of a training."""

    settings: TrainSettings
    paths: RunPaths
    engine: Engine
    model: BaseAlgorithm
    env: Any
    resumed: bool
    earlier_seconds: float  # training time of the processes before this one
    entropy: EntropyMode | None  # what moves SAC's α
    old_curves: Path | None  # where those went that were here before
    started: float = field(default_factory=time.monotonic)

    @property
    def wall_seconds(self) -> float:
        """Training time of the whole run, interruptions left out."""
        return self.earlier_seconds + time.monotonic() - self.started

    def state(self) -> dict[str, Any]:
        """What a training state holds beside the model's own."""
        return {
            "identity": self.settings.identity(),
            "wall_seconds": self.wall_seconds,
            "entropy": self.entropy.state() if self.entropy else {},
        }


def _complete(settings: TrainSettings, paths: RunPaths) -> Metadata | None:
    """What is there already, if that is what a resumed run would make."""
    if not settings.run.resume or _state_path(paths).exists():
        return None
    return finished(settings)


def finished(settings: TrainSettings) -> Metadata | None:
    """The metadata of this very training, if its checkpoint is there and whole."""
    checkpoint = RunPaths.of(settings).checkpoint
    metadata = _metadata_of_old(checkpoint)
    if metadata is None or not _is_of(metadata, settings) or not checkpoint.exists():
        return None
    intact = artifacts.sha256_of(checkpoint) == metadata.checkpoint_sha256
    return metadata if intact and metadata.steps_done >= settings.run.total_steps else None


def can_resume(settings: TrainSettings) -> bool:
    """Whether there is an unfinished run, and it is this very training."""
    path = _state_path(RunPaths.of(settings))
    try:
        return path.exists() and training_state.identity(path) == settings.identity()
    except UsageError:
        return False


def _start(
    settings: TrainSettings, paths: RunPaths, device: str, make_env: MakeEnv, engine: Engine
) -> _Session:
    """Build everything, afresh or as a saved state left it."""
    stamp = _stamp_of_old(paths)
    state = _saved_state(settings, paths, stamp)
    print(_headline(settings, device), *preflight.remarks(settings, device), sep="\n")
    run = settings.run
    model = build(settings, device, make_env, engine)
    old_curves = _move_old_curves(paths, stamp) if state is None else None
    seconds = state["wall_seconds"] if state else 0.0
    done = state["counters"]["num_timesteps"] if state else 0
    model.set_logger(curves.make_logger(settings, done, lambda: gradient_steps(model), seconds))
    entropy = entropy_mode(settings, preflight.planned_steps(settings))
    if state and entropy:
        entropy.restore(state["entropy"])
    if state:
        exact = training_state.restore(model, state)
        print(f"resuming at {done:,} of {run.total_steps:,} steps")
        if not exact:
            print(f"WARN: the state of {settings.env_id} cannot be saved: new episodes begin")
    resumed = state is not None
    return _Session(
        settings, paths, engine, model, model.env, resumed, seconds, entropy, old_curves
    )


def _headline(settings: TrainSettings, device: str) -> str:
    """What begins, in one line."""
    run, her = settings.run, " with HER" if settings.her else ""
    environments = f"{run.n_envs} environment{'s' * (run.n_envs > 1)}"
    how = f"engine {run.engine}, recipe {run.recipe}, {environments}, {device}"
    return f"{settings.algo}{her} on {settings.env_id}: {how}"


def _stamp_of_old(paths: RunPaths) -> str:
    """When the last run here ended, or now if it never did: one stamp for all that it left."""
    unfinished = _state_path(paths).exists()
    old = None if unfinished else _metadata_of_old(paths.checkpoint)
    return file_stamp(old.created_at if old else None)


def _saved_state(settings: TrainSettings, paths: RunPaths, stamp: str) -> dict[str, Any] | None:
    """The state to go on from, if that is asked for and there is one."""
    path = _state_path(paths)
    for half_written in paths.resume.glob("*.tmp"):
        half_written.unlink()
    if settings.run.resume:
        if not path.exists():
            print(f"no unfinished run in {paths.resume}: starting from the first step")
            return None
        state = training_state.read(path)
        _require_same_settings(settings.identity(), state["identity"])
        return state
    moved = artifacts.move_aside(path, _previous(paths) / paths.resume.name, stamp)
    if moved:
        print(f"starting afresh: the unfinished run found here went to {moved}")
    return None


def _state_path(paths: RunPaths) -> Path:
    return paths.resume / "state.pt"


def _previous(paths: RunPaths) -> Path:
    return paths.checkpoint.parent / "previous"


def _require_same_settings(asked: dict[str, Any], saved: dict[str, Any]) -> None:
    for name, value in asked.items():
        if saved.get(name) != value:
            raise UsageError(
                f"the unfinished run had {options.flag_of(name)} {saved.get(name)}, not {value}; "
                "give the same flags, or start afresh without --resume"
            )


def _move_old_curves(paths: RunPaths, stamp: str) -> Path | None:
    """Move the curves of an earlier run away, so that two never mix; where they went."""
    target = artifacts.unused(paths.logs.parent / "previous" / f"{paths.logs.name}_{stamp}")
    if not _move_logs(paths.logs, target):
        return None
    print(
        f"the curves of an earlier run went to {target} "
        f"(if they were published ones: git checkout -- {paths.logs})"
    )
    return target


def _put_back_old_curves(session: _Session) -> None:
    """Move the curves of a diverged run away, and put the earlier ones back."""
    if session.old_curves is None:
        return
    logs, old = session.paths.logs, session.old_curves
    diverged = artifacts.unused(old.with_name(f"{old.name}_diverged"))
    _move_logs(logs, diverged)
    _move_logs(old, logs)
    old.rmdir()
    print(f"the curves of the earlier run are back in {logs}, those that diverged in {diverged}")


def _move_logs(source: Path, target: Path) -> bool:
    """Whether there was anything to move."""
    entries = [entry for entry in source.iterdir() if entry.suffix != ".lock"]
    for entry in entries:
        artifacts.move_aside(entry, target, "")
    return bool(entries)


def _learn(session: _Session) -> int | None:
    """Train to the end; the signal, if one came too late to stop anything."""
    model, run = session.model, session.settings.run
    off_policy = isinstance(model, OffPolicyAlgorithm)
    planned = preflight.planned_steps(session.settings)
    watchers: list[BaseCallback] = [session.entropy] if session.entropy else []
    keys = [key for key in run.monitor_keywords if key != "is_success"]  # logged anyhow
    watchers += [EpisodeInfo(keys)] if keys else []
    if off_policy:
        watchers.append(Diagnostician(session.engine.diagnose, session.settings.rollout_steps))
    with (
        closing(session.env),
        closing(model.logger),
        closing(model) if isinstance(model, Overlapped) else nullcontext(),
        stop_requests() as stop,
        Progress(planned, "steps", model.num_timesteps, enabled=run.progress) as progress,
        _divergence_told(model),
    ):
        model.learn(
            run.total_steps - model.num_timesteps,
            callback=[
                StateKeeper(_state_path(session.paths), run.checkpoint_freq, stop, session.state),
                ProgressReporter(progress),
                *watchers,
            ],
            log_interval=4 * run.n_envs if off_policy else 1,  # in episodes, or in rollouts
            reset_num_timesteps=not session.resumed,  # it would reset the environments too
        )
        if isinstance(model, OffPolicyAlgorithm):
            model.dump_logs()
    return stop.signum


class _DivergenceError(UsageError):
    """The weights are no numbers any more."""


@contextmanager
def _divergence_told(model: BaseAlgorithm) -> Iterator[None]:
    """Say so when weights are not numbers any more, instead of publishing them."""
    try:
        yield
    except ValueError:  # what distributions and environments raise on such actions
        _require_sound(model)
        raise
    _require_sound(model)


def _require_sound(model: BaseAlgorithm) -> None:
    if tensors.have_diverged(model.policy.parameters()):
        raise _DivergenceError(
            f"the training diverged: after {model.num_timesteps:,} steps its weights are beyond "
            "all bounds, and no checkpoint was written; give a smaller --learning-rate"
        )


def _publish(session: _Session) -> Metadata:
    """Write checkpoint and metadata; another experiment's are moved out of the way first."""
    paths = session.paths

    def make_room() -> None:
        old = _metadata_of_old(paths.checkpoint)
        if old and _is_of(old, session.settings):
            return
        stamp = file_stamp(old.created_at if old else None)
        for path in (paths.checkpoint, paths.metadata):
            moved = artifacts.move_aside(path, _previous(paths), stamp)
            if moved:
                print(f"{path.name} was made with other settings: it went to {moved}")

    metadata = checkpoints.save(
        session.engine.export(session.settings, session.model),
        paths.checkpoint,
        lambda sha256: _describe(session, sha256),
        make_room,
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


def _is_of(metadata: Metadata, settings: TrainSettings) -> bool:
    """Whether a checkpoint was made with these settings."""
    made_with = vars(metadata) | metadata.hyperparameters
    return all(made_with.get(name) == value for name, value in settings.identity().items())


def _resolved(model: BaseAlgorithm, asked: dict[str, Any]) -> dict[str, Any]:
    """What Stable-Baselines3 made of `auto`."""
    if asked.get("target_entropy") != "auto":
        return {}
    assert isinstance(model, SAC)
    return {"target_entropy_resolved": float(model.target_entropy)}


def _describe(session: _Session, sha256: str) -> Metadata:
    model, run = session.model, session.settings.run
    seconds, updates = session.wall_seconds, gradient_steps(model)
    identity = session.settings.identity()
    asked = session.settings.flat_hyperparameters()
    return Metadata(
        **{name: value for name, value in identity.items() if name not in asked},
        steps_done=model.num_timesteps,
        hyperparameters=hyperparameters(model) | asked | _resolved(model, asked),
        chapter=session.settings.chapter,
        run_tag=run.run_tag,
        env_steps=model.num_timesteps,
        gradient_steps=updates,
        update_to_data=updates / model.num_timesteps,
        device=str(model.device),
        device_name=device_name(str(model.device)),
        created_at=utc_now(),
        command=command_line(),
        git=git_state(),
        versions=gather_versions(),
        training=Training(
            wall_seconds=round(seconds, 2),
            steps_per_second=round(model.num_timesteps / seconds, 1),
            final_success_rate=success_rate(model),
        ),
        checkpoint_sha256=sha256,
        run_name=session.settings.name,
        encoder_precision=getattr(model, "encoder_precision", None),
        drawn_by=rendering.chosen_backend() if session.settings.pixels else None,
        **machine(),
    )
