"""The picture of the frontier: cost against error for every score that has a speed-up."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ..comparison.judgement import RANKED
from ..comparison.results import FrontierRow, Metrics, Row
from ..comparison.samples import HIGHER_IS_BETTER, as_error
from ..comparison.speedup import frontier
from .drawing import ROUND_OFF, Look, canvas, legend, looks, plain_logarithm, size

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLES = {
    "relative_l2": "Relative L2 error",
    "correlation_time": "Correlation time",
    "spectrum_distance": "Spectrum distance",
    "crps": "CRPS",
}
GREY = "#555555"
FREE = (1.4, 0.4)  # of a panel, times the width of the figure: what the name of a grid takes


def shown(metrics: Metrics) -> list[str]:
    """The scores in which runs with a cost differ."""
    runs = [*metrics.rows, *metrics.frontier]
    values = {name: {place[1] for run in runs if (place := _place(run, name))} for name in RANKED}
    return [name for name, found in values.items() if len(found) > 1]


def draw(metrics: Metrics) -> Figure:
    """One panel for each score: the frontier in black, its other runs in grey, and the rows with their intervals."""
    scores = shown(metrics)
    columns = min(2, len(scores))
    figure, axes = canvas(
        math.ceil(len(scores) / columns),
        columns,
        height=1.0 + 3.6 * math.ceil(len(scores) / columns),
        panels=len(scores),
    )
    for a, score in zip(axes.flat, scores, strict=False):
        a.set(xscale="log", yscale="log", title=TITLES[score], xlabel="CPU seconds per unit of time")
        grids = _ladder(a, metrics.frontier, score)
        for row, look in zip(metrics.rows, looks(metrics.rows)[1:], strict=True):
            _point(a, row, look, score)
        a.margins(x=0.1, y=0.12)
        _name(a, grids, score)
        for axis in (a.xaxis, a.yaxis):
            plain_logarithm(axis)
        a.tick_params(axis="x", rotation=45)
    for a in axes.flat[len(scores) :]:
        a.set_axis_off()
    legend(figure, *axes.flat[: len(scores)])
    return figure


def _place(run: Row, score: str) -> tuple[float, float] | None:
    """Cost and score of a run; None where one of them is missing or zero, also up to round-off."""
    cost, value = run.cpu_seconds_per_time, run.means.get(score)
    return (cost, value) if cost and value and value > ROUND_OFF and not run.failed else None


def _ladder(axes: Axes, runs: list[FrontierRow], score: str) -> list[tuple[str, float, float]]:
    """Draw the runs of the ladder; returns the grids on the frontier, each with its cost and score."""
    known = [(place, run) for run in runs if (place := _place(run, score))]
    if not known:
        return []
    costs, values = np.array([place for place, _ in known]).T
    best = frontier(costs, as_error(score, values))
    axes.plot(costs, values, "o", color=GREY, markersize=4, alpha=0.6)
    alone = np.flatnonzero([run.kind == "none" for _, run in known])
    of_grids = alone[frontier(costs[alone], as_error(score, values[alone]))]
    if not set(of_grids) >= set(best):
        axes.plot(costs[of_grids], values[of_grids], "--", color=GREY, linewidth=1.3, label="frontier without closures")
    axes.plot(costs[best], values[best], "k-o", markersize=5, linewidth=1.8, label="frontier of classical runs")
    return [("×".join(map(str, known[i][1].shape)), costs[i], values[i]) for i in best]


def _name(axes: Axes, grids: list[tuple[str, float, float]], score: str) -> None:
    """Write the grids beside their points, on the side of dearer and worse runs, where the frontier does not pass.

    Of names that would cover each other the first is written.
    """
    up = score in HIGHER_IS_BETTER
    width, height = (FREE[i] / size().width for i in (0, 1))
    written: list[np.ndarray] = []
    for text, cost, value in grids:
        here = axes.transAxes.inverted().transform(axes.transData.transform((cost, value)))
        if any(abs(here[0] - x) < width and abs(here[1] - y) < height for x, y in written):
            continue
        written.append(here)
        axes.annotate(
            text,
            (cost, value),
            (4, -3 if up else 3),
            textcoords="offset points",
            ha="left",
            va="top" if up else "bottom",
            fontsize=7.5,
            color=GREY,
        )


def _point(axes: Axes, row: Row, look: Look, score: str) -> None:
    place = _place(row, score)
    if place is None:
        return
    cost, value = place
    ends = row.intervals.get(score)
    spread = None if ends is None else [[max(0.0, value - ends[0])], [max(0.0, ends[1] - value)]]
    axes.errorbar(
        cost, value, yerr=spread, fmt=look.marker, color=look.color, markersize=7, capsize=3, label=look.label
    )
