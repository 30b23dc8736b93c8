"""After how many steps nine training episodes in ten succeed: PPO beside SAC on dense Reach."""

import csv
from pathlib import Path

for algo in ("ppo", "sac"):
    for seed in (0, 1, 2):
        path = Path("runs", algo, "FetchReachDense-v4", f"seed{seed}", "curves.csv")
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        solved = [int(row["env_steps"]) for row in rows if float(row["success_rate"] or 0) >= 0.9]
        print(f"{algo}, seed {seed}: {f'{solved[0]:8,} steps' if solved else '   never'}")
