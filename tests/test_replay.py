"""Our replay draws what Stable-Baselines3's HER buffer would have drawn from the same episodes."""

import copy
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from stable_baselines3 import SAC, HerReplayBuffer

from robotics_rl.envs.fetch_vec_env import FetchVecEnv
from robotics_rl.replay.episodes import EpisodeStore, Shape
from robotics_rl.replay.hindsight import Batch, Hindsight, HindsightReplay

Array = NDArray[Any]
STRATEGIES = ["future", "final", "episode"]
THRESHOLD = 0.05  # metres, of every Fetch task
HORIZON, N_ENVS = 50, 3
N_STEPS = 5 * HORIZON + 20  # five finished episodes of every environment, and a running one
N_DRAWS = 50_000  # 20 for each of the 2500 pairs of a step and an outcome
# Seeds are fixed, so what passes goes on passing; with other seeds a chi-square test of equal
# distributions would fail once in ten thousand. Leaving out the step's own outcome moves 9% of
# the draws, taking one strategy for another far more: both give a p-value of 0.
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


@dataclass
class Rewarder:
    """The environment's reward; remembers the goals, in their full precision."""

    task: Any

    def __call__(self, achieved: Array, goals: Array, info: Any) -> Array:
        self.achieved, self.goals = achieved, goals
        return self.task.compute_reward(achieved, goals, info)


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
        before, after = (
            {key: part[step] for key, part in side.items()}
            for side in (played.before, played.after)
        )
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
        before, after = (
            {key: part[step] for key, part in side.items()}
            for side in (played.before, played.after)
        )
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

    def __getitem__(self, part: slice) -> "Drawn":
        return Drawn(self.numbers[part], self.goals[part])


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


def trivial(played: Play, drawn: Drawn) -> Array:
    """Which goals were achieved before the step."""
    away = row(played.before["achieved_goal"], drawn.numbers) - drawn.goals
    return np.linalg.norm(away, axis=1) <= THRESHOLD


def trivial_share(played: Play) -> float:
    """Of all pairs of a finished step and a later outcome, weighed as `future` draws them."""
    n_finished = len(played.actions) // played.horizon * played.horizon * played.n_envs
    every = np.arange(n_finished)
    away = played.achieved(every) - row(played.before["achieved_goal"], every)[:, None]
    follows = np.arange(played.horizon) >= played.steps(every)[:, None]
    is_trivial = (np.linalg.norm(away, axis=2) <= THRESHOLD) & follows
    return float(np.mean(is_trivial.sum(axis=1) / follows.sum(axis=1)))


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


@pytest.fixture(scope="module")
def push() -> Iterator[FetchVecEnv]:
    env = FetchVecEnv("FetchPush-v4", N_ENVS, seed=0)
    yield env
    env.close()


@pytest.fixture(scope="module")
def pushed(push: FetchVecEnv) -> Play:
    return play(push)


@pytest.fixture(scope="module")
def reach() -> Iterator[FetchVecEnv]:
    env = FetchVecEnv("FetchReachDense-v4", N_ENVS, seed=0)
    yield env
    env.close()


@pytest.fixture(scope="module")
def reached(reach: FetchVecEnv) -> Play:
    """The gripper moves in every step, so a goal tells which step achieved it."""
    return play(reach)


FINISHED = np.arange(5 * HORIZON * N_ENVS)  # numbers of the steps of finished episodes


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5, 8, 19])
def test_the_share_relabelled_is_exactly_that_of_sb3(
    push: FetchVecEnv, pushed: Play, k: int
) -> None:
    ours, theirs = make_ours(push, pushed, textbook(k=k)), make_theirs(push, pushed, k)
    for batch_size in (1, 2, 3, 7, 20, 64, 100, 256, 1000):
        for drawn in (from_ours(ours, batch_size), from_theirs(theirs, batch_size)):
            # The target was never reached to the bit, so a goal is the episode's own or is not.
            own = row(pushed.before["desired_goal"], drawn.numbers).astype(drawn.goals.dtype)
            relabelled = (drawn.goals != own).any(axis=1)
            assert relabelled.sum() == k * batch_size // (k + 1)
            assert not relabelled[k * batch_size // (k + 1) :].any()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_steps_and_outcomes_are_paired_as_in_sb3(
    reach: FetchVecEnv, reached: Play, strategy: str
) -> None:
    found = []
    ours = make_ours(reach, reached, textbook(strategy))
    theirs = make_theirs(reach, reached, 4, strategy)
    n_batch = N_DRAWS * 5 // 4
    for drawn in (from_ours(ours, n_batch)[:N_DRAWS], from_theirs(theirs, n_batch)[:N_DRAWS]):
        found.append((reached.steps(drawn.numbers), outcomes(reached, drawn)))
    ((ours_steps, ours_outcomes), (theirs_steps, theirs_outcomes)) = found
    assert_same_distribution(
        ours_outcomes - ours_steps + HORIZON, theirs_outcomes - theirs_steps + HORIZON, 2 * HORIZON
    )
    assert_same_distribution(
        ours_steps * HORIZON + ours_outcomes, theirs_steps * HORIZON + theirs_outcomes, HORIZON**2
    )


def test_the_outcome_of_the_step_itself_is_drawn_too(reach: FetchVecEnv, reached: Play) -> None:
    drawn = from_ours(make_ours(reach, reached, textbook()), N_DRAWS)[: N_DRAWS * 4 // 5]
    share = np.mean(1 / np.arange(1, HORIZON + 1))
    assert_share(outcomes(reached, drawn) == reached.steps(drawn.numbers), share)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_finished_step_is_equally_likely_as_in_sb3(
    push: FetchVecEnv, pushed: Play, strategy: str
) -> None:
    ours = from_ours(make_ours(push, pushed, textbook(strategy, 1)), 2 * N_DRAWS)
    theirs = from_theirs(make_theirs(push, pushed, 1, strategy), 2 * N_DRAWS)
    for drawn in (ours, theirs):
        assert_uniform(drawn.numbers[:N_DRAWS], FINISHED)  # relabelled
        assert_uniform(drawn.numbers[N_DRAWS:], FINISHED)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("task", ["push", "reach"])
def test_rewards_are_the_environments_bit_for_bit(
    request: pytest.FixtureRequest, task: str, strategy: str
) -> None:
    env = request.getfixturevalue(task)
    played: Play = request.getfixturevalue({"push": "pushed", "reach": "reached"}[task])
    rewarder = Rewarder(env.batch.task)
    batch = make_ours(env, played, textbook(strategy), reward=rewarder).sample(5000)
    which, own = numbers(batch.actions), slice(4000, None)
    outcomes(played, Drawn(which[:4000], rewarder.goals[:4000]))  # float64, as they were
    np.testing.assert_array_equal(
        rewarder.goals[own], row(played.before["desired_goal"], which)[own], strict=True
    )
    achieved = row(played.after["achieved_goal"], which)
    [expected] = env.env_method("compute_reward", achieved, rewarder.goals, {}, indices=[0])
    np.testing.assert_array_equal(batch.rewards, expected.astype(np.float32), strict=True)
    np.testing.assert_array_equal(batch.rewards[own], row(played.rewards, which)[own], strict=True)
    assert len(np.unique(batch.rewards)) > 1


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


def test_rewards_at_the_threshold_are_those_of_double_precision(push: FetchVecEnv) -> None:
    played = at_the_threshold(push)
    rewarder = Rewarder(push.batch.task)
    batch = make_ours(push, played, textbook("final", 1), reward=rewarder).sample(20_000)
    single = rewarder.task.compute_reward(
        rewarder.achieved.astype(np.float32), rewarder.goals.astype(np.float32), {}
    )
    own = np.arange(20_000) >= 10_000
    for part in (own, ~own):  # single precision would get many of both kinds wrong
        assert (single != batch.rewards)[part].mean() > 0.1
    theirs = make_theirs(push, played, 1, "final").sample(20_000)  # own goals first
    for ours_part, theirs_part in ((own, ~own), (~own, own)):
        rewards: dict[int, float] = dict(
            zip(
                numbers(theirs.actions)[theirs_part],
                theirs.rewards.numpy()[theirs_part, 0],
                strict=True,
            )
        )
        assert len(rewards) == 512, "every step"
        expected = [rewards[number] for number in numbers(batch.actions)[ours_part]]
        np.testing.assert_array_equal(batch.rewards[ours_part], expected)


def test_a_goal_is_trivial_where_the_environment_calls_it_achieved(push: FetchVecEnv) -> None:
    played = at_the_threshold(push)
    replay = make_ours(push, played, textbook("final"))
    draw = replay.draw_relabelled(5000)
    achieved = replay.store.achieved_goals[draw.slots, draw.steps]
    expected = push.batch.task.compute_reward(achieved, draw.goals, {}) == 0
    np.testing.assert_array_equal(replay.is_trivial(draw), expected)
    assert 0.1 < expected.mean() < 0.9


@pytest.mark.parametrize("hindsight", [None, textbook()])
def test_batches_are_what_the_policys_own_extractor_makes_of_stored_transitions(
    push: FetchVecEnv, pushed: Play, hindsight: Hindsight | None
) -> None:
    rewarder = Rewarder(push.batch.task)
    batch = make_ours(push, pushed, hindsight, reward=rewarder).sample(5000)
    which = numbers(batch.actions)
    assert set(pushed.steps(which)) == set(range(HORIZON)), "the last step included"
    actor = SAC("MultiInputPolicy", push, policy_kwargs={"net_arch": [8]}, buffer_size=99).actor
    for inputs, side in ((batch.inputs, pushed.before), (batch.next_inputs, pushed.after)):
        parts = {key: row(part, which) for key, part in side.items()}
        parts["desired_goal"] = rewarder.goals
        tensors = {key: torch.from_numpy(part) for key, part in parts.items()}
        expected = actor.extract_features(tensors, actor.features_extractor).numpy()
        np.testing.assert_array_equal(inputs, expected, strict=True)
    np.testing.assert_array_equal(batch.actions, row(pushed.actions, which), strict=True)
    np.testing.assert_array_equal(batch.inputs[:, 3:6], batch.next_inputs[:, 3:6])


def test_no_step_is_terminal_in_sb3_so_ours_need_not_say(push: FetchVecEnv, pushed: Play) -> None:
    assert not make_theirs(push, pushed, 4).sample(5000).dones.any()


def test_keeping_all_trivial_goals_is_the_textbook(push: FetchVecEnv, pushed: Play) -> None:
    share = trivial_share(pushed)
    assert 0.2 < share < 0.8, "nothing to tell apart"
    for drawn in (
        from_ours(make_ours(push, pushed, textbook(keep=1.0)), N_DRAWS),
        from_theirs(make_theirs(push, pushed, 4), N_DRAWS),
    ):
        assert_share(trivial(pushed, drawn[: N_DRAWS * 4 // 5]), share)


@pytest.mark.parametrize("keep", [0.01, 0.1, 0.5, 0.9])
def test_the_share_of_trivial_goals_follows_their_probability(
    push: FetchVecEnv, pushed: Play, keep: float
) -> None:
    drawn = from_ours(make_ours(push, pushed, textbook(keep=keep)), N_DRAWS)[: N_DRAWS * 4 // 5]
    share = trivial_share(pushed)
    assert_share(trivial(pushed, drawn), keep * share / (keep * share + 1 - share))


def test_the_share_holds_where_hardly_an_object_moves(push: FetchVecEnv) -> None:
    achieved = np.ones((10, 100, 11, 3))
    achieved[3, ::10, 6:, 1] += 0.2  # in one episode of a hundred, in the sixth step
    played, keep = by_hand(achieved), 0.02  # that of the engine
    share = trivial_share(played)
    assert share > 0.99
    drawn = from_ours(make_ours(push, played, textbook(keep=keep), 20_000), N_DRAWS)
    relabelled = drawn[: N_DRAWS * 4 // 5]
    assert_share(trivial(played, relabelled), keep * share / (keep * share + 1 - share))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_no_trivial_goal_is_left_where_none_is_kept(
    push: FetchVecEnv, pushed: Play, strategy: str
) -> None:
    drawn = from_ours(make_ours(push, pushed, textbook(strategy, keep=0.0)), N_DRAWS)
    assert not trivial(pushed, drawn[: N_DRAWS * 4 // 5]).any()


def test_the_goals_that_stay_are_distributed_as_before(reach: FetchVecEnv, reached: Play) -> None:
    n_batch, found = 2 * N_DRAWS, []
    for drawn in (
        from_ours(make_ours(reach, reached, textbook(keep=0.0)), n_batch),
        from_theirs(make_theirs(reach, reached, 4), n_batch),
    ):
        relabelled = drawn[: n_batch * 4 // 5]
        stays = ~trivial(reached, relabelled)
        relabelled = Drawn(relabelled.numbers[stays], relabelled.goals[stays])
        steps = reached.steps(relabelled.numbers)
        found.append((relabelled.numbers, outcomes(reached, relabelled) - steps))
    ((ours_numbers, ours_offsets), (theirs_numbers, theirs_offsets)) = found
    assert_same_distribution(ours_numbers, theirs_numbers, len(FINISHED))
    assert_same_distribution(ours_offsets, theirs_offsets, HORIZON)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("keep", [0.0, 0.001])
def test_trivial_goals_fill_the_batch_where_there_are_no_others(
    push: FetchVecEnv, keep: float
) -> None:
    resting = by_hand(np.ones((3, 2, 11, 3)))
    replay = make_ours(push, resting, textbook(keep=keep))
    for batch_size in (1, 256, 1000):
        drawn = from_ours(replay, batch_size)
        np.testing.assert_array_equal(drawn.goals[: 4 * batch_size // 5], 1)


def every_step(replay: HindsightReplay, n_steps: int) -> set[int]:
    """Numbers of the steps that can be drawn; one in three million is missed."""
    return set(from_ours(replay, 30 * n_steps).numbers)


@given(
    n_envs=st.integers(1, 4),
    horizon=st.integers(1, 6),
    n_blocks=st.integers(2, 4),
    spare=st.integers(0, 23),
    n_episodes=st.integers(1, 9),
    n_running=st.integers(0, 5),
    hindsight=st.sampled_from([None, textbook(k=1), textbook(k=1, keep=0.0)]),
)
@settings(max_examples=40, deadline=None)
def test_what_is_drawn_are_the_newest_episodes_and_the_running_ones_without_hindsight(
    n_envs: int,
    horizon: int,
    n_blocks: int,
    spare: int,
    n_episodes: int,
    n_running: int,
    hindsight: Hindsight | None,
) -> None:
    block = n_envs * horizon
    n_running %= horizon
    achieved = np.random.default_rng(0).normal(size=(n_episodes + 1, n_envs, horizon + 1, 3))
    played = by_hand(achieved)
    n_steps = n_episodes * horizon + n_running
    capacity = n_blocks * block + spare % block
    replay = make_ours(task_of_push(), played, hindsight, capacity, n_steps=n_steps)
    finished = n_episodes * block
    expected = set(range(max(0, finished - (n_blocks - 1) * block), finished))
    if hindsight is None:
        expected |= set(range(finished, finished + n_running * n_envs))
    assert every_step(replay, len(expected)) == expected
    assert len(expected) <= capacity


@functools.cache
def task_of_push() -> FetchVecEnv:
    """For Hypothesis, which does not go well with fixtures."""
    return FetchVecEnv("FetchPush-v4", 1, seed=0)


@pytest.mark.parametrize("n_blocks", [2, 3, 6])
def test_in_mid_episode_the_same_steps_are_left_as_in_sb3(
    push: FetchVecEnv, pushed: Play, n_blocks: int
) -> None:
    capacity = n_blocks * HORIZON * N_ENVS
    theirs = make_theirs(push, pushed, 4, capacity=capacity)
    expected = set(numbers(theirs.actions[theirs.ep_length > 0]))
    replay = make_ours(push, pushed, textbook(), capacity)
    assert every_step(replay, capacity) == expected


@pytest.mark.parametrize(
    ("capacity", "n_steps"),
    [(3000, 20), (3000, 120), (3 * HORIZON * N_ENVS, 5 * HORIZON), (3 * HORIZON * N_ENVS, N_STEPS)],
)
def test_without_hindsight_every_step_stored_is_equally_likely(
    push: FetchVecEnv, pushed: Play, capacity: int, n_steps: int
) -> None:
    replay = make_ours(push, pushed, None, capacity, n_steps=n_steps)
    drawn = from_ours(replay, N_DRAWS)
    oldest = 0 if capacity == 3000 else 3 * HORIZON * N_ENVS
    assert_uniform(drawn.numbers, np.arange(oldest, n_steps * N_ENVS))
    own = row(pushed.before["desired_goal"], drawn.numbers)
    np.testing.assert_array_equal(drawn.goals, own.astype(np.float32))


def test_it_is_ready_with_the_first_step_or_with_hindsight_the_first_episode(
    push: FetchVecEnv, pushed: Play
) -> None:
    for hindsight, first in ((None, 1), (textbook(), HORIZON)):
        assert not make_ours(push, pushed, hindsight, n_steps=first - 1).ready
        assert make_ours(push, pushed, hindsight, n_steps=first).ready
        assert make_ours(push, pushed, hindsight, n_steps=HORIZON + 1).ready


@pytest.mark.parametrize("hindsight", [None, textbook(), textbook(keep=0.1)])
@pytest.mark.parametrize("n_steps", [60, 100, 230])
def test_a_restored_replay_goes_on_bit_for_bit(
    push: FetchVecEnv, pushed: Play, hindsight: Hindsight | None, n_steps: int
) -> None:
    capacity = 3 * HORIZON * N_ENVS  # full after 100 steps, begun anew after 150
    replay = make_ours(push, pushed, hindsight, capacity, n_steps=n_steps)
    replay.sample(100)
    state = copy.deepcopy(replay.state())
    other = make_ours(push, pushed, hindsight, capacity, seed=1, n_steps=0)
    other.restore(state)
    for last in (n_steps, n_steps + 1, n_steps + 40):
        add(replay, pushed, n_steps, last)
        add(other, pushed, n_steps, last)
        n_steps = last
        assert_equal(replay.sample(500), other.sample(500))
        assert replay.moved_rate(6, 0.01) == other.moved_rate(6, 0.01)
        np.testing.assert_array_equal(replay.newest_inputs(), other.newest_inputs())


def test_a_state_holds_no_more_than_was_stored(push: FetchVecEnv, pushed: Play) -> None:
    store = make_ours(push, pushed, n_steps=120).store.state()
    assert len(store["observations"]) == 3 * N_ENVS, "two finished episodes, and a running one"


def test_an_episode_counts_as_moved_by_how_far_the_goal_got(push: FetchVecEnv) -> None:
    resting, away_and_back = [0, 0, 0, 0], [0, 0.03, 0, 0]
    creeping, too_little = [0, 0.01, 0.02, 0.03], [0, 0.01, -0.015, 0]
    pairs = [(resting, too_little), (away_and_back, creeping), (creeping, resting)]
    pairs.append((creeping, creeping))  # still running
    achieved = np.ones((4, 2, 4, 3))
    achieved[..., 1] += np.array(pairs)
    played = by_hand(achieved)
    assert make_ours(push, played, n_steps=2).moved_rate(4, 0.02) is None
    replay = make_ours(push, played, n_steps=11)
    rates = {n: replay.moved_rate(n, 0.02) for n in (2, 4, 6, 100)}
    assert rates == {2: 1 / 2, 4: 3 / 4, 6: 3 / 6, 100: 3 / 6}
    assert replay.moved_rate(6, 0.005) == 4 / 6
    assert make_ours(push, played, capacity=12, n_steps=11).moved_rate(100, 0.02) == 1 / 2


@pytest.mark.parametrize("strategy", [None, *STRATEGIES])
@pytest.mark.parametrize("capacity", [3000, 3 * HORIZON * N_ENVS])
def test_newest_inputs_are_the_last_episodes_with_own_goals_and_others(
    reach: FetchVecEnv, reached: Play, strategy: str | None, capacity: int
) -> None:
    hindsight = textbook(strategy) if strategy else None
    replay = make_ours(reach, reached, hindsight, capacity, n_steps=5 * HORIZON)
    inputs = replay.newest_inputs()
    newest, size = FINISHED[-HORIZON * N_ENVS :], HORIZON * N_ENVS
    assert inputs.shape == ((2 if hindsight else 1) * size, 6 + 10)
    assert inputs.dtype == np.float32
    names = ("achieved_goal", "desired_goal", "observation")
    expected = np.concatenate([row(reached.before[name], newest) for name in names], axis=1)
    expected = expected.astype(np.float32)
    by_content = dict(zip(map(bytes, expected), newest, strict=True))
    which = np.array([by_content[bytes(one)] for one in inputs[:size]])
    assert sorted(which) == list(newest), "each once"
    if hindsight:
        others = inputs[size:]
        seen = np.r_[0:3, 6:16]  # all but the goal
        np.testing.assert_array_equal(others[:, seen], inputs[:size, seen])
        found = outcomes(reached, Drawn(which, others[:, 3:6]))
        steps = reached.steps(which)
        assert strategy != "future" or (found >= steps).all()
        assert strategy != "final" or (found == HORIZON - 1).all()
        assert strategy != "episode" or (found < steps).any()


@pytest.mark.parametrize("hindsight", [None, *map(textbook, STRATEGIES), textbook(keep=0.1)])
def test_equal_seeds_give_equal_batches(
    push: FetchVecEnv, pushed: Play, hindsight: Hindsight | None
) -> None:
    one, same, other = (make_ours(push, pushed, hindsight, seed=seed) for seed in (7, 7, 8))
    np.random.seed(0)
    first = one.sample(100)
    np.random.seed(1)  # no other stream matters
    assert_equal(first, same.sample(100))
    assert_equal(one.sample(100), same.sample(100))
    assert not is_equal(first, other.sample(100))
    assert not is_equal(first, one.sample(100))
