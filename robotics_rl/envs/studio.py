"""Pixel batches in processes of their own, drawn while the learner learns.

A core draws a few hundred frames a second, and one process must not have two OpenGL contexts. So
each process steps and draws its share of the simulations. What comes of it depends on their number
only, not on that of the processes.
"""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from itertools import chain
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from robotics_rl.envs import Env, make_env
from robotics_rl.envs.fetch import Step, require_actions
from robotics_rl.envs.pixels import PixelBatch, View

Observation = dict[str, NDArray[Any]]

# What a robot knows of itself among the 25 numbers of a task with an object: gripper position,
# fingers, gripper velocity, finger velocities. Everything else is of the object.
PROPRIOCEPTION = (0, 1, 2, 9, 10, 20, 21, 22, 23, 24)
_CHANNELS = 3
_ENDED = "a process that draws has ended; see its error above"


def pixel_space(env: Env, view: View) -> spaces.Dict:
    """What networks may see: stacked pictures, what the robot feels, and goals in metres."""
    numbers: Any = env.observation_space
    shape = (_CHANNELS * view.frame_stack, view.size, view.size)
    felt = spaces.Box(-np.inf, np.inf, (len(_felt(env)),), np.float32)
    goals = {name: numbers[name] for name in ("achieved_goal", "desired_goal")}
    pixels = spaces.Box(0, 255, shape, np.uint8)
    return spaces.Dict({"pixels": pixels, "proprioception": felt, **goals})


def _felt(env: Env) -> list[int]:
    """Places of the robot's own numbers in an observation."""
    task: Any = env.unwrapped
    n_numbers = task.observation_space["observation"].shape[0]
    return list(PROPRIOCEPTION if task.has_object else range(n_numbers))


class Studio:
    """What ``FetchBatch`` is, for observations as ``pixel_space`` has them.

    ``known`` holds the full state observations that belong to what was seen last. A teacher acts
    on them; a policy that is to see never gets them.

    Args:
        env_id: one of the Fetch ids.
        n_envs: number of simulations.
        n_processes: that share them.
        view: how they are looked at.
    """

    def __init__(self, env_id: str, n_envs: int, n_processes: int, view: View) -> None:
        env = make_env(env_id, disable_env_checker=True)
        assert env.spec is not None
        assert env.spec.max_episode_steps is not None
        self.spec, self.n_envs = env.spec, n_envs
        self.max_episode_steps = env.spec.max_episode_steps
        self.env: Env = env  # steps nothing; what all simulations have in common
        self.task: Any = env.unwrapped
        self.action_space: Any = env.action_space
        self.observation_space: Any = pixel_space(env, view)
        self._felt, self._frame_stack = _felt(env), view.frame_stack
        shape: Any = self.observation_space["pixels"].shape
        self._stacks = np.zeros((n_envs, *shape), dtype=np.uint8)
        self.known: Observation = {}
        self._shares = np.array_split(np.arange(n_envs), min(n_processes, n_envs))
        self._workers = [_Worker(env_id, len(share), view) for share in self._shares]

    def reset_all(self, seeds: Sequence[int | None]) -> Observation:
        """Begin an episode of every simulation.

        Returns:
            Observations as in ``pixel_space``, first axis (n_envs,): pixels
            (3 · frame_stack, height, width) uint8, vectors, and goals in metres.
        """
        parts = self._ask("reset_all", [[seeds[i] for i in share] for share in self._shares])
        observation = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        self._begin(np.arange(self.n_envs), observation)
        self._know(observation)
        return self._seen(observation)

    def start(self, actions: NDArray[Any]) -> None:
        """Begin to step and draw every simulation; ``finish`` waits for it.

        Args:
            actions: (n_envs, 4).

        Raises:
            ValueError: actions of another shape, or NaN.
            RuntimeError: a process that draws has ended.
        """
        require_actions(actions, (self.n_envs, *self.action_space.shape))
        for worker, share in zip(self._workers, self._shares, strict=True):
            worker.ask("step", actions[share])

    def finish(self) -> Step:
        """Wait for the step that ``start`` began; new episodes begin where some ended."""
        step = _joined([worker.answer() for worker in self._workers])
        self._stacks[:, :-_CHANNELS] = self._stacks[:, _CHANNELS:]
        self._stacks[:, -_CHANNELS:] = step.final_observation["pixels"]
        final = observation = self._seen(step.final_observation)
        if step.truncated.any():
            self._begin(np.flatnonzero(step.truncated), step.observation)
            observation = self._seen(step.observation)
        self._know(step.observation)
        return Step(observation, final, step.rewards, step.successes, step.truncated)

    def task_of(self, index: int) -> Any:
        """The task, whose rewards and threshold are every simulation's."""
        return self.task

    def state(self) -> dict[str, Any]:
        """Exact state between two steps."""
        parts = self._ask("state", [None] * len(self._workers))
        simulations = list(chain.from_iterable(parts))
        return {"simulations": simulations, "stacks": self._stacks.copy(), "known": self.known}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Counterpart of ``state``."""
        self._stacks[:], self.known = state["stacks"], dict(state["known"])
        simulations = state["simulations"]
        self._ask("restore", [[simulations[i] for i in share] for share in self._shares])

    def close(self) -> None:
        """End the processes."""
        for worker in self._workers:
            worker.close()

    def _ask(self, method: str, arguments: Sequence[Any]) -> list[Any]:
        """Call a method in every process; its argument, if there is one, differs."""
        for worker, argument in zip(self._workers, arguments, strict=True):
            worker.ask(method, *(() if argument is None else (argument,)))
        return [worker.answer() for worker in self._workers]

    def _begin(self, envs: NDArray[np.intp], observation: Mapping[str, Any]) -> None:
        """The first frame of an episode stands for those before it."""
        first = observation["pixels"][envs]
        self._stacks[envs] = np.tile(first, (1, self._frame_stack, 1, 1))

    def _know(self, observation: Mapping[str, Any]) -> None:
        self.known = {name: part for name, part in observation.items() if name != "pixels"}

    def _seen(self, observation: Mapping[str, Any]) -> Observation:
        return {
            "pixels": self._stacks.copy(),
            "proprioception": observation["observation"][:, self._felt].astype(np.float32),
            "achieved_goal": observation["achieved_goal"],
            "desired_goal": observation["desired_goal"],
        }


def _joined(steps: Sequence[Step]) -> Step:
    def join(name: str) -> Any:
        parts = [getattr(step, name) for step in steps]
        if isinstance(parts[0], dict):
            return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
        return np.concatenate(parts)

    return Step(**{part.name: join(part.name) for part in fields(Step)})


class _Worker:
    """A process with a ``PixelBatch``; it ends when nobody is left to ask it.

    It has a session of its own, so that Ctrl-C reaches the training alone, which still needs its
    workers to save its state.
    """

    def __init__(self, env_id: str, n_envs: int, view: View) -> None:
        self._connection, theirs = Pipe()
        handle = theirs.fileno()
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(handle)],
            pass_fds=[handle],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            start_new_session=True,
        )
        theirs.close()
        self._connection.send((env_id, n_envs, view))

    def ask(self, method: str, *arguments: Any) -> None:
        """Have a method of the batch called.

        Raises:
            RuntimeError: the process has ended; its own error stands above.
        """
        try:
            self._connection.send((method, arguments))
        except ConnectionError:
            raise RuntimeError(_ENDED) from None

    def answer(self) -> Any:
        """What it returned.

        Raises:
            RuntimeError: the process has ended; its own error stands above.
        """
        try:
            return self._connection.recv()
        except (EOFError, ConnectionError):
            raise RuntimeError(_ENDED) from None

    def close(self) -> None:
        """End the process."""
        self._connection.close()
        self._process.wait()


def _serve(connection: Connection) -> None:
    """Answer what is asked of a batch until nobody asks."""
    batch = PixelBatch(*connection.recv())
    with contextlib.suppress(EOFError, ConnectionError):  # nobody asks, or waits for an answer
        while True:
            method, arguments = connection.recv()
            connection.send(getattr(batch, method)(*arguments))
    batch.close()


if __name__ == "__main__":
    os.environ.setdefault("LP_NUM_THREADS", "1")  # Mesa's: there is a process for every core
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _serve(Connection(int(sys.argv[1])))
