"""Hindsight experience replay (Andrychowicz et al. 2017) that leaves out what teaches nothing.

A relabelled goal that was achieved before the step already says nothing about the action. Where an
object has to be pushed, nearly all goals of early episodes are of this kind, as the object has not
moved. ``trivial_goal_keep`` is the share of them that is kept; 1 is the textbook's method.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from robotics_rl.replay.episodes import Array, EpisodeStore, Indices

Floats = NDArray[np.float32]
MOVED_DISTANCE = 0.02  # metres by which an achieved goal counts as moved
_ROUNDS = 16  # of drawing goals, before trivial ones are taken because there are no others


@dataclass(frozen=True)
class Hindsight:
    """How goals are chosen.

    Attributes:
        strategy: ``future``: achieved in the same episode after the step (the step's own outcome
            included, with replacement), ``final``: at its end, ``episode``: anywhere in it.
        relabelled: share of a batch that gets such goals; k of them per real one are k / (k + 1).
        trivial_goal_keep: probability with which an already achieved goal is kept.
    """

    strategy: str = "future"
    relabelled: float = 0.8
    trivial_goal_keep: float = 1.0


@dataclass(frozen=True)
class Batch:
    """Transitions to learn from; float32, first axis the batch.

    Inputs are achieved goal, desired goal and observation side by side: the order in which
    Stable-Baselines3's ``MultiInputPolicy`` joins the entries of a dictionary.
    """

    inputs: Floats
    actions: Floats
    rewards: Floats
    next_inputs: Floats


@dataclass(frozen=True)
class Draw:
    """Steps of episodes, and the goals they are seen with."""

    slots: Indices
    steps: Indices
    goals: Array  # (n, goal), metres


class GoalStore(Protocol):
    """Where goals are drawn from."""

    achieved_goals: Array  # (slots, steps + 1, goal), metres
    desired_goals: Array  # (slots, goal), metres

    def newest(self, n_episodes: int) -> Indices:
        """Slots of the last finished episodes: ``n_episodes``, or as many as there are."""

    def drop_running(self) -> None:
        """Forget the running episodes: the environments have begun new ones."""

    def state(self) -> dict[str, Any]:
        """Exact state; arrays are not copied."""

    def restore(self, state: Mapping[str, Any]) -> int:
        """Counterpart of ``state``; returns how many transitions are lost."""

    def close(self) -> None:
        """Let another run have what it keeps on disk."""


class HindsightDraws(ABC):
    """Draws steps of episodes and the goals they are seen with, whatever else is stored of them.

    Args:
        store: the episodes.
        reward: the environment's own ``compute_reward``, on batches of goals.
        threshold: distance in metres up to which a goal counts as achieved.
        rng: random stream of every draw.
        hindsight: how goals are chosen; None leaves every step its own goal.
    """

    def __init__(
        self,
        store: GoalStore,
        reward: Callable[[Array, Array, Any], Array],
        threshold: float,
        rng: np.random.Generator,
        hindsight: Hindsight | None = None,
    ) -> None:
        self.store, self.hindsight = store, hindsight
        self._reward, self._threshold, self._rng = reward, threshold, rng

    @property
    @abstractmethod
    def ready(self) -> bool:
        """Whether there is anything to draw."""

    @abstractmethod
    def sample(self, batch_size: int) -> Any:
        """A batch: relabelled transitions first, then those with their own goals."""

    @abstractmethod
    def _draw_steps(self, count: int) -> tuple[Indices, Indices]:
        """Slots and steps, each step as likely as any other."""

    @abstractmethod
    def _lengths(self, slots: Indices) -> Indices | int:
        """Steps of the finished episodes in these slots."""

    def peek(self, batch_size: int) -> Any:
        """A batch to look at: training goes on as if it had not been drawn."""
        stream = self._rng.bit_generator.state
        batch = self.sample(batch_size)
        self._rng.bit_generator.state = stream
        return batch

    def moved_rate(self, n_episodes: int, distance: float = MOVED_DISTANCE) -> float | None:
        """Share of the newest episodes whose achieved goal moved by more than ``distance`` metres.

        It rises well before success does, and tells failed exploration from slow learning.
        """
        slots = self.store.newest(n_episodes)
        if len(slots) == 0:
            return None
        achieved = self.store.achieved_goals[slots]
        moved = np.linalg.norm(achieved - achieved[:, :1], axis=-1) > distance
        happened = np.arange(moved.shape[1]) <= np.reshape(self._lengths(slots), (-1, 1))
        return float(np.mean((moved & happened).any(axis=1)))

    def state(self) -> dict[str, Any]:
        """Exact state; the arrays of the store are not copied."""
        return {"store": self.store.state(), "rng": self._rng.bit_generator.state}

    def restore(self, state: Mapping[str, Any]) -> int:
        """Counterpart of ``state``; returns how many transitions are lost."""
        self._rng.bit_generator.state = dict(state["rng"])
        return self.store.restore(state["store"])

    def n_relabelled(self, batch_size: int) -> int:
        """How many of a batch get goals in hindsight."""
        return int(self.hindsight.relabelled * batch_size) if self.hindsight else 0

    def draw(self, batch_size: int) -> Draw:
        """What a batch is made of: relabelled steps first, then those with their own goals."""
        draws = []
        n_relabelled = self.n_relabelled(batch_size)
        if n_relabelled:
            draws.append(self.draw_relabelled(n_relabelled))
        if n_relabelled < batch_size:
            slots, steps = self._draw_steps(batch_size - n_relabelled)
            draws.append(Draw(slots, steps, self.store.desired_goals[slots]))
        return _join(draws)

    def draw_relabelled(self, count: int) -> Draw:
        """Random steps of finished episodes with goals chosen in hindsight.

        Of pairs whose goal is achieved already, ``trivial_goal_keep`` stay; others are drawn for
        the rest. Where too few are found in many draws, trivial goals fill the batch.
        """
        assert self.hindsight is not None
        keep = self.hindsight.trivial_goal_keep
        if keep == 1:
            return self.relabel(*self._draw_steps(count))
        kept: list[Draw] = []
        missing = count
        for _ in range(_ROUNDS):
            # Most are thrown away at first, few later on: a few times too many saves rounds.
            drawn = self.relabel(*self._draw_steps(4 * count))
            stays = ~self.is_trivial(drawn) | (self._rng.random(4 * count) < keep)
            kept.append(_some(drawn, np.flatnonzero(stays)[:missing]))
            missing -= len(kept[-1].slots)
            if missing == 0:
                break
        else:
            kept.append(self.relabel(*self._draw_steps(missing)))
        return _join(kept)

    def relabel(self, slots: Indices, steps: Indices) -> Draw:
        """The same steps with goals that their episodes achieved."""
        assert self.hindsight is not None
        lengths = self._lengths(slots)
        match self.hindsight.strategy:
            case "future":
                outcomes = self._rng.integers(steps, lengths)
            case "final":
                outcomes = np.full_like(steps, lengths - 1)
            case "episode":
                outcomes = self._rng.integers(0, lengths, size=len(steps))
        return Draw(slots, steps, self.store.achieved_goals[slots, outcomes + 1])

    def is_trivial(self, draw: Draw) -> NDArray[np.bool_]:
        """Whether the goal is achieved before the step."""
        away = self.store.achieved_goals[draw.slots, draw.steps] - draw.goals
        return np.einsum("ij,ij->i", away, away) <= self._threshold**2  # type: ignore[no-any-return]


class HindsightReplay(HindsightDraws):
    """Batches from an ``EpisodeStore``, equal in distribution to Stable-Baselines3's buffers.

    Args: those of ``HindsightDraws``.
    """

    store: EpisodeStore

    @property
    def ready(self) -> bool:
        """Whether there is anything to draw: with hindsight a finished episode."""
        return self.store.n_finished > 0 or (self.hindsight is None and self.store.step > 0)

    def sample(self, batch_size: int) -> Batch:
        """A batch: relabelled transitions first, then those with their own goals."""
        drawn = self.draw(batch_size)
        achieved_next = self.store.achieved_goals[drawn.slots, drawn.steps + 1]
        return Batch(
            inputs=self.inputs(drawn),
            actions=self.store.actions[drawn.slots, drawn.steps],
            rewards=np.asarray(self._reward(achieved_next, drawn.goals, {}), dtype=np.float32),
            next_inputs=self.inputs(Draw(drawn.slots, drawn.steps + 1, drawn.goals)),
        )

    def inputs(self, draw: Draw) -> Floats:
        """What networks see at these steps."""
        shape = self.store.shape
        inputs = np.empty((len(draw.slots), 2 * shape.goal + shape.observation), dtype=np.float32)
        inputs[:, : shape.goal] = self.store.achieved_goals[draw.slots, draw.steps]
        inputs[:, shape.goal : 2 * shape.goal] = draw.goals
        inputs[:, 2 * shape.goal :] = self.store.observations[draw.slots, draw.steps]
        return inputs

    def newest_inputs(self) -> Floats:
        """What networks see in the episodes just finished, with their own goals and others."""
        shape = self.store.shape
        slots = np.repeat(self.store.newest(shape.n_envs), shape.horizon)
        steps = np.tile(np.arange(shape.horizon), shape.n_envs)
        draws = [Draw(slots, steps, self.store.desired_goals[slots])]
        if self.hindsight:
            draws.append(self.relabel(slots, steps))
        return np.concatenate([self.inputs(draw) for draw in draws])

    def _draw_steps(self, count: int) -> tuple[Indices, Indices]:
        """Steps, each as likely as any other; with hindsight, of finished episodes only."""
        store, horizon = self.store, self.store.shape.horizon
        n_finished = store.n_finished * horizon
        n_running = 0 if self.hindsight else store.step * store.shape.n_envs
        numbers = self._rng.integers(n_finished + n_running, size=count)
        ages, steps = np.divmod(numbers, horizon)
        slots = store.finished(ages)
        if n_running:
            ongoing = numbers >= n_finished
            places, running_steps = np.divmod(numbers[ongoing] - n_finished, store.step)
            slots[ongoing], steps[ongoing] = store.running[places], running_steps
        return slots, steps

    def _lengths(self, slots: Indices) -> int:
        return self.store.shape.horizon


def _join(draws: Sequence[Draw]) -> Draw:
    names = ("slots", "steps", "goals")
    return Draw(*(np.concatenate([getattr(draw, name) for draw in draws]) for name in names))


def _some(draw: Draw, places: Indices) -> Draw:
    return Draw(draw.slots[places], draw.steps[places], draw.goals[places])
