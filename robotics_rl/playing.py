"""Play fixed episodes with a policy or a baseline, and measure them."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.utils import set_random_seed

from robotics_rl.envs import Env
from robotics_rl.progress import Progress
from robotics_rl.provenance import command_line, git_state, utc_now
from robotics_rl.schemas import Aggregate, Episode, Evaluation
from robotics_rl.statistics import wilson_interval
from robotics_rl.versions import gather_versions
from robotics_rl.video import Recorder

Array = NDArray[np.floating[Any]]


class Actor(Protocol):
    """Whatever acts: a Stable-Baselines3 policy or a baseline."""

    def predict(self, observation: Any, *, deterministic: bool) -> tuple[Any, Any]:
        """Action for one observation; the second value is unused."""


class DoNothing:
    """The floor that every policy must beat: all-zero actions.

    Some episodes start solved, so its success rate is not 0.
    """

    def __init__(self, env: Env) -> None:
        self._action = np.zeros_like(env.action_space.sample())

    def predict(self, observation: Any, *, deterministic: bool) -> tuple[Any, None]:
        """The zero action."""
        return self._action, None


class Random:
    """Uniformly random actions."""

    def __init__(self, env: Env) -> None:
        self._space = env.action_space

    def predict(self, observation: Any, *, deterministic: bool) -> tuple[Any, None]:
        """A sample of the action space, which each episode seeds."""
        return self._space.sample(), None


BASELINES: dict[str, Callable[[Env], Actor]] = {"do-nothing": DoNothing, "random": Random}


@dataclass(frozen=True)
class Subject:
    """Who is evaluated, for the record."""

    algo: str
    checkpoint: str | None = None
    checkpoint_sha256: str | None = None
    training_seed: int | None = None


def play(
    actor: Actor,
    env: Env,
    seeds: Sequence[int],
    subject: Subject,
    *,
    deterministic: bool = True,
    device: str = "cpu",
    show_progress: bool = True,
    recorder: Recorder | None = None,
) -> Evaluation:
    """Play one episode per reset seed.

    Args:
        actor: who acts.
        env: one environment with a time limit; the same seeds give the same start for everybody.
        seeds: reset seeds, one per episode.
        subject: goes into the document.
        deterministic: act without exploration noise.
        device: where the policy computes, for the record.
        show_progress: tell how far it is.
        recorder: looks at the environment after reset and after every step.

    Returns:
        The document to write as JSON.
    """
    started = time.monotonic()
    episodes: list[Episode] = []
    with Progress(len(seeds), "episodes", enabled=show_progress) as progress:
        for index, seed in enumerate(seeds):
            set_random_seed(seed)  # the noise of a stochastic policy
            env.action_space.seed(seed)
            look = partial(recorder.look, env, index) if recorder else None
            episodes.append(_play_episode(actor, env, seed, deterministic, look))
            progress.update(index + 1)
    seconds = time.monotonic() - started
    return Evaluation(
        algo=subject.algo,
        env_id=env.spec.id if env.spec else type(env.unwrapped).__name__,
        checkpoint=subject.checkpoint,
        checkpoint_sha256=subject.checkpoint_sha256,
        n_episodes=len(seeds),
        seeds=list(seeds),
        deterministic=deterministic,
        device=device,
        created_at=utc_now(),
        command=command_line(),
        git=git_state(),
        versions=gather_versions(),
        training_seed=subject.training_seed,
        wall_seconds=round(seconds, 2),
        steps_per_second=round(sum(episode.length for episode in episodes) / seconds, 1),
        aggregate=aggregate(episodes),
        per_episode=episodes,
    )


def _play_episode(
    actor: Actor, env: Env, seed: int, deterministic: bool, look: Callable[[], None] | None
) -> Episode:
    observation, _ = env.reset(seed=seed)
    started_solved = _is_solved(env, observation)
    if look:
        look()
    rewards: list[float] = []
    actions: list[Array] = []
    successes: list[bool | None] = []
    over = False
    while not over:
        action, _ = actor.predict(observation, deterministic=deterministic)
        observation, reward, terminated, truncated, info = env.step(action)
        if look:
            look()
        rewards.append(float(reward))
        actions.append(np.asarray(action, dtype=np.float64))
        successes.append(bool(info["is_success"]) if "is_success" in info else None)
        over = terminated or truncated
    moves = np.diff(actions, axis=0)
    return Episode(
        seed=seed,
        return_=sum(rewards),
        length=len(rewards),
        success=successes[-1],
        success_any_step=None if successes[-1] is None else any(successes),
        started_solved=started_solved,
        final_distance=_distance(observation),
        time_to_success=successes.index(True) + 1 if True in successes else None,
        action_smoothness=float(np.sum(moves**2)),
        action_max_abs=float(np.max(np.abs(actions))),
    )


def _distance(observation: Any) -> float | None:
    if not isinstance(observation, dict):
        return None
    return float(np.linalg.norm(observation["achieved_goal"] - observation["desired_goal"]))


def _is_solved(env: Env, observation: Any) -> bool | None:
    threshold = getattr(env.unwrapped, "distance_threshold", None)
    distance = _distance(observation)
    return None if threshold is None or distance is None else distance < threshold


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
