"""The batched environment is Gymnasium-Robotics, bit for bit, whatever steps it."""

import contextlib
import functools
import re
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stable_baselines3 import SAC, HerReplayBuffer
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.utils import set_random_seed

from robotics_rl.envs import fetch_ids, fetch_vector_env, make_env
from robotics_rl.envs.fetch import FetchBatch
from robotics_rl.envs.fetch_vec_env import FetchVecEnv
from robotics_rl.envs.fetch_vector_env import FetchVectorEnv
from robotics_rl.envs.resumable_vec_env import make_vec_env


def assert_equal(one: Any, other: Any, where: str = "") -> None:
    """Equal to the last bit, in value, type and structure; ``where`` names what differs."""
    assert type(one) is type(other), where
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_equal(one[key], other[key], f"{where}/{key}")
    elif isinstance(one, tuple | list) or (isinstance(one, np.ndarray) and one.dtype == object):
        for index, (left, right) in enumerate(zip(one, other, strict=True)):
            assert_equal(left, right, f"{where}/{index}")
    elif isinstance(one, np.ndarray):
        assert one.dtype == other.dtype, where
        np.testing.assert_array_equal(one, other, err_msg=where)
    else:
        assert one == other, where


@functools.cache
def references(env_id: str, n_envs: int) -> list[gym.Env]:
    """Environments to compare with; made once, since compiling the model takes time."""
    return [make_env(env_id, disable_env_checker=True) for _ in range(n_envs)]


def contact_rich(observation: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Actions that chase the object from above, push it about and grasp at it; some too large."""
    towards = observation["achieved_goal"] - observation["observation"][:, :3]
    actions = rng.normal(scale=0.5, size=(len(towards), 4))
    actions[:, :3] += 10 * towards
    return actions.astype(np.float32)


def play_beside(batch: FetchBatch, n_steps: int, seeds: list[int], rng: np.random.Generator) -> int:
    """Step the batch and the environments alike; the number of steps in which an object moved."""
    envs = references(batch.spec.id, batch.n_envs)
    observation = batch.reset_all(seeds)
    expected = [env.reset(seed=seed)[0] for env, seed in zip(envs, seeds, strict=True)]
    assert_equal(observation, stacked(expected), "reset")
    moved = 0
    for number in range(n_steps):
        actions = contact_rich(observation, rng)
        batch.start(actions)
        step = batch.finish()
        results = [env.step(action) for env, action in zip(envs, actions, strict=True)]
        where = f"step {number}"
        assert_equal(step.final_observation, stacked([result[0] for result in results]), where)
        for index, (_, reward, _, truncated, info) in enumerate(results):
            assert_equal(step.rewards[index], reward, f"{where}, reward {index}")
            assert_equal(step.successes[index], info["is_success"], f"{where}, success {index}")
            assert step.truncated[index] == truncated, where
        follow = [
            env.reset()[0] if result[3] else result[0]
            for env, result in zip(envs, results, strict=True)
        ]
        assert_equal(step.observation, stacked(follow), f"{where}, next")
        shift = step.final_observation["achieved_goal"] - observation["achieved_goal"]
        moved += int((np.abs(shift) > 1e-3).any(axis=1).sum())
        observation = step.observation
    return moved


def stacked(observations: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {key: np.stack([one[key] for one in observations]) for key in observations[0]}


@pytest.mark.parametrize("env_id", fetch_ids())
def test_twenty_episodes_are_equal_bit_for_bit(env_id: str) -> None:
    batch = FetchBatch(env_id, n_envs=4, n_threads=2)
    moved = play_beside(batch, 5 * 50, [3, 1, 4, 15], np.random.default_rng(0))
    assert moved > 20, "too little contact to prove anything"


@given(
    env_id=st.sampled_from(fetch_ids()),
    n_envs=st.integers(1, 5),
    n_threads=st.integers(1, 3),
    seed=st.integers(0, 2**32 - 6),
)
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_number_of_environments_and_threads_gives_the_same(
    env_id: str, n_envs: int, n_threads: int, seed: int
) -> None:
    batch = FetchBatch(env_id, n_envs, n_threads)
    seeds = list(range(seed, seed + n_envs))
    play_beside(batch, 55, seeds, np.random.default_rng(seed))  # beyond the first time limit
    play_beside(batch, 3, seeds[::-1], np.random.default_rng(seed))  # seeded anew in mid-episode


def test_actions_of_double_precision_are_taken_as_they_are() -> None:
    batch, [env] = FetchBatch("FetchPush-v4", 1), references("FetchPush-v4", 1)
    batch.reset_all([0])
    env.reset(seed=0)
    action = np.array([0.1, 1 / 3, -0.7, 0.3])
    batch.start(action[None])
    assert_equal(batch.finish().observation, stacked([env.step(action)[0]]))


@pytest.mark.parametrize("env_id", ["FetchReach-v4", "FetchPush-v4", "FetchPickAndPlace-v4"])
def test_a_restored_batch_goes_on_bit_for_bit(env_id: str) -> None:
    batch, other = FetchBatch(env_id, 3, 2), FetchBatch(env_id, 3)
    rng, observation = np.random.default_rng(0), batch.reset_all([0, 1, 2])
    for _ in range(20):  # until the gripper is at the object
        batch.start(contact_rich(observation, rng))
        observation = batch.finish().observation
    other.restore(batch.state())
    for number in range(70):
        actions = contact_rich(observation, rng)
        batch.start(actions)
        other.start(actions)
        step = batch.finish()
        assert_equal(vars(step), vars(other.finish()), f"step {number}")
        observation = step.observation


def test_specs_stay_plain_text_and_know_all_eight_vector_environments() -> None:
    for env_id in fetch_ids():
        assert "robotics_rl" in gym.spec(env_id).to_json()
        venv = gym.make_vec(env_id, num_envs=2, vectorization_mode="vector_entry_point")
        assert isinstance(venv, FetchVectorEnv)
        assert venv.spec.id == env_id
    with pytest.raises(AttributeError):
        fetch_vector_env.FetchNothing  # noqa: B018


def test_only_what_make_vec_gives_by_default_is_ours() -> None:
    with contextlib.closing(gym.make_vec("FetchReach-v4")) as ours:
        assert isinstance(ours, FetchVectorEnv)
    with contextlib.closing(gym.make_vec("FetchReach-v4", vectorization_mode="sync")) as theirs:
        assert type(theirs) is gym.vector.SyncVectorEnv
        assert theirs.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP


def test_the_gymnasium_face_equals_a_sync_vector_env() -> None:
    ours = gym.make_vec("FetchPush-v4", num_envs=3, vectorization_mode="vector_entry_point")
    theirs = gym.make_vec(
        "FetchPush-v4",
        num_envs=3,
        vectorization_mode="sync",
        vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP},
    )
    assert ours.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    assert_equal(ours.reset(seed=5), theirs.reset(seed=5))
    rng = np.random.default_rng(0)
    for _ in range(110):
        actions = rng.uniform(-1, 1, size=(3, 4)).astype(np.float32)
        assert_equal(ours.step(actions), theirs.step(actions))
    ours.close()
    theirs.close()


def gymnasium_face(**given: Any) -> FetchVectorEnv:
    return FetchVectorEnv("FetchReach-v4", **{"num_envs": 2} | given)


def sb3_face(n_envs: int = 2, **given: Any) -> FetchVecEnv:
    return FetchVecEnv("FetchReach-v4", n_envs, seed=0, **given)


both_faces = pytest.mark.parametrize("make", [gymnasium_face, sb3_face])


@both_faces
@pytest.mark.parametrize("shape", [(), (4,), (1, 4), (2, 1), (2, 3), (5, 4), (2, 4, 1)])
def test_actions_of_another_shape_are_refused(
    make: Callable[[], Any], shape: tuple[int, ...]
) -> None:
    with contextlib.closing(make()) as venv:
        venv.reset()
        with pytest.raises(ValueError, match=re.escape(f"{shape}; it must be (2, 4)")):
            venv.step(np.zeros(shape, dtype=np.float32))
        venv.step(np.zeros((2, 4), dtype=np.float32))


@both_faces
def test_actions_that_are_no_numbers_are_refused(make: Callable[[], Any]) -> None:
    actions = np.zeros((2, 4), dtype=np.float32)
    actions[1, 2] = np.nan
    with contextlib.closing(make()) as venv:
        venv.reset()
        with pytest.raises(ValueError, match="NaN"):
            venv.step(actions)


@both_faces
def test_steps_come_after_a_reset_and_before_the_end(make: Callable[[], Any]) -> None:
    with contextlib.closing(make()) as venv:
        with pytest.raises(gym.error.ResetNeeded, match="call reset"):
            venv.step(np.zeros((2, 4)))
        venv.reset()
        venv.step(np.zeros((2, 4)))
    with pytest.raises(gym.error.ClosedEnvironmentError):
        venv.step(np.zeros((2, 4)))


@pytest.mark.parametrize(
    ("make", "given", "says"),
    [
        (gymnasium_face, {"num_envs": 0}, "0 environments; give 1 or more"),
        (gymnasium_face, {"num_envs": -2}, "-2 environments"),
        (gymnasium_face, {"n_threads": 0}, "0 threads"),
        (gymnasium_face, {"max_episode_steps": 0}, "0 steps per episode"),
        (gymnasium_face, {"max_episode_steps": -3}, "-3 steps per episode"),
        (gymnasium_face, {"reward_type": "dense"}, "has sparse rewards"),
        (sb3_face, {"n_envs": 0}, "0 environments"),
        (sb3_face, {"n_threads": 0}, "0 threads"),
    ],
)
def test_faces_refuse_what_cannot_be_stepped(
    make: Callable[..., Any], given: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        make(**given)


@pytest.mark.parametrize("env_id", ["CartPole-v1", "FetchReach-v1", "HandReach-v3", "Nothing-v0"])
def test_only_fetch_tasks_are_batched(env_id: str) -> None:
    for make in (FetchVectorEnv, functools.partial(FetchVecEnv, n_envs=1, seed=0)):
        with pytest.raises(ValueError, match=f"{env_id}.*choose one of: .*FetchPush-v4"):
            make(env_id)


def test_what_cannot_render_says_what_can() -> None:
    with pytest.raises(gym.error.UnsupportedMode, match="vectorization_mode"):
        gym.make_vec("FetchReach-v4", num_envs=2, render_mode="rgb_array")


def test_the_gymnasium_face_resets_everything_with_a_seed_each_or_not_at_all() -> None:
    ours = FetchVectorEnv("FetchReach-v4", num_envs=2)
    for seeds in ([], [1], [1, 2, 3]):
        with pytest.raises(ValueError, match=f"{len(seeds)} seeds for 2 environments"):
            ours.reset(seed=seeds)
    with pytest.raises(ValueError, match="reset_mask"):
        ours.reset(options={"reset_mask": np.array([True, False])})
    assert_equal(ours.reset(seed=[3, 4]), ours.reset(seed=3))
    ours.close()


def test_the_vec_env_face_is_seeded_and_asked_as_a_dummy_vec_env() -> None:
    ours = FetchVecEnv("FetchReach-v4", 2, seed=0)
    theirs = make_vec_env("FetchReach-v4", 2, 0, make_env)
    assert ours.seed(11) == theirs.seed(11) == [11, 12]
    assert_equal(dict(ours.reset()), dict(theirs.reset()))
    assert_equal(dict(ours.reset()), dict(theirs.reset()), "a seed counts once")
    for wrapper in (Monitor, gym.wrappers.ClipAction):
        assert ours.env_is_wrapped(wrapper) == theirs.env_is_wrapped(wrapper)
    assert ours.get_attr("render_mode", [1]) == [None]
    ours.set_attr("distance_threshold", 0.2)
    assert ours.get_attr("distance_threshold") == [0.2, 0.2]
    with pytest.raises(ValueError, match="share distance_threshold"):
        ours.set_attr("distance_threshold", 0.1, indices=[0])
    ours.close()


def test_the_vec_env_face_equals_a_dummy_vec_env() -> None:
    ours = FetchVecEnv("FetchPickAndPlaceDense-v4", 3, seed=7, n_threads=2)
    theirs = make_vec_env("FetchPickAndPlaceDense-v4", 3, 7, make_env)
    assert_equal(dict(ours.reset()), dict(theirs.reset()))
    assert ours.action_space.sample().tolist() == theirs.action_space.sample().tolist()
    rng = np.random.default_rng(0)
    for _ in range(110):
        actions = rng.uniform(-1, 1, size=(3, 4)).astype(np.float32)
        results = [[*env.step(actions)] for env in (ours, theirs)]
        for result in results:
            result[0] = dict(result[0])
            for info in result[3]:
                info.get("episode", {}).pop("t", None)  # seconds
        assert_equal(*results)
    assert ours.get_attr("distance_threshold") == theirs.get_attr("distance_threshold")
    for name in ("goal", "initial_gripper_xpos"):
        assert_equal(ours.get_attr(name), theirs.get_attr(name), name)
    assert_equal(ours.env_method("_get_obs"), theirs.env_method("_get_obs"), "each its own")
    goals = rng.normal(size=(2, 6, 3))
    for left, right in zip(
        ours.env_method("compute_reward", *goals, {}),
        theirs.env_method("compute_reward", *goals, {}),
        strict=True,
    ):
        assert_equal(left, right)


def test_training_on_either_environment_gives_equal_weights() -> None:
    weights = []
    for make in (
        lambda: make_vec_env("FetchPush-v4", 4, 0, make_env),
        lambda: FetchVecEnv("FetchPush-v4", 4, seed=0, n_threads=2),
    ):
        set_random_seed(0)
        model = SAC(
            "MultiInputPolicy",
            make(),
            learning_starts=220,
            batch_size=32,
            buffer_size=2000,
            replay_buffer_class=HerReplayBuffer,
            policy_kwargs={"net_arch": [16]},
            device="cpu",
        )
        model.learn(500)
        assert model._n_updates > 50
        weights.append(model.policy.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
