"""How long one gradient step of SAC takes: Stable-Baselines3's, and ours."""

import itertools
import time
from collections.abc import Iterator
from typing import Any

from book import BOOK_HER
from rounds import Race

from robotics_rl import cli, config
from robotics_rl.benchmarking import Measure

ENV_ID = "FetchPush-v4"
NETS = {"[256,256]": (256, 256), "[128,128]": (128, 128)}


def _contestants() -> Iterator[tuple[str, Measure]]:
    """Stable-Baselines3 and we, with the same settings and a buffer of the same episodes' kind."""
    import torch
    from stable_baselines3.common.logger import Logger

    from robotics_rl.envs import make_env
    from robotics_rl.learners import ENGINES

    def model(engine_name: str, net_arch: tuple[int, ...], **given: Any) -> Any:
        given |= {**BOOK_HER, "buffer_size": 100_000}
        given |= {"engine": engine_name, "net_arch": net_arch}
        settings = config.resolve("sac", ENV_ID, given, her=True)
        engine = ENGINES[engine_name]
        torch.manual_seed(0)  # equal weights
        one = engine.make_model(settings, engine.make_env(settings, make_env), "cpu")
        one.set_logger(Logger(None, []))
        one.learn(1_200)
        return one

    def milliseconds(one: Any, threads: int) -> Measure:
        def measure(seconds: float) -> float:
            torch.set_num_threads(threads)
            one.train(10, one.batch_size)
            steps, started = 0, time.perf_counter()
            while (passed := time.perf_counter() - started) < seconds:
                one.train(10, one.batch_size)
                steps += 10
            return 1e3 * passed / steps

        return measure

    for size, net_arch in NETS.items():
        sb3, ours = model("sb3", net_arch), model("fast", net_arch)
        halved = model("fast", net_arch, bf16=True)
        for threads in (1, 2):
            end = f"{size}, {threads} thread{'s' * (threads > 1)}"
            yield f"SB3 {end}", milliseconds(sb3, threads)
            yield f"ours {end}", milliseconds(ours, threads)
        yield f"ours, bf16 {size}, 1 thread", milliseconds(halved, 1)


RACE = Race(
    script="learner",
    story=__doc__,
    name="one gradient step of SAC with HER, batch 256",
    unit="milliseconds",
    contestants=_contestants,
    ratios={
        f"SB3 / ours, {size}, {threads}": (f"SB3 {size}, {threads}", f"ours {size}, {threads}")
        for size, threads in itertools.product(NETS, ("1 thread", "2 threads"))
    }
    | {
        f"ours / bf16, {size}, 1 thread": (
            f"ours {size}, 1 thread",
            f"ours, bf16 {size}, 1 thread",
        )
        for size in NETS
    },
)

if __name__ == "__main__":
    cli.run(RACE.main)
