"""Write the result tables of the README files from the JSON documents on disk.

`--check` writes nothing and exits 1 where a committed table does not match the JSON.
"""

import dataclasses
import inspect
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import benchmark_tables
import ch00_proof_of_life
import ch01_env_anatomy
import ch02_ppo_dense_reach

from robotics_rl import chapters, cli, schemas
from robotics_rl.artifacts import RunPaths, atomic_write, read_json
from robotics_rl.chapters import Card
from robotics_rl.config import EvalSettings
from robotics_rl.progress import clock

CARDS: tuple[Card, ...] = (ch02_ppo_dense_reach.CARD,)
BLOCK = "<!-- made by scripts/report.py -->\n{}<!-- end -->"


def main(argv: Sequence[str]) -> int:
    """Write the pages, or check them."""
    parser = cli.Parser(prog="scripts/report.py", description=__doc__)
    parser.add_argument("--check", action="store_true", help="only compare, exit 1 if they differ")
    if parser.parse_args(argv).check:
        stale = [path for path, text in pages() if path.read_text(encoding="utf-8") != text]
        for path in stale:
            print(f"{path} does not match the results; run: python scripts/report.py")
        return 1 if stale else 0
    for path, text in pages():
        with atomic_write(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
        print(f"OK: wrote {path}")
    return 0


def pages() -> Iterator[tuple[Path, str]]:
    """The pages as they should read."""
    yield _with_block(Path("README.md"), headline_table())
    yield _with_block(Path("benchmarks", "README.md"), benchmark_sections())
    yield Path("results", "README.md"), results_page()


def _with_block(page: Path, made: str) -> tuple[Path, str]:
    """A page whose made part is replaced."""
    text = page.read_text(encoding="utf-8")
    [block] = re.findall(BLOCK.format(".*?"), text, re.DOTALL)
    return page, text.replace(block, BLOCK.format(made + "\n"))


def benchmark_sections() -> str:
    """The largest idea in numbers, and one table per benchmark that was run."""
    story, rows = benchmark_tables.trivial_goals()
    parts = [
        "## [trivial_goals.py](../scripts/labs/trivial_goals.py)",
        f"Goals relabelled in hindsight. {story}.",
        _markdown(rows),
        "![shares of trivial goals](../figures/trivial_goals.png)",
    ]
    for script, story, rows in benchmark_tables.tables():
        parts += [f"## [{script}.py]({script}.py)", f"{story}.", _markdown(rows)]
    return "\n\n".join(parts)


def headline_table() -> str:
    """Chapter, command, time, result."""
    rows = [["what", "command after `bash docker/dev.sh`", "min:s", "measured", "book"]]
    rows += [_proof_of_life(), _anatomy()]
    for card in CARDS:
        metadata, result = _documents(card)
        seconds = metadata["training"]["wall_seconds"] + result["wall_seconds"]
        rows.append(
            [
                card.title,
                f"`python {card.script} all --seed 0`",
                clock(seconds),
                _summary(result["aggregate"]),
                card.book,
            ]
        )
    return _markdown(rows)


def _proof_of_life() -> list[str]:
    run = read_json(chapters.run_path(ch00_proof_of_life.CHAPTER))
    return [
        ch00_proof_of_life.TITLE,
        f"`python {ch00_proof_of_life.SCRIPT} all`",
        clock(run["wall_seconds"]),
        f"{len(run['seconds'])} of {len(ch00_proof_of_life.TESTS)} tests passed",
        ch00_proof_of_life.BOOK,
    ]


def _anatomy() -> list[str]:
    run = read_json(chapters.run_path(ch01_env_anatomy.CHAPTER))
    floor = read_json(Path(ch01_env_anatomy.Anatomy().random_out))["aggregate"]
    return [
        ch01_env_anatomy.TITLE,
        f"`python {ch01_env_anatomy.SCRIPT} all --seed 0`",
        clock(run["wall_seconds"]),
        f"random actions: {_summary(floor)}",
        ch01_env_anatomy.BOOK_FLOOR,
    ]


def results_page() -> str:
    """Every published evaluation with its files, then the schemas."""
    parts = [
        "# Results",
        "Made by `python scripts/report.py` from the JSON documents in this folder; "
        "nothing here is typed by hand.",
    ]
    for card in CARDS:
        metadata, result = _documents(card)
        settings = card.settings({})
        evaluation = card.evaluation_path(settings, EvalSettings.results_dir)
        parts += [
            f"## {card.title}",
            _markdown([["metric", "measured"], *_metrics(result["aggregate"])]),
            f"Book: {card.book}.",
            f"{metadata['steps_done']:,} steps, training seed {metadata['seed']}, "
            f"{result['n_episodes']} episodes, on {metadata['cpu_cores']} cores of "
            f"{metadata['device_name']} "
            f"with mujoco {metadata['versions']['mujoco']}. "
            f"Command: `{shlex.join(metadata['command'])}`. "
            f"Files: [{evaluation.name}]({evaluation.name}), "
            f"[{RunPaths.of(settings).metadata.name}](../{RunPaths.of(settings).metadata}).",
        ]
    parts += ["## Floors", "What a policy must beat, on the same episodes.", _floors()]
    parts += ["## Schemas", _markdown([["schema", "document"], *_schemas()])]
    return "\n\n".join(parts) + "\n"


def _floors() -> str:
    rows = [["baseline", "environment", "success", "started solved", "return", "distance (m)"]]
    for path in sorted(Path(EvalSettings.results_dir).glob("*_eval.json")):
        document = read_json(path)
        if document["checkpoint"]:
            continue
        mean = document["aggregate"]
        low, high = mean["success_rate_ci95"]
        rows.append(
            [
                f"[{document['algo']}]({path.name})",
                document["env_id"],
                f"{mean['success_rate']:.2f} ({low:.2f} to {high:.2f})",
                f"{mean['n_started_solved']} of {document['n_episodes']}",
                f"{mean['return_mean']:.2f}",
                f"{mean['final_distance_mean']:.3f}",
            ]
        )
    return _markdown(rows)


def _documents(card: Card) -> tuple[dict[str, Any], dict[str, Any]]:
    settings = card.settings({})
    evaluation = card.evaluation_path(settings, EvalSettings.results_dir)
    return read_json(RunPaths.of(settings).metadata), read_json(evaluation)


def _summary(aggregate: dict[str, Any]) -> str:
    low, high = aggregate["success_rate_ci95"]
    return (
        f"success {aggregate['success_rate']:.2f} ({low:.2f} to {high:.2f}), "
        f"return {aggregate['return_mean']:.2f}, "
        f"distance {aggregate['final_distance_mean']:.4f} m"
    )


def _metrics(aggregate: dict[str, Any]) -> Iterator[list[str]]:
    for row in dataclasses.fields(schemas.Aggregate):
        value = aggregate[row.name]
        numbers = value if isinstance(value, list) else [value]
        yield [row.name, " to ".join("-" if n is None else f"{n:.4g}" for n in numbers)]


def _schemas() -> Iterator[list[str]]:
    for _, kind in inspect.getmembers(schemas, inspect.isclass):
        if hasattr(kind, "schema"):
            yield [f"`{kind.schema}`", (kind.__doc__ or "").splitlines()[0].replace("``", "`")]


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    header, *body = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([header, "|" + " --- |" * len(rows[0]), *body])


if __name__ == "__main__":
    cli.run(main)
