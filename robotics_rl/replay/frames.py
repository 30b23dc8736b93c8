"""Replay of what a camera saw, with every frame stored once.

Neighbouring stacks share all frames but one, so a transition's two stacks of four hold one frame
that is new. Stacks are put together when they are drawn.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robotics_rl.errors import UsageError
from robotics_rl.replay.episodes import Array, Indices
from robotics_rl.replay.hindsight import Floats, HindsightDraws
from robotics_rl.replay.memory_plan import FrameMemory, FrameShape

Pixels = NDArray[np.uint8]
_NONE = -1  # slot of an environment whose episode is not stored


@dataclass(frozen=True)
class FrameBatch:
    """Transitions to learn from; first axis the batch, float32 but for the pixels.

    Attributes:
        windows: (n, (frame_stack + 1) * channels, height, width) uint8, contiguous: all frames of
            a transition, oldest first. Its two stacks are parts of it, so moving this one array to
            a device moves both. An array, or a tensor where frames lie on a device.
        channels: of a frame.
    """

    windows: Any
    channels: int
    proprioception: Floats
    next_proprioception: Floats
    achieved_goals: Floats
    next_achieved_goals: Floats
    desired_goals: Floats
    actions: Floats
    rewards: Floats

    @property
    def pixels(self) -> Any:
        """Stacks before the step, newest frame last; a view."""
        return self.windows[:, : -self.channels]

    @property
    def next_pixels(self) -> Any:
        """Stacks after the step, newest frame last; a view."""
        return self.windows[:, self.channels :]


class FrameStore:
    """The newest episodes of environments whose episodes end when they like.

    An episode has a slot for itself, and the oldest one gives its slot to one that begins. Where
    frames are missing before an episode's first one, that one stands for them.

    Args:
        capacity: transitions, if all episodes have ``horizon`` steps.
        shape: of what is stored.
        path: of a file to keep it in; None: memory.
    """

    def __init__(self, capacity: int, shape: FrameShape, path: Path | None = None) -> None:
        self.shape = shape
        self._memory = FrameMemory(capacity, shape, path)
        arrays = self._memory.arrays
        self.frames: Pixels = arrays["frames"]
        self.proprioception: Floats = arrays["proprioception"]
        self.achieved_goals: Array = arrays["achieved_goals"]
        self.desired_goals: Array = arrays["desired_goals"]
        self.actions: Floats = arrays["actions"]
        self.rewards: Floats = arrays["rewards"]
        n_slots = len(self.desired_goals)
        self.lengths: Indices = np.zeros(n_slots, dtype=np.int64)  # of finished episodes, else 0
        self._queue = deque(range(n_slots))  # not running: those taken next come first
        self._slots: Indices = np.full(shape.n_envs, _NONE)  # of the running episodes
        self._steps: Indices = np.zeros(shape.n_envs, dtype=np.int64)  # stored of them
        self._skipped = np.zeros(shape.n_envs, dtype=np.bool_)  # until these episodes end
        # Called with slots and places, (n,) each, when frames were put there.
        self.follower: Callable[[Indices, Indices], None] = lambda slots, places: None

    @property
    def n_finished(self) -> int:
        """Finished episodes that can be drawn from."""
        return int(np.count_nonzero(self.lengths))

    def newest(self, n_episodes: int) -> Indices:
        """Slots of the last finished episodes: ``n_episodes``, or as many as there are."""
        finished = [slot for slot in self._queue if self.lengths[slot]]  # oldest first
        return np.array(finished[::-1][:n_episodes], dtype=np.int64)

    def add(
        self,
        observation: Mapping[str, Array],
        actions: Array,
        rewards: Array,
        dones: Array,
        next_observation: Mapping[str, Array],
    ) -> None:
        """Store one step of every environment.

        Args:
            observation: ``pixels`` (n_envs, channels of a stack or of its newest frame alone,
                height, width), ``proprioception``, ``achieved_goal``, ``desired_goal``.
            actions: (n_envs, action).
            rewards: (n_envs,), for the goals the environments had.
            dones: (n_envs,), whose episodes end here. As in all goal tasks of the book this is for
                lack of time: no state that is drawn counts as terminal.
            next_observation: where the actions led, before a new episode begins.
        """
        if (self._steps == self.shape.horizon).any():
            raise ValueError(f"an episode goes on after its {self.shape.horizon} steps")
        self._begin(observation)
        envs = np.flatnonzero(~self._skipped)
        slots, steps = self._slots[envs], self._steps[envs]
        self.actions[slots, steps] = actions[envs]
        self.rewards[slots, steps] = rewards[envs]
        self._put(envs, steps + 1, next_observation)
        self._steps[envs] += 1
        self._end(np.flatnonzero(dones))

    def drop_running(self) -> None:
        """Forget the running episodes: the environments have begun new ones."""
        self._queue.extendleft(self._slots[self._slots != _NONE].tolist())
        self._slots[:], self._steps[:], self._skipped[:] = _NONE, 0, False

    def windows(self, slots: Indices, steps: Indices) -> Pixels:
        """All frames of these transitions: see ``FrameBatch``."""
        _, height, width = self.shape.frame
        frames = self.frames.reshape(len(self.frames) * (self.shape.horizon + 1), -1)
        windows: Pixels = frames.take(self.rows(slots, steps), axis=0)
        return windows.reshape(len(slots), -1, height, width)

    def rows(self, slots: Indices, steps: Indices) -> Indices:
        """Which frames these are, counted through all slots: (n, frame_stack + 1)."""
        places = steps[:, None] + np.arange(1 - self.shape.frame_stack, 2)
        rows: Indices = slots[:, None] * (self.shape.horizon + 1) + np.maximum(places, 0)
        return rows

    def state(self) -> dict[str, Any]:
        """Which content is whose; the content itself stays where it is, in a file on disk."""
        self._memory.flush()
        return {
            "marks": self._memory.marks,
            "lengths": self.lengths.copy(),
            "queue": np.array(self._queue),
            "slots": self._slots.copy(),
            "steps": self._steps.copy(),
            "skipped": self._skipped.copy(),
        }

    def restore(self, state: Mapping[str, Any]) -> int:
        """Go on from a state with what is left of its content.

        What was overwritten since is given up, all of it where memory held it and the process
        ended. Environments whose running episodes are given up are not stored until these end.

        Returns:
            Transitions that are lost.
        """
        intact = state["marks"] == self._memory.marks
        self.lengths[:] = np.where(intact, state["lengths"], 0)
        self._slots[:], self._steps[:] = state["slots"], state["steps"]
        torn = np.flatnonzero((self._slots != _NONE) & ~intact[self._slots])
        n_lost = int(np.sum(state["lengths"] - self.lengths) + np.sum(self._steps[torn]))
        queue = np.concatenate([self._slots[torn], state["queue"]])
        is_free = self.lengths[queue] == 0
        self._queue = deque([*queue[is_free].tolist(), *queue[~is_free].tolist()])
        self._skipped[:] = state["skipped"]
        self._slots[torn], self._steps[torn], self._skipped[torn] = _NONE, 0, True
        # They will not go on as they did in the run that was killed, which may have saved it.
        self._memory.mark(self._slots[self._slots != _NONE])
        places = np.arange(self.shape.horizon + 1)
        for slot in [*np.flatnonzero(self.lengths), *self._slots[self._slots != _NONE]]:
            self.follower(np.full_like(places, slot), places)
        return n_lost

    def close(self) -> None:
        """Let another run have the file."""
        self._memory.close()

    def _begin(self, observation: Mapping[str, Array]) -> None:
        """Give slots to episodes that begin."""
        envs = np.flatnonzero((self._slots == _NONE) & ~self._skipped)
        if len(envs) == 0:
            return
        slots = np.array([self._queue.popleft() for _ in envs])
        self.lengths[slots] = 0
        self._memory.mark(slots)
        self._slots[envs] = slots
        self.desired_goals[slots] = observation["desired_goal"][envs]
        self._put(envs, np.zeros_like(envs), observation)

    def _put(self, envs: Indices, places: Indices, observation: Mapping[str, Array]) -> None:
        """Store what the environments show at these places of their episodes."""
        pixels = observation["pixels"]
        assert pixels.dtype == np.uint8, "a picture of other numbers would be cut to zeros"
        at = (self._slots[envs], places)
        self.frames[at] = pixels[envs, -self.shape.frame[0] :]
        self.follower(*at)
        self.proprioception[at] = observation["proprioception"][envs]
        self.achieved_goals[at] = observation["achieved_goal"][envs]

    def _end(self, envs: Indices) -> None:
        stored = envs[~self._skipped[envs]]
        self.lengths[self._slots[stored]] = self._steps[stored]
        self._queue.extend(self._slots[stored].tolist())
        self._slots[envs], self._steps[envs], self._skipped[envs] = _NONE, 0, False


class FrameReplay(HindsightDraws):
    """Batches from a ``FrameStore``, of finished episodes.

    Own goals keep the rewards that the environments gave, others get theirs when they are drawn.

    Args: those of ``HindsightDraws``.
    """

    store: FrameStore

    def __init__(self, store: FrameStore, *drawing: Any) -> None:
        super().__init__(store, *drawing)
        # Where the frames of a batch come from; a copy on a device saves the way there.
        self.windows: Callable[[Indices, Indices], Any] = store.windows

    @property
    def ready(self) -> bool:
        """Whether there is anything to draw."""
        return self.store.n_finished > 0

    def sample(self, batch_size: int) -> FrameBatch:
        """A batch: relabelled transitions first, then those with their own goals.

        Raises:
            UsageError: no episode has ended yet.
        """
        if not self.ready:
            raise UsageError(
                "no episode has ended yet and only those that have are replayed; "
                "collect more steps before learning, with --learning-starts"
            )
        store, drawn = self.store, self.draw(batch_size)
        now, after = (drawn.slots, drawn.steps), (drawn.slots, drawn.steps + 1)
        achieved, rewards = store.achieved_goals[after], store.rewards[now]
        if n_relabelled := self.n_relabelled(batch_size):
            goals = drawn.goals[:n_relabelled]
            rewards[:n_relabelled] = self._reward(achieved[:n_relabelled], goals, {})
        return FrameBatch(
            windows=self.windows(drawn.slots, drawn.steps),
            channels=store.shape.frame[0],
            proprioception=store.proprioception[now],
            next_proprioception=store.proprioception[after],
            achieved_goals=store.achieved_goals[now],
            next_achieved_goals=achieved,
            desired_goals=drawn.goals,
            actions=store.actions[now],
            rewards=rewards,
        )

    def newest_vectors(self) -> Floats:
        """What networks see beside frames in the episodes just finished, with all kinds of goals.

        Returns:
            (n, proprioception + 2 · goal): proprioception, achieved goal, desired goal.
        """
        store = self.store
        newest = store.newest(store.shape.n_envs)
        slots = np.repeat(newest, store.lengths[newest])
        steps = np.concatenate([np.arange(length) for length in store.lengths[newest]])
        goals = [store.desired_goals[slots]]
        if self.hindsight:
            goals.append(self.relabel(slots, steps).goals)
        seen = [store.proprioception[slots, steps], store.achieved_goals[slots, steps]]
        return np.concatenate([np.concatenate([*seen, goal], axis=1) for goal in goals])

    def _draw_steps(self, count: int) -> tuple[Indices, Indices]:
        """Slots and steps of finished episodes, each step as likely as any other."""
        ends = np.cumsum(self.store.lengths)
        numbers = self._rng.integers(ends[-1], size=count)
        slots = np.searchsorted(ends, numbers, side="right")
        return slots, numbers - (ends - self.store.lengths)[slots]

    def _lengths(self, slots: Indices) -> Indices:
        return self.store.lengths[slots]
