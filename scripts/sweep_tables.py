"""The part of results/README.md about sweeps: settings, factors, and the book's beside them."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import book_figures
import ch04_sweep
import dense_reach_tables
from benchmark_tables import Rows

from robotics_rl import options
from robotics_rl.artifacts import read_json
from robotics_rl.config import EvalSettings
from robotics_rl.reporting import student_of_rate
from robotics_rl.schemas import SweepSetting
from robotics_rl.statistics import student_t_half_width

RESULTS = Path(EvalSettings.results_dir)
NO_DIFFERENCE = 0.02  # between two levels of a factor
PAIR = ("ent_coef", "gamma")  # of factors, whose levels are shown together
FACTORS_NOTE = (
    "Difference: success with one level minus that with another, over pairs of settings that are "
    "equal in all else; ± is Student's 95 % half width over the pairs. A difference smaller than "
    "that cannot be told from noise."
)
BOOK_NOTE = (
    "The two levels are the book's best and worst. A difference is clear if it is no smaller than "
    f"{100 * NO_DIFFERENCE:.0f} points and, here, than its half width. The book has no half widths."
)
Analysis = Mapping[str, Any]
Means = Mapping[Any, float]  # level → mean success


def sweeps() -> Iterator[tuple[Path, dict[str, Any]]]:
    """Every analysis of a sweep."""
    for path in sorted(RESULTS.rglob("sweep_*_analysis.json")):
        yield path, read_json(path)


def commands(analysis: Analysis) -> str:
    """What made the runs of a sweep, and its analysis."""
    seeds = sorted({seed for one in analysis["ranking"] for seed in one["seeds"]})
    given = {"env": analysis["env_id"], "total_steps": analysis["total_steps"]}
    flags = options.as_flags({**given, "seeds": tuple(seeds)}, " ")
    run = " ".join(["python", ch04_sweep.SCRIPT, "run", *flags])
    return f"Made by {dense_reach_tables.in_turn([run, shlex.join(analysis['command'])])}."


def ranking(analysis: Analysis) -> Rows:
    """The best and the worst settings."""
    rows = [["", *analysis["factors"], "seeds", "success", "sd", "lowest", "highest", "95 %"]]
    settings = list(enumerate(analysis["ranking"], 1))
    if len(settings) > 2 * ch04_sweep.N_SHOWN:
        settings = settings[: ch04_sweep.N_SHOWN] + settings[-ch04_sweep.N_SHOWN :]
    rows += [[str(place), *_setting(SweepSetting(**one))] for place, one in settings]
    if again := analysis["best_on_other_episodes"]:
        rows.append(["1, on other episodes", *_setting(SweepSetting(**again))])
    return rows


def _setting(one: SweepSetting) -> list[str]:
    numbers = (one.mean, one.sd, one.lowest, one.highest)
    return [
        *(str(level) for level in one.parameters.values()),
        str(len(one.seeds)),
        *("" if number is None else f"{number:.3f}" for number in numbers),
        "" if one.t_half_width is None else student_of_rate(one.mean, one.t_half_width),
    ]


@dataclass(frozen=True)
class Factor:
    """What a sweep says of a factor, and what the book's says."""

    name: str
    here: Means
    book: Means  # empty where it does not tell
    better: Any  # two levels: the book's best and worst, or else the last and the first
    worse: Any
    gains: Sequence[float]  # success with the better one less that with the worse one, by pair

    @property
    def is_best_alike(self) -> bool:
        """Whether the same level is best here and in the book."""
        return bool(_best(self.here) == _best(self.book))

    @property
    def verdict(self) -> str:
        """Whether the book's sweep says the same."""
        half = student_t_half_width(self.gains)
        gain = fmean(self.gains) if half is not None else 0.0
        here = half is not None and abs(gain) >= max(half, NO_DIFFERENCE)
        if _spread(self.book) < NO_DIFFERENCE:
            return "a clear difference here alone" if here else "no clear difference in either"
        if not here:
            return "no clear difference here"
        return "agreement" if gain > 0 else "contradiction"

    def difference(self) -> str:
        """What the better level is worth, in points."""
        levels = f"{self.better} minus {self.worse}"
        if not self.gains:
            return f"{levels}: no pairs"
        half = student_t_half_width(self.gains)
        interval = "" if half is None else f" ± {100 * half:.1f}"
        return f"{levels}: {100 * fmean(self.gains):+.1f}{interval} ({len(self.gains)} pairs)"


def _factors(analysis: Analysis) -> list[Factor]:
    means: dict[str, dict[Any, float]] = {}
    for one in analysis["marginal_means"]:
        means.setdefault(one["factor"], {})[one["level"]] = one["mean"]
    return [_factor(analysis, name, here) for name, here in means.items()]


def _factor(analysis: Analysis, name: str, here: Means) -> Factor:
    told = book_figures.SWEEP.get(name, {}) if analysis["env_id"] == ch04_sweep.PUSH else {}
    book = told if told.keys() == here.keys() else {}
    first, *_, last = sorted(book, key=lambda level: book[level]) or [*here, *here]
    return Factor(name, here, book, last, first, list(_gains(analysis, name, last, first)))


def _gains(analysis: Analysis, name: str, better: Any, worse: Any) -> Iterator[float]:
    """Differences between settings that are equal in all other factors."""
    means = {frozenset(one["parameters"].items()): one["mean"] for one in analysis["ranking"]}
    for setting, mean in means.items():
        levels = dict(setting)
        other = means.get(frozenset({**levels, name: worse}.items()))
        if levels[name] == better != worse and other is not None:
            yield mean - other


def factors(analysis: Analysis) -> Rows:
    """A row per factor: means by level, a difference over pairs, and the book's where it tells."""
    found = _factors(analysis)
    if not any(one.book for one in found):
        rows = [[one.name, _levels(one.here), one.difference()] for one in found]
        return [["factor", "mean success by level", "difference, points"], *rows]
    rows = [["factor", "book: mean success by level", "here: mean success by level",
             "difference here, points", "here and in the book"]]  # fmt: skip
    for one in found:
        so = one.verdict if one.book else ""
        rows.append([one.name, _levels(one.book), _levels(one.here), one.difference(), so])
    return rows


def note(analysis: Analysis) -> str:
    """What the table of factors means."""
    is_beside = any(one.book for one in _factors(analysis))
    return f"{FACTORS_NOTE} {BOOK_NOTE}" if is_beside else FACTORS_NOTE


def _levels(means: Means) -> str:
    told = ", ".join(f"{level}: {mean:.3f}" for level, mean in means.items())
    if not _spread(means):
        return told
    return f"{told} (best {_best(means)}, spread {100 * _spread(means):.1f} points)"


def _best(means: Means) -> Any:
    return max(means, key=lambda level: means[level])


def _spread(means: Means) -> float:
    return max(means.values()) - min(means.values()) if means else 0.0


def interaction(analysis: Analysis) -> Rows | None:
    """Success by the levels of two factors at once; None where it is the same everywhere."""
    found = {
        levels: f"{one['mean']:.3f}"
        for one in analysis["interactions"]
        if set(one["factors"]) == set(PAIR)
        for levels in [tuple(one["levels"][one["factors"].index(name)] for name in PAIR)]
    }
    if len(set(found.values())) < 2:
        return None
    down, across = (list(dict.fromkeys(levels)) for levels in zip(*found, strict=True))
    rows = [[PAIR[0], *(f"mean success with {PAIR[1]} {level}" for level in across)]]
    return rows + [[f"{one}", *(found.get((one, other), "") for other in across)] for one in down]


def agreement(analysis: Analysis) -> str:
    """What a sweep says of its factors and settings, and whether the book's says the same."""
    settings = analysis["ranking"]
    if len({one["mean"] for one in settings}) == 1:
        return (
            f"All {len(settings)} settings do equally well, so there is no best one: "
            f"{analysis['total_steps']:,} steps are enough for each of them."
        )
    told = []
    if compared := [one for one in _factors(analysis) if one.book]:
        told += [*_beside(compared), *_places([one["parameters"] for one in settings])]
    if all(len(one["seeds"]) == 1 for one in settings):
        told.append("With one seed a setting, means are over settings; which is best is not known.")
    return " ".join(told)


def _beside(compared: Sequence[Factor]) -> Iterator[str]:
    """Factor by factor."""
    said = _grouped({one.name: one.verdict for one in compared})
    yield f"Beside the book's sweep of {book_figures.SWEEP_STEPS:,} steps: {said}."
    alike = {one.name: "the book's" if one.is_best_alike else "another" for one in compared}
    yield f"The level with the best mean is {_grouped(alike)}."


def _grouped(said: Mapping[str, str]) -> str:
    """``so for a and b; otherwise for c``."""
    names: dict[str, list[str]] = {}
    for name, what in said.items():
        names.setdefault(what, []).append(name)
    return "; ".join(f"{what} for {' and '.join(them)}" for what, them in names.items())


def _places(settings: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Where the ends of the book's ranking stand in ours."""
    ends = (book_figures.SWEEP_BEST, book_figures.SWEEP_WORST)
    if all(end in settings for end in ends):
        best, worst = (settings.index(end) + 1 for end in ends)
        yield (
            f"Of our {len(settings)} settings the book's best is number {best}, and its worst "
            f"number {worst}."
        )
