"""Small inputs of figures: curves, sweeps and stories that nobody trained for."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from robotics_rl import artifacts
from robotics_rl.curves import COLUMNS
from robotics_rl.factorial import analyze
from robotics_rl.schemas import Journey, JourneyRun


def put_curve(folder: str, seed: int, **columns: list[float]) -> None:
    """A curve with a row every 1,000 steps."""
    path = Path(folder, f"seed{seed}", "curves.csv")
    path.parent.mkdir(parents=True, exist_ok=True)
    n_rows = len(next(iter(columns.values())))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for i in range(n_rows):
            row = {name: values[i] for name, values in columns.items()}
            writer.writerow({"env_steps": 1000 * (i + 1), **row})


def put_runs(folder: str, n_seeds: int = 2) -> None:
    for seed in range(n_seeds):
        success = [0.1, 0.2 + 0.4 * seed, 1.0]
        others = {"ep_rew_mean": [-50.0, -40.0, -9.0], "ent_coef": [1.0, 0.5, 0.1]}
        put_curve(folder, seed, success_rate=success, **others)


def put_sweep(folder: str, env_id: str) -> None:
    runs = [
        {"parameters": {"gamma": gamma, "k": k}, "seed": seed, "success_rate": rate}
        for (gamma, k, rate) in ((0.9, 4, 1.0), (0.9, 8, 0.2), (0.99, 4, 0.5))
        for seed in (0, 1)
    ]
    found = analyze(env_id, 500, runs, {"gamma": (0.9, 0.99), "k": (4, 8)})
    name = f"sweep_{env_id.lower()}_analysis.json"
    artifacts.write_json(Path(folder, "sweep", name), found)


def put_journey() -> None:
    put_runs("runs/journey/arm1/sac_her/FetchPush-v4", 1)
    curve = "runs/journey/arm1/sac_her/FetchPush-v4/seed0/curves.csv"
    run = JourneyRun(arm="α", seed=0, success_rate=1.0, success_at={}, ent_coef_lowest=0.1,
                     ent_coef_last=0.1, curve=curve, evaluation="x_eval.json")  # fmt: skip
    story = Journey(env_id="FetchPush-v4", total_steps=3000, arms={"α": {}}, runs=[run],
                    created_at="", command=[], git={}, versions={})  # fmt: skip
    artifacts.write_json(Path("results/ch04_journey.json"), story)


def put_demo(name: str, curve: list[Any]) -> None:
    rows = [{"seed": seed, "curve": curve, "learned": seed == 0} for seed in (0, 1)]
    artifacts.write_json(Path(f"results/labs/{name}.json"), {"title": name, "rows": rows})


def put_inputs() -> None:
    for folder in ("runs/ppo/FetchReachDense-v4", "runs/sac/FetchReachDense-v4"):
        put_runs(folder)
    put_runs("runs/sac_her/FetchPush-v4")
    put_runs("runs/a/ch09_nature/FetchPush-v4")
    put_journey()
    put_sweep("results", "FetchPush-v4")
    put_sweep("results/mine", "FetchReach-v4")
    put_demo("ppo_cartpole", [None, 20.0, 200.0])
    put_demo(
        "sac_pendulum_demo", [{"steps": 200 * i, "return": -i, "alpha": 1 / i} for i in (1, 2)]
    )
    put_floor()


def put_floor() -> None:
    """What doing nothing comes to on FetchPush."""
    path = Path("results/do_nothing_fetchpush-v4_eval.json")
    artifacts.write_json(path, {"aggregate": {"success_rate": 0.05}})
