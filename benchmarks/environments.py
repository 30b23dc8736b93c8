"""How fast environments step: ours, Stable-Baselines3's vectors, and the physics alone.

Every round measures each of them in turn, so that whatever else the machine does falls on all.
Writes results/benchmarks/environments.json.
"""

import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from robotics_rl import artifacts, cli, rendering
from robotics_rl.progress import Progress
from robotics_rl.provenance import command_line, git_state, machine, utc_now
from robotics_rl.schemas import Benchmark
from robotics_rl.versions import gather_versions

ENV_ID = "FetchPush-v4"
OUTPUT = Path("results", "benchmarks", "environments.json")

# what → (measured, compared with)
RATIOS = {
    "8 environments, 2 threads / DummyVecEnv": ("batch 8x2", "DummyVecEnv 8"),
    "8 environments, 2 threads / SubprocVecEnv": ("batch 8x2", "SubprocVecEnv 8"),
    "8 environments, 1 thread / DummyVecEnv": ("batch 8x1", "DummyVecEnv 8"),
    "1 environment, 1 thread / 1 process": ("batch 1x1", "DummyVecEnv 1"),
    "16 environments, 2 threads / physics alone on 2 threads": ("batch 16x2", "physics 16x2"),
}


def main(argv: Sequence[str]) -> int:
    """Measure, write, print."""
    parser = cli.Parser(prog="benchmarks/environments.py", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="rounds (default: 7)")
    parser.add_argument("--seconds", type=float, default=3.0, help="per measurement (default: 3)")
    flags = parser.parse_args(argv)
    rendering.render_nothing()
    from robotics_rl.devices import device_name

    rows = measure(flags.rounds, flags.seconds)
    medians = {name: statistics.median(speeds) for name, speeds in rows.items()}
    result = Benchmark(
        name=f"environment steps per second, {ENV_ID}, random actions",
        created_at=utc_now(),
        command=command_line(),
        git=git_state(),
        device_name=device_name("cpu"),
        versions=gather_versions(),
        unit="environment steps per second",
        rounds=flags.rounds,
        rows=rows,
        medians=medians,
        ratios={name: medians[one] / medians[other] for name, (one, other) in RATIOS.items()},
        **machine(),
    )
    artifacts.write_json(OUTPUT, result)
    print(table(result))
    print(f"OK: wrote {OUTPUT}")
    return 0


def measure(rounds: int, seconds: float) -> dict[str, list[float]]:
    """Steps per second of every contestant, in every round."""
    rows: dict[str, list[float]] = {}
    contestants = dict(_contestants())
    with Progress(rounds * len(contestants), "measurements") as progress:
        for number in range(rounds):
            for place, (name, (step, n_envs)) in enumerate(contestants.items(), 1):
                rows.setdefault(name, []).append(_speed(step, n_envs, seconds))
                progress.update(number * len(contestants) + place)
    return rows


def _speed(step: Callable[[], object], n_envs: int, seconds: float) -> float:
    """Steps per second, after one step that warms up."""
    step()
    steps, started = 0, time.perf_counter()
    while (passed := time.perf_counter() - started) < seconds:
        step()
        steps += n_envs
    return steps / passed


def _contestants() -> Iterator[tuple[str, tuple[Callable[[], object], int]]]:
    """Name, a function that steps every environment once, and how many these are."""
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
        yield f"DummyVecEnv {n_envs}", (stepper(DummyVecEnv([monitored] * n_envs)), n_envs)
    yield "SubprocVecEnv 8", (stepper(SubprocVecEnv([monitored] * 8)), 8)
    for n_envs, n_threads in ((1, 1), (8, 1), (8, 2), (16, 2)):
        venv = FetchVecEnv(ENV_ID, n_envs, seed=0, n_threads=n_threads)
        yield f"batch {n_envs}x{n_threads}", (stepper(venv), n_envs)
    yield "physics 16x2", (_physics(16, 2), 16)


def _physics(n_envs: int, n_threads: int) -> Callable[[], object]:
    """MuJoCo's steps alone, on the same actions and episodes: what no environment can beat."""
    import mujoco
    import numpy as np

    from robotics_rl.envs.fetch import FetchBatch, welded_to_mocap

    batch = FetchBatch(ENV_ID, n_envs)
    batch.reset_all(range(n_envs))
    model, n_substeps = batch.task.model, batch.task.n_substeps
    gripper, rng = welded_to_mocap(model), np.random.default_rng(0)
    pool, chunks = ThreadPoolExecutor(n_threads), np.array_split(np.arange(n_envs), n_threads)
    steps = itertools.count(1)

    def advance(chunk: Any, moves: Any) -> None:
        for index in chunk:
            data = batch.data[index]
            data.mocap_pos[:] = data.xpos[gripper] + moves[index]
            data.mocap_quat[:] = data.xquat[gripper] + (1.0, 0.0, 1.0, 0.0)
            mujoco.mj_step(model, data, n_substeps)

    def step() -> None:
        moves = rng.uniform(-0.05, 0.05, (n_envs, 3))
        list(pool.map(partial(advance, moves=moves), chunks))
        if next(steps) % batch.max_episode_steps == 0:
            batch.reset_all([None] * n_envs)

    return step


def table(result: Benchmark) -> str:
    """Medians with their range, then the ratios."""
    lines = [f"{result.name}; median of {result.rounds} rounds, {result.cpu_cores} cores"]
    for name, speeds in result.rows.items():
        low, high = min(speeds), max(speeds)
        lines.append(f"  {name:<18}{result.medians[name]:7,.0f}  ({low:,.0f} to {high:,.0f})")
    return "\n".join(
        [*lines, *(f"  {ratio:5.2f}  {name}" for name, ratio in result.ratios.items())]
    )


if __name__ == "__main__":
    cli.run(main)
