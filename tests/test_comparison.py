"""Comparing policies over training seeds: fair, complete, and honest about few seeds."""

import pytest

from robotics_rl import artifacts, comparison
from robotics_rl.comparison import compare
from robotics_rl.errors import UsageError
from robotics_rl.reporting import comparison_table, over_seeds


def write(path, successes, seeds=None, deterministic=True):
    episodes = [
        {"success": bool(s), "return": -1.0 - s, "final_distance": 0.1, "action_smoothness": 2.0,
         "started_solved": index == 0}
        for index, s in enumerate(successes)
    ]  # fmt: skip
    aggregate = {
        "success_rate": sum(successes) / len(successes),
        "success_rate_unsolved_start": sum(successes[1:]) / len(successes[1:]),
        "return_mean": -2.0,
        "final_distance_mean": 0.1,
        "action_smoothness_mean": 2.0,
    }
    seeds = seeds or list(range(len(successes)))
    document = {"aggregate": aggregate, "per_episode": episodes, "seeds": seeds}
    artifacts.write_json(path, {**document, "deterministic": deterministic})
    return path


@pytest.fixture
def three_seeds(tmp_path):
    return {
        seed: write(tmp_path / f"{seed}.json", successes)
        for seed, successes in enumerate([[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 0, 0]])
    }


def test_mean_and_student_interval_are_over_training_seeds(three_seeds):
    spread = compare({"ppo": three_seeds}, {}, "X-v0").groups["ppo"]["success_rate"]
    assert spread.values == {"0": 1.0, "1": 0.75, "2": 0.5}
    assert spread.mean == 0.75
    assert spread.t_half_width == pytest.approx(4.3027 * 0.25 / 3**0.5, rel=1e-4)
    assert spread.iqm == 1.0  # 9 of 12 episodes succeed: the middle half all do


def test_two_seeds_show_values_and_no_interval(three_seeds):
    del three_seeds[2]
    comparison = compare({"ppo": three_seeds}, {}, "X-v0")
    assert comparison.groups["ppo"]["success_rate"].t_half_width is None
    assert comparison.groups["ppo"]["success_rate"].iqm_bootstrap_ci95 is None
    assert "no interval: 2 seeds" in comparison_table(comparison)


def test_an_interval_of_a_rate_ends_at_0_and_1_in_what_is_shown(three_seeds):
    comparison = compare({"ppo": three_seeds}, {}, "X-v0")
    spread = comparison.groups["ppo"]["success_rate"]
    assert spread.mean + spread.t_half_width > 1
    shown = comparison_table(comparison)
    assert "success_rate                 0.750 (0.129 to 1.000)" in shown
    assert "return_mean                  -2.000 +/- 0.000" in shown
    assert over_seeds("success_rate", 0.01, 0.02) == "0.010 (0.000 to 0.030)"
    assert over_seeds("return_mean", 0.01, 0.02, ".2f") == "0.01 ± 0.02"
    assert over_seeds("success_rate", 0.5, None) == "0.500"


def test_settings_that_differ_between_groups_are_named(three_seeds, monkeypatch):
    tau = {1.0: 0.005, 0.75: 0.01}  # by success, which tells the two apart

    def trained(document):
        own = {"recipe": "fast", "engine": "fast", "n_envs": 8, "total_steps": 10, "gamma": 0.95}
        return own | {"tau": tau[document["aggregate"]["success_rate"]]}

    monkeypatch.setattr(comparison, "_training", trained)
    shown = comparison_table(compare({"a": {0: three_seeds[0]}, "b": {0: three_seeds[1]}}, {}, "X"))
    assert "the groups also differ in: tau\n" in shown
    assert "differ in" not in comparison_table(compare({"a": {0: three_seeds[0]}}, {}, "X"))


def test_the_floors_stand_beside_the_groups(three_seeds, tmp_path):
    floor = write(tmp_path / "floor.json", [1, 0, 0, 0])
    comparison = compare({"ppo": three_seeds}, {"do_nothing": floor}, "X-v0")
    assert comparison.baselines["do_nothing"]["success_rate"] == 0.25
    assert "do_nothing" in comparison_table(comparison)


def test_a_missing_evaluation_is_named(three_seeds, tmp_path):
    three_seeds[7] = tmp_path / "seed7.json"
    with pytest.raises(UsageError, match="seed7"):
        compare({"ppo": three_seeds}, {}, "X-v0")


def test_evaluations_of_other_episodes_are_not_compared(three_seeds, tmp_path):
    three_seeds[3] = write(tmp_path / "3.json", [1, 1, 1, 1], seeds=[5, 6, 7, 8])
    with pytest.raises(UsageError, match=r"3\.json is of other episodes"):
        compare({"ppo": three_seeds}, {}, "X-v0")


def test_policies_with_noise_are_not_compared_with_policies_without(three_seeds, tmp_path):
    three_seeds[3] = write(tmp_path / "3.json", [1, 1, 1, 1], deterministic=False)
    with pytest.raises(UsageError, match="some were evaluated with noise"):
        compare({"ppo": three_seeds}, {}, "X-v0")


def test_groups_trained_for_longer_are_compared_only_where_asked_for(three_seeds, monkeypatch):
    steps = {1.0: 2_000, 0.75: 5_000}  # by success, which tells the two apart

    def trained(document):
        return {"total_steps": steps[document["aggregate"]["success_rate"]]}

    monkeypatch.setattr(comparison, "_training", trained)
    groups = {"short": {0: three_seeds[0]}, "long": {0: three_seeds[1]}}
    with pytest.raises(UsageError, match="other numbers of steps: short 2,000, long 5,000"):
        compare(groups, {}, "X-v0")
    found = compare(groups, {}, "X-v0", same_steps=False)
    assert found.trainings == {"short": {"total_steps": 2_000}, "long": {"total_steps": 5_000}}


@pytest.mark.parametrize(("setting", "is_compared"), [("recipe", True), ("tau", False)])
def test_a_recipe_is_a_name_for_settings(three_seeds, monkeypatch, setting, is_compared):
    def trained(document):
        document["checkpoint"] = "x.zip"  # for the message
        told = {"recipe": "fast", "tau": 0.01, "total_steps": 10}
        return told | {setting: document["aggregate"]["success_rate"]}  # another in every seed

    del three_seeds[2]
    monkeypatch.setattr(comparison, "_training", trained)
    if is_compared:
        assert compare({"sac": three_seeds}, {}, "X-v0").seeds == [0, 1]
    else:
        with pytest.raises(UsageError, match="trained with other settings"):
            compare({"sac": three_seeds}, {}, "X-v0")
