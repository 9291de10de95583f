"""Entities in a report: the columns of their scores, and curves of dispersion and of separations."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from ..comparison.results import Metrics
from .drawing import Plot, bracketed, canvas, legend, looks, plain_logarithm, with_units

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

SCORES = {  # name -> heading, name in full, meaning
    "ade": ("ADE", "average displacement error", "displacement error, mean over times, entities and samples"),
    "fde": ("FDE", "final displacement error", "displacement error at the end, mean over entities and samples"),
    "min_ade": ("min ADE", "least ADE", "ADE of the best sample of each entity"),
    "min_fde": ("min FDE", "least FDE", "FDE of the best sample of each entity"),
    "fde_median": ("FDE median", "median FDE", "median of the displacement error at the end"),
    "fde_90": ("FDE 90 %", "90 % quantile of FDE", "90 % quantile of the displacement error at the end"),
    "pair_energy_score": ("pair ES", "energy score of pairs", "fair energy score of the positions of two entities"),
    "separation_jsd": (
        "sep. JSD",
        "JSD of separations",
        "Jensen-Shannon divergence of the distributions of separations, in bits, mean over times",
    ),
}


def plots(metrics: Metrics, comparison: xr.Dataset) -> dict[str, Plot]:
    """The curves of entities, if the comparison has their scores."""
    if "separation" not in comparison:
        return {}
    title = "Dispersion, and the distribution of separations"
    names = ", ".join(row.name for row in metrics.rows)
    return {"entities": Plot(title, f"{title}, for {names}.", partial(_draw, metrics, comparison))}


def _draw(metrics: Metrics, comparison: xr.Dataset) -> Figure:
    figure, axes = canvas(1, 3, height=3.8)
    time, unit = comparison["time"].values, comparison.attrs.get("units")
    for a, variable, title in zip(
        axes.flat,
        ("dispersion_absolute", "dispersion_relative"),
        ("Rms displacement", "Rms separation"),
        strict=False,
    ):
        for look in looks(metrics.rows):
            values = comparison[variable].sel(source=look.name).values
            a.plot(time, values, label=look.label, **look.line)
        a.set(title=title, xlabel=with_units("time", comparison["time"]), ylim=(0, None))
        a.set_ylabel(bracketed(title.lower(), unit))
    a, lower = axes.flat[2], comparison["bin"].values
    middle = np.sqrt(lower[1:-1] * lower[2:])
    for look in looks(metrics.rows):
        share = comparison["separation"].sel(source=look.name).values[1:-1]
        a.plot(middle, share, label=look.label, **look.line)
    a.set(title="Separations at the end", ylabel="share of pairs", xscale="log", ylim=(0, None))
    a.set_xlabel(bracketed("separation", unit))
    plain_logarithm(a.xaxis)
    a.tick_params(axis="x", rotation=45)
    legend(figure, *axes.flat)
    return figure
