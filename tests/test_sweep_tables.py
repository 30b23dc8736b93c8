"""What the results page says of a sweep: noise is no difference, and the book's sweep another."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import book_figures
import ch04_sweep
import pytest
import sweep_tables

from robotics_rl import artifacts
from robotics_rl.factorial import analyze, settings_of

# The second factor makes four pairs of each level of the first.
SMALL = {"gamma": (0.95, 0.98), "ent_coef": (0.05, 0.1, 0.2, 0.4)}
Rate = Callable[[Mapping[str, Any]], float]


def analysis(
    rate: Rate,
    factors: Mapping[str, Any] = ch04_sweep.FACTORS,
    env_id: str = ch04_sweep.PUSH,
    seeds: tuple[int, ...] = (0, 1),
) -> dict[str, Any]:
    """A document of a sweep in which every run did as ``rate`` says."""
    runs = [
        {"parameters": setting, "seed": seed, "success_rate": rate(setting)}
        for setting in settings_of(factors)
        for seed in seeds
    ]
    return dict(json.loads(artifacts.to_json(analyze(env_id, 700, runs, factors))))


def row(document: Mapping[str, Any], factor: str) -> list[str]:
    [found] = [cells for cells in sweep_tables.factors(document) if cells[0] == factor]
    return found


@pytest.mark.parametrize(
    ("gains", "difference", "verdict"),
    [  # Student's factor is 3.182 with four pairs
        ((0.1, 0.2, 0.3, 0.4), "+25.0 ± 20.5", "agreement"),
        ((-0.1, -0.2, -0.3, -0.4), "-25.0 ± 20.5", "contradiction"),
        ((-0.1, 0.2, 0.3, 0.4), "+20.0 ± 34.4", "no clear difference here"),
        ((0.01, 0.01, 0.01, 0.01), "+1.0 ± 0.0", "no clear difference here"),
    ],
)
def test_a_difference_is_over_pairs_and_held_against_its_half_width(
    gains: tuple[float, ...], difference: str, verdict: str
) -> None:
    by_level = dict(zip(SMALL["ent_coef"], gains, strict=True))
    document = analysis(lambda one: 0.5 + by_level[one["ent_coef"]] * (one["gamma"] == 0.95), SMALL)
    _, book, here, told, so = row(document, "gamma")
    assert book == "0.95: 0.915, 0.98: 0.805 (best 0.95, spread 11.0 points)"
    assert here.startswith(f"0.95: {0.5 + sum(gains) / 4:.3f}, 0.98: 0.500 (best 0.9")
    assert told == f"0.95 minus 0.98: {difference} (4 pairs)"
    assert so == verdict
    assert row(document, "ent_coef")[1] == "", "the book has other levels"
    assert f"{verdict} for gamma." in sweep_tables.agreement(document)


def test_where_the_book_has_no_difference_there_is_none_to_agree_with() -> None:
    clear = analysis(lambda one: 0.5 + 0.3 * (one["n_sampled_goal"] == 4))
    assert row(clear, "n_sampled_goal")[3:] == [
        "8 minus 4: -30.0 ± 0.0 (12 pairs)",
        "a clear difference here alone",
    ]
    assert row(clear, "learning_starts")[-1] == "no clear difference in either"
    said = sweep_tables.agreement(clear)
    assert "no clear difference in either for learning_starts" in said
    assert "best mean is the book's for ent_coef and gamma; another for n_sampled_goal" in said


def test_the_ends_of_the_book_s_ranking_are_found_in_ours() -> None:
    ends = (book_figures.SWEEP_BEST, book_figures.SWEEP_WORST)

    def rate(setting: Mapping[str, Any]) -> float:
        if setting in ends:
            return (0.7, 0.9)[ends.index(setting)]
        return 0.8 if setting["learning_starts"] == 5_000 else 0.1

    said = sweep_tables.agreement(analysis(rate))
    assert "Of our 24 settings the book's best is number 14, and its worst number 1." in said
    assert "one seed" not in said
    assert said.startswith("Beside the book's sweep of 2,000,000 steps: ")
    one_seed = sweep_tables.agreement(analysis(rate, seeds=(3,)))
    assert one_seed.endswith("means are over settings; which is best is not known.")


def test_settings_that_all_do_equally_well_have_no_best_one_and_no_interaction() -> None:
    document = analysis(lambda _: 1.0)
    said = sweep_tables.agreement(document)
    assert said.startswith("All 24 settings do equally well, so there is no best one: 700 steps")
    assert sweep_tables.interaction(document) is None
    assert "best" not in row(document, "gamma")[2]


def test_a_sweep_of_another_task_is_not_set_beside_the_book_s() -> None:
    document = analysis(lambda one: one["gamma"] - 0.1, env_id="FetchReach-v4")
    header, *rows = sweep_tables.factors(document)
    assert not any("book" in cell for cell in header)
    assert ["gamma", "0.98 minus 0.95: +3.0 ± 0.0 (12 pairs)"] in [
        [cells[0], cells[-1]] for cells in rows
    ]
    assert "book" not in sweep_tables.note(document) + sweep_tables.agreement(document)


def test_two_factors_are_shown_together_whatever_their_order() -> None:
    factors = {name: ch04_sweep.FACTORS[name] for name in ("gamma", "ent_coef")}
    found = sweep_tables.interaction(analysis(lambda one: one["ent_coef"] * one["gamma"], factors))
    assert found is not None
    assert found[0][1:] == ["mean success with gamma 0.95", "mean success with gamma 0.98"]
    assert found[3] == ["0.2", "0.190", "0.196"]


def test_the_commands_of_a_sweep_are_such_as_can_be_typed(workdir: Path) -> None:
    document = {**analysis(lambda _: 1.0), "command": ["python", ch04_sweep.SCRIPT, "analyze"]}
    run, then = sweep_tables.commands(document).split("`")[1::2]
    typed = vars(ch04_sweep._parser().parse_args(shlex.split(run)[2:]))
    asked = {"env": ch04_sweep.PUSH, "total_steps": 700, "train_seeds": "0,1", "command": "run"}
    assert typed == asked
    assert then == f"python {ch04_sweep.SCRIPT} analyze"
