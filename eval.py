"""Evaluate a checkpoint or a baseline and write a JSON; `--help` lists the flags."""

from collections.abc import Sequence

from robotics_rl import cli, commands


def main(argv: Sequence[str]) -> int:
    """Parse and evaluate."""
    commands.evaluate(*cli.parse_eval(argv))
    return 0


if __name__ == "__main__":
    cli.run(main)
