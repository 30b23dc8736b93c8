"""Evaluate a checkpoint or a baseline and write a JSON; `--help` lists the flags."""

from collections.abc import Sequence

from robotics_rl import cli, rendering


def main(argv: Sequence[str]) -> int:
    """Parse, then evaluate; torch is loaded only once the arguments are right."""
    settings, seeds = cli.parse_eval(argv)
    if not settings.video:
        rendering.render_nothing()
    from robotics_rl import evaluation, reporting

    result, path = evaluation.evaluate(settings, seeds)
    print(reporting.evaluation_table(result))
    print(f"OK: wrote {path}")
    return 0


if __name__ == "__main__":
    cli.run(main)
