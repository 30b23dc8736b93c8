"""A batch is made of stored transitions as Stable-Baselines3 makes it, and so are its rewards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from plays import (
    HORIZON,
    STRATEGIES,
    Array,
    Drawn,
    Play,
    at_the_threshold,
    make_ours,
    make_theirs,
    numbers,
    outcomes,
    row,
    textbook,
)
from stable_baselines3 import SAC

from robotics_rl.envs.fetch_vec_env import FetchVecEnv
from robotics_rl.replay.hindsight import Hindsight


@dataclass
class Rewarder:
    """The environment's reward; remembers the goals, in their full precision."""

    task: Any

    def __call__(self, achieved: Array, goals: Array, info: Any) -> Array:
        self.achieved, self.goals = achieved, goals
        return self.task.compute_reward(achieved, goals, info)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("task", ["push", "reach"])
def test_rewards_are_the_environments_bit_for_bit(
    request: pytest.FixtureRequest, task: str, strategy: str
) -> None:
    env = request.getfixturevalue(task)
    played: Play = request.getfixturevalue({"push": "pushed", "reach": "reached"}[task])
    rewarder = Rewarder(env.batch.task)
    batch = make_ours(env, played, textbook(strategy), reward=rewarder).sample(5000)
    which, own = numbers(batch.actions), slice(4000, None)
    outcomes(played, Drawn(which[:4000], rewarder.goals[:4000]))  # float64, as they were
    np.testing.assert_array_equal(
        rewarder.goals[own], row(played.before["desired_goal"], which)[own], strict=True
    )
    achieved = row(played.after["achieved_goal"], which)
    [expected] = env.env_method("compute_reward", achieved, rewarder.goals, {}, indices=[0])
    np.testing.assert_array_equal(batch.rewards, expected.astype(np.float32), strict=True)
    np.testing.assert_array_equal(batch.rewards[own], row(played.rewards, which)[own], strict=True)
    assert len(np.unique(batch.rewards)) > 1


def test_rewards_at_the_threshold_are_those_of_double_precision(push: FetchVecEnv) -> None:
    played = at_the_threshold(push)
    rewarder = Rewarder(push.batch.task)
    batch = make_ours(push, played, textbook("final", 1), reward=rewarder).sample(20_000)
    single = rewarder.task.compute_reward(
        rewarder.achieved.astype(np.float32), rewarder.goals.astype(np.float32), {}
    )
    own = np.arange(20_000) >= 10_000
    for part in (own, ~own):  # single precision would get many of both kinds wrong
        assert (single != batch.rewards)[part].mean() > 0.1
    theirs = make_theirs(push, played, 1, "final").sample(20_000)  # own goals first
    for ours_part, theirs_part in ((own, ~own), (~own, own)):
        rewards: dict[int, float] = dict(
            zip(
                numbers(theirs.actions)[theirs_part],
                theirs.rewards.numpy()[theirs_part, 0],
                strict=True,
            )
        )
        assert len(rewards) == 512, "every step"
        expected = [rewards[number] for number in numbers(batch.actions)[ours_part]]
        np.testing.assert_array_equal(batch.rewards[ours_part], expected)


@pytest.mark.parametrize("hindsight", [None, textbook()])
def test_batches_are_what_the_policys_own_extractor_makes_of_stored_transitions(
    push: FetchVecEnv, pushed: Play, hindsight: Hindsight | None
) -> None:
    rewarder = Rewarder(push.batch.task)
    batch = make_ours(push, pushed, hindsight, reward=rewarder).sample(5000)
    which = numbers(batch.actions)
    assert set(pushed.steps(which)) == set(range(HORIZON)), "the last step included"
    actor = SAC("MultiInputPolicy", push, policy_kwargs={"net_arch": [8]}, buffer_size=99).actor
    for inputs, side in ((batch.inputs, pushed.before), (batch.next_inputs, pushed.after)):
        parts = {key: row(part, which) for key, part in side.items()}
        parts["desired_goal"] = rewarder.goals
        tensors = {key: torch.from_numpy(part) for key, part in parts.items()}
        expected = actor.extract_features(tensors, actor.features_extractor).numpy()
        np.testing.assert_array_equal(inputs, expected, strict=True)
    np.testing.assert_array_equal(batch.actions, row(pushed.actions, which), strict=True)
    np.testing.assert_array_equal(batch.inputs[:, 3:6], batch.next_inputs[:, 3:6])


def test_no_step_is_terminal_in_sb3_so_ours_need_not_say(push: FetchVecEnv, pushed: Play) -> None:
    assert not make_theirs(push, pushed, 4).sample(5000).dones.any()
