"""From played episodes to an evaluation: means, intervals, and everything needed to repeat it."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from robotics_rl.progress import Progress
from robotics_rl.provenance import command_line, git_state, utc_now
from robotics_rl.schemas import Aggregate, Episode, Evaluation
from robotics_rl.statistics import wilson_interval
from robotics_rl.versions import gather_versions


@dataclass(frozen=True)
class Subject:
    """Who is evaluated, for the record."""

    algo: str
    checkpoint: str | None = None
    checkpoint_sha256: str | None = None
    training_seed: int | None = None


def play(
    episodes: Iterable[Episode],
    n_episodes: int,
    subject: Subject,
    *,
    env_id: str,
    engine: str = "sb3",
    deterministic: bool = True,
    device: str = "cpu",
    show_progress: bool = True,
) -> Evaluation:
    """Have the episodes played, and put down what came of them.

    Args:
        episodes: played as they are taken, as those of ``robotics_rl.episodes`` are.
        n_episodes: how many there will be.
        subject: goes into the document.
        env_id: Gymnasium id.
        engine: what steps the environments, for the record.
        deterministic: whether the policy acts without exploration noise, for the record.
        device: where the policy computes, for the record.
        show_progress: tell how far it is.

    Returns:
        The document to write as JSON.
    """
    started = time.monotonic()
    played: list[Episode] = []
    with Progress(n_episodes, "episodes", enabled=show_progress) as progress:
        for episode in episodes:
            played.append(episode)
            progress.update(len(played))
    seconds = time.monotonic() - started
    return Evaluation(
        algo=subject.algo,
        env_id=env_id,
        checkpoint=subject.checkpoint,
        checkpoint_sha256=subject.checkpoint_sha256,
        n_episodes=len(played),
        seeds=[episode.seed for episode in played],
        deterministic=deterministic,
        engine=engine,
        device=device,
        created_at=utc_now(),
        command=command_line(),
        git=git_state(),
        versions=gather_versions(),
        training_seed=subject.training_seed,
        wall_seconds=round(seconds, 2),
        steps_per_second=round(sum(episode.length for episode in played) / seconds, 1),
        aggregate=aggregate(played),
        per_episode=played,
    )


def aggregate(episodes: Sequence[Episode]) -> Aggregate:
    """Means and intervals over episodes; None where the environment knows no goals."""
    unsolved = [episode for episode in episodes if episode.started_solved is False]
    starts_known = episodes[0].started_solved is not None
    rate, interval = _rate([episode.success for episode in episodes])
    unsolved_rate, unsolved_interval = _rate([episode.success for episode in unsolved])
    any_step, _ = _rate([episode.success_any_step for episode in episodes])
    returns = [episode.return_ for episode in episodes]
    lengths = [episode.length for episode in episodes]
    distances = [e.final_distance for e in episodes if e.final_distance is not None]
    times = [e.time_to_success for e in episodes if e.time_to_success is not None]
    return Aggregate(
        success_rate=rate,
        success_rate_ci95=interval,
        success_any_step_rate=any_step,
        n_started_solved=len(episodes) - len(unsolved) if starts_known else None,
        success_rate_unsolved_start=unsolved_rate,
        success_rate_unsolved_start_ci95=unsolved_interval,
        return_mean=float(np.mean(returns)),
        return_std=float(np.std(returns)),
        final_distance_mean=float(np.mean(distances)) if distances else None,
        final_distance_std=float(np.std(distances)) if distances else None,
        ep_len_mean=float(np.mean(lengths)),
        ep_len_std=float(np.std(lengths)),
        time_to_success_mean=float(np.mean(times)) if times else None,
        action_smoothness_mean=float(np.mean([e.action_smoothness for e in episodes])),
        action_max_abs_mean=float(np.mean([e.action_max_abs for e in episodes])),
    )


def _rate(outcomes: Sequence[bool | None]) -> tuple[float | None, tuple[float, float] | None]:
    if not outcomes or None in outcomes:
        return None, None
    successes = sum(map(bool, outcomes))
    return successes / len(outcomes), wilson_interval(successes, len(outcomes))
