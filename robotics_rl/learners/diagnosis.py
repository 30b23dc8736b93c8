"""What twin critics make of a random batch of the replay, and what is in it."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Diagnosis:
    """Values and batch; everything (n,), goals (n, goal) in metres or None where there are none."""

    q1: Tensor
    q2: Tensor
    rewards: Tensor
    achieved_goals: Tensor | None
    desired_goals: Tensor | None
    ent_coef: Tensor | None  # SAC's α

    def metrics(self) -> dict[str, float]:
        """Names as they are logged, means over the batch."""
        metrics = {
            "q1_mean": self.q1.mean(),
            "q2_mean": self.q2.mean(),
            "q_min_mean": torch.minimum(self.q1, self.q2).mean(),
            "reward_mean": self.rewards.mean(),
            "reward_std": self.rewards.std(correction=0),
        }
        if self.achieved_goals is not None and self.desired_goals is not None:
            distances = torch.linalg.vector_norm(self.achieved_goals - self.desired_goals, dim=1)
            metrics["goal_distance_mean"] = distances.mean()
            metrics["goal_distance_std"] = distances.std(correction=0)
        if self.ent_coef is not None:
            metrics["ent_coef"] = self.ent_coef
        return {name: value.item() for name, value in metrics.items()}
