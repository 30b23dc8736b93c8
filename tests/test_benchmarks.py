"""What the benchmarks count, and that nothing measured is measured again."""

from __future__ import annotations

import dataclasses
import importlib
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import benchmark_tables
import pytest
import rounds
import solving
from ablation import TRIAL as ABLATION
from solving import Task, _Examiner
from support import ROOT, read_strict_json
from time_to_success import TRIAL as TIMES

from robotics_rl import artifacts, config
from robotics_rl.errors import UsageError
from robotics_rl.schemas import Examination, SolvingRun
from robotics_rl.solving_tables import solving_rows


def _tiny(**changes: Any) -> Any:
    given = {"n_envs": 2, "net_arch": (16,), "batch_size": 16, "learning_starts": 100}
    values = {"name": "tiny", "env_id": "FetchReach-v4", "total_steps": 300, "every": 120}
    return Task(**{**values, "seeds": range(1), "given": given, **changes})


def _examiner(task: Any, rates: list[float]) -> Any:
    examiner = _Examiner(task, task.settings(0), mock.Mock())
    examiner.examinations = [
        Examination(
            env_steps=1_000 * index,
            gradient_steps=0,
            train_seconds=float(index),
            success_rate=rate,
            success_rate_ci95=(0.0, 1.0),
            goal_moved_rate=None,
        )
        for index, rate in enumerate(rates, 1)
    ]
    return examiner


@pytest.mark.parametrize(
    ("rates", "solved_at"),
    [
        ([0.5, 0.95, 0.96], 2_000),  # the first of the two counts
        ([0.95, 0.94, 0.99], None),  # one alone is luck
        ([0.97, 0.94, 0.95, 0.95], 3_000),
        ([0.99], None),
        ([], None),
    ],
)
def test_solved_means_two_examinations_in_a_row(rates: list[float], solved_at: int | None) -> None:
    solved = _examiner(_tiny(), rates).solved
    assert (solved.env_steps if solved else None) == solved_at


def test_training_is_examined_to_its_end_and_examinations_take_no_time(workdir: Path) -> None:
    task, pause = _tiny(), 0.5
    played: list[range] = []

    def play(policy: Any, env_id: str, seeds: range, threads: int) -> Iterator[Any]:
        played.append(seeds)
        time.sleep(pause)
        return (mock.Mock(success=seed % 4 == 0) for seed in seeds)

    started = time.monotonic()
    with mock.patch.object(solving, "side_by_side", play):
        run = solving.solve(task, task.settings(0))
    seconds = time.monotonic() - started
    assert [one.env_steps for one in run.examinations] == [120, 240, 300]
    assert {one.success_rate for one in run.examinations} == {0.25}
    assert run.examinations[-1].train_seconds < seconds - 4 * pause
    assert run.examinations[-1].gradient_steps == 300  # 3 per 2 steps, from step 102 on
    assert run.solved_env_steps is run.solved_seconds is None
    assert played == [*[range(100)] * 3, range(1_000, 1_100)], "others confirm"
    assert run.confirmed_success_rate == 0.25


def test_training_stops_when_it_is_solved(workdir: Path) -> None:
    task = _tiny(total_steps=100_000, every=20)
    with mock.patch.object(solving._Examiner, "success_rate", return_value=0.95):
        run = solving.solve(task, task.settings(0))
    assert run.solved_env_steps == 20
    assert [one.env_steps for one in run.examinations] == [20, 40]


def test_what_was_run_is_not_run_again_unless_its_settings_changed(workdir: Path) -> None:
    carried_out: list[tuple[str, int]] = []

    def pretend(task: Any, settings: config.TrainSettings, device: str) -> SolvingRun:
        carried_out.append((task.name, settings.run.seed))
        return _run(task, settings)

    def trial(*tasks: Any) -> Any:
        return solving.Trial(script="x", story="", name="n", tasks=tasks)

    first, second = _tiny(seeds=range(2)), _tiny(name="other")
    with mock.patch.object(solving, "solve", pretend):
        assert trial(first, second).main(["--seeds", "1"]) == 0
        assert carried_out == [("tiny", 1), ("other", 1)]
        trial(first, second).main([])
        assert carried_out[2:] == [("tiny", 0), ("other", 0)]
        changed = dataclasses.replace(second, given={**second.given, "gamma": 0.9})
        trial(first, changed).main(["--only", "other"])
        assert carried_out[4:] == [("other", 0)]
        examined_more = dataclasses.replace(first, every=60)
        trial(examined_more, second).main(["--only", "tiny", "--seeds", "0"])
        assert carried_out[5:] == [("tiny", 0)]
    document = read_strict_json(Path("results/benchmarks/x.json"))
    assert not Path("results/benchmarks/x_cuda.json").exists()
    with (
        mock.patch.object(solving, "solve", pretend),
        mock.patch.object(solving, "resolve_device", return_value="cuda:1"),
    ):  # what a CPU did says nothing of a GPU
        trial(first).main(["--device", "cuda:1", "--seeds", "0"])
    assert carried_out[6:] == [("tiny", 0)]
    assert Path("results/benchmarks/x_cuda.json").exists()
    with (
        mock.patch.object(solving, "solve", pretend),
        mock.patch.object(solving, "usable_cores", return_value=64),
    ):  # nor do another machine's seconds
        trial(first).main(["--seeds", "0", "--out", "elsewhere.json"])
        trial(first).main(["--seeds", "0"])
        assert carried_out[7:] == [("tiny", 0)] * 2
        solving.Trial("x", "", "n", [second], timed=False).main(["--seeds", "1"])
    assert carried_out[9:] == [], "steps count the same on every machine"
    assert len(solving.read_runs(Path("elsewhere.json"))) == 1
    assert (document["schema"], document["timed"]) == ("solving/1", True)
    places = [(run["name"], run["seed"]) for run in document["runs"]]
    assert places == [("other", 0), ("other", 1), ("tiny", 0), ("tiny", 1)]
    assert document["runs"][0]["hyperparameters"]["gamma"] == 0.9


def _run(task: Any, settings: config.TrainSettings, solved: int | None = None) -> SolvingRun:
    look = Examination(
        env_steps=task.every,
        gradient_steps=1,
        train_seconds=1.0,
        success_rate=0.5,
        success_rate_ci95=(0.4, 0.6),
        goal_moved_rate=None,
    )
    end = dataclasses.replace(look, env_steps=300)
    plain = {row.name: "" for row in dataclasses.fields(SolvingRun)}
    return SolvingRun(
        **{
            **plain,
            "name": task.name,
            "env_id": task.env_id,
            "seed": settings.run.seed,
            "hyperparameters": settings.flat_hyperparameters(),
            "engine": settings.run.engine,
            "target": task.target,
            "total_steps": task.total_steps,
            "solved_env_steps": solved,
            "solved_seconds": solved and solved / 100,
            "examinations": [look, end],
            "confirmed_success_rate": 0.5,
            "device_name": solving.device_name("cpu"),
            "cpu_cores": solving.usable_cores(),
        }
    )


def test_race_measures_everybody_in_turn_and_divides_medians(
    workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {"ours": iter([30.0, 10.0, 20.0]), "theirs": iter([4.0, 5.0, 6.0])}
    asked: list[tuple[str, float]] = []

    def measure(name: str) -> Callable[[float], float]:
        def one(seconds: float) -> float:
            asked.append((name, seconds))
            return next(values[name])

        return one

    race = rounds.Race(
        script="y",
        story="",
        name="n",
        unit="u",
        contestants=lambda device: [(name, measure(name)) for name in values],
        ratios={"ours / theirs": ("ours", "theirs")},
    )
    assert race.main(["--rounds", "3", "--seconds", "0.5", "--out", "short.json"]) == 0
    assert asked == [("ours", 0.5), ("theirs", 0.5)] * 3
    document = read_strict_json(Path("short.json"))
    assert document["rows"] == {"ours": [30.0, 10.0, 20.0], "theirs": [4.0, 5.0, 6.0]}
    assert document["ratios"] == {"ours / theirs": 4.0}
    assert not Path("results").exists()


@pytest.mark.parametrize(
    ("flags", "written"),
    [
        ([], True),
        (["--rounds", "8", "--seconds", "4"], True),
        (["--rounds", "6"], False),
        (["--seconds", "2.9"], False),
    ],
)
def test_a_short_measurement_replaces_no_published_one(
    flags: list[str], written: bool, workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    contestants = {"one": lambda seconds: seconds}
    race = rounds.Race("y", "", "n", "u", lambda device: contestants.items(), ratios={})
    assert race.main(flags) == 0
    assert Path("results/benchmarks/y.json").exists() is written
    assert ("give --out" in capsys.readouterr().out) is not written


def test_the_profile_counts_as_many_environments_as_were_timed() -> None:
    assert benchmark_tables.N_ENVS == importlib.import_module("pixels").N_ENVS


def test_every_task_of_the_benchmarks_resolves() -> None:
    for task in (*ABLATION.tasks, *TIMES.tasks):
        assert task.settings(0).run.total_steps == task.total_steps
    names = [(task.name, task.env_id) for task in ABLATION.tasks]
    assert len(set(names)) == len(names)
    recipe, *variants = ABLATION.tasks
    for variant in variants:
        assert variant.settings(0).identity() != recipe.settings(0).identity(), variant.name


@pytest.mark.slow
@pytest.mark.parametrize("name", ["environments", "learner", "training", "pixels"])
def test_every_contestant_of_a_race_runs(name: str, workdir: Path) -> None:
    race = importlib.import_module(name).RACE
    short = ["--rounds", "1", "--seconds", "0.01", "--out", "short.json"]
    # OpenGL contexts of many contestants are best left to the end of their process.
    script = str(ROOT / "benchmarks" / f"{name}.py")
    subprocess.run([sys.executable, script, *short], check=True)
    document = read_strict_json(Path("short.json"))
    assert all(value > 0 for values in document["rows"].values() for value in values)
    assert document["ratios"].keys() == race.ratios.keys()


@pytest.mark.parametrize("benchmark", [TIMES, ABLATION, importlib.import_module("learner").RACE])
def test_help_ends_with_an_example_and_names_what_can_be_chosen(
    benchmark: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        benchmark.main(["--help"])
    told, _, example = capsys.readouterr().out.partition("example")
    assert f"  bash docker/dev.sh python benchmarks/{benchmark.script}.py --" in example
    for task in getattr(benchmark, "tasks", ()):
        for name in (task.name, task.env_id):
            assert f"\n  {shlex.quote(name)}\n" in told


def test_nothing_is_run_for_a_task_that_is_not_there(workdir: Path) -> None:
    with pytest.raises(UsageError, match="no task is called 'typo'; choose one of: FetchPick"):
        TIMES.main(["--only", "typo"])
    race = importlib.import_module("learner").RACE
    for flags in (["--rounds", "0"], ["--seconds", "0"], ["--seconds", "nan"]):
        with pytest.raises(UsageError, match="nothing is measured; give --rounds"):
            race.main(flags)
    for benchmark in (race, TIMES):
        with pytest.raises(UsageError, match="unknown --device 'tpu'"):
            benchmark.main(["--device", "tpu"])


def test_tables_tell_seeds_medians_and_what_was_given_up(workdir: Path) -> None:
    settings = _tiny().settings(0)
    runs = [_run(_tiny(), settings, solved) for solved in (1_000, 3_000, None, 1_500)]
    runs += [_run(_tiny(name="never"), settings), _run(_tiny(name="slow"), settings, 1_800)]
    plain = json.loads(json.dumps([dataclasses.asdict(run) for run in runs]))
    header, *rows = solving_rows(plain, timed=True)
    assert len(header) == 8
    assert rows == [
        ["FetchReach-v4", "never", "0 of 1 seeds to 95%", "given up at 300 with success 0.50", "",
         "", "0.50", "0.40 to 0.60"],
        ["FetchReach-v4", "slow", "1 of 1 seeds to 95%", "1,800", "18.0", "1.20", "0.50",
         "0.40 to 0.60"],
        ["FetchReach-v4", "tiny", "3 of 4 seeds to 95%", "1,500 (1,000 to 3,000)",
         "15.0 (10.0 to 30.0)", "1.00", "0.50 (0.50 to 0.50)", "0.45 to 0.55"],
    ]  # fmt: skip
    untimed = solving_rows(plain, timed=False)
    assert untimed == [[*row[:4], *row[5:]] for row in (header, *rows)]


def test_a_target_is_met_missed_or_not_reached() -> None:
    def verdicts(values: list[float | None], *, at_least: bool) -> list[list[str]]:
        targets = [
            benchmark_tables.Target("x", 2.0, lambda value=value: value, at_least=at_least)
            for value in values
        ]
        return [target.row()[1:] for target in targets]

    unreached = "not reached by every seed, or not run yet"
    assert verdicts([2.0, 1.9, None], at_least=True) == [
        ["at least 2", "2.0", "yes"], ["at least 2", "1.9", "no"], ["at least 2", unreached, "no"],
    ]  # fmt: skip
    assert verdicts([2.0, 2.1], at_least=False) == [
        ["at most 2 s", "2.0 s", "yes"], ["at most 2 s", "2.1 s", "no"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("solved", "slowest"), [([1_000, 3_000], 30.0), ([1_000, None], None), ([1_000], None)]
)
def test_the_slowest_of_all_seeds_counts(
    solved: list[int | None], slowest: float | None, workdir: Path
) -> None:
    task = _tiny(name="fast")
    runs = [_run(task, task.settings(seed), steps) for seed, steps in enumerate(solved)]
    runs.append(_run(_tiny(name="book"), task.settings(0), 9_000))
    path = artifacts.benchmark_path("time_to_success")
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"runs": [dataclasses.asdict(run) for run in runs]}))
    assert benchmark_tables._slowest("FetchReach-v4", 2)() == slowest
