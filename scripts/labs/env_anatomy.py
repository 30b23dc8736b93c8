"""Environment anatomy (book chapter 2): what a Fetch task observes, achieves, does and rewards.

`--verify` measures seven claims of the chapter; `--bridge` proves that the reward of a step, the
environment's compute_reward and the formula on paper are one number, also for relabelled goals.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

# Nothing is drawn here, and `import mujoco` fails where MUJOCO_GL names a backend that does not
# work. MuJoCo reads the variable while it is imported, so it is set before.
os.environ["MUJOCO_GL"] = "disable"

import gymnasium as gym
import gymnasium_robotics
import numpy as np
from numpy.typing import NDArray

gym.register_envs(gymnasium_robotics)
make_env: Callable[[str], Any] = gym.make  # Any: gym.Env does not declare compute_reward

DISTANCE_THRESHOLD = 0.05  # metres
WORKSPACE = np.array([[1.1, 0.5, 0.35], [1.5, 1.0, 0.75]])  # metres: low and high x, y, z of goals


def rollout(
    env: Any, n_steps: int, seed: int, towards_goal: bool = False
) -> Iterator[tuple[dict[str, NDArray[np.float64]], float, dict[str, Any]]]:
    """Yield (observation, reward, info) of n_steps random actions, over as many episodes as needed.

    With towards_goal the random actions are pulled to the goal, so that both sparse rewards occur.
    """
    env.action_space.seed(seed)  # reset(seed=...) does not seed it
    obs, _ = env.reset(seed=seed)
    for _ in range(n_steps):
        action = env.action_space.sample()
        if towards_goal:
            pull = (obs["desired_goal"] - obs["achieved_goal"]) / (4 * DISTANCE_THRESHOLD)
            action[:3] = np.clip(action[:3] + pull, -1.0, 1.0)
        obs, reward, terminated, truncated, info = env.step(action)
        yield obs, reward, info
        if terminated or truncated:
            obs, _ = env.reset()


def goals_around(
    achieved: NDArray[np.float64], n_goals: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Goals (n_goals, 3) on both sides of the threshold: 0 to 2 thresholds from achieved (3,)."""
    directions = rng.normal(size=(n_goals, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return achieved + rng.uniform(0.0, 2 * DISTANCE_THRESHOLD, size=(n_goals, 1)) * directions


# --8<-- [start:obs_inspector]
def obs_inspector(env_id: str = "FetchReachDense-v4", seed: int = 0) -> dict[str, Any]:
    """Shape, dtype, range and finiteness of each part of the first observation.

    observation (10,) or (25,), achieved_goal (3,) and desired_goal (3,); positions are in metres.
    """
    with make_env(env_id) as env:
        obs, _ = env.reset(seed=seed)
    found: dict[str, Any] = {
        key: {
            "shape": value.shape,
            "dtype": str(value.dtype),
            "min": float(value.min()),
            "max": float(value.max()),
            "finite": bool(np.isfinite(value).all()),
        }
        for key, value in obs.items()
    }
    low, high = WORKSPACE
    inside = (low <= obs["desired_goal"]) & (obs["desired_goal"] <= high)
    return {**found, "desired_goal_in_workspace": bool(inside.all())}


# --8<-- [end:obs_inspector]


# --8<-- [start:goal_space]
def goal_space(
    env_id: str = "FetchReachDense-v4", n_resets: int = 100, seed: int = 0
) -> dict[str, Any]:
    """Where desired goals lie (metres), and whether phi, from state to goal, is observation[:3].

    With an object phi is observation[3:6]: on Push and PickAndPlace all_phi_match is False.
    """
    goals, matches = [], []
    with make_env(env_id) as env:
        env.action_space.seed(seed)
        for i in range(n_resets):
            # One seed for the sequence: the same seed at every reset would give one goal 100 times.
            obs, _ = env.reset(seed=seed if i == 0 else None)
            goals.append(obs["desired_goal"])
            moved = env.step(env.action_space.sample())[0]  # at rest phi could match by chance
            for state in (obs, moved):
                phi = state["observation"][:3]
                matches.append(np.array_equal(phi, state["achieved_goal"]))
    bounds = {"min": np.min(goals, axis=0).tolist(), "max": np.max(goals, axis=0).tolist()}
    return {
        "n_resets": n_resets,
        "goal_dim": len(goals[0]),
        "desired_goal_bounds": bounds,
        "all_phi_match": all(matches),
    }


# --8<-- [end:goal_space]


# --8<-- [start:action_explorer]
def action_explorer(env_id: str = "FetchReachDense-v4", seed: int = 0) -> dict[str, Any]:
    """Bounds of the action (4,) = dx, dy, dz, fingers, and what a full +x, +y, +z does in one step.

    displacement and sideways (the larger of the other two axes) are of the gripper, in metres.
    """
    displacements = {}
    with make_env(env_id) as env:
        space = env.action_space
        for axis, name in enumerate("xyz"):
            action = np.zeros(space.shape, dtype=space.dtype)
            action[axis] = 1.0
            before = env.reset(seed=seed)[0]["observation"][:3]
            moved = env.step(action)[0]["observation"][:3] - before
            displacements[name] = {
                "action": action.tolist(),
                "displacement": float(moved[axis]),
                "sideways": float(np.abs(np.delete(moved, axis)).max()),
                "moved_positive": bool(moved[axis] > 0),
            }
    return {
        "action_shape": space.shape,
        "action_low": space.low.tolist(),
        "action_high": space.high.tolist(),
        "displacements": displacements,
    }


# --8<-- [end:action_explorer]


def dense_reward(achieved: NDArray[np.float64], goal: NDArray[np.float64]) -> float:
    """The formula on paper, -|achieved - goal| in metres, of two points (3,)."""
    distance = float(np.sqrt(np.sum((achieved - goal) ** 2)))
    return -distance


def sparse_reward(achieved: NDArray[np.float64], goal: NDArray[np.float64]) -> float:
    """-1 beyond the threshold, else 0; info["is_success"] is stricter, it wants less than that."""
    return -1.0 if -dense_reward(achieved, goal) > DISTANCE_THRESHOLD else 0.0


def differ(rewards: list[float], atol: float) -> bool:
    """Whether two of the rewards are further apart than atol, or one is NaN."""
    return not np.ptp(rewards) <= atol


# --8<-- [start:dense_reward_check]
def dense_reward_check(
    env_id: str = "FetchReachDense-v4", n_steps: int = 100, seed: int = 0, atol: float = 1e-10
) -> dict[str, Any]:
    """Compare three rewards at each step: of step(), of compute_reward, of the formula."""
    mismatches = 0
    with make_env(env_id) as env:
        for obs, step_reward, info in rollout(env, n_steps, seed):
            achieved, goal = obs["achieved_goal"], obs["desired_goal"]
            computed = env.unwrapped.compute_reward(achieved, goal, info)
            manual = dense_reward(achieved, goal)
            mismatches += differ([step_reward, computed, manual], atol)
    return {"n_steps": n_steps, "mismatches": mismatches}


# --8<-- [end:dense_reward_check]


# --8<-- [start:sparse_reward_check]
def sparse_reward_check(
    env_id: str = "FetchReach-v4", n_steps: int = 100, seed: int = 0, atol: float = 1e-10
) -> dict[str, Any]:
    """Compare the three rewards at each step, then two of them at as many goals near the last one.

    Rewards other than -1 and 0 are counted in non_binary, the steps with reward 0 in successes.
    """
    compared = []
    with make_env(env_id) as env:
        fetch = env.unwrapped
        for obs, step_reward, info in rollout(env, n_steps, seed, towards_goal=True):
            achieved, goal = obs["achieved_goal"], obs["desired_goal"]
            computed = fetch.compute_reward(achieved, goal, info)
            compared.append([step_reward, computed, sparse_reward(achieved, goal)])
        successes = sum(rewards[0] == 0.0 for rewards in compared)
        near = goals_around(achieved, n_steps, np.random.default_rng(seed))
        pairs = [(achieved, goal) for goal in near]
        # On the threshold and one float64 beyond it: the strictness of `>` and every digit of 0.05
        # count. From the origin along an axis the distance is exact, since sqrt(d * d) == d.
        for edge in (fetch.distance_threshold, np.nextafter(fetch.distance_threshold, 1.0)):
            pairs.append((np.zeros(3), np.array([edge, 0.0, 0.0])))
        for achieved, goal in pairs:
            computed = fetch.compute_reward(achieved, goal, {})
            compared.append([computed, sparse_reward(achieved, goal)])
    return {
        "n_steps": n_steps,
        "mismatches": sum(differ(rewards, atol) for rewards in compared),
        "threshold": float(fetch.distance_threshold),
        "non_binary": sum(r not in (-1.0, 0.0) for rewards in compared for r in rewards),
        "successes": successes,
    }


# --8<-- [end:sparse_reward_check]


# --8<-- [start:relabel_check]
def relabel_check(
    env_id: str = "FetchReachDense-v4", n_goals: int = 10, seed: int = 0, atol: float = 1e-10
) -> dict[str, Any]:
    """Reward one step for n_goals other goals: each by itself, all in one batch, by the formula.

    Hindsight replay (chapter 5) does this to batches of stored steps. changed counts the goals
    whose reward is not the one the step had been given.
    """
    mismatches = changed = 0
    with make_env(env_id) as env:
        fetch = env.unwrapped
        manual = dense_reward if fetch.reward_type == "dense" else sparse_reward
        obs, step_reward, info = next(rollout(env, 1, seed))
        achieved = obs["achieved_goal"]
        goals = goals_around(achieved, n_goals, np.random.default_rng(seed))
        batch = fetch.compute_reward(np.tile(achieved, (n_goals, 1)), goals, {})  # (n_goals,)
        for goal, batched in zip(goals, batch, strict=True):
            relabelled = fetch.compute_reward(achieved, goal, info)
            mismatches += differ([relabelled, batched, manual(achieved, goal)], atol)
            changed += differ([relabelled, step_reward], atol)
    return {"n_goals": n_goals, "mismatches": mismatches, "changed": changed}


# --8<-- [end:relabel_check]


# --8<-- [start:cross_env_compare]
def cross_env_compare(seed: int = 0) -> dict[str, Any]:
    """Per task: the length of the observation, and which position in it is the achieved goal.

    (10,): gripper position 0:3, finger positions 3:5, gripper velocity 5:8, finger velocities 8:10.
    (25,): gripper 0:3, object 3:6, object - gripper 6:9, fingers 9:11, object Euler angles 11:14,
    object velocity relative to the gripper 14:17, object angular velocity 17:20, gripper velocity
    20:23, finger velocities 23:25. Metres and radians; velocities per control step of 0.04 s.
    """
    tasks = {}
    for env_id in ("FetchReach-v4", "FetchPush-v4", "FetchPickAndPlace-v4"):
        with make_env(env_id) as env:
            states = [obs for obs, _, _ in rollout(env, 20, seed)]
        achieved = np.array([state["achieved_goal"] for state in states])  # (20, 3)
        observed = np.array([state["observation"] for state in states])  # (20, obs_dim)
        tasks[env_id] = {
            "obs_dim": observed.shape[1],
            "ag_matches_grip": np.array_equal(achieved, observed[:, :3]),
            "ag_matches_object": np.array_equal(achieved, observed[:, 3:6]),
        }
    return tasks


# --8<-- [end:cross_env_compare]


def verdict(passed: bool, claim: str) -> bool:
    """Print the verdict on a claim and hand it on."""
    print(f"[{'PASS' if passed else 'FAIL'}] {claim}")
    return passed


def check_observation(seed: int) -> bool:
    """Shapes, type and goal of the first observation of Reach."""
    found = obs_inspector(seed=seed)
    obs, ag, dg = parts = [found[key] for key in ("observation", "achieved_goal", "desired_goal")]
    sound = all(part["finite"] and part["dtype"] == "float64" for part in parts)
    inside = found["desired_goal_in_workspace"]
    print(f"obs={obs['shape']}, ag={ag['shape']}, dg={dg['shape']}, finite float64: {sound}")
    print(f"desired_goal in workspace: {inside} (bound: x y z in {WORKSPACE.tolist()} m)")
    shapes = [part["shape"] for part in parts]
    passed = shapes == [(10,), (3,), (3,)] and sound and inside
    return verdict(passed, "the observation is a dictionary of state, achieved and desired goal")


def check_goal_space(seed: int) -> bool:
    """Goals of Reach are 3-D, differ from reset to reset, and phi is observation[:3]."""
    found = goal_space(seed=seed)
    low, high = (np.array(found["desired_goal_bounds"][end]) for end in ("min", "max"))
    spread = float((high - low).min())
    print(f"goal_dim={found['goal_dim']}, goals from {low.round(3)} to {high.round(3)} m")
    print(f"phi matches obs[:3]: {found['all_phi_match']} ({found['n_resets']} resets)")
    print(f"narrowest side of the goals: {spread:.3f} m (bound: 0.2 to 0.3)")
    passed = found["goal_dim"] == 3 and found["all_phi_match"] and 0.2 <= spread <= 0.3
    return verdict(passed, "the goal is a gripper position, another one after every reset")


def check_actions(seed: int) -> bool:
    """Each of the first three action components moves the gripper along its own axis."""
    found = action_explorer(seed=seed)
    low, high = found["action_low"], found["action_high"]
    print(f"action_shape={found['action_shape']}, low={low}, high={high}")
    passed = found["action_shape"] == (4,) and low == [-1.0] * 4 and high == [1.0] * 4
    for name, axis in found["displacements"].items():
        moved, sideways = axis["displacement"], axis["sideways"]
        # Measured, not the book's 0.005 to 0.02 m: an action of 1 asks for 0.05 m within the 0.04 s
        # of a control step (25 Hz), and from rest the arm gets 0.03 m far.
        bounds = "bounds: 0.005 to 0.05, sideways below 0.001"
        print(f"+{name} moves {moved:.4f} m, sideways {sideways:.4f} m ({bounds})")
        passed = passed and axis["moved_positive"] and 0.005 <= moved <= 0.05 and sideways < 0.001
    return verdict(passed, "an action is a displacement of the gripper, axis by axis")


def check_dense(seed: int) -> bool:
    """The dense reward is minus the distance."""
    found = dense_reward_check(seed=seed)
    print(f"dense: {found['n_steps']} steps, mismatches={found['mismatches']} (atol=1e-10)")
    return verdict(found["mismatches"] == 0, "dense: manual == compute_reward == step reward")


def check_sparse(seed: int) -> bool:
    """The sparse reward is -1 beyond 0.05 m and 0 otherwise; both are seen."""
    found = sparse_reward_check(seed=seed)
    n_steps, successes, threshold = found["n_steps"], found["successes"], found["threshold"]
    wrong, non_binary = found["mismatches"], found["non_binary"]
    print(f"sparse: {n_steps} steps, {threshold=} mismatches={wrong} {non_binary=}")
    print(f"steps with reward 0: {successes} (bound: 1 to {n_steps - 1})")
    passed = wrong == non_binary == 0 and 0 < successes < n_steps
    passed = passed and threshold == DISTANCE_THRESHOLD
    return verdict(passed, "sparse: manual == compute_reward == step reward, -1 or 0")


def check_relabel(seed: int) -> bool:
    """compute_reward rewards goals other than the episode's own."""
    found = relabel_check(seed=seed)
    n_goals, wrong, changed = found["n_goals"], found["mismatches"], found["changed"]
    print(f"relabel: {n_goals} goals, mismatches={wrong}, {changed=} (bound: {n_goals})")
    return verdict(wrong == 0 and changed == n_goals, "relabel: manual == compute_reward == batch")


def check_cross_env(seed: int) -> bool:
    """Reach achieves the position of the gripper, Push and PickAndPlace that of the object."""
    tasks = cross_env_compare(seed)
    for env_id, task in tasks.items():
        print(f"{env_id}: " + " ".join(f"{key}={value}" for key, value in task.items()))
    keys = ("obs_dim", "ag_matches_grip", "ag_matches_object")
    found = [tuple(task[key] for key in keys) for task in tasks.values()]
    expected = [(10, True, False), (25, False, True), (25, False, True)]
    return verdict(found == expected, "Reach achieves its gripper position, others the object's")


def verify(seed: int) -> int:
    """Run the seven checks in the order of the chapter; return the exit code."""
    print(f"Environment Anatomy -- Verification (seed {seed})")
    checks = [check_observation, check_goal_space, check_actions, check_dense]
    checks += [check_sparse, check_relabel, check_cross_env]
    failed = [check(seed) for check in checks].count(False)
    if failed:
        print(f"[FAILED] {failed} of {len(checks)} checks")
    else:
        print("[ALL PASS] Environment anatomy verified")
    return 1 if failed else 0


def bridge(seed: int) -> int:
    """Show that three rewards are one, over 100 steps and 5 goals at each; return the exit code."""
    env_id, n_steps, n_goals, atol = "FetchReachDense-v4", 100, 5, 1e-10
    print("Environment Anatomy -- Bridging Proof")
    print(f"{env_id}, seed {seed}, {n_steps} steps, {n_goals} goals per step")
    rng = np.random.default_rng(seed)
    steps, relabels, changed = [], [], 0
    with make_env(env_id) as env:
        for obs, step_reward, info in rollout(env, n_steps, seed):
            achieved, goal = obs["achieved_goal"], obs["desired_goal"]
            computed = env.unwrapped.compute_reward(achieved, goal, info)
            steps.append(differ([step_reward, computed, dense_reward(achieved, goal)], atol))
            for new_goal in goals_around(achieved, n_goals, rng):
                relabelled = env.unwrapped.compute_reward(achieved, new_goal, info)
                relabels.append(differ([relabelled, dense_reward(achieved, new_goal)], atol))
                changed += differ([relabelled, step_reward], atol)
    print(f"Step reward checks:    {len(steps)} steps, mismatches={sum(steps)}")
    print(f"Relabel reward checks: {len(relabels)} checks, mismatches={sum(relabels)}")
    print(f"Relabelled to another reward: {changed} (bound: {len(relabels)})")
    same = not any(steps + relabels) and changed == len(relabels)
    print(f"[{'MATCH' if same else 'FAIL'}] manual == compute_reward == step reward, atol=1e-10")
    print("[BRIDGE OK] Bridging proof passed" if same else "[FAILED] 1 of 1 checks")
    return 0 if same else 1


def main(argv: list[str] | None = None) -> int:
    """Run the chosen mode and return its exit code; without one, print the help and return 2."""
    parser = argparse.ArgumentParser(usage=argparse.SUPPRESS, description=__doc__)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--verify", action="store_true", help="measure the claims of the chapter")
    mode.add_argument("--bridge", action="store_true", help="show that the three rewards are one")
    parser.add_argument("--seed", type=int, help="0 or more (default: 0, with --bridge 42)")
    args = parser.parse_args(argv)
    if args.seed is not None and args.seed < 0:
        parser.error(f"--seed {args.seed} is negative; give 0 or more")
    if args.verify:
        return verify(0 if args.seed is None else args.seed)
    if args.bridge:
        return bridge(42 if args.seed is None else args.seed)  # the seed printed in the book
    parser.print_help()
    return 2


if __name__ == "__main__":
    sys.exit(main())
