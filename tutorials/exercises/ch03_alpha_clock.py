"""The entropy coefficient of a published SAC run, beside a clock that knows nothing of the task.

Adam moves log α by nearly its whole step size as long as all gradients point the same way. So while
the policy has more entropy than it is asked for, α is exp(-learning rate x gradient steps).
"""

import csv
import json
from math import exp
from pathlib import Path

import numpy as np


def tell(algo: str, env_id: str) -> None:
    """Print α, the clock, and what the policy was doing, of seed 0."""
    made = json.loads(Path(f"checkpoints/{algo}_{env_id}_seed0.meta.json").read_text("utf-8"))
    learning_rate = made["hyperparameters"]["learning_rate"]
    with Path(f"runs/{algo}/{env_id}/seed0/curves.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["ent_coef"]]
    print("env steps  gradient steps         α     clock  success  goal moved")
    for place in np.unique(np.geomspace(1, len(rows), 12).astype(int)):  # denser where α falls
        row = rows[place - 1]
        updates, alpha = int(row["gradient_steps"]), float(row["ent_coef"])
        success, moved = float(row["success_rate"]), float(row["goal_moved_rate"])
        print(f"{int(row['env_steps']):9,}{updates:16,}{alpha:10.5f}", end="")
        print(f"{exp(-learning_rate * updates):10.5f}{success:9.2f}{moved:12.2f}")


if __name__ == "__main__":
    tell("sac", "FetchReachDense-v4")
