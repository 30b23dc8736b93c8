"""The entropy coefficient of a published SAC run, beside a clock that knows nothing of the task.

Adam moves log α by nearly its whole step size as long as all gradients point the same way. So while
the policy has more entropy than it is asked for, α is exp(-learning rate x gradient steps).
"""

import csv
import json
import sys
from math import exp
from pathlib import Path

import numpy as np

run = Path(sys.argv[1])  # such as runs/sac/FetchReachDense-v4/seed0
name, env_id, seed = run.parts[-3:]
metadata = Path("checkpoints", *run.parts[1:-3], f"{name}_{env_id}_{seed}.meta.json")
learning_rate = json.loads(metadata.read_text("utf-8"))["hyperparameters"]["learning_rate"]
with (run / "curves.csv").open(newline="") as file:
    rows = [row for row in csv.DictReader(file) if row["ent_coef"]]

print("env steps  gradient steps         α     clock  success  goal moved")
for place in np.unique(np.geomspace(1, len(rows), 12).astype(int)):  # denser where α falls
    row = rows[place - 1]
    updates = int(row["gradient_steps"])
    clock = exp(-learning_rate * updates)
    print(f"{int(row['env_steps']):9,}{updates:16,}{float(row['ent_coef']):10.5f}{clock:10.5f}"
          f"{float(row['success_rate']):9.2f}{float(row['goal_moved_rate']):12.2f}")  # fmt: skip
