"""What the tests of the frame replay share: random films, and naive storage of what they show."""

from __future__ import annotations

import copy
import sys
from collections import deque
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robotics_rl import artifacts
from robotics_rl.replay.frames import FrameBatch, FrameReplay, FrameStore
from robotics_rl.replay.hindsight import Hindsight
from robotics_rl.replay.memory_plan import FrameShape

Array = NDArray[Any]
FUTURE = Hindsight("future", 0.8)
HINDSIGHTS = [None, FUTURE, Hindsight("final", 0.5), Hindsight("episode", 0.8, 0.1)]
SMALL = FrameShape(2, 5, (3, 2, 2), 4, proprioception=2, goal=3, action=2)
PAGED = replace(SMALL, frame=(3, 16, 16))  # an episode covers more than a page of a file
BOOK = FrameShape(4, 50, (3, 84, 84), 4, proprioception=10, goal=3, action=4)


@dataclass(frozen=True)
class Shown:
    """A transition as naive storage keeps it, with both stacks whole."""

    episode: int
    step: int
    pixels: Array
    next_pixels: Array
    proprioception: Array
    next_proprioception: Array
    achieved_goals: Array
    next_achieved_goals: Array
    desired_goals: Array
    actions: Array
    rewards: np.float32


SAME = ["pixels", "next_pixels", "proprioception", "next_proprioception"]
SAME += ["achieved_goals", "next_achieved_goals", "actions"]


class Film:
    """Environments that show random things and end when they like, and naive storage of it all.

    The last action of a transition is its number.
    """

    def __init__(self, shape: FrameShape, n_slots: int, seed: int = 0, shortest: int = 1) -> None:
        self.shape, self.n_slots, self.shortest = shape, n_slots, shortest
        self.rng = np.random.default_rng(seed)
        self.transitions: list[Shown] = []
        self.outcomes: list[list[Array]] = []  # of each episode
        self.finished: deque[int] = deque()  # episodes that a ring of whole ones still has
        self.running: list[int | None] = [None] * shape.n_envs
        self.now: list[dict[str, Array]] = [{} for _ in range(shape.n_envs)]
        self.left = [0] * shape.n_envs  # steps of the running episodes

    def copy(self) -> Film:
        """What was shown is shared, what will be is not."""
        other = copy.copy(self)
        other.rng = copy.deepcopy(self.rng)
        for name in ("transitions", "finished", "running", "now", "left"):
            setattr(other, name, copy.copy(getattr(self, name)))
        other.outcomes = [list(outcomes) for outcomes in self.outcomes]
        return other

    def play(self, store: FrameStore, n_steps: int) -> None:
        for _ in range(n_steps):
            store.add(*self.step())

    def step(self) -> tuple[dict[str, Array], Array, Array, Array, dict[str, Array]]:
        for env, episode in enumerate(self.running):
            if episode is None:
                self._begin(env)
        before, shape = self.now, self.shape
        self.now = [self._look(one) for one in before]
        first = len(self.transitions)
        actions = self.rng.normal(size=(shape.n_envs, shape.action)).astype(np.float32)
        actions[:, -1] = np.arange(first, first + shape.n_envs)
        rewards = self.rng.normal(size=shape.n_envs).astype(np.float32)
        for env, (old, new) in enumerate(zip(before, self.now, strict=True)):
            self._record(env, old, new, actions[env], rewards[env])
        dones = np.array(self.left) == 0
        for env in np.flatnonzero(dones):
            self.finished.append(self.running[env])
            self.running[env] = None
        return stacked(before), actions, rewards, dones, stacked(self.now)

    def steps_of(self, episodes: Any) -> set[int]:
        """Numbers of all transitions of these episodes."""
        wanted = set(episodes)
        return {n for n, shown in enumerate(self.transitions) if shown.episode in wanted}

    def _begin(self, env: int) -> None:
        if len(self.finished) + sum(one is not None for one in self.running) == self.n_slots:
            self.finished.popleft()
        self.running[env] = len(self.outcomes)
        self.outcomes.append([])
        self.left[env] = int(self.rng.integers(self.shortest, self.shape.horizon + 1))
        first = self._look({"pixels": np.zeros((0, *self.shape.frame[1:]), np.uint8)})
        first["pixels"] = np.concatenate([first["pixels"]] * self.shape.frame_stack)
        self.now[env] = first | {"desired_goal": self._numbers(self.shape.goal)}

    def _look(self, before: dict[str, Array]) -> dict[str, Array]:
        frame = self.rng.integers(256, size=self.shape.frame, dtype=np.uint8)
        kept = before["pixels"][self.shape.frame[0] :]  # the oldest frame goes
        rests = "achieved_goal" in before and self.rng.random() < 0.5
        achieved = before["achieved_goal"] if rests else self._numbers(self.shape.goal)
        return before | {
            "pixels": np.concatenate([kept, frame]),
            "proprioception": self._numbers(self.shape.proprioception),
            "achieved_goal": achieved,
        }

    def _numbers(self, size: int) -> Array:
        return self.rng.normal(size=size).astype(np.float32)

    def _record(self, env: int, old: Any, new: Any, action: Array, reward: np.float32) -> None:
        episode = self.running[env]
        assert episode is not None
        parts = [old["pixels"], new["pixels"], old["proprioception"], new["proprioception"]]
        parts += [old["achieved_goal"], new["achieved_goal"], old["desired_goal"], action, reward]
        self.transitions.append(Shown(episode, len(self.outcomes[episode]), *parts))
        self.outcomes[episode].append(new["achieved_goal"])
        self.left[env] -= 1


def stacked(observations: list[dict[str, Array]]) -> dict[str, Array]:
    return {key: np.stack([one[key] for one in observations]) for key in observations[0]}


def reward_of(achieved: Array, goals: Array, _: Any) -> Array:
    return -np.abs(achieved - goals).max(axis=-1)


def make(
    shape: FrameShape = SMALL,
    n_slots: int = 7,
    hindsight: Hindsight | None = FUTURE,
    path: Path | None = None,
    seed: int = 0,
) -> FrameReplay:
    store = FrameStore(n_slots * shape.horizon + shape.horizon - 1, shape, path)
    assert len(store.lengths) == n_slots
    return FrameReplay(store, reward_of, 1e-6, np.random.default_rng(seed), hindsight)


def numbers(batch: FrameBatch) -> Array:
    return np.rint(batch.actions[:, -1]).astype(int)


def assert_as_shown(batch: FrameBatch, film: Film, hindsight: Hindsight | None) -> None:
    shown = [film.transitions[number] for number in numbers(batch)]
    n_relabelled = int(hindsight.relabelled * len(shown)) if hindsight else 0
    for name in SAME:
        expected = np.stack([getattr(one, name) for one in shown])
        np.testing.assert_array_equal(getattr(batch, name), expected, err_msg=name, strict=True)
    for name in ("desired_goals", "rewards"):
        expected = np.stack([getattr(one, name) for one in shown])[n_relabelled:]
        found = getattr(batch, name)[n_relabelled:]
        np.testing.assert_array_equal(found, expected, err_msg=name, strict=True)
    goals = batch.desired_goals[:n_relabelled]
    expected = reward_of(batch.next_achieved_goals[:n_relabelled], goals, {})
    np.testing.assert_array_equal(batch.rewards[:n_relabelled], expected, strict=True)
    for one, goal in zip(shown[:n_relabelled], goals, strict=True):
        assert hindsight is not None
        outcomes = np.array(film.outcomes[one.episode])
        first = {"future": one.step, "final": len(outcomes) - 1, "episode": 0}[hindsight.strategy]
        assert (outcomes[first:] == goal).all(axis=1).any(), "a goal it did not achieve then"


def assert_equal(one: FrameBatch, other: FrameBatch) -> None:
    for name, part in vars(one).items():
        np.testing.assert_array_equal(part, getattr(other, name), err_msg=name, strict=True)


def assert_draws(replay: FrameReplay, film: Film, expected: set[int]) -> None:
    """These transitions can be drawn, as they were, and no others."""
    assert replay.ready == bool(expected)
    if expected:
        batch = replay.sample(30 * len(expected))  # one in ten billion is missed
        assert set(numbers(batch)) == expected
        assert_as_shown(batch, film, replay.hindsight)


def play_for_ever(path: Path) -> None:
    """What a process does until it is killed; it tells the state it saved, then a zero byte."""
    replay, film = make(PAGED, path=path), Film(PAGED, 7, shortest=2)
    film.play(replay.store, 30)
    sys.stdout.write(artifacts.to_json(replay.state()) + "\0")
    sys.stdout.flush()
    while True:
        film.play(replay.store, 1)
