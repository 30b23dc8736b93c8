"""Train a policy and write its checkpoint, metadata and curves; `--help` lists the flags."""

from collections.abc import Sequence

from robotics_rl import cli, rendering


def main(argv: Sequence[str]) -> int:
    """Parse, then train; torch is loaded only once the arguments are right."""
    settings = cli.parse_train(argv)
    rendering.render_nothing()
    from robotics_rl.training import train

    train(settings)
    return 0


if __name__ == "__main__":
    cli.run(main)
