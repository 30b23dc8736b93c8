"""Chapter 5 of the book: HER beside no HER, over seeds, without doing anything twice."""

from __future__ import annotations

import itertools
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import ch04_her_sparse_reach_push as ch04
import chapter5_tables
import pytest
from support import edit_json, read_strict_json, run_script, succeed

from robotics_rl import campaign, journey
from robotics_rl.artifacts import write_json
from robotics_rl.comparison import verdict
from robotics_rl.envs.fetch_vec_env import FetchVecEnv
from robotics_rl.errors import UsageError
from robotics_rl.schemas import SeedSpread

SCRIPT = ch04.SCRIPT
TINY = ["--n-envs", "2", "--net-arch", "8", "--batch-size", "8", "--learning-starts", "100"]
TINY += ["--buffer-size", "2000", "--total-steps", "110", "--no-progress"]
TINY_EVAL = ["--n-eval-episodes", "2"]
CHECKPOINTS = Path("checkpoints")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which env-all has run."""
    folder = tmp_path_factory.mktemp("env_all")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        outcome = run_script(
            SCRIPT, "reach-all", "--seeds", "0,1", "--parallel", "2", *TINY, *TINY_EVAL
        )
    assert outcome.code == 1, "110 steps do not meet the criteria"
    out = outcome.out
    (folder / "out.txt").write_text(out)
    return folder


def test_the_results_page_shows_every_policy_and_what_hindsight_gives(
    done: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(done)
    header, *rows = chapter5_tables.trainings()
    assert [row[1].partition("]")[0] for row in rows] == [
        "[no HER, recipe book, seed 0", "[no HER, recipe book, seed 1",
        "[HER, recipe fast, seed 0", "[HER, recipe fast, seed 1",
    ]  # fmt: skip
    path = Path("results/ch04_sac_her_fetchreach-v4_seed1_eval.json")
    mean = read_strict_json(path)["aggregate"]
    cells = dict(zip(header, rows[3], strict=True))
    assert cells["policy"].endswith(f"({path.name})")
    metadata = "../checkpoints/sac_her_FetchReach-v4_seed1.meta.json"
    assert re.fullmatch(rf"\[0:\d\d\]\({metadata}\) on \d cores?", cells["training"])
    assert cells["success"].startswith(f"{mean['success_rate']:.2f} (")
    assert cells["return"] == f"{mean['return_mean']:.2f}"
    [(env_id, _, document)] = chapter5_tables.comparisons()
    assert env_id == ch04.REACH
    table = chapter5_tables.comparison(document)
    assert table[0] == ["metric", "HER", "no-HER", "do nothing", "random"]
    rates = {row[0]: row[1] for row in table}
    assert rates["success_rate"] == f"{document['groups']['HER']['success_rate']['mean']:.3f}"
    [headline] = chapter5_tables.headlines()
    assert "110 steps, seeds 0, 1" in headline[0]
    assert "env-all --env FetchReach-v4 --seeds 0,1 --total-steps 110`" in headline[1]


def _env_all(*more: str) -> Any:
    return run_script(
        SCRIPT, "env-all", "--env", ch04.REACH, "--seeds", "0,1", *TINY, *TINY_EVAL, *more
    )


def test_env_all_trains_evaluates_and_compares(done: Path) -> None:
    for name in ("sac", "sac_her"):
        for seed in (0, 1):
            metadata = read_strict_json(
                done / "checkpoints" / f"{name}_{ch04.REACH}_seed{seed}.meta.json"
            )
            assert (metadata["her"], metadata["seed"]) == (name == "sac_her", seed)
            assert metadata["recipe"] == ("fast" if metadata["her"] else "book")
            result = done / "results" / f"ch04_{name}_fetchreach-v4_seed{seed}_eval.json"
            evaluation = read_strict_json(result)
            assert evaluation["checkpoint_sha256"] == metadata["checkpoint_sha256"]
    comparison = read_strict_json(done / "results" / "ch04_fetchreach-v4_comparison.json")
    assert comparison["groups"].keys() == {"no-HER", "HER"}
    assert comparison["baselines"].keys() == {"do_nothing", "random"}
    assert comparison["seeds"] == [0, 1]
    assert "success_rate_unsolved_start" in comparison["groups"]["HER"]
    out = (done / "out.txt").read_text()
    assert "no interval: 2 seeds" in out
    assert "SEPARATION: no-HER" in out
    assert "FAIL  success_rate" in out
    assert "HER: 110 steps, recipe fast" in out
    assert comparison["trainings"]["no-HER"]["recipe"] == "book"
    deltas, groups = comparison["deltas"], comparison["groups"]
    for metric, delta in deltas.items():
        assert delta == groups["HER"][metric]["mean"] - groups["no-HER"][metric]["mean"]


def test_what_is_complete_is_not_made_again(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(done)
    before = {path: path.stat().st_mtime_ns for path in CHECKPOINTS.iterdir()}
    outcome = _env_all()
    assert outcome.out.count("\ncomplete: ") == 3  # and one at the beginning
    assert {path: path.stat().st_mtime_ns for path in CHECKPOINTS.iterdir()} == before
    evaluation = Path("results/ch04_sac_fetchreach-v4_seed1_eval.json")
    edit_json(evaluation, checkpoint_sha256="of another policy")
    outcome = _env_all()
    assert outcome.out.count("\ncomplete: ") == 2
    assert "OK: wrote checkpoints/sac_FetchReach-v4_seed1.zip and results/ch04_" in outcome.out
    assert read_strict_json(evaluation)["checkpoint_sha256"] != "of another policy"
    assert {path: path.stat().st_mtime_ns for path in CHECKPOINTS.iterdir()} == before


def test_memory_is_asked_for_all_that_run_side_by_side(workdir: Path) -> None:
    flags = ["--env", "FetchReach-v4", "--seeds", "0,1", "--buffer-size", str(10**12)]
    for parallel, times in (("1", "transitions needs"), ("3", "transitions, 3 times, needs")):
        outcome = run_script(SCRIPT, "env-all", *flags, "--parallel", parallel)
        assert outcome.code == 2
        assert times in outcome.err


def test_other_settings_or_other_episodes_are_not_complete(
    done: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(done)

    def complete(*flags: str) -> bool:
        asked = ["env-all", "--env", ch04.REACH, *TINY, *TINY_EVAL, *flags]
        given = vars(ch04._parser().parse_args(asked))
        del given["command"]
        return ch04._experiment(given, 0, her=True).is_complete()

    assert complete()
    assert not complete("--gamma", "0.9")
    assert not complete("--total-steps", "200")
    result = Path("results/ch04_sac_her_fetchreach-v4_seed0_eval.json")
    seeds = read_strict_json(result)["seeds"]
    edit_json(result, seeds=[5, 6])
    assert not complete()
    edit_json(result, seeds=seeds)
    with (CHECKPOINTS / "sac_her_FetchReach-v4_seed0.zip").open("ab") as file:
        file.write(b"damage")
    assert not complete()


def test_a_child_that_fails_is_shown_and_ends_everything(
    workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(campaign, "ROOT", workdir)  # where there is no script to run
    outcome = _env_all()
    assert outcome.code == 1
    assert "can't open file" in outcome.err
    assert "FAIL: sac_FetchReach-v4_seed0 (exit code 2), see runs/logs/" in outcome.err
    assert not Path("results/ch04_fetchreach-v4_comparison.json").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--env", "FetchPuch-v4"], "FetchPush-v4"),
        (["--env", "FetchReach-v4", "--buffer-size", "1000000000000"], "GiB"),
        (["--env", "FetchReach-v4", "--device", "cuda:9"], "cuda"),
        (["--env", "FetchReach-v4", "--parallel", "0"], "--parallel is 0"),
        (["--env", "FetchReach-v4", "--seed", "3"], "--seed"),
        (["--env", "FetchReach-v4", "--mujoco-gl", "metal"], "--mujoco-gl is metal"),
        (["--env", "FetchReach-v4", "--monitor-keywords", "won"], "--monitor-keywords won"),
    ],
)
def test_what_cannot_be_done_is_found_before_anything_is_written(
    workdir: Path, flags: list[str], message: str
) -> None:
    outcome = run_script(SCRIPT, "env-all", *flags)
    assert outcome.code == 2
    assert message in outcome.err
    assert not any(workdir.iterdir())


def test_flags_reach_the_children_and_find_their_results_again(workdir: Path) -> None:
    place = ["--run-tag", "mine", "--results-dir", "out", "--checkpoints-dir", "made"]
    more = ["--n-sampled-goal", "2", "--target-entropy", "-0.00001", "--no-eval-deterministic"]
    outcome = _env_all("--seeds", "5", *place, *more, "--engine", "sb3", "--log-dir", "curves")
    assert "SEPARATION" in outcome.out, outcome
    assert not Path("checkpoints").exists()
    metadata = read_strict_json(Path("made/mine/sac_her_FetchReach-v4_seed5.meta.json"))
    values = metadata["hyperparameters"]
    assert (metadata["engine"], values["n_sampled_goal"]) == ("sb3", 2)
    assert (values["ent_coef"], values["target_entropy"]) == ("auto", -1e-5)
    result = read_strict_json(Path("out/mine/ch04_sac_her_fetchreach-v4_seed5_eval.json"))
    assert (result["n_episodes"], result["deterministic"]) == (2, False)
    assert Path("out/mine/ch04_fetchreach-v4_comparison.json").exists()
    assert Path("curves/mine/sac_her/FetchReach-v4/seed5/curves.csv").exists()


def test_half_done_runs_go_on_and_those_with_other_settings_begin_anew(workdir: Path) -> None:
    def stop_in_the_middle(*flags: str) -> None:
        with mock.patch.object(FetchVecEnv, "step_wait", stopping_after(40)):
            run_script(SCRIPT, "train", "--env", ch04.REACH, "--her", *TINY, *flags)
        assert (CHECKPOINTS / "sac_her_FetchReach-v4_seed0.resume" / "state.pt").exists()

    def log() -> str:
        assert _env_all("--seeds", "0").code == 1, "110 steps do not meet the criteria"
        return Path("runs/logs/sac_her_FetchReach-v4_seed0.log").read_text()

    stop_in_the_middle()
    assert "resuming at 80 of 110 steps" in log()
    (CHECKPOINTS / "sac_her_FetchReach-v4_seed0.zip").unlink()
    stop_in_the_middle("--gamma", "0.9")
    assert "starting afresh: the unfinished run found here went to" in log()


def stopping_after(n_steps: int) -> Callable[[FetchVecEnv], Any]:
    """``step_wait`` that is asked to stop, once, after so many steps."""
    step_wait, taken = FetchVecEnv.step_wait, itertools.count(1)

    def step(env: FetchVecEnv) -> Any:
        if next(taken) == n_steps:
            signal.raise_signal(signal.SIGTERM)
        return step_wait(env)

    return step


def test_missing_seeds_are_named(workdir: Path) -> None:
    outcome = run_script(SCRIPT, "compare", "--env", ch04.PUSH, "--seeds", "0,4")
    assert outcome.code == 2
    for missing in ("no-HER seed 0", "no-HER seed 4", "HER seed 0", "HER seed 4"):
        assert missing in outcome.err
    assert "env-all --env=FetchPush-v4 --seeds=0,4" in outcome.err


def test_a_seed_named_twice_is_refused(workdir: Path) -> None:
    outcome = run_script(SCRIPT, "env-all", "--env", ch04.REACH, "--seeds", "0,0", *TINY)
    assert outcome.code == 2
    assert "names a seed twice" in outcome.err
    assert not any(workdir.iterdir())


@pytest.mark.parametrize(
    ("her", "expected"),
    [
        (0.98, "CLEAR SEPARATION: no-HER 0.05, HER 0.98 on FetchPush-v4, +93 points over 3 seeds"),
        (0.30, "WEAK SEPARATION: no-HER 0.05, HER 0.30 on FetchPush-v4, +25 points over 3 seeds"),
        (0.01, "WEAK SEPARATION: no-HER 0.05, HER 0.01 on FetchPush-v4, -4 points over 3 seeds"),
    ],
)
def test_the_verdict_says_how_clear_it_is(her: float, expected: str) -> None:
    def group(mean: float) -> dict[str, SeedSpread]:
        spread = SeedSpread(
            values={}, mean=mean, t_half_width=None, iqm=None, iqm_bootstrap_ci95=None
        )
        return {"success_rate": spread}

    assert verdict(ch04.PUSH, {"no-HER": group(0.05), "HER": group(her)}, 3) == expected


def test_settings_come_from_flags_then_the_recipe_then_the_chapter() -> None:
    def values(**given: Any) -> dict[str, Any]:
        settings = ch04._settings({"env": ch04.PUSH, **given})
        return {**settings.flat_hyperparameters(), "total_steps": settings.run.total_steps}

    plain, book = values(), values(her=True, recipe="book")
    for chosen in (plain, book):
        assert (chosen["gamma"], chosen["learning_starts"], chosen["n_envs"]) == (0.95, 1_000, 8)
        assert (chosen["ent_coef"], chosen["total_steps"]) == ("auto", 1_000_000)
    fast = values(her=True, gamma=0.9)
    assert (fast["gamma"], fast["ent_coef"], fast["n_envs"]) == (0.9, 0.05, 16)


def test_print_defaults_tells_where_each_value_comes_from(workdir: Path) -> None:
    flags = ["--env", "FetchPickAndPlace-v4", "--her", "--tau", "0.2", "--print-defaults"]
    lines = succeed(SCRIPT, "train", *flags).out.splitlines()
    told = {line.split()[0]: line.split(maxsplit=2)[1:] for line in lines[2:]}
    assert told["tau"] == ["0.2", "flag"]
    assert told["gradient_steps"] == ["3", "recipe fast"]
    assert told["ent_coef"] == ["0.01", "recipe fast on FetchPickAndPlace-v4"]
    assert told["total_steps"] == ["1000000", "chapter"]
    assert told["batch_size"] == ["256", "default"]
    assert not any(workdir.iterdir())


def test_another_number_of_goals_keeps_the_files_of_the_default(workdir: Path) -> None:
    for flags, folder in (
        (["--n-sampled-goal", "4"], ""),
        (["--n-sampled-goal", "8"], "nsg8"),
        (["--n-sampled-goal", "8", "--run-tag", "mine"], "mine"),
    ):
        succeed(SCRIPT, "train", "--env", ch04.REACH, "--her", *TINY, *flags)
        assert (CHECKPOINTS / folder / "sac_her_FetchReach-v4_seed0.zip").exists()


@pytest.mark.slow
def test_ablation_trains_every_number_of_goals_in_a_folder_of_its_own(workdir: Path) -> None:
    flags = ["--env", ch04.REACH, "--nsg-values", "1,4", *TINY, *TINY_EVAL]
    out = succeed(SCRIPT, "ablation", *flags).out
    document = read_strict_json(Path("results/ch04_fetchreach-v4_ablation.json"))
    assert document["aggregates"].keys() == {"1", "4"}
    for k in (1, 4):
        path = CHECKPOINTS / f"nsg{k}" / "sac_her_FetchReach-v4_seed0.meta.json"
        assert read_strict_json(path)["hyperparameters"]["n_sampled_goal"] == k
    assert "relabelled goals" in out
    outcome = run_script(SCRIPT, "ablation", "--env", ch04.REACH, "--nsg-values", "2,few")
    assert outcome.code == 2
    assert "write them as 2,4,8" in outcome.err


def test_push_with_her_is_held_against_the_criteria(workdir: Path) -> None:
    succeed(SCRIPT, "train", "--env", ch04.PUSH, "--her", *TINY)
    by_path = ["--ckpt", "checkpoints/sac_her_FetchPush-v4_seed0.zip"]
    outcome = run_script(SCRIPT, "eval", *by_path, *TINY_EVAL)
    assert outcome.code == 1, "110 steps must not meet the criteria"
    assert "(must be >= 0.9)" in outcome.out
    assert "(must be > -20)" in outcome.out
    by_name = run_script(SCRIPT, "eval", "--env", ch04.PUSH, "--her", *TINY_EVAL)
    assert by_name.code == 1
    succeed(SCRIPT, "train", "--env", ch04.PUSH, *TINY)
    assert "must be" not in succeed(SCRIPT, "eval", "--env", ch04.PUSH, *TINY_EVAL).out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "name it with --env"),
        (["--ckpt", "x.zip", "--her"], "leave out --her"),
        (["--ckpt", "x.zip", "--seed", "3"], "leave out --seed"),
        (["--ckpt", "x.zip", "--checkpoints-dir", "y"], "leave out --checkpoints-dir"),
    ],
)
def test_eval_wants_one_policy(workdir: Path, flags: list[str], message: str) -> None:
    outcome = run_script(SCRIPT, "eval", *flags)
    assert outcome.code == 2
    assert message in outcome.err


def test_env_is_asked_for() -> None:
    with pytest.raises(UsageError, match="name it with --env"):
        ch04._settings({})


def test_the_card_tells_the_book_s_command_and_criteria(workdir: Path) -> None:
    out = succeed(SCRIPT, "card").out
    assert "SAC + HER on FetchPush-v4" in out
    assert "train --env FetchPush-v4 --her --seed 0 --total-steps 500000 --ent-coef 0.05" in out
    assert "success_rate >= 0.9" in out


def test_a_journey_that_ended_before_it_learned_is_refused(
    workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journey, "points", lambda *_: [])
    experiment = ch04._experiment({"env": ch04.REACH, "total_steps": 10}, 0, her=True)
    with pytest.raises(UsageError, match="ended before it learned; give more --total-steps"):
        journey.run_of("arm", experiment)


@pytest.mark.slow
def test_the_journey_trains_every_arm_and_tells_alpha(
    workdir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arms = [*ch04.JOURNEY][::3]  # the first and the last differ in everything
    monkeypatch.setattr(ch04, "JOURNEY", {arm: ch04.JOURNEY[arm] for arm in arms})
    flags = ["--env", ch04.REACH, "--seeds", "1", *TINY, *TINY_EVAL, "--total-steps", "400"]
    write_json(Path("results/ch04_journey.json"), {"total_steps": 150_000})
    Path("figures").mkdir()
    Path("figures/ch04_journey.png").touch()
    assert ch04.main(["journey", *flags]) == 0
    for folder in ("results", "figures"):
        assert len([*Path(folder, "previous").iterdir()]) == 1, "another journey was published"
    document = read_strict_json(Path("results/ch04_journey.json"))
    assert document["arms"] == ch04.JOURNEY
    learned, fixed = document["runs"]
    for run, arm in zip((learned, fixed), arms, strict=True):
        assert (run["arm"], run["seed"]) == (arm, 1)
        assert run["success_at"].keys() == {"100", "200", "300", "400"}
        assert Path(run["curve"]).exists()
        assert read_strict_json(Path(run["evaluation"]))["training_seed"] == 1
    assert learned["ent_coef_lowest"] < 1.0
    assert fixed["ent_coef_lowest"] == fixed["ent_coef_last"] == pytest.approx(0.05)
    for number, keep in ((1, 1.0), (2, 0.05)):
        path = CHECKPOINTS / f"journey/arm{number}/sac_her_FetchReach-v4_seed1.meta.json"
        assert read_strict_json(path)["hyperparameters"]["trivial_goal_keep"] == keep
    assert "lowest alpha" in capsys.readouterr().out
    assert Path("figures/ch04_journey.png").read_bytes().startswith(b"\x89PNG")
