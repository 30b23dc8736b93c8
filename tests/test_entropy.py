"""The entropy modes, read from the α that updates really took."""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from pathlib import Path
from typing import Any

import ch04_her_sparse_reach_push as ch04
import numpy as np
import pytest
from stable_baselines3 import SAC
from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from stable_baselines3.common.logger import Logger
from support import SAC_HER_NAME, TINY_SAC_HER, run_script, succeed

from robotics_rl import config
from robotics_rl.entropy import entropy_mode
from robotics_rl.errors import UsageError
from robotics_rl.learners.sb3 import entropy_coefficient
from robotics_rl.training import build

ENGINES = ("fast", "sb3")
N_ENVS, TOTAL = 2, 600
SMALL: dict[str, Any] = {
    "n_envs": N_ENVS, "total_steps": TOTAL, "net_arch": (8,), "batch_size": 8,
    "learning_starts": 100, "buffer_size": 10_000,
}  # fmt: skip


def alphas(engine: str, ent_coef: Any, success: Any = None, **given: Any) -> dict[int, float]:
    """Environment steps → the α of the update that followed; ``success(steps)`` sets outcomes."""
    asked = {**SMALL, "engine": engine, "ent_coef": ent_coef, **given}
    settings = config.resolve("sac", "FetchReachDense-v4", asked)
    model: Any = build(settings, "cpu")
    model.set_logger(Logger(None, []))
    taken, train, step_wait = {}, model.train, model.env.step_wait

    def train_and_read(*args: Any, **kwargs: Any) -> None:
        train(*args, **kwargs)
        if engine == "fast":
            [alpha] = model._losses["ent_coef"]
            taken[model.num_timesteps] = alpha.item()
        else:  # logs the mean over its updates, which are one
            taken[model.num_timesteps] = model.logger.name_to_value["train/ent_coef"]
            model.logger.name_to_value.clear()

    def step_and_judge() -> Any:
        observation, rewards, dones, infos = step_wait()
        for info in infos if success else ():
            info["is_success"] = np.float32(success(model.num_timesteps))
        return observation, rewards, dones, infos

    model.train, model.env.step_wait = train_and_read, step_and_judge
    mode = entropy_mode(settings, TOTAL)
    watchers: list[BaseCallback] = [mode] if mode else []
    model.learn(TOTAL, CallbackList(watchers), log_interval=10_000)
    model.env.close()
    return taken


BOUNDS = {"ent_coef_min": 0.01, "ent_coef_max": 0.3, "ent_coef_check_freq": 1_000}
DEFAULTS: dict[str, dict[str, Any]] = {  # the book's, as its chapter 5 lists them
    "auto": {"target_entropy": "auto"},
    "auto-floor": {"target_entropy": "auto", "ent_coef_min": 0.01, "ent_coef_log_pct": 10},
    "schedule": {**BOUNDS, "ent_coef_warmup_frac": 0.1, "ent_coef_log_pct": 10},
    "adaptive": {
        **BOUNDS,
        "ent_coef_log_pct": 10,
        "ent_coef_adaptive_start": None,  # the largest
        "ent_coef_adaptive_target": 0.2,
        "ent_coef_adaptive_tolerance": 0.05,
        "ent_coef_adaptive_rate": 0.1,
        "ent_coef_adaptive_window": 200,
        "ent_coef_adaptive_key": "is_success",
    },
}


@pytest.mark.parametrize("mode", [None, *config.ENTROPY_MODES])
def test_a_mode_that_is_only_named_has_the_book_s_settings(mode: str | None) -> None:
    asked = ["--env", "FetchPush-v4", "--her", "--recipe", "book"]
    asked += [] if mode is None else ["--ent-coef", mode]
    given = vars(ch04._parser().parse_args(["train", *asked]))
    del given["command"]
    entropy = ch04._settings(given).entropy
    assert entropy is not None
    assert dataclasses.asdict(entropy) == DEFAULTS[mode or "auto"]
    assert getattr(entropy, "start", 0.3) == 0.3


@pytest.mark.parametrize("engine", ENGINES)
def test_a_number_stays(engine: str) -> None:
    assert list(alphas(engine, 0.05).values()) == pytest.approx([0.05] * 250)


@pytest.mark.parametrize("engine", ENGINES)
def test_auto_learns_towards_the_target_entropy(engine: str) -> None:
    falling = list(alphas(engine, "auto").values())
    assert falling[0] == pytest.approx(1.0)
    assert all(later < earlier for earlier, later in pairwise(falling))
    # More entropy than four actions can have is never there, so α rises for it.
    rising = list(alphas(engine, "auto", target_entropy=20.0).values())
    assert all(later > earlier for earlier, later in pairwise(rising))


@pytest.mark.parametrize("engine", ENGINES)
def test_auto_floor_never_takes_less_than_the_minimum(engine: str) -> None:
    fast_fall = {"learning_rate": 0.02}
    free = list(alphas(engine, "auto", **fast_fall).values())
    floored = list(alphas(engine, "auto-floor", ent_coef_min=0.5, **fast_fall).values())
    assert min(free) < 0.3
    assert min(floored) == pytest.approx(0.5)
    assert floored[:10] == pytest.approx(free[:10]), "above the floor nothing is different"


@pytest.mark.parametrize("engine", ENGINES)
def test_schedule_waits_and_then_falls_in_a_line(engine: str) -> None:
    bounds = {"ent_coef_max": 0.5, "ent_coef_min": 0.1, "ent_coef_warmup_frac": 0.5}
    taken = alphas(engine, "schedule", ent_coef_check_freq=2, **bounds)
    for steps, alpha in taken.items():
        begun = steps - N_ENVS if engine == "sb3" else steps  # of the rollout; ours train in it
        share = min(1.0, (TOTAL - begun) / (0.5 * TOTAL))
        assert alpha == pytest.approx(0.1 + 0.4 * share, rel=1e-5), steps


@pytest.mark.parametrize("engine", ENGINES)
def test_a_schedule_moves_only_every_so_many_steps(engine: str) -> None:
    taken = alphas(engine, "schedule", ent_coef_check_freq=200, ent_coef_warmup_frac=0.0)
    assert len(set(taken.values())) == 3  # from 100, 200 and 400 steps on


@pytest.mark.parametrize("engine", ENGINES)
def test_adaptive_rises_on_failure_and_falls_on_success(engine: str) -> None:
    every = {"ent_coef_check_freq": 100, "ent_coef_adaptive_rate": 0.5}
    every |= {"ent_coef_adaptive_start": 0.1, "ent_coef_adaptive_window": 2}
    failing = alphas(engine, "adaptive", lambda _: False, ent_coef_max=0.3, **every)
    assert sorted(set(failing.values())) == pytest.approx([0.15, 0.225, 0.3])
    assert list(failing.values()) == sorted(failing.values())
    succeeding = alphas(engine, "adaptive", lambda _: True, ent_coef_min=0.02, **every)
    assert sorted(set(succeeding.values())) == pytest.approx([0.02, 0.025, 0.05])
    assert list(succeeding.values()) == sorted(succeeding.values(), reverse=True)
    turning = list(alphas(engine, "adaptive", lambda steps: steps > 350, **every).values())
    assert max(turning) > turning[0]
    assert max(turning) > turning[-1], "old episodes leave the window"


def test_adaptive_lets_alpha_be_within_the_tolerance() -> None:
    wanted = {"ent_coef_adaptive_target": 0.9, "ent_coef_adaptive_tolerance": 0.1}
    taken = alphas("fast", "adaptive", lambda _: True, ent_coef_check_freq=100, **wanted)
    assert list(taken.values()) == pytest.approx([0.3] * 250)


def test_adaptive_names_the_keys_there_are(workdir: Path) -> None:
    flags = ["--ent-coef", "adaptive", "--ent-coef-adaptive-key", "won"]
    outcome = run_script("train.py", *TINY_SAC_HER, *flags)
    assert outcome.code == 2
    assert "--ent-coef-adaptive-key won is no number in the info" in outcome.err
    assert "choose one of: is_success" in outcome.err
    assert not any(workdir.iterdir())


def test_alpha_is_told_after_every_percent_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    alphas("fast", "schedule", ent_coef_log_pct=25.0)
    lines = capsys.readouterr().out.splitlines()
    assert [line.rpartition("after ")[2] for line in lines] == [
        "150 steps", "300 steps", "450 steps", "600 steps",
    ]  # fmt: skip


@pytest.mark.parametrize("mode", config.ENTROPY_MODES)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_checkpoint_keeps_the_last_alpha(workdir: Path, engine: str, mode: str) -> None:
    flags = [*TINY_SAC_HER, "--ent-coef", mode, "--engine", engine]
    out = succeed("train.py", *flags, *(["--ent-coef-check-freq", "10"] * (mode == "schedule"))).out
    model = SAC.load(Path("checkpoints", f"{SAC_HER_NAME}.zip"))
    alpha = entropy_coefficient(model).item()
    assert alpha != {"schedule": 0.3, "adaptive": 0.0}.get(mode, 1.0), "it moved"
    if mode != "auto":
        told = out.split("entropy coefficient ")[-1].split()[0]
        assert alpha == pytest.approx(float(told), rel=1e-3)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"ent_coef": "adapt"}, "number of at least 0, or auto, auto-floor, schedule, adaptive"),
        ({"ent_coef": 0.1, "ent_coef_max": 0.2}, "--ent-coef-max has no effect.*schedule or adapt"),
        ({"ent_coef": "auto", "ent_coef_min": 0.2}, "--ent-coef-min has no effect.*auto-floor"),
        ({"ent_coef": "schedule", "ent_coef_min": 0.5}, "0.5 is above --ent-coef-max 0.3"),
        ({"ent_coef": "adaptive", "ent_coef_adaptive_start": 1.0}, "between 0.01 and 0.3"),
        ({"target_entropy": "low"}, "--target-entropy is low"),
    ],
)
def test_what_does_not_fit_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        config.resolve("sac", "FetchReachDense-v4", given)
