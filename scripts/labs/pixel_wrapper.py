"""Pixel wrapper (book chapter 9): a Fetch task seen through a camera, and a buffer of pictures."""

import argparse
import os
import subprocess
import sys
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from unittest.mock import patch

import gymnasium as gym
import numpy as np
import torch
from gymnasium.wrappers import PassiveEnvChecker
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

Observation = dict[str, NDArray[Any]]
Claims = Iterator[tuple[str, float, float, float]]  # name, measured, lowest and highest allowed

# Of the 25 numbers of a task with an object those of the robot: gripper position, fingers, gripper
# velocity, finger velocities. Everything else is about the object, which is there to be seen.
ROBOT = (0, 1, 2, 9, 10, 20, 21, 22, 23, 24)
GOALS: dict[str, tuple[str, ...]] = {
    "none": (),
    "desired": ("desired_goal",),
    "both": ("achieved_goal", "desired_goal"),  # what hindsight relabelling needs
}
BACKENDS = ("glfw",) if sys.platform == "darwin" else ("egl", "osmesa")
PROBE = "import mujoco; mujoco.GLContext(64, 64).make_current()"
REMEDY = "unset MUJOCO_GL, install libegl1, libgl1 and libosmesa6, or use docker/dev.sh"


def enter_context(env: gym.Env[Any, Any]) -> Any:
    """Let OpenGL work in this environment's context; its viewer, None before its first picture.

    Otherwise it works in the context used last, which another environment may have made: pictures
    are wrong, or black once that environment is closed, without an error.
    """
    viewer = getattr(getattr(env.unwrapped, "mujoco_renderer", None), "viewer", None)
    if viewer is not None:
        viewer.make_context_current()
    return viewer


# --8<-- [start:render_and_resize]
def render_and_resize(
    env: gym.Env[Any, Any], image_size: tuple[int, int] = (84, 84)
) -> NDArray[np.uint8]:
    """A picture of what is there now: (3, H, W) uint8, with memory of its own."""
    enter_context(env)  # other environments draw, too
    picture: Any = env.render()  # (height, width, 3), of the size the environment was made with
    height, width = image_size
    if picture.shape[:2] != (height, width):  # to draw at this size is faster
        small = Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR)
        picture = np.asarray(small)
    if picture.min() == picture.max():
        raise RuntimeError("the picture is blank: another environment broke this one's renderer")
    frame: NDArray[np.uint8] = picture.transpose(2, 0, 1).copy()  # else a view of the picture
    return frame


# --8<-- [end:render_and_resize]
# --8<-- [start:pixel_obs_wrapper]
class PixelObservationWrapper(gym.Wrapper[Any, Any, Any, Any]):
    """Observations of a Fetch task as pictures, with the goals and numbers that one asks for.

    `pixels` (3 * frame_stack, H, W) uint8 are the last frames, the newest one last, so that motion
    shows. `proprioception` (10,) is the part `proprio_indices` of the observation, left out where
    they are None. `achieved_goal` and `desired_goal` (3,) are the environment's own, never stacked:
    a reward computed from them is the reward of the step. `last_raw_obs` is what it observed.
    """

    def __init__(
        self,
        env: gym.Env[Any, Any],
        image_size: tuple[int, int] = (84, 84),
        frame_stack: int = 4,
        goal_mode: str = "both",
        proprio_indices: tuple[int, ...] | None = ROBOT,
    ) -> None:
        super().__init__(env)
        if goal_mode not in GOALS or frame_stack < 1 or env.render_mode != "rgb_array":
            allowed = f"one of {list(GOALS)}, 1 or more, 'rgb_array'"
            raise ValueError(f"{goal_mode=}, {frame_stack=}, {env.render_mode=} must be {allowed}")
        self.image_size, self.frame_stack = image_size, frame_stack
        self.goal_keys = GOALS[goal_mode]
        self.proprio_indices = None if proprio_indices is None else list(proprio_indices)
        self.last_raw_obs: Observation = {}
        self._frames: deque[NDArray[np.uint8]] = deque(maxlen=frame_stack)  # drops the oldest
        raw: Any = env.observation_space
        seen = {"pixels": gym.spaces.Box(0, 255, (3 * frame_stack, *image_size), np.uint8)}
        if self.proprio_indices is not None:
            state = raw["observation"]
            low, high = state.low[self.proprio_indices], state.high[self.proprio_indices]
            seen["proprioception"] = gym.spaces.Box(low, high, dtype=state.dtype)
        self.observation_space = gym.spaces.Dict(seen | {key: raw[key] for key in self.goal_keys})

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode: its first frame stands for those before it."""
        raw_obs, info = self.env.reset(seed=seed, options=options)
        frame = render_and_resize(self.env, self.image_size)
        self._frames.extend([frame] * self.frame_stack)
        return self._observation(raw_obs), info

    def step(self, action: Any) -> tuple[Observation, Any, bool, bool, dict[str, Any]]:
        """Do action (act_dim,), look once; all but the observation is the environment's."""
        raw_obs, reward, terminated, truncated, info = self.env.step(action)
        self._frames.append(render_and_resize(self.env, self.image_size))
        return self._observation(raw_obs), reward, terminated, truncated, info

    def compute_reward(self, achieved_goal: Any, desired_goal: Any, info: Any) -> Any:
        """The environment's own, for hindsight: goals (B, 3) -> rewards (B,), or one of each."""
        return self.env.get_wrapper_attr("compute_reward")(achieved_goal, desired_goal, info)

    def close(self) -> None:
        """Give the memory of pictures back, in the right context: Gymnasium leaves it to chance."""
        viewer = enter_context(self.env)
        if viewer is not None:
            viewer.con.free()
        super().close()

    def _observation(self, raw_obs: Observation) -> Observation:
        self.last_raw_obs = raw_obs
        obs = {"pixels": np.concatenate(self._frames)}  # a copy: nobody can write into the stack
        if self.proprio_indices is not None:
            obs["proprioception"] = raw_obs["observation"][self.proprio_indices]
        return obs | {key: raw_obs[key].copy() for key in self.goal_keys}


# --8<-- [end:pixel_obs_wrapper]
# --8<-- [start:pixel_replay_buffer]
class PixelReplayBuffer:
    """The last `capacity` steps with whole stacks; img_shape is a stack's, as (12, 84, 84).

    Simple, and large: a frame is kept 8 times, in 4 stacks of `pixels` and 4 of `next_pixels`.
    """

    def __init__(
        self, img_shape: tuple[int, ...], goal_dim: int, act_dim: int, capacity: int
    ) -> None:
        self.capacity, self.size, self.ptr = capacity, 0, 0
        shapes = {"pixels": img_shape, "goals": (goal_dim,), "actions": (act_dim,), "rewards": ()}
        shapes |= {"next_pixels": img_shape, "dones": ()}
        # One byte per value, not the four of float32. PyTorch fills the memory now: where it is too
        # small, that shows at once. NumPy's zeros would take it page by page, and fail hours later.
        self.columns = {
            name: torch.zeros(capacity, *shape, dtype=torch.uint8 if "pixels" in name else None)
            for name, shape in shapes.items()
        }

    def add(
        self, pixels: Any, goal: Any, action: Any, reward: float, next_pixels: Any, done: bool
    ) -> None:
        """Store a step; pixels, next_pixels: img_shape, goal: (goal_dim,), action: (act_dim,)."""
        step = (pixels, goal, action, reward, next_pixels, done)
        for column, value in zip(self.columns.values(), step, strict=True):
            column[self.ptr] = torch.as_tensor(value)
        self.ptr = (self.ptr + 1) % self.capacity
        self.size = min(self.size + 1, self.capacity)

    def sample(self, batch_size: int, device: torch.device | str = "cpu") -> dict[str, Tensor]:
        """B steps, drawn uniformly, each column (B, ...); pixels are float32 in [0, 1] now."""
        rows = torch.randint(self.size, (batch_size,))
        batch = {name: column[rows].to(device) for name, column in self.columns.items()}
        return batch | {name: batch[name] / 255 for name in ("pixels", "next_pixels")}


# --8<-- [end:pixel_replay_buffer]
def make_env(size: int = 84, env_id: str = "FetchPush-v4", **options: Any) -> Any:
    """A Fetch task that draws pictures (size, size, 3): no larger than they are looked at."""
    import gymnasium_robotics  # not above: mujoco comes with it, and reads MUJOCO_GL

    gym.register_envs(gymnasium_robotics)
    return gym.make(env_id, render_mode="rgb_array", width=size, height=size, **options)


def play(env: Any, n_steps: int, seed: int) -> Iterator[tuple[Observation, float, Any]]:
    """Yield (observation, reward, action) from a reset on; a new episode begins where one ends."""
    env.action_space.seed(seed)
    yield env.reset(seed=seed)[0], 0.0, None
    for _ in range(n_steps):
        action = env.action_space.sample()
        obs, reward, terminated, truncated, _ = env.step(action)
        yield obs, float(reward), action
        if terminated or truncated:
            yield env.reset()[0], 0.0, None


def gap(ours: Any, theirs: Any) -> float:
    """The largest difference; infinite where shapes or types differ."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    if (ours.shape, ours.dtype) != (theirs.shape, theirs.dtype):
        return float("inf")
    return float(np.abs(ours.astype(float) - theirs.astype(float)).max())


def seen_now(env: Any) -> NDArray[np.uint8]:
    """What render() draws, its axes moved: (3, H, W)."""
    return np.moveaxis(env.render(), -1, 0)


def check_frame(seed: int) -> Claims:
    """Frame: the picture that render() draws, channels first, not blank, memory of its own."""
    with PixelObservationWrapper(make_env()) as env:
        env.reset(seed=seed)
        frame = render_and_resize(env)
        yield "shape off (3, 84, 84)", gap(frame.shape, (3, 84, 84)), 0, 0
        yield "difference to render(), channel by channel", gap(frame, seen_now(env)), 0, 0
        yield "spread of its values, 0 if blank", frame.std(), 20, 127
        yield "owns its memory, in order", frame.flags.owndata and frame.flags.c_contiguous, 1, 1
        low = render_and_resize(env, (42, 63))
        yield "shape off (3, 42, 63), shrunk", gap(low.shape, (3, 42, 63)), 0, 0
        with PixelObservationWrapper(make_env(48)) as other:
            other.reset(seed=seed)
            yield "difference beside another renderer", gap(render_and_resize(env), frame), 0, 0


def check_stack(seed: int) -> Claims:
    """Stack: newest frame last; after a reset the first one, repeated; no frame from before."""
    with PixelObservationWrapper(make_env()) as env:
        first = env.reset(seed=seed)[0]["pixels"]
        stack, copy_of_first = first, first.copy()
        repeated = gap(first, np.tile(seen_now(env), (4, 1, 1)))
        yield "reset: difference to render(), 4 times", repeated, 0, 0
        newest, older, moved = [], [], []
        for _ in range(5):
            before, stack = stack, env.step(np.array([1, 0, 0, 0], np.float32))[0]["pixels"]
            newest.append(gap(stack[-3:], seen_now(env)))
            older.append(gap(stack[:-3], before[3:]))
            moved.append((stack[-3:] != before[-3:]).sum())
        yield "5 steps: newest frame to render()", max(newest), 0, 0
        yield "5 steps: other frames to the stack of before", max(older), 0, 0
        yield "5 steps: fewest values that change", min(moved), 10, 3 * 84 * 84
        yield "change of a stack handed out earlier", gap(first, copy_of_first), 0, 0
        stack = env.reset(seed=seed + 1)[0]["pixels"]
        repeated = gap(stack, np.tile(seen_now(env), (4, 1, 1)))
        yield "next reset: difference to render(), 4 times", repeated, 0, 0


def check_proprioception(seed: int) -> Claims:
    """Proprioception: blind to the object, which the pixels and the other 15 numbers are of."""
    with PixelObservationWrapper(make_env()) as env:
        fetch: Any = env.unwrapped
        env.reset(seed=seed)

        def move_object(action: Any) -> None:
            joint = fetch.data.joint("object0:joint")  # step() brings all that hangs on it along
            joint.qpos[:] += [0.05, 0.05, 0.1, 0.0, 0.3, 0.2, 0.1]  # metres, and a quaternion
            joint.qvel[:] = 0.5

        seen, raw = [], []
        for instead_of_physics in (lambda action: None, move_object):
            with patch.object(fetch, "_mujoco_step", instead_of_physics):
                seen.append(env.step(np.zeros(4, np.float32))[0])
                raw.append(env.last_raw_obs["observation"])
        before, after = seen
        of_object = np.flatnonzero(raw[0] != raw[1])
        print(f"the object moves, the numbers that change: {of_object.tolist()}")
        yield "how many of them", len(of_object), 15, 15
        ours = after["proprioception"]
        yield "change of proprioception", gap(before["proprioception"], ours), 0, 0
        yield "difference to the others", gap(ours, np.delete(raw[1], of_object)), 0, 0
        changed = (before["pixels"][-3:] != after["pixels"][-3:]).any(0).sum()
        yield "pixels that change", changed, 5, 500


def check_goals(seed: int) -> Claims:
    """Goals: those asked for, as the environment has them, fit for rewards of batches."""
    base = make_env()
    for mode, wanted in GOALS.items():
        wrapper = PixelObservationWrapper(base, goal_mode=mode)
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            *_, (obs, _, _) = play(PassiveEnvChecker(wrapper), 2, seed)
        yield f"{mode}: warnings of Gymnasium's checker", len(warned), 0, 0
        others = {"pixels", "proprioception"}
        yield f"{mode}: parts missing or too many", len({*obs} ^ {*wanted, *others}), 0, 0
        for key in wanted:
            yield f"{mode}: {key}", gap(obs[key], wrapper.last_raw_obs[key]), 0, 0
    achieved = np.tile(wrapper.last_raw_obs["achieved_goal"], (2, 1))
    goals = achieved + np.array([[0.04, 0, 0], [0, 0.06, 0]])  # metres
    rewards = wrapper.compute_reward(achieved, goals, {})
    yield "rewards 4 and 6 cm away", gap(rewards, np.array([0, -1], np.float32)), 0, 0
    yield "its unwrapped is the environment's", wrapper.unwrapped is base.unwrapped, 1, 1
    wrapper.close()


def check_buffer(seed: int) -> Claims:
    """Buffer: bytes stored, float32 in [0, 1] sampled, whole steps, the oldest overwritten."""
    buffer = PixelReplayBuffer((12, 6, 6), goal_dim=3, act_dim=4, capacity=100)

    def add(start: int, stop: int) -> None:
        for i in range(start, stop):  # every value of step i tells it
            pixels = np.full((12, 6, 6), i, np.uint8)
            buffer.add(pixels, [i] * 3, [-i] * 4, 2 * i, pixels + 1, i % 50 == 49)

    add(0, 50)
    batch = buffer.sample(16)
    yield "size and ptr off 50", gap((buffer.size, buffer.ptr), (50, 50)), 0, 0
    shapes = [(16, 12, 6, 6), (16, 3), (16, 4), (16,), (16, 12, 6, 6), (16,)]
    yield "columns of another shape", [*map(np.shape, batch.values())] != shapes, 0, 0
    yield "columns not float32", sum(c.dtype != torch.float32 for c in batch.values()), 0, 0
    stored = [buffer.columns[name] for name in ("pixels", "next_pixels")]
    yield "bytes of a stored value", max(column.element_size() for column in stored), 1, 1
    book = PixelReplayBuffer((12, 84, 84), 3, 4, capacity=1).columns
    n_bytes = sum(c.nbytes for name, c in book.items() if "pixels" in name)
    yield "bytes of a step's pictures (12, 84, 84)", n_bytes, 169_344, 169_344
    add(50, 250)
    batch = buffer.sample(2000)
    step = batch["goals"][:, :1]
    yield "oldest step", step.min().item(), 150, 150
    yield "newest step", step.max().item(), 249, 249
    yield "steps drawn in 2000", len(step.unique()), 100, 100
    shown, shown_next = (batch[name].flatten(1) * 255 for name in ("pixels", "next_pixels"))
    others = [-batch["actions"], batch["rewards"][:, None] / 2, shown, shown_next - 1]
    yield "mixed steps", max((other - step).abs().max().item() for other in others), 0, 1e-4
    yield "dones mixed", (batch["dones"] != (step[:, 0] % 50 == 49)).sum().item(), 0, 0
    yield "brightest value, 250 of 255", batch["next_pixels"].max().item(), 0.98, 0.981


def bridge_scene(seed: int) -> Claims:
    """A picture drawn at 84 x 84 and one shrunk from 480 x 480 show the same scene."""
    drawn = []
    for size in (84, 480):
        with PixelObservationWrapper(make_env(size)) as env:
            first = env.reset(seed=seed)[0]["pixels"]
            for _ in range(4):
                last = env.step(np.array([1, 0.5, 0, 0], np.float32))[0]["pixels"]
            drawn.append(np.array([first[-3:], last[-3:]], float))  # (2, 3, 84, 84)
    native, shrunk = drawn
    yield "mean difference of values 0 to 255", np.abs(native - shrunk).mean(), 0, 3
    yield "correlation", np.corrcoef(native.ravel(), shrunk.ravel())[0, 1], 0.98, 1
    moves = [(after - before).ravel() for before, after in drawn]  # no background in these
    yield "correlation of what moved in 4 steps", np.corrcoef(*moves)[0, 1], 0.85, 1


def bridge_sb3(seed: int) -> Claims:
    """SB3's DummyVecEnv hands on the same observations, and rewards computed from their goals."""
    from stable_baselines3.common.vec_env import DummyVecEnv

    def make() -> PixelObservationWrapper:
        env = make_env(env_id="FetchPushDense-v4", max_episode_steps=8)  # dense: all rewards differ
        return PixelObservationWrapper(env)

    vec, n_ends, goals, rewards = DummyVecEnv([make]), 0, [], []
    with make() as env:
        vec.seed(seed)
        batch: Any = vec.reset()
        gaps = dict.fromkeys(batch, 0.0)
        for obs, reward, action in play(env, 20, seed):
            twin = {key: column[0] for key, column in batch.items()}  # after a reset, also its own
            if action is not None:
                batch, their_rewards, _, (info,) = vec.step(action[None])
                ended = info.get("terminal_observation")
                twin = ended or {key: column[0] for key, column in batch.items()}
                n_ends += ended is not None
                goals.append((twin["achieved_goal"], twin["desired_goal"]))
                rewards.append((reward, their_rewards.item()))
            gaps = {key: max(found, gap(twin[key], obs[key])) for key, found in gaps.items()}
        for key, found in gaps.items():
            yield f"{key}, largest difference in 20 steps", found, 0, 0
        yield "episodes that ended in them", n_ends, 2, 2
        achieved, desired = np.swapaxes(goals, 0, 1)  # (20, 3), (20, 3)
        (computed,) = vec.env_method("compute_reward", achieved, desired, {})
        ours, theirs = np.transpose(rewards)
        yield "compute_reward of 20 pairs of goals to rewards", gap(computed, ours), 0, 0
        yield "the same in SB3, which rounds to float32", gap(computed, theirs), 0, 1e-7
        (hindsight,) = vec.env_method("compute_reward", achieved, achieved, {})
        yield "rewards of the goals achieved", np.abs(hindsight).max(), 0, 0
    vec.close()


def run(heading: str, checks: Sequence[Callable[[int], Claims]], last: str, seed: int) -> int:
    """Print what each check measured, what it was held to and its verdict; the exit code."""
    print(f"Pixel Wrapper -- {heading}")
    failed = 0
    for check in checks:
        torch.manual_seed(seed)
        passed = True
        for name, measured, low, high in check(seed):
            bound = f"{low:g}" if low == high else f"{low:g} to {high:g}"
            print(f"{name}: {float(measured):.6g} (bound: {bound})")
            passed = passed and bool(low <= measured <= high)
        print(f"[{'PASS' if passed else 'FAIL'}] {str(check.__doc__).rstrip('.')}")
        failed += not passed
    print(f"[FAILED] {failed} of {len(checks)} checks" if failed else last)
    return min(failed, 1)


def choose_backend() -> str:
    """Set MUJOCO_GL to a backend that draws: itself if set, else EGL, OSMesa; "", or why none."""
    asked, problems = os.environ.get("MUJOCO_GL", ""), []
    unasked = ("", "disable", os.environ.get("MUJOCO_GL_DEFAULT"))  # the last is the image's
    for backend in BACKENDS if asked in unasked else (asked,):
        # In a process of its own, as mujoco reads the variable once, and fails where a library is
        # missing while it is imported.
        setting = os.environ | {"MUJOCO_GL": backend}
        probe = subprocess.run([sys.executable, "-c", PROBE], env=setting, capture_output=True)
        if probe.returncode == 0:
            os.environ["MUJOCO_GL"] = backend
            return ""
        said = probe.stderr.decode().strip().splitlines() or [f"exit code {probe.returncode}"]
        problems.append(f"{backend}: {said[-1]}")
    return f"MuJoCo cannot draw here ({'; '.join(problems)}); {REMEDY}"


def main(argv: list[str] | None = None) -> int:
    """Run the chosen mode and return its exit code; without one, print the help and return 2."""
    parser = argparse.ArgumentParser(usage=argparse.SUPPRESS, description=__doc__)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--verify", action="store_true", help="check the parts one by one")
    mode.add_argument("--bridge", action="store_true", help="compare with full size and with SB3")
    parser.add_argument("--seed", type=int, default=0, help="0 or more (default: 0)")
    args = parser.parse_args(argv)
    if args.seed < 0:
        parser.error(f"--seed {args.seed} is negative; give 0 or more")
    if not (args.verify or args.bridge):
        parser.print_help()
        return 2
    problem = choose_backend()
    if problem:
        parser.exit(2, f"error: {problem}\n")
    if args.bridge:
        last = "[BRIDGE OK] Bridging proof passed\n[ALL PASS] Pixel wrapper bridged"
        return run("Bridging Proof", [bridge_scene, bridge_sb3], last, args.seed)
    checks = [check_frame, check_stack, check_proprioception, check_goals, check_buffer]
    return run("Verification", checks, "[ALL PASS] Pixel wrapper verified", args.seed)


if __name__ == "__main__":
    sys.exit(main())
