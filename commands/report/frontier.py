"""The picture of the frontier: cost against error for every score that has a speed-up."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ..comparison.judgement import RANKED
from ..comparison.results import FrontierRow, Metrics, Row
from ..comparison.samples import HIGHER_IS_BETTER, as_error
from ..comparison.speedup import frontier
from .drawing import ROUND_OFF, Look, bracketed, canvas, legend, looks, plain_logarithm

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
POINTS = 7.5  # type of the names of grids
REACH = 4.5  # points from the middle of a marker that a name must not cover


def labelled(score: str, unit: str) -> str:
    """The name of a score with its unit, where it has one. unit: that of the field that is compared."""
    name = TITLES[score]
    short = name if name.isupper() else name[0].lower() + name[1:]
    return bracketed(short, {"correlation_time": "time", "crps": unit}.get(score))


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
    named = []
    for a, score in zip(axes.flat, scores, strict=False):
        a.set(xscale="log", yscale="log", title=TITLES[score], xlabel="CPU seconds per unit of time")
        a.set_ylabel(labelled(score, metrics.unit))
        named.append(_ladder(a, metrics.frontier, score))
        for row, look in zip(metrics.rows, looks(metrics.rows)[1:], strict=True):
            _point(a, row, look, score)
        if score == "correlation_time":
            _window(a, metrics)
        a.margins(x=0.1, y=0.12)
        for axis in (a.xaxis, a.yaxis):
            plain_logarithm(axis)
    for a in axes.flat[len(scores) :]:
        a.set_axis_off()
    legend(figure, *axes.flat[: len(scores)], free=axes.flat[-1] if axes.size > len(scores) else None)
    figure.draw_without_rendering()  # where the points are on the page
    for a, grids, score in zip(axes.flat, named, scores, strict=False):
        places = {place for run in (*metrics.rows, *metrics.frontier) if (place := _place(run, score))}
        _name(a, grids, sorted(places - {(cost, value) for _, cost, value in grids}), score)
    return figure


def _window(axes: Axes, metrics: Metrics) -> None:
    """A line at the length of the window, where a run has not lost its correlation."""
    runs = [run for run in (*metrics.rows, *metrics.frontier) if _place(run, "correlation_time")]
    times = next((run.times for run in runs if run.times), [0.0])
    length = times[-1] - times[0]
    if any((run.means["correlation_time"] or 0) >= (1 - 1e-9) * length > 0 for run in runs):
        axes.axhline(length, color=GREY, linewidth=1, linestyle=(0, (1, 2)), label="length of the window")


def _place(run: Row, score: str) -> tuple[float, float] | None:
    """Cost and score of a run; None where one of them is missing or zero, also up to round-off."""
    cost, value = run.cpu_seconds_per_time, run.means.get(score)
    return (cost, value) if cost and value and value > ROUND_OFF and not run.failed else None


def _ladder(axes: Axes, runs: list[FrontierRow], score: str) -> list[tuple[str, float, float]]:
    """Draw the runs of the ladder; returns the names of those on the frontier, each with its cost and score.

    A run has the name of its grid, or of its step where all have the same grid, as particles do.
    """
    known = [(place, run) for run in runs if (place := _place(run, score))]
    if not known:
        return []
    costs, values = np.array([place for place, _ in known]).T
    best = frontier(costs, as_error(score, values))
    others = np.setdiff1d(np.arange(len(known)), best)
    if others.size:
        axes.plot(costs[others], values[others], "o", color=GREY, markersize=4, alpha=0.6, label="other classical runs")
    alone = np.flatnonzero([run.kind == "none" for _, run in known])
    of_grids = alone[frontier(costs[alone], as_error(score, values[alone]))]
    if not set(of_grids) >= set(best):
        axes.plot(costs[of_grids], values[of_grids], "--", color=GREY, linewidth=1.3, label="frontier without closures")
    axes.plot(costs[best], values[best], "k-o", markersize=5, linewidth=1.8, label="frontier of classical runs")
    steps = len({tuple(run.shape) for _, run in known}) == 1
    names = [f"h = {run.step:.3g}" if steps else "×".join(map(str, run.shape)) for _, run in known]
    return [(names[i], costs[i], values[i]) for i in best]


def _name(axes: Axes, grids: list[tuple[str, float, float]], taken: list[tuple[float, float]], score: str) -> None:
    """Write each name once, beside the first point that has it and where it covers nothing; else leave it out.

    It stands on the side of dearer and worse runs, where the frontier does not pass, or on the other side. taken: cost
    and score of the other markers. The figure has its layout already.
    """
    from matplotlib.transforms import Bbox

    up, pixels = score in HIGHER_IS_BETTER, axes.figure.dpi / 72  # type: ignore[union-attr]
    places = axes.transData.transform([(cost, value) for _, cost, value in grids] + taken)
    markers = [Bbox.from_bounds(x, y, 0, 0).padded(REACH * pixels) for x, y in places]
    written: list[Bbox] = []
    inside = Bbox.from_extents(axes.bbox.x0, axes.bbox.y0, axes.bbox.x1, axes.bbox.y1)
    done: set[str] = set()
    for i, (text, cost, value) in enumerate(grids):
        if text in done:
            continue
        wide, tall, (x, y) = 0.62 * POINTS * len(text) * pixels, 1.1 * POINTS * pixels, places[i]
        for right in (True, False):
            above = right != up
            dx, dy = (4 if right else -4), (3 if above else -3)
            box = Bbox.from_bounds(
                x + dx * pixels - (0 if right else wide), y + dy * pixels - (0 if above else tall), wide, tall
            )
            others = [*markers[:i], *markers[i + 1 :], *written]
            if not (inside.x0 <= box.x0 and box.x1 <= inside.x1 and inside.y0 <= box.y0 and box.y1 <= inside.y1):
                continue
            if any(box.overlaps(other) for other in others):
                continue
            note = axes.annotate(
                text,
                (cost, value),
                (dx, dy),
                textcoords="offset points",
                ha="left" if right else "right",
                va="bottom" if above else "top",
                fontsize=POINTS,
                color=GREY,
            )
            note.set_in_layout(False)
            written.append(box)
            done.add(text)
            break


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
