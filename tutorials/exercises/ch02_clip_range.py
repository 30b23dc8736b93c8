"""How three trainings ended that differ in --clip-range alone."""

import csv
from pathlib import Path

print("clip_range  90 % success at step  success  return  approx_kl  clip_fraction")
for clip_range in ("0.1", "0.2", "0.4"):
    path = Path(f"runs/clip{clip_range}/ppo/FetchReachDense-v4/seed0/curves.csv")
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    solved = [int(row["env_steps"]) for row in rows if float(row["success_rate"]) >= 0.9]
    success, reward, divergence, clipped = (
        float(rows[-1][name])
        for name in ("success_rate", "ep_rew_mean", "approx_kl", "clip_fraction")
    )
    print(f"{clip_range:<10}{min(solved):22,}", end="")
    print(f"{success:9.2f}{reward:8.2f}{divergence:11.3f}{clipped:15.2f}")
