"""What the user says about the data, applied to the contents of a file in a fixed order. Nothing is guessed here.

Names, units and other missing facts come first; then exchanged axes, times, selections, and the order of coordinates.
Every change is listed in `Contents.corrections`.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .contents import TIME, TRAJECTORY, Axis, Contents, DataError
from .options import Options, Selection

PERIODS = {"degrees_east": 360.0, "degree_east": 360.0, "degrees": 360.0, "radians": 2 * np.pi, "rad": 2 * np.pi}


def corrected(contents: Contents, options: Options) -> Contents:
    """The contents with the names, facts and corrections of the options.

    Raises DataError, with the key, for a name that the data lack and a correction that does not fit them.
    """
    contents = _renamed(contents, options)
    _described(contents, options)
    if options.transpose:
        _exchange(contents, *options.transpose)
    if options.fill_value is not None:
        _mark_missing(contents, options.fill_value)
    _time(contents, options)
    for index in options.drop_trajectories:
        _require_index(contents, index)
    if options.drop_trajectories:
        kept = np.setdiff1d(np.arange(contents.sizes.get(TRAJECTORY, 1)), options.drop_trajectories)
        _take(contents, TRAJECTORY, kept, "drop_trajectories")
    for name, selection in options.select.items():
        chosen = _indices(contents, name, selection)
        if name in contents.space:
            _cut(contents, name, chosen)
        _take(contents, name, chosen, "select")
    for name in options.drop_last_point:
        axis = _axis(contents, name, "drop_last_point")
        if axis.values is not None and len(axis.values) > 1:
            axis = replace(axis, length=abs(float(axis.values[-1]) - float(axis.values[0])))
        contents.axes[name] = replace(axis, periodic=True, kind="points")
        _take(contents, name, np.arange(_size(contents, name) - 1), "drop_last_point")
    for name, lowest in options.wrap.items():
        _wrap(contents, name, lowest)
    for name in options.sort:
        axis = _axis(contents, name, "sort")
        if axis.values is None:
            raise DataError(f"sort: {name} of {contents.where} has no coordinates")
        _take(contents, name, np.argsort(axis.values, kind="stable"), "sort")
    return contents


def _renamed(contents: Contents, options: Options) -> Contents:
    """The contents with new names, and the chosen fields alone."""
    names = {old: new for new, old in options.map.items() if contents.mapped.get(new) != old}
    known = {**contents.fields, **contents.axes, **contents.parameters, **contents.sizes}
    if wrong := [old for old in names if old not in known]:
        raise DataError(f"map: {contents.where} has no {wrong[0]!r}. Remedy: one of {', '.join(known)}")
    fields = {
        names.get(name, name): replace(v, dims=tuple(names.get(d, d) for d in v.dims))
        for name, v in contents.fields.items()
    }
    if wrong := [name for name in options.fields if name not in fields]:
        raise DataError(f"fields: {contents.where} has no field {wrong[0]!r}. Remedy: any of {', '.join(fields)}")
    if options.fields:
        fields = {name: fields[name] for name in options.fields}
    used = {d for v in fields.values() for d in v.dims}
    return replace(
        contents,
        fields=fields,
        axes={names.get(k, k): a for k, a in contents.axes.items() if names.get(k, k) in used},
        parameters={names.get(k, k): v for k, v in contents.parameters.items()},
        findings=list(contents.findings),
        corrections=[f"map {new} = {old}" for new, old in options.map.items()],
        accepted=tuple(dict.fromkeys((*contents.accepted, *options.accept))),
    )


def _described(contents: Contents, options: Options) -> None:
    """Put what the file does not say: units, domain, kind of grid, periodicity, parameters."""
    for name in contents.sizes:
        if name != TRAJECTORY:
            contents.axes.setdefault(name, Axis())
    for name, units in options.units.items():
        if name in contents.fields:
            contents.fields[name] = replace(
                contents.fields[name], units=_agreed(contents, name, contents.fields[name].units, units)
            )
        else:
            axis = _axis(contents, name, "units")
            contents.axes[name] = replace(axis, units=_agreed(contents, name, axis.units, units))
    space = contents.space
    for key, values in (("length", options.length), ("origin", options.origin)):
        for name in values:
            if name not in space:
                raise DataError(f"{key}: {contents.where} has no axis {name!r}. Remedy: any of {', '.join(space)}")
    for name in space:
        axis = contents.axes[name]
        if options.grid is not None and axis.kind != "entities":
            axis = replace(axis, kind=options.grid)
        if options.periodic is not None:
            axis = replace(axis, periodic=name in options.periodic)
        if name in options.length:
            axis = replace(axis, length=options.length[name])
        if axis.values is None and name in options.length:
            axis = replace(axis, values=_uniform(axis, _size(contents, name), options.origin.get(name, 0.0)))
        contents.axes[name] = axis
    if options.periodic is not None:
        wrong = [name for name in options.periodic if name not in (*space, "none")]
        if wrong or ("none" in options.periodic and len(options.periodic) > 1):
            raise DataError(
                f"periodic: expected any of {', '.join(space)}, or none; found {', '.join(options.periodic)}"
            )
    if options.pattern is not None:
        contents.parameters |= _from_name(contents, options.pattern)
    for name, value in options.parameters.items():
        before = contents.parameters.get(name, value)
        if not np.allclose(before, value):
            raise DataError(f"parameters.{name}: {contents.where} states {before}, not {value}. Remedy: leave it out")
        contents.parameters[name] = value


def _agreed(contents: Contents, name: str, stated: str, given: str) -> str:
    if stated not in ("", given):
        raise DataError(
            f"units.{name}: {contents.where} states {stated!r}, not {given!r}. "
            "Remedy: leave it out, or convert the data"
        )
    return given


def _uniform(axis: Axis, n: int, origin: float) -> NDArray:
    """Coordinates of n cells or points of a domain; points include its end unless the axis is periodic."""
    assert axis.length is not None
    if axis.kind == "cells":
        return origin + (np.arange(n) + 0.5) * (axis.length / n)
    return origin + np.arange(n) * (axis.length / (n if axis.periodic is not False else max(1, n - 1)))


def parameters_of_name(name: str, pattern: str) -> dict[str, float] | None:
    """Numbers in a file's name where the pattern has {parameter}; None if the name is not of this form.

    A pattern may match a part of the name.
    """
    parts = re.split(r"\{(\w+)\}", pattern)
    number = r"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)"
    expression = number.join(re.escape(text) for text in parts[::2])
    found = re.search(expression, name)
    return None if found is None else dict(zip(parts[1::2], map(float, found.groups()), strict=True))


def _from_name(contents: Contents, pattern: str) -> dict[str, Any]:
    if "{" not in pattern:
        raise DataError("pattern: expected a name with {parameter}, as in Burgers_Nu{nu}.hdf5")
    names = contents.origin.get("sources") or contents.files
    found: list[dict[str, float]] = []
    for name in names:
        values = parameters_of_name(Path(name).name, pattern)
        if values is None:
            raise DataError(f"pattern: {pattern!r} does not fit the name {Path(name).name!r}. Remedy: correct it")
        found.append(values)
    if len(found) == 1:
        return dict(found[0])
    if len(found) != contents.sizes.get(TRAJECTORY):
        raise DataError("pattern: expected one trajectory in each file. Remedy: leave it out, and give `parameters`")
    return {key: np.array([values[key] for values in found]) for key in found[0]}


def _exchange(contents: Contents, one: str, other: str) -> None:
    """Exchange the names of two axes on every field; the coordinates keep their names."""
    for name in (one, other):
        if name not in contents.space:
            raise DataError(f"transpose: {contents.where} has no axis {name!r}. Remedy: two of {contents.space}")
    swap = {one: other, other: one}
    for name, v in contents.fields.items():
        contents.fields[name] = replace(v, dims=tuple(swap.get(d, d) for d in v.dims))
    contents.corrections.append(f"transpose {one},{other}")


def _mark_missing(contents: Contents, fill: float) -> None:
    for name, v in contents.fields.items():

        def marked(values: NDArray) -> NDArray:
            with np.errstate(over="ignore"):  # a number that the type cannot hold
                number = np.asarray(fill).astype(values.dtype)
            return np.where(values == number, np.nan, values).astype(values.dtype)

        if v.data.dtype.kind == "f":
            contents.fields[name] = replace(v, data=v.data.apply(marked, v.data.dtype))
    contents.corrections.append(f"fill_value {fill:g}")


def _time(contents: Contents, options: Options) -> None:
    """The times that the user gives, or those of the file without the one after the last state."""
    count = contents.sizes.get(TIME)
    axis = contents.axes.get(TIME, Axis())
    if options.times is not None and count is not None:
        values = _times(options.times, count)
        if len(values) != count:
            raise DataError(f"times: {len(values)} are given, {contents.where} has {count} states")
        contents.axes[TIME] = replace(axis, values=values)
        contents.corrections.append("times")
    elif options.drop_last_time:
        if axis.values is None or count is None or len(axis.values) != count + 1:
            raise DataError(f"drop_last_time: {contents.where} has not one time more than states. Remedy: leave it out")
        contents.axes[TIME] = replace(axis, values=axis.values[:-1])
        contents.corrections.append("drop_last_time")


def _times(given: str | list[float], count: int) -> NDArray:
    if not isinstance(given, str):
        return np.array(given, dtype=np.float64)
    try:
        start, step = (float(part) for part in given.split(":"))
    except ValueError:
        raise DataError(f"times: expected START:STEP or a list of numbers, found {given!r}") from None
    return start + step * np.arange(count)


def _axis(contents: Contents, name: str, key: str) -> Axis:
    if name not in contents.axes:
        raise DataError(f"{key}: {contents.where} has no axis {name!r}. Remedy: any of {', '.join(contents.axes)}")
    return contents.axes[name]


def _size(contents: Contents, name: str) -> int:
    return contents.sizes[name]


def _require_index(contents: Contents, index: int) -> None:
    count = contents.sizes.get(TRAJECTORY, 1)
    if not 0 <= index < count:
        raise DataError(f"drop_trajectories: {contents.where} has the trajectories 0 to {count - 1}, not {index}")


def _indices(contents: Contents, name: str, selection: Selection) -> NDArray[np.intp]:
    if name not in contents.sizes:
        raise DataError(f"select: {contents.where} has no axis {name!r}. Remedy: any of {', '.join(contents.sizes)}")
    n = _size(contents, name)
    if isinstance(selection, str) and "," in selection:
        selection = [int(part) if part.strip().isdigit() else -1 for part in selection.split(",")]
    if isinstance(selection, str):
        try:
            parts = [int(part) if part.strip() else None for part in selection.split(":")]
            whole = list(range(n))
            chosen = np.array(whole[slice(*parts)] if len(parts) > 1 else [whole[int(selection)]], dtype=np.intp)
        except (ValueError, TypeError, IndexError):
            raise DataError(f"select.{name}: expected START:STOP:STEP in 0 to {n}, found {selection!r}") from None
    else:
        chosen = np.array(selection, dtype=np.intp)
        if ((chosen < 0) | (chosen >= n)).any():
            raise DataError(f"select.{name}: expected indices of 0 to {n - 1}, found {selection}")
    return chosen


def _cut(contents: Contents, name: str, chosen: NDArray[np.intp]) -> None:
    """Forget the period of an axis, unless every n-th of its points is kept."""
    axis, n = contents.axes[name], _size(contents, name)
    stride = n // max(1, len(chosen))
    whole = len(chosen) * stride == n and (chosen == stride * np.arange(len(chosen))).all()
    if not whole or (stride > 1 and axis.kind != "points"):
        contents.axes[name] = replace(axis, length=None, periodic=False)


def _take(contents: Contents, name: str, chosen: NDArray[np.intp], key: str) -> None:
    """Keep some entries of an axis, in this order, on every field, coordinate and parameter that has it."""
    if not len(chosen):
        raise DataError(f"{key}: nothing is left of {name} in {contents.where}. Remedy: keep at least one entry")
    n = _size(contents, name)
    for field, v in contents.fields.items():
        if name in v.dims:
            contents.fields[field] = replace(v, data=v.data.take(v.axis(name), chosen))
    axis = contents.axes.get(name)
    if axis is not None and axis.values is not None and axis.values.shape[-1] == n:
        contents.axes[name] = replace(axis, values=axis.values[..., chosen])
    if name == TRAJECTORY:
        for key_, value in contents.parameters.items():
            if isinstance(value, np.ndarray) and value.shape == (n,):
                contents.parameters[key_] = value[chosen]
    contents.corrections.append(f"{key} {name}: {len(chosen)} of {n}")


def _wrap(contents: Contents, name: str, lowest: float) -> None:
    axis = _axis(contents, name, "wrap")
    period = axis.length or PERIODS.get(axis.units)
    if axis.values is None or period is None:
        raise DataError(f"wrap.{name}: its period is not known. Remedy: length.{name}")
    values = lowest + np.mod(axis.values.astype(np.float64) - lowest, period)
    contents.axes[name] = replace(axis, values=values, length=period, periodic=True)
    _take(contents, name, np.argsort(values, kind="stable"), "wrap")
