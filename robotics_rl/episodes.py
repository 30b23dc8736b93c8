"""Episodes from fixed starts, played by a policy or a baseline, and what is measured of each."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.utils import set_random_seed

from robotics_rl.envs import Env
from robotics_rl.schemas import Episode
from robotics_rl.video import Recorder

Array = NDArray[np.floating[Any]]

SIDE_BY_SIDE = 50  # simulations that are stepped together


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


def one_by_one(
    actor: Actor,
    env: Env,
    seeds: Sequence[int],
    *,
    deterministic: bool = True,
    recorder: Recorder | None = None,
) -> Iterator[Episode]:
    """Play one episode after the other.

    Args:
        actor: who acts.
        env: one environment with a time limit; the same seeds give the same start for everybody.
        seeds: reset seeds, one per episode.
        deterministic: act without exploration noise.
        recorder: looks at the environment after reset and after every step.
    """
    for index, seed in enumerate(seeds):
        set_random_seed(seed)  # the noise of a stochastic policy
        env.action_space.seed(seed)
        look = partial(recorder.look, env, index) if recorder else lambda: None
        yield _play(actor, env, seed, deterministic, look)


def _play(
    actor: Actor, env: Env, seed: int, deterministic: bool, look: Callable[[], None]
) -> Episode:
    observation, _ = env.reset(seed=seed)
    trace = _Trace(seed, observation, getattr(env.unwrapped, "distance_threshold", None))
    look()
    over = False
    while not over:
        action, _ = actor.predict(observation, deterministic=deterministic)
        observation, reward, terminated, truncated, info = env.step(action)
        look()
        trace.add(action, float(reward), info.get("is_success"))
        over = terminated or truncated
    return trace.episode(observation)


def side_by_side(
    actor: Actor,
    env_id: str,
    seeds: Sequence[int],
    n_threads: int,
    make_batch: Callable[[str, int, int], Any] | None = None,
    tapes: list[Array] | None = None,
) -> Iterator[Episode]:
    """Play the episodes of a Fetch task many at a time, with a policy that acts without noise.

    A policy computes many actions at once a little differently from one at a time (in the last
    bits), so it is always asked for equally many: an episode depends on its seed alone.

    Args:
        actor: who acts; takes batches.
        env_id: one of the eight Fetch ids.
        seeds: reset seeds, one per episode.
        n_threads: threads that step.
        make_batch: makes what is stepped of id, number and threads; a ``FetchBatch`` where None.
        tapes: gets the actions of every episode, (length, n_actions).
    """
    from robotics_rl.envs.fetch import FetchBatch  # loads MuJoCo

    n_envs = min(SIDE_BY_SIDE, len(seeds))
    with closing((make_batch or FetchBatch)(env_id, n_envs, n_threads)) as batch:
        for first in range(0, len(seeds), batch.n_envs):
            some = seeds[first : first + batch.n_envs]
            rows = range(len(some))
            observation = batch.reset_all([*some, *([0] * (batch.n_envs - len(some)))])
            starts = [{key: part[row] for key, part in observation.items()} for row in rows]
            traces = [
                _Trace(seed, start, batch.task.distance_threshold)
                for seed, start in zip(some, starts, strict=True)
            ]
            for _ in range(batch.max_episode_steps):
                padded = {key: _padded(part) for key, part in observation.items()}
                actions = actor.predict(padded, deterministic=True)[0][: batch.n_envs]
                batch.start(actions)
                step = batch.finish()
                observation = step.final_observation
                for row, trace in enumerate(traces):
                    trace.add(actions[row], float(step.rewards[row]), step.successes[row])
            for row, trace in enumerate(traces):
                if tapes is not None:
                    tapes.append(np.array(trace.actions, dtype=actions.dtype))
                yield trace.episode({key: part[row] for key, part in observation.items()})


def _padded(rows: Array) -> Array:
    missing = (SIDE_BY_SIDE - len(rows), *rows.shape[1:])
    return np.concatenate([rows, np.zeros(missing, dtype=rows.dtype)])


@dataclass
class _Trace:
    """What an episode leaves, step by step."""

    seed: int
    start: Any  # observation
    threshold: float | None  # metres within which a goal is achieved
    rewards: list[float] = field(default_factory=list)
    actions: list[Array] = field(default_factory=list)
    successes: list[bool | None] = field(default_factory=list)

    def add(self, action: Any, reward: float, success: Any) -> None:
        self.rewards.append(reward)
        self.actions.append(np.array(action, dtype=np.float64))
        self.successes.append(None if success is None else bool(success))

    def episode(self, end: Any) -> Episode:
        """Everything measured, given the last observation."""
        successes = self.successes
        return Episode(
            seed=self.seed,
            return_=sum(self.rewards),
            length=len(self.rewards),
            success=successes[-1],
            success_any_step=None if successes[-1] is None else any(successes),
            started_solved=self._started_solved(),
            final_distance=_distance(end),
            time_to_success=successes.index(True) + 1 if True in successes else None,
            action_smoothness=float(np.sum(np.diff(self.actions, axis=0) ** 2)),
            action_max_abs=float(np.max(np.abs(self.actions))),
        )

    def _started_solved(self) -> bool | None:
        distance = _distance(self.start)
        return None if self.threshold is None or distance is None else distance < self.threshold


def _distance(observation: Any) -> float | None:
    if not isinstance(observation, dict):
        return None
    return float(np.linalg.norm(observation["achieved_goal"] - observation["desired_goal"]))
