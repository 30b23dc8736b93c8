"""What the tests of the replay share: plays, replays of them (ours, SB3's), and what is drawn.

Seeds are fixed, so what passes goes on passing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from stable_baselines3 import HerReplayBuffer

from robotics_rl.envs.fetch_vec_env import FetchVecEnv
from robotics_rl.replay.episodes import EpisodeStore, Shape
from robotics_rl.replay.hindsight import Batch, Hindsight, HindsightReplay

Array = NDArray[Any]
STRATEGIES = ["future", "final", "episode"]
THRESHOLD = 0.05  # metres, of every Fetch task
HORIZON, N_ENVS = 50, 3
N_STEPS = 5 * HORIZON + 20  # five finished episodes of every environment, and a running one
FINISHED = np.arange(5 * HORIZON * N_ENVS)  # numbers of the steps of finished episodes
N_DRAWS = 50_000  # 20 for each of the 2500 pairs of a step and an outcome
# With other seeds a chi-square test of equal distributions would fail once in ten thousand. Leaving
# out the step's own outcome moves 9% of the draws, taking one strategy for another far more: both
# give a p-value of 0.
P_VALUE = 1e-4


@dataclass
class Play:
    """Steps of environments whose episodes end together; arrays are (steps, n_envs, ...)."""

    horizon: int
    before: dict[str, Array]
    actions: Array  # the last entry tells the number of the step, see `numbers`
    after: dict[str, Array]
    rewards: Array

    @property
    def n_envs(self) -> int:
        return len(self.actions[0])

    def transition(self, step: int) -> tuple[dict[str, Array], dict[str, Array]]:
        """What all environments showed before the step and after it."""
        return (
            {key: part[step] for key, part in self.before.items()},
            {key: part[step] for key, part in self.after.items()},
        )

    def achieved(self, numbers: Array) -> Array:
        """All outcomes of the episodes to which the steps belong: (n, horizon, 3)."""
        steps, envs = np.divmod(numbers, self.n_envs)
        first = steps - steps % self.horizon
        outcomes = first[:, None] + np.arange(self.horizon)
        return self.after["achieved_goal"][outcomes, envs[:, None]]

    def steps(self, numbers: Array) -> Array:
        """Places of the steps in their episodes."""
        return numbers // self.n_envs % self.horizon


def row(table: Array, numbers: Array) -> Array:
    """Entries of an array (steps, n_envs, ...) by the numbers of steps."""
    return table.reshape(-1, *table.shape[2:])[numbers]


def numbers(actions: Array) -> Array:
    """Which steps of a play these are: the last action carries it, as grippers are blocked."""
    return np.rint(np.asarray(actions)[:, -1] * 1024).astype(int)


def numbered(actions: Array, first: int) -> Array:
    actions[:, -1] = (first + np.arange(len(actions))) / 1024
    return actions.astype(np.float32)


def play(env: FetchVecEnv) -> Play:
    """Random actions, drawn towards the object so that some episodes move it."""
    rng = np.random.default_rng(0)
    before, actions, after, rewards = [], [], [], []
    observation = env.reset()
    for number in range(N_STEPS):
        towards = observation["achieved_goal"] - observation["observation"][:, :3]
        action = rng.uniform(-1, 1, size=(env.num_envs, 4))
        action[:, :3] += 5 * towards
        before.append(observation)
        actions.append(numbered(action, number * env.num_envs))
        observation, reward, dones, infos = env.step(actions[-1])
        ends = [info.get("terminal_observation") for info in infos]
        after.append(stacked(ends) if dones.all() else observation)
        rewards.append(reward)
    return Play(HORIZON, stacked(before), np.stack(actions), stacked(after), np.stack(rewards))


def stacked(observations: list[Any]) -> dict[str, Array]:
    return {key: np.stack([one[key] for one in observations]) for key in observations[0]}


def by_hand(achieved: Array, goals: Array | None = None) -> Play:
    """A play of which only goals matter.

    Args:
        achieved: (episodes, n_envs, horizon + 1, 3), metres.
        goals: (episodes, n_envs, 3); far away unless given.
    """
    n_episodes, n_envs, n_places, _ = achieved.shape
    horizon = n_places - 1
    goals = np.full((n_episodes, n_envs, 3), 9.0) if goals is None else goals
    in_order = achieved.transpose(0, 2, 1, 3)  # time before environments
    parts = {
        "observation": np.arange(n_episodes * horizon * n_envs * 25.0).reshape(-1, n_envs, 25),
        "desired_goal": np.repeat(goals, horizon, axis=0),
    }
    places = {"before": in_order[:, :-1], "after": in_order[:, 1:]}
    sides = {
        side: parts | {"achieved_goal": part.reshape(-1, n_envs, 3)}
        for side, part in places.items()
    }
    actions = np.zeros((n_episodes * horizon * n_envs, 4))
    return Play(
        horizon,
        **sides,
        actions=numbered(actions, 0).reshape(-1, n_envs, 4),
        rewards=np.zeros((n_episodes * horizon, n_envs)),
    )


def at_the_threshold(env: FetchVecEnv) -> Play:
    """Episodes of two steps: the first ends at threshold distance from the second and the goal."""
    rng, n_envs = np.random.default_rng(0), 256

    def away() -> Array:
        direction = rng.normal(size=(n_envs, 3))
        length = THRESHOLD * (1 + rng.uniform(-1e-8, 1e-8, size=(n_envs, 1)))
        return length * direction / np.linalg.norm(direction, axis=1, keepdims=True)

    middle = rng.uniform(0.5, 1.5, size=(n_envs, 3))
    achieved = np.stack([middle + away(), middle, middle + away()], axis=1)
    played = by_hand(achieved[None], (middle + away())[None])
    goals = played.before["desired_goal"]
    played.rewards = env.batch.task.compute_reward(played.after["achieved_goal"], goals, {})
    return played


def make_ours(
    env: FetchVecEnv,
    played: Play,
    hindsight: Hindsight | None = None,
    capacity: int = 3000,
    seed: int = 0,
    n_steps: int | None = None,
    reward: Any = None,
) -> HindsightReplay:
    width = played.before["observation"].shape[-1]
    store = EpisodeStore(capacity, Shape(played.n_envs, played.horizon, width, 3, 4))
    for part in (store.observations, store.achieved_goals, store.desired_goals, store.actions):
        part.fill(np.nan)  # shows in a batch if it is drawn before anything is stored there
    reward = reward or env.batch.task.compute_reward
    replay = HindsightReplay(store, reward, THRESHOLD, np.random.default_rng(seed), hindsight)
    add(replay, played, 0, n_steps)
    return replay


def add(replay: HindsightReplay, played: Play, first: int, last: int | None = None) -> None:
    for step in range(len(played.actions))[first:last]:
        before, after = played.transition(step)
        ends = replay.store.add(before, played.actions[step], after)
        assert ends == ((step + 1) % played.horizon == 0)


def make_theirs(
    env: FetchVecEnv,
    played: Play,
    k: int,
    strategy: str = "future",
    capacity: int = 3000,
) -> HerReplayBuffer:
    np.random.seed(0)
    buffer = HerReplayBuffer(
        capacity,
        env.observation_space,
        env.action_space,
        env,
        "cpu",
        played.n_envs,
        n_sampled_goal=k,
        goal_selection_strategy=strategy,
    )
    for step, actions in enumerate(played.actions):
        before, after = played.transition(step)
        done = (step + 1) % played.horizon == 0
        infos = [{"TimeLimit.truncated": done}] * played.n_envs
        dones = np.full(played.n_envs, done)
        buffer.add(before, after, actions, played.rewards[step], dones, infos)
    return buffer


def textbook(strategy: str = "future", k: int = 4, keep: float = 1.0) -> Hindsight:
    """As the engine makes it from the settings of HER."""
    return Hindsight(strategy, k / (k + 1), keep)


@dataclass
class Drawn:
    """What was drawn: numbers of steps, and goals in as much precision as the batch has."""

    numbers: Array
    goals: Array

    def __getitem__(self, part: slice | Array) -> Drawn:
        return Drawn(self.numbers[part], self.goals[part])

    @property
    def relabelled(self) -> Drawn:
        """Four of five, as the textbook has it."""
        return self[: len(self.numbers) * 4 // 5]


def from_ours(replay: HindsightReplay, batch_size: int) -> Drawn:
    batch = replay.sample(batch_size)
    for name, part in vars(batch).items():
        assert len(part) == batch_size, name
        assert np.isfinite(part).all(), f"{name}: never stored"
    return Drawn(numbers(batch.actions), batch.inputs[:, 3:6])


def from_theirs(buffer: HerReplayBuffer, batch_size: int) -> Drawn:
    """With relabelled ones first, as in ours."""
    batch = buffer.sample(batch_size)
    drawn = Drawn(numbers(batch.actions), batch.observations["desired_goal"].numpy())
    n_own = batch_size - int(buffer.her_ratio * batch_size)
    return Drawn(*(np.roll(part, -n_own, axis=0) for part in (drawn.numbers, drawn.goals)))


def outcomes(played: Play, drawn: Drawn) -> Array:
    """Which steps of their episodes achieved the goals; the first, if several did."""
    achieved = played.achieved(drawn.numbers).astype(drawn.goals.dtype)
    matches = (achieved == drawn.goals[:, None]).all(axis=2)
    assert matches.any(axis=1).all(), "a goal that the episode did not achieve"
    return matches.argmax(axis=1)


def assert_share(found: Array, share: float) -> None:
    """Within five standard deviations of a binomial: one seed in two million fails."""
    assert abs(found.mean() - share) < 5 * np.sqrt(share * (1 - share) / len(found))


def assert_same_distribution(one: Array, other: Array, n_values: int) -> None:
    table = np.stack([np.bincount(part, minlength=n_values) for part in (one, other)])
    table = table[:, table.any(axis=0)]
    if table.shape[1] > 1:
        assert stats.chi2_contingency(table).pvalue > P_VALUE


def assert_uniform(found: Array, expected: Array) -> None:
    values, counts = np.unique(found, return_counts=True)
    np.testing.assert_array_equal(values, expected)
    assert stats.chisquare(counts).pvalue > P_VALUE


def assert_equal(one: Batch, other: Batch) -> None:
    for name, array in vars(one).items():
        np.testing.assert_array_equal(array, getattr(other, name), err_msg=name, strict=True)


def is_equal(one: Batch, other: Batch) -> bool:
    return all(np.array_equal(array, getattr(other, name)) for name, array in vars(one).items())
