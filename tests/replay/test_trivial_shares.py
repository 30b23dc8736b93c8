"""Goals that were achieved before the step are drawn as often as asked for, and no others less."""

from __future__ import annotations

import numpy as np
import pytest
from plays import (
    FINISHED,
    HORIZON,
    N_DRAWS,
    STRATEGIES,
    THRESHOLD,
    Array,
    Drawn,
    Play,
    assert_same_distribution,
    assert_share,
    at_the_threshold,
    by_hand,
    from_ours,
    from_theirs,
    make_ours,
    make_theirs,
    outcomes,
    row,
    textbook,
)

from robotics_rl.envs.fetch_vec_env import FetchVecEnv


def trivial(played: Play, drawn: Drawn) -> Array:
    """Which goals were achieved before the step."""
    away = row(played.before["achieved_goal"], drawn.numbers) - drawn.goals
    return np.linalg.norm(away, axis=1) <= THRESHOLD


def trivial_share(played: Play) -> float:
    """Of all pairs of a finished step and a later outcome, weighed as `future` draws them."""
    n_finished = len(played.actions) // played.horizon * played.horizon * played.n_envs
    every = np.arange(n_finished)
    away = played.achieved(every) - row(played.before["achieved_goal"], every)[:, None]
    follows = np.arange(played.horizon) >= played.steps(every)[:, None]
    is_trivial = (np.linalg.norm(away, axis=2) <= THRESHOLD) & follows
    return float(np.mean(is_trivial.sum(axis=1) / follows.sum(axis=1)))


def test_a_goal_is_trivial_where_the_environment_calls_it_achieved(push: FetchVecEnv) -> None:
    played = at_the_threshold(push)
    replay = make_ours(push, played, textbook("final"))
    draw = replay.draw_relabelled(5000)
    achieved = replay.store.achieved_goals[draw.slots, draw.steps]
    expected = push.batch.task.compute_reward(achieved, draw.goals, {}) == 0
    np.testing.assert_array_equal(replay.is_trivial(draw), expected)
    assert 0.1 < expected.mean() < 0.9


def test_keeping_all_trivial_goals_is_the_textbook(push: FetchVecEnv, pushed: Play) -> None:
    share = trivial_share(pushed)
    assert 0.2 < share < 0.8, "nothing to tell apart"
    for drawn in (
        from_ours(make_ours(push, pushed, textbook(keep=1.0)), N_DRAWS),
        from_theirs(make_theirs(push, pushed, 4), N_DRAWS),
    ):
        assert_share(trivial(pushed, drawn.relabelled), share)


@pytest.mark.parametrize("keep", [0.01, 0.1, 0.5, 0.9])
def test_the_share_of_trivial_goals_follows_their_probability(
    push: FetchVecEnv, pushed: Play, keep: float
) -> None:
    drawn = from_ours(make_ours(push, pushed, textbook(keep=keep)), N_DRAWS).relabelled
    share = trivial_share(pushed)
    assert_share(trivial(pushed, drawn), keep * share / (keep * share + 1 - share))


def test_the_share_holds_where_hardly_an_object_moves(push: FetchVecEnv) -> None:
    achieved = np.ones((10, 100, 11, 3))
    achieved[3, ::10, 6:, 1] += 0.2  # in one episode of a hundred, in the sixth step
    played, keep = by_hand(achieved), 0.05  # that of the engine
    share = trivial_share(played)
    assert share > 0.99
    drawn = from_ours(make_ours(push, played, textbook(keep=keep), 20_000), N_DRAWS)
    assert_share(trivial(played, drawn.relabelled), keep * share / (keep * share + 1 - share))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_no_trivial_goal_is_left_where_none_is_kept(
    push: FetchVecEnv, pushed: Play, strategy: str
) -> None:
    drawn = from_ours(make_ours(push, pushed, textbook(strategy, keep=0.0)), N_DRAWS)
    assert not trivial(pushed, drawn.relabelled).any()


def test_the_goals_that_stay_are_distributed_as_before(reach: FetchVecEnv, reached: Play) -> None:
    n_batch, found = 2 * N_DRAWS, []
    for drawn in (
        from_ours(make_ours(reach, reached, textbook(keep=0.0)), n_batch),
        from_theirs(make_theirs(reach, reached, 4), n_batch),
    ):
        stays = drawn.relabelled[~trivial(reached, drawn.relabelled)]
        found.append((stays.numbers, outcomes(reached, stays) - reached.steps(stays.numbers)))
    ((ours_numbers, ours_offsets), (theirs_numbers, theirs_offsets)) = found
    assert_same_distribution(ours_numbers, theirs_numbers, len(FINISHED))
    assert_same_distribution(ours_offsets, theirs_offsets, HORIZON)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("keep", [0.0, 0.001])
def test_trivial_goals_fill_the_batch_where_there_are_no_others(
    push: FetchVecEnv, keep: float
) -> None:
    resting = by_hand(np.ones((3, 2, 11, 3)))
    replay = make_ours(push, resting, textbook(keep=keep))
    for batch_size in (1, 256, 1000):
        drawn = from_ours(replay, batch_size)
        np.testing.assert_array_equal(drawn.relabelled.goals, 1)
