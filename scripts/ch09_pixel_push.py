"""Book chapter 9: FetchPush from pictures, and what was wrong before it was learned.

The robot feels itself; where the block is must be seen. Step by step the encoder is made fit for
small things, trained by the critics, and shown pictures that are shifted a little.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixel_policies import make_vision, require_possible

from robotics_rl import chapters, cli, commands, options
from robotics_rl.artifacts import RunPaths
from robotics_rl.chapters import Card, Criterion
from robotics_rl.config import SAC, FastSAC, Run, SelectiveHER, TrainSettings
from robotics_rl.errors import UsageError
from robotics_rl.options import option
from robotics_rl.pixel_options import Pixels

SCRIPT, PUSH = "scripts/ch09_pixel_push.py", "FetchPush-v4"
# What pictures leave nothing to decide of.
NOT_HERE = ("engine", "recipe", "bf16")


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which of the chapter's policies."""

    full_state: bool = option(False, "the control: 25 numbers instead of pictures")


class PixelCard(Card):
    """An experiment card whose settings are of policies that see."""

    def settings(self, given: Mapping[str, Any]) -> TrainSettings:
        """The chapter's training with the flags given on the command line."""
        shown = options.option_names(Pixels)
        asked = {**self.training, **given}
        seen = {name: value for name, value in asked.items() if name in shown}
        full_state = asked.get("full_state", False)
        rest = {k: v for k, v in given.items() if k not in shown and k != "full_state"}
        defaults = {k: v for k, v in self.training.items() if k not in shown}
        settings = cli.training_settings(
            {"recipe": "book", **rest},
            chapter=self.chapter,
            **{"algo": self.algo, "env": self.env_id, "her": True, **defaults},
        )
        if full_state:
            if in_vain := shown & given.keys():
                flags = ", ".join(sorted(map(options.flag_of, in_vain)))
                raise UsageError(f"--full-state sees no pictures; leave out {flags}")
            return dataclasses.replace(settings, name=f"{self.chapter}_fullState")
        pixels: Pixels = options.fill(Pixels, seen)
        pixels = pixels.decided()
        require_possible(pixels)
        return dataclasses.replace(settings, pixels=pixels, name=pixels.run_name)

    def evaluation_path(self, settings: TrainSettings, results_dir: str) -> Path:
        """Where this training's evaluation goes."""
        name = f"{settings.run_name}_{settings.env_id}_seed{settings.run.seed}_eval.json"
        return Path(results_dir, settings.run.run_tag or "", name)


CARD = PixelCard(
    chapter="ch09",
    title="FetchPush from pictures (book chapter 9)",
    script=SCRIPT,
    algo="sac",
    env_id=PUSH,
    training={
        "total_steps": 8_000_000,
        "n_envs": 4,
        "buffer_size": 200_000,
        "learning_starts": 1_000,
        "learning_rate": 1e-4,
        "ent_coef": 0.05,
        "checkpoint_freq": 500_000,
    },
    criteria=(Criterion("success_rate", ">=", 0.90),),
    book="step 2, 1 seed: 6 % at 2M steps, 70 % at 3.5M, 95 % at 4.4M; "
    "step 0 and 1: 5 to 8 % at 2M; full state: 89 % at 2M",
    book_fast_path="none: 40 h on a GPU",
    fast_path="train --critic-encoder --no-drq --seed 0",
    over_seeds="eval --seed K",
)


def main(argv: Sequence[str]) -> int:
    """Run one sub-command."""
    given = vars(_parser().parse_args(argv))
    match given.pop("command"):
        case "card":
            print(CARD.text())
            return 0
        case "train":
            commands.train(CARD.settings(given), make_vision)
            return 0
    return evaluate(given)


def evaluate(given: Mapping[str, Any]) -> int:
    """Evaluate a checkpoint and hold it against the criteria."""
    training, evaluation = chapters.split(given)
    if "ckpt" not in evaluation:
        evaluation["ckpt"] = str(RunPaths.of(CARD.settings(training)).checkpoint)
    settings, seeds = cli.eval_settings(evaluation)
    result = commands.evaluate(settings, seeds, chapter=CARD.chapter, make_vision=make_vision)
    return 0 if chapters.report(CARD.criteria, vars(result.aggregate)) else 1


def _parser() -> cli.Parser:
    top = cli.Parser(prog=SCRIPT, description=__doc__)
    commands_of = top.add_subparsers(prog=SCRIPT, dest="command", required=True, metavar="COMMAND")

    def add(name: str, text: str, flags: str = "") -> cli.Parser:
        return chapters.add_command(commands_of, SCRIPT, name, text, flags)

    train = add("train", "train one policy", "--critic-encoder --camera close --seed 0")
    _add_settings(train)
    evaluation = add("eval", "evaluate a checkpoint", "--critic-encoder --seed 0")
    chapters.add_checkpoint_options(evaluation)
    cli.add_options(evaluation, Choice, Pixels, only=_NAMING)
    add("card", "print the experiment card")
    return top


# Flags that a run is named after.
_NAMING = ("full_state", "encoder", "critic_encoder", "drq", "spatial_softmax", "proprio")


def _add_settings(parser: cli.Parser) -> None:
    training = dict(CARD.training)
    cli.add_options(parser.add_argument_group("what it sees"), Choice, Pixels)
    cli.add_options(
        parser.add_argument_group("how it learns"),
        *(SAC, SelectiveHER, FastSAC, Run),
        defaults=training,
        without=NOT_HERE,
    )


if __name__ == "__main__":
    cli.run(main)
