"""What does not fit is refused, and a file gives back what was saved in it or nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from films import (
    BOOK,
    FUTURE,
    PAGED,
    SMALL,
    Film,
    assert_as_shown,
    assert_draws,
    assert_equal,
    make,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from robotics_rl import artifacts, training_state
from robotics_rl.errors import UsageError
from robotics_rl.replay import memory_plan
from robotics_rl.replay.frames import FrameStore
from robotics_rl.replay.memory_plan import GIB

ROOT = Path(__file__).resolve().parents[2]


def test_the_books_buffer_takes_a_seventh_of_stacks_and_less_than_12_gib() -> None:
    n_slots = BOOK.n_slots(500_000)
    assert BOOK.slots_bytes(n_slots) / 500_000 <= 24_000
    assert BOOK.slots_bytes(n_slots) <= 12 * GIB
    assert BOOK.slots_bytes(n_slots) * 7 <= BOOK.stacked_bytes(500_000)
    assert memory_plan.plan(500_000, BOOK) == (
        "10.1 GiB for 500,000 transitions of 84×84, instead of 78.9 GiB as stacks"
    )


def test_the_plan_counts_every_byte_of_the_store() -> None:
    store = make().store
    names = SMALL.arrays(7)
    assert sum(getattr(store, name).nbytes for name in names) == SMALL.slots_bytes(7)


@pytest.fixture
def four_gib_and_two_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    memory, disk = SimpleNamespace(available=4 * GIB), SimpleNamespace(free=2 * GIB)
    monkeypatch.setattr(memory_plan.psutil, "virtual_memory", lambda: memory)
    monkeypatch.setattr(memory_plan.shutil, "disk_usage", lambda _: disk)


@pytest.mark.usefixtures("four_gib_and_two_on_disk")
@pytest.mark.parametrize("on_disk", [False, True])
def test_what_does_not_fit_is_refused_with_the_largest_size_that_does(
    workdir: Path, on_disk: bool
) -> None:
    path, free = (workdir / "frames", 2) if on_disk else (None, 4)
    with pytest.raises(UsageError) as caught:
        FrameStore(10**12, BOOK, path)  # would not get as far as this were it tried
    message = str(caught.value)
    assert "1,000,000,000,000 transitions needs" in message
    assert f"and {free}.00 GiB are free" in message
    assert ("keep it on disk with --buffer-file" in message) != on_disk
    assert list(workdir.iterdir()) == []
    fits = int(message.split("--buffer-size ")[1].split(",")[0])
    memory_plan.check(fits, BOOK, path)
    assert BOOK.slots_bytes(BOOK.n_slots(fits)) > 0.79 * free * GIB
    with pytest.raises(UsageError, match="not even two episodes of 4000 environments fit"):
        memory_plan.check(1, replace(BOOK, n_envs=4000), path)


@pytest.mark.usefixtures("four_gib_and_two_on_disk")
def test_replays_side_by_side_share_the_memory() -> None:
    three_gib = int(3 * GIB) // BOOK.slots_bytes(1) * BOOK.horizon
    memory_plan.check(three_gib, BOOK)
    with pytest.raises(UsageError, match=r"transitions, 2 times, needs 6\.0") as caught:
        memory_plan.check(three_gib, BOOK, None, 2)
    fits = int(str(caught.value).split("--buffer-size ")[1].split(",")[0])
    memory_plan.check(fits, BOOK, None, 2)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "frames"


@pytest.mark.parametrize("n_steps", [3, 17, 40])
@pytest.mark.parametrize("form", ["json", "tensors"])
def test_a_replay_reopened_goes_on_bit_for_bit(path: Path, n_steps: int, form: str) -> None:
    replay, film = make(path=path), Film(SMALL, 7, shortest=2)
    film.play(replay.store, n_steps)
    state = carried(replay.state(), path.with_suffix(".state"), form)
    replay.store.close()
    unstopped, same = make(), Film(SMALL, 7, shortest=2)
    same.play(unstopped.store, n_steps)
    reopened = make(path=path, seed=1)
    assert not reopened.ready
    assert reopened.restore(state) == 0
    for _ in range(3):
        if unstopped.ready:
            assert_equal(reopened.sample(100), unstopped.sample(100))
        film.play(reopened.store, 9)
        same.play(unstopped.store, 9)


def carried(state: dict[str, Any], path: Path, form: str) -> dict[str, Any]:
    """The state as a later run reads it."""
    if form == "tensors":
        rest = {"parameters": {}, "log_ent_coef": None}
        training_state.write(path, rest | {"replay": state})
        return training_state.read(path)["replay"]
    path.write_text(artifacts.to_json(state))
    return json.loads(path.read_text())


def test_a_state_is_small_and_does_not_change_when_the_replay_goes_on(path: Path) -> None:
    replay, film = make(PAGED, path=path), Film(PAGED, 7)
    film.play(replay.store, 20)
    state = replay.state()
    before = artifacts.to_json(state)
    film.play(replay.store, 20)
    assert artifacts.to_json(state) == before
    assert len(before) < 2000


def test_without_a_file_a_new_process_begins_empty_and_says_what_is_lost() -> None:
    replay, film = make(), Film(SMALL, 7, shortest=3)
    film.play(replay.store, 30)
    running = sum(len(film.outcomes[one]) for one in film.running if one is not None)
    assert running > 0
    other = make()
    n_finished = len(film.steps_of(film.finished))
    assert other.restore(replay.state()) == n_finished + running
    assert not other.ready
    film.finished.clear()
    torn = film.running.copy()
    film.play(other.store, 30)
    assert_draws(other, film, film.steps_of(film.finished) - film.steps_of(torn))


def torn_files(saved: bytes, later: bytes) -> Iterator[bytes]:
    """What a machine that lost power may find: any pages of before, but the marks of after."""
    pages = [(saved[n : n + 4096], later[n : n + 4096]) for n in range(0, len(saved), 4096)]
    rng = np.random.default_rng(0)
    for share in (0.0, 0.3, 0.5, 0.7, 1.0):
        is_later = rng.random(len(pages)) < share
        is_later[:2] = True
        yield b"".join(page[int(late)] for page, late in zip(pages, is_later, strict=True))


@pytest.mark.parametrize("n_later", [1, 4, 9, 30])
def test_a_torn_file_gives_what_was_saved_or_nothing(path: Path, n_later: int) -> None:
    replay, film = make(PAGED, path=path), Film(PAGED, 7, shortest=2)
    film.play(replay.store, 30)
    saved_film, state, saved = film.copy(), replay.state(), path.read_bytes()
    film.play(replay.store, n_later)
    later = path.read_bytes()
    replay.store.close()
    before, left = saved_film.finished, set(saved_film.finished) & set(film.finished)
    for content in torn_files(saved, later):
        path.write_bytes(content)
        torn, again = make(PAGED, path=path), saved_film.copy()
        lost = torn.restore(state)
        assert_draws(torn, again, again.steps_of(left))
        finished_lost = again.steps_of(set(before) - left)
        assert lost >= len(finished_lost)
        assert (lost > 0) == (n_later > 1)
        again.rng = np.random.default_rng(9)
        again.play(torn.store, 12)
        assert_as_shown(torn.sample(200), again, FUTURE)
        torn.store.close()


@given(
    doings=st.lists(
        st.tuples(st.sampled_from(["play", "save", "restore"]), st.integers(1, 9)),
        min_size=3,
        max_size=14,
    )
)
@settings(max_examples=60, deadline=None)
def test_no_state_of_one_past_takes_the_content_of_another(doings: list[tuple[str, int]]) -> None:
    replay, film = make(n_slots=5), Film(SMALL, 5)
    film.play(replay.store, 6)
    saves = [(film.copy(), replay.state())]
    for number, (doing, count) in enumerate(doings):
        if doing == "play":
            film.play(replay.store, count)
        elif doing == "save":
            saves.append((film.copy(), replay.state()))
        else:
            saved, state = saves[count % len(saves)]
            film = saved.copy()
            film.rng = np.random.default_rng(100 + number)  # from here on another past
            replay.restore(state)
        if replay.ready:
            assert_as_shown(replay.sample(100), film, FUTURE)


def test_a_later_state_does_not_take_what_was_written_after_an_earlier_one() -> None:
    replay, film = make(), Film(SMALL, 7, shortest=5)
    film.play(replay.store, 6)  # one step into the second episodes
    earlier = replay.state()
    film.play(replay.store, 2)
    later_film, later = film.copy(), replay.state()
    replay.restore(earlier)
    Film(SMALL, 7, seed=1, shortest=5).play(replay.store, 1)
    replay.restore(later)
    later_film.play(replay.store, 9)
    assert_as_shown(replay.sample(200), later_film, FUTURE)


def test_a_state_does_not_take_the_content_of_another_runs_file(path: Path) -> None:
    replay = make(path=path)
    Film(SMALL, 7).play(replay.store, 20)
    state = replay.state()
    replay.store.close()
    path.unlink()
    other = make(path=path)
    Film(SMALL, 7, seed=1).play(other.store, 20)
    other.restore(state)
    assert not other.ready


def test_new_marks_reach_the_disk_first_and_a_state_comes_after_its_content(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replay, film = make(path=path), Film(SMALL, 7)
    film.play(replay.store, 30)
    flushed: list[tuple[Any, bytes]] = []

    def flush(array: Any) -> None:
        flushed.append((array.dtype, replay.store.frames.tobytes()))

    monkeypatch.setattr(np.memmap, "flush", flush)
    for _ in range(20):
        before, begins = replay.store.frames.tobytes(), None in film.running
        film.play(replay.store, 1)
        assert flushed == ([(np.int64, before)] if begins else [])
        flushed.clear()
    state = replay.state()
    assert [dtype for dtype, _ in flushed] == [np.uint8]
    replay.restore(state)
    assert [dtype for dtype, _ in flushed] == [np.uint8, np.int64]


def test_a_run_that_was_killed_leaves_a_file_to_go_on_with(path: Path) -> None:
    code = f"import films, pathlib; films.play_for_ever(pathlib.Path({str(path)!r}))"
    places = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": places},
    ) as run:
        assert run.stdout is not None
        state = bytearray()
        while not state.endswith(b"\0"):
            state += run.stdout.read(1)
        with pytest.raises(UsageError, match="another training uses"):
            make(PAGED, path=path)
        while path.read_bytes()[4096:8192] == before_marks(state):
            time.sleep(0.01)  # until it overwrites something
        run.send_signal(signal.SIGKILL)
    film = Film(PAGED, 7, shortest=2)
    film.play(make(PAGED).store, 30)
    replay = make(PAGED, path=path)
    assert replay.restore(json.loads(state[:-1])) > 0
    for _ in range(3):
        if replay.ready:
            assert_as_shown(replay.sample(200), film, FUTURE)
        film.play(replay.store, 6)


def before_marks(state: bytearray) -> bytes:
    marks = np.array(json.loads(state[:-1])["store"]["marks"], dtype=np.int64)
    return marks.tobytes().ljust(4096, b"\0")


def test_a_file_of_other_sizes_or_of_something_else_is_left_alone(path: Path) -> None:
    make(path=path).store.close()
    with pytest.raises(UsageError, match="no replay file of these sizes"):
        make(n_slots=8, path=path)
    with pytest.raises(UsageError, match="no replay file of these sizes"):
        make(PAGED, path=path)
    content = path.read_bytes()
    for other in (b"", b"a thesis", content[:-1], content + b"\0", content[::-1]):
        path.write_bytes(other)
        with pytest.raises(UsageError, match="name another one with --buffer-file, or delete it"):
            make(path=path)
        assert path.read_bytes() == other
    with pytest.raises(UsageError, match="is a folder"):
        make(path=path.parent)
