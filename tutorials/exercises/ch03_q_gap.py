"""The twenty updates of the SAC lab's --verify, and how far apart its critics are after each."""

import sys

import torch

sys.path.append("scripts/labs")
from sac_from_scratch import make_learner, random_batch, sac_update

torch.set_default_dtype(torch.float64)  # as --verify, so that the numbers are the same
torch.manual_seed(0)
learner = make_learner(obs_dim=10, act_dim=4)

for update in range(1, 21):
    info = sac_update(*learner, random_batch(), target_entropy=-4.0)
    gap = abs(info["q1_mean"] - info["q2_mean"])
    print(f"update {update:2}: |q1_mean - q2_mean| {gap:.4f} {'#' * round(500 * gap)}")
