"""How long one gradient step of SAC takes: Stable-Baselines3's, and ours."""

import itertools
import time
from collections.abc import Iterator
from typing import Any

from book import learning_model
from rounds import Race

from robotics_rl import cli
from robotics_rl.benchmarking import Measure
from robotics_rl.recipes import RECIPES

NETS = {"[256,256]": (256, 256), "[128,128]": (128, 128)}
FAST = RECIPES["fast"]  # how often it learns and with what delay


def _contestants(device: str) -> Iterator[tuple[str, Measure]]:
    """Stable-Baselines3 and we, with the same settings and a buffer of the same episodes' kind."""
    import torch

    def milliseconds(model: Any, threads: int, at_once: int = 1) -> Measure:
        def measure(seconds: float) -> float:
            torch.set_num_threads(threads)
            model.train(at_once, model.batch_size)
            steps, started = 0, time.perf_counter()
            while (passed := time.perf_counter() - started) < seconds:
                model.train(at_once, model.batch_size)
                if device != "cpu":
                    torch.cuda.synchronize(device)
                steps += at_once
            return 1e3 * passed / steps

        return measure

    for size, net_arch in NETS.items():
        sb3, ours = (learning_model(name, device, net_arch=net_arch) for name in ("sb3", "fast"))
        halved = learning_model("fast", device, net_arch=net_arch, bf16=True)
        for threads in (1, 2):
            end = f"{size}, {threads} thread{'s' * (threads > 1)}"
            yield f"SB3 {end}", milliseconds(sb3, threads)
            yield f"ours {end}", milliseconds(ours, threads)
        yield f"ours, bf16 {size}, 1 thread", milliseconds(halved, 1)
    delayed = learning_model(
        "fast", device, net_arch=FAST["net_arch"], policy_delay=FAST["policy_delay"]
    )
    yield DELAYED, milliseconds(delayed, 1, at_once=FAST["gradient_steps"])


DELAYED = "ours with a policy that waits, {gradient_steps} steps at once [{0}], 1 thread".format(
    ",".join(map(str, FAST["net_arch"])), **FAST
)
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
    }
    | {"ours / with a policy that waits": ("ours [128,128], 1 thread", DELAYED)},
)

if __name__ == "__main__":
    cli.run(RACE.main)
