"""The pictures of a parameter study: errors over the parameters, and latent trajectories."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from subgrid.solver.case.sweep_design import among

from ..comparison.results import Metrics
from .drawing import PALETTE, Plot, canvas, legend, literal, looks, plain_logarithm

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

PANELS = 4  # in one line
LATENTS = 5  # latent variables that are drawn


def plots(metrics: Metrics, comparison: xr.Dataset) -> dict[str, Plot]:
    """`parameters` and `latents`, by name, if the comparison has numbers for them."""
    names = ", ".join(row.name for row in metrics.rows)
    drawn: dict[str, tuple[str, Callable[[xr.Dataset], Figure], str]] = {
        "parameters": (
            "plane_error",
            partial(_parameters, metrics),
            "Largest relative error in time, over the parameters",
        ),
        "latents": ("latent_encoded", _latents, "Latent variables of the run, encoded and predicted"),
    }
    return {
        name: Plot(title, f"{title}, for {names}.", partial(draw, comparison))
        for name, (needed, draw, title) in drawn.items()
        if needed in comparison
    }


def _parameters(metrics: Metrics, comparison: xr.Dataset) -> Figure:
    """Over two parameters one map per row, otherwise one curve per row over the first parameter."""
    points, trained = comparison["plane_point"].values, comparison["training_point"].values
    names = [str(n).partition(".")[2] for n in comparison["plane_parameter"].values]
    errors = comparison["plane_error"].values
    sources = [literal(str(s)) for s in comparison["plane_source"].values]
    if len(names) == 2:
        return _maps(errors, sources, points, trained, names)
    figure, axes = canvas()
    a = axes[0, 0]
    unseen = ~among(points, trained)
    known = {look.name: look.color for look in looks(metrics.rows)}
    named = [known[str(s)] for s in comparison["plane_source"].values]
    for source, values, color in zip(sources, errors, named, strict=True):
        order = np.argsort(points[:, 0])
        style, label = "-" if len(names) == 1 else ".", f"{source},\n{_worst(values, unseen)}"
        a.plot(points[order, 0], 100 * values[order], style, marker=".", color=color, label=label)
    for x in np.unique(trained[:, 0]):
        a.axvline(x, color="#444444", linewidth=1, linestyle=(0, (2, 2)), zorder=0)
    a.plot([], [], color="#444444", linewidth=1, linestyle=(0, (2, 2)), label="training runs")
    a.set(yscale="log", xlabel=names[0], ylabel="largest relative error in time [%]")
    plain_logarithm(a.yaxis)
    legend(figure, a)
    return figure


def _worst(values: np.ndarray, unseen: np.ndarray) -> str:
    """The largest error over the test points that are no training runs, in words."""
    known = values[unseen & np.isfinite(values)]
    failed = "failed" if not np.isfinite(values).any() else "no other points than training runs"
    return f"at most {100 * known.max():.2g} % at {len(known)} unseen points" if known.size else failed


def _maps(errors: np.ndarray, sources: list[str], points: np.ndarray, trained: np.ndarray, names: list[str]) -> Figure:
    from matplotlib.colors import LogNorm

    columns = min(len(sources), PANELS)
    lines = -(-len(sources) // columns)
    figure, axes = canvas(lines, columns, height=0.8 + 4.2 * lines * min(1.0, 2 / columns), sharex=True, sharey=True)
    across, up = np.unique(points[:, 0]), np.unique(points[:, 1])
    finite = 100 * errors[np.isfinite(errors) & (errors > 0)]
    scale = LogNorm(finite.min(), finite.max()) if finite.size else None
    image: Any = None
    unseen = ~among(points, trained)
    for a, source, values in zip(axes.flat, sources, errors, strict=False):
        grid = np.full((len(up), len(across)), np.nan)
        grid[np.searchsorted(up, points[:, 1]), np.searchsorted(across, points[:, 0])] = 100 * values
        image = a.pcolormesh(across, up, grid, norm=scale, cmap="viridis", shading="nearest")
        a.plot(*trained.T, "o", color="white", markeredgecolor="black", markersize=5, clip_on=False)
        a.set(title=f"{source}\n{_worst(values, unseen)}", xlabel=names[0])
        a.grid(False)
    for a in axes[:, 0]:
        a.set_ylabel(names[1])
    for a in axes.flat[len(sources) :]:
        a.set_axis_off()
    bar = figure.colorbar(image, ax=axes, label="largest relative error in time [%]")
    plain_logarithm(bar.ax.yaxis)
    return figure


def _latents(comparison: xr.Dataset) -> Figure:
    """The first latent variables against time, and below each the predicted minus the encoded one."""
    time = comparison["time"].values
    encoded, predicted, deviation = (comparison[f"latent_{n}"].values for n in ("encoded", "predicted", "deviation"))
    count = min(encoded.shape[1], LATENTS)
    figure, axes = canvas(2, count, height=4.6, sharex=True)
    for i, (above, below) in enumerate(axes.T):
        above.plot(time, encoded[:, i], color="black", linewidth=3.0, label="encoded")
        above.plot(time, predicted[:, i], color=PALETTE[1], label="predicted")
        above.set_title(f"no. {i + 1} of {encoded.shape[1]}")
        off, band = predicted[:, i] - encoded[:, i], 2 * deviation[:, i]
        below.plot(time, off, color=PALETTE[1])
        if np.isfinite(band).any():
            below.fill_between(
                time,
                -band,
                band,
                color=PALETTE[4],
                alpha=0.4,
                linewidth=0,
                label="± 2 standard\ndeviations of the\nprediction",
            )
        below.ticklabel_format(axis="y", scilimits=(-2, 3))
        below.set_xlabel("time")
    axes[0, 0].set_ylabel("latent variable")
    axes[1, 0].set_ylabel("predicted − encoded")
    legend(figure, axes[0, 0], axes[1, 0])
    return figure
