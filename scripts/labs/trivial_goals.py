"""Trivial goals (book chapter 5): hindsight that teaches nothing, and how to leave it out.

A goal that was achieved before the step does not show what the action is good for. While the block
lies still, nearly all goals of textbook hindsight are like that. `--verify` measures this and
checks the remedy, `--demo` draws both, `--bridge` asks Stable-Baselines3's replay buffer.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

# No scene is rendered, and `import mujoco` fails where MUJOCO_GL names a backend that does not
# work. MuJoCo reads the variable while it is imported, so it is set before.
os.environ["MUJOCO_GL"] = "disable"

import gymnasium as gym
import gymnasium_robotics
import numpy as np
from numpy.typing import NDArray

gym.register_envs(gymnasium_robotics)
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Row = dict[str, float]

ENV_ID = "FetchPush-v4"
THRESHOLD = 0.05  # metres; up to this distance from the goal FetchPush rewards 0
K = 4  # relabelled goals per step
KEEPS = (1.0, 0.2, 0.05)  # textbook, milder, the recipe's trivial_goal_keep
MOVED = 0.02  # metres; a block that went further than this was pushed
SIGMAS = 4.0  # bounds on random numbers: four standard deviations, missed once in 16 000 draws
BRIDGE_DRAWS = 100_000  # fewer would not tell `future` from `final` goals
PACKAGES = ("gymnasium-robotics", "mujoco", "numpy")
FIGURE, TABLE = Path("figures", "trivial_goals.png"), Path("results", "trivial_goals.json")
PARTS = (  # of the figure: name in a row, label, colour, colour of the number, hatch
    ("trivial", "achieved before the step (trivial)", "0.9", "black", "//"),
    ("achieved_by_step", "achieved by this very step", "0.0", "white", ""),
    ("to_be_achieved", "still to be achieved", "0.6", "black", ""),
)


# --8<-- [start:early_episodes]
class Episodes(NamedTuple):
    """Achieved goals (N, T+1, 3), the positions of the block, and desired goals (N, 3); metres."""

    achieved: Floats
    desired: Floats


def early_episodes(n_episodes: int, seed: int) -> Episodes:
    """Episodes as a beginner makes them: uniformly random actions in FetchPush-v4."""
    achieved, desired = [], []
    with gym.make(ENV_ID) as env:
        env.action_space.seed(seed)  # reset(seed=...) does not seed it
        for episode in range(n_episodes):
            obs, _ = env.reset(seed=seed if episode == 0 else None)
            path, done = [obs["achieved_goal"]], False
            while not done:
                obs, _, terminated, truncated, _ = env.step(env.action_space.sample())
                path.append(obs["achieved_goal"])
                done = terminated or truncated
            achieved.append(path)
            desired.append(obs["desired_goal"])
    return Episodes(np.array(achieved), np.array(desired))


# --8<-- [end:early_episodes]


# --8<-- [start:future_goals]
class Pairs(NamedTuple):
    """Steps and their new goals, P = N * T * k of them: k per step, step by step.

    before, after, goal (P, 3): where the block was before and after the step, and should have been.
    outcome (P,): the step of the same episode after which it was there.
    """

    before: Floats
    after: Floats
    goal: Floats
    outcome: NDArray[np.int64]


def future_goals(achieved: Floats, k: int, rng: np.random.Generator) -> Pairs:
    """Textbook hindsight on achieved (N, T+1, 3): t' ~ U{t, ..., T-1}, goal = achieved after t'."""
    n_episodes, horizon = achieved.shape[0], achieved.shape[1] - 1
    episode = np.repeat(np.arange(n_episodes), horizon * k)  # (P,)
    step = np.tile(np.repeat(np.arange(horizon), k), n_episodes)  # (P,)
    outcome = rng.integers(step, horizon)  # the step's own outcome is one of the futures
    return Pairs(
        before=achieved[episode, step],
        after=achieved[episode, step + 1],
        goal=achieved[episode, outcome + 1],
        outcome=outcome,
    )


# --8<-- [end:future_goals]


# --8<-- [start:is_trivial]
def is_trivial(before: Floats, goal: Floats, threshold: float) -> Mask:
    """Whether the goal (..., 3) was achieved before the step: nothing was left to do."""
    near: Mask = np.linalg.norm(before - goal, axis=-1) <= threshold
    return near


# --8<-- [end:is_trivial]


# --8<-- [start:keep_few_trivial]
def keep_few_trivial(trivial: Mask, keep: float, rng: np.random.Generator) -> Mask:
    """Which pairs (P,) to learn from: a trivial one with probability keep, every other one.

    A replay buffer draws other pairs in place of those left out; the shares are the same.
    """
    return ~trivial | (rng.random(trivial.shape) < keep)


# --8<-- [end:keep_few_trivial]


# --8<-- [start:share_after]
def share_after(share: float, keep: float) -> float:
    """Share of trivial pairs after the filter, s' = p s / (p s + 1 - s); p = keep, s = share."""
    return keep * share / (keep * share + (1.0 - share))


# --8<-- [end:share_after]


def judge(pairs: Pairs) -> tuple[Mask, Mask]:
    """Per pair (P,): whether its goal is trivial, and whether its step has a reward of 0."""
    trivial = is_trivial(pairs.before, pairs.goal, THRESHOLD)
    return trivial, is_trivial(pairs.after, pairs.goal, THRESHOLD)  # one test, before and after


def shares(trivial: Mask, rewarded: Mask, kept: Mask) -> Row:
    """What the kept pairs consist of; trivial, achieved_by_step and to_be_achieved add up to 1."""
    trivial, rewarded = trivial[kept], rewarded[kept]
    parts = {
        "trivial": trivial,
        "reward_0": rewarded,
        "achieved_by_step": ~trivial & rewarded,
        "to_be_achieved": ~trivial & ~rewarded,
    }
    return {name: float(part.mean()) for name, part in parts.items()}


def moved_share(achieved: Floats) -> float:
    """Share of episodes, achieved (N, T+1, 3), whose block was ever away from where it started."""
    farthest = np.linalg.norm(achieved - achieved[:, :1], axis=-1).max(axis=1)
    return float(np.mean(farthest > MOVED))


def stream(seed: int) -> np.random.Generator:
    """Random numbers of the goals; a stream of its own, as environments use default_rng(seed)."""
    return np.random.default_rng([seed, 1])


def verdict(passed: bool, claim: str) -> bool:
    """Print the verdict on a claim and hand it on."""
    print(f"[{'PASS' if passed else 'FAIL'}] {claim}")
    return passed


def check_future(episodes: Episodes, pairs: Pairs, seed: int) -> bool:
    """Each goal was achieved later in the same episode, each later outcome is as likely."""
    n_episodes, horizon = episodes.achieved.shape[0], episodes.achieved.shape[1] - 1
    episode, step = np.divmod(np.arange(n_episodes * horizon * K) // K, horizon)  # (P,)
    later = bool(np.all((step <= pairs.outcome) & (pairs.outcome < horizon)))
    places = [(step, pairs.before), (step + 1, pairs.after), (pairs.outcome + 1, pairs.goal)]
    same = all(np.array_equal(episodes.achieved[episode, t], found) for t, found in places)
    choices = horizon - step  # (P,); mean and variance of a uniform draw of 0, ..., choices - 1
    wait, expected = np.mean(pairs.outcome - step), np.mean((choices - 1) / 2)
    bound = SIGMAS * np.sqrt(np.sum((choices**2 - 1) / 12)) / len(step)
    print(f"{len(step)} goals: outcome index from t to T-1: {later}, of the same episode: {same}")
    print(f"steps from t to t': {wait:.3f} on average (bound: {expected:.3f} ± {bound:.3f})")
    passed = later and same and bool(abs(wait - expected) <= bound)
    return verdict(passed, "future: goals come uniformly from the future of the same episode")


def check_judgement(episodes: Episodes, pairs: Pairs, seed: int) -> bool:
    """Trivial is what the environment would have rewarded before the step."""
    # On the threshold and one float64 beyond it: from the origin along an axis nothing is rounded.
    edges = np.array([[THRESHOLD, 0.0, 0.0], [np.nextafter(THRESHOLD, 1.0), 0.0, 0.0]])
    trivial, rewarded = judge(pairs)
    at_edge = is_trivial(np.zeros((2, 3)), edges, THRESHOLD)
    env: Any = gym.make(ENV_ID)  # Any: gym.Env does not declare compute_reward
    with env:
        reward, threshold = env.unwrapped.compute_reward, float(env.unwrapped.distance_threshold)
        wrong = int(np.sum(trivial != (reward(pairs.before, pairs.goal, {}) == 0.0)))
        wrong += int(np.sum(at_edge != (reward(np.zeros((2, 3)), edges, {}) == 0.0)))
        wrong_rewards = int(np.sum(rewarded != (reward(pairs.after, pairs.goal, {}) == 0.0)))
    print(f"compute_reward disagrees: before {wrong}, after {wrong_rewards} (bound: 0, 0)")
    print(f"threshold of the environment: {threshold} m (bound: {THRESHOLD})")
    passed = wrong == wrong_rewards == 0 and threshold == THRESHOLD
    return verdict(passed, "judgement: trivial means reward 0 for the state before the step")


def check_textbook(episodes: Episodes, pairs: Pairs, seed: int) -> bool:
    """Random actions rarely push the block, so most goals of textbook hindsight teach nothing."""
    trivial, rewarded = judge(pairs)
    moved, n = moved_share(episodes.achieved), len(episodes.achieved)
    distinct = len(np.unique(episodes.desired, axis=0))
    own = is_trivial(episodes.achieved[:, 1:], episodes.desired[:, None], THRESHOLD).mean()
    print(f"episodes with goals of their own: {distinct} (bound: {n})")
    print(
        f"block moved more than {MOVED} m: {moved:.3f} of {n} episodes (bound: above 0, below 0.35)"
    )
    print(f"rewards of 0, own goals: {own:.3f} (bound: below 0.25)")
    print(f"rewards of 0, textbook hindsight: {rewarded.mean():.3f} (bound: above 0.75)")
    print(f"trivial goals, textbook hindsight: {trivial.mean():.3f} (bound: above 0.75)")
    passed = distinct == n and 0 < moved < 0.35 and own < 0.25
    passed = passed and trivial.mean() > 0.75 and rewarded.mean() > 0.75
    return verdict(bool(passed), "textbook: most goals were achieved before the step")


def trivial_masks(pairs: Pairs) -> dict[str, Mask]:
    """Which pairs are trivial (P,): as measured and, should no block have moved, as made up."""
    return {"measured": judge(pairs)[0], "made up": np.arange(len(pairs.goal)) % 20 > 0}


def check_filter(episodes: Episodes, pairs: Pairs, seed: int) -> bool:
    """What is left of the trivial pairs is what the formula says."""
    rng, passed = stream(seed + 1), True
    for name, trivial in trivial_masks(pairs).items():
        before, n_trivial, n_others = trivial.mean(), trivial.sum(), (~trivial).sum()
        for keep in KEEPS[1:]:
            share = trivial[keep_few_trivial(trivial, keep, rng)].mean()
            expected = share_after(before, keep)
            # The number kept is binomial, and d share / d number = others / (number + others)^2.
            spread = SIGMAS * np.sqrt(n_trivial * keep * (1 - keep))
            bound = spread * n_others / (keep * n_trivial - spread + n_others) ** 2
            print(f"p = {keep}: trivial goals {before:.3f} ({name}) -> {share:.3f}", end=" ")
            print(f"(bound: {expected:.3f} ± {bound:.3f})")
            passed = passed and bool(abs(share - expected) <= bound)
    return verdict(passed, "filter: the share of trivial goals is p s / (p s + 1 - s)")


def check_survivors(episodes: Episodes, pairs: Pairs, seed: int) -> bool:
    """Pairs that teach something stay; p = 1 changes nothing, p = 0 leaves nothing trivial."""
    trivial, rng = np.concatenate(list(trivial_masks(pairs).values())), stream(seed + 2)
    masks = {keep: keep_few_trivial(trivial, keep, rng) for keep in (*KEEPS, 0.0)}
    lost = sum(int(np.sum(~kept & ~trivial)) for kept in masks.values())
    changed, left = int(np.sum(~masks[1.0])), int(np.sum(masks[0.0] & trivial))
    print(f"non-trivial pairs lost: {lost} of {int(np.sum(~trivial))} (bound: 0)")
    print(f"p = 1: pairs lost {changed} (bound: 0); p = 0: trivial pairs left {left} (bound: 0)")
    passed = lost == changed == left == 0
    return verdict(passed, "survivors: only trivial pairs go, none of them at p = 1, all at p = 0")


def verify(n_episodes: int, seed: int) -> int:
    """Run the five checks on the same episodes; return the exit code."""
    print("Trivial Goals -- Verification")
    print(f"{ENV_ID}, {n_episodes} episodes of random actions, k = {K}, seed {seed}")
    episodes = early_episodes(n_episodes, seed)
    pairs = future_goals(episodes.achieved, K, stream(seed))
    checks = [check_textbook, check_future, check_judgement, check_filter, check_survivors]
    failed = [check(episodes, pairs, seed) for check in checks].count(False)
    if failed:
        print(f"[FAILED] {failed} of {len(checks)} checks")
    else:
        print("[ALL PASS] Trivial goals verified")
    return 1 if failed else 0


def draw(rows: list[Row], distances: list[Floats], title: str, path: Path) -> None:
    """Two panels as a PNG: shares for each p; distances (P,) in cm for the first and last p."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 5), layout="constrained")
    left, right = figure.subplots(1, 2)
    base = np.zeros(len(rows))
    for part, label, colour, ink, hatch in PARTS:
        heights = 100 * np.array([row[part] for row in rows])
        names = [f"{row['p']:g}" for row in rows]
        bars = left.bar(names, heights, 0.6, base, color=colour, hatch=hatch, label=label, ec="0.3")
        texts = [f"{height:.0f} %" if height >= 4 else "" for height in heights]
        box = {"facecolor": colour, "edgecolor": "none", "pad": 1.5} if hatch else None
        left.bar_label(bars, texts, label_type="center", color=ink, bbox=box, fontsize=9)
        base += heights
    left.set(title="What the goals are", ylabel="share of relabelled pairs (%)", ylim=(0, 100))
    left.set(xlabel="p, the share of trivial goals that is kept (1: textbook)")
    bins = np.arange(0.0, max(away.max() for away in distances) + 5.0, 2.5)  # 5 cm is an edge
    looks = (("p = 1 (textbook)", "0.75", "stepfilled"), (f"p = {KEEPS[-1]:g}", "0.0", "step"))
    for away, (label, colour, kind) in zip(distances, looks, strict=True):
        weights = np.full(len(away), 100 / len(away))
        right.hist(away, bins, weights=weights, label=label, color=colour, histtype=kind, lw=1.8)
    right.axvline(100 * THRESHOLD, color="0.3", ls="--", label="5 cm: trivial to the left of it")
    right.set(title="How far away the goals are", ylabel="share of relabelled pairs (%)")
    right.set(xlabel="from the block to its goal before the step (cm)", yscale="log")
    right.yaxis.set_major_formatter("{x:g}")
    for panel in (left, right):
        panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), frameon=False)
    figure.suptitle(title)
    figure.savefig(path, format="png", dpi=200)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Hand out a temporary file beside path; it takes the place of path if all went well."""
    temporary = path.with_name(f"{path.name}.tmp")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary.touch()
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def count_kinds(pairs: Pairs, rng: np.random.Generator) -> tuple[list[Row], list[Floats]]:
    """Per p: the shares of the pairs that are kept, and how far away their goals were (P,), cm."""
    trivial, rewarded = judge(pairs)
    away = 100 * np.linalg.norm(pairs.before - pairs.goal, axis=-1)
    rows, distances = [], []
    for keep in KEEPS:
        kept = keep_few_trivial(trivial, keep, rng)
        rows.append({"p": keep, "n_pairs": int(kept.sum()), **shares(trivial, rewarded, kept)})
        distances.append(away[kept])
    return rows, distances


def demo(n_episodes: int, seed: int, out: Path, table: Path, command: str) -> int:
    """Print, store and draw what the goals are for each p; return the exit code."""
    with replacing(out) as picture, replacing(table) as document:  # fails before the work is done
        print(f"{ENV_ID}, {n_episodes} episodes of random actions, k = {K}, seed {seed}")
        episodes, rng = early_episodes(n_episodes, seed), stream(seed)
        rows, distances = count_kinds(future_goals(episodes.achieved, K, rng), rng)
        print("   p    pairs  trivial  reward 0  achieved by this step  still to be achieved")
        line = "{p:4g} {n_pairs:8d} {trivial:8.3f} {reward_0:9.3f} {achieved_by_step:22.3f}"
        for row in rows:
            print((line + " {to_be_achieved:21.3f}").format(**row))
        found: dict[str, object] = {"schema": "trivial-goals/1", "command": command, "rows": rows}
        found |= {
            "env_id": ENV_ID,
            "n_episodes": n_episodes,
            "seed": seed,
            "threshold_m": THRESHOLD,
        }
        found |= {"k": K, "moved_share": moved_share(episodes.achieved)}
        found["versions"] = {name: version(name) for name in PACKAGES}
        document.write_text(json.dumps(found, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        title = f"Hindsight goals of {n_episodes} {ENV_ID} episodes of random actions (seed {seed})"
        draw(rows, [distances[0], distances[-1]], title, picture)
    print(f"wrote {out} and {table}")
    textbook, kept = (rows[i]["trivial"] for i in (0, -1))
    passed = kept < textbook
    print(f"share of trivial goals, p = {KEEPS[-1]:g}: {kept:.3f} (bound: below {textbook:.3f})")
    print("[ALL PASS] fewer trivial goals are learned from" if passed else "[FAILED] 1 of 1 checks")
    return 0 if passed else 1


def sb3_draws(achieved: Floats, seed: int) -> tuple[Mask, Mask]:
    """Trivial and rewarded (BRIDGE_DRAWS,) as Stable-Baselines3 relabels achieved (N, T+1, 3)."""
    from stable_baselines3 import HerReplayBuffer
    from stable_baselines3.common.vec_env import DummyVecEnv

    n_episodes, horizon = achieved.shape[0], achieved.shape[1] - 1
    env = DummyVecEnv([lambda: gym.make(ENV_ID)])
    space: Any = env.observation_space
    size = n_episodes * horizon
    buffer = HerReplayBuffer(size, space, env.action_space, env, "cpu", n_sampled_goal=K)
    # Hindsight goals depend on achieved goals alone, so the rest of a step is left blank.
    blank = {key: np.zeros((1, *part.shape)) for key, part in space.spaces.items()}
    for path in achieved:
        states = [{**blank, "achieved_goal": position[None]} for position in path]
        for t in range(horizon):
            done = np.array([t == horizon - 1])
            buffer.add(states[t], states[t + 1], np.zeros((1, 4)), np.zeros(1), done, [{}])
    np.random.seed(seed)  # the buffer draws from numpy's global stream
    batch = buffer.sample(BRIDGE_DRAWS * (K + 1) // K)  # its own goals first, then relabelled ones
    env.close()
    before, goal = (batch.observations[key].numpy() for key in ("achieved_goal", "desired_goal"))
    trivial = is_trivial(before, goal, THRESHOLD)
    return trivial[-BRIDGE_DRAWS:], batch.rewards.numpy()[-BRIDGE_DRAWS:, 0] == 0.0


def bridge(n_episodes: int, seed: int) -> int:
    """Show that Stable-Baselines3 draws as many trivial goals as we do; return the exit code."""
    print("Trivial Goals -- Bridging Proof")
    print(f"{ENV_ID}, {n_episodes} episodes of random actions, k = {K}, seed {seed}")
    achieved = early_episodes(n_episodes, seed).achieved
    k = BRIDGE_DRAWS // (len(achieved) * (achieved.shape[1] - 1)) or 1  # as many goals as theirs
    ours, theirs = judge(future_goals(achieved, k, stream(seed))), sb3_draws(achieved, seed)
    same = True
    for name, mine, other in zip(("trivial goals", "rewards of 0"), ours, theirs, strict=True):
        share, difference = float(mine.mean()), float(other.mean() - mine.mean())
        bound = SIGMAS * float(np.sqrt(share * (1 - share) * (1 / len(mine) + 1 / len(other))))
        print(
            f"{name}: ours {share:.4f} of {len(mine)}, SB3 {other.mean():.4f} of {len(other)},",
            end="",
        )
        print(f" difference {difference:+.4f} (bound: ± {bound:.4f})")
        same = same and abs(difference) <= bound
    print(f"[{'MATCH' if same else 'FAIL'}] shares of HerReplayBuffer == ours, {SIGMAS:g} sigma")
    print("[BRIDGE OK] Bridging proof passed" if same else "[FAILED] 1 of 1 checks")
    return 0 if same else 1


def main(argv: list[str] | None = None) -> int:
    """Run the chosen mode and return its exit code; without one, print the help and return 2."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(usage=argparse.SUPPRESS, description=__doc__)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--verify", action="store_true", help="measure the claims of the chapter")
    mode.add_argument("--demo", action="store_true", help="print the table, store it and draw it")
    mode.add_argument("--bridge", action="store_true", help="compare with Stable-Baselines3")
    parser.add_argument("--seed", type=int, default=0, help="0 or more (default: 0)")
    parser.add_argument("--episodes", type=int, help="10 or more (default: 60, with --demo 200)")
    parser.add_argument("--out", type=Path, default=FIGURE, help="PNG")
    parser.add_argument("--json", type=Path, help="beside another PNG if not given")
    args = parser.parse_args(argv)
    if args.seed < 0:
        parser.error(f"--seed {args.seed} is negative; give 0 or more")
    if args.episodes is not None and args.episodes < 10:
        parser.error(f"--episodes {args.episodes} is too few to count anything; give 10 or more")
    if args.verify:
        return verify(args.episodes or 60, args.seed)
    if args.bridge:
        return bridge(args.episodes or 60, args.seed)
    if args.demo:
        command = shlex.join(["python", "scripts/labs/trivial_goals.py", *argv])
        try:
            table = TABLE if args.out == FIGURE else args.out.with_suffix(".json")
            return demo(args.episodes or 200, args.seed, args.out, args.json or table, command)
        except OSError as error:
            print(f"error: {error}; choose other files with --out and --json", file=sys.stderr)
            return 2
    parser.print_help()
    return 2


if __name__ == "__main__":
    sys.exit(main())
