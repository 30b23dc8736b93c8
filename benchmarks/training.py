"""How fast SAC with HER trains at the book's settings: Stable-Baselines3's engine, and ours.

Everything is equal but the engine: 8 environments, nets [256,256], batch 256, one gradient step
per 8 environment steps. Stable-Baselines3 runs with one and with two torch threads, as either may
be its best.
"""

from collections.abc import Iterator
from typing import Any

from rounds import Race

from robotics_rl import cli, config
from robotics_rl.benchmarking import Measure

ENV_ID = "FetchPush-v4"
SETTINGS: dict[str, Any] = {
    "recipe": "book",
    "ent_coef": 0.05,
    "gamma": 0.95,
    "learning_starts": 1_000,
    "buffer_size": 200_000,
}


def _contestants() -> Iterator[tuple[str, Measure]]:
    """The engines, and Stable-Baselines3's learner on our environments."""
    import torch
    from stable_baselines3.common.logger import Logger

    from robotics_rl.envs import make_env
    from robotics_rl.learners import ENGINES
    from robotics_rl.throughput import steps_per_second

    def model(learner: str, environments: str, **given: Any) -> Any:
        asked = {**SETTINGS, "engine": learner, **given}
        settings = config.resolve("sac", ENV_ID, asked, her=True)
        env = ENGINES[environments].make_env(settings, make_env)
        one = ENGINES[learner].make_model(settings, env, "cpu")
        one.set_logger(Logger(None, []))
        one.learn(1_200)
        return one

    def speed(one: Any, threads: int) -> Measure:
        def measure(seconds: float) -> float:
            torch.set_num_threads(threads)
            return steps_per_second(one, seconds)

        return measure

    sb3, mixed = model("sb3", "sb3"), model("sb3", "fast")
    yield "SB3, 1 torch thread", speed(sb3, 1)
    yield "SB3, 2 torch threads", speed(sb3, 2)
    yield "SB3 on the batch, 1 torch thread", speed(mixed, 1)
    yield "SB3 on the batch, 2 torch threads", speed(mixed, 2)
    yield "ours, in turns", speed(model("fast", "fast", deterministic_engine=True), 1)
    yield "ours", speed(model("fast", "fast"), 1)
    yield "ours, bf16", speed(model("fast", "fast", bf16=True), 1)
    yield "ours, nets [128,128]", speed(model("fast", "fast", net_arch=(128, 128)), 1)


RACE = Race(
    script="training",
    story=__doc__,
    name=f"training SAC with HER on {ENV_ID}, one gradient step per 8 environment steps",
    unit="environment steps per second",
    contestants=_contestants,
    ratios={
        "ours / SB3 with 1 torch thread": ("ours", "SB3, 1 torch thread"),
        "ours / SB3 with 2 torch threads": ("ours", "SB3, 2 torch threads"),
        "ours / SB3 on the batch, 1 torch thread": ("ours", "SB3 on the batch, 1 torch thread"),
        "ours / SB3 on the batch, 2 torch threads": ("ours", "SB3 on the batch, 2 torch threads"),
        "side by side / in turns": ("ours", "ours, in turns"),
        "bf16 / fp32": ("ours, bf16", "ours"),
    },
    seconds=8.0,
)

if __name__ == "__main__":
    cli.run(RACE.main)
