"""Frames stored once give, to the bit, the batches of stacks stored whole."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np
import pytest
from films import (
    FUTURE,
    HINDSIGHTS,
    SMALL,
    Film,
    assert_as_shown,
    assert_draws,
    assert_equal,
    make,
    numbers,
)
from gymnasium.spaces import Box, Dict
from hypothesis import given, settings
from hypothesis import strategies as st
from image_augmentation import DrQDictReplayBuffer
from pixel_wrapper import PixelReplayBuffer
from scipy import stats

from robotics_rl.errors import UsageError
from robotics_rl.replay.hindsight import Hindsight
from robotics_rl.replay.memory_plan import FrameShape


@given(
    n_envs=st.integers(1, 3),
    horizon=st.integers(1, 6),
    spare=st.integers(0, 3),
    frame_stack=st.integers(1, 4),
    proprioception=st.integers(0, 2),
    n_steps=st.lists(st.integers(1, 15), min_size=1, max_size=3),
    hindsight=st.sampled_from(HINDSIGHTS),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_batches_are_those_of_whole_stacks_of_the_newest_finished_episodes(
    n_envs: int,
    horizon: int,
    spare: int,
    frame_stack: int,
    proprioception: int,
    n_steps: list[int],
    hindsight: Hindsight | None,
    seed: int,
) -> None:
    shape = FrameShape(n_envs, horizon, (3, 2, 1), frame_stack, proprioception, 3, 2)
    n_slots = 2 * n_envs + spare
    replay, film = make(shape, n_slots, hindsight), Film(shape, n_slots, seed)
    for count in n_steps:
        film.play(replay.store, count)
        assert_draws(replay, film, film.steps_of(film.finished))


def test_before_the_first_episode_ended_it_says_so_and_refuses() -> None:
    replay, film = make(), Film(SMALL, 7, shortest=5)
    film.play(replay.store, 4)
    assert not replay.ready
    with pytest.raises(UsageError, match=r"no episode has ended yet .* --learning-starts"):
        replay.sample(1)
    film.play(replay.store, 1)
    assert replay.ready
    assert_as_shown(replay.sample(10), film, FUTURE)


def test_every_step_is_equally_likely_and_so_is_every_later_outcome() -> None:
    shape = replace(SMALL, frame=(1, 1, 1), frame_stack=1)
    replay, film = make(shape, 12, Hindsight("future", 1.0)), Film(shape, 12)
    film._look = moving(film)  # type: ignore[method-assign]
    film.play(replay.store, 60)
    batch = replay.sample(40_000)
    expected = {}
    every = film.steps_of(film.finished)
    for number in every:
        one = film.transitions[number]
        n_outcomes = len(film.outcomes[one.episode])
        for outcome in range(one.step, n_outcomes):
            expected[number, outcome] = 40_000 / len(every) / (n_outcomes - one.step)
    found = dict.fromkeys(expected, 0)
    for number, goal in zip(numbers(batch), batch.desired_goals, strict=True):
        outcomes = np.array(film.outcomes[film.transitions[number].episode])
        found[number, int((outcomes == goal).all(axis=1).argmax())] += 1
    assert len({len(film.outcomes[episode]) for episode in film.finished}) > 2, "lengths differ"
    assert stats.chisquare(list(found.values()), list(expected.values())).pvalue > 1e-4


def moving(film: Film) -> Any:
    """No two goals are alike, so a goal tells which outcome it was."""
    look = film._look
    return lambda before: look({k: v for k, v in before.items() if k != "achieved_goal"})


def test_no_trivial_goal_is_left_where_none_is_kept() -> None:
    for keep in (0.0, 1.0):
        replay, film = make(hindsight=Hindsight("future", 0.8, keep)), Film(SMALL, 7, shortest=3)
        film.play(replay.store, 40)
        batch = replay.sample(1000)
        is_trivial = (batch.achieved_goals == batch.desired_goals).all(axis=1)[:800]
        assert is_trivial.any() == (keep == 1)


def test_a_batch_is_one_array_of_bytes_and_owns_what_it_holds() -> None:
    replay, film = make(), Film(SMALL, 7)
    film.play(replay.store, 30)
    batch = replay.sample(50)
    assert batch.windows.shape == (50, 5 * 3, 2, 2)
    assert batch.windows.dtype == np.uint8
    assert batch.windows.flags.c_contiguous
    for part in vars(batch).values():
        if isinstance(part, np.ndarray):
            part[:] = 0
    assert_draws(replay, film, film.steps_of(film.finished))


def test_equal_seeds_give_equal_batches() -> None:
    one, same, other = (make(seed=seed) for seed in (7, 7, 8))
    for replay in (one, same, other):
        Film(SMALL, 7).play(replay.store, 30)
    first = one.sample(40)
    assert_equal(first, same.sample(40))
    assert not np.array_equal(first.actions, other.sample(40).actions)
    assert not np.array_equal(first.actions, one.sample(40).actions)


def test_newest_frames_alone_are_stored_as_whole_stacks_are() -> None:
    whole, alone = make(), make()
    Film(SMALL, 7).play(whole.store, 20)
    film = Film(SMALL, 7)
    for _ in range(20):
        before, *others, after = film.step()
        before, after = (one | {"pixels": one["pixels"][:, -3:]} for one in (before, after))
        alone.store.add(before, *others, after)
    assert_equal(whole.sample(40), alone.sample(40))


def test_stacks_are_those_that_the_lab_s_buffer_keeps_whole() -> None:
    replay, film = make(hindsight=None), Film(SMALL, 7)
    lab = PixelReplayBuffer((SMALL.frame_stack * 3, 2, 2), SMALL.goal, SMALL.action, capacity=100)
    for _ in range(40):
        before, actions, rewards, dones, after = film.step()
        replay.store.add(before, actions, rewards, dones, after)
        for env in range(SMALL.n_envs):
            seen, came = before["pixels"][env], after["pixels"][env]
            goal = before["desired_goal"][env]
            lab.add(seen, goal, actions[env], rewards[env], came, dones[env])
    batch = replay.sample(200)
    rows = numbers(batch)  # the lab's buffer keeps steps in the order of their numbers
    for name in ("pixels", "next_pixels", "actions", "rewards"):
        assert np.array_equal(getattr(batch, name), lab.columns[name][rows].numpy()), name
    assert np.array_equal(batch.desired_goals, lab.columns["goals"][rows].numpy())


def test_stacks_are_those_that_the_lab_s_dictionary_buffer_gives() -> None:
    shape = replace(SMALL, n_envs=1)
    replay, film = make(shape, hindsight=None), Film(shape, 7)
    sizes = {"proprioception": shape.proprioception, "achieved_goal": 3, "desired_goal": 3}
    parts: dict[str, Any] = {name: Box(-np.inf, np.inf, (n,)) for name, n in sizes.items()}
    seen = Dict({"pixels": Box(0, 255, (shape.frame_stack * 3, 2, 2), np.uint8), **parts})
    acts = Box(-np.inf, np.inf, (shape.action,))
    lab = DrQDictReplayBuffer(100, seen, acts, aug_fn=lambda images: images)
    for _ in range(40):
        before, actions, rewards, dones, after = film.step()
        replay.store.add(before, actions, rewards, dones, after)
        lab.add(before, after, actions, rewards, dones, [{}])
    batch = replay.sample(200)
    drawn: Any = lab._get_samples  # of given rows, in place of random ones
    with mock.patch.object(lab, "_get_samples", lambda _, env: drawn(numbers(batch), env)):
        theirs = lab.sample(200)
    for ours, name in (("pixels", "pixels"), ("proprioception", "proprioception"),
                       ("achieved_goals", "achieved_goal")):  # fmt: skip
        assert np.array_equal(getattr(batch, ours), theirs.observations[name]), name
        after_ours = getattr(batch, f"next_{ours}")
        assert np.array_equal(after_ours, theirs.next_observations[name]), name
    assert np.array_equal(batch.desired_goals, theirs.observations["desired_goal"])
    assert np.array_equal(batch.rewards, theirs.rewards[:, 0])


def test_episodes_that_the_environments_broke_off_are_forgotten() -> None:
    replay, film = make(), Film(SMALL, 7, shortest=5)
    film.play(replay.store, 8)
    replay.store.drop_running()
    film.running = [None, None]
    film.play(replay.store, 40)
    assert_draws(replay, film, film.steps_of(film.finished))


def test_an_episode_beyond_its_horizon_is_an_error_and_not_another_ones_frame() -> None:
    replay, film = make(), Film(replace(SMALL, horizon=6), 7, shortest=6)
    film.play(replay.store, 5)
    with pytest.raises(ValueError, match="goes on after its 5 steps"):
        film.play(replay.store, 1)
