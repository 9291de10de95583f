"""The contents of comparison.zarr."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from subgrid.ingest.prepare import Prepared
from subgrid.solver.equations import Equation
from subgrid.solver.simulation.schedule import output_times

from .entities import edges
from .parameter_study import Variables
from .rows import Run
from .scores import SERIES, Truth, kept_outputs, real_entities

if TYPE_CHECKING:
    import xarray as xr

LONG_NAMES = {
    "source": "reference or run",
    "frame_time": "time of a frame",
    "bin": "lower edge of a bin of separations",
}


def assemble(prepared: Prepared, runs: list[Run], truth: Truth, studied: Variables | None = None) -> xr.Dataset:
    """Scores over time, invariants, spectra, rank histograms and frames of the reference and of scored runs.

    Dimensions: source (the reference, then the runs), time (outputs), frame (outputs that are kept as fields of the
    first member: the first field, or the positions of particles), wavenumber, rank and the axes of the grid. A value
    that does not exist is nan. The attribute `unobserved` lists the fields that the reference lacks: without them there
    are no spectra.
    """
    import xarray as xr

    case, grid, equation = prepared.case, prepared.grid, prepared.equation
    times, shown = output_times(case), kept_outputs(prepared)
    sources = ["reference", *(r.name for r in runs)]
    kept = [truth.diagnostics | {"correlation": np.ones(len(times))}, *(r.scores for r in runs)]
    names = [*SERIES, *(n for n in truth.diagnostics if n.startswith(("invariant_", "dispersion_")))]
    ranks = 1 + case.ensemble.members // truth.states.shape[1]
    frames = _filled(kept, "frames", truth.diagnostics["frames"].shape, np.float32)
    axes: dict[str, Any] = equation.coordinates(grid)
    field, units = prepared.observed_fields[0].name, prepared.observed_fields[0].unit
    if equation.kind == "particles":
        along = [equation.fields[i].name for i in equation.having("position")]
        axes, field = {"coordinate": np.array(along, dtype=object), **axes}, "positions"
    shape = [len(axis) for axis in axes.values()]
    variables: dict[str, Any] = {
        **{name: (("source", "time"), _filled(kept, name, (len(times),))) for name in names},
        "frames": (("source", "frame", *axes), frames.reshape(*frames.shape[:2], *shape)),
        "rank_histogram": (("source", "rank"), _filled(kept, "rank_histogram", (ranks,))),
        **(studied or {}),
    }
    if "sample_separation" in truth.diagnostics:
        shares = [v["sample_separation"].mean(axis=0)[-1] if "sample_separation" in v else None for v in kept]
        bins = edges(truth.states, equation, real_entities(prepared, truth.states.shape[1]))
        blank = np.full(len(bins) + 1, np.nan)
        variables["separation"] = (("source", "bin"), np.stack([blank if v is None else v for v in shares]))
        axes["bin"] = np.concatenate([[0.0], bins])  # lower edges
    if "energy" in truth.diagnostics:
        energy = _filled(kept, "energy", truth.diagnostics["energy"].shape)
        variables["spectrum"] = (("source", "wavenumber"), energy)
        axes["wavenumber"] = np.arange(energy.shape[1])
    if getattr(equation, "bottom", None) is not None and (bed := equation.bottom(grid)) is not None:  # type: ignore[attr-defined]
        variables["bed"] = (tuple(axes)[: bed.ndim], bed, {"units": "length", "long_name": "height of the bed"})
    hidden = [f.name for f in equation.fields if f not in prepared.observed_fields]
    found = xr.Dataset(
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
            "resolved_wavenumber": min(grid.cuts if equation.spectral else (n // 2 for n in grid.shape)),
        }
        | ({"unobserved": ", ".join(hidden)} if hidden else {}),
    )
    compared = {f.unit for f in prepared.observed_fields}
    energy_unit = squared(units) if len(compared) == 1 and units not in ("", "1") else None
    for name, unit in _units(equation, units, energy_unit).items():
        if name in found.variables:
            found[name].attrs["units"] = unit
    for coordinate in found.coords:
        found[coordinate].attrs["long_name"] = LONG_NAMES.get(str(coordinate), str(coordinate))
    for name, quantity in equation.quantities.items():
        if f"invariant_{name}" in found:
            found[f"invariant_{name}"].attrs["long_name"] = quantity.description
    found["time"].attrs["axis"] = "T"
    return found


def squared(unit: str) -> str:
    """The square of a unit: of time/length^2 it is time^2/length^4."""
    return re.sub(r"([A-Za-z]+)(?:\^(-?[0-9]+))?", lambda m: f"{m[1]}^{2 * int(m[2] or 1)}", unit)


def _units(equation: Equation, of_field: str, of_energy: str | None) -> dict[str, str]:
    """Units of the variables and coordinates, in the names of dimensions.

    of_energy: the unit of half the square of the compared fields, None if they have no common unit. The spectrum has it
    unless the equation states another.
    """
    quantities = {f"invariant_{name}": quantity.unit for name, quantity in equation.quantities.items()}
    spectrum = {"spectrum": of_energy} if of_energy else {}
    if "spectrum" in equation.derived:
        spectrum = {"spectrum": equation.derived["spectrum"].unit}
    lengths = {axis: "length" for axis in "xyz" if equation.kind != "particles"}
    own = {"time": "time", "frame_time": "time", "v": "length/time", "crps": of_field}
    return own | quantities | spectrum | lengths


def _filled(kept: list[dict[str, Any]], name: str, shape: tuple[int, ...], dtype: type = np.float64) -> NDArray:
    """One array of every source, (source, *shape); nan where a source has none, or has fewer times."""
    found: NDArray = np.full((len(kept), *shape), np.nan, dtype=dtype)
    for i, values in enumerate(kept):
        if name in values:
            found[i, : len(values[name])] = values[name]
    return found
