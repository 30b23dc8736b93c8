"""Beside every result of the book: what was measured, from a file that is there, or how to."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import book_figures
import book_table
import ch04_her_sparse_reach_push as ch04
import chapter5_tables
import chapter9_tables
import pytest
from support import ROOT, edit_json, read_strict_json

from robotics_rl import artifacts, cli
from robotics_rl.schemas import FactorLevel, Journey, JourneyRun, SweepAnalysis, SweepSetting

MISSING = "not measured yet: "
COMMANDS = sorted({command for row in book_table.ROWS.values() for command in row.commands})


def row(name: str) -> tuple[str, str]:
    """What was measured beside a result of the book, and why it differs."""
    place = list(book_figures.RESULTS).index(name)
    *_, measured, why = book_table.rows()[1 + place]
    return measured, why


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def test_every_result_of_the_book_has_a_row(published: None) -> None:
    assert book_table.ROWS.keys() == book_figures.RESULTS.keys()
    header, *body = book_table.rows()
    assert len(body) == 20
    assert {len(cells) for cells in (header, *body)} == {4}
    assert [book for _, book, _, _ in body] == [one.whole for one in book_figures.RESULTS.values()]


def test_what_was_measured_names_a_file_that_is_there(published: None) -> None:
    measured = [cell for _, _, cell, _ in book_table.rows()[1:] if not cell.startswith(MISSING)]
    assert len(measured) > 10
    for cell in measured:
        links = re.findall(r"\]\((.*?)\)", cell)
        assert links, cell
        assert all((ROOT / "results" / link).exists() for link in links), links


def test_what_was_not_measured_tells_how_to(workdir: Path) -> None:
    for name, (*_, measured, why) in zip(book_figures.RESULTS, book_table.rows()[1:], strict=True):
        commands = book_table.ROWS[name].commands
        assert commands
        listed = ", then ".join(f"`{command}`" for command in commands)
        assert (measured, why) == (MISSING + listed, "")


class Parsed(Exception):  # noqa: N818
    """The arguments were understood."""


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_are_those_of_the_scripts(command: str, workdir: Path) -> None:
    def parse_args(parser: cli.Parser, arguments: Sequence[str]) -> None:
        argparse.ArgumentParser.parse_args(parser, arguments)
        raise Parsed

    python, script, *arguments = shlex.split(command)
    assert (python, (ROOT / script).exists()) == ("python", True)
    with mock.patch.object(cli.Parser, "parse_args", parse_args), pytest.raises(Parsed):
        importlib.import_module(Path(script).stem).main(arguments)


@pytest.mark.parametrize(
    "figure",
    ["-0.40 ± 0.05", "-0.93 ± 0.13", "-1.68 ± 0.02", "-13.20", "184.5", "0.915", "37k", "594"],
)
def test_a_figure_of_the_book_is_quoted_in_one_place(figure: str) -> None:
    files = [path for path in (ROOT / "scripts").glob("*.py") if figure in path.read_text("utf-8")]
    assert [path.name for path in files] == ["book_figures.py"]


def test_bounds_that_are_missed_are_named(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("results/fastpath", "checkpoints/fastpath"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).mkdir()
    stem = "ppo_FetchReachDense-v4_seed0"
    result = Path("results/fastpath", f"ch02_{stem.lower()}_eval.json")
    for path in (result, Path("checkpoints/fastpath", f"{stem}.meta.json")):
        path.write_text((ROOT / path).read_text())
    assert row("ppo_fast_path")[1] == "Every bound is kept."
    mean = read_strict_json(result)["aggregate"]
    edit_json(result, aggregate={**mean, "return_mean": -11.0, "success_rate": 0.89})
    measured, why = row("ppo_fast_path")
    assert why == "Missed: success_rate, return_mean."
    assert "success 0.89" in measured


def test_a_random_policy_within_the_book_s_ranges_needs_no_reason(workdir: Path) -> None:
    path = Path("results/ch01_random_metrics.json")
    path.parent.mkdir()
    path.write_text((ROOT / path).read_text())
    assert "0.15 m at most" in row("random")[1]
    inside = {name: low for name, (low, _) in book_figures.RANDOM.items()}
    edit_json(path, aggregate={**read_strict_json(path)["aggregate"], **inside})
    assert row("random")[1] == ""


def test_the_her_lab_is_expected_to_store_as_many_as_it_does(published: None) -> None:
    measured, why = row("her_relabeler")
    assert "210 transitions on average" in why
    assert measured.startswith("[10 of 10 seeds](labs/her_relabeler.json): transitions 21")


def test_longer_trainings_stand_beside_the_comparison(workdir: Path) -> None:
    comparison = read_strict_json(ROOT / "results" / "ch04_fetchreach-v4_comparison.json")
    assert chapter5_tables.differences(ch04.REACH, comparison).endswith("(0.02 beside 0.03).")
    aggregate = {"return_mean": -3.0, "final_distance_mean": 0.02}
    for name, seed, rate in (("sac", 0, 0.9), ("sac", 1, 1.0), ("sac_her", 0, 0.8)):
        checkpoint = f"checkpoints/book/{name}_FetchReach-v4_seed{seed}.zip"
        result = {"checkpoint": checkpoint, "aggregate": {**aggregate, "success_rate": rate}}
        made = {"her": name == "sac_her", "seed": seed, "steps_done": 1_000_000}
        artifacts.write_json(artifacts.metadata_path(Path(checkpoint)), made)
        path = Path(f"results/book/ch04_{name}_fetchreach-v4_seed{seed}_eval.json")
        artifacts.write_json(path, result)
    told = chapter5_tables.differences(ch04.REACH, comparison)
    assert told.endswith("(0.02 beside 0.03); 1,000,000 bring it to 0.90, 1.00 (seeds 0, 1).")
    artifacts.write_json(Path("results/ch04_fetchreach-v4_comparison.json"), comparison)
    measured, _ = row(ch04.REACH)
    how = "with the book's recipe, 1,000,000 steps"
    assert f"; no-HER {how}, seed 1: [1.00, return -3.00, 20.0 mm](book/ch04_sac_" in measured
    assert f"; HER {how}, seed 0: [0.80, return -3.00, 20.0 mm](book/ch04_sac_her_" in measured


@pytest.mark.parametrize(
    ("rates", "cause"),
    [
        ((1.0, 0.9), " So these settings make the difference, and HER is not needed."),
        ((0.03, 0.05), " So HER makes the difference."),
        ((0.9, 0.05), ""),
    ],
)
def test_the_control_says_what_makes_the_difference(
    rates: tuple[float, float], cause: str, workdir: Path
) -> None:
    comparison = read_strict_json(ROOT / "results" / "ch04_fetchreach-v4_comparison.json")
    for seed, rate in enumerate(rates):
        checkpoint = f"checkpoints/recipe/sac_FetchReach-v4_seed{seed}.zip"
        result = {"checkpoint": checkpoint, "aggregate": {"success_rate": rate}}
        made = {"her": False, "seed": seed, "total_steps": 50_000}
        artifacts.write_json(artifacts.metadata_path(Path(checkpoint)), made)
        path = Path(f"results/recipe/ch04_sac_fetchreach-v4_seed{seed}_eval.json")
        artifacts.write_json(path, result)
    told = chapter5_tables.differences(ch04.REACH, comparison)
    assert told.endswith(f"come to {rates[0]:.2f}, {rates[1]:.2f} (seeds 0, 1).{cause}")
    edit_json(artifacts.metadata_path(Path(checkpoint)), total_steps=60_000)
    assert "come to" not in chapter5_tables.differences(ch04.REACH, comparison)


def test_a_journey_tells_of_learned_entropy(workdir: Path) -> None:
    arms: dict[str, dict[str, Any]] = {"learned": {"ent_coef": "auto"}, "fixed": {}}
    runs = [
        JourneyRun(arm=arm, seed=seed, success_rate=rate + seed / 10, success_at={},
                   ent_coef_lowest=alpha, ent_coef_last=alpha, curve="x.csv",
                   evaluation="x_eval.json")
        for arm, rate, alpha in (("learned", 0.1, 0.004), ("fixed", 0.8, 0.05))
        for seed in range(3)
    ]  # fmt: skip
    made = {"created_at": "", "command": [], "git": {}, "versions": {}}
    document = Journey(env_id="FetchPush-v4", total_steps=7_000, arms=arms, runs=runs, **made)
    artifacts.write_json(Path("results/ch04_journey.json"), document)
    measured, why = row("push_auto")
    assert measured.startswith("[learned: success 0.20 (0.10 to 0.30), lowest α 0.004")
    assert why.startswith("7,000 steps of the recipe")
    assert "fixed: success 0.90 (0.80 to 1.00)" in why


def test_seeds_too_few_for_an_interval_show_their_values(workdir: Path) -> None:
    name = "ch04_fetchreach-v4_comparison.json"
    comparison = read_strict_json(ROOT / "results" / name)
    for group in comparison["groups"].values():
        for spread in group.values():
            spread["t_half_width"] = None
            spread["values"] = {"0": 0.25, "1": 0.5}
    artifacts.write_json(Path("results", name), comparison)
    measured, _ = row("FetchReach-v4")
    values = "0.25 and 0.50, return 0.25 and 0.50, 250.0 and 500.0 mm"
    assert measured == f"[HER {values}; no-HER {values}]({name})"


@pytest.mark.parametrize(("env_id", "is_there"), [("FetchPush-v4", True), ("FetchReach-v4", False)])
def test_only_a_sweep_of_the_book_s_task_stands_beside_the_book_s(
    env_id: str, is_there: bool, workdir: Path
) -> None:
    levels = ((0.95, 0.9), (0.98, 0.7))
    ranking = [
        SweepSetting(
            parameters={**book_figures.SWEEP_BEST, "gamma": gamma}, seeds=[0, 1], mean=mean,
            sd=0.02, lowest=mean, highest=mean, t_half_width=None, bootstrap_ci95=None,
        )
        for gamma, mean in levels
    ]  # fmt: skip
    means = [FactorLevel(factor="gamma", level=g, n_runs=2, mean=mean) for g, mean in levels]
    analysis = SweepAnalysis(
        env_id=env_id, n_runs=4, total_steps=9_000, factors={}, ranking=ranking,
        marginal_means=means, interactions=[], source="", created_at="", command=[], git={},
        versions={},
    )  # fmt: skip
    artifacts.write_json(Path("results/sweep/sweep_x_analysis.json"), analysis)
    measured, why = row("sweep")
    if not is_there:
        assert measured.startswith(MISSING)
        return
    assert measured.startswith("[4 runs of 9,000 steps](sweep/sweep_x_analysis.json), best ent_")
    assert "gamma 0.95: 90.0 % (sd over seeds 2.0); worst" in measured
    assert "2,000,000 steps: no clear difference here for gamma" in why, "it is of one pair"


def test_policies_that_see_say_what_is_not_the_book_s(published: None) -> None:
    measured, why = row("pixels_4")
    assert "step4/ch09_manip_criticEnc_FetchPush-v4_seed0_eval.json" in measured
    assert "`camera` close" in why
    assert "`frame_stack`" not in why
    measured, why = row("pixels_control")
    assert "fast/ch09_fullState_FetchPush-v4_seed0_eval.json" in measured
    assert "`n_envs` 28" in why


def test_a_training_whose_policy_is_not_published_is_told_by_its_curve(
    published: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured, why = row("pixels_0")
    assert measured.startswith("[success 0.08 after 200,004 steps](../runs/step4/ch09_nature/")
    assert why == chapter9_tables.CURVE_ALONE
    monkeypatch.setattr(chapter9_tables, "RUNS", Path("nowhere"))
    assert row("pixels_0")[0].startswith(MISSING)


def test_the_milestones_of_a_curve_are_placed_by_the_book_s_ranges(
    published: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranges = {50_000: (0.0, 1.0), 100_000: (0.9, 1.0), 200_000: (0.0, 0.1)}
    monkeypatch.setattr(book_figures, "MILESTONES", ranges)
    why = row("ppo_milestones")[1]
    assert "in the book's range at 50,000 and below the book's range at 100,000 and above" in why


def test_a_quote_tells_its_cost_where_there_is_one() -> None:
    quote = book_figures.Quote("a", "b", "c")
    assert (quote.whole, quote.text) == ("c", "c (b)")
    assert dataclasses.replace(quote, cost="d").whole == "c; d"
