"""Chapter 3 of the book: its commands do what it prints, and say what they found."""

import pytest
from support import read_strict_json, run_script, succeed, tree

from robotics_rl.artifacts import write_json

SCRIPT = "scripts/ch02_ppo_dense_reach.py"
QUICK = ["--n-envs", "2", "--n-steps", "32", "--batch-size", "32", "--total-steps", "64"]
EVALUATION = "results/ch02_ppo_fetchreachdense-v4_seed0_eval.json"


def test_all_trains_evaluates_and_holds_the_result_against_the_criteria(workdir):
    outcome = run_script(SCRIPT, "all", *QUICK, "--n-eval-episodes", "3")
    assert outcome.code == 1, "64 steps of training must not meet the criteria"
    assert "FAIL  success_rate" in outcome.out
    assert "(must be < 0.02)" in outcome.out
    metadata = read_strict_json(workdir / "checkpoints/ppo_FetchReachDense-v4_seed0.meta.json")
    assert metadata["chapter"] == "ch02"
    result = read_strict_json(workdir / EVALUATION)
    assert result["checkpoint_sha256"] == metadata["checkpoint_sha256"]
    assert result["seeds"] == [0, 1, 2]


def test_train_then_eval_name_the_same_files_as_all(workdir):
    succeed(SCRIPT, "train", *QUICK)
    assert not (workdir / "results").exists()
    checkpoint = "checkpoints/ppo_FetchReachDense-v4_seed0.zip"
    outcome = run_script(SCRIPT, "eval", "--ckpt", checkpoint, "--n-eval-episodes", "2")
    assert outcome.code == 1
    assert f"OK: wrote {EVALUATION}" in outcome.out
    for flag in ("--device", "--eval-device"):
        refused = run_script(SCRIPT, "eval", "--ckpt", checkpoint, flag, "tpu")
        assert refused.code == 2
        assert "unknown --device 'tpu'" in refused.err


def test_the_exercises_flags_reach_the_algorithm(workdir):
    succeed(SCRIPT, "train", *QUICK, "--clip-range", "0.1", "--gae-lambda", "0.5")
    metadata = read_strict_json(workdir / "checkpoints/ppo_FetchReachDense-v4_seed0.meta.json")
    assert metadata["hyperparameters"]["clip_range"] == 0.1
    assert metadata["hyperparameters"]["gae_lambda"] == 0.5


def test_the_card_prints_the_settings_that_the_code_uses(workdir):
    out = succeed(SCRIPT, "card").out
    assert "500,000 in 8 environments" in out
    assert "success_rate >= 0.9" in out
    assert EVALUATION in out
    assert "not measured yet" in out  # an empty folder has no metadata to read the time from


def test_compare_names_the_seeds_that_are_missing(workdir):
    outcome = run_script(SCRIPT, "compare", "--seeds", "0,1", "--run-tag", "t")
    assert outcome.code == 2
    assert "training seed 0, 1" in outcome.err
    assert "all --seed=0 --run-tag=t" in outcome.err


def test_compare_puts_the_floors_beside_the_seeds(workdir):
    succeed("eval.py", "--baseline", "random", "--env", "FetchReachDense-v4", "--seeds", "0-1")
    succeed("eval.py", "--baseline", "do-nothing", "--env", "FetchReachDense-v4", "--seeds", "0-1")
    result = read_strict_json(workdir / "results/random_fetchreachdense-v4_eval.json")
    for seed in range(3):
        write_json(workdir / EVALUATION.replace("seed0", f"seed{seed}"), result)
    outcome = succeed(SCRIPT, "compare", "--seeds", "0,1,2")
    assert "do_nothing" in outcome.out
    comparison = read_strict_json(workdir / "results/ch02_fetchreachdense-v4_comparison.json")
    assert comparison["schema"] == "comparison/1"
    assert comparison["groups"]["ppo"]["return_mean"]["t_half_width"] == pytest.approx(0)


@pytest.mark.parametrize("command", ["all", "train", "eval", "compare", "card"])
def test_every_sub_command_has_help_with_an_example(command):
    outcome = run_script(SCRIPT, command, "--help")
    assert outcome.code == 0
    assert f"bash docker/dev.sh python {SCRIPT} {command}" in outcome.out


def test_a_tag_keeps_an_evaluation_apart_from_the_published_one(workdir):
    succeed(SCRIPT, "train", *QUICK)
    checkpoint = "checkpoints/ppo_FetchReachDense-v4_seed0.zip"
    flags = ["--n-eval-episodes", "1", "--run-tag", "mine"]
    run_script(SCRIPT, "eval", "--ckpt", checkpoint, *flags)
    assert (workdir / EVALUATION.replace("results/", "results/mine/")).exists()
    assert not (workdir / EVALUATION).exists()


def test_compare_refuses_seeds_that_were_trained_differently(workdir):
    for seed, gamma in ((0, "0.99"), (1, "0.9")):
        flags = [*QUICK, "--seed", str(seed), "--gamma", gamma, "--n-eval-episodes", "1"]
        run_script(SCRIPT, "all", *flags)
    before = tree(workdir)
    outcome = run_script(SCRIPT, "compare", "--seeds", "0,1")
    assert outcome.code == 2
    assert "trained with other settings" in outcome.err
    assert tree(workdir) == before, "no floor was played"


def test_a_checkpoint_of_another_task_is_not_held_against_these_criteria(workdir, trained_sac_her):
    outcome = run_script(SCRIPT, "eval", "--ckpt", str(trained_sac_her.checkpoint))
    assert outcome.code == 2
    assert "is of sac on FetchPush-v4" in outcome.err
    assert not (workdir / "results").exists()
