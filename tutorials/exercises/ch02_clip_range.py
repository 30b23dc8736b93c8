"""What three trainings came to that differ in --clip-range alone."""

import csv
import json
from pathlib import Path

TAGS = {"0.1": "clip0.1", "0.2": "fastpath", "0.4": "clip0.4"}  # 0.2 is the published run

print("clip_range  90 % success at step  approx_kl  clip_fraction  success  return      mm")
for clip_range, tag in TAGS.items():
    result = Path("results", tag, "ch02_ppo_fetchreachdense-v4_seed0_eval.json")
    if not result.exists():
        print(f"{clip_range:<10}is not trained yet")
        continue
    path = Path("runs", tag, "ppo", "FetchReachDense-v4", "seed0", "curves.csv")
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    solved = [int(row["env_steps"]) for row in rows if float(row["success_rate"] or 0) >= 0.9]
    first = f"{solved[0]:,}" if solved else "never"
    divergence, clipped = (float(rows[-1][name]) for name in ("approx_kl", "clip_fraction"))
    print(f"{clip_range:<10}{first:>22}{divergence:11.3f}{clipped:15.2f}", end="")

    mean = json.loads(result.read_text())["aggregate"]
    distance = 1000 * mean["final_distance_mean"]
    print(f"{mean['success_rate']:9.2f}{mean['return_mean']:8.2f}{distance:8.1f}")
