"""Compare groups of trained policies over training seeds, beside the two floors."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from robotics_rl import artifacts
from robotics_rl.errors import UsageError
from robotics_rl.schemas import Comparison, SeedSpread
from robotics_rl.statistics import (
    bootstrap_interval_of_iqm,
    interquartile_mean,
    student_t_half_width,
)

# metric of an evaluation's aggregate → the value of one episode
METRICS = {
    "success_rate": "success",
    "return_mean": "return",
    "final_distance_mean": "final_distance",
    "action_smoothness_mean": "action_smoothness",
}


def compare(
    groups: Mapping[str, Mapping[int, Path]], baselines: Mapping[str, Path], env_id: str
) -> Comparison:
    """Spread over training seeds of every metric and group.

    Args:
        groups: run name → training seed → evaluation JSON.
        baselines: name → evaluation JSON of a floor.
        env_id: what they were evaluated on.

    Raises:
        UsageError: an evaluation is missing, or they do not share one list of episodes.
    """
    paths = {
        (name, seed): path for name, by_seed in groups.items() for seed, path in by_seed.items()
    }
    missing = [str(path) for path in paths.values() if not path.exists()]
    if missing:
        raise UsageError(f"no evaluation of: {', '.join(missing)}; train and evaluate these first")
    documents = {key: artifacts.read_json(path) for key, path in paths.items()}
    floors = {name: artifacts.read_json(path) for name, path in baselines.items()}
    episodes = [document["seeds"] for document in (*documents.values(), *floors.values())]
    if any(seeds != episodes[0] for seeds in episodes):
        raise UsageError("the evaluations are of different episodes; use the same seeds for all")
    return Comparison(
        env_id=env_id,
        created_at=artifacts.utc_now(),
        seeds=sorted({seed for _, seed in documents}),
        n_episodes=len(episodes[0]),
        groups={
            name: {metric: _spread(metric, name, documents) for metric in METRICS}
            for name in groups
        },
        baselines={
            name: {metric: document["aggregate"][metric] for metric in METRICS}
            for name, document in floors.items()
        },
        sources=[path.as_posix() for path in (*paths.values(), *baselines.values())],
    )


def _spread(
    metric: str, name: str, documents: Mapping[tuple[str, int], Mapping[str, Any]]
) -> SeedSpread:
    of_group = {seed: doc for (group, seed), doc in sorted(documents.items()) if group == name}
    values = [float(document["aggregate"][metric]) for document in of_group.values()]
    by_seed = [
        [float(episode[METRICS[metric]]) for episode in document["per_episode"]]
        for document in of_group.values()
    ]
    enough = len(values) >= 3
    return SeedSpread(
        values=dict(zip(map(str, of_group), values, strict=True)),
        mean=sum(values) / len(values),
        t_half_width=student_t_half_width(values),
        iqm=interquartile_mean(_flat(by_seed)) if enough else None,
        iqm_bootstrap_ci95=bootstrap_interval_of_iqm(by_seed) if enough else None,
    )


def _flat(rows: Sequence[Sequence[float]]) -> list[float]:
    return [value for row in rows for value in row]
