"""The reward invariant (book 1.5.2): three ways to a reward, one number.

The reward of a step, the environment's `compute_reward` and the formula on paper agree, also for
goals that the step was not made for. Hindsight replay rests on it: it relabels stored steps with
other goals and asks `compute_reward` what they are worth.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robotics_rl.envs import Env


def reward_mismatches(
    env: Env, *, n_steps: int, n_random_goals: int, atol: float, seed: int
) -> list[str]:
    """Compare the three rewards over random steps and, at each of them, for other goals.

    Args:
        env: a Fetch environment.
        n_steps: random steps, over as many episodes as needed.
        n_random_goals: other goals per step, on both sides of the success threshold.
        atol: largest difference that counts as equal; with 0 they must agree bit for bit.
        seed: of the first reset, the actions and the goals.

    Returns:
        One sentence per disagreement.
    """
    fetch: Any = env.unwrapped
    rng = np.random.default_rng(seed)
    reach = 2 * fetch.distance_threshold
    mismatches = []
    for step, (achieved, desired, reward, info) in enumerate(_random_steps(env, n_steps, seed), 1):
        computed = float(fetch.compute_reward(achieved, desired, info))
        if _differ(reward, computed, atol):
            mismatches.append(f"step {step}: step() gave {reward}, compute_reward {computed}")
        goals = achieved + rng.uniform(-reach, reach, size=(n_random_goals, achieved.size))
        for name, goal in [("goal", desired), *(("random goal", goal) for goal in goals)]:
            computed = float(fetch.compute_reward(achieved, goal, info))
            formula = reward_on_paper(achieved, goal, fetch.reward_type, fetch.distance_threshold)
            if _differ(computed, formula, atol):
                mismatches.append(
                    f"step {step}, {name}: compute_reward gave {computed}, the formula {formula}"
                )
    return mismatches


def reward_on_paper(
    achieved: NDArray[np.float64], goal: NDArray[np.float64], reward_type: str, threshold: float
) -> float:
    """dense: minus the distance in metres; sparse: -1 beyond the threshold, else 0."""
    # With axis, as the environment writes it: NumPy adds up in another order without.
    distance = float(np.linalg.norm(achieved - goal, axis=-1))
    if reward_type == "dense":
        return -distance
    return -1.0 if distance > threshold else 0.0


def _random_steps(
    env: Env, n_steps: int, seed: int
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64], float, dict[str, Any]]]:
    """Achieved goal, desired goal, reward and info of random steps."""
    env.action_space.seed(seed)
    env.reset(seed=seed)
    for _ in range(n_steps):
        observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
        yield observation["achieved_goal"], observation["desired_goal"], float(reward), info
        if terminated or truncated:
            env.reset()


def _differ(one: float, other: float, atol: float) -> bool:
    return not abs(one - other) <= atol  # NaN differs from everything
