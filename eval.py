"""Evaluate a checkpoint or a baseline and write a JSON; `--help` lists the flags."""

import sys
from collections.abc import Sequence
from pathlib import Path

from robotics_rl import cli, commands

sys.path.append(str(Path(__file__).resolve().parent / "scripts"))
from pixel_policies import make_vision  # the library imports no script


def main(argv: Sequence[str]) -> int:
    """Parse and evaluate."""
    commands.evaluate(*cli.parse_eval(argv), make_vision=make_vision)
    return 0


if __name__ == "__main__":
    cli.run(main)
