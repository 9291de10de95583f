"""The curves of a report. Each run has one colour and one dash pattern in all of them.

The reference is black and the uncorrected run grey. The dash pattern shows the kind of a run as well.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from ..comparison.results import Metrics
from . import frontier
from .drawing import ROUND_OFF, Plot, canvas, described, legend, looks, plain_logarithm, with_units

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ENSEMBLE = {"crps": "CRPS", "spread_skill": "Spread over error", "rank_histogram": "Rank of the truth"}

LABELS = {"crps": "CRPS", "spread_skill": "ratio"}


def plots(metrics: Metrics, comparison: xr.Dataset) -> dict[str, Plot]:
    """The curves for which the comparison has numbers, by name."""
    names = ", ".join(row.name for row in metrics.rows)
    return {
        name: Plot(title, f"{title}, for {names}.", partial(draw, metrics, comparison))
        for name, (drawable, draw, title) in CURVES.items()
        if drawable(metrics, comparison)
    }


def _series(axes: Axes, comparison: xr.Dataset, variable: str, metrics: Metrics, title: str, log: bool = False) -> None:
    """Curves over time. The runs that finished set the limits; the curve of a failed run ends in a cross.

    log: an error on a logarithmic axis, which begins at the first output after the start.
    """
    time = comparison["time"].values
    intact, ends = [], []
    for look in looks(metrics.rows):
        y = _of(comparison, variable, look.name, positive=log)
        if log and len(y) > 1:
            y[0] = np.nan  # the error of the start is that of a restriction or of round-off
        if not np.isfinite(y).any():
            continue
        axes.plot(time, y, label=look.label, **look.line)
        if look.failed:
            last = np.flatnonzero(np.isfinite(y))[-1]
            ends.append((time[last], y[last], look.color))
        else:
            intact.append(y[np.isfinite(y)])
        if f"{variable}_low" in comparison and comparison.sizes["time"] > 1:
            low, high = (_of(comparison, f"{variable}_{end}", look.name, log) for end in ("low", "high"))
            low[np.isnan(y)] = np.nan
            axes.fill_between(time, low, high, color=look.color, alpha=0.15, linewidth=0)
    if log:
        axes.set_yscale("log")
    if intact:
        known = np.concatenate(intact)
        bottom, top = known.min(), known.max()
        if log:
            bottom = known[known > ROUND_OFF].min() if top > ROUND_OFF else bottom
            axes.set_ylim(max(bottom / 1.6, top * 1e-8), top * 2.5)
        elif top > bottom:
            axes.set_ylim(bottom - 0.06 * (top - bottom), top + 0.06 * (top - bottom))
    for t, value, color in ends:
        inside = np.clip(value, *axes.get_ylim())
        axes.plot(t, inside, "x", color=color, markersize=8, markeredgewidth=2, clip_on=False)
    axes.margins(x=0.01)
    axes.set(title=title, xlabel=with_units("time", comparison["time"]))


def _of(comparison: xr.Dataset, variable: str, source: str, positive: bool) -> np.ndarray:
    """Values of one source; nan where they cannot be drawn: beyond 1e30, or not positive on a logarithmic axis."""
    values = comparison[variable].sel(source=source).values.astype(float)
    return np.where((np.abs(values) < 1e30) & ((values > 0) | (not positive)), values, np.nan)


def _error(metrics: Metrics, comparison: xr.Dataset) -> Figure:
    figure, axes = canvas()
    shaded = "relative_l2_low" in comparison and comparison.sizes["time"] > 1
    title = f"Relative L2 error against the reference{'; shaded: 10 to 90 % of the members' if shaded else ''}"
    _series(axes[0, 0], comparison, "relative_l2", metrics, title, log=True)
    axes[0, 0].set_ylabel("relative L2 error")
    legend(figure, axes[0, 0])
    return figure


def _correlation(metrics: Metrics, comparison: xr.Dataset) -> Figure:
    figure, axes = canvas()
    a = axes[0, 0]
    _series(a, comparison, "correlation", metrics, "Correlation with the reference (dimensionless)")
    threshold = comparison.attrs.get("correlation_threshold")
    if threshold is not None:
        a.axhline(threshold, color="#444444", linewidth=1, linestyle=(0, (2, 2)), label=f"threshold {threshold:g}")
        a.set_ylim(min(a.get_ylim()[0], threshold - 0.05), 1.02)
    a.set_ylabel("correlation")
    legend(figure, a)
    return figure


def _has_spectra(metrics: Metrics, comparison: xr.Dataset) -> bool:
    return "spectrum" in comparison and bool((comparison["spectrum"].sel(wavenumber=slice(1, None)) > 0).any())


def _spectra(metrics: Metrics, comparison: xr.Dataset) -> Figure:
    """The spectra over the wavenumbers that the grid resolves, and below them their ratios to the reference."""
    figure, axes = canvas(2, 1, 6.0, sharex=True, height_ratios=(2, 1))
    a, below, k = axes[0, 0], axes[1, 0], comparison["wavenumber"].values
    shown = (k > 0) & (k <= comparison.attrs.get("resolved_wavenumber", k[-1]))
    true = np.where(shown, _of(comparison, "spectrum", "reference", positive=True), np.nan)
    top, ratios = 0.0, []
    for look in looks(metrics.rows):
        spectrum = np.where(shown, _of(comparison, "spectrum", look.name, positive=True), np.nan)
        if not np.isfinite(spectrum).any():
            continue
        a.plot(k, spectrum, label=look.label, **look.line)
        below.plot(k, spectrum / true, **look.line)
        if not look.failed:
            top = max(top, float(np.nanmax(spectrum)))
            ratios.append(spectrum / true)
    a.set(xscale="log", yscale="log", title="Energy spectrum, mean over the window")
    below.set_xscale("log")
    a.set(ylabel=with_units("E(k)", comparison["spectrum"]))
    below.set(yscale="log", ylabel="E(k) / reference", xlabel="integer wavenumber k")
    if shown.any():
        below.set_xlim(k[shown][0], k[shown][-1])
    if top > 0:
        a.set_ylim(max(a.get_ylim()[0], top * 1e-10), top * 3)
    if np.isfinite(ratios).any():
        low, high = np.nanmin(ratios), np.nanmax(ratios)
        below.set_ylim(max(low / 1.3, 1e-3), min(max(high * 1.3, 1.5), 1e3))
    for axis in (below.yaxis, below.xaxis):
        plain_logarithm(axis)
    legend(figure, a)
    return figure


def _invariant_names(comparison: xr.Dataset) -> list[str]:
    return sorted(str(v) for v in comparison.data_vars if str(v).startswith("invariant_"))


def _invariants(metrics: Metrics, comparison: xr.Dataset) -> Figure:
    names = _invariant_names(comparison)
    columns = min(len(names), 2)
    rows = -(-len(names) // columns)
    figure, axes = canvas(rows, columns, height=1.0 + 2.7 * rows, panels=len(names))
    for a, name in zip(axes.flat, names, strict=False):
        quantity = name.removeprefix("invariant_").replace("_", " ")
        start = _constant(comparison, name, metrics)
        shown = comparison if start == 0 else comparison.assign({name: comparison[name] - start})
        _series(a, shown, name, metrics, described(comparison[name]) or quantity.capitalize())
        a.set_ylabel(with_units(quantity if start == 0 else f"{quantity} − {start:.4g}", comparison[name]))
        kept = [shown[name].sel(source=look.name).values for look in looks(metrics.rows) if not look.failed]
        if np.nanmax(np.abs(kept), initial=0.0) < ROUND_OFF * max(1.0, abs(start)):  # all of them conserve it
            a.set_ylim(-100 * ROUND_OFF * max(1.0, abs(start)), 100 * ROUND_OFF * max(1.0, abs(start)))
    for a in axes.flat[len(names) :]:
        a.set_axis_off()
    legend(figure, *axes.flat[: len(names)], free=axes.flat[-1] if axes.size > len(names) else None)
    return figure


def _constant(comparison: xr.Dataset, name: str, metrics: Metrics) -> float:
    """The number of four digits that is subtracted from an invariant that hardly varies; 0 from others.

    Matplotlib would write the ticks as differences from a number that it prints above the axis.
    """
    kept = [comparison[name].sel(source=look.name).values for look in looks(metrics.rows) if not look.failed]
    values = np.concatenate(kept)
    values = values[np.isfinite(values)]
    if not values.size or np.ptp(values) > 1e-4 * np.abs(values).max():
        return 0.0
    return float(f"{np.median(values):.4g}")


def _ensemble_scores(comparison: xr.Dataset) -> list[str]:
    return [v for v in ENSEMBLE if v in comparison and np.isfinite(comparison[v].values).any()]


def _ensemble(metrics: Metrics, comparison: xr.Dataset) -> Figure:
    variables = _ensemble_scores(comparison)
    figure, axes = canvas(1, len(variables), height=3.6)
    for a, variable in zip(axes.flat, variables, strict=True):
        if variable == "rank_histogram":
            _ranks(a, comparison, metrics)
            continue
        _series(a, comparison, variable, metrics, ENSEMBLE[variable])
        a.set_ylabel(with_units(LABELS[variable], comparison[variable]))
        if variable == "spread_skill":
            a.axhline(1, color="#444444", linewidth=1, linestyle=(0, (2, 2)), label="ideal")
            a.set_ylim(0, max(1.1, a.get_ylim()[1]))
    legend(figure, *axes.flat)
    return figure


def _ranks(axes: Axes, comparison: xr.Dataset, metrics: Metrics) -> None:
    """Rank histograms of the truth among the members, over the fraction of members below it; 1 if calibrated."""
    for look in looks(metrics.rows):
        share = comparison["rank_histogram"].sel(source=look.name).values
        if np.isfinite(share).all():
            edges = np.linspace(0, 1, len(share) + 1)
            axes.stairs(share, edges, label=look.label, **look.line)
    axes.axhline(1, color="#444444", linewidth=1, linestyle=(0, (2, 2)), label="ideal")
    axes.set_ylim(0)
    axes.set(title=ENSEMBLE["rank_histogram"], xlabel="fraction of members below", ylabel="relative frequency")


def _always(metrics: Metrics, comparison: xr.Dataset) -> bool:
    return True


Condition = Callable[[Metrics, "xr.Dataset"], bool]
CURVES: dict[str, tuple[Condition, Callable[[Metrics, xr.Dataset], Figure], str]] = {
    "error": (_always, _error, "Relative L2 error against time"),
    "correlation": (_always, _correlation, "Correlation with the reference against time"),
    "spectra": (_has_spectra, _spectra, "Energy spectra"),
    "ensemble": (lambda m, c: bool(_ensemble_scores(c)), _ensemble, "Ensemble scores against time"),
    "invariants": (lambda m, c: bool(_invariant_names(c)), _invariants, "Invariants against time"),
    "frontier": (lambda m, c: bool(frontier.shown(m)), lambda m, c: frontier.draw(m), "Cost against error"),
}
