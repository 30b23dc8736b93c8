"""The pixel-wrapper lab: what it prints, what it shows, and that its checks can fail."""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import re
from collections.abc import Iterator
from types import ModuleType

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.wrappers import PassiveEnvChecker
from mutation import LABS, Fault, Outcome, loaded_lab, run_lab, run_module
from numpy.typing import NDArray
from stable_baselines3.common.env_checker import check_env
from stable_baselines3.common.preprocessing import is_image_space, is_image_space_channels_first
from stable_baselines3.common.vec_env import DummyVecEnv
from stable_baselines3.her import HerReplayBuffer

LAB = LABS / "pixel_wrapper.py"
REGIONS = {
    "render_and_resize": "def render_and_resize",
    "pixel_obs_wrapper": "class PixelObservationWrapper",
    "pixel_replay_buffer": "class PixelReplayBuffer",
}
N_VERIFY, N_BRIDGE = 5, 2

TRANSPOSED = "picture.transpose(2, 0, 1).copy()"
STACKED = "np.concatenate(self._frames)}"
REPEATED = "self._frames.extend([frame] * self.frame_stack)"
LOOKED = "self._frames.append(render_and_resize(self.env, self.image_size))"
STEPPED = "raw_obs, reward, terminated, truncated, info = self.env.step(action)"
ROBOT = "ROBOT = (0, 1, 2, 9, 10, 20, 21, 22, 23, 24)"
GOALS = "{key: raw_obs[key].copy() for key in self.goal_keys}"
REWARDED = '("compute_reward")(achieved_goal, desired_goal, info)'
STORED = "step = (pixels, goal, action, reward, next_pixels, done)"
SHRUNK = "picture = np.asarray(small)"
FAULTS = {
    "check_frame": [
        Fault("reshaped", TRANSPOSED, "picture.reshape(3, height, width).copy()"),
        Fault("x and y swapped", TRANSPOSED, "picture.transpose(2, 1, 0).copy()"),
        Fault("blue first", TRANSPOSED, f"picture[..., ::-1]{TRANSPOSED[7:]}"),
        Fault("upside down", TRANSPOSED, f"picture[::-1]{TRANSPOSED[7:]}"),
        Fault("memory of the picture", TRANSPOSED, TRANSPOSED.removesuffix(".copy()")),
        Fault("floats", TRANSPOSED, f"({TRANSPOSED} / 255).astype(np.float32)"),
        Fault("Pillow's size as numpy's", "resize((width, height)", "resize((height, width)"),
        Fault("drawn into another's context", "viewer.make_context_current()", "pass"),
    ],
    "check_stack": [
        Fault("newest frame first", STACKED, "np.concatenate([*self._frames][::-1])}"),
        Fault(
            "stale frames after a reset",
            REPEATED,
            "self._frames.extend([frame] * (1 if self._frames else self.frame_stack))",
        ),
        Fault(
            "black frames after a reset",
            REPEATED,
            "self._frames.extend([0 * frame] * (self.frame_stack - 1) + [frame])",
        ),
        Fault("looked before the step", f"{STEPPED}\n        {LOOKED}", f"{LOOKED}; {STEPPED}"),
        Fault("nothing dropped", "deque(maxlen=frame_stack)", "deque()"),
        Fault("one frame only", STACKED, "np.tile(self._frames[-1], (self.frame_stack, 1, 1))}"),
        Fault(
            "one array for all stacks",
            STACKED,
            f"{STACKED[:-2]}, out=self.__dict__.setdefault('all', np.zeros((12, 84, 84), 'u1')))}}",
        ),
    ],
    "check_proprioception": [
        Fault("sees where the object is", ROBOT, ROBOT.replace("2,", "3,", 1)),
        Fault("sees how the object turns", ROBOT, ROBOT.replace("20", "19")),
        Fault("one number twice", ROBOT, ROBOT.replace("2, 9", "1, 9")),
        Fault("in another order", ROBOT, ROBOT.replace("0, 1, 2", "2, 1, 0")),
        Fault("pixels do not see the object", LOOKED, "self._frames.append(self._frames[-1])"),
    ],
    "check_goals": [
        Fault("one goal for the other", GOALS, GOALS.replace("[key]", '["desired_goal"]')),
        Fault("goals stacked", GOALS, GOALS.replace(".copy()", "[[0, 1, 2] * self.frame_stack]")),
        Fault("goals rounded", GOALS, GOALS.replace("copy()", "astype(np.float32)")),
        Fault(
            "goals in any mode",
            "self.goal_keys = GOALS[goal_mode]",
            "self.goal_keys = GOALS['both']",
        ),
        Fault("pixels said to be floats", "*image_size), np.uint8)}", "*image_size), np.float32)}"),
        Fault("reward of the goal achieved", REWARDED, REWARDED.replace("desired", "achieved")),
    ],
    "check_buffer": [
        Fault("stored as floats", "torch.uint8 if", "torch.float32 if"),
        Fault("sampled as bytes", "batch[name] / 255 for", "batch[name] for"),
        Fault("scaled by 256", "batch[name] / 255", "batch[name] / 256"),
        Fault("next picture is this one", STORED, STORED.replace("next_pixels", "pixels")),
        Fault(
            "pictures swapped", STORED, "step = (next_pixels, goal, action, reward, pixels, done)"
        ),
        Fault("rows mixed", "column[rows]", "column[torch.randint(self.size, rows.shape)]"),
        Fault("a place never used", "% self.capacity", "% (self.capacity - 1)"),
        Fault("oldest sampled no more", "torch.randint(self.size,", "torch.randint(self.size - 9,"),
    ],
    "bridge_scene": [
        Fault("cut out, not shrunk", ".resize((width, height), ", ".crop((198, 198, 282, 282)); ("),
        Fault("mirrored", SHRUNK, f"{SHRUNK}[:, ::-1]"),
        Fault("blue first", SHRUNK, f"{SHRUNK}[..., ::-1]"),
        Fault("a pixel off", SHRUNK, f"{SHRUNK}[:, [0, *range(83)]]"),
    ],
    "bridge_sb3": [
        Fault("seed ignored", "self.env.reset(seed=seed, ", "self.env.reset("),
        Fault("another reward", "(raw_obs), reward, term", "(raw_obs), reward + 1e-9, term"),
        Fault("reward of the goal achieved", REWARDED, REWARDED.replace("desired", "achieved")),
    ],
}


@pytest.fixture(scope="module")
def backend() -> str:
    with loaded_lab(LAB) as lab:
        assert lab.choose_backend() == ""
        return os.environ["MUJOCO_GL"]


@pytest.fixture(autouse=True)
def _drawing(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", backend)


@pytest.fixture
def lab() -> Iterator[ModuleType]:
    with loaded_lab(LAB) as module:
        yield module


@pytest.fixture(scope="module")
def shared_env(backend: str) -> Iterator[object]:
    """One Push environment per size: most of a check is to make its environment."""
    with loaded_lab(LAB) as lab:
        make_env, wrapper = lab.make_env, lab.PixelObservationWrapper
    with contextlib.ExitStack() as stack:
        made = functools.cache(lambda size=84: stack.enter_context(wrapper(make_env(size))).env)
        yield made


class Drawn(gym.Env):
    """A picture without OpenGL: every value is the number of steps since the first one of all."""

    render_mode = "rgb_array"
    action_space = gym.spaces.Box(-1.0, 1.0, (4,))
    observation_space = gym.spaces.Dict(
        {
            "observation": gym.spaces.Box(-np.inf, np.inf, (25,), np.float64),
            "achieved_goal": gym.spaces.Box(-np.inf, np.inf, (3,), np.float64),
            "desired_goal": gym.spaces.Box(-np.inf, np.inf, (3,), np.float64),
        }
    )

    def __init__(self, height: int = 6, width: int = 4) -> None:
        self.shape, self.n_steps = (height, width, 3), 0

    def render(self) -> NDArray[np.uint8]:
        picture = np.full(self.shape, self.n_steps, np.uint8)
        picture[0, 0] = 255
        return picture

    def reset(self, **_: object) -> tuple[dict[str, NDArray[np.float64]], dict[str, object]]:
        self.n_steps += 1
        goals = {"achieved_goal": np.ones(3), "desired_goal": np.full(3, 2.0)}
        return {"observation": np.arange(25.0), **goals}, {"from": "reset"}

    def step(self, action: object) -> tuple[object, float, bool, bool, dict[str, object]]:
        return self.reset()[0], -0.5, True, False, {"from": "step"}


def last_line(outcome: Outcome) -> str:
    return outcome.output.splitlines()[-1]


def ages(obs: dict[str, NDArray[np.uint8]]) -> list[int]:
    """Of each frame in the stack, when it was drawn."""
    return obs["pixels"][::3, -1, -1].tolist()


# What it prints


def test_verify_passes_and_repeats_itself(lab: ModuleType) -> None:
    outcome = run_module(lab, "--verify")
    assert outcome.output.startswith("Pixel Wrapper -- Verification\n")
    assert outcome.output.count("[PASS] ") == N_VERIFY
    assert last_line(outcome) == "[ALL PASS] Pixel wrapper verified"
    assert outcome.exit_code == 0
    again = only(lab, "check_stack").output.splitlines()
    assert {line for line in again if "None" not in line} < set(outcome.output.splitlines())


def test_bridge_passes_with_another_seed(lab: ModuleType) -> None:
    outcome = run_module(lab, "--bridge", "--seed", "4")
    assert outcome.output.startswith("Pixel Wrapper -- Bridging Proof\n")
    assert outcome.output.count("[PASS] ") == N_BRIDGE
    assert outcome.output.splitlines()[-2] == "[BRIDGE OK] Bridging proof passed"
    assert last_line(outcome).startswith("[ALL PASS] ")
    assert outcome.exit_code == 0


def test_without_a_mode_it_prints_help_and_exits_2() -> None:
    outcome = run_lab(LAB)
    assert outcome.exit_code == 2
    assert "--bridge" in outcome.output


@pytest.mark.parametrize(
    "arguments", [("--verify", "--seed", "-1"), ("--seed", "x"), ("--verify", "--bridge")]
)
def test_a_wrong_command_line_exits_2(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_lab(LAB, *arguments).exit_code == 2
    assert "error:" in capsys.readouterr().err


# What it draws with


def answers(lab: ModuleType, monkeypatch: pytest.MonkeyPatch, *working: str) -> list[str]:
    """Let only these backends draw; the list will hold those that were tried."""
    tried: list[str] = []

    class Done:
        stderr = b"Traceback\nAttributeError: no such library\n"

        def __init__(self, command: list[str], env: dict[str, str], **_: object) -> None:
            tried.append(env["MUJOCO_GL"])
            self.returncode = int(env["MUJOCO_GL"] not in working)

    monkeypatch.setattr(lab.subprocess, "run", Done)
    monkeypatch.setattr(lab, "BACKENDS", ("egl", "osmesa"))
    return tried


@pytest.mark.parametrize("asked", ["", "disable", "egl"])
def test_egl_and_then_osmesa_are_tried_where_nobody_asked_for_one(
    lab: ModuleType, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    monkeypatch.setenv("MUJOCO_GL", asked)
    monkeypatch.setenv("MUJOCO_GL_DEFAULT", "egl")  # the image's own value
    assert answers(lab, monkeypatch, "osmesa") is not None
    assert lab.choose_backend() == ""
    assert os.environ["MUJOCO_GL"] == "osmesa"


def test_a_backend_asked_for_is_the_only_one_tried(
    lab: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    tried = answers(lab, monkeypatch, "egl")
    assert "osmesa: AttributeError: no such library" in lab.choose_backend()
    assert tried == ["osmesa"]


def test_where_none_draws_one_line_says_so_and_it_exits_2(
    lab: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MUJOCO_GL")
    tried = answers(lab, monkeypatch)
    outcome = run_module(lab, "--verify")
    assert (outcome.exit_code, outcome.output) == (2, "")
    error = capsys.readouterr().err
    assert re.fullmatch(r"error: MuJoCo cannot draw here \(egl: [^\n]+; osmesa: [^\n]+\n", error)
    assert tried == ["egl", "osmesa"]


def test_a_real_backend_that_does_not_exist_is_refused(
    lab: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUJOCO_GL", "bogus")
    assert "bogus: RuntimeError: invalid value" in lab.choose_backend()


# How it is written


def test_each_region_holds_what_it_is_named_after() -> None:
    source = LAB.read_text(encoding="utf-8")
    region = r"# --8<-- \[start:(\w+)\]\n(.*?)\n# --8<-- \[end:(\w+)\]"
    found = re.findall(region, source, flags=re.DOTALL)
    assert [(start, end) for start, _, end in found] == [(name, name) for name in REGIONS]
    assert all(text.startswith(REGIONS[name]) for name, text, _ in found)


def test_importing_it_neither_chooses_a_backend_nor_needs_one() -> None:
    top = LAB.read_text(encoding="utf-8").partition("def ")[0]
    assert not re.search(r"import (mujoco|gymnasium_robotics)$|environ", top, re.MULTILINE)


# What it shows


def test_observations_are_those_the_book_names(lab: ModuleType, shared_env: object) -> None:
    env = lab.PixelObservationWrapper(shared_env())
    obs, _ = env.reset(seed=0)
    shapes = {"pixels": (12, 84, 84), "proprioception": (10,)}
    shapes |= {"achieved_goal": (3,), "desired_goal": (3,)}
    assert {key: part.shape for key, part in obs.items()} == shapes
    assert {key: part.shape for key, part in env.observation_space.items()} == shapes
    assert obs["pixels"].dtype == np.uint8
    assert obs["pixels"].max() > 200
    raw = env.last_raw_obs
    assert {key: part.shape for key, part in raw.items()} == {
        "observation": (25,),
        "achieved_goal": (3,),
        "desired_goal": (3,),
    }
    np.testing.assert_array_equal(obs["achieved_goal"], raw["observation"][3:6])
    own = [0, 1, 2, 9, 10, 20, 21, 22, 23, 24]
    np.testing.assert_array_equal(obs["proprioception"], raw["observation"][own])


def test_it_satisfies_the_checkers_of_gymnasium_and_sb3(
    lab: ModuleType, shared_env: object
) -> None:
    env = lab.PixelObservationWrapper(shared_env())
    checked = PassiveEnvChecker(env)
    checked.reset(seed=0)
    for _ in range(2):
        checked.step(checked.action_space.sample())
    with lab.PixelObservationWrapper(lab.make_env(env_id="FetchPushDense-v4")) as dense:
        check_env(dense, skip_render_check=True)  # of the sparse task SB3 finds the reward no float
    assert is_image_space(env.observation_space["pixels"])
    assert is_image_space_channels_first(env.observation_space["pixels"])  # SB3 leaves it as it is


def test_the_first_frame_is_repeated_and_the_newest_is_last(lab: ModuleType) -> None:
    env = lab.PixelObservationWrapper(Drawn(), (6, 4))
    assert ages(env.reset()[0]) == [1, 1, 1, 1]
    assert [ages(env.step(0)[0]) for _ in range(5)] == [
        [1, 1, 1, 2],
        [1, 1, 2, 3],
        [1, 2, 3, 4],
        [2, 3, 4, 5],
        [3, 4, 5, 6],
    ]
    assert ages(env.reset()[0]) == [7, 7, 7, 7]
    assert ages(env.step(0)[0]) == [7, 7, 7, 8]


def test_what_the_environment_says_is_handed_on(lab: ModuleType) -> None:
    base = Drawn()
    env = lab.PixelObservationWrapper(base, (6, 4))
    assert env.reset()[1] == {"from": "reset"}
    obs, *others = env.step(0)
    assert others == [-0.5, True, False, {"from": "step"}]
    obs["desired_goal"][:] = obs["pixels"][:] = 9  # what the learner does with it is its own affair
    assert env.last_raw_obs["desired_goal"].tolist() == [2, 2, 2]
    assert ages(env.step(0)[0]) == [1, 1, 2, 3]
    assert env.unwrapped is base
    assert vars(base) == {"shape": (6, 4, 3), "n_steps": 3}


@pytest.mark.parametrize("frame_stack", [1, 2])
def test_the_stack_may_be_shorter(lab: ModuleType, frame_stack: int) -> None:
    env = lab.PixelObservationWrapper(Drawn(), (6, 4), frame_stack, "none", None)
    env.reset()
    obs = env.step(0)[0]
    assert ages(obs) == [1, 2][-frame_stack:]
    assert obs in env.observation_space
    assert list(obs) == ["pixels"]


@pytest.mark.parametrize(
    ("settings", "render_mode"),
    [({"goal_mode": "all"}, "rgb_array"), ({"frame_stack": 0}, "rgb_array"), ({}, None)],
)
def test_settings_that_cannot_work_are_refused(
    lab: ModuleType, settings: dict[str, object], render_mode: str | None
) -> None:
    env = Drawn()
    env.render_mode = render_mode
    with pytest.raises(ValueError, match="must be one of"):
        lab.PixelObservationWrapper(env, **settings)


def test_reach_has_no_object_to_hide_and_all_its_numbers_can_be_asked_for(lab: ModuleType) -> None:
    with lab.make_env(16, "FetchReach-v4") as base:
        with pytest.raises(IndexError, match="out of bounds"):
            lab.PixelObservationWrapper(base)
        env = lab.PixelObservationWrapper(base, (16, 16), proprio_indices=tuple(range(10)))
        obs, _ = env.reset(seed=0)
        np.testing.assert_array_equal(obs["proprioception"], env.last_raw_obs["observation"])


def test_a_picture_of_another_size_is_shrunk_and_keeps_its_memory(lab: ModuleType) -> None:
    env = Drawn(60, 40)
    env.n_steps = 7
    frame = lab.render_and_resize(env, (6, 4))
    assert frame.shape == (3, 6, 4)
    assert frame[:, -1, -1].tolist() == [7, 7, 7]
    assert frame.flags.owndata


def test_a_blank_picture_is_an_error(lab: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Drawn, "render", lambda self: np.zeros((6, 4, 3), np.uint8))
    with pytest.raises(RuntimeError, match="blank"):
        lab.render_and_resize(Drawn(), (6, 4))


def visit(lab: ModuleType, sizes: tuple[int, ...]) -> list[NDArray[np.uint8]]:
    """One picture again and again, while other environments come, draw, and go."""
    frames = []
    with lab.PixelObservationWrapper(lab.make_env(32), (32, 32)) as env:
        env.reset(seed=0)
        for size in sizes:
            with lab.PixelObservationWrapper(lab.make_env(size), (size, size)) as other:
                other.reset(seed=1)
                frames.append(lab.render_and_resize(env, (32, 32)))
            frames.append(lab.render_and_resize(env, (32, 32)))
            del other
            gc.collect()
            frames.append(lab.render_and_resize(env, (32, 32)))
    env.close()  # twice does no harm
    return frames


def test_other_environments_that_come_and_go_do_not_change_the_picture(lab: ModuleType) -> None:
    first, *others = visit(lab, (64, 16))
    assert len(others) == 5
    for frame in others:
        np.testing.assert_array_equal(frame, first)


@pytest.mark.parametrize(
    "fault",
    [
        Fault("context not entered", "viewer.make_context_current()", "pass"),
        Fault("left to chance", "viewer.con.free()", "pass"),
    ],
    ids=lambda fault: fault.name,
)
def test_otherwise_they_would(fault: Fault) -> None:
    with loaded_lab(LAB, fault) as lab, pytest.raises(RuntimeError, match="blank"):
        visit(lab, (16,))


def test_hindsight_replay_of_sb3_computes_rewards_through_it(lab: ModuleType) -> None:
    def make() -> gym.Env:
        base = lab.make_env(16, max_episode_steps=5)
        return lab.PixelObservationWrapper(base, (16, 16), frame_stack=2)

    vec = DummyVecEnv([make])
    buffer = HerReplayBuffer(40, vec.observation_space, vec.action_space, env=vec)
    obs = vec.reset()
    rng = np.random.default_rng(0)
    for _ in range(20):
        action = rng.uniform(-1, 1, (1, 4)).astype(np.float32)
        next_obs, rewards, dones, infos = vec.step(action)
        stored = next_obs
        if dones[0]:
            stored = {key: part[None] for key, part in infos[0]["terminal_observation"].items()}
        buffer.add(obs, stored, action, rewards, dones, infos)
        obs = next_obs
    batch = buffer.sample(200)
    assert batch.observations["pixels"].dtype == torch.uint8
    achieved = batch.next_observations["achieved_goal"].numpy()
    desired = batch.next_observations["desired_goal"].numpy()
    expected = -(np.linalg.norm(achieved - desired, axis=-1) > 0.05).astype(np.float32)
    np.testing.assert_array_equal(batch.rewards[:, 0].numpy(), expected)
    assert set(expected) == {-1, 0}
    vec.close()


def test_the_buffer_holds_what_the_book_says(lab: ModuleType) -> None:
    buffer = lab.PixelReplayBuffer((12, 84, 84), goal_dim=3, act_dim=4, capacity=100)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (51, 12, 84, 84), np.uint8)
    for i in range(50):
        buffer.add(pixels[i], np.zeros(3), np.ones(4, np.float32), -1.0, pixels[i + 1], False)
    assert (buffer.size, buffer.ptr, buffer.capacity) == (50, 50, 100)
    assert torch.equal(buffer.columns["pixels"][:50], torch.from_numpy(pixels[:50]))
    batch = buffer.sample(16)
    shapes = {"pixels": (16, 12, 84, 84), "goals": (16, 3), "actions": (16, 4), "rewards": (16,)}
    shapes |= {"next_pixels": (16, 12, 84, 84), "dones": (16,)}
    assert {name: tuple(column.shape) for name, column in batch.items()} == shapes
    assert {column.dtype for column in batch.values()} == {torch.float32}
    for name in ("pixels", "next_pixels"):
        assert 0 <= batch[name].min() < 0.01
        assert 0.99 < batch[name].max() <= 1


# That its checks can fail


def only(lab: ModuleType, check: str) -> Outcome:
    """Run one check as its mode would."""
    lab.choose_backend = str  # it is chosen, and choosing takes longer than most checks
    flag = "--bridge" if check.startswith("bridge") else "--verify"
    for name in FAULTS:
        if name != check:
            setattr(lab, name, lambda seed: iter(()))
    return run_module(lab, flag)


@pytest.mark.parametrize(
    ("check", "fault"),
    [
        pytest.param(check, fault, id=f"{check}: {fault.name}")
        for check, faults in FAULTS.items()
        for fault in faults
    ],
)
def test_the_checks_notice(check: str, fault: Fault, shared_env: object) -> None:
    with loaded_lab(LAB, fault) as lab:
        # Contexts are mixed up when they are made, and a vector closes its environment.
        if "context" not in fault.name and check != "bridge_sb3":
            lab.make_env, lab.PixelObservationWrapper.close = shared_env, lambda self: None
        outcome = only(lab, check)
    n_checks = N_BRIDGE if check.startswith("bridge") else N_VERIFY
    assert outcome.exit_code == 1
    assert last_line(outcome) == f"[FAILED] 1 of {n_checks} checks"
