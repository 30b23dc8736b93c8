"""How fast environments step: ours, Stable-Baselines3's vectors, and the physics alone."""

import itertools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from rounds import Race

from robotics_rl import cli
from robotics_rl.benchmarking import Measure

ENV_ID = "FetchPush-v4"
REACH = "FetchReachDense-v4"  # what the chapters of PPO and SAC step: less physics, so cheaper


def _speed(step: Callable[[], object], n_envs: int) -> Measure:
    """Steps per second, after one step that warms up."""

    def measure(seconds: float) -> float:
        step()
        steps, started = 0, time.perf_counter()
        while (passed := time.perf_counter() - started) < seconds:
            step()
            steps += n_envs
        return steps / passed

    return measure


def _contestants(_: str) -> Iterator[tuple[str, Measure]]:
    """Name and measurement of each."""
    import numpy as np
    from stable_baselines3.common.monitor import Monitor
    from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

    from robotics_rl.envs import make_env
    from robotics_rl.envs.fetch_vec_env import FetchVecEnv

    rng = np.random.default_rng(0)

    def stepper(venv: Any) -> Callable[[], object]:
        venv.reset()
        return lambda: venv.step(rng.uniform(-1, 1, (venv.num_envs, 4)).astype(np.float32))

    def monitored() -> Any:
        return Monitor(make_env(ENV_ID, disable_env_checker=True))

    for n_envs in (1, 8):
        yield f"DummyVecEnv {n_envs}", _speed(stepper(DummyVecEnv([monitored] * n_envs)), n_envs)
    yield "SubprocVecEnv 8", _speed(stepper(SubprocVecEnv([monitored] * 8)), 8)
    for n_envs, n_threads in ((1, 1), (8, 1), (8, 2), (16, 2)):
        venv = FetchVecEnv(ENV_ID, n_envs, seed=0, n_threads=n_threads)
        yield f"batch {n_envs}x{n_threads}", _speed(stepper(venv), n_envs)
    yield "physics 16x2", _speed(_physics(ENV_ID, 16, 2), 16)
    yield "Reach, batch 8x2", _speed(stepper(FetchVecEnv(REACH, 8, seed=0, n_threads=2)), 8)
    yield "Reach, physics 8x2", _speed(_physics(REACH, 8, 2), 8)


def _physics(env_id: str, n_envs: int, n_threads: int) -> Callable[[], object]:
    """MuJoCo's steps and the beginnings of episodes alone: what no environment can beat."""
    import mujoco
    import numpy as np

    from robotics_rl.envs.fetch import ADDED_ROTATION, FetchBatch, welded_to_mocap

    batch = FetchBatch(env_id, n_envs)
    batch.reset_all(range(n_envs))
    model, n_substeps = batch.task.model, batch.task.n_substeps
    gripper, rng = welded_to_mocap(model), np.random.default_rng(0)
    pool, chunks = ThreadPoolExecutor(n_threads), np.array_split(np.arange(n_envs), n_threads)
    steps = itertools.count(1)

    def advance(chunk: Any, moves: Any) -> None:
        for index in chunk:
            data = batch.data[index]
            data.mocap_pos[:] = data.xpos[gripper] + moves[index]
            data.mocap_quat[:] = data.xquat[gripper] + ADDED_ROTATION
            mujoco.mj_step(model, data, n_substeps)

    def step() -> None:
        moves = rng.uniform(-0.05, 0.05, (n_envs, 3))
        list(pool.map(partial(advance, moves=moves), chunks))
        if next(steps) % batch.max_episode_steps == 0:
            batch.reset_all([None] * n_envs)

    return step


RACE = Race(
    script="environments",
    story=__doc__,
    name=f"stepping {ENV_ID} with random actions",
    unit="environment steps per second",
    contestants=_contestants,
    learns=False,
    ratios={
        "8 environments, 2 threads / DummyVecEnv": ("batch 8x2", "DummyVecEnv 8"),
        "8 environments, 2 threads / SubprocVecEnv": ("batch 8x2", "SubprocVecEnv 8"),
        "8 environments, 1 thread / DummyVecEnv": ("batch 8x1", "DummyVecEnv 8"),
        "1 environment, 1 thread / 1 process": ("batch 1x1", "DummyVecEnv 1"),
        "16 environments, 2 threads / physics alone on 2 threads": ("batch 16x2", "physics 16x2"),
        "Reach, 8 environments, 2 threads / physics alone": (
            "Reach, batch 8x2",
            "Reach, physics 8x2",
        ),
    },
)

if __name__ == "__main__":
    cli.run(RACE.main)
