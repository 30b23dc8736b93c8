"""Evaluate: one verb from a checkpoint, or the name of a baseline, to a JSON of results."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robotics_rl import artifacts, checkpoints, config, envs
from robotics_rl.config import EvalSettings
from robotics_rl.devices import resolve_device
from robotics_rl.envs import Env
from robotics_rl.episodes import BASELINES, Actor, Array, one_by_one, side_by_side
from robotics_rl.errors import UsageError
from robotics_rl.learners.pixels import Eyes, MakeVision
from robotics_rl.pixel_options import were_of_pictures
from robotics_rl.playing import Subject, play
from robotics_rl.provenance import usable_cores
from robotics_rl.schemas import Episode, Evaluation, Metadata
from robotics_rl.video import Recorder, write_mp4


def evaluate(
    settings: EvalSettings,
    seeds: Sequence[int],
    *,
    chapter: str | None = None,
    make_vision: MakeVision | None = None,
) -> tuple[Evaluation, Path]:
    """Play the episodes, write the result (and a video), and say where.

    Args:
        settings: what to evaluate and where to write.
        seeds: one reset seed per episode.
        chapter: prefix of the result's name; the one in the checkpoint's metadata if None.
        make_vision: what policies see with that were trained on pictures.

    Returns:
        The result and the path of its JSON.

    Raises:
        UsageError: it cannot be carried out, and nothing was written; or the video could not be
            written, and the result was.
    """
    player = Player.of(settings, make_vision)
    env_id = player.env_id
    recorder = Recorder(settings.n_video_episodes if settings.video else 0)
    deterministic = settings.deterministic and settings.baseline != "random"
    together = _side_by_side(settings, env_id)
    with closing(player.env):
        outputs = _Outputs.of(settings, player.metadata, player.subject, env_id, chapter)
        _say_how(settings, together=together)
        if together:
            episodes = player.side_by_side(seeds)
        else:
            episodes = one_by_one(
                player.actor, player.env, seeds, deterministic=deterministic, recorder=recorder
            )
        result = play(
            episodes,
            len(seeds),
            player.subject,
            env_id=env_id,
            engine="fast" if together else "sb3",
            deterministic=deterministic,
            device=player.device,
            show_progress=settings.progress,
        )
    same = ("algo", "env_id", "checkpoint_sha256", "seeds", "deterministic")
    artifacts.keep_other(outputs.result, "evaluation", artifacts.has_same(result, *same))
    artifacts.write_json(outputs.result, result)
    if outputs.video:
        write_mp4(outputs.video, recorder.frames)
        print(f"OK: wrote {outputs.video}")
    return result, outputs.result


@dataclass(frozen=True)
class Player:
    """Who plays, and where."""

    actor: Actor
    subject: Subject
    metadata: Metadata | None
    env: Env
    env_id: str
    eyes: Eyes | None  # what a policy sees with that was trained on pictures
    device: str

    @classmethod
    def of(cls, settings: EvalSettings, make_vision: MakeVision | None) -> "Player":
        """The baseline, or the policy loaded from its checkpoint.

        Raises:
            UsageError: there is none, or it cannot be played.
        """
        device = resolve_device(settings.device)
        metadata = _metadata(settings)
        env_id = settings.env or (metadata.env_id if metadata else None)
        if env_id is None:
            raise UsageError("the environment is not known; name it with --env")
        eyes = _eyes(settings, metadata, make_vision)
        env = envs.make_env(env_id, render_mode="rgb_array" if settings.video else None)
        with ExitStack() as refused:
            refused.callback(env.close)
            if env.spec is None or env.spec.max_episode_steps is None:
                raise UsageError(
                    f"{env_id} has no time limit, so an episode may never end; choose another"
                )
            actor, subject = _actor(settings, env, device, eyes)
            refused.pop_all()
        return cls(actor, subject, metadata, env, env_id, eyes, device)

    def side_by_side(
        self, seeds: Sequence[int], tapes: list[Array] | None = None
    ) -> Iterator[Episode]:
        """Play the episodes of a Fetch task many at a time; ``tapes`` gets their actions."""
        make_batch = self.eyes.make_batch if self.eyes else None
        return side_by_side(self.actor, self.env_id, seeds, usable_cores(), make_batch, tapes)


def _eyes(
    settings: EvalSettings, metadata: Metadata | None, make_vision: MakeVision | None
) -> Eyes | None:
    """What a policy sees with that was trained on pictures; None of any other."""
    values: dict[str, Any] = metadata.hyperparameters if metadata else {}
    if not were_of_pictures(values):
        return None
    if make_vision is None:
        raise UsageError(f"{settings.ckpt} sees pictures; use: python eval.py --ckpt …")
    if settings.video or settings.engine != "fast" or not settings.deterministic:
        raise UsageError(
            f"{settings.ckpt} sees pictures, and such policies are played side by side and without "
            "noise; leave out --video, --engine and --no-deterministic (to film it, use "
            "scripts/generate_demo_videos.py)"
        )
    return Eyes(make_vision, values)


def _say_how(settings: EvalSettings, *, together: bool) -> None:
    if settings.engine == "fast" and settings.ckpt and not together:
        print("engine sb3: fast plays Fetch tasks, without noise and without a video")


def _side_by_side(settings: EvalSettings, env_id: str) -> bool:
    """Whether many episodes can be played at once: Fetch, a policy without noise, no pictures."""
    return (
        config.engine_for(env_id) == "fast"
        and settings.engine == "fast"
        and settings.deterministic
        and not (settings.video or settings.baseline)
    )


@dataclass(frozen=True)
class _Outputs:
    """Where the evaluation writes; both folders are known to be writable."""

    result: Path
    video: Path | None

    @classmethod
    def of(
        cls,
        settings: EvalSettings,
        metadata: Metadata | None,
        subject: Subject,
        env_id: str,
        chapter: str | None,
    ) -> "_Outputs":
        name = _name(settings, metadata, subject, env_id)
        tag = settings.run_tag or (metadata.run_tag if metadata else None)
        chapter = chapter or (metadata.chapter if metadata else None)
        if metadata and metadata.run_name:
            chapter = None  # it is part of the name
        path = artifacts.evaluation_path(settings.results_dir, tag, chapter, name)
        result = Path(settings.json_out or path)
        stem = _checkpoint(settings).stem if settings.ckpt else f"{subject.algo}_{env_id}"
        video = Path(settings.video_out or Path("videos", tag or "", f"{stem}.mp4"))
        artifacts.require_file(result)
        if settings.video:
            artifacts.require_file(video)
        return cls(result, video if settings.video else None)


def _metadata(settings: EvalSettings) -> Metadata | None:
    if settings.ckpt is None:
        return None
    return checkpoints.inspect(_checkpoint(settings), trust_pickle=settings.trust_pickle)


def _checkpoint(settings: EvalSettings) -> Path:
    assert settings.ckpt is not None
    return artifacts.existing_checkpoint(Path(settings.ckpt))


def _actor(
    settings: EvalSettings, env: Env, device: str, eyes: Eyes | None
) -> tuple[Actor, Subject]:
    if settings.baseline:
        actor = BASELINES[settings.baseline](env)
        return actor, Subject(algo=settings.baseline.replace("-", "_"))
    checkpoint = _checkpoint(settings)
    loaded = checkpoints.load_policy(
        checkpoint,
        eyes.space(env) if eyes else env.observation_space,
        env.action_space,
        algo=settings.algo,
        device=device,
        trust_pickle=settings.trust_pickle,
        build=eyes.build if eyes else None,
    )
    if loaded.warning:
        print(f"WARN: {loaded.warning}")
    seed = loaded.metadata.seed if loaded.metadata else None
    return loaded.policy, Subject(loaded.algo, checkpoint.as_posix(), loaded.sha256, seed)


def _name(settings: EvalSettings, metadata: Metadata | None, subject: Subject, env_id: str) -> str:
    if settings.ckpt and metadata is None:
        return _checkpoint(settings).stem
    if metadata and metadata.run_name:
        return f"{metadata.run_name}_{env_id}_seed{metadata.seed}"
    run_name = subject.algo + ("_her" if metadata and metadata.her else "")
    return artifacts.evaluation_name(run_name, env_id, subject.training_seed)
