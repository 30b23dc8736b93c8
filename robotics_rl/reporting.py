"""What people read: result tables, criteria and experiment cards."""

from robotics_rl.schemas import Aggregate, Evaluation


def evaluation_table(result: Evaluation) -> str:
    """A few aligned lines."""
    mean = result.aggregate
    rows = [
        ("success", _rate(mean.success_rate, mean.success_rate_ci95)),
        ("success, unsolved starts", _unsolved(mean)),
        ("return", f"{mean.return_mean:.2f} (sd {mean.return_std:.2f})"),
        ("final distance", _millimetres(mean)),
        ("steps to success", _optional(mean.time_to_success_mean, ".1f")),
        ("action smoothness", f"{mean.action_smoothness_mean:.2f}"),
        ("time", f"{result.wall_seconds:.1f} s ({result.steps_per_second:,.0f} steps/s)"),
    ]
    how = "deterministic" if result.deterministic else "stochastic"
    title = f"{result.algo} on {result.env_id}, {result.n_episodes} episodes, {how}"
    width = max(len(name) for name, _ in rows)
    return "\n".join([title, *(f"  {name:<{width}}  {value}" for name, value in rows)])


def _rate(value: float | None, interval: tuple[float, float] | None) -> str:
    if value is None or interval is None:
        return "not defined here"
    return f"{value:.3f} (95 % interval {interval[0]:.3f} to {interval[1]:.3f})"


def _unsolved(mean: Aggregate) -> str:
    if mean.n_started_solved is None:
        return "not defined here"
    rate = _rate(mean.success_rate_unsolved_start, mean.success_rate_unsolved_start_ci95)
    return f"{rate}, {mean.n_started_solved} started solved"


def _millimetres(mean: Aggregate) -> str:
    if mean.final_distance_mean is None or mean.final_distance_std is None:
        return "not defined here"
    return f"{mean.final_distance_mean * 1000:.1f} mm (sd {mean.final_distance_std * 1000:.1f})"


def _optional(value: float | None, spec: str) -> str:
    return "-" if value is None else format(value, spec)
