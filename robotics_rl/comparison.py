"""Compare groups of trained policies over training seeds, beside the two floors."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from robotics_rl import artifacts, checkpoints
from robotics_rl.errors import UsageError
from robotics_rl.provenance import command_line, git_state, utc_now
from robotics_rl.schemas import Comparison, Metadata, SeedSpread
from robotics_rl.statistics import (
    bootstrap_interval_of_iqm,
    interquartile_mean,
    student_t_half_width,
)
from robotics_rl.versions import gather_versions

Key = tuple[str, int]  # group and training seed

CLEAR = 0.5  # difference of success rates that nobody doubts

# metric of an evaluation's aggregate → its value in one episode; None where it does not count
METRICS: dict[str, Callable[[Mapping[str, Any]], float | None]] = {
    "success_rate": lambda episode: episode["success"],
    "success_rate_unsolved_start": lambda episode: (
        None if episode["started_solved"] else episode["success"]
    ),
    "return_mean": lambda episode: episode["return"],
    "final_distance_mean": lambda episode: episode["final_distance"],
    "action_smoothness_mean": lambda episode: episode["action_smoothness"],
}


def compare(
    groups: Mapping[str, Mapping[int, Path]],
    baselines: Mapping[str, Path],
    env_id: str,
    *,
    same_steps: bool = True,
) -> Comparison:
    """Spread over training seeds of every metric and group.

    Args:
        groups: name → training seed → evaluation JSON.
        baselines: name → evaluation JSON of a floor.
        env_id: what they were evaluated on.
        same_steps: whether the groups must have been trained equally long.

    Raises:
        UsageError: as ``read_alike``, and where a floor is of other episodes.
    """
    documents, trainings = read_alike(groups, same_steps=same_steps)
    floors = {name: artifacts.read_json(path) for name, path in baselines.items()}
    episodes = next(iter(documents.values()))["seeds"]
    _require_same_episodes({baselines[name]: floor for name, floor in floors.items()}, episodes)
    defined = [
        metric
        for metric in METRICS
        if all(document["aggregate"].get(metric) is not None for document in documents.values())
    ]
    spreads = {
        name: {metric: _spread(metric, name, documents) for metric in defined} for name in groups
    }
    seeds = sorted({seed for _, seed in documents})
    same_seeds = len({frozenset(by_seed) for by_seed in groups.values()}) == 1
    told = len(spreads) == 2 and same_seeds and "success_rate" in defined
    return Comparison(
        env_id=env_id,
        created_at=utc_now(),
        seeds=seeds,
        n_episodes=len(episodes),
        groups=spreads,
        trainings=trainings,
        deltas=_deltas(*spreads.values()) if len(spreads) == 2 else {},
        verdict=verdict(env_id, spreads, len(seeds)) if told else None,
        baselines={
            name: {metric: document["aggregate"][metric] for metric in defined}
            for name, document in floors.items()
        },
        sources=[path.as_posix() for path in (*_paths(groups).values(), *baselines.values())],
        command=command_line(),
        git=git_state(),
        versions=gather_versions(),
    )


def read_alike(
    groups: Mapping[str, Mapping[int, Path]], *, same_steps: bool = True
) -> tuple[dict[Key, dict[str, Any]], dict[str, dict[str, Any] | None]]:
    """The evaluations of every group and seed, and how each group was trained.

    Args:
        groups: name → training seed → evaluation JSON.
        same_steps: whether the groups must have been trained equally long.

    Raises:
        UsageError: an evaluation is missing, they were not played alike (the same episodes, with
            or without noise), or seeds of a group were not trained alike.
    """
    paths = _paths(groups)
    missing = [str(path) for path in paths.values() if not path.exists()]
    if missing:
        raise UsageError(f"no evaluation of: {', '.join(missing)}; train and evaluate these first")
    documents = {key: artifacts.read_json(path) for key, path in paths.items()}
    trainings = {}
    for name in groups:
        first, *others = (doc for (group, _), doc in documents.items() if group == name)
        for other in others:
            _require_same_training(first, other)
        trainings[name] = _training(first)
    if same_steps:
        _require_same_steps(trainings)
    episodes = next(iter(documents.values()))["seeds"]
    _require_same_episodes({path: documents[key] for key, path in paths.items()}, episodes)
    if len({document["deterministic"] for document in documents.values()}) > 1:
        raise UsageError("some were evaluated with noise and some without; evaluate them alike")
    return documents, trainings


def _paths(groups: Mapping[str, Mapping[int, Path]]) -> dict[Key, Path]:
    return {
        (name, seed): path for name, by_seed in groups.items() for seed, path in by_seed.items()
    }


def _require_same_episodes(
    documents: Mapping[Path, Mapping[str, Any]], episodes: Sequence[int]
) -> None:
    for path, document in documents.items():
        if document["seeds"] != episodes:
            raise UsageError(f"{path} is of other episodes than the rest; use the same for all")


def verdict(env_id: str, groups: Mapping[str, Mapping[str, SeedSpread]], n_seeds: int) -> str:
    """What the difference in success between two groups comes to, in one line."""
    rates = [f"{name} {group['success_rate'].mean:.2f}" for name, group in groups.items()]
    delta = _deltas(*groups.values())["success_rate"]
    strength = "CLEAR" if abs(delta) > CLEAR else "WEAK"
    return (
        f"{strength} SEPARATION: {', '.join(rates)} on {env_id}, "
        f"{100 * delta:+.0f} points over {n_seeds} seed{'s' * (n_seeds > 1)}"
    )


def _deltas(first: Mapping[str, SeedSpread], second: Mapping[str, SeedSpread]) -> dict[str, float]:
    """By how much the second group's means are above those of the first."""
    return {metric: second[metric].mean - first[metric].mean for metric in first}


def _require_same_training(one: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    """Seeds of one group differ in nothing but the seed; a recipe is a name for settings.

    Raises:
        UsageError: they differ in a setting, the engine or the number of steps.
    """
    first, second = (
        {**training, "recipe": None} if (training := _training(document)) else None
        for document in (one, other)
    )
    if first and second and first != second:
        raise UsageError(
            f"{one['checkpoint']} and {other['checkpoint']} were trained with other settings or "
            "for other numbers of steps; train them alike to compare them"
        )


def _require_same_steps(trainings: Mapping[str, Mapping[str, Any] | None]) -> None:
    """Refuse groups that were trained for different numbers of steps.

    Raises:
        UsageError: the groups' numbers of steps differ.
    """
    steps = {name: one["total_steps"] for name, one in trainings.items() if one}
    if len(set(steps.values())) > 1:
        told = ", ".join(f"{name} {count:,}" for name, count in steps.items())
        raise UsageError(f"trained for other numbers of steps: {told}; train them alike")


def _training(document: Mapping[str, Any]) -> dict[str, Any] | None:
    """How a group was trained; None where no metadata says."""
    metadata = _metadata(document)
    if metadata is None:
        return None
    names = ("recipe", "engine", "total_steps")
    return {name: getattr(metadata, name) for name in names} | metadata.hyperparameters


def _metadata(document: Mapping[str, Any]) -> Metadata | None:
    checkpoint = document.get("checkpoint")
    return checkpoints.read_metadata(Path(checkpoint)) if checkpoint else None


def _spread(
    metric: str, name: str, documents: Mapping[tuple[str, int], Mapping[str, Any]]
) -> SeedSpread:
    of_group = {seed: doc for (group, seed), doc in sorted(documents.items()) if group == name}
    values = [float(document["aggregate"][metric]) for document in of_group.values()]
    by_seed = [
        [
            float(value)
            for episode in document["per_episode"]
            if (value := METRICS[metric](episode)) is not None
        ]
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
