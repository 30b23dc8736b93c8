"""Book chapter 4: SAC learns FetchReachDense-v4, and is held against PPO on the same episodes.

SAC is off-policy: every step is kept in a replay buffer and learned from many times. `throughput`
shows what environments side by side are worth to it, and that they leave fewer gradient steps.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import starmap
from pathlib import Path
from typing import Any

import book_figures
import ch02_ppo_dense_reach

from robotics_rl import artifacts, chapters, cli, options, rendering, reporting
from robotics_rl.artifacts import RunPaths
from robotics_rl.chapters import Card, Criterion
from robotics_rl.config import EvalSettings, Run
from robotics_rl.errors import UsageError

CARD = Card(
    chapter="ch03",
    title="SAC on dense Reach (book chapter 4)",
    script="scripts/ch03_sac_dense_reach.py",
    algo="sac",
    env_id="FetchReachDense-v4",
    training={"total_steps": 500_000},
    criteria=tuple(starmap(Criterion, book_figures.FAST_PATHS["sac"])),
    book=book_figures.RESULTS["sac"].text,
    book_fast_path=book_figures.RESULTS["sac_fast_path"].text,
    book_metrics=book_figures.DENSE_REACH["sac"],
    book_curve={("ent_coef", steps): alpha for steps, alpha in book_figures.ALPHA.items()},
)
SECONDS = 5.0  # of training per measurement of throughput
ROUNDS = 3
THROUGHPUT_FLAGS = ("seed", "device", "engine", "run_tag")
SHARED_WITH_PPO = (
    *("seed", "run_tag", "checkpoints_dir", "results_dir"),
    *("n_eval_episodes", "eval_seed", "eval_seeds", "eval_deterministic"),
)


def main(argv: Sequence[str]) -> int:
    """Run one sub-command; `all` trains, evaluates, reports and compares with PPO."""
    given = vars(chapters.parser(CARD, __doc__, _add_throughput).parse_args(argv))
    command = given.pop("command")
    if command == "throughput":
        return throughput(given)
    code = chapters.run(CARD, command, given)
    if command == "all":
        print(beside_ppo(given))
    return code


def _add_throughput(add: Callable[..., cli.Parser]) -> None:
    text = "training speed over numbers of environments"
    parser = add("throughput", text, "--n-envs-list 1,2,4,8,16")
    counts = "numbers of environments (default: 1,2,4,8,16)"
    parser.add_argument("--n-envs-list", default="1,2,4,8,16", help=counts)
    cli.add_options(parser, EvalSettings, only=("results_dir",))
    cli.add_options(parser, Run, only=THROUGHPUT_FLAGS)


def throughput_path(results_dir: str, run_tag: str | None) -> Path:
    """Where the speeds by number of environments go."""
    return Path(results_dir, run_tag or "", f"{CARD.chapter}_throughput.json")


def throughput(given: Mapping[str, Any]) -> int:
    """Measure steps per second for each number of environments, in turn; write and print them."""
    try:
        counts = [int(part) for part in given["n_envs_list"].split(",")]
    except ValueError:
        raise UsageError("cannot read --n-envs-list; write it as 1,2,4,8,16") from None
    asked = {name: given[name] for name in THROUGHPUT_FLAGS if name in given}
    settings = [CARD.settings({**asked, "n_envs": n, "learning_starts": 500}) for n in counts]
    results_dir = given.get("results_dir", EvalSettings.results_dir)
    path = throughput_path(results_dir, asked.get("run_tag"))
    rendering.render_nothing()
    from robotics_rl.benchmarking import benchmark, measure_in_turn
    from robotics_rl.devices import resolve_device
    from robotics_rl.throughput import steps_per_second
    from robotics_rl.training import build

    device = resolve_device(settings[0].run.device)
    models = {str(one.run.n_envs): build(one, device) for one in settings}
    for model in models.values():
        model.learn(600)  # past the start of learning
    contestants = {name: partial(steps_per_second, model) for name, model in models.items()}
    rows = measure_in_turn(contestants, ROUNDS, SECONDS)
    title = f"SAC on {CARD.env_id} by number of environments, engine {settings[0].run.engine}"
    ratios = {f"{name} / {counts[0]}": (name, str(counts[0])) for name in rows}
    result = benchmark(title, "environment steps per second", rows, ratios, device)
    same = artifacts.has_same(result, "command", "device_name", "cpu_cores")
    artifacts.keep_other(path, "measurement", same)
    artifacts.write_json(path, result)
    print(reporting.benchmark_table(result))
    print(reporting.aligned(throughput_rows(rows)))
    print(f"OK: wrote {path}")
    return 0


def throughput_rows(speeds: Mapping[str, Sequence[float]]) -> list[list[str]]:
    """Speeds by number of environments, with what gets rarer as they get more: learning."""
    rows = [["environments", "environment steps per second", "gradient steps per environment step"]]
    rows[0].append("gradient steps per second")
    for n_envs, values in speeds.items():
        settings = CARD.settings({"n_envs": int(n_envs)})
        updates = settings.flat_hyperparameters()["gradient_steps"] / settings.rollout_steps
        speed = statistics.median(values)
        steps = f"{speed:,.0f} ({min(values):,.0f} to {max(values):,.0f})"
        rows.append([n_envs, steps, f"{updates:.4g}", f"{speed * updates:.0f}"])
    return rows


def beside_ppo(given: Mapping[str, Any]) -> str:
    """SAC and PPO on the same episodes: what they reach and what it costs."""
    asked = {name: given[name] for name in SHARED_WITH_PPO if name in given}
    flags = " ".join(options.as_flags({"seed": Run.seed, **asked}))
    command = f"bash docker/dev.sh python {ch02_ppo_dense_reach.CARD.script}"
    sac, ppo = _result(CARD, given), _result(ch02_ppo_dense_reach.CARD, asked)
    if sac is None or ppo is None:
        return f"no result of PPO to compare with; make it with: {command} all {flags}"
    if any(sac[1][name] != ppo[1][name] for name in ("seeds", "deterministic")):
        return f"PPO played other episodes; to compare, play these: {command} eval {flags}"
    return reporting.algorithms_table({"PPO": ppo, "SAC": sac})


def _result(card: Card, given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Metadata and evaluation of a training; None where they are missing."""
    names = ("seed", "run_tag", "checkpoints_dir", "out")
    settings = card.settings({name: given[name] for name in names if name in given})
    results_dir = given.get("results_dir", EvalSettings.results_dir)
    metadata = RunPaths.of(settings).metadata
    evaluation = card.evaluation_path(settings, results_dir)
    if not (metadata.exists() and evaluation.exists()):
        return None
    return artifacts.read_json(metadata), artifacts.read_json(evaluation)


if __name__ == "__main__":
    cli.run(main)
