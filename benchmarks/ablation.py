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
    "learning rate of the book": {"learning_rate": SAC.learning_rate},
    "τ of the book": {"tau": OffPolicy.tau},
    "no delay of the policy": {"policy_delay": 1},
    "nets of the book": {"net_arch": OffPolicy.net_arch},
    "learning from step 1,000": {"learning_starts": 1_000},
    "1 gradient step per 16 steps": {"gradient_steps": 1},
    "a tenth of trivial goals": {"trivial_goal_keep": 0.1},
    "a fiftieth of trivial goals": {"trivial_goal_keep": 0.02},
    "k = 8": {"n_sampled_goal": 2 * HER.n_sampled_goal},
}
SINGLE = (  # with one seed
    "nets of the book",
    "learning from step 1,000",
    "1 gradient step per 16 steps",
    "a tenth of trivial goals",
    "a fiftieth of trivial goals",
    "k = 8",
)

TRIAL = Trial(
    script="ablation",
    story=__doc__,
    name=f"the recipe fast on {ENV_ID}, one ingredient changed",
    timed=False,  # steps are what counts, so runs may share the machine
    tasks=tuple(
        Task(name, ENV_ID, 120_000, 10_000, seeds=range(1 if name in SINGLE else 3), given=given)
        for name, given in VARIANTS.items()
    ),
)

if __name__ == "__main__":
    cli.run(TRIAL.main)
