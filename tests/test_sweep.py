"""The sweep: nothing is done twice, failures do not stop it, and its tables are right."""

from __future__ import annotations

import json
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import ch04_sweep
import pytest
from matplotlib.figure import Figure
from support import read_strict_json, run_script, start, succeed, tree

from robotics_rl import artifacts, campaign, options, sweep_figures
from robotics_rl.factorial import analyze, left_out, settings_of

SCRIPT = ch04_sweep.SCRIPT
REACH = ["--env", "FetchReach-v4", "--grid", "grid.json"]
TINY = ["--net-arch", "8", "--batch-size", "8", "--n-envs", "2", "--learning-starts", "100"]
TINY += ["--buffer-size", "2000", "--total-steps", "110", "--no-progress", "--track", "none"]
RAW = Path("results/sweep/sweep_results_raw.json")


@pytest.fixture
def grid(workdir: Path) -> Path:
    """A folder with a grid of two settings."""
    Path("grid.json").write_text(json.dumps({"gamma": [0.9, 0.95]}))
    return workdir


def test_the_book_s_grid_has_24_settings() -> None:
    settings = settings_of(ch04_sweep.FACTORS)
    assert len(settings) == 24
    assert {"ent_coef": 0.05, "n_sampled_goal": 4, "learning_starts": 1_000, "gamma": 0.95} in (
        settings
    )


def test_a_sweep_runs_is_analyzed_and_packed_and_does_nothing_twice(grid: Path) -> None:
    flags = [*REACH, "--seeds", "3", *TINY]
    out = succeed(SCRIPT, "run", *flags, "--parallel", "2").out
    assert out.count("success 0.") == 2
    runs = read_strict_json(RAW)["runs"]
    assert sorted(run["parameters"]["gamma"] for run in runs) == [0.9, 0.95]
    for run in runs:
        metadata = read_strict_json(Path(run["checkpoint"]).with_suffix(".meta.json"))
        assert metadata["hyperparameters"]["gamma"] == run["parameters"]["gamma"]
        assert metadata["checkpoint_sha256"] == run["checkpoint_sha256"]
        assert run["seed"] == metadata["seed"] == 3
        assert run["error"] is None
    assert "2 of 2 runs are done" in succeed(SCRIPT, "run", *flags).out
    assert read_strict_json(RAW)["runs"] == runs
    RAW.unlink()  # as if the sweep had been killed before it entered them
    assert "0 of 2 runs are done" in succeed(SCRIPT, "run", *flags).out
    again = read_strict_json(RAW)["runs"]
    hashes = [sorted(run["checkpoint_sha256"] for run in entered) for entered in (runs, again)]
    assert hashes[0] == hashes[1]
    assert "2 done" in succeed(SCRIPT, "status", *flags).out
    assert "FetchReach-v4, 2 runs" in succeed(SCRIPT, "analyze", *REACH).out
    for name in ("heatmap", "marginals"):
        assert Path(f"figures/sweep_fetchreach-v4_{name}.png").read_bytes().startswith(b"\x89PNG")
    analysis = read_strict_json(RAW.with_name("sweep_fetchreach-v4_analysis.json"))
    assert [level["level"] for level in analysis["marginal_means"]] == [0.9, 0.95]
    best = analysis["best_on_other_episodes"]
    assert best["parameters"] == analysis["ranking"][0]["parameters"]
    [other] = RAW.parent.glob("*_other_eval.json")
    judged = read_strict_json(other)
    assert judged["seeds"] == list(range(1_000, 1_100))
    assert best["mean"] == judged["aggregate"]["success_rate"]
    succeed(SCRIPT, "export", *REACH, "--out", "best.tar.gz")
    Path(runs[0]["checkpoint"]).write_bytes(b"another")
    Path(runs[1]["checkpoint"]).write_bytes(b"another")
    succeed(SCRIPT, "analyze", *REACH)
    kept = read_strict_json(RAW.with_name("sweep_fetchreach-v4_analysis.json"))
    assert kept["best_on_other_episodes"] == best, "what is not at hand is not judged anew"
    with tarfile.open("best.tar.gz") as archive:
        names = archive.getnames()
    assert sorted(names) == sorted(
        Path(run["checkpoint"]).with_suffix(ending).name
        for run in runs
        for ending in (".zip", ".meta.json")
    )


def test_a_value_named_twice_is_refused(grid: Path) -> None:
    Path("grid.json").write_text('{"gamma": [0.9, 0.9]}')
    outcome = run_script(SCRIPT, "run", *REACH, "--seeds", "0", *TINY)
    assert outcome.code == 2
    assert "gamma has a level twice; name each of them once" in outcome.err


def test_every_setting_is_looked_at_before_anything_runs(grid: Path) -> None:
    Path("grid.json").write_text('{"learning_starts": [50, 200]}')  # the first cannot be
    outcome = run_script(SCRIPT, "run", *REACH, "--seeds", "0", *TINY)
    assert outcome.code == 2
    assert "none is finished before 100 steps" in outcome.err
    assert not RAW.exists()


@pytest.mark.slow
def test_a_run_that_fails_twice_is_recorded_and_stops_no_other(grid: Path) -> None:
    obstacle = RAW.with_name("sweep_FetchReach-v4_gamma0.9_seed0_eval.json")
    obstacle.mkdir(parents=True)
    outcome = run_script(SCRIPT, "run", *REACH, "--seeds", "0", *TINY)
    assert outcome.code == 1
    assert "FAIL: sweep_FetchReach-v4_gamma0.9_seed0 (exit code 2)" in outcome.out
    assert "again with --retry-failed" in outcome.out.splitlines()[-1]
    failed, done = sorted(read_strict_json(RAW)["runs"], key=lambda run: run["error"] is None)
    assert f"error: {obstacle} is a folder" in failed["error"]
    assert failed["success_rate"] is None
    assert done["parameters"] == {"gamma": 0.95}
    out = succeed(SCRIPT, "status", *REACH, "--seeds", "0", *TINY).out
    assert "1 failed\n       sweep_FetchReach-v4_gamma0.9_seed0" in out
    assert "1 runs" in succeed(SCRIPT, "analyze", *REACH).out, "a failure is no success rate of 0"
    assert run_script(SCRIPT, "run", *REACH, "--seeds", "0", *TINY).code == 1, "it is not forgotten"
    obstacle.rmdir()
    succeed(SCRIPT, "run", *REACH, "--seeds", "0", *TINY, "--retry-failed")
    assert [run["error"] for run in read_strict_json(RAW)["runs"]] == [None, None]


def test_what_another_process_trains_is_left_to_it(
    grid: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(campaign, "SECONDS_TO_SAVE", 0.2)
    name = "sweep_FetchReach-v4_gamma0.95_seed0"
    with artifacts.run_lock(Path("checkpoints", f"{name}.resume")):
        before = tree(grid)
        outcome = run_script(SCRIPT, "run", *REACH, "--seeds", "0", *TINY)
        assert tree(grid) == before
    assert outcome.code == 2
    assert f"another process is training {name}; wait for it" in outcome.err
    assert outcome.out.count("waiting until it has saved") == 1


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell a child")
def test_a_sweep_that_is_killed_goes_on_where_its_trainings_were(grid: Path) -> None:
    Path("grid.json").write_text('{"gamma": [0.9]}')
    flags = [*REACH, "--seeds", "3", *TINY, "--total-steps", "4000", "--checkpoint-freq", "500"]
    sweep = start(SCRIPT, "run", *flags)
    log = Path("runs/sweep/gamma0.9/logs/sweep_FetchReach-v4_gamma0.9_seed3.log")
    deadline = time.monotonic() + 240
    while not list(Path("checkpoints").glob("*.resume/*state*")):
        assert sweep.poll() is None, sweep.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    sweep.kill()
    out = succeed(SCRIPT, "run", *flags).out
    sweep.communicate(timeout=60)
    assert "0 of 1 runs are done" in out
    assert "tried again" not in out
    assert "\nresuming at " in log.read_text()
    assert [run["error"] for run in read_strict_json(RAW)["runs"]] == [None]


def test_sweeps_that_differ_in_more_than_their_factors_are_not_mixed(grid: Path) -> None:
    RAW.parent.mkdir(parents=True)
    runs = [
        {
            "env_id": "FetchReach-v4",
            "error": None,
            "parameters": {"gamma": gamma},
            "seed": 0,
            "success_rate": 0.5,
            "checkpoint": "absent.zip",
            "identity": {"gamma": gamma, "seed": 0, "tau": tau, "total_steps": 100},
        }
        for gamma, tau in ((0.9, 0.005), (0.95, 0.01), (0.99, 0.02))  # the last is of another grid
    ]
    RAW.write_text(json.dumps({"runs": runs}))
    outcome = run_script(SCRIPT, "analyze", *REACH)
    assert outcome.code == 2
    assert "mixes runs with tau 0.005 and 0.01; keep such sweeps apart" in outcome.err
    for run, steps in zip(runs, (100, 200, 300), strict=True):
        run["identity"] = {"gamma": run["parameters"]["gamma"], "seed": 0, "total_steps": steps}  # type: ignore[index]
    RAW.write_text(json.dumps({"runs": runs}))
    outcome = run_script(SCRIPT, "analyze", *REACH)
    assert "mixes runs with total_steps 100 and 200; choose with --total-steps" in outcome.err
    assert "1 runs" in succeed(SCRIPT, "analyze", *REACH, "--total-steps", "200").out
    outcome = run_script(SCRIPT, "export", *REACH, "--total-steps", "200")
    assert "1 of 1 checkpoints are not here" in outcome.err


def test_an_analysis_of_another_grid_takes_the_place_of_none(grid: Path) -> None:
    runs = [
        {
            "env_id": "FetchReach-v4",
            "error": None,
            "parameters": {"gamma": gamma},
            "seed": 0,
            "success_rate": gamma / 2,
            "checkpoint": "absent.zip",
            "identity": {"gamma": gamma, "seed": 0, "total_steps": 100},
        }
        for gamma in (0.9, 0.95)
    ]
    artifacts.write_json(RAW, {"runs": runs})
    succeed(SCRIPT, "analyze", *REACH)
    succeed(SCRIPT, "analyze", *REACH)
    assert not RAW.with_name("previous").exists(), "it was the same"
    Path("grid.json").write_text(json.dumps({"gamma": [0.9]}))
    out = succeed(SCRIPT, "analyze", *REACH).out
    assert "sweep_fetchreach-v4_analysis.json was of another sweep" in out
    for folder in (RAW.parent, Path("figures")):
        assert {path.suffix for path in (folder / "previous").iterdir()} <= {".json", ".png"}
    assert len(list(Path("figures/previous").iterdir())) == 2


def test_shards_share_the_runs_out() -> None:
    trials: Any = list(range(10))
    shards = [ch04_sweep._of_shard(trials, f"{number}/3") for number in (1, 2, 3)]
    assert sorted(trial for shard in shards for trial in shard) == trials
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


def test_every_trial_has_files_of_its_own() -> None:
    trials = ch04_sweep._trials({"train_seeds": "0,1"})
    assert len(trials) == 48
    for files in (
        {one.name for one in trials},
        {one.experiment.result for one in trials},
        {one.experiment.settings.run.out for one in trials},
        {(one.experiment.settings.run.run_tag, one.experiment.settings.run.seed) for one in trials},
    ):
        assert len(files) == 48
    flags = options.as_flags(trials[0].parameters)
    assert all(flag in trials[0].experiment.train for flag in flags)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["run", "--shard", "3/2"], "write it as 1/4"),
        (["run", "--shard", "half"], "write it as 1/4"),
        (["run", "--grid", "bad.json"], "colour is no setting with a list of levels"),
        (["analyze"], "no run on FetchPush-v4"),
        (["export"], "no run on FetchPush-v4"),
    ],
)
def test_bad_input_is_one_line(workdir: Path, flags: list[str], message: str) -> None:
    Path("bad.json").write_text('{"colour": ["red"]}')
    outcome = run_script(SCRIPT, *flags)
    assert outcome.code == 2
    assert message in outcome.err


def test_rankings_means_and_pairs_are_those_of_the_runs() -> None:
    factors = {"gamma": (0.95, 0.98), "k": (4, 8)}
    rates = {(0.95, 4): [1.0, 0.8, 0.9], (0.95, 8): [0.7], (0.98, 4): [0.2, 0.4]}
    runs = [
        {"parameters": {"gamma": gamma, "k": k}, "seed": seed, "success_rate": rate}
        for (gamma, k), values in rates.items()
        for seed, rate in enumerate(values)
    ]
    found = analyze("X-v0", 500, runs, factors)
    assert [one.parameters for one in found.ranking] == [
        {"gamma": 0.95, "k": 4}, {"gamma": 0.95, "k": 8}, {"gamma": 0.98, "k": 4},
    ]  # fmt: skip
    best = found.ranking[0]
    assert (best.mean, best.lowest, best.highest) == (pytest.approx(0.9), 0.8, 1.0)
    assert best.sd == pytest.approx(0.1)
    assert best.t_half_width == pytest.approx(4.3027 * 0.1 / 3**0.5, rel=1e-4)
    assert best.bootstrap_ci95 is not None
    assert 0.8 <= best.bootstrap_ci95[0] < 0.9 < best.bootstrap_ci95[1] <= 1.0
    assert found.ranking[1].bootstrap_ci95 is None, "one seed has no interval"
    means = {(one.factor, one.level): (one.n_runs, one.mean) for one in found.marginal_means}
    assert means["gamma", 0.95] == (2, pytest.approx(0.85)), "with the seed that all settings have"
    assert means["gamma", 0.98] == (1, pytest.approx(0.2))
    assert means["k", 4] == (2, pytest.approx(0.6))
    pairs = {one.levels: one.mean for one in found.interactions}
    assert pairs == {(0.95, 4): 1.0, (0.95, 8): 0.7, (0.98, 4): 0.2}
    assert list(left_out(runs, factors)) == [
        "1 of 4 settings have no run yet: means are over the others",
        "seeds that not every setting has are left out of means over settings: 1, 2",
    ]


def test_a_setting_with_one_seed_ranks_below_its_equals() -> None:
    rates = {0.9: {0: 0.5}, 0.95: {0: 0.4, 1: 0.6}}
    runs = [
        {"parameters": {"gamma": gamma}, "seed": seed, "success_rate": rate}
        for gamma, values in rates.items()
        for seed, rate in values.items()
    ]
    ranking = analyze("X-v0", 500, runs, {"gamma": tuple(rates)}).ranking
    assert [one.parameters["gamma"] for one in ranking] == [0.95, 0.9]
    assert ranking[1].sd is None


def test_means_of_other_seeds_each_are_told() -> None:
    runs = [
        {"parameters": {"gamma": gamma}, "seed": seed, "success_rate": 0.5}
        for gamma, seed in ((0.9, 0), (0.95, 1))
    ]
    [told] = left_out(runs, {"gamma": (0.9, 0.95)})
    assert told.startswith("no seed was run with every setting")


def test_the_figures_hold_every_setting_and_every_mean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    factors = {"gamma": (0.95, 0.98), "k": (4, 8), "tau": (0.1,)}
    runs = [
        {"parameters": dict(one), "seed": 0, "success_rate": rate}
        for one, rate in zip(settings_of(factors), (0.125, 0.25, 0.5, 1.0), strict=True)
    ]
    figures: list[Figure] = []
    save = Figure.savefig
    keep = lambda figure, *to, **how: [figures.append(figure), save(figure, *to, **how)]  # noqa: E731
    monkeypatch.setattr(Figure, "savefig", keep)
    analysis = analyze("X-v0", 500, runs, factors)
    sweep_figures.heatmap(analysis, tmp_path / "x.json", tmp_path / "a.png")
    sweep_figures.marginal_means(analysis, tmp_path / "x.json", tmp_path / "b.png")
    cells = {text.get_text().splitlines()[0] for text in figures[0].axes[0].texts}
    assert cells == {"0.12", "0.25", "0.50", "1.00"}
    rows = [label.get_text() for label in figures[0].axes[0].get_yticklabels()]
    assert rows[0] == "0.95, 4"
    means = [[text.get_text() for text in panel.texts] for panel in figures[1].axes]
    assert means == [["0.19", "0.75"], ["0.31", "0.62"], ["0.47"]]
