"""What each seed of the published ablation would have told by itself."""

import json
from pathlib import Path

runs = json.loads(Path("results/benchmarks/ablation.json").read_text("utf-8"))["runs"]
arms = {}  # what was changed → seed → success over the last examination
for run in runs:
    last = run["examinations"][-1]
    arms.setdefault(run["name"], {})[run["seed"]] = last["success_rate"]

print(f"{runs[0]['env_id']}, at most {runs[0]['total_steps']:,} steps: success by seed")
for name, by_seed in arms.items():
    if len(by_seed) > 1:
        told = "  ".join(f"{seed}: {rate:.2f}" for seed, rate in sorted(by_seed.items()))
        print(f"{name:36}{told}")
