"""Settings: defaults stand once, flags win, nonsense is refused."""

import os
import subprocess
import sys

import pytest
from support import ROOT

from robotics_rl import config, options, recipes
from robotics_rl.cli import defaults_table, parse_train
from robotics_rl.config import PPO, SAC, EvalSettings, resolve
from robotics_rl.errors import UsageError
from robotics_rl.options import parse_seeds


def test_the_books_settings_are_the_defaults():
    ppo, sac = PPO(), SAC()
    assert (ppo.n_steps, ppo.batch_size, ppo.n_epochs) == (1024, 256, 10)
    assert (ppo.learning_rate, ppo.clip_range, ppo.gae_lambda) == (3e-4, 0.2, 0.95)
    assert (ppo.gamma, ppo.ent_coef) == (0.99, 0.0)
    assert (sac.buffer_size, sac.batch_size, sac.learning_starts) == (1_000_000, 256, 10_000)
    assert (sac.tau, sac.ent_coef, sac.learning_rate, sac.gamma) == (0.005, "auto", 3e-4, 0.99)


def test_a_given_value_wins_over_the_default():
    settings = resolve("ppo", "FetchReachDense-v4", {"clip_range": 0.1, "n_envs": 2})
    assert settings.flat_hyperparameters()["clip_range"] == 0.1
    assert settings.flat_hyperparameters()["n_envs"] == 2


def test_her_changes_the_run_name_and_is_recorded():
    settings = resolve("sac", "FetchPush-v4", {}, her=True)
    assert settings.run_name == "sac_her"
    assert settings.flat_hyperparameters()["n_sampled_goal"] == 4


def test_a_flag_of_another_algorithm_is_refused_instead_of_ignored():
    with pytest.raises(UsageError, match="--clip-range has no effect"):
        resolve("sac", "FetchPush-v4", {"clip_range": 0.1})


_PARTS = (*config.ALGORITHMS.values(), config.SelectiveHER, config.FastSAC, config.Run)


@pytest.mark.parametrize(
    "flags",
    [
        ["--her-n-sampled-goal", "8", "--her-goal-selection-strategy", "final"],
        ["--n-sampled-goal", "8", "--goal-selection-strategy", "final"],
    ],
)
def test_the_prefixed_flags_of_her_are_aliases(flags):
    settings = parse_train(["--algo", "sac", "--env", "FetchPush-v4", "--her", *flags])
    assert settings.her is not None
    assert settings.her.n_sampled_goal == 8
    assert settings.her.goal_selection_strategy == "final"


def test_net_arch_reads_layer_sizes():
    settings = parse_train(["--algo", "ppo", "--env", "X-v0", "--net-arch", "128,64"])
    assert settings.hyperparameters.net_arch == (128, 64)


def test_every_setting_stands_in_the_printed_defaults():
    table = defaults_table()
    for row in options.option_rows(*_PARTS):
        assert (f"\n{row.name} " in table) == (row.name != "recipe")
    assert "(with --her gamma 0.95, learning_starts 1000)" in table


def test_help_of_training_tells_of_both_engines(capsys):
    with pytest.raises(SystemExit):
        parse_train(["--help"])
    story = capsys.readouterr().out.partition("options:")[0]
    assert "engine fast" in story
    assert "Stable-Baselines3" in story


def test_every_flag_has_a_help_text():
    for row in options.option_rows(*_PARTS):
        assert row.metadata["help"]


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("0,1,2", [0, 1, 2]), ("0-3", [0, 1, 2, 3]), ("7,0-2", [7, 0, 1, 2]), (" 5 ", [5])],
)
def test_seed_lists_are_read(text, seeds):
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "a", "1,,2", "-1", "3-", "5-2", "0,5-2", "1.5"])
def test_other_seed_lists_are_refused(text):
    with pytest.raises(UsageError, match="seeds"):
        parse_seeds(text)


@pytest.mark.parametrize("text", ["1,1,2", "0-5,3"])
def test_a_seed_named_twice_is_refused(text):
    with pytest.raises(UsageError, match=f"'{text}' names a seed twice"):
        parse_seeds(text)


def test_evaluation_uses_reset_seeds_0_to_99_by_default():
    assert EvalSettings().episode_seeds({}) == list(range(100))


def test_more_seeds_than_episodes_are_cut():
    settings = EvalSettings(seeds="0-9", n_episodes=3)
    assert settings.episode_seeds({"seeds": "0-9", "n_episodes": 3}) == [0, 1, 2]
    assert len(settings.episode_seeds({"seeds": "0-9"})) == 10


def test_engine_fast_serves_the_eight_fetch_tasks_and_sb3_the_rest():
    from robotics_rl import envs

    assert [name for name in envs.fetch_ids() if config.engine_for(name) == "fast"] == (
        envs.fetch_ids()
    )
    assert len(envs.fetch_ids()) == 8
    for name in ("CartPole-v1", "FetchPush-v3", "FetchPushDense-v1", "HandReach-v3"):
        assert config.engine_for(name) == "sb3"


@pytest.mark.parametrize(
    ("algo", "env_id", "her", "given", "recipe"),
    [
        ("sac", "FetchPush-v4", True, {}, "fast"),
        ("sac", "FetchPush-v4", True, {"engine": "sb3"}, "book"),
        ("sac", "FetchPush-v4", True, {"recipe": "book"}, "book"),
        ("sac", "FetchPush-v4", False, {}, "book"),
        ("sac", "FetchPushDense-v4", True, {}, "book"),
        ("td3", "FetchPush-v4", True, {}, "book"),
        ("ppo", "FetchReach-v4", False, {}, "book"),
    ],
)
def test_recipe_fast_is_for_sparse_fetch_with_sac_and_her(algo, env_id, her, given, recipe):
    settings = config.resolve(algo, env_id, given, her=her)
    assert settings.run.recipe == recipe
    expected = recipes.RECIPES[recipe].get("learning_rate", config.ALGORITHMS[algo].learning_rate)
    assert settings.hyperparameters.learning_rate == expected


def test_flag_wins_over_recipe_and_recipe_over_default():
    settings = config.resolve(
        "sac", "FetchPush-v4", {"n_envs": 4, "trivial_goal_keep": 1.0}, her=True
    )
    assert settings.run.n_envs == 4
    assert settings.her.trivial_goal_keep == 1.0
    assert settings.hyperparameters.net_arch == recipes.RECIPES["fast"]["net_arch"]
    assert settings.hyperparameters.batch_size == config.SAC.batch_size


def test_a_task_may_need_more_than_the_recipe():
    def ent_coef(env_id, **given):
        settings = config.resolve("sac", env_id, given, her=True, defaults={"ent_coef": 0.3})
        return settings.hyperparameters.ent_coef

    assert ent_coef("FetchPush-v4") == 0.05
    assert ent_coef("FetchPickAndPlace-v4") == 0.01
    assert ent_coef("FetchPickAndPlace-v4", recipe="book") == 0.3, "a chapter's own default"
    assert ent_coef("FetchPickAndPlace-v4", ent_coef=0.2) == 0.2


def test_the_book_learns_from_hindsight_with_settings_of_its_own():
    def book(env_id, engine, *, her):
        return config.resolve("sac", env_id, {"engine": engine}, her=her).hyperparameters

    for env_id, engine in (("FetchPushDense-v4", "fast"), ("FetchPush-v4", "sb3")):
        plain, hindsight = (book(env_id, engine, her=her) for her in (False, True))
        assert (plain.gamma, plain.learning_starts) == (0.99, 10_000)
        assert (hindsight.gamma, hindsight.learning_starts) == (0.95, 1_000)
    for her, origin in ((True, "recipe book with HER"), (False, "default")):
        sources = recipes.layers("FetchPush-v4", "book", {}, {}, her=her)
        assert recipes.origins(["gamma", "tau"], sources) == {"gamma": origin, "tau": "default"}


def test_every_value_of_a_recipe_is_a_setting():
    names = {row.name for row in options.option_rows(config.SAC, *_PARTS)}
    for recipe in (*recipes.RECIPES.values(), *recipes.FAST_ON.values(), recipes.BOOK_HER):
        assert recipe.keys() <= names


def test_book_recipe_on_the_fast_engine_adds_nothing_to_the_book():
    fast = config.resolve("sac", "FetchPush-v4", {"recipe": "book"}, her=True)
    sb3 = config.resolve("sac", "FetchPush-v4", {"engine": "sb3"}, her=True)
    extra = fast.flat_hyperparameters().keys() - sb3.flat_hyperparameters().keys()
    assert {name: fast.flat_hyperparameters()[name] for name in extra} == {
        "trivial_goal_keep": 1.0,
        "normalize_observations": False,
        "random_action_prob": 0.0,
        "deterministic_engine": False,
        "bf16": False,
        "policy_delay": 1,
    }
    assert sb3.flat_hyperparameters().items() <= fast.flat_hyperparameters().items()


def test_settings_become_flags_and_settings_again():
    values = {
        "target_entropy": -1e-5, "net_arch": (8, 16), "normalize_observations": False,
        "resume": True, "run_tag": "-mine", "trivial_goal_keep": 0.1,
    }  # fmt: skip
    flags = options.as_flags(values)
    argv = ["--algo", "sac", "--env", "FetchPush-v4", "--her", *flags]
    settings = parse_train(argv)
    assert settings.entropy.target_entropy == -1e-5
    assert settings.hyperparameters.net_arch == (8, 16)
    assert settings.fast.normalize_observations is False
    assert (settings.run.resume, settings.run.run_tag) == (True, "-mine")
    assert settings.her.trivial_goal_keep == 0.1


def test_a_target_entropy_means_that_alpha_is_learned():
    def ent_coef(**given):
        return config.resolve("sac", "FetchPush-v4", given, her=True).hyperparameters.ent_coef

    assert ent_coef() == 0.05
    assert ent_coef(target_entropy=-2.0) == "auto"
    assert ent_coef(target_entropy=-2.0, ent_coef="auto-floor") == "auto-floor"
    with pytest.raises(UsageError, match="--target-entropy has no effect here"):
        ent_coef(target_entropy=-2.0, ent_coef=0.1)


REFUSING = """
from robotics_rl import cli
from robotics_rl.errors import UsageError

def main(_):
    print("so far so good")
    raise UsageError("too late")

cli.run(main)
"""


@pytest.mark.parametrize(
    ("typed", "code", "said"),
    [
        (["train.py", "--print-defaults"], 1, ""),  # much
        (["train.py", "--help"], 1, ""),
        (["scripts/ch02_ppo_dense_reach.py", "card"], 1, ""),  # little, written at the end
        (["-c", REFUSING], 2, "error: too late\n"),
    ],
)
def test_output_that_nobody_reads_hides_no_error(typed, code, said):
    reader, writer = os.pipe()
    os.close(reader)  # as after `| head`
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = [sys.executable, *typed]
    with os.fdopen(writer, "w") as pipe:
        done = subprocess.run(
            command, stdout=pipe, stderr=subprocess.PIPE, text=True, env=buffered, cwd=ROOT
        )
    assert (done.returncode, done.stderr) == (code, said)
