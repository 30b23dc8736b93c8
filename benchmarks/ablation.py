"""What each ingredient of the recipe `fast` gives on FetchPush: leave one out, or change one."""

from collections.abc import Mapping
from typing import Any

from solving import Task, Trial

from robotics_rl import cli
from robotics_rl.config import HER, SAC, OffPolicy

ENV_ID = "FetchPush-v4"
# name → what replaces the recipe's value
VARIANTS: dict[str, Mapping[str, Any]] = {
    "the recipe": {},
    "every hindsight goal (textbook HER)": {"trivial_goal_keep": 1.0},
    "no normalisation": {"normalize_observations": False},
    "no random actions": {"random_action_prob": 0.0},
    "learning rate and τ of the book": {
        "learning_rate": SAC.learning_rate,
        "tau": OffPolicy.tau,
    },
    "nets of the book": {"net_arch": OffPolicy.net_arch},
    "1 gradient step per 16 steps": {"gradient_steps": 1},
    "a tenth of trivial goals": {"trivial_goal_keep": 0.1},
    "k = 8": {"n_sampled_goal": 2 * HER.n_sampled_goal},
}
SINGLE = ("a tenth of trivial goals", "k = 8", "nets of the book", "1 gradient step per 16 steps")

TRIAL = Trial(
    script="ablation",
    story=__doc__,
    name=f"the recipe fast on {ENV_ID}, one ingredient changed",
    tasks=tuple(
        Task(name, ENV_ID, 150_000, 10_000, seeds=range(1 if name in SINGLE else 3), given=given)
        for name, given in VARIANTS.items()
    ),
)

if __name__ == "__main__":
    cli.run(TRIAL.main)
