"""How long it takes, in seconds and in environment steps, until Fetch tasks are solved."""

from book import BOOK
from solving import Task, Trial

from robotics_rl import cli

ON_SB3 = BOOK | {"engine": "sb3"}

TRIAL = Trial(
    script="time_to_success",
    story=__doc__,
    name="training time until a task is solved",
    tasks=(
        Task("fast", "FetchReach-v4", 20_000, every=800, target=0.97),
        Task("fast", "FetchPush-v4", 300_000, every=10_000),
        Task("book", "FetchReach-v4", 60_000, every=2_000, target=0.97, given=BOOK),
        Task("book on sb3", "FetchReach-v4", 60_000, 2_000, 0.97, range(3), ON_SB3),
        Task("fast", "FetchPickAndPlace-v4", 1_000_000, every=25_000, seeds=range(3)),
        Task("book", "FetchPush-v4", 500_000, every=50_000, seeds=range(1), given=BOOK),
    ),
)

if __name__ == "__main__":
    cli.run(TRIAL.main)
