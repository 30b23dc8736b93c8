"""Train a policy and write its checkpoint, metadata and curves; `--help` lists the flags."""

from collections.abc import Sequence

from robotics_rl import cli, commands


def main(argv: Sequence[str]) -> int:
    """Parse and train."""
    commands.train(cli.parse_train(argv))
    return 0


if __name__ == "__main__":
    cli.run(main)
