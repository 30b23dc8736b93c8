"""How trainings went that differ in entropy and hindsight goals: rows of a document, a figure."""

from collections.abc import Sequence
from pathlib import Path

from robotics_rl import artifacts, curves, plotting
from robotics_rl.artifacts import RunPaths
from robotics_rl.campaign import Experiment
from robotics_rl.errors import UsageError
from robotics_rl.schemas import Journey, JourneyRun

N_MILESTONES = 4  # at which success is told, evenly spaced
Point = tuple[float, float]  # environment steps, value


def run_of(arm: str, experiment: Experiment) -> JourneyRun:
    """What became of a training that is complete.

    Raises:
        UsageError: it ended before it learned.
    """
    settings, curve = experiment.settings, RunPaths.of(experiment.settings).curves
    alphas = [value for _, value in points(curve, "ent_coef")]
    success = points(curve, "success_rate")
    if not alphas:
        raise UsageError(
            f"{curve} has no entropy coefficient: the training ended before it learned; "
            "give more --total-steps"
        )
    total = settings.run.total_steps
    milestones = [total * number // N_MILESTONES for number in range(1, N_MILESTONES + 1)]
    return JourneyRun(
        arm=arm,
        seed=settings.run.seed,
        success_rate=artifacts.read_json(experiment.result)["aggregate"]["success_rate"],
        success_at={str(steps): last_before(success, steps) for steps in milestones},
        ent_coef_lowest=min(alphas),
        ent_coef_last=alphas[-1],
        curve=curve.as_posix(),
        evaluation=experiment.result.as_posix(),
    )


def points(curve: Path, column: str) -> list[Point]:
    """A column of a curve, where it was logged."""
    return list(zip(*curves.points(curves.read_curves(curve), column), strict=True))


def last_before(values: Sequence[Point], steps: float) -> float | None:
    """The value that stood at so many steps; None where there was none yet."""
    earlier = [value for at, value in values if at <= steps]
    return earlier[-1] if earlier else None


def draw(journey: Journey, path: Path) -> None:
    """Success and α over environment steps: a line per seed, in the line style of its arm."""
    seeds = ", ".join(map(str, sorted({run.seed for run in journey.runs})))
    caption = (
        f"{journey.env_id}, training seeds {seeds}, a line each. Success of the last 100 training "
        f"episodes, with their exploration; from the curves.csv of {len(journey.runs)} trainings."
    )
    with plotting.figure(path, 8.0, 6.5, caption) as figure:
        success, alpha = figure.subplots(2, sharex=True)
        for arm, colour, line in zip(journey.arms, plotting.COLOURS, plotting.LINES, strict=False):
            runs = [run for run in journey.runs if run.arm == arm]
            for panel, column in ((success, "success_rate"), (alpha, "ent_coef")):
                for number, run in enumerate(runs):
                    steps, values = zip(*points(Path(run.curve), column), strict=True)
                    label = arm if number == 0 else None
                    panel.plot(steps, values, color=colour, ls=line, lw=1.1, label=label)
        success.set(ylabel="success rate in training", ylim=(-0.02, 1.02))
        alpha.set(ylabel="entropy coefficient α", yscale="log")
        plotting.steps_axis(alpha)
        lines = success.get_legend_handles_labels()
        figure.legend(*lines, loc="outside upper center", ncols=2)
