"""The results page on dense Reach: intervals over seeds, and why figures are not the book's."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import book_table
import dense_reach_tables
import pytest
from support import ROOT

from robotics_rl.artifacts import read_json
from robotics_rl.chapters import Card
from robotics_rl.curves import read_curves
from robotics_rl.progress import clock

PPO, SAC = dense_reach_tables.CARDS
every_card = pytest.mark.parametrize("card", [PPO, SAC], ids=lambda card: card.algo)


@pytest.fixture(autouse=True)
def published(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def spreads(card: Card) -> dict[str, Any]:
    [group] = read_json(card.comparison_path("results", None))["groups"].values()
    return dict(group)


def by_metric(card: Card) -> dict[str, dict[str, str]]:
    """Row → what its column begins with → cell."""
    header, *rows = dense_reach_tables.policies(card)
    names = [re.findall(r"seeds [\d, ]+|seed \d|$", column)[0] or column for column in header]
    return {row[0]: dict(zip(names[2:], row[2:], strict=True)) for row in rows}


def told(card: Card) -> str:
    return " ".join(dense_reach_tables.differences(card))


@every_card
def test_mean_and_interval_over_seeds_stand_between_the_seeds_and_the_book(card: Card) -> None:
    table = by_metric(card)
    for metric, spread in spreads(card).items():
        cells = table[metric]
        assert cells["seeds 0, 1, 2"] == (
            "1 (1 to 1)"  # every seed solves every episode
            if metric.startswith("success")
            else f"{spread['mean']:.4g} ± {spread['t_half_width']:.2g}"
        )
        assert [cells[f"seed {seed}"] for seed in range(3)] == [
            f"{value:.4g}" for value in spread["values"].values()
        ]
        assert cells["book"] == card.book_metrics.get(metric, "")
    assert table["ep_len_mean"]["seeds 0, 1, 2"] == ""


def test_alpha_is_read_from_the_curves_near_the_steps_of_the_book() -> None:
    table = by_metric(SAC)
    for label, steps, book in (("30,400", 30_400, "0.47"), ("1,000,000", 1_000_000, "0.0004")):
        cells = table[f"ent_coef at {label} steps"]
        for seed in range(3):
            curve = read_curves(Path(f"runs/sac/FetchReachDense-v4/seed{seed}/curves.csv"))
            [alpha] = [row["ent_coef"] for row in curve if row["env_steps"] == steps]
            assert cells[f"seed {seed}"] == f"{alpha:.4g}"
        assert cells["book"] == book


def test_a_short_run_says_nothing_of_steps_it_did_not_take() -> None:
    header, *rows = dense_reach_tables.policies(SAC)
    assert "500,000 steps" in header[1]
    short = {row[0]: row[1] for row in rows}
    assert short["ent_coef at 30,400 steps"]
    assert short["ent_coef at 1,000,000 steps"] == ""


@every_card
def test_returns_follow_from_where_the_arm_rests_and_the_farthest_seed_is_named(card: Card) -> None:
    start, slope, off = re.search(  # type: ignore[union-attr]
        r"return of (-[\d.]+) - ([\d.]+) × distance, ([\d.]+) off at most", told(card)
    ).groups()
    of_card = spreads(card)
    distances = of_card["final_distance_mean"]["values"]
    for seed, reward in of_card["return_mean"]["values"].items():
        line = float(start) - float(slope) * distances[seed]
        assert reward == pytest.approx(line, abs=float(off) + 0.006)  # of rounding
    farthest = max(distances, key=lambda seed: distances[seed])
    assert f"Seed {farthest} rests farthest away, at {distances[farthest]:.4f} m" in told(card)


@pytest.mark.parametrize(
    ("metrics", "verdict"),
    [
        ((), "distance both lie within our intervals; 3 seeds cannot tell the book's result from"),
        (("return_mean",), "book's return lies outside our interval: 3 seeds do show"),
        (("final_distance_mean",), "book's distance lies outside our interval: 3 seeds do show"),
        (
            ("return_mean", "final_distance_mean"),
            "book's return and distance lie outside our intervals: 3 seeds do show",
        ),
    ],
)
def test_the_book_is_held_against_our_interval(metrics: tuple[str, ...], verdict: str) -> None:
    figures = dict(PPO.book_metrics)
    for metric in metrics:
        spread = spreads(PPO)[metric]
        figures[metric] = f"{spread['mean'] + 1.01 * spread['t_half_width']} ± 0.01"
    assert verdict in told(dataclasses.replace(PPO, book_metrics=figures))


@every_card
def test_a_row_over_seeds_tells_the_range_of_times_and_both_commands(card: Card) -> None:
    *_, row = dense_reach_tables.headlines(card)
    _, command, time, *_ = row
    train, compare = re.findall(r"`python (.*?)`", command)
    assert train == f"{card.script} all --seed K --total-steps 1000000"
    assert compare == f"{card.script} compare --seeds 0,1,2"
    paths = (f"checkpoints/{card.algo}_{card.env_id}_seed{seed}.meta.json" for seed in range(3))
    seconds = [read_json(Path(path))["training"]["wall_seconds"] for path in paths]
    assert f"({clock(min(seconds))} to {clock(max(seconds))})" in time


def test_what_matters_more_is_what_varies_more() -> None:
    def end(*returns: float) -> list[dict[str, float | None]]:
        return [{"env_steps": n, "ep_rew_mean": value} for n, value in enumerate(returns)]

    restless = dense_reach_tables._wandering([end(-1, -3, -1), end(-1, -3, -1.1)])
    assert "more with the moment at which it ends than with its seed" in restless
    apart = dense_reach_tables._wandering([end(-1, -1.1, -1), end(-3, -3.1, -3)])
    assert "more with its seed than with the moment at which it ends" in apart


def test_more_environments_leave_fewer_gradient_steps() -> None:
    found = dense_reach_tables.throughput()
    assert found is not None
    medians = read_json(ROOT / "results/ch03_throughput.json")["medians"]
    _, rows = found
    for (n_envs, speed, updates, per_second), count in zip(rows[1:], (1, 2, 4, 8, 16), strict=True):
        assert int(n_envs) == count
        assert speed.startswith(f"{medians[n_envs]:,.0f} (")
        assert float(updates) == 1 / count
        assert int(per_second) == round(medians[n_envs] / count)


def test_too_few_seeds_for_an_interval_have_no_verdict() -> None:
    spread = {"values": {"0": -0.5, "1": -0.7}, "mean": -0.6, "t_half_width": None}
    group = {"return_mean": spread, "final_distance_mean": spread}
    assert dense_reach_tables.verdict(PPO, group).startswith("Too few seeds (2)")
    assert book_table._overlap(spread, {**spread, "t_half_width": 0.1}) == ""
