"""Ten made-up episodes through the HER lab: counts, successes, and how far away the goals are."""

import sys

import numpy as np

sys.path.append("scripts/labs")
from her_relabeler import (
    compute_success_fraction,
    create_synthetic_episode,
    process_episode_with_her,
    sparse_reward,
)

distances = []  # metres from what a step achieved to the goal it is seen with
print("episode  steps  stored  times  success before  after")
for number in range(1, 11):
    episode = create_synthetic_episode()
    stored = process_episode_with_her(episode, sparse_reward)  # future, k = 4, her_ratio 0.8
    before, after = map(compute_success_fraction, (episode.transitions, stored))
    distances += [np.linalg.norm(step.achieved_goal - step.desired_goal) for step in stored]
    print(f"{number:7}{len(episode):7}{len(stored):8}{len(stored) / len(episode):7.2f}", end="")
    print(f"{before:16.2f}{after:7.2f}")

edges = [0.0, 0.05, 0.1, 0.2, 0.4, 1.0, 20.0]
counts, _ = np.histogram(distances, edges)
for low, high, count in zip(edges, edges[1:], counts, strict=False):
    print(f"{low:5.2f} to {high:5.2f} m: {count:5} steps {'#' * (count // 20)}")
