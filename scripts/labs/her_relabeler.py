"""HER relabeler (book chapter 5): a failed episode, told again as if its outcomes had been the aim.

`--verify` measures what goal sampling and relabelling promise, `--demo` counts and draws what they
yield, `--compare-sb3` puts them beside the replay buffer of Stable-Baselines3.
"""

from __future__ import annotations

import argparse
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
RewardFn = Callable[[Floats, Floats, dict[str, Any]], float]
Claim = tuple[str, Any, Any]  # what was measured, the value, its bound: a value, or (low, high)

RNG = np.random.default_rng(0)  # unless told otherwise; one stream, so that ten episodes differ
NEAR = 0.05  # metres; a goal up to this far away is achieved, as on Fetch
KS, RATIOS = (1, 4, 8, 16), (0.0, 0.5, 0.8, 1.0)  # of the demo
OFF = "worst count, in standard deviations:"
RELABELLED = ["reward", "desired_goal"]  # the fields that may change
BAND = (0.0, 4.0)  # its bound; one count in 16 000 misses it by chance


# --8<-- [start:data_structures]
class Transition(NamedTuple):
    """Step t = 0, ..., T-1 of an episode; goals are positions in metres."""

    obs: Floats  # (obs_dim,)
    action: Floats  # (act_dim,)
    reward: float
    next_obs: Floats  # (obs_dim,)
    done: bool
    achieved_goal: Floats  # (3,), the goal achieved at next_obs: the outcome of this very step
    desired_goal: Floats  # (3,)


@dataclass
class Episode:
    """The T steps of one episode, in order."""

    transitions: list[Transition]

    def __len__(self) -> int:
        return len(self.transitions)

    @property
    def achieved_goals(self) -> Floats:
        """The outcomes of all steps (T, 3), as a new array."""
        return np.array([step.achieved_goal for step in self.transitions])


class GoalStrategy(StrEnum):
    """Where the new goals of a step come from; sample_her_goals says more."""

    FINAL = "final"
    FUTURE = "future"
    EPISODE = "episode"
    RANDOM = "random"


def sparse_reward(achieved_goal: Floats, desired_goal: Floats, info: dict[str, Any]) -> float:
    """-1 beyond the threshold, else 0; goals (3,). info may bring a threshold of its own."""
    distance = np.linalg.norm(achieved_goal - desired_goal)
    return -1.0 if distance > info.get("threshold", NEAR) else 0.0


# --8<-- [end:data_structures]


def create_synthetic_episode(n_steps: int = 50, rng: np.random.Generator = RNG) -> Episode:
    """A random walk from the origin whose desired goal stays over 10 m away: no success."""
    desired, position, transitions = np.array([12.0, 0.0, 0.0]), np.zeros(3), []
    for t in range(n_steps):
        action = rng.uniform(-1.0, 1.0, size=3).astype(np.float32)  # as Gymnasium's action spaces
        moved = position + 0.03 * action  # metres; about what a full action does on Fetch
        reward, done = sparse_reward(moved, desired, {}), t == n_steps - 1
        transitions.append(Transition(position, action, reward, moved, done, moved, desired))
        position = moved
    return Episode(transitions)


# --8<-- [start:goal_sampling]
def sample_her_goals(
    episode: Episode,
    transition_idx: int,
    strategy: GoalStrategy = GoalStrategy.FUTURE,
    k: int = 4,
    rng: np.random.Generator = RNG,
) -> Floats:
    """New goals (k, 3) for step t = transition_idx, always k of them.

    FINAL: k copies of the last outcome. EPISODE: outcomes of any steps, with replacement.
    FUTURE: outcomes of t+1, ..., T-1 without replacement; once they are used up, the last outcome.
    RANDOM: points from the box that the outcomes span, reached or not; one episode is all we have
    here, where the paper takes outcomes of the whole training so far.
    """
    achieved, last = episode.achieved_goals, len(episode) - 1  # (T, 3)
    if strategy is GoalStrategy.RANDOM:
        return rng.uniform(achieved.min(axis=0), achieved.max(axis=0), size=(k, 3))
    if strategy is GoalStrategy.FINAL:
        chosen: NDArray[np.int64] = np.full(k, last)
    elif strategy is GoalStrategy.FUTURE:
        # Not from t on, as step t reaches its own outcome anyway. SB3 does so, with replacement.
        future = np.arange(transition_idx + 1, last + 1)
        drawn = rng.choice(future, size=min(k, len(future)), replace=False)
        chosen = np.concatenate([drawn, np.full(k - len(drawn), last)])
    else:
        chosen = rng.integers(0, last + 1, size=k)
    return achieved[chosen]


# --8<-- [end:goal_sampling]


# --8<-- [start:relabel_transition]
def relabel_transition(
    transition: Transition, new_goal: Floats, compute_reward_fn: RewardFn, threshold: float = NEAR
) -> Transition:
    """The same step as if new_goal (3,) had been desired, with its reward; what happened stays."""
    # sparse_reward heeds the threshold in info; Fetch's compute_reward has its own.
    reward = compute_reward_fn(transition.achieved_goal, new_goal, {"threshold": threshold})
    # done stays too: success in hindsight did not end the episode, which went on from next_obs.
    return transition._replace(reward=float(reward), desired_goal=new_goal.copy())


# --8<-- [end:relabel_transition]


# --8<-- [start:her_buffer_insert]
def process_episode_with_her(
    episode: Episode,
    compute_reward_fn: RewardFn,
    strategy: GoalStrategy = GoalStrategy.FUTURE,
    k: int = 4,
    her_ratio: float = 0.8,
    rng: np.random.Generator = RNG,
) -> list[Transition]:
    """What a buffer gets: T steps and, with probability her_ratio each, k more with new goals."""
    stored = []
    for t, transition in enumerate(episode.transitions):
        stored.append(transition)
        if rng.random() < her_ratio:
            for goal in sample_her_goals(episode, t, strategy, k, rng):
                stored.append(relabel_transition(transition, goal, compute_reward_fn))
    return stored  # T (1 + k her_ratio) of them on average


# --8<-- [end:her_buffer_insert]


def compute_success_fraction(transitions: list[Transition]) -> float:
    """Share of transitions whose sparse reward is 0."""
    return float(np.mean([step.reward == 0.0 for step in transitions])) if transitions else 0.0


def report(claim: str, rows: list[Claim]) -> bool:
    """Print what was measured, each value with its bound, and the verdict on the claim."""
    passed = True
    for name, measured, bound in rows:
        low, high = bound if isinstance(bound, tuple) else (bound, bound)
        holds = bool(low <= measured <= high)
        limits = f"{low:.4g} to {high:.4g}" if isinstance(bound, tuple) else bound
        shown = f"{measured:.4g}" if isinstance(measured, float) else measured
        print(f"{'' if holds else 'wrong: '}{name} {shown} (bound: {limits})")
        passed = passed and holds
    print(f"[{'PASS' if passed else 'FAIL'}] {claim}")
    return passed


def indices_of(points: Floats, places: Floats) -> NDArray[np.int64]:
    """For points (n, 3) their indices (n,) in places (T, 3), -1 for a point that is not there."""
    same = (points[:, None] == places).all(axis=-1)  # (n, T)
    return np.where(same.any(axis=1), same.argmax(axis=1), -1)


def deviation(numbers: NDArray[Any], chances: Floats) -> float:
    """How many standard deviations the worst count of 0, 1, ... is off; chances of each (n,)."""
    counts, n = (numbers[:, None] == np.arange(len(chances))).sum(axis=0), len(numbers)
    spread = np.sqrt(n * chances * (1.0 - chances))
    return float(np.max(np.abs(counts - n * chances) / np.maximum(spread, 1e-9)))


def check_sampling(rng: np.random.Generator) -> bool:
    """Always k goals; of steps 0 to 19 the right ones, each as likely, or points from their box."""
    episode = create_synthetic_episode(20, rng)
    outcomes = episode.achieved_goals

    def steps_of(strategy: GoalStrategy, t: int, k: int) -> list[int]:
        goals = sample_her_goals(episode, t, strategy, k, rng)
        return sorted(map(int, indices_of(goals, outcomes)))

    def off(strategy: GoalStrategy, first: int) -> float:
        numbers = np.array([steps_of(strategy, 5, 4) for _ in range(2000)]).ravel()
        return deviation(numbers, (np.arange(20) >= first) / (20 - first))

    goals = sample_her_goals(episode, 5, GoalStrategy.RANDOM, 20_000, rng)
    tenths = np.floor(10 * (goals - outcomes.min(axis=0)) / np.ptp(outcomes, axis=0)).ravel()
    rows: list[Claim] = [
        ("final, k = 4:", steps_of(GoalStrategy.FINAL, 5, 4), [19] * 4),
        ("future, t = 5, k = 16:", steps_of(GoalStrategy.FUTURE, 5, 16), [*range(6, 20), 19, 19]),
        ("future, t = 19, k = 4:", steps_of(GoalStrategy.FUTURE, 19, 4), [19] * 4),
        (f"future, t = 5, k = 4, 6 to 19 alike, {OFF}", off(GoalStrategy.FUTURE, 6), BAND),
        ("episode, k = 32, number:", len(steps_of(GoalStrategy.EPISODE, 5, 32)), 32),
        (f"episode, k = 4, 0 to 19 alike, {OFF}", off(GoalStrategy.EPISODE, 0), BAND),
        ("random, k = 20000, number:", len(goals), 20_000),
        (f"random, tenths of the box alike, {OFF}", deviation(tenths, np.full(10, 0.1)), BAND),
    ]
    return report("goal sampling: always k goals, from the right outcomes, each as likely", rows)


def changes(old: tuple[Any, ...], new: tuple[Any, ...]) -> list[str]:
    """Names of the fields in which two transitions differ."""
    fields = zip(Transition._fields, old, new, strict=True)
    return [name for name, before, after in fields if not np.array_equal(before, after)]


def check_relabel(rng: np.random.Generator) -> bool:
    """The reward is that of the step's outcome for the new goal; all else is kept, done as well."""
    *_, early, step = create_synthetic_episode(20, rng).transitions
    own, other = early.achieved_goal.copy(), step.achieved_goal + 1.0
    success = relabel_transition(early, own, sparse_reward)  # which must not set done
    lopsided = relabel_transition(step, other, lambda a, g, info: float(a[0] - 3.0 * g[0]))
    start, x = step._replace(achieved_goal=np.zeros(3)), np.eye(3)[0]  # no rounding along x
    cases = ((0.05, ()), (np.nextafter(0.05, 1.0), ()), (0.08, (0.1,)))
    edges = [relabel_transition(start, d * x, sparse_reward, *near).reward for d, near in cases]
    rows: list[Claim] = [
        ("reward, goal = outcome:", success.reward, 0.0),
        ("goal + [1, 1, 1]:", relabel_transition(step, other, sparse_reward).reward, -1.0),
        ("on the threshold, just beyond it, within a wider one:", edges, [0.0, -1.0, 0.0]),
        ("reward = outcome - 3 goal:", lopsided.reward, float(step[5][0] - 3.0 * other[0])),
        ("fields changed by success:", changes(early, success), RELABELLED),
        ("fields changed at the end:", changes(step, lopsided), RELABELLED),
        ("new goal shares memory:", np.shares_memory(success.desired_goal, own), False),
    ]
    return report("relabelling: the reward fits the new goal, all else is as it was", rows)


def check_process(rng: np.random.Generator) -> bool:
    """The steps are stored as they were; k more of a share her_ratio, which fit their goals."""
    steps = (episode := create_synthetic_episode(50, rng)).transitions
    settings = (episode, sparse_reward, GoalStrategy.FUTURE)
    stored = process_episode_with_her(*settings, k=4, her_ratio=0.8, rng=rng)
    final = process_episode_with_her(episode, sparse_reward, GoalStrategy.FINAL, 1, 1.0, rng)
    ends = [len(process_episode_with_her(*settings, her_ratio=ratio, rng=rng)) for ratio in (0, 1)]
    many = [process_episode_with_her(*settings, k=1, her_ratio=0.8, rng=rng) for _ in range(40)]
    achieved, desired = (np.array([new[field] for new in stored]) for field in (5, 6))
    now, then = (indices_of(goals, episode.achieved_goals) for goals in (achieved, desired))
    own = [new for new, index in zip(stored, then, strict=True) if index < 0]
    rewards = np.where(np.sum((achieved - desired) ** 2, axis=1) > 0.05**2, -1.0, 0.0)
    copies = np.bincount(now, minlength=50)
    m = int(np.sum(copies > 1))  # a relabelled step is there more than once
    print(f"Transitions: 50 -> {len(stored)}")
    rows: list[Claim] = [
        (f"N = 50 + 4 m with m = {m} relabelled steps:", len(stored), 50 + 4 * m),
        ("N:", len(stored), (160, 250)),
        ("steps stored neither once nor five times:", int(np.sum(~np.isin(copies, (1, 5)))), 0),
        ("N for her_ratio 0 and 1:", ends, [50, 250]),
        ("relabelled of 2000 steps:", sum(map(len, many)) - 2000, (1529, 1671)),  # 4 sigma
        ("episode stored as it was:", list(map(id, own)) == list(map(id, steps)), True),
        ("wrong rewards:", int(np.sum(rewards != [new.reward for new in stored])), 0),
        ("goals not ahead:", int(np.sum((then >= 0) & (then <= now) & (now < 49))), 0),
        ("FINAL, last outcomes:", sum(bool((new[6] == steps[-1][5]).all()) for new in final), 50),
        ("success fraction before:", compute_success_fraction(steps), 0.0),
        ("success fraction after:", compute_success_fraction(stored), (0.01, 0.5)),
    ]
    return report("processing: the episode as it was and, relabelled, with successes", rows)


def verify(args: argparse.Namespace) -> list[bool]:
    """Check sampling and relabelling."""
    print("HER Relabeler -- Verification")
    checks = (check_sampling, check_relabel, check_process)
    return [check(np.random.default_rng(args.seed)) for check in checks]


@dataclass
class GoalEnvStub:
    """All that a HerReplayBuffer asks of the environment: the rewards of a batch of goals."""

    threshold: float

    def compute_reward(self, achieved_goal: Floats, desired_goal: Floats, info: Any) -> Floats:
        """(B, 3), (B, 3) -> (B,); written anew, so that sparse_reward is not its own judge."""
        distances = np.linalg.norm(achieved_goal - desired_goal, axis=-1)
        return np.where(distances > self.threshold, -1.0, 0.0)

    def env_method(self, name: str, *arguments: Any, indices: Any = None) -> list[Floats]:
        """Call a method as a vector of one environment would."""
        return [getattr(self, name)(*arguments)]


def sb3_samples(steps: list[Transition], threshold: float, size: int) -> list[Transition]:
    """What SB3's HerReplayBuffer samples after it was given the steps; n_sampled_goal = 4."""
    from gymnasium.spaces import Box, Dict
    from stable_baselines3 import HerReplayBuffer

    keys, box = ("observation", "achieved_goal", "desired_goal"), Box(-20, 20, (3,), np.float64)
    space, stub = Dict(dict.fromkeys(keys, box)), cast("Any", GoalEnvStub(threshold))
    buffer = HerReplayBuffer(len(steps), space, Box(-1.0, 1.0, (3,)), stub, "cpu", n_sampled_goal=4)
    for step in steps:  # what a walk achieves is its position
        goal, reward, done = step.desired_goal, np.array([step.reward]), np.array([step.done])
        start = dict(zip(keys, (step.obs, step.obs, goal), strict=True))
        end = dict(zip(keys, (step.next_obs, step.achieved_goal, goal), strict=True))
        buffer.add(start, end, step.action, reward, done, [{}])
    batch = buffer.sample(size)
    obs, after = batch.observations, batch.next_observations
    columns: Any = (obs["observation"], batch.actions, batch.rewards[:, 0], after["observation"])
    columns += (batch.dones[:, 0], after["achieved_goal"], obs["desired_goal"])
    return list(map(Transition, *(column.numpy() for column in columns)))


def compare_rewards(steps: list[Transition]) -> bool:
    """Relabel what SB3 sampled, with the goals that it chose, by ourselves."""
    outcomes, worst, changed, shares = Episode(steps).achieved_goals, 0.0, [], []
    for threshold in (2.0, NEAR):  # all that is relabelled succeeds within 2 m, some within 5 cm
        samples = sb3_samples(steps, threshold, 512)
        for theirs in samples:
            original = steps[indices_of(theirs.achieved_goal[None], outcomes)[0]]
            ours = relabel_transition(original, theirs.desired_goal, sparse_reward, threshold)
            worst = max(worst, abs(ours.reward - theirs.reward))
            changed += changes(ours, theirs)
        shares.append(compute_success_fraction(samples))
        own = sum(step.desired_goal[0] == 12.0 for step in samples)
    rows: list[Claim] = [
        ("Max abs reward diff:", f"{worst:.3e}", "0.000e+00"),
        ("Success fraction:   ", f"{shares[0]:.3f}", f"{int(0.8 * 512) / 512:.3f}"),
        ("Success fraction within 5 cm:", shares[1], (0.05, 0.5)),
        ("n_sampled_goal:    ", round(512 / own) - 1, 4),
        ("Fields that differ:", len(changed), 0),
    ]
    return report("SB3 HER relabeling is reward-consistent (compute_reward invariant)", rows)


def compare_sb3(args: argparse.Namespace) -> list[bool]:
    """Compare with Stable-Baselines3: rewards, and how far ahead of its step a new goal lies."""
    print("HER Relabeler -- SB3 Comparison")
    rng = np.random.default_rng(args.seed)
    np.random.seed(args.seed)  # the buffer draws from numpy's global stream
    steps = [s for _ in range(3) for s in create_synthetic_episode(50, rng).transitions]
    verdicts, samples = [compare_rewards(steps)], sb3_samples(steps, NEAR, 125_000)
    outcomes, first_episode = Episode(steps).achieved_goals, Episode(steps[:50])
    now, then = (indices_of(np.array([s[field] for s in samples]), outcomes) for field in (5, 6))
    t = rng.integers(50, size=20_000)
    goals = [sample_her_goals(first_episode, i, GoalStrategy.FUTURE, 1, rng) for i in t]
    aheads = ((then - now)[then >= 0], indices_of(np.concatenate(goals), outcomes) - t)
    step, ahead, laws = np.arange(50)[:, None], np.arange(50), []
    for first in (0, 1):  # at step 49 first = 1 leaves nothing but the padding, 0 steps ahead
        possible = (step + ahead <= 49) & (ahead >= np.minimum(first, 49 - step))
        laws.append((possible / possible.sum(axis=1, keepdims=True)).mean(axis=0))
    for i, who in enumerate(("SB3: goals come evenly from t", "lab: goals come evenly from t+1")):
        drawn = (aheads[i][:, None] == ahead[:4]).mean(axis=0)
        print(f"0, 1, 2, 3 steps ahead: {drawn.round(4)} of goals, by law {laws[i][:4].round(4)}")
        rows: list[Claim] = [(f"{who[:3]}, {OFF}", deviation(aheads[i], laws[i]), BAND)]
        rows.append(("by the other's law:", deviation(aheads[i], laws[1 - i]), (10.0, np.inf)))
        verdicts.append(report(f"{who}, ..., T-1", rows))
    return verdicts


def draw(made: dict[Any, list[Transition]], strategy: GoalStrategy, path: Path) -> None:
    """Two panels as a PNG: success fractions by k; distances from outcome to desired goal."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 5), layout="constrained")
    left, right = figure.subplots(1, 2)
    for each, look in zip(GoalStrategy, ("s--", "o-", "^-.", "D:"), strict=True):
        shares = [100 * compute_success_fraction(made[each, k, 0.8]) for k in KS]
        left.plot(KS, shares, look, color="0.2", label=each)
    left.set(title="Successes in hindsight, her_ratio 0.8", xlabel="k, goals per relabelled step")
    left.set(ylabel="transitions with reward 0 (%)", ylim=(0, None), xticks=KS)
    away = [float(np.linalg.norm(s.achieved_goal - s.desired_goal)) for s in made[strategy, 4, 0.8]]
    bins = NEAR * 1.2 ** np.arange(-9, 34)  # 1 cm to 20 m; nearer ones are in the first
    parts = [[d for d in away if d > 5.0], [max(d, bins[0]) for d in away if d <= 5.0]]
    labels = [f"before: {len(parts[0])} transitions", f"added by relabelling: {len(parts[1])}"]
    right.hist(parts, bins, stacked=True, color=["0", "0.75"], label=labels)
    right.axvline(NEAR, color="0.3", ls="--", label="5 cm: reward 0 left of it")
    right.set(title=f"Relabelling with {strategy} goals, k = 4, her_ratio 0.8", xscale="log")
    right.set(xlabel="from outcome to desired goal (m)", ylabel="transitions")
    right.xaxis.set_major_formatter("{x:g}")
    for panel in (left, right):
        panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), frameon=False, ncols=2)
    figure.savefig(path, format="png", dpi=200)


def demo(args: argparse.Namespace) -> list[bool]:
    """Count, draw and judge what relabelling makes of ten episodes."""
    args.out.parent.mkdir(parents=True, exist_ok=True)
    rng, strategy = np.random.default_rng(args.seed), GoalStrategy(args.strategy)
    walks = [create_synthetic_episode(50, rng) for _ in range(10)]
    made: dict[Any, list[Transition]] = {}
    for each, k, ratio in product(GoalStrategy, KS, RATIOS):
        settings = (sparse_reward, each, k, ratio, rng)
        made[each, k, ratio] = [s for w in walks for s in process_episode_with_her(w, *settings)]
    success = {setting: compute_success_fraction(stored) for setting, stored in made.items()}
    print("500 transitions become as many as this (amplification, success fraction)")
    print("strategy  k" + "".join(f"{f'her_ratio {ratio}':>24s}" for ratio in RATIOS))
    for each, k in product(GoalStrategy, KS):
        counts = {ratio: len(made[each, k, ratio]) for ratio in RATIOS}
        cells = [f"{n:9d} ({n / 500:5.2f}x, {success[each, k, r]:.3f})" for r, n in counts.items()]
        print(f"{each:8s} {k:2d}{''.join(cells)}")
    draw(made, strategy, args.out)
    print(f"wrote {args.out}")
    ours, final, future = ((s, 4, 0.8) for s in (strategy, GoalStrategy.FINAL, GoalStrategy.FUTURE))
    rows: list[Claim] = [  # the amplification is 1 + k her_ratio within four standard deviations
        (f"amplification, {strategy}, k = 4, her_ratio 0.8:", len(made[ours]) / 500, (3.91, 4.49)),
        ("success fraction before:", success[strategy, 4, 0.0], 0.0),
        ("success fraction, FINAL below FUTURE:", success[final], (0.001, success[future])),
    ]
    return [report("relabelling makes successes of failures", rows)]


def main(argv: list[str] | None = None) -> int:
    """Run the chosen mode and return its exit code; without one, print the help and return 2."""
    parser = argparse.ArgumentParser(usage=argparse.SUPPRESS, description=__doc__)
    mode = parser.add_mutually_exclusive_group()
    for flag, run in (("--verify", verify), ("--demo", demo), ("--compare-sb3", compare_sb3)):
        mode.add_argument(flag, dest="run", action="store_const", const=run, help=run.__doc__)
    parser.add_argument("--seed", type=int, default=0, help="0 or more (default: 0)")
    usual = inspect.signature(process_episode_with_her).parameters["strategy"].default
    parser.add_argument("--strategy", choices=[each.value for each in GoalStrategy], default=usual)
    parser.add_argument("--out", type=Path, default=Path("figures/her_relabeler_demo.png"))
    args = parser.parse_args(argv)
    if not 0 <= args.seed < 2**32:
        parser.error(f"--seed {args.seed} is out of range; give 0 to {2**32 - 1}")
    if args.run is None:
        parser.print_help()
        return 2
    try:
        verdicts = args.run(args)
    except OSError as error:
        print(f"error: {error}; choose another file with --out", file=sys.stderr)
        return 2
    n, failed = len(verdicts), verdicts.count(False)
    done = {verify: "implementation verified", demo: "makes successes of failures"}
    done |= {compare_sb3: "rewards match SB3's, goals begin a step later"}
    print(f"[FAILED] {failed} of {n} checks" if failed else f"[ALL PASS] HER {done[args.run]}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
