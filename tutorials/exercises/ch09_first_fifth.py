"""When success first passes one fifth, in every published training from pictures."""

import csv
from pathlib import Path

for path in sorted(Path("runs/step4").glob("*/*/seed*/curves.csv")):
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    passed = [int(row["env_steps"]) for row in rows if float(row["success_rate"] or 0) > 0.2]
    when = f"at {passed[0]:,} steps" if passed else "never"
    print(f"{path.parts[2]}, {path.parts[-2]}: {when}, of {int(rows[-1]['env_steps']):,}")
