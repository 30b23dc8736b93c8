"""A lab's demo over seeds: what is stored, what is run again, what the exit code says."""

from __future__ import annotations

import dataclasses
import json
import types
from pathlib import Path
from typing import Any

import lab_seeds
import pytest
from support import read_strict_json

PATH = Path("results", "labs", "ppo_cartpole.json")


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch, workdir: Path) -> list[int]:
    """Seeds that were run; odd ones do not learn."""
    seeds: list[int] = []

    def run(lab: Any, seed: int) -> dict[str, Any]:
        assert lab.TASKS, "the real lab"
        seeds.append(seed)
        return {"seed": seed, "steps_to_target": None if seed % 2 else 1_000}

    demo = dataclasses.replace(lab_seeds.DEMOS["ppo_cartpole"], run=run)
    monkeypatch.setitem(lab_seeds.DEMOS, "ppo_cartpole", demo)
    return seeds


def test_every_seed_is_stored_with_its_verdict(
    ran: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert lab_seeds.main(["ppo_cartpole", "--seeds", "0-2"]) == 1
    document = read_strict_json(PATH)
    assert document["schema"] == "lab-seeds/1"
    assert (document["lab"], document["n_learned"]) == ("ppo_from_scratch", 2)
    assert [row["learned"] for row in document["rows"]] == [True, False, True]
    assert "2 of 3 seeds learned" in capsys.readouterr().out


def test_seeds_that_are_there_are_not_run_again_unless_asked(ran: list[int]) -> None:
    assert lab_seeds.main(["ppo_cartpole", "--seeds", "0,4"]) == 0
    assert lab_seeds.main(["ppo_cartpole", "--seeds", "2,4"]) == 0
    assert ran == [0, 4, 2]
    assert [row["seed"] for row in read_strict_json(PATH)["rows"]] == [0, 2, 4]
    lab_seeds.main(["ppo_cartpole", "--seeds", "4", "--fresh"])
    assert ran == [0, 4, 2, 4]
    assert [row["seed"] for row in read_strict_json(PATH)["rows"]] == [4]


def test_a_row_keeps_the_commit_that_it_was_run_from(
    ran: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    commits = ["old", "new"]
    for commit, seed in zip(commits, ("0", "2"), strict=True):
        monkeypatch.setattr(lab_seeds, "git_state", lambda: {"commit": commit})  # noqa: B023
        lab_seeds.main(["ppo_cartpole", "--seeds", seed])
    document = read_strict_json(PATH)
    assert [row["git"]["commit"] for row in document["rows"]] == commits
    for row in document["rows"]:  # as documents were written before rows told
        del row["git"], row["created_at"]
    PATH.write_text(json.dumps(document), encoding="utf-8")
    monkeypatch.setattr(lab_seeds, "git_state", lambda: {"commit": "newest"})
    lab_seeds.main(["ppo_cartpole", "--seeds", "4"])
    found = [row["git"]["commit"] for row in read_strict_json(PATH)["rows"]]
    assert found == ["new", "new", "newest"]


def test_a_run_that_breaks_off_keeps_the_seeds_before(
    ran: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = lab_seeds.DEMOS["ppo_cartpole"]

    def run(lab: Any, seed: int) -> dict[str, Any]:
        if seed == 2:
            raise KeyboardInterrupt
        return before.run(lab, seed)

    monkeypatch.setitem(lab_seeds.DEMOS, "ppo_cartpole", dataclasses.replace(before, run=run))
    with pytest.raises(KeyboardInterrupt):
        lab_seeds.main(["ppo_cartpole", "--seeds", "0,2"])
    assert [row["seed"] for row in read_strict_json(PATH)["rows"]] == [0]


@pytest.mark.parametrize("name", lab_seeds.DEMOS)
def test_demos_name_labs_and_seeds_that_exist(name: str) -> None:
    from robotics_rl.options import parse_seeds

    demo = lab_seeds.DEMOS[name]
    assert lab_seeds.load_lab(demo.lab).main
    assert len(parse_seeds(demo.seeds)) >= (1 if name.endswith("_exercises") else 3)


def test_point_reach_trains_with_and_without_hindsight() -> None:
    class Lab:
        HERConfig = lab_seeds.load_lab("ddpg_her_from_scratch").HERConfig
        TrainConfig = lab_seeds.load_lab("ddpg_her_from_scratch").TrainConfig

        @staticmethod
        def train(config: Any) -> Any:
            result = dataclasses.make_dataclass("Result", ["curves", "seconds"])
            return result({"success": [config.her.k / 4]}, float(config.seed))

    row = lab_seeds.DEMOS["ddpg_her_point_reach"].run(Lab, 3)
    assert (row["success_with_her"], row["success_without_her"]) == (1.0, 0.0)
    assert (row["seed"], row["seconds_with_her"]) == (3, 3.0)
    assert lab_seeds.DEMOS["ddpg_her_point_reach"].learned(row)
    assert not lab_seeds.DEMOS["ddpg_her_point_reach"].learned({**row, "success_without_her": 0.3})


def test_the_exercises_of_sac_change_one_setting_each() -> None:
    settings = lab_seeds.load_lab("sac_from_scratch").Settings
    lab = types.SimpleNamespace(
        Settings=settings,
        learn=lambda seed, how: {"steps_to_solved": 200, "final_return": seed, "how": how},
    )
    demo = lab_seeds.DEMOS["sac_pendulum_exercises"]
    row = demo.run(lab, 7)
    usual = settings(steps=25_000)
    assert [row[name]["how"] for name in lab_seeds.PENDULUM_EXERCISES] == [
        usual._replace(single_q=True),
        usual._replace(fixed_alpha=0.2),
        usual._replace(target_entropy=-0.5),
        usual._replace(target_entropy=-2.0),
    ]
    assert demo.figures["return, lower_target"](row) == 7
    assert demo.learned(row)
    assert not demo.learned({**row, "single_q": {"steps_to_solved": None}})


def test_learners_get_their_task_its_settings_and_a_bound_on_steps() -> None:
    calls: list[tuple[Any, ...]] = []

    def learn(*inputs: Any) -> dict[str, Any]:
        calls.append(inputs)
        return {"seed": 3}

    lab = types.SimpleNamespace(
        learn=learn,
        TASKS={"CartPole-v1": (195.0, "cart"), "FetchReachDense-v4": (-1.5, "fetch")},
        Settings=lab_seeds.load_lab("sac_from_scratch").Settings,
    )
    for name in ("ppo_cartpole", "ppo_dense_reach", "sac_pendulum", "sac_pendulum_demo"):
        assert lab_seeds.DEMOS[name].run(lab, 3) == {"seed": 3}
    assert calls == [
        ("CartPole-v1", 3, 50_000, "cart"),
        ("FetchReachDense-v4", 3, 200_000, "fetch"),
        (3, lab.Settings(steps=15_000)),
        (3, lab.Settings(steps=50_000)),
    ]
    for name, key, most in (
        ("ppo_cartpole", "steps_to_target", 50_000),
        ("ppo_dense_reach", "steps_to_target", 200_000),
        ("sac_pendulum", "steps_to_solved", 15_000),
    ):
        assert lab_seeds.DEMOS[name].learned({key: most})
        assert not lab_seeds.DEMOS[name].learned({key: most + 1})
        assert not lab_seeds.DEMOS[name].learned({key: None})


def test_the_curve_of_the_pendulum_is_read_at_the_steps_of_the_book() -> None:
    curve = [{"steps": n, "return": -n / 100, "alpha": 1 / n} for n in range(200, 50_001, 200)]
    row = {"curve": curve, "steps_to_solved": 6_000, "seconds": 170, "final_return": -500.0}
    short, whole = (
        {words: value(row) for words, value in lab_seeds.DEMOS[name].figures.items()}
        for name in ("sac_pendulum", "sac_pendulum_demo")
    )
    assert (short["return at 10,000 steps"], short["alpha at 10,000"]) == (-100, 1e-4)
    assert (whole["return at 25,000 steps"], whole["alpha at 25,000"]) == (-250, 4e-5)
    assert (whole["return at 50,000"], whole["alpha at 50,000"]) == (-500, 2e-5)
    demo = lab_seeds.DEMOS["sac_pendulum_demo"]
    assert not demo.learned(row)
    assert demo.learned({**row, "final_return": -140.0})
