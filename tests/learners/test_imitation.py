"""A student that sees: who acts, what is kept, and what a step moves."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pixel_policies import make_vision
from stable_baselines3.common.vec_env import DummyVecEnv
from test_pixel_sac import SHAPE, random_batch

from robotics_rl.learners.imitation import Student
from robotics_rl.pixel_options import Pixels
from robotics_rl.replay.frames import FrameReplay, FrameStore

TEACHERS = np.full((1, 4), 0.25, dtype=np.float32)  # what it does, wherever it is


class Watched(DummyVecEnv):
    """One environment that keeps what is done in it, and what a teacher may know."""

    def __init__(self) -> None:
        from drqv2_sac_policy import FakePixelPush

        super().__init__([FakePixelPush])
        self.batch = SimpleNamespace(known={"observation": np.ones((1, 25))})
        self.done: list[NDArray[np.float32]] = []

    def step_async(self, actions: NDArray[np.float32]) -> None:
        self.done.append(actions.copy())
        super().step_async(actions)


class Teacher:
    """Does always the same, and keeps what it was told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def predict(self, known: Any, *, deterministic: bool) -> tuple[NDArray[np.float32], None]:
        assert deterministic
        self.told.append(known)
        return TEACHERS, None


def build() -> Student:
    pixels = Pixels(encoder="manipulation", num_filters=4, policy_inputs="no-achieved").decided()
    vision = make_vision(pixels)
    store = FrameStore(200, SHAPE)
    replay = FrameReplay(store, lambda *_: None, 0.05, np.random.default_rng(0), None)
    torch.manual_seed(0)
    return Student(
        teacher=Teacher(),  # type: ignore[arg-type]
        policy=vision.policy,
        env=Watched(),
        policy_kwargs={"net_arch": [16, 16], **vision.policy_kwargs},
        replay=replay,
        ent_coef=0.0,
        learning_rate=1e-3,
        place_weight=1.0,
        learning_starts=10,
        batch_size=16,
        device="cpu",
    )


@pytest.fixture(scope="module")
def learned() -> Student:
    student = build()
    student.learn(40)
    return student


def test_the_teacher_acts_first_and_then_the_student(learned: Student) -> None:
    done = np.concatenate(learned.env.done)  # type: ignore[union-attr]
    assert len(done) == 40
    assert (done[:10] == TEACHERS).all()
    assert not (done[10:] == TEACHERS).all(axis=1).any()


def test_what_is_kept_is_what_the_teacher_would_have_done(learned: Student) -> None:
    store = learned.replay_buffer.store
    finished = np.flatnonzero(store.lengths)
    assert len(finished) == 8
    assert (store.actions[finished] == TEACHERS).all()


def test_the_teacher_is_told_at_every_step(learned: Student) -> None:
    told = learned._teacher.told  # type: ignore[attr-defined]
    assert len(told) == 40
    assert told[0] is learned.env.batch.known  # type: ignore[union-attr]


def test_successes_of_the_teacher_do_not_count_as_the_students() -> None:
    student = build()
    student.learn(9)
    assert student.ep_success_buffer is not None
    student.ep_success_buffer.append(1.0)
    student.learn(10, reset_num_timesteps=False)
    assert 1.0 not in student.ep_success_buffer


def imitation(student: Student, batch: Any) -> float:
    with torch.no_grad():
        lesson = student.see(student.views(batch))
        return float((student.explore(lesson.features) - lesson.actions).square().mean())


def test_steps_bring_it_nearer_to_the_teacher() -> None:
    student, batch = build(), random_batch()
    student._total_timesteps = 1
    before = imitation(student, batch)
    for _ in range(100):
        student.update(student.see(student.views(batch)))
    assert imitation(student, batch) < 0.5 * before


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_asking_for_the_place_can_be_switched_off(weight: float) -> None:
    student, batch = build(), random_batch()
    student._place_weight, student._total_timesteps = weight, 1
    head = student.place_head.weight.detach().clone()
    student.update(student.see(student.views(batch)))
    assert torch.equal(student.place_head.weight, head) == (weight == 0)


def test_steps_get_smaller_down_to_none() -> None:
    student, batch = build(), random_batch()
    student._total_timesteps = 100
    rates = []
    for done in (0, 50, 100):
        student.num_timesteps = done
        student.update(student.see(student.views(batch)))
        rates.append(student.actor.optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([1e-3, 5e-4, 0.0])


def test_it_is_never_told_where_the_object_is() -> None:
    student, batch = build(), random_batch()
    views = student.views(batch)
    place = views.vectors[1]
    elsewhere = views._replace(vectors=(views.vectors[0], place + 1, views.vectors[2]))
    here, there = (student.see(one) for one in (views, elsewhere))
    assert torch.equal(student.explore(here.features), student.explore(there.features))
    assert not torch.equal(here.places, there.places)
