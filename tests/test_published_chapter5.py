"""The documents of chapter 5 that are published say what the runs that they tell of came to."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

import ch04_her_sparse_reach_push as ch04
import ch04_sweep
import pytest
from support import ROOT, read_strict_json

ANALYSES = sorted((ROOT / "results" / "sweep").glob("sweep_*_analysis.json"))
JOURNEY = read_strict_json(ROOT / "results" / "ch04_journey.json")
of_each_sweep = pytest.mark.parametrize("path", ANALYSES, ids=lambda path: path.stem)


def runs_of(analysis: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The raw results that an analysis is of."""
    runs = read_strict_json(ROOT / analysis["source"])["runs"]
    return [
        run
        for run in runs
        if run["env_id"] == analysis["env_id"]
        and run["identity"]["total_steps"] == analysis["total_steps"]
    ]


def rates(runs: Sequence[Mapping[str, Any]], levels: Mapping[str, Any]) -> list[float]:
    """Success of the runs with these levels."""
    return [run["success_rate"] for run in runs if levels.items() <= run["parameters"].items()]


@of_each_sweep
def test_a_ranking_follows_from_the_runs(path: Path) -> None:
    analysis = read_strict_json(path)
    runs = runs_of(analysis)
    assert len(runs) == analysis["n_runs"] > 0
    found = {tuple(one["parameters"].items()): one for one in analysis["ranking"]}
    assert len(found) == len(analysis["ranking"]) == 24
    for setting, one in found.items():
        values = rates(runs, dict(setting))
        assert len(values) == len(one["seeds"]) == len(runs) / 24
        assert one["mean"] == pytest.approx(fmean(values))
        assert (one["lowest"], one["highest"]) == (min(values), max(values))
    means = [one["mean"] for one in analysis["ranking"]]
    assert means == sorted(means, reverse=True)


@of_each_sweep
def test_means_over_levels_and_pairs_of_levels_follow_from_the_runs(path: Path) -> None:
    analysis = read_strict_json(path)
    runs = runs_of(analysis)
    assert analysis["factors"] == {name: list(two) for name, two in ch04_sweep.FACTORS.items()}
    told = {(one["factor"], one["level"]): one for one in analysis["marginal_means"]}
    assert told.keys() == {(name, one) for name, two in ch04_sweep.FACTORS.items() for one in two}
    for (factor, level), one in told.items():
        values = rates(runs, {factor: level})
        assert (one["n_runs"], one["mean"]) == (len(values), pytest.approx(fmean(values)))
    for pair in analysis["interactions"]:
        values = rates(runs, dict(zip(pair["factors"], pair["levels"], strict=True)))
        assert (pair["n_runs"], pair["mean"]) == (len(values), pytest.approx(fmean(values)))


@of_each_sweep
def test_the_winner_of_a_sweep_did_on_other_episodes_as_is_told(path: Path) -> None:
    folder, analysis = path.parent, read_strict_json(path)
    best, again = analysis["ranking"][0], analysis["best_on_other_episodes"]
    runs = [one for one in runs_of(analysis) if one["parameters"] == best["parameters"]]
    names = [f"{Path(one['checkpoint']).stem}_other_eval.json" for one in runs]
    found = folder.glob(f"sweep_{analysis['env_id']}_*_other_eval.json")
    assert sorted(names) == sorted(path.name for path in found)
    told = []
    for run, name in zip(runs, names, strict=True):
        judged = read_strict_json(folder / name)
        assert judged["checkpoint_sha256"] == run["checkpoint_sha256"]
        assert judged["seeds"] == list(range(1_000, 1_100))
        told.append(fmean(one["success"] for one in judged["per_episode"]))
        assert judged["aggregate"]["success_rate"] == told[-1]
    assert again["parameters"] == best["parameters"]
    assert again["mean"] == pytest.approx(fmean(told))


def test_every_run_of_the_sweep_on_push_has_its_episodes() -> None:
    folder = ROOT / "results" / "sweep"
    runs = runs_of(read_strict_json(folder / "sweep_fetchpush-v4_analysis.json"))
    for run in runs:
        played = read_strict_json(folder / f"{Path(run['checkpoint']).stem}_eval.json")
        assert played["checkpoint_sha256"] == run["checkpoint_sha256"]
        assert played["seeds"] == list(range(100))
        assert run["success_rate"] == fmean(one["success"] for one in played["per_episode"])


def logged(curve: str, column: str) -> list[tuple[float, float]]:
    """Environment steps and values of a published curve, where it has one."""
    with (ROOT / curve).open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [(float(row["env_steps"]), float(row[column])) for row in rows if row[column]]


@pytest.mark.parametrize("run", JOURNEY["runs"], ids=lambda run: f"{run['arm']}-{run['seed']}")
def test_what_the_journey_tells_of_a_training_stands_in_its_curve_and_episodes(
    run: dict[str, Any],
) -> None:
    assert f"/arm{list(ch04.JOURNEY).index(run['arm']) + 1}/" in run["curve"]
    assert f"/seed{run['seed']}/" in run["curve"]
    success = logged(run["curve"], "success_rate")
    assert len(run["success_at"]) == 4
    for steps, told in run["success_at"].items():
        assert told == [value for at, value in success if at <= int(steps)][-1]
    played = read_strict_json(ROOT / run["evaluation"])
    assert (played["training_seed"], played["seeds"]) == (run["seed"], list(range(100)))
    assert f"/arm{list(ch04.JOURNEY).index(run['arm']) + 1}/" in run["evaluation"]
    assert run["success_rate"] == fmean(one["success"] for one in played["per_episode"])
    alphas = [value for _, value in logged(run["curve"], "ent_coef")]
    assert (run["ent_coef_lowest"], run["ent_coef_last"]) == (min(alphas), alphas[-1])


def test_the_journey_has_every_arm_with_every_seed() -> None:
    assert JOURNEY["arms"] == ch04.JOURNEY
    told = {(run["arm"], run["seed"]) for run in JOURNEY["runs"]}
    assert told == set(product(ch04.JOURNEY, range(3)))
    assert len(JOURNEY["runs"]) == len(told)


@pytest.mark.parametrize("env_id", [ch04.REACH, ch04.PUSH])
def test_a_published_comparison_says_what_its_evaluations_say(env_id: str) -> None:
    comparison = read_strict_json(ROOT / f"results/ch04_{env_id.lower()}_comparison.json")
    names = {"HER": "sac_her", "no-HER": "sac"}
    assert comparison["groups"].keys() == names.keys()
    for name, spreads in comparison["groups"].items():
        results = {
            str(seed): _evaluation(f"ch04_{names[name]}_{env_id.lower()}_seed{seed}")
            for seed in range(5)
        }
        for seed, result in results.items():
            assert (result["training_seed"], len(result["seeds"])) == (int(seed), 100)
        for metric, spread in spreads.items():
            values = {seed: result["aggregate"][metric] for seed, result in results.items()}
            assert spread["values"] == values
            assert spread["mean"] == pytest.approx(fmean(values.values()))
    for name, floor in comparison["baselines"].items():
        played = _evaluation(f"{name}_{env_id.lower()}")
        assert played["seeds"] == results["0"]["seeds"]
        assert floor.items() <= played["aggregate"].items()


def _evaluation(stem: str) -> dict[str, Any]:
    return read_strict_json(ROOT / "results" / f"{stem}_eval.json")
