"""The contents of comparison.zarr."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from subgrid.ingest.prepare import Prepared

from . import metrics
from .parameter_study import Variables
from .rows import Run, output_times
from .scores import mean_invariants

if TYPE_CHECKING:
    import xarray as xr

FRAMES = 40  # upper bound on the frames that are kept
PATH_FRAMES = 1000  # of particles, whose paths are drawn
SERIES = ("relative_l2", "relative_l2_low", "relative_l2_high", "correlation", "crps", "spread_skill")


def assemble(prepared: Prepared, runs: list[Run], truth: NDArray, studied: Variables | None = None) -> xr.Dataset:
    """Scores over time, invariants, spectra, rank histograms and frames of the reference and of scored runs.

    Dimensions: source (the reference, then the runs), time (outputs), frame (outputs that are kept as fields of the
    first member: the first field, or the positions of particles), wavenumber, rank and the axes of the grid. A value
    that does not exist is nan.
    """
    import xarray as xr

    case, grid, equation = prepared.case, prepared.grid, prepared.equation
    times = output_times(case)
    sources = ["reference", *(r.name for r in runs)]
    particles = equation.kind == "particles"
    energy = [] if particles else [metrics.energy_spectrum(truth, equation, grid)]
    ranks = np.full((len(sources), 1 + case.ensemble.members // truth.shape[1]), np.nan)
    series = {name: np.full((len(sources), len(times)), np.nan) for name in SERIES}
    series["correlation"][0] = 1.0
    for name, values in mean_invariants(truth, prepared).items():
        series[f"invariant_{name}"] = np.full((len(sources), len(times)), np.nan)
        series[f"invariant_{name}"][0] = values
    stride = max(1, math.ceil(len(times) / (PATH_FRAMES if particles else FRAMES)))
    shown = np.arange(0, len(times), stride)
    axes: dict[str, Any] = equation.coordinates(grid)
    what, field, units = slice(0, 1), equation.fields[0].name, equation.fields[0].unit
    if particles:
        axes, what, field = {"coordinate": np.array(list("xyz"), dtype=object), **axes}, slice(0, 3), "positions"
    frames = np.full((len(sources), len(shown), what.stop, *grid.shape), np.nan, dtype=np.float32)
    frames[0] = truth[shown, 0, what]
    for i, run in enumerate(runs, start=1):
        count = len(run.states)
        if count:
            for name in SERIES:
                series[name][i, :count] = run.scores[name]
            for name, values in mean_invariants(run.states, prepared).items():
                series[f"invariant_{name}"][i, :count] = values
            ranks[i] = run.scores["rank_histogram"]
            kept = shown[shown < count]
            with np.errstate(over="ignore"):
                frames[i, : len(kept)] = run.states[kept, 0, what]
        if not particles:
            energy.append(run.scores["energy"] if count else np.full_like(energy[0], np.nan))
    shape = [len(axis) for axis in axes.values()]
    variables: dict[str, Any] = {
        **{name: (("source", "time"), values) for name, values in series.items()},
        "frames": (("source", "frame", *axes), frames.reshape(*frames.shape[:2], *shape)),
        "rank_histogram": (("source", "rank"), ranks),
        **(studied or {}),
    }
    if not particles:
        variables["spectrum"] = (("source", "wavenumber"), np.stack(energy))
        axes["wavenumber"] = np.arange(energy[0].size)
    return xr.Dataset(
        variables,
        coords={
            "source": np.array(sources, dtype=object),
            "time": times,
            "frame_time": ("frame", times[shown]),
            **axes,
        },
        attrs={
            "title": case.title,
            "equation": equation.name,
            "field": field,
            "units": units,
            "correlation_threshold": case.compare.correlation_threshold,
        },
    )
