"""The picture of the frontier: cost against error for every score that has a speed-up."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ..comparison.judgement import RANKED
from ..comparison.results import FrontierRow, Metrics, Row
from ..comparison.samples import HIGHER_IS_BETTER, as_error
from ..comparison.speedup import frontier
from .drawing import Look, canvas, legend, looks

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


def shown(metrics: Metrics) -> list[str]:
    """The scores in which runs with a cost differ."""
    runs = [*metrics.rows, *metrics.frontier]
    values = {name: {place[1] for run in runs if (place := _place(run, name))} for name in RANKED}
    return [name for name, found in values.items() if len(found) > 1]


def draw(metrics: Metrics) -> Figure:
    """One panel for each score: the frontier in black, its other runs in grey, and the rows with their intervals."""
    from matplotlib.ticker import LogLocator, NullFormatter

    scores = shown(metrics)
    columns = min(2, len(scores))
    figure, axes = canvas(
        math.ceil(len(scores) / columns), columns, height=1.0 + 3.6 * math.ceil(len(scores) / columns)
    )
    for a, score in zip(axes.flat, scores, strict=False):
        a.set(xscale="log", yscale="log", title=TITLES[score], xlabel="CPU seconds per unit of time")
        _ladder(a, metrics.frontier, score)
        for row, look in zip(metrics.rows, looks(metrics.rows)[1:], strict=True):
            _point(a, row, look, score)
        a.margins(x=0.1, y=0.12)
        for axis in (a.xaxis, a.yaxis):
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter("{x:g}")
            axis.set_minor_formatter(NullFormatter())
        a.tick_params(axis="x", rotation=45)
    for a in axes.flat[len(scores) :]:
        a.set_axis_off()
    legend(figure, *axes.flat[: len(scores)])
    return figure


def _place(run: Row, score: str) -> tuple[float, float] | None:
    """Cost and score of a run; None where one of them is missing or not positive."""
    cost, value = run.cpu_seconds_per_time, run.means.get(score)
    return (cost, value) if cost and value and not run.failed else None


def _ladder(axes: Axes, runs: list[FrontierRow], score: str) -> None:
    known = [(place, run) for run in runs if (place := _place(run, score))]
    if not known:
        return
    costs, values = np.array([place for place, _ in known]).T
    best = frontier(costs, as_error(score, values))
    axes.plot(costs, values, "o", color=GREY, markersize=4, alpha=0.6)
    alone = np.flatnonzero([run.kind == "none" for _, run in known])
    of_grids = alone[frontier(costs[alone], as_error(score, values[alone]))]
    if not set(of_grids) >= set(best):
        axes.plot(costs[of_grids], values[of_grids], "--", color=GREY, linewidth=1.3, label="frontier without closures")
    axes.plot(costs[best], values[best], "k-o", markersize=5, linewidth=1.8, label="frontier of classical runs")
    for i in best:
        text = "×".join(map(str, known[i][1].shape))
        up = score in HIGHER_IS_BETTER
        axes.annotate(
            text,
            (costs[i], values[i]),
            (0, 7 if up else -7),
            textcoords="offset points",
            ha="center",
            va="bottom" if up else "top",
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
