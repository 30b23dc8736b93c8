"""Book chapter 3: PPO learns FetchReachDense-v4, the first policy that is trained and evaluated.

PPO is the gentlest start: on-policy, no replay buffer, and on the dense reward its curve climbs
from the first rollouts. `all` is the chapter in one command.
"""

from collections.abc import Sequence

from robotics_rl import chapters, cli
from robotics_rl.chapters import Card, Criterion

BOOK = {
    "success_rate": "1.00 ± 0.00",
    "return_mean": "-0.40 ± 0.05",
    "final_distance_mean": "0.005 ± 0.001",
    "action_smoothness_mean": "1.40 (seed 0)",
}
BOOK_IN_WORDS = (
    "success {success_rate}, return {return_mean}, distance {final_distance_mean} m "
    "(3 seeds × 1M steps)"
)
CARD = Card(
    chapter="ch02",
    title="PPO on dense Reach (book chapter 3)",
    script="scripts/ch02_ppo_dense_reach.py",
    algo="ppo",
    env_id="FetchReachDense-v4",
    training={"total_steps": 500_000},
    criteria=(
        Criterion("success_rate", ">=", 0.90),
        Criterion("return_mean", ">", -10.0),
        Criterion("final_distance_mean", "<", 0.02),
    ),
    book=BOOK_IN_WORDS.format(**BOOK),
    book_fast_path="success ≥ 0.90, return > -10, distance < 0.02 m (500k steps)",
    book_metrics=BOOK,
    book_signs={"approx_kl": "below 0.03", "clip_fraction": "0.1 to 0.3"},
)


def main(argv: Sequence[str]) -> int:
    """Run one sub-command; `all` trains, evaluates and reports."""
    given = vars(chapters.parser(CARD, __doc__).parse_args(argv))
    return chapters.run(CARD, given.pop("command"), given)


if __name__ == "__main__":
    cli.run(main)
