"""How three trainings ended that differ in --clip-range alone."""

import csv
from pathlib import Path

print("clip_range  steps to 90 %  success  return  approx_kl  clip_fraction")
for clip_range in ("0.1", "0.2", "0.4"):
    path = Path(f"runs/clip{clip_range}/ppo/FetchReachDense-v4/seed0/curves.csv")
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    solved = next((row["env_steps"] for row in rows if float(row["success_rate"]) >= 0.9), "never")
    last = {name: float(value) for name, value in rows[-1].items() if value}
    print(f"{clip_range:<10}{int(solved):15,}{last['success_rate']:9.2f}{last['ep_rew_mean']:8.2f}"
          f"{last['approx_kl']:11.3f}{last['clip_fraction']:15.2f}")  # fmt: skip
