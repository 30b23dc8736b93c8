"""The figures of a full factorial sweep: every setting at once, and every factor by itself."""

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from robotics_rl import plotting
from robotics_rl.artifacts import read_json
from robotics_rl.schemas import FactorLevel, FactorPair, SweepAnalysis, SweepSetting


def read_analysis(path: Path) -> SweepAnalysis:
    """A document of ``ch04_sweep.py analyze``, as it was written."""
    document = read_json(path)
    document.pop("schema")
    again = document.pop("best_on_other_episodes")
    return SweepAnalysis(
        **{
            **document,
            "ranking": [SweepSetting(**one) for one in document["ranking"]],
            "marginal_means": [FactorLevel(**one) for one in document["marginal_means"]],
            "interactions": [FactorPair(**one) for one in document["interactions"]],
            "best_on_other_episodes": again and SweepSetting(**again),
        }
    )


def heatmap(analysis: SweepAnalysis, source: Path, path: Path) -> None:
    """Success of every setting: the first half of the factors down, the others across.

    Args:
        analysis: what to draw.
        source: its document, for the caption.
        path: of the PNG.
    """
    names = sorted(analysis.factors)  # as in the document, whose keys are sorted
    half = (len(names) + 1) // 2
    down, across = (_combinations(analysis, part) for part in (names[:half], names[half:]))
    found = {_key(one.parameters): one for one in analysis.ranking}
    cells = [[found.get(_key({**row, **column})) for column in across] for row in down]
    means = np.array([[np.nan if one is None else one.mean for one in row] for row in cells])
    width, height = 2.2 + 1.3 * len(across), 1.7 + 0.5 * len(down)
    spread = "" if _is_of_one_seed(analysis) else "Mean over training seeds, lowest to highest. "
    caption = f"Success rate of the trained policies. {spread}{_story(analysis, source)}"
    with plotting.figure(path, width, height, caption) as figure:
        axes = figure.add_subplot()
        image = axes.imshow(means, cmap="cividis", vmin=0.0, vmax=1.0, aspect="auto")
        for (i, j), mean in np.ndenumerate(means):
            if (one := cells[i][j]) is not None:
                text = f"{mean:.2f}"
                if len(one.seeds) > 1:
                    text += f"\n{one.lowest:.2f} to {one.highest:.2f}"
                shade = "white" if mean < 0.5 else "black"
                axes.text(j, i, text, ha="center", va="center", color=shade, fontsize=8)
        axes.set_xticks(range(len(across)), [_levels(column) for column in across])
        axes.set_yticks(range(len(down)), [_levels(row) for row in down])
        axes.set(xlabel=", ".join(names[half:]), ylabel=", ".join(names[:half]))
        axes.spines[:].set_visible(False)
        axes.set_xticks(np.arange(1, len(across)) - 0.5, minor=True)
        axes.set_yticks(np.arange(1, len(down)) - 0.5, minor=True)
        axes.grid(which="minor", color="white", linewidth=1.5)
        axes.tick_params(which="minor", length=0)
        figure.colorbar(image, label="success rate")
        figure.suptitle(_title(analysis))


def marginal_means(analysis: SweepAnalysis, source: Path, path: Path) -> None:
    """Success by the levels of each factor, averaged over all else; every setting as a dot.

    Args:
        analysis: what to draw.
        source: its document, for the caption.
        path: of the PNG.
    """
    n = len(analysis.factors)
    caption = (
        "Success rate of the trained policies: mean over the runs with that level; in grey every "
        f"setting. {_story(analysis, source)}"
    )
    with plotting.figure(path, 2.4 * n, 3.4, caption) as figure:
        panels = figure.subplots(1, n, sharey=True, squeeze=False)[0]
        for panel, name in zip(panels, sorted(analysis.factors), strict=True):
            levels = [one for one in analysis.marginal_means if one.factor == name]
            for place, level in enumerate(levels):
                settings = [s.mean for s in analysis.ranking if s.parameters[name] == level.level]
                panel.plot([place - 0.25] * len(settings), settings, ".", color="0.6")
            means = [level.mean for level in levels]
            panel.plot(means, "o-", color=plotting.COLOURS[2])
            for place, mean in enumerate(means):
                panel.annotate(f"{mean:.2f}", (place, mean), (5, 6), textcoords="offset points")
            panel.set_xticks(range(len(levels)), [f"{level.level}" for level in levels])
            panel.set(xlabel=name, xlim=(-0.5, len(levels) - 0.3), ylim=(-0.02, 1.05))
        panels[0].set_ylabel("success rate")
        figure.suptitle(_title(analysis))


def _combinations(analysis: SweepAnalysis, names: Sequence[str]) -> list[dict[str, Any]]:
    levels = (analysis.factors[name] for name in names)
    return [dict(zip(names, chosen, strict=True)) for chosen in product(*levels)]


def _key(parameters: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(parameters.items()))


def _levels(parameters: Mapping[str, Any]) -> str:
    return ", ".join(map(str, parameters.values()))


def _title(analysis: SweepAnalysis) -> str:
    return f"{analysis.env_id}, {analysis.n_runs} runs of {analysis.total_steps:,} steps"


def _story(analysis: SweepAnalysis, source: Path) -> str:
    """Seeds and document."""
    seeds = sorted({seed for setting in analysis.ranking for seed in setting.seeds})
    plural = "" if len(seeds) == 1 else "s"
    return f"Seed{plural} {', '.join(map(str, seeds))}. From {source.as_posix()}."


def _is_of_one_seed(analysis: SweepAnalysis) -> bool:
    return all(len(setting.seeds) == 1 for setting in analysis.ranking)
