"""What is stored, for how long, and what can be told of it; a restored store goes on the same."""

from __future__ import annotations

import copy
import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plays import (
    FINISHED,
    HORIZON,
    N_DRAWS,
    N_ENVS,
    N_STEPS,
    STRATEGIES,
    Drawn,
    Play,
    add,
    assert_equal,
    assert_uniform,
    by_hand,
    from_ours,
    make_ours,
    make_theirs,
    numbers,
    outcomes,
    row,
    textbook,
)

from robotics_rl.envs.fetch_vec_env import FetchVecEnv
from robotics_rl.replay.hindsight import Hindsight, HindsightReplay


def every_step(replay: HindsightReplay, n_steps: int) -> set[int]:
    """Numbers of the steps that can be drawn; one in three million is missed."""
    return set(from_ours(replay, 30 * n_steps).numbers)


@given(
    n_envs=st.integers(1, 4),
    horizon=st.integers(1, 6),
    n_blocks=st.integers(2, 4),
    spare=st.integers(0, 23),
    n_episodes=st.integers(1, 9),
    n_running=st.integers(0, 5),
    hindsight=st.sampled_from([None, textbook(k=1), textbook(k=1, keep=0.0)]),
)
@settings(max_examples=40, deadline=None)
def test_what_is_drawn_are_the_newest_episodes_and_the_running_ones_without_hindsight(
    n_envs: int,
    horizon: int,
    n_blocks: int,
    spare: int,
    n_episodes: int,
    n_running: int,
    hindsight: Hindsight | None,
) -> None:
    block = n_envs * horizon
    n_running %= horizon
    achieved = np.random.default_rng(0).normal(size=(n_episodes + 1, n_envs, horizon + 1, 3))
    played = by_hand(achieved)
    n_steps = n_episodes * horizon + n_running
    capacity = n_blocks * block + spare % block
    replay = make_ours(task_of_push(), played, hindsight, capacity, n_steps=n_steps)
    finished = n_episodes * block
    expected = set(range(max(0, finished - (n_blocks - 1) * block), finished))
    if hindsight is None:
        expected |= set(range(finished, finished + n_running * n_envs))
    assert every_step(replay, len(expected)) == expected
    assert len(expected) <= capacity


@functools.cache
def task_of_push() -> FetchVecEnv:
    """For Hypothesis, which does not go well with fixtures."""
    return FetchVecEnv("FetchPush-v4", 1, seed=0)


@pytest.mark.parametrize("n_blocks", [2, 3, 6])
def test_in_mid_episode_the_same_steps_are_left_as_in_sb3(
    push: FetchVecEnv, pushed: Play, n_blocks: int
) -> None:
    capacity = n_blocks * HORIZON * N_ENVS
    theirs = make_theirs(push, pushed, 4, capacity=capacity)
    expected = set(numbers(theirs.actions[theirs.ep_length > 0]))
    replay = make_ours(push, pushed, textbook(), capacity)
    assert every_step(replay, capacity) == expected


@pytest.mark.parametrize(
    ("capacity", "n_steps"),
    [(3000, 20), (3000, 120), (3 * HORIZON * N_ENVS, 5 * HORIZON), (3 * HORIZON * N_ENVS, N_STEPS)],
)
def test_without_hindsight_every_step_stored_is_equally_likely(
    push: FetchVecEnv, pushed: Play, capacity: int, n_steps: int
) -> None:
    replay = make_ours(push, pushed, None, capacity, n_steps=n_steps)
    drawn = from_ours(replay, N_DRAWS)
    oldest = 0 if capacity == 3000 else 3 * HORIZON * N_ENVS
    assert_uniform(drawn.numbers, np.arange(oldest, n_steps * N_ENVS))
    own = row(pushed.before["desired_goal"], drawn.numbers)
    np.testing.assert_array_equal(drawn.goals, own.astype(np.float32))


def test_it_is_ready_with_the_first_step_or_with_hindsight_the_first_episode(
    push: FetchVecEnv, pushed: Play
) -> None:
    for hindsight, first in ((None, 1), (textbook(), HORIZON)):
        assert not make_ours(push, pushed, hindsight, n_steps=first - 1).ready
        assert make_ours(push, pushed, hindsight, n_steps=first).ready
        assert make_ours(push, pushed, hindsight, n_steps=HORIZON + 1).ready


@pytest.mark.parametrize("hindsight", [None, textbook(), textbook(keep=0.1)])
@pytest.mark.parametrize("n_steps", [60, 100, 230])
def test_a_restored_replay_goes_on_bit_for_bit(
    push: FetchVecEnv, pushed: Play, hindsight: Hindsight | None, n_steps: int
) -> None:
    capacity = 3 * HORIZON * N_ENVS  # full after 100 steps, begun anew after 150
    replay = make_ours(push, pushed, hindsight, capacity, n_steps=n_steps)
    replay.sample(100)
    state = copy.deepcopy(replay.state())
    other = make_ours(push, pushed, hindsight, capacity, seed=1, n_steps=0)
    other.restore(state)
    for last in (n_steps, n_steps + 1, n_steps + 40):
        add(replay, pushed, n_steps, last)
        add(other, pushed, n_steps, last)
        n_steps = last
        assert_equal(replay.sample(500), other.sample(500))
        assert replay.moved_rate(6, 0.01) == other.moved_rate(6, 0.01)
        np.testing.assert_array_equal(replay.newest_inputs(), other.newest_inputs())


def test_a_state_holds_no_more_than_was_stored(push: FetchVecEnv, pushed: Play) -> None:
    store = make_ours(push, pushed, n_steps=120).store.state()
    assert len(store["observations"]) == 3 * N_ENVS, "two finished episodes, and a running one"


def test_an_episode_counts_as_moved_by_how_far_the_goal_got(push: FetchVecEnv) -> None:
    resting, away_and_back = [0, 0, 0, 0], [0, 0.03, 0, 0]
    creeping, too_little = [0, 0.01, 0.02, 0.03], [0, 0.01, -0.015, 0]
    pairs = [(resting, too_little), (away_and_back, creeping), (creeping, resting)]
    pairs.append((creeping, creeping))  # still running
    achieved = np.ones((4, 2, 4, 3))
    achieved[..., 1] += np.array(pairs)
    played = by_hand(achieved)
    assert make_ours(push, played, n_steps=2).moved_rate(4, 0.02) is None
    replay = make_ours(push, played, n_steps=11)
    rates = {n: replay.moved_rate(n, 0.02) for n in (2, 4, 6, 100)}
    assert rates == {2: 1 / 2, 4: 3 / 4, 6: 3 / 6, 100: 3 / 6}
    assert replay.moved_rate(6, 0.005) == 4 / 6
    assert make_ours(push, played, capacity=12, n_steps=11).moved_rate(100, 0.02) == 1 / 2


@pytest.mark.parametrize("strategy", [None, *STRATEGIES])
@pytest.mark.parametrize("capacity", [3000, 3 * HORIZON * N_ENVS])
def test_newest_inputs_are_the_last_episodes_with_own_goals_and_others(
    reach: FetchVecEnv, reached: Play, strategy: str | None, capacity: int
) -> None:
    hindsight = textbook(strategy) if strategy else None
    replay = make_ours(reach, reached, hindsight, capacity, n_steps=5 * HORIZON)
    inputs = replay.newest_inputs()
    newest, size = FINISHED[-HORIZON * N_ENVS :], HORIZON * N_ENVS
    assert inputs.shape == ((2 if hindsight else 1) * size, 6 + 10)
    assert inputs.dtype == np.float32
    names = ("achieved_goal", "desired_goal", "observation")
    expected = np.concatenate([row(reached.before[name], newest) for name in names], axis=1)
    expected = expected.astype(np.float32)
    by_content = dict(zip(map(bytes, expected), newest, strict=True))
    which = np.array([by_content[bytes(one)] for one in inputs[:size]])
    assert sorted(which) == list(newest), "each once"
    if hindsight:
        others = inputs[size:]
        seen = np.r_[0:3, 6:16]  # all but the goal
        np.testing.assert_array_equal(others[:, seen], inputs[:size, seen])
        found = outcomes(reached, Drawn(which, others[:, 3:6]))
        steps = reached.steps(which)
        assert strategy != "future" or (found >= steps).all()
        assert strategy != "final" or (found == HORIZON - 1).all()
        assert strategy != "episode" or (found < steps).any()
