"""Book chapter 3: PPO learns FetchReachDense-v4, the first policy that is trained and evaluated.

PPO is the gentlest start: on-policy, no replay buffer, and on the dense reward its curve climbs
from the first rollouts. `all` is the chapter in one command.
"""

from collections.abc import Sequence
from itertools import starmap

import book_figures

from robotics_rl import chapters, cli
from robotics_rl.chapters import Card, Criterion

CARD = Card(
    chapter="ch02",
    title="PPO on dense Reach (book chapter 3)",
    script="scripts/ch02_ppo_dense_reach.py",
    algo="ppo",
    env_id="FetchReachDense-v4",
    training={"total_steps": 500_000},
    criteria=tuple(starmap(Criterion, book_figures.FAST_PATHS["ppo"])),
    book=book_figures.RESULTS["ppo"].text,
    book_fast_path=book_figures.RESULTS["ppo_fast_path"].text,
    book_metrics=book_figures.DENSE_REACH["ppo"],
    book_signs=book_figures.SIGNS,
)


def main(argv: Sequence[str]) -> int:
    """Run one sub-command; `all` trains, evaluates and reports."""
    given = vars(chapters.parser(CARD, __doc__).parse_args(argv))
    return chapters.run(CARD, given.pop("command"), given)


if __name__ == "__main__":
    cli.run(main)
