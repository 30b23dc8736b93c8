"""Write result tables and model cards from the JSON documents on disk.

`--check` writes nothing and exits 1 where a committed table does not match the JSON.
"""

import inspect
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import benchmark_tables
import book_figures
import book_table
import ch00_proof_of_life
import ch01_env_anatomy
import ch04_her_sparse_reach_push
import chapter5_tables
import chapter9_tables
import dense_reach_tables
import lab_seeds
import model_cards
import rehearsal_tables
import sweep_tables
import video_tables
from keep_output import KeptOutput

from robotics_rl import chapters, cli, pixel_schemas, schemas
from robotics_rl.artifacts import atomic_write, read_json
from robotics_rl.chapters import Card
from robotics_rl.config import EvalSettings
from robotics_rl.progress import clock
from robotics_rl.reporting import linked, markdown, rate

METRICS = """\
What the metrics are, each a mean over the episodes of an evaluation unless it says otherwise:

- **success** (`success_rate`): the share of episodes whose *last* step lies within the threshold.
- **any step** (`success_any_step_rate`): the share in which some step did.
- **started solved** (`n_started_solved`): how many episodes lay within it before the first action.
- **of what did not start solved** (`success_rate_unsolved_start`): success without those.
- **return** (`return_mean`): the sum of an episode's rewards, not discounted.
- **distance** (`final_distance_mean`): metres from what was achieved to the goal, at the last step.
- **time to success** (`time_to_success_mean`): the first step that succeeds, counted from 1, over
  the episodes that have one.
- **action smoothness** (`action_smoothness_mean`): the squared change of the action from one step
  to the next, summed over an episode: Σ‖aₜ − aₜ₋₁‖². The smaller, the smoother.
- **largest action** (`action_max_abs_mean`): the largest component of an episode's actions, by
  absolute value; 1 is the most that there is.

`ci95` and brackets after the rate of one policy are Wilson's 95 % interval over episodes. `±`, and
brackets after the mean rate of several policies, are Student's 95 % interval over training seeds;
that of a rate ends at 0 and 1. `std` is a standard deviation over episodes."""
BLOCK = "<!-- made by scripts/report.py -->\n{}<!-- end -->"


def main(argv: Sequence[str]) -> int:
    """Write the pages, or check them."""
    parser = cli.Parser(prog="scripts/report.py", description=__doc__)
    parser.add_argument("--check", action="store_true", help="only compare, exit 1 if they differ")
    check = parser.parse_args(argv).check
    stale = {path: text for path, text in pages() if not _reads(path, text)}
    for path, text in stale.items():
        if check:
            print(f"{path} does not match the results; run: python scripts/report.py")
            continue
        with atomic_write(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
        print(f"OK: wrote {path}")
    return 1 if check and stale else 0


def _reads(path: Path, text: str) -> bool:
    return path.exists() and path.read_text(encoding="utf-8") == text


def pages() -> Iterator[tuple[Path, str]]:
    """The pages as they should read."""
    yield _with_block(Path("README.md"), headline_table())
    yield _with_block(Path("benchmarks", "README.md"), benchmark_sections())
    yield Path("results", "README.md"), results_page()
    yield rehearsal_tables.PAGE, rehearsal_tables.page(read_json(rehearsal_tables.PATH))
    yield from model_cards.cards()
    yield video_tables.FOLDER / "README.md", videos_page()


def _with_block(page: Path, made: str) -> tuple[Path, str]:
    """A page whose made part is replaced."""
    text = page.read_text(encoding="utf-8")
    [block] = re.findall(BLOCK.format(".*?"), text, re.DOTALL)
    return page, text.replace(block, BLOCK.format(made + "\n"))


def benchmark_sections() -> str:
    """Targets, the largest idea in numbers, and one table per benchmark that was run."""
    story, rows = benchmark_tables.trivial_goals()
    parts = [
        "## Targets",
        markdown(benchmark_tables.targets()),
        "## [trivial_goals.py](../scripts/labs/trivial_goals.py)",
        f"Goals relabelled in hindsight. {story}.",
        markdown(rows),
        "![shares of trivial goals](../figures/trivial_goals.png)",
    ]
    for script, device, story, rows in benchmark_tables.tables():
        parts += [
            f"## [{script}.py]({script}.py) {benchmark_tables.ON[device]}",
            f"{story}.",
            markdown(rows),
        ]
    if found := benchmark_tables.profile():
        parts += [
            "## Where the time of training from pictures goes",
            f"{found[0]}.",
            markdown(found[1]),
        ]
    return "\n\n".join(parts)


def headline_table() -> str:
    """Chapter, command, time, result."""
    rows = [["what", "command after `bash docker/dev.sh`", "time", "measured", "book"]]
    rows += [_proof_of_life(), _anatomy()]
    for card in (*dense_reach_tables.CARDS, ch04_her_sparse_reach_push.CARD):
        rows += dense_reach_tables.headlines(card)
    return markdown(rows + chapter5_tables.headlines() + chapter9_tables.headlines())


def _proof_of_life() -> list[str]:
    run = read_json(chapters.run_path(ch00_proof_of_life.CHAPTER))
    return [
        ch00_proof_of_life.TITLE,
        f"`python {ch00_proof_of_life.SCRIPT} all`",
        clock(run["wall_seconds"]),
        f"{len(run['seconds'])} of {len(ch00_proof_of_life.TESTS)} tests passed",
        book_figures.PROOF_OF_LIFE,
    ]


def _anatomy() -> list[str]:
    run = read_json(chapters.run_path(ch01_env_anatomy.CHAPTER))
    floor = read_json(Path(ch01_env_anatomy.Anatomy().random_out))["aggregate"]
    return [
        ch01_env_anatomy.TITLE,
        f"`python {ch01_env_anatomy.SCRIPT} all --seed 0`",
        clock(run["wall_seconds"]),
        f"random actions: {dense_reach_tables.summary(floor)}",
        ch01_env_anatomy.BOOK_FLOOR,
    ]


def results_page() -> str:
    """Every published evaluation with its files, then the schemas."""
    parts = [
        "# Results",
        "Made by `python scripts/report.py` from the JSON documents in this folder; "
        "nothing here is typed by hand.",
        METRICS,
    ]
    parts += ["## What the book says, and what was measured", markdown(book_table.rows())]
    parts += _first_chapters()
    for card in dense_reach_tables.CARDS:
        parts += _chapter(card)
    if found := dense_reach_tables.throughput():
        story, rows = found
        parts += ["### Throughput", story, markdown(rows)]
    parts += _chapter5()
    if len(rows := chapter9_tables.policies()) > 1:
        parts += [f"## {chapter9_tables.TITLE}", markdown(rows)]
        parts += [f"Book: {chapter9_tables.BOOK}.", chapter9_tables.WHY]
    for title, path, rows, note in chapter9_tables.experiments():
        made = shlex.join(read_json(path)["command"])
        parts += [f"### {linked(title, path)}", markdown(rows), f"{note}. Last made by `{made}`."]
    parts += ["## Floors", "What a policy must beat, on the same episodes.", _floors()]
    parts += ["## Labs", "The demos of `scripts/labs/` over seeds.", _labs()]
    parts += ["## Schemas", markdown([["schema", "document"], *_schemas()])]
    return "\n\n".join(parts) + "\n"


def videos_page() -> str:
    """Every published video with the command that made it."""
    made = "Made by `python scripts/report.py` from the JSON documents in this folder."
    parts = [f"# {video_tables.TITLE}", made, video_tables.STORY]
    return "\n\n".join([*parts, markdown(video_tables.films())]) + "\n"


def _first_chapters() -> Iterator[str]:
    """Chapters 1 and 2, which train nothing that is published: what ran, and its files."""
    run = chapters.run_path(ch00_proof_of_life.CHAPTER)
    yield f"## {linked(ch00_proof_of_life.TITLE, run)}"
    seconds = read_json(run)["seconds"].items()
    yield markdown([["test", "seconds"], *([name, f"{took:.1f}"] for name, took in seconds)])
    anatomy = ch01_env_anatomy.Anatomy()
    yield f"## {linked(ch01_env_anatomy.TITLE, chapters.run_path(ch01_env_anatomy.CHAPTER))}"
    described, floor = (
        linked(text, Path(path))
        for text, path in (("told and paid for", anatomy.describe_out), ("act", anatomy.random_out))
    )
    yield f"What an arm is {described}, and how random actions {floor}."


def _chapter(card: Card) -> Iterator[str]:
    """Every published training of a chapter, metric by metric, beside the book."""
    yield f"## {card.title}"
    yield markdown(dense_reach_tables.policies(card))
    yield f"Book: {card.book}; fast path: {card.book_fast_path}."
    yield dense_reach_tables.story(card)
    yield " ".join(dense_reach_tables.differences(card))


def _chapter5() -> Iterator[str]:
    """Sparse tasks: every policy, HER beside no HER, the sweep, and what went wrong before."""
    if len(rows := chapter5_tables.trainings()) > 1:
        yield from (f"## {ch04_her_sparse_reach_push.CARD.title}", markdown(rows))
    for env_id, path, document in chapter5_tables.comparisons():
        yield f"### {linked(f'HER and no HER on {env_id}', path)}"
        yield f"Made by `{shlex.join(document['command'])}`."
        yield markdown(chapter5_tables.comparison(document))
        yield f"Book: {book_figures.RESULTS[env_id].text}."
        yield f"**Why not the book's figures?** {chapter5_tables.differences(env_id, document)}"
    for path, analysis in sweep_tables.sweeps():
        yield (
            f"### [Sweep on {analysis['env_id']}]({path.relative_to(EvalSettings.results_dir)}): "
            f"{analysis['n_runs']} runs of {analysis['total_steps']:,} steps"
        )
        yield from _sweep(analysis)
    if found := chapter5_tables.journey():
        story, command, rows = found
        yield from (f"### {story}", f"Made by `{command}`.", markdown(rows))


def _sweep(analysis: Mapping[str, Any]) -> Iterator[str]:
    """Settings, factors, a pair of them, and what the book's sweep says."""
    yield sweep_tables.commands(analysis)
    yield markdown(sweep_tables.ranking(analysis))
    yield markdown(sweep_tables.factors(analysis))
    yield sweep_tables.note(analysis)
    if rows := sweep_tables.interaction(analysis):
        yield markdown(rows)
    if said := sweep_tables.agreement(analysis):
        yield said


def _floors() -> str:
    rows = [["baseline", "environment", "success", "started solved", "return", "distance (m)",
             "command"]]  # fmt: skip
    for path in sorted(Path(EvalSettings.results_dir).glob("*_eval.json")):
        document = read_json(path)
        if document["checkpoint"]:
            continue
        mean = document["aggregate"]
        rows.append(
            [
                f"[{document['algo']}]({path.name})",
                document["env_id"],
                rate(mean),
                f"{mean['n_started_solved']} of {document['n_episodes']}",
                f"{mean['return_mean']:.2f}",
                f"{mean['final_distance_mean']:.3f}",
                f"`{shlex.join(document['command'])}`",
            ]
        )
    return markdown(rows)


def _labs() -> str:
    rows = [["what was learned", "seeds", "each was to reach", "median (range)", "book", "command"]]
    for path in sorted(lab_seeds.FOLDER.glob("*.json")):
        document, demo = read_json(path), lab_seeds.DEMOS[path.stem]
        rows.append(
            [
                f"[{document['title']}]({path.relative_to(EvalSettings.results_dir)})",
                f"{document['n_learned']} of {len(document['rows'])}",
                document["target"],
                lab_seeds.figures_of(path.stem, document),
                demo.book,
                f"`{shlex.join(document['command'])}`",
            ]
        )
    return markdown(rows)


def _schemas() -> Iterator[list[str]]:
    scripts_own = {kind.__name__: kind for kind in (KeptOutput, rehearsal_tables.Rehearsal)}
    kinds = {**vars(schemas), **vars(pixel_schemas), **scripts_own}
    for _, kind in sorted(kinds.items()):
        if inspect.isclass(kind) and hasattr(kind, "schema"):
            yield [f"`{kind.schema}`", (kind.__doc__ or "").splitlines()[0].replace("``", "`")]


if __name__ == "__main__":
    cli.run(main)
