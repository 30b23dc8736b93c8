"""How fast SAC with HER trains at the book's settings: Stable-Baselines3's engine, and ours.

Everything is equal but the engine: 8 environments, nets [256,256], batch 256, one gradient step
per 8 environment steps. Stable-Baselines3 runs with one and with two torch threads, as either may
be its best.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

from book import ENV_ID, learning_model
from rounds import Race

from robotics_rl import cli
from robotics_rl.benchmarking import Measure


def _contestants(device: str) -> Iterator[tuple[str, Measure]]:
    """The engines, and Stable-Baselines3's learner on our environments."""
    import torch
    from stable_baselines3.common.monitor import Monitor
    from stable_baselines3.common.vec_env import SubprocVecEnv

    from robotics_rl.learners import ENGINES
    from robotics_rl.throughput import steps_per_second

    def processes(settings: Any, make_env: Any) -> Any:
        def build() -> Any:
            return Monitor(make_env(ENV_ID, disable_env_checker=True))

        return SubprocVecEnv([build] * settings.run.n_envs)

    def speed(one: Any, threads: int) -> Measure:
        def measure(seconds: float) -> float:
            torch.set_num_threads(threads)
            return steps_per_second(one, seconds)

        return measure

    sb3 = partial(learning_model, "sb3", device)
    theirs = {
        "SB3": sb3(),
        "SB3 in processes": sb3(processes),
        "SB3 on the batch": sb3(ENGINES["fast"].make_env),
    }
    for name, one in theirs.items():
        yield f"{name}, 1 torch thread", speed(one, 1)
        yield f"{name}, 2 torch threads", speed(one, 2)
    ours = partial(learning_model, "fast", device)
    yield "ours, in turns", speed(ours(deterministic_engine=True), 1)
    yield "ours", speed(ours(), 1)
    yield "ours, bf16", speed(ours(bf16=True), 1)
    yield "ours, nets [128,128]", speed(ours(net_arch=(128, 128)), 1)


RACE = Race(
    script="training",
    story=__doc__,
    name=f"training SAC with HER on {ENV_ID}, one gradient step per 8 environment steps",
    unit="environment steps per second",
    contestants=_contestants,
    ratios={
        f"ours / {name}": ("ours", name)
        for name in (
            "SB3, 1 torch thread",
            "SB3, 2 torch threads",
            "SB3 in processes, 2 torch threads",
            "SB3 on the batch, 2 torch threads",
        )
    }
    | {
        "side by side / in turns": ("ours", "ours, in turns"),
        "bf16 / fp32": ("ours, bf16", "ours"),
    },
    seconds=8.0,
)

if __name__ == "__main__":
    cli.run(RACE.main)
