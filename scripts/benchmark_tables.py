"""The tables of benchmarks/README.md, from the JSON documents that the benchmarks wrote."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from robotics_rl.artifacts import read_json

FOLDER = Path("results", "benchmarks")
RACES = ("environments", "learner", "training")
TRIALS = ("time_to_success", "ablation")
Rows = list[list[str]]


def tables() -> Iterator[tuple[str, str, Rows]]:
    """Script, what was measured on which machine, and the table, of all that were run."""
    for script in RACES:
        path = FOLDER / f"{script}.json"
        if path.exists():
            document = read_json(path)
            how = f"{document['unit']}, median of {document['rounds']} rounds (range)"
            yield script, f"{_story(document, document)}: {how}", _race(document)
    for script in TRIALS:
        path = FOLDER / f"{script}.json"
        if path.exists():
            document = read_json(path)
            table = _trial(document["runs"], timed=document["timed"])
            yield script, _story(document, document["runs"][0]), table


def trivial_goals() -> tuple[str, Rows]:
    """What the lab counted on early Push episodes, and its table."""
    document = read_json(Path("results", "trivial_goals.json"))
    story = (
        f"{document['n_episodes']} episodes of {document['env_id']} with random actions, seed "
        f"{document['seed']}: in {document['moved_share']:.0%} of them the block moved"
    )
    rows = [["trivial goals kept", "trivial", "achieved by the step", "still to be achieved"]]
    for row in document["rows"]:
        parts = (row[name] for name in ("trivial", "achieved_by_step", "to_be_achieved"))
        rows.append([f"{row['p']:.0%}", *(f"{part:.1%}" for part in parts)])
    return story, rows


def _story(document: Mapping[str, Any], machine: Mapping[str, Any]) -> str:
    cores, processor = machine["cpu_cores"], machine["device_name"]
    name = document["name"]
    return f"{name[0].upper()}{name[1:]}, on {cores} cores of {processor}"


def _race(document: Mapping[str, Any]) -> Rows:
    rows = [["contestant or ratio", "measured"]]
    for name, values in document["rows"].items():
        low, high = f"{min(values):,.4g}", f"{max(values):,.4g}"
        rows.append([name, f"{document['medians'][name]:,.4g} ({low} to {high})"])
    return rows + [
        [f"**{name}**", f"**{ratio:.2f}**"] for name, ratio in document["ratios"].items()
    ]


def _trial(runs: Sequence[Mapping[str, Any]], *, timed: bool) -> Rows:
    """One row per task and variant over its seeds; without seconds where they mean nothing."""
    rows = [["task", "what", "solved", "environment steps", "seconds", "success on other episodes"]]
    for (env_id, name), group in groupby(
        sorted(runs, key=_place), key=lambda run: (run["env_id"], run["name"])
    ):
        seeds = list(group)
        solved = [run for run in seeds if run["solved_env_steps"] is not None]
        rates = [run["confirmed_success_rate"] for run in seeds]
        rows.append(
            [
                env_id,
                name,
                f"{len(solved)} of {len(seeds)} seeds to {seeds[0]['target']:.0%}",
                _spread([run["solved_env_steps"] for run in solved], ",.0f") or _given_up(seeds),
                _spread([run["solved_seconds"] for run in solved], ".1f"),
                _spread(rates, ".2f"),
            ]
        )
    seconds = rows[0].index("seconds")
    return rows if timed else [[*row[:seconds], *row[seconds + 1 :]] for row in rows]


def _place(run: Mapping[str, Any]) -> tuple[str, str, int]:
    return run["env_id"], run["name"], run["seed"]


def _given_up(seeds: Sequence[Mapping[str, Any]]) -> str:
    ends = [run["examinations"][-1] for run in seeds]
    success = _spread([end["success_rate"] for end in ends], ".2f")
    return f"given up at {ends[0]['env_steps']:,} with success {success}"


def _spread(values: Sequence[float], form: str) -> str:
    """Median and range; nothing where there are no values."""
    if not values:
        return ""
    middle = format(statistics.median(values), form)
    if len(values) == 1:
        return middle
    return f"{middle} ({min(values):{form}} to {max(values):{form}})"
