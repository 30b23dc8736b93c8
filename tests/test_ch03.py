"""Chapter 4 of the book: SAC beside PPO, and what more environments are worth."""

import ch03_sac_dense_reach
import pytest
from support import edit_json, read_strict_json, run_script, succeed

SCRIPT = "scripts/ch03_sac_dense_reach.py"
PPO_SCRIPT = "scripts/ch02_ppo_dense_reach.py"
SMALL = ["--n-envs", "2", "--net-arch", "16", "--batch-size", "16", "--no-progress"]
QUICK = [*SMALL, "--learning-starts", "100", "--buffer-size", "2000", "--total-steps", "150"]
QUICK_PPO = [*SMALL, "--n-steps", "32", "--total-steps", "64"]


def test_all_trains_evaluates_and_asks_for_ppo_to_compare_with(workdir):
    outcome = run_script(SCRIPT, "all", *QUICK, "--n-eval-episodes", "2")
    assert outcome.code == 1, "150 steps of training must not meet the criteria"
    assert "(must be >= 0.95)" in outcome.out
    hint = f"python {PPO_SCRIPT} all --seed=0 --n-eval-episodes=2\n"
    assert "no result of PPO to compare with" in outcome.out
    assert hint in outcome.out
    metadata = read_strict_json(workdir / "checkpoints/sac_FetchReachDense-v4_seed0.meta.json")
    assert metadata["chapter"] == "ch03"
    assert metadata["engine"] == "fast"
    assert metadata["recipe"] == "book"
    assert (workdir / "results/ch03_sac_fetchreachdense-v4_seed0_eval.json").exists()


def test_all_sets_sac_beside_ppo_on_the_same_episodes(workdir):
    run_script(PPO_SCRIPT, "all", *QUICK_PPO, "--seed", "3", "--n-eval-episodes", "2")
    outcome = run_script(SCRIPT, "all", *QUICK, "--seed", "3", "--n-eval-episodes", "2")
    table = outcome.out[outcome.out.index("side by side, over 2 episodes") :].splitlines()
    rows = {line.rsplit(maxsplit=2)[0].strip(): line.split()[-2:] for line in table[1:]}
    assert rows["metric"] == ["PPO", "SAC"]
    assert rows["training steps"] == ["64", "150"]
    for name, script, column in (("ppo", "ch02", 0), ("sac", "ch03", 1)):
        path = workdir / f"results/{script}_{name}_fetchreachdense-v4_seed3_eval.json"
        mean = read_strict_json(path)["aggregate"]
        assert rows["return_mean"][column] == f"{mean['return_mean']:.2f}"
        assert rows["action_smoothness_mean"][column] == f"{mean['action_smoothness_mean']:.2f}"


def test_all_compares_where_the_checkpoint_is_elsewhere_too(workdir):
    """--out moves SAC's checkpoint, not PPO's, and a tag both."""
    tag = ["--run-tag", "t", "--n-eval-episodes", "2"]
    run_script(PPO_SCRIPT, "all", *QUICK_PPO, *tag)
    outcome = run_script(SCRIPT, "all", *QUICK, *tag, "--out", "elsewhere/sac")
    assert "side by side, over 2 episodes" in outcome.out
    assert (workdir / "elsewhere/sac.zip").exists()


def test_other_episodes_are_not_set_side_by_side(workdir):
    run_script(PPO_SCRIPT, "all", *QUICK_PPO, "--n-eval-episodes", "2")
    outcome = run_script(SCRIPT, "all", *QUICK, "--eval-seeds", "5,6")
    assert "side by side" not in outcome.out
    assert "PPO played other episodes; to compare, play these: bash docker/dev.sh" in outcome.out
    assert f"python {PPO_SCRIPT} eval --seed=0 --eval-seeds=5,6\n" in outcome.out
    run_script(PPO_SCRIPT, "eval", "--seed=0", "--eval-seeds=5,6")
    assert "side by side" in ch03_sac_dense_reach.beside_ppo({"eval_seeds": "5,6"})


def test_throughput_measures_every_number_of_environments(workdir, monkeypatch, capsys):
    module = ch03_sac_dense_reach
    monkeypatch.setattr(module, "SECONDS", 0.05)
    monkeypatch.setattr(module, "ROUNDS", 2)
    flags = ["--n-envs-list", "1,2", "--seed", "3", "--device", "cpu"]
    assert module.main(["throughput", *flags]) == 0
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    per_step = {row[0]: row[-2] for row in printed if row[:1] in (["1"], ["2"])}
    assert per_step == {"1": "1", "2": "0.5"}  # gradient steps per environment step
    document = read_strict_json(workdir / "results/ch03_throughput.json")
    assert document["schema"] == "benchmark/1"
    assert {name: len(speeds) for name, speeds in document["rows"].items()} == {"1": 2, "2": 2}
    assert min(min(speeds) for speeds in document["rows"].values()) > 0
    assert document["ratios"]["1 / 1"] == 1.0
    edit_json(workdir / "results/ch03_throughput.json", device_name="another machine")
    assert module.main(["throughput", *flags]) == 0
    assert "of another measurement: it went to results/previous" in capsys.readouterr().out


@pytest.mark.parametrize("counts", ["1,two", "", "1;2"])
def test_unreadable_numbers_of_environments_are_refused_in_one_line(workdir, counts):
    outcome = run_script(SCRIPT, "throughput", "--n-envs-list", counts)
    assert outcome.code == 2
    assert "write it as 1,2,4,8,16" in outcome.err


def test_the_card_tells_book_and_criteria(workdir):
    out = succeed(SCRIPT, "card").out
    assert "SAC on FetchReachDense-v4" in out
    assert "success_rate >= 0.95" in out
    assert "-0.93 ± 0.13" in out


def test_fewer_steps_than_learning_starts_still_save(workdir):
    outcome = succeed(SCRIPT, "train", *SMALL, "--total-steps", "200")
    assert "WARN: 200 steps end before learning starts" in outcome.out
    assert (workdir / "checkpoints/sac_FetchReachDense-v4_seed0.zip").exists()
