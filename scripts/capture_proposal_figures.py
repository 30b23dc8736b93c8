"""Every figure of the book by one command each, from the code, the runs and the results there are.

`all` draws what can be drawn, and names what is missing with the command that makes it.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import figures_plans as plans
from figures_plans import Asked, Missing, Picture, Plan

from robotics_rl import artifacts, cli, rendering
from robotics_rl.chapters import add_command
from robotics_rl.errors import UsageError

SCRIPT = "scripts/capture_proposal_figures.py"
FIGURES: dict[str, Callable[[Asked], Plan]] = {
    "env-setup": plans.env_setup,
    "reward-diagram": plans.reward_diagram,
    "ppo-clipping": plans.ppo_clipping,
    "ppo-demo-curve": plans.ppo_demo_curve,
    "sac-demo-curve": plans.sac_demo_curve,
    "sac-architecture": plans.sac_architecture,
    "entropy-coefficient": plans.entropy_coefficient,
    "learning-curves": plans.learning_curves,
    "her-relabeling": plans.her_relabeling,
    "her-amplification": plans.her_amplification,
    "sweep-heatmap": plans.sweep_heatmap,
    "sweep-marginals": plans.sweep_marginals,
    "pixel-view": plans.pixel_view,
    "encoder-progression": plans.encoder_progression,
    "pixel-investigation": plans.pixel_investigation,
    "pixel-phases": plans.pixel_phases,
}
SCENES = ("env-setup", "pixel-view")  # need OpenGL
OF_RUNS = ("entropy-coefficient", "learning-curves")


def main(argv: Sequence[str]) -> int:
    """Draw the figures of one sub-command, or all of them."""
    given = vars(_parser().parse_args(argv))
    command = given.pop("command")
    asked = Asked(**given)
    artifacts.require_writable(Path(asked.out_dir))
    if command == "all":
        return everything(asked)
    if command in SCENES:
        rendering.choose_backend()
    else:
        rendering.render_nothing()
    n_drawn, missing = carry_out(command, asked)
    if not n_drawn:
        raise UsageError(f"there is nothing to draw it from; {'; '.join(map(str, missing))}")
    _tell(missing)
    return 0


def everything(asked: Asked) -> int:
    """Draw every figure whose input is there, and list the others."""
    names, missing = list(FIGURES), list[Missing]()
    try:
        rendering.choose_backend()
    except UsageError as problem:
        rendering.render_nothing()
        names = [name for name in names if name not in SCENES]
        missing += [Missing(name, str(problem)) for name in SCENES]
    for name in names:
        try:
            missing += carry_out(name, asked)[1]
        except UsageError as problem:
            missing.append(Missing(name, str(problem)))
    _tell(missing)
    return 0


def carry_out(command: str, asked: Asked) -> tuple[int, list[Missing]]:
    """Draw what a sub-command can draw; how many figures that was, and what it cannot."""
    parts = list(FIGURES[command](asked))
    pictures = [one for one in parts if isinstance(one, Picture)]
    for one in pictures:
        one.draw(Path(asked.out_dir, one.name))
    return len(pictures), [one for one in parts if isinstance(one, Missing)]


def _tell(missing: Sequence[Missing]) -> None:
    for one in dict.fromkeys(missing):
        print(f"skipped {one}")


def _parser() -> cli.Parser:
    top = cli.Parser(prog=SCRIPT, description=__doc__)
    subparsers = top.add_subparsers(prog=SCRIPT, dest="command", required=True, metavar="COMMAND")
    texts = {name: str(plan.__doc__).rstrip(".") for name, plan in FIGURES.items()}
    for name, text in {**texts, "all": "every figure whose input is there"}.items():
        parser = add_command(subparsers, SCRIPT, name, text[0].lower() + text[1:])
        _add(parser, "--out-dir", "where PNGs go", metavar="FOLDER")
        if name in ("env-setup", "all"):
            _add(parser, "--envs", "tasks to draw", nargs="+", metavar="ID")
        if name in OF_RUNS:
            _add(parser, "--runs", "folders of trainings", nargs="+", metavar="FOLDER")
    return top


def _add(parser: cli.Parser, flag: str, text: str, **kwargs: Any) -> None:
    """A flag of ``Asked``, whose default stands there."""
    default = getattr(Asked, flag.removeprefix("--").replace("-", "_"))
    shown = default if isinstance(default, str) else " ".join(default) or "the published ones"
    told = f"{text} (default: {shown})"
    parser.add_argument(flag, default=argparse.SUPPRESS, help=told, **kwargs)


if __name__ == "__main__":
    cli.run(main)
