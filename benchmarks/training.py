"""How fast SAC with HER trains at the book's settings: Stable-Baselines3's engine, and ours.

Everything is equal but the engine: 8 environments, nets [256,256], batch 256, one gradient step
per 8 environment steps. Stable-Baselines3 runs with one and with two torch threads, as either may
be its best.
"""

from collections.abc import Iterator
from typing import Any

from book import BOOK_HER
from rounds import Race

from robotics_rl import cli, config
from robotics_rl.benchmarking import Measure

ENV_ID = "FetchPush-v4"
SETTINGS: dict[str, Any] = {**BOOK_HER, "buffer_size": 200_000}


def _contestants() -> Iterator[tuple[str, Measure]]:
    """The engines, and Stable-Baselines3's learner on our environments."""
    import torch
    from stable_baselines3.common.logger import Logger
    from stable_baselines3.common.monitor import Monitor
    from stable_baselines3.common.vec_env import SubprocVecEnv

    from robotics_rl.envs import make_env
    from robotics_rl.learners import ENGINES
    from robotics_rl.throughput import steps_per_second

    def processes(settings: config.TrainSettings, make_env: Any) -> Any:
        return SubprocVecEnv([lambda: Monitor(make_env(ENV_ID))] * settings.run.n_envs)

    def model(learner: str, make_envs: Any = None, **given: Any) -> Any:
        asked = {**SETTINGS, "engine": learner, **given}
        settings = config.resolve("sac", ENV_ID, asked, her=True)
        env = (make_envs or ENGINES[learner].make_env)(settings, make_env)
        one = ENGINES[learner].make_model(settings, env, "cpu")
        one.set_logger(Logger(None, []))
        one.learn(1_200)
        return one

    def speed(one: Any, threads: int) -> Measure:
        def measure(seconds: float) -> float:
            torch.set_num_threads(threads)
            return steps_per_second(one, seconds)

        return measure

    theirs = {
        "SB3": model("sb3"),
        "SB3 in processes": model("sb3", processes),
        "SB3 on the batch": model("sb3", ENGINES["fast"].make_env),
    }
    for name, one in theirs.items():
        yield f"{name}, 1 torch thread", speed(one, 1)
        yield f"{name}, 2 torch threads", speed(one, 2)
    yield "ours, in turns", speed(model("fast", deterministic_engine=True), 1)
    yield "ours", speed(model("fast"), 1)
    yield "ours, bf16", speed(model("fast", bf16=True), 1)
    yield "ours, nets [128,128]", speed(model("fast", net_arch=(128, 128)), 1)


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
