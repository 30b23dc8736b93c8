"""What an evaluation measures and writes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any
from unittest import mock

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from support import Trained, edit_json, read_strict_json, run_script, succeed, tree

from robotics_rl import artifacts, checkpoints, envs
from robotics_rl.envs import make_env
from robotics_rl.episodes import one_by_one
from robotics_rl.playing import aggregate

TOP_LEVEL = {
    "schema",
    "algo",
    "env_id",
    "checkpoint",
    "checkpoint_sha256",
    "n_episodes",
    "seeds",
    "deterministic",
    "engine",
    "device",
    "created_at",
    "versions",
    "training_seed",
    "aggregate",
    "per_episode",
}
AGGREGATE = {
    "success_rate",
    "success_rate_ci95",
    "return_mean",
    "return_std",
    "final_distance_mean",
    "final_distance_std",
    "ep_len_mean",
    "ep_len_std",
    "time_to_success_mean",
    "action_smoothness_mean",
    "action_max_abs_mean",
    "success_any_step_rate",
    "n_started_solved",
    "success_rate_unsolved_start",
    "success_rate_unsolved_start_ci95",
}
EPISODE = {
    "seed",
    "return",
    "length",
    "success",
    "final_distance",
    "time_to_success",
    "action_smoothness",
    "action_max_abs",
    "started_solved",
    "success_any_step",
}
PPO_EVAL = Path("results/ppo_fetchreachdense-v4_seed0_eval.json")


class Scripted(gym.Env[Any, Any]):
    """Four steps whose distances, rewards and successes are written down here."""

    observation_space = spaces.Dict(
        {
            name: spaces.Box(-9, 9, (3,), np.float64)
            for name in ("observation", "achieved_goal", "desired_goal")
        }
    )
    action_space = spaces.Box(-1, 1, (2,), np.float32)
    distance_threshold = 0.05
    distances = (0.03, 0.2, 0.04, 0.04, 0.3)
    rewards = (-1.0, -0.5, 0.25, -2.0)
    successes = (0.0, 1.0, 1.0, 0.0)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self._step = 0
        return self._observation(), {}

    def step(self, action: Any) -> Any:
        self._step += 1
        reward, success = self.rewards[self._step - 1], self.successes[self._step - 1]
        info = {"is_success": np.float32(success)}
        return self._observation(), reward, False, self._step == 4, info

    def _observation(self) -> dict[str, Any]:
        # √(0.36 + 0.64) = 1: the distance is spread over two axes.
        offset = self.distances[self._step] * np.array([0.6, 0.0, 0.8])
        goal = np.array([1.0, 2.0, 3.0])
        return {"observation": np.zeros(3), "achieved_goal": goal + offset, "desired_goal": goal}


class ScriptedActor:
    """Four actions written down here."""

    actions = ((0.0, 0.0), (1.0, 0.0), (1.0, -1.0), (0.5, -1.0))

    def __init__(self) -> None:
        self._next = 0

    def predict(self, observation: Any, *, deterministic: bool) -> tuple[Any, None]:
        self._next += 1
        return np.array(self.actions[(self._next - 1) % 4], dtype=np.float32), None


def test_episode_measures_equal_a_computation_by_hand() -> None:
    (episode,) = one_by_one(ScriptedActor(), Scripted(), [7])
    assert episode.seed == 7
    assert episode.length == 4
    assert episode.return_ == pytest.approx(-1 - 0.5 + 0.25 - 2)
    assert episode.success is False  # at the last step
    assert episode.success_any_step is True
    assert episode.started_solved is True  # 0.03 m is below the threshold
    assert episode.time_to_success == 2  # the second step is the first that succeeds
    assert episode.final_distance == pytest.approx(0.3)
    assert episode.action_smoothness == pytest.approx(1 + 1 + 0.25)  # Σ‖aₜ − aₜ₋₁‖²
    assert episode.action_max_abs == pytest.approx(1.0)


def test_success_rate_over_unsolved_starts_leaves_solved_starts_out() -> None:
    class Mixed(Scripted):
        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            start = 0.03 if seed == 0 else 0.3  # only seed 0 starts solved
            end = 0.0 if seed == 1 else 1.0  # only seed 1 fails
            self.distances = (start, *Scripted.distances[1:])
            self.successes = (0.0, 0.0, 0.0, end)
            return super().reset(seed=seed)

    mean = aggregate(list(one_by_one(ScriptedActor(), Mixed(), [0, 1, 2])))
    assert mean.success_rate == pytest.approx(2 / 3)
    assert mean.n_started_solved == 1
    assert mean.success_rate_unsolved_start == pytest.approx(1 / 2)
    assert mean.success_rate_unsolved_start_ci95 == pytest.approx(_wilson(1, 2))
    assert mean.time_to_success_mean == pytest.approx(4.0)


def _wilson(successes: int, n: int) -> tuple[float, float]:
    """Wilson 1927, written out."""
    z = 1.959963984540054
    rate = successes / n
    centre = (rate + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(rate * (1 - rate) / n + z**2 / (4 * n**2))
    return centre - half, centre + half


def test_doing_nothing_on_push_gives_the_documented_floor(workdir: Path) -> None:
    outcome = succeed("eval.py", "--baseline", "do-nothing", "--env", "FetchPush-v4")
    path = Path("results/do_nothing_fetchpush-v4_eval.json")
    assert f"OK: wrote {path}" in outcome.out
    assert set(tree(workdir)) == {"results", str(path)}
    document = read_strict_json(path)
    assert document["seeds"] == list(range(100))
    assert document["checkpoint"] is None
    mean = document["aggregate"]
    assert mean["n_started_solved"] == 5
    assert sum(episode["started_solved"] for episode in document["per_episode"]) == 5
    assert mean["success_rate"] == pytest.approx(0.05)
    assert mean["return_mean"] == pytest.approx(-47.5)
    assert mean["success_rate_ci95"] == pytest.approx([0.02154, 0.11175], abs=1e-5)
    assert mean["success_rate_ci95"] == pytest.approx(_wilson(5, 100))
    assert mean["success_rate_unsolved_start"] == 0
    assert mean["action_smoothness_mean"] == 0
    assert mean["action_max_abs_mean"] == 0
    assert mean["ep_len_mean"] == 50


@pytest.mark.parametrize("baseline", ["do-nothing", "random"])
def test_baseline_repeats_itself(workdir: Path, baseline: str) -> None:
    documents = []
    for name in ("a", "b"):
        arguments = ["--baseline", baseline, "--env", "FetchReach-v4", "--n-episodes", "3"]
        succeed("eval.py", *arguments, "--json-out", f"{name}.json")
        documents.append(read_strict_json(Path(f"{name}.json")))
    assert documents[0]["per_episode"] == documents[1]["per_episode"]
    assert documents[0]["algo"] == baseline.replace("-", "_")
    returns = {episode["action_smoothness"] for episode in documents[0]["per_episode"]}
    assert len(returns) == (3 if baseline == "random" else 1)


def test_an_episode_does_not_depend_on_those_before_it(workdir: Path) -> None:
    for name, seeds in (("alone", "2"), ("last", "0-2")):
        arguments = ["--baseline", "random", "--env", "FetchPush-v4", "--seeds", seeds]
        succeed("eval.py", *arguments, "--json-out", f"{name}.json")
    alone, last = (read_strict_json(Path(f"{name}.json")) for name in ("alone", "last"))
    assert alone["per_episode"] == last["per_episode"][-1:]


def test_evaluation_json_is_complete_and_named_after_the_run(
    workdir: Path, trained_ppo: Trained
) -> None:
    trained = trained_ppo.copy_to(workdir)
    checkpoint = str(trained.checkpoint.relative_to(workdir))
    outcome = succeed("eval.py", "--ckpt", checkpoint, "--n-episodes", "3")
    assert f"OK: wrote {PPO_EVAL}" in outcome.out
    document = read_strict_json(PPO_EVAL)
    assert document.keys() >= TOP_LEVEL
    assert document["aggregate"].keys() == AGGREGATE
    assert all(episode.keys() == EPISODE for episode in document["per_episode"])
    assert document["schema"] == "eval/1"
    assert document["algo"] == "ppo"
    assert document["env_id"] == "FetchReachDense-v4"
    assert document["checkpoint"] == checkpoint
    assert document["checkpoint_sha256"] == artifacts.sha256_of(trained.checkpoint)
    assert document["training_seed"] == 0
    assert document["n_episodes"] == 3
    assert document["seeds"] == [episode["seed"] for episode in document["per_episode"]]
    assert document["seeds"] == [0, 1, 2]
    assert document["deterministic"] is True
    assert PPO_EVAL.read_text(encoding="utf-8") == artifacts.to_json(document)


# Many actions at once differ from single ones in the last bits, and contacts make that grow.
@pytest.mark.parametrize(("engine", "tolerance"), [("sb3", 1e-9), ("fast", 1e-3)])
def test_policy_evaluation_equals_an_episode_played_by_hand(
    workdir: Path, trained_sac_her: Trained, engine: str, tolerance: float
) -> None:
    checkpoint = str(trained_sac_her.checkpoint)
    succeed("eval.py", "--ckpt", checkpoint, "--seeds", "11", "--engine", engine)
    (episode,) = read_strict_json(Path("results/sac_her_fetchpush-v4_seed0_eval.json"))[
        "per_episode"
    ]
    env = make_env("FetchPush-v4")
    policy = checkpoints.load_policy(
        trained_sac_her.checkpoint, env.observation_space, env.action_space
    ).policy
    observation, _ = env.reset(seed=11)
    total, smoothness, previous, largest = 0.0, 0.0, None, 0.0
    truncated = False
    while not truncated:
        action, _ = policy.predict(observation, deterministic=True)
        observation, reward, _, truncated, info = env.step(action)
        total += float(reward)
        if previous is not None:
            smoothness += sum(
                (float(a) - float(b)) ** 2 for a, b in zip(action, previous, strict=True)
            )
        previous = action
        largest = max(largest, *(abs(float(a)) for a in action))
    achieved, desired = observation["achieved_goal"], observation["desired_goal"]
    gap = [float(a - d) for a, d in zip(achieved, desired, strict=True)]
    assert episode["return"] == total
    assert episode["success"] == bool(info["is_success"])
    assert episode["final_distance"] == pytest.approx(math.hypot(*gap), rel=tolerance)
    assert episode["action_smoothness"] == pytest.approx(smoothness, rel=tolerance)
    assert episode["action_max_abs"] == pytest.approx(largest, rel=tolerance)
    assert smoothness > 0


def test_episode_does_not_depend_on_those_played_beside_it(
    workdir: Path, trained_sac_her: Trained
) -> None:
    found = {}
    for seeds in ("7,11", "11,3", "9-62"):  # the last ones fill one batch and part of another
        arguments = ["--ckpt", str(trained_sac_her.checkpoint), "--seeds", seeds]
        succeed("eval.py", *arguments, "--json-out", "x.json")
        document = read_strict_json(Path("x.json"))
        assert document["engine"] == "fast"
        assert document["seeds"] == [episode["seed"] for episode in document["per_episode"]]
        found[seeds] = {episode["seed"]: episode for episode in document["per_episode"]}
    assert found["7,11"][11] == found["11,3"][11] == found["9-62"][11]
    succeed("eval.py", *arguments[:2], "--seeds", "59-60", "--json-out", "x.json")
    (first, second) = read_strict_json(Path("x.json"))["per_episode"]
    assert (first, second) == (found["9-62"][59], found["9-62"][60])


def test_what_cannot_be_played_side_by_side_is_played_one_by_one(
    workdir: Path, trained_ppo: Trained
) -> None:
    policy = ["--ckpt", str(trained_ppo.checkpoint)]
    floor = ["--baseline", "do-nothing", "--env", "FetchReach-v4"]
    for arguments in ([*policy, "--no-deterministic"], [*policy, "--engine", "sb3"], floor):
        succeed("eval.py", *arguments, "--n-episodes", "1", "--json-out", "x.json")
        assert read_strict_json(Path("x.json"))["engine"] == "sb3"


def test_stochastic_evaluation_explores_and_repeats_itself(
    workdir: Path, trained_ppo: Trained
) -> None:
    documents = {}
    for name, flags in {"a": ["--no-deterministic"], "b": ["--no-deterministic"], "c": []}.items():
        arguments = ["--ckpt", str(trained_ppo.checkpoint), "--n-episodes", "1", *flags]
        succeed("eval.py", *arguments, "--json-out", f"{name}.json")
        documents[name] = read_strict_json(Path(f"{name}.json"))
    assert documents["a"]["deterministic"] is False
    assert documents["a"]["per_episode"] == documents["b"]["per_episode"]
    assert documents["a"]["per_episode"] != documents["c"]["per_episode"]


def test_chapter_of_the_training_stands_in_the_name(workdir: Path, trained_ppo: Trained) -> None:
    trained = trained_ppo.copy_to(workdir)
    edit_json(trained.metadata, chapter="ch02")
    succeed("eval.py", "--ckpt", str(trained.checkpoint), "--n-episodes", "1")
    assert Path("results/ch02_ppo_fetchreachdense-v4_seed0_eval.json").exists()


def test_seed_moves_the_whole_list_of_episodes(workdir: Path) -> None:
    arguments = ["--baseline", "do-nothing", "--env", "FetchReach-v4"]
    succeed("eval.py", *arguments, "--seed", "500", "--n-episodes", "2", "--json-out", "a.json")
    assert read_strict_json(Path("a.json"))["seeds"] == [500, 501]
    succeed("eval.py", *arguments, "--seeds", "3,8-9", "--json-out", "b.json")
    assert read_strict_json(Path("b.json"))["seeds"] == [3, 8, 9]


@pytest.mark.parametrize("subject", ["checkpoint", "baseline"])
def test_short_sanity_evaluation_does_not_cost_the_published_one(
    workdir: Path, trained_ppo: Trained, subject: str
) -> None:
    if subject == "checkpoint":
        arguments, path = ["--ckpt", str(trained_ppo.checkpoint)], PPO_EVAL
    else:
        arguments = ["--baseline", "random", "--env", "FetchReach-v4"]
        path = Path("results/random_fetchreach-v4_eval.json")
    succeed("eval.py", *arguments, "--n-episodes", "4")
    published = artifacts.sha256_of(path)
    succeed("eval.py", *arguments, "--n-episodes", "1")
    assert read_strict_json(path)["n_episodes"] == 1
    (kept,) = (path.parent / "previous").iterdir()
    assert artifacts.sha256_of(kept) == published


def test_same_evaluation_again_replaces_its_result(workdir: Path) -> None:
    arguments = ["--baseline", "random", "--env", "FetchReach-v4", "--n-episodes", "1"]
    for _ in range(2):
        succeed("eval.py", *arguments)
    assert len([name for name in tree(workdir) if name.endswith(".json")]) == 1


def test_result_that_cannot_be_understood_is_not_lost(workdir: Path) -> None:
    Path("mine.json").write_text("my notes")
    outcome = succeed(
        "eval.py", "--baseline", "random", "--env", "FetchReach-v4", "--n-episodes", "1",
        "--json-out", "mine.json",
    )  # fmt: skip
    [kept] = Path("previous").iterdir()
    assert kept.read_text() == "my notes"
    assert str(kept) in outcome.out
    assert read_strict_json(Path("mine.json"))["schema"] == "eval/1"


@pytest.mark.parametrize(("flags", "said"), [([], False), (["--no-deterministic"], True)])
def test_an_evaluation_that_cannot_be_side_by_side_says_so(
    flags: list[str], said: bool, workdir: Path, trained_sac_her: Trained
) -> None:
    checkpoint = str(trained_sac_her.root / trained_sac_her.checkpoint)
    given = ["--n-episodes", "1", "--json-out", "result.json", *flags]
    outcome = succeed("eval.py", "--ckpt", checkpoint, *given)
    assert ("engine sb3: fast plays Fetch tasks" in outcome.out) == said


def test_an_environment_is_closed_where_the_policy_does_not_fit_it(
    workdir: Path, trained_sac_her: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[mock.Mock] = []

    def make_tracked(*args: Any, **kwargs: Any) -> gym.Env:
        env = make_env(*args, **kwargs)
        made.append(mock.Mock(wraps=env.close))
        monkeypatch.setattr(env, "close", made[-1])
        return env

    monkeypatch.setattr(envs, "make_env", make_tracked)
    flags = ["--ckpt", str(trained_sac_her.checkpoint), "--env", "FetchReach-v4"]
    assert run_script("eval.py", *flags, "--n-episodes", "1").code == 2
    assert [close.call_count for close in made] == [1]
