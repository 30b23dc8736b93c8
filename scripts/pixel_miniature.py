"""Chapter 9's investigation in small: who trains the encoder, and what makes that fail.

Days become minutes on a toy whose position must be seen (`pixel_toy.py`), with the chapter's own
learner (`pixel_arms.py`). Arms differ in one thing each, but for the last, in
which two come together; every run is kept when it is done.
"""

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pixel_arms
from pixel_arms import ARMS, EPISODES, Toy, is_complete, part_path

from robotics_rl import artifacts, campaign, cli, options, plotting, reporting
from robotics_rl.config import EvalSettings, Run
from robotics_rl.errors import UsageError
from robotics_rl.jobs import Job, carry_out
from robotics_rl.options import option, positive
from robotics_rl.pixel_schemas import Miniature, MiniatureArm
from robotics_rl.provenance import command_line, git_state, usable_cores, utc_now
from robotics_rl.statistics import student_t_half_width
from robotics_rl.versions import gather_versions

NAME = "ch09_miniature"
TITLES = {
    "actor": "trained by the actor",
    "critic": "by the critic",
    "critic_drq": "by the critic, with DrQ",
    "critic_flatten": "by the critic, maps flattened",
    "critic_drq_flatten": "by the critic, with DrQ, maps flattened",
}
LAST = 3  # evaluations whose mean is what a run came to
LEARNED = 0.8  # success rate
NOTE = f"success: last {LAST} evaluations; brackets hold Student's 95 % interval over seeds"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Which runs, and how many at a time."""

    arms: tuple[str, ...] = option(tuple(ARMS), "whose encoders are compared")
    seeds: str = option("0,1,2", "of each arm, such as 0,1,2 or 0-4")
    parallel: int = option(usable_cores(), "runs side by side, one core each", positive)


def add_flags(parser: cli.Parser) -> None:
    """The flags of `miniature`."""
    cli.add_options(parser, Plan, Toy)
    cli.add_options(parser, Run, only=("progress",))
    cli.add_options(parser, EvalSettings, only=("results_dir",))


def miniature(given: Mapping[str, Any]) -> int:
    """Make the runs that are missing, then tell and draw what came of all."""
    plan, toy = options.fill(Plan, given), options.fill(Toy, given)
    if unknown := [arm for arm in plan.arms if arm not in ARMS]:
        raise UsageError(f"there is no arm {unknown[0]!r}; choose among --arms {','.join(ARMS)}")
    wanted = [(arm, seed) for arm in plan.arms for seed in options.parse_seeds(plan.seeds)]
    path = Path(given.get("results_dir", EvalSettings.results_dir), f"{NAME}.json")
    for made in (path, part_path(*wanted[0])):
        artifacts.require_file(made)
    jobs = [_job(arm, seed, toy) for arm, seed in wanted if not is_complete(arm, seed, toy)]
    if not _carry_out(jobs, plan.parallel, show_progress=given.get("progress", True)):
        return 1
    document, figure = gather(wanted, toy), artifacts.figure_path(path)
    artifacts.keep_other(path, "plan", lambda old: _plan_of(old) == (vars(toy), wanted), figure)
    artifacts.write_json(path, document)
    print(reporting.aligned(rows(dataclasses.asdict(document))))
    print(NOTE)
    print(f"OK: wrote {path}")
    draw(document, path, figure)
    return 0


def _plan_of(document: Mapping[str, Any]) -> tuple[Any, list[tuple[str, int]]]:
    """How the runs of a document learned, and which they were."""
    runs = document.get("runs", [])
    return document.get("settings"), [(run["arm"], run["seed"]) for run in runs]


def _job(arm: str, seed: int, toy: Toy) -> Job:
    script = Path(__file__).with_name(Path(pixel_arms.SCRIPT).name)
    flags = options.as_flags({"arm": arm, "seed": seed, **dataclasses.asdict(toy)})
    log = part_path(arm, seed).with_suffix(".log")
    return Job(f"{arm} seed {seed}", [[str(script), *flags]], log)


def _carry_out(jobs: Sequence[Job], parallel: int, *, show_progress: bool) -> bool:
    """Make the runs; at the first failure stop the others, and say what failed."""
    with closing(carry_out(jobs, parallel, show_progress=show_progress)) as outcomes:
        for job, code in outcomes:
            if code:
                print(f"{job.last_lines()}\n{campaign.failure(job, code)}", file=sys.stderr)
                return False
            made = artifacts.read_json(job.log.with_suffix(".json"))
            print(f"OK: {job.name}, success {made['rows'][-1]['success_rate']:.2f}", flush=True)
    return True


def gather(wanted: Sequence[tuple[str, int]], toy: Toy) -> Miniature:
    """All runs in one document, and what each arm came to."""
    runs = [artifacts.read_json(part_path(arm, seed)) for arm, seed in wanted]
    return Miniature(
        settings=dataclasses.asdict(toy),
        arms=[_arm(arm, runs) for arm in dict.fromkeys(arm for arm, _ in wanted)],
        floors=pixel_arms.floors(),
        runs=runs,
        created_at=utc_now(),
        command=command_line(),
        git=git_state(),
        versions=gather_versions(),
    )


def _arm(arm: str, runs: Sequence[Mapping[str, Any]]) -> MiniatureArm:
    own = {str(run["seed"]): run for run in runs if run["arm"] == arm}
    values = {
        seed: float(np.mean([row["success_rate"] for row in run["rows"][-LAST:]]))
        for seed, run in own.items()
    }
    rates = list(values.values())
    return MiniatureArm(
        arm=arm,
        title=TITLES[arm],
        settings=ARMS[arm],
        success_rates=values,
        mean=float(np.mean(rates)),
        t_half_width=student_t_half_width(rates),
        steps_to_learn={seed: _steps_to_learn(run["rows"]) for seed, run in own.items()},
        minutes=round(sum(run["seconds"] for run in own.values()) / 60, 1),
    )


def _steps_to_learn(rows: Sequence[Mapping[str, Any]]) -> int | None:
    """Environment steps until ``LEARNED`` was reached; None: it was not."""
    reached = (row["env_steps"] for row in rows if row["success_rate"] >= LEARNED)
    return next(reached, None)


def rows(document: Mapping[str, Any]) -> list[list[str]]:
    """What each arm came to, below a header; then the floors."""
    made = [["encoder", "success", f"steps to {LEARNED:g}, per seed", "minutes"]]
    for arm in document["arms"]:
        success = reporting.over_seeds("success_rate", arm["mean"], arm["t_half_width"], ".2f")
        steps = ", ".join("-" if n is None else f"{n:,}" for n in arm["steps_to_learn"].values())
        made.append([arm["title"], success, steps, f"{arm['minutes']:.1f}"])
    floors = document["floors"].items()
    return made + [
        [f"none: {name.replace('_', ' ')}", f"{rate:.2f}", "", ""] for name, rate in floors
    ]


def draw(document: Miniature, source: Path, path: Path) -> None:
    """Success over steps: the mean over seeds, and from the lowest to the highest."""
    n_seeds = max(len(arm.success_rates) for arm in document.arms)
    steps = max(run["settings"]["total_steps"] for run in document.runs)
    caption = (
        f"Success over {len(EPISODES)} episodes, played without noise every so many of {steps:,} "
        f"steps; means and ranges of {n_seeds} seeds. From {source.as_posix()}."
    )
    with plotting.figure(path, 6.4, 4.2, caption) as figure:
        axes = figure.add_subplot()
        for number, arm in enumerate(document.arms):
            own = [run["rows"] for run in document.runs if run["arm"] == arm.arm]
            curves = [
                ([row["env_steps"] for row in rows], [row["success_rate"] for row in rows])
                for rows in own
            ]
            plotting.draw_over_seeds(axes, curves, number, arm.title)
        axes.set(ylabel="success", ylim=(-0.02, 1.02))
        plotting.steps_axis(axes)
        lines = axes.get_legend_handles_labels()
        figure.legend(*lines, title="encoder", loc="outside upper center", ncols=2)
        axes.set_title("A point that must be seen")
