"""Settings: defaults stand once, flags win, nonsense is refused."""

import pytest

from robotics_rl import config
from robotics_rl.cli import defaults_table, parse_train
from robotics_rl.config import PPO, SAC, EvalSettings, UsageError, parse_seeds, resolve


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


@pytest.mark.parametrize(
    "flags",
    [
        ["--her-n-sampled-goal", "8", "--her-goal-selection-strategy", "final"],
        ["--n-sampled-goal", "8", "--goal-selection-strategy", "final"],
    ],
)
def test_the_prefixed_flags_of_her_are_aliases(flags):
    settings = parse_train(["--algo", "sac", "--env", "FetchPush-v4", "--her", *flags])
    assert settings.her == config.HER(n_sampled_goal=8, goal_selection_strategy="final")


def test_net_arch_reads_layer_sizes():
    settings = parse_train(["--algo", "ppo", "--env", "X-v0", "--net-arch", "128,64"])
    assert settings.hyperparameters.net_arch == (128, 64)


def test_every_setting_stands_in_the_printed_defaults():
    table = defaults_table()
    for row in config.option_rows(*config.ALGORITHMS.values(), config.HER, config.Run):
        assert f"\n{row.name} " in table


def test_every_flag_has_a_help_text():
    for row in config.option_rows(*config.ALGORITHMS.values(), config.HER, config.Run):
        assert row.metadata["help"]


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("0,1,2", [0, 1, 2]), ("0-3", [0, 1, 2, 3]), ("7,0-2", [7, 0, 1, 2]), (" 5 ", [5])],
)
def test_seed_lists_are_read(text, seeds):
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "a", "1,,2", "-1", "3-", "5-2", "1.5"])
def test_other_seed_lists_are_refused(text):
    with pytest.raises(UsageError, match="seeds"):
        parse_seeds(text)


def test_evaluation_uses_reset_seeds_0_to_99_by_default():
    assert EvalSettings().episode_seeds({}) == list(range(100))


def test_more_seeds_than_episodes_are_cut():
    settings = EvalSettings(seeds="0-9", n_episodes=3)
    assert settings.episode_seeds({"seeds": "0-9", "n_episodes": 3}) == [0, 1, 2]
    assert len(settings.episode_seeds({"seeds": "0-9"})) == 10
