"""The figures of a full factorial sweep: every setting at once, and every factor by itself."""

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from robotics_rl import plotting
from robotics_rl.schemas import SweepAnalysis


def heatmap(analysis: SweepAnalysis, path: Path) -> None:
    """Success of every setting: the first half of the factors down, the others across."""
    names = list(analysis.factors)
    half = (len(names) + 1) // 2
    down, across = (_combinations(analysis, part) for part in (names[:half], names[half:]))
    found = {_key(one.parameters): one for one in analysis.ranking}
    cells = [[found.get(_key({**row, **column})) for column in across] for row in down]
    means = np.array([[np.nan if one is None else one.mean for one in row] for row in cells])
    with plotting.figure(path, 2.2 + 1.3 * len(across), 1.6 + 0.5 * len(down)) as figure:
        axes = figure.add_subplot()
        image = axes.imshow(means, cmap="cividis", vmin=0.0, vmax=1.0, aspect="auto")
        for (i, j), mean in np.ndenumerate(means):
            if (one := cells[i][j]) is not None:
                text = f"{mean:.2f}\n{one.lowest:.2f} to {one.highest:.2f}"
                shade = "white" if mean < 0.5 else "black"
                axes.text(j, i, text, ha="center", va="center", color=shade, fontsize=8)
        axes.set_xticks(range(len(across)), [_levels(column) for column in across])
        axes.set_yticks(range(len(down)), [_levels(row) for row in down])
        axes.set(xlabel=", ".join(names[half:]), ylabel=", ".join(names[:half]))
        axes.spines[:].set_visible(False)
        figure.colorbar(image, label="success rate")
        figure.suptitle(f"{_story(analysis)}\nmean over seeds, lowest to highest below")


def marginal_means(analysis: SweepAnalysis, path: Path) -> None:
    """Success by the levels of each factor, averaged over all else; every setting as a dot."""
    n = len(analysis.factors)
    with plotting.figure(path, 2.4 * n, 3.2) as figure:
        panels = figure.subplots(1, n, sharey=True, squeeze=False)[0]
        for panel, name in zip(panels, analysis.factors, strict=True):
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
        figure.suptitle(f"{_story(analysis)}; mean over all else, settings in grey")


def _combinations(analysis: SweepAnalysis, names: Sequence[str]) -> list[dict[str, Any]]:
    levels = (analysis.factors[name] for name in names)
    return [dict(zip(names, chosen, strict=True)) for chosen in product(*levels)]


def _key(parameters: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(parameters.items()))


def _levels(parameters: Mapping[str, Any]) -> str:
    return ", ".join(map(str, parameters.values()))


def _story(analysis: SweepAnalysis) -> str:
    return f"{analysis.env_id}, {analysis.n_runs} runs of {analysis.total_steps:,} steps"
