"""The schema of data: an xarray Dataset with one variable per field, (trajectory, time, *axes).

dimensions   trajectory, time, then the axes of the grid in array order: z, y, x, or v, x; "entity" for particles
fields       data variables with `units`, `long_name` and role = "field"; those that do not vary in time lack its axis
             and have role = "static", and those that only vary in time have role = "series"
coordinates  time and the axes, in double precision, with `units`; an axis also has `grid` ("points", "cells",
             "entities" or "unknown"), `periodic` ("yes", "no" or "unknown") and, where it is known, `length`, the
             period or extent
parameters   coordinates without dimension, or (trajectory,), with role = "parameter"
attributes   schema, format; as JSON: provenance (files, version, corrections, what the source says), findings, and the
             codes of faults that are accepted
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .contents import ENTITY, TIME, TRAJECTORY, Axis, Contents, DataError, Variable
from .lazy import wrapped

if TYPE_CHECKING:
    import xarray as xr

SCHEMA = "subgrid-data-1"
ORDER = ("z", "y", "v", "x")
WORDS: dict[bool | None, str] = {True: "yes", False: "no", None: "unknown"}


def ordered(contents: Contents) -> Contents:
    """The contents with the dimensions of the schema: every field that has times also has trajectories, first."""
    space = contents.space
    if set(space) <= set(ORDER):
        space = tuple(sorted(space, key=ORDER.index))
    order = (TRAJECTORY, TIME, *space)
    fields = {}
    for name, v in contents.fields.items():
        if unknown := [d for d in v.dims if d not in order]:
            raise DataError(
                f"{contents.where}: {name} has the axis {unknown[0]}, the other fields have {', '.join(space)}. "
                "Remedy: name the fields that belong together with `fields`, or map its axes"
            )
        dims, data = v.dims, v.data
        if TIME in dims and set(space) & set(dims) and not set(space) <= set(dims):
            missing = [d for d in space if d not in dims]
            raise DataError(
                f"{contents.where}: {name} varies in time, but not along {', '.join(missing)}. "
                "Remedy: leave it out with `fields`"
            )
        for axis in (TIME, TRAJECTORY) if not _static(contents, v) else ():
            if axis not in dims:
                dims, data = (axis, *dims), data.expand(0)
        wanted = tuple(d for d in order if d in dims)
        if wanted != dims:
            data = data.transpose([dims.index(d) for d in wanted])
        fields[name] = Variable(wanted, data, v.units, v.long_name)
    return replace(contents, fields=fields)


def _static(contents: Contents, variable: Variable) -> bool:
    """Whether a field lacks time although others have it."""
    return TIME not in variable.dims and any(TIME in v.dims for v in contents.fields.values())


def _role(contents: Contents, variable: Variable) -> str:
    if _static(contents, variable):
        return "static"
    return "series" if contents.space and variable.dims == (TRAJECTORY, TIME) else "field"


def dataset(contents: Contents) -> xr.Dataset:
    """The dataset of ordered contents; fields stay in their files until they are indexed."""
    import xarray as xr

    sizes = contents.sizes
    coords: dict[str, Any] = {}
    for name in (TRAJECTORY, TIME, *contents.space):
        if name in sizes:
            axis = contents.axes.get(name, Axis())
            values = np.arange(sizes[name]) if axis.values is None else axis.values
            coords[name] = (name, values, _describe(name, axis))
    for name, value in contents.parameters.items():
        dims = (TRAJECTORY,) if isinstance(value, np.ndarray) and value.ndim else ()
        coords[name] = (dims, value, {"role": "parameter"})
    variables = {
        name: (
            v.dims,
            wrapped(v.data),
            {"units": v.units, "long_name": v.long_name or name, "role": _role(contents, v)},
        )
        for name, v in contents.fields.items()
    }
    found = xr.Dataset(
        {k: xr.Variable(*v) for k, v in variables.items()},
        coords=coords,
        attrs={
            "schema": SCHEMA,
            "format": contents.format,
            "provenance": json.dumps(provenance(contents)),
            "findings": json.dumps([str(f) for f in contents.findings]),
            "accepted": json.dumps(list(contents.accepted)),
        },
    )
    for name, v in contents.fields.items():
        if v.data.chunks is not None:
            found[name].encoding["preferred_chunks"] = dict(zip(v.dims, v.data.chunks, strict=True))
    return found


def _describe(name: str, axis: Axis) -> dict[str, Any]:
    attrs: dict[str, Any] = {"units": axis.units, "long_name": axis.long_name or name}
    if name in (TRAJECTORY, TIME):
        return attrs if axis.values is not None or name == TRAJECTORY else attrs | {"numbered": "yes"}
    attrs |= {"grid": axis.kind, "periodic": WORDS[axis.periodic]}
    if axis.length is not None:
        attrs["length"] = axis.length
    return attrs if axis.values is not None or axis.kind == "entities" else attrs | {"numbered": "yes"}


def provenance(contents: Contents) -> dict[str, Any]:
    """What the data come from: files with size and time of change, version, corrections, and the source's words."""
    from importlib.metadata import version

    files = {}
    for file in contents.files[:1000]:
        found = file.stat()
        files[str(file)] = {"modified": found.st_mtime} | ({"bytes": found.st_size} if file.is_file() else {})
    return {
        "format": contents.format,
        "files": files,
        "subgrid": version("subgrid"),
        "corrections": contents.corrections,
        "origin": contents.origin,
    }


def of_dataset(data: xr.Dataset, where: Path, lazies: dict[str, Any]) -> Contents:
    """The contents of a dataset that has the schema. lazies: the fields, as `Lazy` arrays, by name."""
    axes = {}
    for name in data.dims:
        if name not in data.coords or name == TRAJECTORY:
            continue
        coordinate = data[name]
        a = coordinate.attrs
        values = None if a.get("numbered") == "yes" or a.get("grid") == "entities" else coordinate.values
        axes[str(name)] = Axis(
            values,
            a.get("units", ""),
            a.get("grid", "unknown"),
            {"yes": True, "no": False}.get(a.get("periodic", "")),
            a.get("length"),
            a.get("long_name", ""),
        )
    parameters: dict[str, Any] = {}
    for name, coordinate in data.coords.items():
        if coordinate.attrs.get("role") == "parameter":
            parameters[str(name)] = coordinate.values if coordinate.ndim else coordinate.values.item()
    fields = {
        name: Variable(
            tuple(map(str, data[name].dims)),
            lazy,
            data[name].attrs.get("units", ""),
            data[name].attrs.get("long_name", ""),
        )
        for name, lazy in lazies.items()
    }
    before = json.loads(data.attrs.get("provenance", "{}"))
    accepted = tuple(json.loads(data.attrs.get("accepted", "[]")))
    form = data.attrs.get("format", "subgrid")
    return Contents(form, fields, axes, parameters, files=[where], origin=before, accepted=accepted)


def fields_of(data: xr.Dataset) -> list[str]:
    """The names of the fields of a dataset that vary in time."""
    return [str(name) for name, v in data.data_vars.items() if v.attrs.get("role") == "field"]


def states(data: xr.Dataset, names: Sequence[str] | None = None) -> NDArray:
    """The fields as one array (trajectory, time, field, *axes), which is read now."""
    chosen = fields_of(data) if names is None else list(names)
    return np.stack([data[name].values for name in chosen], axis=2)


def entities(contents: Contents) -> bool:
    """Whether the data are of particles, not of a grid."""
    return ENTITY in contents.space
