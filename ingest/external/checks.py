"""Checks of what a file states: shapes, times, coordinates, units, parameters. `values` checks the numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .contents import TIME, TRAJECTORY, Axis, Contents, Finding
from .corrections import PERIODS

ROUNDED = 8  # spacings of numbers: coordinates that were rounded differ from even ones by less


def check_structure(contents: Contents) -> None:
    """Add the findings about shapes, axes, times and units; coordinates become double precision, and even where they
    were only rounded.
    """
    sizes = contents.sizes
    _check_fields(contents)
    _check_transposed(contents)
    _check_time(contents)
    for name in contents.space:
        axis = contents.axes.get(name, Axis())
        if axis.values is not None and len(axis.values) != sizes[name]:
            continue  # said by _check_transposed
        contents.axes[name] = _checked_axis(contents, name, axis)
    _list_missing(contents)
    _check_units(contents)
    _check_parameters(contents)


def _check_fields(contents: Contents) -> None:
    where = contents.where
    if not contents.fields:
        contents.fault("empty", f"{where} holds no field", "another file, or `map` and `reader`")
    for name, v in contents.fields.items():
        if v.data.dtype.kind == "c":
            contents.fault("complex", f"{name} of {where} is complex", "store its real and imaginary parts as fields")
        elif v.data.dtype.kind not in "fiub":
            contents.fault("type", f"{name} of {where} is {v.data.dtype}, not numbers", "leave it out with `fields`")
        elif v.data.dtype.itemsize < 4 and v.data.dtype.kind == "f" and len(v.dims):
            contents.fault(
                "low-precision", f"{name} of {where} is in half precision", "accept = low-precision, if this is enough"
            )
        if 0 in v.data.shape:
            contents.fault("empty", f"{name} of {where} has shape {v.data.shape}", "another file")


def _check_transposed(contents: Contents) -> None:
    """Coordinates of other lengths than the data: of exchanged axes, if the lengths fit then."""
    sizes, space = contents.sizes, contents.space
    lengths = {a: len(x.values) for a in space if (x := contents.axes.get(a)) is not None and x.values is not None}
    wrong = [a for a, n in lengths.items() if n != sizes[a]]
    if not wrong:
        return
    stated = ", ".join(f"{a} {n}" for a, n in lengths.items())
    found = ", ".join(f"{a} {sizes[a]}" for a in space)
    text = f"the coordinates of {contents.where} have the lengths {stated}, the data have {found}"
    if len(wrong) == 2 and lengths[wrong[0]] == sizes[wrong[1]] and lengths[wrong[1]] == sizes[wrong[0]]:
        contents.fault("transposed", f"{text}: the axes are exchanged", f"transpose = {','.join(sorted(wrong))}")
        return
    for axis in wrong:
        if lengths[axis] == sizes[axis] + 1:
            contents.fault(
                "edges",
                f"{text}: {axis} are the edges of cells, or the last point is missing in the data",
                f"map {axis} to the coordinates of the centres, or length.{axis}, origin.{axis} and grid",
            )
        else:
            contents.fault("shape", text, f"map {axis} to the coordinates of this axis")


def _check_time(contents: Contents) -> None:
    count = contents.sizes.get(TIME)
    if count is None:
        return
    axis = contents.axes.get(TIME, Axis())
    where, values = contents.where, axis.values
    if values is None:
        contents.findings.append(
            _missing("times", f"{where} states no times; states are numbered", "times = START:STEP")
        )
        return
    if values.ndim == 2 and len(values) and np.allclose(values, values[0], rtol=0, atol=_rounding(values)):
        values = values[0]
    if values.ndim != 1:
        contents.fault("times", f"the trajectories of {where} have different times", "times = START:STEP, or `select`")
        return
    if len(values) == count + 1:
        contents.fault(
            "times", f"{where} has {count + 1} times for {count} states", "drop_last_time, or times = START:STEP"
        )
        return
    if len(values) != count:
        contents.fault("times", f"{where} has {len(values)} times for {count} states", "times = START:STEP")
        return
    exact = values.astype(np.float64)
    if not np.isfinite(exact).all():
        contents.fault("times", f"the times of {where} are not finite", "times = START:STEP")
        return
    steps = np.diff(exact)
    if (steps <= 0).any():
        place = int((steps <= 0).argmax())
        contents.fault(
            "times",
            f"the times of {where} do not increase: {exact[place]:.7g}, then {exact[place + 1]:.7g}",
            "sort = time, or `select` without the repeated ones, or times = START:STEP",
        )
    elif count > 1:
        even = np.linspace(exact[0], exact[-1], count)
        if np.abs(exact - even).max() > _rounding(values) + 1e-9 * float(np.ptp(exact)):
            contents.fault(
                "uneven-times",
                f"the times of {where} are uneven: steps from {steps.min():.6g} to {steps.max():.6g}",
                "select.time an even part, times = START:STEP if they are wrong, or accept = uneven-times",
            )
        elif values.dtype.itemsize < 8:
            exact = _even(exact, _rounding(values))
            contents.note("times", f"the times are {values.dtype}; they are even to rounding, and are made even")
    contents.axes[TIME] = replace(axis, values=exact)


def _even(values: NDArray, rounding: float) -> NDArray:
    """Even numbers from the first to the last, whose start and step have as few digits as the rounding allows."""
    n = len(values)
    start, step = float(values[0]), float(values[-1] - values[0]) / max(1, n - 1)
    for digits in range(1, 17):
        s, h = float(f"{start:.{digits}g}"), float(f"{step:.{digits}g}")
        if abs(s - start) <= rounding and (n - 1) * abs(h - step) <= rounding:
            return s + h * np.arange(n)
    return np.linspace(start, float(values[-1]), n)


def _rounding(values: NDArray) -> float:
    """How far numbers of this type may be from those that they stand for."""
    eps = np.finfo(values.dtype if values.dtype.kind == "f" else np.float64).eps
    return ROUNDED * float(eps) * float(np.abs(values).max(initial=0))


def _checked_axis(contents: Contents, name: str, axis: Axis) -> Axis:
    where = contents.where
    if axis.kind == "entities":
        return axis
    if axis.values is None:
        return axis
    if axis.values.dtype.kind not in "fiu" or axis.values.ndim != 1:
        contents.fault("coordinates", f"the coordinates of {name} in {where} are not a row of numbers", f"map {name}")
        return axis
    values = axis.values.astype(np.float64)
    rounding = _rounding(axis.values)
    if not np.isfinite(values).all():
        contents.fault("coordinates", f"the coordinates of {name} in {where} are not finite", f"length.{name}")
        return axis
    steps = np.diff(values)
    if len(steps) and (steps < 0).all():
        contents.fault("descending", f"the coordinates of {name} in {where} descend", f"sort = {name}")
        return axis
    if (steps <= 0).any():
        period = axis.length or PERIODS.get(axis.units)
        spacing = float(np.median(np.abs(steps)))
        jump = float(steps[(steps <= 0).argmax()])
        if period is not None and abs(jump + period - spacing) < 0.01 * spacing + rounding:
            remedy = f"wrap.{name} = {values.min():g}"
            contents.fault("period", f"the coordinates of {name} in {where} jump back by a period", remedy)
        else:
            contents.fault("coordinates", f"the coordinates of {name} in {where} do not increase", f"sort = {name}")
        return axis
    if len(values) > 1:
        even = np.linspace(values[0], values[-1], len(values))
        if np.abs(values - even).max() > rounding + 1e-6 * float(steps.mean()):
            contents.fault(
                "uneven-axis",
                f"the coordinates of {name} in {where} are uneven: steps {steps.min():.6g} to {steps.max():.6g}",
                "interpolate them to an even grid, or accept = uneven-axis",
            )
            return replace(axis, values=values)
        if axis.values.dtype.itemsize < 8:
            values = _even(values, rounding)
            contents.note("coordinates", f"the coordinates of {name} are {axis.values.dtype}, even to rounding")
        axis = _placed(contents, name, replace(axis, values=values), rounding)
        _check_centres(contents, name, axis, rounding)
    return replace(axis, values=values)


def _placed(contents: Contents, name: str, axis: Axis, rounding: float) -> Axis:
    """Compare coordinates with the domain: its length, and whether they are points, centres, or repeat an end."""
    assert axis.values is not None
    values, n = axis.values, len(axis.values)
    spacing = float(values[-1] - values[0]) / (n - 1)
    near = 0.01 * spacing + rounding
    if axis.length is None:
        if axis.periodic or axis.kind == "cells":
            axis = replace(axis, length=spacing * n)
        elif axis.periodic is False and axis.kind == "points":
            axis = replace(axis, length=spacing * (n - 1))
        return axis
    extent = spacing * (n - 1)
    if abs(extent - axis.length) <= near and axis.periodic:
        contents.fault(
            "repeated-end-point",
            f"{name} of {contents.where} is periodic of length {axis.length:g} and has both ends: the last point is "
            "the first",
            f"drop_last_point = {name}",
        )
    elif abs(spacing * n - axis.length) > near and abs(extent - axis.length) > near:
        contents.fault(
            "length",
            f"the {n} coordinates of {name} in {contents.where} cover {spacing * n:g}, not the length {axis.length:g}",
            f"length.{name} = {spacing * n:.10g}, or select.{name}",
        )
    return axis


def _check_centres(contents: Contents, name: str, axis: Axis, rounding: float) -> None:
    """Compare where the coordinates begin with what they are said to be: points at 0, centres at half a spacing."""
    assert axis.values is not None
    values, n, where = axis.values, len(axis.values), contents.where
    spacing = float(values[-1] - values[0]) / (n - 1)
    near = 0.01 * spacing + rounding
    from_zero = abs(values[0]) < spacing - near
    around_zero = n % 2 == 0 and abs(values[0] + 0.5 * n * spacing) < spacing - near
    if not (from_zero or around_zero):
        return
    offset = float(np.mod(values[0] / spacing + 0.25, 1.0)) - 0.25  # 0 for points, 0.5 for centres
    looks = "points" if abs(offset) * spacing <= near else "cells" if abs(offset - 0.5) * spacing <= near else None
    if looks is None or looks == axis.kind:
        return
    place = f"the coordinates of {name} in {where} begin at {values[0]:.6g}, with the spacing {spacing:.6g}"
    if axis.kind == "unknown":
        contents.note("centres", f"{place}, as {'centres of cells' if looks == 'cells' else 'points'} would")
    else:
        mine = {"points": "points", "cells": "centres of cells"}
        contents.fault(
            "centres",
            f"{place}: they look like {mine[looks]}, and are said to be {mine[axis.kind]}",
            f"grid = {looks}, or accept = centres",
        )


def _list_missing(contents: Contents) -> None:
    """What the file does not say about its axes: coordinates, periodicity, and what the values belong to."""
    axes = {name: contents.axes.get(name, Axis()) for name in contents.space}
    axes = {name: axis for name, axis in axes.items() if axis.kind != "entities"}
    for code, bare, text, key in (
        ("coordinates", [n for n, a in axes.items() if a.values is None], "states no coordinates of", "length.{}"),
        ("grid", [n for n, a in axes.items() if a.kind == "unknown"], "does not say if values are at points or in "
         "cells along", "grid = points, or cells"),
        ("periodic", [n for n, a in axes.items() if a.periodic is None], "does not say if it is periodic along",
         "periodic = {}, or none"),
    ):  # fmt: skip
        if bare:
            found = f"{contents.where} {text} {', '.join(bare)}"
            contents.findings.append(_missing(code, found, key.format(",".join(bare) if "=" in key else bare[0])))


def _check_units(contents: Contents) -> None:
    bare = [name for name, v in contents.fields.items() if not v.units]
    if bare:
        key = f"units.{bare[0]}"
        contents.findings.append(_missing("units", f"{contents.where} states no units of {', '.join(bare)}", key))
    stated = {contents.axes[a].units for a in contents.space if a in ("x", "y", "z") and contents.axes[a].units}
    if len(stated) > 1 and not any("degree" in unit for unit in stated):
        contents.fault(
            "units",
            f"the axes of {contents.where} have different units: {', '.join(sorted(stated))}",
            "convert the coordinates to one unit",
        )


def _check_parameters(contents: Contents) -> None:
    count = contents.sizes.get(TRAJECTORY, 1)
    for name, value in contents.parameters.items():
        if isinstance(value, str):
            continue
        values = np.asarray(value, dtype=np.float64)
        if values.ndim and values.shape != (count,):
            contents.fault(
                "parameters",
                f"the parameter {name} of {contents.where} has {values.shape} values for {count} trajectories",
                f"parameters.{name}",
            )
        elif not np.isfinite(values).all():
            contents.fault("parameters", f"the parameter {name} of {contents.where} is missing for a trajectory",
                           f"parameters.{name}, or drop_trajectories")  # fmt: skip
        if name in contents.fields or name in contents.sizes or name in contents.axes:
            contents.fault("parameters", f"{name} of {contents.where} is a parameter and a field or an axis",
                           f"map another name to {name}")  # fmt: skip


def _missing(code: str, text: str, key: str) -> Finding:
    return Finding(f"missing-{code}", text, key)
