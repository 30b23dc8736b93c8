"""Figures of ideas: what the environment and the labs' own functions say, without any training."""

from collections.abc import Sequence
from contextlib import closing
from inspect import signature
from pathlib import Path
from typing import Any, cast

import lab_seeds
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from robotics_rl import plotting
from robotics_rl.envs import make_env

Floats = NDArray[np.float64]
REWARDS = ("FetchReachDense-v4", "FetchReach-v4")
REACH = REWARDS[1]
FARTHEST = 0.2  # metres from the goal
RATIOS = np.linspace(0.5, 1.5, 201)  # of the new policy's probabilities to the old one's
UNCLIPPED = 1e9  # a clip range that no ratio leaves
SEED = 0
EPISODE_SEED, STEP = 11, 15  # a step whose new goals lie far enough apart to be told on paper
N_GOALS, LETTERS = 4, "abcd"  # new ones
N_EPISODES, N_STEPS = 10, 50  # of the amplification


def reward_distance(path: Path) -> None:
    """The dense and the sparse reward, as the environments compute them, against the distance."""
    distances = np.linspace(0.0, FARTHEST, 401)
    goals = distances[:, None] * np.array([1.0, 0.0, 0.0])
    caption = (
        f"compute_reward of {' and '.join(REWARDS)} for a goal at this distance from the gripper. "
        "Dense: closer is always better. Sparse: nothing tells which way to go."
    )
    with plotting.figure(path, 6.0, 3.3, caption) as figure:
        axes = figure.add_subplot()
        for number, env_id in enumerate(REWARDS):
            with closing(make_env(env_id)) as env:
                task: Any = env.unwrapped
                rewards = task.compute_reward(np.zeros_like(goals), goals, {})
                threshold = float(task.distance_threshold)
            look = plotting.line_style(number)
            label = f"{task.reward_type} ({env_id})"
            axes.plot(100 * distances, rewards, label=label, linewidth=2, **look)
        axes.axvline(100 * threshold, color="0.4", label="success left of it", **plotting.TARGET)
        axes.set(xlabel="distance from the goal (cm)", ylabel="reward of a step")
        axes.legend(loc="center right", bbox_to_anchor=(1.0, 0.6))


def ppo_clipping(path: Path) -> None:
    """What PPO maximises, over the probability ratio, by the lab's own loss."""
    lab = lab_seeds.load_lab("ppo_from_scratch")
    clip_range = lab.Settings().clip_range
    caption = (
        "compute_ppo_loss of the PPO lab for one action, times -1. Grey: the clipped objective is "
        "flat, so a gradient step has no reason to go on."
    )
    with plotting.figure(path, 7.0, 3.5, caption) as figure:
        panels = figure.subplots(1, 2)
        for panel, advantage, title in zip(
            panels, (1.0, -1.0), ("A > 0: do it more often", "A < 0: do it less often"), strict=True
        ):
            plain, clipped = (
                np.array([surrogate(lab, float(ratio), advantage, bound) for ratio in RATIOS])
                for bound in (UNCLIPPED, clip_range)
            )
            panel.plot(RATIOS, plain, label="$r A$", color="0.45", linestyle=plotting.LINES[1])
            look = {"color": plotting.COLOURS[2], "linewidth": 2.2}
            panel.plot(RATIOS, clipped, label=r"$\min(r A,\,\mathrm{clip}(r) A)$", **look)
            flat = RATIOS[np.abs(plain - clipped) > 1e-6]
            panel.axvspan(flat[0], flat[-1], color="0.9", zorder=0)
            panel.plot(1.0, advantage, "o", color="black", label="the old policy")
            edges = [1 - clip_range, 1.0, 1 + clip_range]
            names = [f"1 - ε\n{edges[0]:g}", "1", f"1 + ε\n{edges[2]:g}"]
            panel.set_xticks(edges, names)
            panel.set(title=title, xlabel=r"probability ratio $r = \pi\,/\,\pi_\mathrm{old}$")
            panel.set_xlim(RATIOS[0], RATIOS[-1])
        panels[0].set_ylabel("objective, in units of |A|")
        panels[0].legend(loc="upper left")


def surrogate(lab: Any, ratio: float, advantage: float, clip_range: float) -> float:
    """The lab's objective for one action whose probability changed by a ratio."""
    import torch
    from torch.distributions import Normal

    now, action = Normal(torch.zeros(1, 1), 1.0), torch.zeros(1, 1)
    before = now.log_prob(action).sum(-1) - float(np.log(ratio))
    loss, _ = lab.compute_ppo_loss(now, before, action, torch.tensor([advantage]), clip_range)
    return -float(loss)


def her_relabeling(path: Path) -> None:
    """One step of one episode: stored as it was, and again with goals that were reached later."""
    lab = lab_seeds.load_lab("her_relabeler")
    with closing(make_env(REACH)) as env:
        episode, task = random_episode(lab, env), cast("Any", env.unwrapped)
        step, rng = episode.transitions[STEP], np.random.default_rng(EPISODE_SEED)
        goals = lab.sample_her_goals(episode, STEP, k=N_GOALS, rng=rng)
        again = [lab.relabel_transition(step, goal, task.compute_reward) for goal in goals]
    later = lab.indices_of(goals, episode.achieved_goals)
    n_successes = sum(step.reward == 0 for step in episode.transitions)
    caption = (
        f"An episode of random actions in {REACH} (reset seed {EPISODE_SEED}), from above: "
        f"{n_successes} of its {len(episode)} steps succeed. HER stores step {STEP} as it was, and "
        f"{N_GOALS} times more with outcomes of later steps as goals. Goals by sample_her_goals, "
        "rewards by relabel_transition of the HER lab with the environment's compute_reward; "
        "distances in space."
    )
    rows = [("as it was", "desired goal", step)]
    rows += [
        (f"with {letter}", f"outcome of step {n}", new)
        for letter, n, new in zip(LETTERS, later, again, strict=False)
    ]
    with plotting.figure(path, 7.5, 4.2, caption) as figure:
        left, right = figure.subplots(1, 2, width_ratios=(1.0, 1.1))
        _draw_path(left, episode, goals)
        _draw_rows(right, rows)
        lines = left.get_legend_handles_labels()
        figure.legend(*lines, loc="outside upper left", ncols=4, fontsize=8)


def random_episode(lab: Any, env: Any) -> Any:
    """An ``Episode`` of the HER lab."""
    env.action_space.seed(EPISODE_SEED)
    seen, _ = env.reset(seed=EPISODE_SEED)
    steps, is_over = [], False
    while not is_over:
        action = env.action_space.sample()
        after, reward, terminated, truncated, _ = env.step(action)
        told = (seen["observation"], action, float(reward), after["observation"], terminated)
        steps.append(lab.Transition(*told, after["achieved_goal"], after["desired_goal"]))
        seen, is_over = after, terminated or truncated
    return lab.Episode(steps)


def _draw_path(axes: Axes, episode: Any, new_goals: Floats) -> None:
    """The gripper from above, in centimetres from where the step ended."""
    step = episode.transitions[STEP]
    path, desired, goals = (
        100 * (places - step.achieved_goal)[..., :2]
        for places in (episode.achieved_goals, step.desired_goal, new_goals)
    )
    axes.plot(*path.T, ".-", color="0.7", markersize=3, label="gripper, every step")
    axes.plot(*path[STEP - 1 : STEP + 1].T, "-", color="black", linewidth=2.5)
    axes.plot(*path[STEP], "o", color="black", label=f"outcome of step {STEP}")
    axes.plot(*desired, "*", color=plotting.COLOURS[5], markersize=13, label="desired goal")
    ring: Any = {"color": "white", "markeredgecolor": plotting.COLOURS[2], "markersize": 11}
    axes.plot(*goals.T, "o", label="new goals", **ring)
    for letter, place in zip(LETTERS, goals, strict=False):
        axes.annotate(letter, place, ha="center", va="center", fontsize=8)
    axes.set(xlabel="x (cm)", ylabel="y (cm)")
    axes.set_aspect("equal", adjustable="datalim")


def _draw_rows(axes: Axes, rows: Sequence[tuple[str, str, Any]]) -> None:
    """What is stored, a line each."""
    axes.set_axis_off()
    columns = {"stored": 0.0, "goal": 0.2, "distance": 0.66, "reward": 0.88}
    for name, x in columns.items():
        axes.text(x, 0.93, name, fontsize=9, weight="bold")
    for place, (name, goal, step) in enumerate(rows):
        away = 100 * float(np.linalg.norm(step.achieved_goal - step.desired_goal))
        reward = step.reward + 0.0  # of -0, too
        cells = (name, goal, f"{away:.1f} cm", f"{reward:g}")
        weight = "bold" if reward == 0 else "normal"
        for x, cell in zip(columns.values(), cells, strict=True):
            axes.text(x, 0.78 - 0.13 * place, cell, fontsize=9, weight=weight)
    axes.hlines([0.89, 0.73], 0, 1.02, colors=["black", "0.7"], linewidth=0.8)
    axes.text(0.0, 0.06, "State, action and next state are the same in every row.", fontsize=9)
    axes.set(xlim=(0, 1.02), ylim=(0, 1))


def her_amplification(path: Path) -> None:
    """How many transitions relabelling makes of an episode, and how many of them succeed."""
    lab = lab_seeds.load_lab("her_relabeler")
    rng = np.random.default_rng(SEED)
    walks = [lab.create_synthetic_episode(N_STEPS, rng) for _ in range(N_EPISODES)]
    before = [step for walk in walks for step in walk.transitions]
    stored = {"before": before}
    for k in lab.KS:
        made = (lab.process_episode_with_her(one, lab.sparse_reward, k=k, rng=rng) for one in walks)
        stored[f"{k}"] = [step for steps in made for step in steps]
    usual = signature(lab.process_episode_with_her).parameters
    caption = (
        f"HER lab, seed {SEED}: {N_EPISODES} synthetic episodes of {N_STEPS} steps that never come "
        f"near their goals; strategy {usual['strategy'].default}, "
        f"{usual['her_ratio'].default:.0%} of the steps relabelled. Success: sparse reward 0."
    )
    with plotting.figure(path, 7.0, 3.4, caption) as figure:
        left, right = figure.subplots(1, 2)
        counts = [len(steps) - len(before) for steps in stored.values()]
        left.bar(list(stored), len(before), color="black", label="as they were")
        look: Any = {"color": "0.75", "edgecolor": "0.3", "hatch": "//", "label": "relabelled"}
        added = left.bar(list(stored), counts, bottom=len(before), **look)
        left.bar_label(added, [f"{1 + count / len(before):.1f}×" for count in counts])
        left.set_ylabel("stored transitions")
        left.legend(loc="upper left")
        success = [100 * lab.compute_success_fraction(steps) for steps in stored.values()]
        bars = right.bar(list(stored), success, color=plotting.COLOURS[2])
        right.bar_label(bars, [f"{share:.1f} %" for share in success])
        right.set_ylabel("transitions that succeed (%)")
        for panel in (left, right):
            panel.set_xlabel("k, new goals per relabelled step")
            panel.margins(y=0.1)
