"""Chapter 1 of the book: the proof of life proves, and its failures say what to do."""

import os
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import imageio.v3 as iio
import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from support import ROOT, read_strict_json, run_script, start, succeed

from robotics_rl import envs, rendering

SCRIPT = "scripts/ch00_proof_of_life.py"
TESTS = ["gpu-check", "list-envs", "reward-check", "render", "ppo-smoke"]
QUICK = ["--total-steps", "64", "--n-envs", "2", "--no-progress"]
NO_CUDA = "WARN: CUDA not available; training will use CPU (this is expected on Mac)\n"


@pytest.fixture(scope="session")
def backends() -> list[str]:
    """The backends that work here. A laptop may have none; CI draws, or fails."""
    problems = {name: rendering.why_not(name) for name in rendering.BACKENDS}
    working = [name for name, problem in problems.items() if not problem]
    if not working and not os.environ.get("CI"):
        pytest.skip(rendering.none_works(problems))
    return working


@pytest.fixture
def unset(monkeypatch):
    """The reader has not chosen a backend."""
    monkeypatch.delenv("MUJOCO_GL", raising=False)


@pytest.fixture
def drawing(monkeypatch):
    """Say by backend how drawing ends; returns the backends that were tried."""

    def plan(**problems: str) -> list[str]:
        tried = []

        def problem_of(command: list[str], backend: str) -> str:
            assert command[1:3] == [str(ROOT / SCRIPT), "draw"]
            tried.append(backend)
            return problems[backend]

        monkeypatch.setattr(rendering, "problem_of", problem_of)
        return tried

    return plan


def test_all_passes_every_test_in_the_order_of_the_chapter(workdir, unset, backends):
    outcome = succeed(SCRIPT, "all", *QUICK, "--seed", "7")
    headings = [line for line in outcome.out.splitlines() if line.startswith("==")]
    assert headings == [f"== {n} of 5: {name} ==" for n, name in enumerate(TESTS, 1)]
    assert outcome.out.splitlines()[-1].startswith("OK: all 5 tests passed in 0:")
    written = {path.name for path in workdir.iterdir() if path.is_file()}
    assert written == {"smoke_frame.png", "ppo_smoke.zip", "ppo_smoke.meta.json"}
    assert read_strict_json(workdir / "ppo_smoke.meta.json")["seed"] == 7


def test_all_stops_at_the_first_failure_and_names_test_and_remedy(workdir, monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "bogus")
    outcome = run_script(SCRIPT, "all", *QUICK)
    assert outcome.code == 1
    assert "OK: 8 Fetch tasks" in outcome.out, "what needs no drawing must work without"
    assert "FAIL: render: MUJOCO_GL=bogus cannot render" in outcome.out
    assert "install libegl1, libgl1 and libosmesa6" in outcome.out
    assert "ppo-smoke" not in outcome.out
    assert list(workdir.iterdir()) == []


def test_a_missing_gpu_is_a_warning(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert succeed(SCRIPT, "gpu-check").out == NO_CUDA


def test_gpus_are_counted_and_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Fast One")
    out = succeed(SCRIPT, "gpu-check").out
    assert out == "OK: CUDA available -- 2 device(s), primary: Fast One\n"


def test_list_envs_makes_every_task_and_shows_its_shapes():
    out = succeed(SCRIPT, "list-envs").out
    assert len(out.splitlines()) == 9
    assert "FetchReachDense-v4        observation (10,), achieved_goal (3,)" in out
    assert "FetchPush-v4              observation (25,), achieved_goal (3,)" in out


def test_a_task_that_cannot_be_made_fails_with_versions_and_remedy(monkeypatch):
    def broken(env_id: str) -> None:
        assert "Push" not in env_id, "numpy_int in (mjtJoint.mjJNT_HINGE, …)"

    monkeypatch.setattr(envs, "make_env", broken)
    monkeypatch.setattr(envs, "fetch_ids", lambda: ["FetchPush-v4"])
    outcome = run_script(SCRIPT, "list-envs")
    assert outcome.code == 1
    assert outcome.out.startswith("FAIL: list-envs: FetchPush-v4 cannot be made (AssertionError")
    assert "gymnasium_robotics 1.4.2, mujoco 3.6.0; delete .venv" in outcome.out


def test_no_task_at_all_fails_with_the_remedy(monkeypatch):
    monkeypatch.setattr(envs, "fetch_ids", list)
    outcome = run_script(SCRIPT, "list-envs")
    assert outcome.code == 1
    assert "no Fetch task is registered" in outcome.out


def test_rewards_of_step_and_compute_reward_are_equal_bit_for_bit():
    out = succeed(SCRIPT, "reward-check", "--seed", "3").out
    assert "OK: FetchReachDense-v4: the reward of step()" in out
    assert "OK: FetchReach-v4: the reward of step()" in out


def test_a_reward_off_by_a_billionth_is_found(monkeypatch):
    def make_env(env_id: str) -> gym.Env:
        return gym.wrappers.TransformReward(gym.make(env_id), lambda reward: reward + 1e-9)

    monkeypatch.setattr(envs, "make_env", make_env)
    outcome = run_script(SCRIPT, "reward-check")
    assert outcome.code == 1
    assert outcome.out.startswith("FAIL: reward-check: FetchReachDense-v4 has two rewards")


def test_the_frame_shows_something_and_only_the_goal_moves_with_the_seed(workdir, unset, backends):
    frames = []
    for seed in ("0", "7"):
        out = succeed(SCRIPT, "render", "--seed", seed).out
        assert f"OK: MUJOCO_GL={backends[0]} draws FetchReachDense-v4" in out
        assert f"OK: wrote {workdir / 'smoke_frame.png'}" in out
        frames.append(iio.imread("smoke_frame.png").astype(int))
    assert frames[0].shape == (480, 480, 3)
    assert frames[0].std() > 20
    changed = (frames[0] != frames[1]).any(axis=-1).mean()
    assert 0 < changed < 0.01


def test_every_backend_draws_the_same_frame(workdir, monkeypatch, backends):
    if len(backends) < 2:
        pytest.skip(f"only {backends} can draw here")
    for backend in backends:
        monkeypatch.setenv("MUJOCO_GL", backend)
        succeed(SCRIPT, "render", "--out", f"{backend}.png")
    assert Path("egl.png").read_bytes() == Path("osmesa.png").read_bytes()


def test_osmesa_is_tried_where_egl_cannot_draw(workdir, unset, drawing):
    tried = drawing(egl="AttributeError: no eglQueryString", osmesa="")
    out = succeed(SCRIPT, "render").out
    assert tried == ["egl", "osmesa"]
    assert "WARN: MUJOCO_GL=egl does not draw (AttributeError: no eglQueryString)" in out
    assert "OK: MUJOCO_GL=osmesa draws" in out


def test_a_chosen_backend_is_obeyed_and_not_replaced(workdir, monkeypatch, drawing):
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    tried = drawing(egl="", osmesa="no glGetError")
    outcome = run_script(SCRIPT, "render")
    assert outcome.code == 1
    assert tried == ["osmesa"]
    assert outcome.out.startswith("FAIL: render: MUJOCO_GL=osmesa cannot render (no glGetError)")


def test_no_backend_at_all_fails_in_one_line_with_both_reasons(workdir, unset, drawing):
    drawing(egl="error: the frame is blank", osmesa="no glGetError")
    outcome = run_script(SCRIPT, "render")
    assert outcome.code == 1
    failure = outcome.out.splitlines()[-1]
    assert failure.startswith("FAIL: render: no rendering backend works (egl: the frame is blank, ")
    assert "osmesa: no glGetError); install libegl1" in failure


def test_an_unknown_backend_fails_in_one_line_where_the_reader_runs_it(workdir):
    process = start(SCRIPT, "render", MUJOCO_GL="bogus")
    out, err = process.communicate()
    assert process.returncode == 1
    assert out.splitlines()[0].startswith("FAIL: render: MUJOCO_GL=bogus cannot render (Runtime")
    assert (len(out.splitlines()), err) == (1, "")


@pytest.mark.parametrize(
    ("frame", "problem"),
    [
        (np.zeros((480, 480, 3), np.uint8), "error: the frame is blank (standard deviation 0.0"),
        (np.full((480, 480, 3), 76, np.uint8), "error: the frame is blank"),
        (np.eye(84, dtype=np.uint8), "error: the frame has shape (84, 84)"),
    ],
)
def test_a_frame_that_is_blank_or_too_small_is_no_proof(workdir, monkeypatch, frame, problem):
    class Camera(gym.Env):
        def reset(self, **_):
            return {}, {}

        def render(self):
            return frame

    monkeypatch.setattr(envs, "make_env", lambda *_, **__: Camera())
    outcome = run_script(SCRIPT, "draw")
    assert outcome.code == 2
    assert outcome.err.startswith(problem)
    assert list(workdir.iterdir()) == []


def test_ppo_smoke_writes_what_any_process_loads(workdir):
    out = succeed(SCRIPT, "ppo-smoke", *QUICK).out
    assert "OK: ppo_smoke.zip loads, safely and with PPO.load" in out
    metadata = read_strict_json(workdir / "ppo_smoke.meta.json")
    assert metadata["env_id"] == "FetchReachDense-v4"
    assert metadata["chapter"] == "ch00"
    assert metadata["versions"]["mujoco"] == "3.6.0"
    assert (workdir / "runs/ch00/ppo/FetchReachDense-v4/seed0/curves.csv").exists()
    assert not (workdir / "checkpoints").exists()
    load = "from stable_baselines3 import PPO; print(PPO.load('ppo_smoke.zip').action_space)"
    done = subprocess.run([sys.executable, "-c", load], capture_output=True, text=True, check=True)
    assert done.stdout == "Box(-1.0, 1.0, (4,), float32)\n"


def test_a_checkpoint_that_acts_in_two_ways_fails(workdir, monkeypatch):
    class Other:
        def predict(self, *_, **__):
            return np.full(4, 0.5, np.float32), None

    monkeypatch.setattr(PPO, "load", lambda *_, **__: Other())
    outcome = run_script(SCRIPT, "ppo-smoke", *QUICK)
    assert outcome.code == 1
    assert "FAIL: ppo-smoke: ppo_smoke.zip acts in two ways" in outcome.out


def test_the_defaults_are_those_of_the_book():
    out = succeed(SCRIPT, "card").out
    assert "PPO on FetchReachDense-v4" in out
    assert "50,000 in 8 environments" in out
    assert "smoke_frame.png, ppo_smoke.zip, ppo_smoke.meta.json" in out


@pytest.mark.parametrize(
    "arguments", [[], ["fly"], ["all", "--seed", "-1"], ["ppo-smoke", "--n-envs", "0"]]
)
def test_bad_usage_exits_with_2_and_one_line(workdir, arguments):
    outcome = run_script(SCRIPT, *arguments)
    assert outcome.code == 2
    assert len(outcome.err.splitlines()) == 1
    assert list(workdir.iterdir()) == []


def test_an_unwritable_picture_is_bad_usage_and_not_a_missing_backend(workdir):
    Path("file").touch()
    outcome = run_script(SCRIPT, "render", "--out", "file/frame.png")
    assert outcome.code == 2
    assert outcome.err.startswith("error: cannot write to file")


@pytest.mark.parametrize("command", [*TESTS, "all", "card"])
def test_every_sub_command_has_help_with_an_example(command):
    outcome = succeed(SCRIPT, command, "--help")
    assert f"bash docker/dev.sh python {SCRIPT} {command}" in outcome.out
    assert "--seed" in outcome.out
