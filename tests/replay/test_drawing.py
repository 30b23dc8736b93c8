"""Our replay draws what Stable-Baselines3's HER buffer would have drawn from the same episodes."""

from __future__ import annotations

import numpy as np
import pytest
from plays import (
    FINISHED,
    HORIZON,
    N_DRAWS,
    STRATEGIES,
    Play,
    assert_equal,
    assert_same_distribution,
    assert_share,
    assert_uniform,
    from_ours,
    from_theirs,
    is_equal,
    make_ours,
    make_theirs,
    outcomes,
    row,
    textbook,
)

from robotics_rl.envs.fetch_vec_env import FetchVecEnv
from robotics_rl.replay.hindsight import Hindsight


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5, 8, 19])
def test_the_share_relabelled_is_exactly_that_of_sb3(
    push: FetchVecEnv, pushed: Play, k: int
) -> None:
    ours, theirs = make_ours(push, pushed, textbook(k=k)), make_theirs(push, pushed, k)
    for batch_size in (1, 2, 3, 7, 20, 64, 100, 256, 1000):
        for drawn in (from_ours(ours, batch_size), from_theirs(theirs, batch_size)):
            # The target was never reached to the bit, so a goal is the episode's own or is not.
            own = row(pushed.before["desired_goal"], drawn.numbers).astype(drawn.goals.dtype)
            relabelled = (drawn.goals != own).any(axis=1)
            assert relabelled.sum() == k * batch_size // (k + 1)
            assert not relabelled[k * batch_size // (k + 1) :].any()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_steps_and_outcomes_are_paired_as_in_sb3(
    reach: FetchVecEnv, reached: Play, strategy: str
) -> None:
    found = []
    ours = make_ours(reach, reached, textbook(strategy))
    theirs = make_theirs(reach, reached, 4, strategy)
    n_batch = N_DRAWS * 5 // 4
    for drawn in (from_ours(ours, n_batch).relabelled, from_theirs(theirs, n_batch).relabelled):
        found.append((reached.steps(drawn.numbers), outcomes(reached, drawn)))
    ((ours_steps, ours_outcomes), (theirs_steps, theirs_outcomes)) = found
    assert_same_distribution(
        ours_outcomes - ours_steps + HORIZON, theirs_outcomes - theirs_steps + HORIZON, 2 * HORIZON
    )
    assert_same_distribution(
        ours_steps * HORIZON + ours_outcomes, theirs_steps * HORIZON + theirs_outcomes, HORIZON**2
    )


def test_the_outcome_of_the_step_itself_is_drawn_too(reach: FetchVecEnv, reached: Play) -> None:
    drawn = from_ours(make_ours(reach, reached, textbook()), N_DRAWS).relabelled
    share = np.mean(1 / np.arange(1, HORIZON + 1))
    assert_share(outcomes(reached, drawn) == reached.steps(drawn.numbers), share)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_finished_step_is_equally_likely_as_in_sb3(
    push: FetchVecEnv, pushed: Play, strategy: str
) -> None:
    ours = from_ours(make_ours(push, pushed, textbook(strategy, 1)), 2 * N_DRAWS)
    theirs = from_theirs(make_theirs(push, pushed, 1, strategy), 2 * N_DRAWS)
    for drawn in (ours, theirs):
        assert_uniform(drawn.numbers[:N_DRAWS], FINISHED)  # relabelled
        assert_uniform(drawn.numbers[N_DRAWS:], FINISHED)


@pytest.mark.parametrize("hindsight", [None, *map(textbook, STRATEGIES), textbook(keep=0.1)])
def test_equal_seeds_give_equal_batches(
    push: FetchVecEnv, pushed: Play, hindsight: Hindsight | None
) -> None:
    one, same, other = (make_ours(push, pushed, hindsight, seed=seed) for seed in (7, 7, 8))
    np.random.seed(0)
    first = one.sample(100)
    np.random.seed(1)  # no other stream matters
    assert_equal(first, same.sample(100))
    assert_equal(one.sample(100), same.sample(100))
    assert not is_equal(first, other.sample(100))
    assert not is_equal(first, one.sample(100))
