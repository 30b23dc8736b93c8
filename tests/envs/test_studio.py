"""Simulations that are drawn in processes of their own show what one batch shows."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from numpy.typing import NDArray

from robotics_rl.envs import make_env
from robotics_rl.envs.fetch import Step
from robotics_rl.envs.fetch_vec_env import FetchVecEnv
from robotics_rl.envs.pixels import PixelBatch, View
from robotics_rl.envs.studio import PROPRIOCEPTION, Studio, _felt, pixel_space

Array = NDArray[Any]
Observation = dict[str, Array]

PUSH, REACH = "FetchPush-v4", "FetchReach-v4"
N_ENVS, N_STEPS, LAST = 3, 53, 49  # LAST: of the steps of an episode, from 0
VIEW = View(size=24, frame_stack=3, camera="close")
ACTIONS = np.random.default_rng(0).uniform(-1, 1, (N_STEPS, N_ENVS, 4)).astype(np.float32)
SEEDS = [3, 1, 4]


class Play(NamedTuple):
    """What was seen at the beginning and after each step; ``known`` has one more than ``steps``."""

    first: Observation
    steps: list[Step]
    known: list[Observation]


def play(studio: Studio) -> Play:
    first, known, steps = studio.reset_all(SEEDS), [studio.known], []
    for actions in ACTIONS:
        steps.append(one_step(studio, actions))
        known.append(studio.known)
    return Play(first, steps, known)


def one_step(studio: Studio, actions: Array) -> Step:
    studio.start(actions)
    return studio.finish()


def batch_play() -> tuple[Observation, list[Step]]:
    """The same of a batch in a process that can draw."""
    batch = PixelBatch(PUSH, N_ENVS, VIEW)
    first = batch.reset_all(SEEDS)
    steps = [batch.step(actions) for actions in ACTIONS]
    batch.close()
    return first, steps


def newest(observation: Observation) -> Array:
    return observation["pixels"][:, -3:]


def plain(steps: list[Step]) -> list[dict[str, Any]]:
    return [vars(step) for step in steps]


@pytest.fixture(scope="module")
def studio() -> Iterator[Studio]:
    studio = Studio(PUSH, N_ENVS, 1, VIEW)
    yield studio
    studio.close()


@pytest.fixture(scope="module")
def shared_studio() -> Iterator[Studio]:
    studio = Studio(PUSH, N_ENVS, 2, VIEW)
    yield studio
    studio.close()


@pytest.fixture(scope="module")
def played(studio: Studio) -> Play:
    return play(studio)


def test_any_number_of_processes_shows_the_same(shared_studio: Studio, played: Play) -> None:
    assert len(shared_studio._workers) == 2
    other = play(shared_studio)
    np.testing.assert_equal(other.first, played.first)
    np.testing.assert_equal(plain(other.steps), plain(played.steps))
    np.testing.assert_equal(other.known, played.known)


def test_it_shows_and_knows_what_a_batch_shows(there: Callable[..., Any], played: Play) -> None:
    first, steps = there(batch_play)
    np.testing.assert_array_equal(newest(played.first), first["pixels"], strict=True)
    for number, (step, expected) in enumerate(zip(played.steps, steps, strict=True)):
        for name in ("observation", "final_observation"):
            seen, whole = getattr(step, name), getattr(expected, name)
            np.testing.assert_array_equal(newest(seen), whole["pixels"], strict=True)
            for goal in ("achieved_goal", "desired_goal"):
                np.testing.assert_array_equal(seen[goal], whole[goal], strict=True)
        for name in ("rewards", "successes", "truncated"):
            np.testing.assert_array_equal(
                getattr(step, name), getattr(expected, name), name, strict=True
            )
        assert step.truncated.all() == (number == LAST)
    for known, whole in zip(
        played.known, [first, *(step.observation for step in steps)], strict=True
    ):
        assert known.keys() == whole.keys() - {"pixels"}
        for name, part in known.items():
            np.testing.assert_array_equal(part, whole[name], name, strict=True)


def test_the_first_frame_is_repeated_and_each_step_brings_one(played: Play) -> None:
    before = played.first["pixels"]
    np.testing.assert_array_equal(before, np.tile(before[:, -3:], (1, VIEW.frame_stack, 1, 1)))
    for step in played.steps[:LAST]:
        after = step.observation["pixels"]
        np.testing.assert_array_equal(after[:, :-3], before[:, 3:])
        assert (after[:, -3:] != before[:, -3:]).any(axis=(1, 2, 3)).all(), "something moved"
        before = after


def test_where_an_episode_ends_its_last_frame_is_final_and_the_next_begins(played: Play) -> None:
    before, end, after = played.steps[LAST - 1 : LAST + 2]
    final, begun = end.final_observation["pixels"], end.observation["pixels"]
    np.testing.assert_array_equal(final[:, :-3], before.observation["pixels"][:, 3:])
    np.testing.assert_array_equal(begun, np.tile(begun[:, -3:], (1, VIEW.frame_stack, 1, 1)))
    assert (final[:, -3:] != begun[:, -3:]).any(axis=(1, 2, 3)).all()
    np.testing.assert_array_equal(after.observation["pixels"][:, :-3], begun[:, 3:])
    goals = [part["desired_goal"] for part in (end.final_observation, end.observation)]
    assert (goals[0] != goals[1]).any(axis=1).all()
    np.testing.assert_equal(played.known[LAST + 1]["desired_goal"], goals[1])


def test_observations_are_of_the_space_and_belong_to_who_asked(studio: Studio) -> None:
    first = studio.reset_all(SEEDS)
    kept = first["pixels"].copy()
    second = one_step(studio, ACTIONS[0])
    for observation in (first, second.observation):
        for index in range(N_ENVS):
            one = {name: part[index] for name, part in observation.items()}
            assert studio.observation_space.contains(one)
    np.testing.assert_array_equal(first["pixels"], kept, "a step changed an older observation")
    kept = newest(second.observation).copy()
    second.observation["pixels"].fill(0)
    third = one_step(studio, ACTIONS[1])
    np.testing.assert_array_equal(third.observation["pixels"][:, -6:-3], kept)


def test_a_restored_studio_goes_on_bit_for_bit(studio: Studio, shared_studio: Studio) -> None:
    studio.reset_all(SEEDS)
    for actions in ACTIONS[: LAST - 2]:
        one_step(studio, actions)
    state, known = studio.state(), studio.known
    rest = ACTIONS[LAST - 2 :]
    steps = [one_step(studio, actions) for actions in rest]
    assert [step.truncated.all() for step in steps] == [False, False, True, False, False, False]
    shared_studio.reset_all([7, 8, 9])
    shared_studio.restore(state)
    np.testing.assert_equal(shared_studio.known, known)
    again = [one_step(shared_studio, actions) for actions in rest]
    np.testing.assert_equal(plain(again), plain(steps))
    np.testing.assert_equal(shared_studio.known, studio.known)


def disturb_the_object(env: gym.Env[Any, Any]) -> tuple[Array, Array]:
    """The 25 numbers before and after the object is elsewhere, turned, and moves."""
    task: Any = env.unwrapped
    before = env.reset(seed=0)[0]["observation"].copy()
    pose, speed = [1.2, 0.9, 0.6, 0.8, 0.2, 0.4, 0.4], [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    task._utils.set_joint_qpos(task.model, task.data, "object0:joint", pose)
    task._utils.set_joint_qvel(task.model, task.data, "object0:joint", speed)
    mujoco.mj_forward(task.model, task.data)
    return before, task._get_obs()["observation"]


def test_proprioception_is_all_that_the_object_has_no_part_in(played: Play) -> None:
    before, after = disturb_the_object(make_env(PUSH, disable_env_checker=True))
    assert np.flatnonzero(before == after).tolist() == list(PROPRIOCEPTION)
    seen = [played.first, *(step.observation for step in played.steps)]
    for observation, known in zip(seen, played.known, strict=True):
        expected = known["observation"][:, PROPRIOCEPTION].astype(np.float32)
        np.testing.assert_array_equal(observation["proprioception"], expected, strict=True)
    assert (seen[0]["proprioception"] != seen[1]["proprioception"]).any(axis=1).all()
    final = played.steps[LAST].final_observation["proprioception"]
    assert not np.array_equal(final, seen[LAST + 1]["proprioception"])


def test_all_numbers_of_a_task_without_an_object_are_felt() -> None:
    env = make_env(REACH, disable_env_checker=True)
    assert _felt(env) == list(range(10))
    shapes = {name: space.shape for name, space in pixel_space(env, VIEW).items()}
    goals = {"achieved_goal": (3,), "desired_goal": (3,)}
    assert shapes == {"pixels": (9, 24, 24), "proprioception": (10,), **goals}


def test_closing_ends_the_process() -> None:
    studio = Studio(REACH, 1, 1, VIEW)
    studio.reset_all([0])
    [worker] = studio._workers
    assert worker._process.poll() is None
    studio.close()
    assert worker._process.poll() == 0


def test_a_process_that_was_killed_is_told_of_and_the_others_end_quietly(
    capfd: pytest.CaptureFixture[str],
) -> None:
    studio = Studio(REACH, 2, 2, VIEW)
    studio.reset_all([0, 1])
    victim = studio._workers[1]._process
    victim.send_signal(signal.SIGSTOP)  # so that it cannot answer first
    studio.start(ACTIONS[0, :2])
    victim.kill()
    with pytest.raises(RuntimeError, match="a process that draws has ended"):
        studio.finish()
    victim.wait()
    with pytest.raises(RuntimeError, match="a process that draws has ended"):
        studio.start(ACTIONS[1, :2])
    studio.close()
    assert [worker._process.poll() for worker in studio._workers] == [0, -signal.SIGKILL]
    assert "Traceback" not in capfd.readouterr().err


def test_a_vec_env_of_it_is_seeded_and_rewarded_as_one_without_pictures() -> None:
    def make_studio(env_id: str, n_envs: int, n_threads: int) -> Studio:
        return Studio(env_id, n_envs, n_threads, VIEW)

    seeing = FetchVecEnv(PUSH, N_ENVS, seed=7, make_batch=make_studio)
    blind = FetchVecEnv(PUSH, N_ENVS, seed=7)

    def assert_same(one: Any, other: Any) -> None:
        for goal in ("achieved_goal", "desired_goal"):
            np.testing.assert_array_equal(one[goal], other[goal], strict=True)
        felt = other["observation"][..., PROPRIOCEPTION].astype(np.float32)
        np.testing.assert_array_equal(one["proprioception"], felt, strict=True)

    assert_same(seeing.reset(), blind.reset())
    assert_same(seeing.reset(), blind.reset())
    assert seeing.seed(11) == blind.seed(11)
    assert_same(seeing.reset(), blind.reset())
    np.testing.assert_array_equal(seeing.action_space.sample(), blind.action_space.sample())
    for number, actions in enumerate(ACTIONS):
        one, rewards, dones, infos = seeing.step(actions)
        other, *expected, others = blind.step(actions)
        assert_same(one, other)
        assert dones.all() == (number == LAST)
        np.testing.assert_equal([rewards, dones], expected)
        for info, known in zip(infos, others, strict=True):
            if number == LAST:
                assert_same(info.pop("terminal_observation"), known.pop("terminal_observation"))
                assert min(one["episode"].pop("t") for one in (info, known)) > 0
        np.testing.assert_equal(infos, others)
    seeing.close()
    blind.close()
