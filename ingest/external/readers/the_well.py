"""The Well (docs/data_format.md of github.com/PolymathicAI/the_well): HDF5 with fields of rank 0, 1 and 2.

`t0_fields`, `t1_fields`, `t2_fields`: datasets (trajectory, time, *spatial_dims, *components); the attributes
sample_varying, time_varying and dim_varying say which axes are there. Components are named as The Well names them:
velocity_x, stress_xy. Constant scalars are parameters.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np

from ..contents import TIME, TRAJECTORY, Axis, Contents, DataError, Variable
from ..lazy import Lazy
from ..options import Options
from ..recognise import Reader
from . import hdf5

RANKS = ("t0_fields", "t1_fields", "t2_fields")


class WellReader(Reader):
    """A file of The Well."""

    name = "the-well"
    order = 10

    def recognises(self, path: Path) -> bool:
        return {"dimensions", "t0_fields"} <= hdf5.keys(path)

    def read(self, path: Path, options: Options) -> Contents:
        with hdf5.open_file(path) as file:
            space = [str(hdf5.plain(d)) for d in hdf5.plain(file["dimensions"].attrs["spatial_dims"])]
            axes, sizes = _axes(file, space, path)
            attrs = hdf5.attributes(file)
            found = Contents(self.name, {}, axes, files=[path], origin=attrs)
            listed = hdf5.plain(attrs.get("simulation_parameters", []))
            found.parameters = {k: float(attrs[k]) for k in listed if isinstance(attrs.get(k), (int, float))}
            _scalars(file, found)
            fields = [
                (f"{group}/{name}", name, rank, hdf5.attributes(file[group][name]))
                for rank, group in enumerate(RANKS)
                if group in file
                for name in _names(file[group])
            ]
            trajectories = int(attrs.get("n_trajectories", 1))
        if str(attrs.get("grid_type", "cartesian")) != "cartesian":
            found.note("grid", f"the grid of {path.name} is {attrs['grid_type']}")
        for place, name, rank, about in fields:
            for component, data, dims in _components(path, place, rank, about, space, sizes):
                if TRAJECTORY in dims and data.shape[0] != trajectories:
                    raise DataError(
                        f"{path}: {name} has {data.shape[0]} trajectories, n_trajectories is {trajectories}. "
                        "Remedy: a complete copy of the file"
                    )
                found.fields[f"{name}{component}"] = Variable(dims, data)
        if not found.fields:
            raise DataError(f"{path} holds no field. Remedy: a complete copy of the file")
        return found


def _names(group: Any) -> list[str]:
    """The fields of a group in the order of its attribute, then those that the attribute leaves out."""
    listed = [str(name) for name in hdf5.plain(group.attrs.get("field_names", []))]
    return [name for name in listed if name in group] + [name for name in group if name not in listed]


def _axes(file: Any, space: list[str], path: Path) -> tuple[dict[str, Axis], dict[str, int]]:
    """Axes of time and space, with what the boundary conditions say, and the number of points along each."""
    dimensions = file["dimensions"]
    if lost := [d for d in ("time", *space) if d not in dimensions]:
        raise DataError(f"{path}: dimensions/{lost[0]} is missing. Remedy: a complete copy of the file")
    periodic: dict[str, bool] = {}
    for boundary in file.get("boundary_conditions", {}).values():
        kind = str(hdf5.plain(boundary.attrs.get("bc_type", ""))).lower()
        listed = hdf5.plain(boundary.attrs.get("associated_dims", []))
        for axis in [listed] if isinstance(listed, str) else listed:
            periodic[axis] = periodic.get(axis, True) and kind == "periodic"
    axes = {TIME: Axis(dimensions["time"][()])}
    sizes = {}
    for axis in space:
        values = dimensions[axis][()]
        values = values[0] if values.ndim == 2 and (values == values[0]).all() else values
        axes[axis] = Axis(values, periodic=periodic.get(axis))
        sizes[axis] = values.shape[-1]
    return axes, sizes


def _components(
    path: Path, place: str, rank: int, about: dict[str, Any], space: list[str], sizes: dict[str, int]
) -> list[tuple[str, Lazy, tuple[str, ...]]]:
    """(suffix of the name, array, dimensions) of each component of a field, along all axes of the grid."""
    data = hdf5.lazy(path, place)
    varying = about.get("dim_varying", [True] * len(space))
    leading = [a for a, key in ((TRAJECTORY, "sample_varying"), (TIME, "time_varying")) if about.get(key, True)]
    dims = (*leading, *(a for a, varies in zip(space, varying, strict=True) if varies))
    if data.ndim != len(dims) + rank:
        raise DataError(
            f"{path}: {place} has {data.ndim} axes, its attributes announce {len(dims) + rank} "
            f"({', '.join(dims)} and {rank} of components). Remedy: a file that follows the format"
        )
    for axis, varies in zip(space, varying, strict=True):
        if not varies:  # the same along this axis
            position = len(leading) + space.index(axis)
            data = data.expand(position).take(position, np.zeros(sizes[axis], dtype=np.intp))
    found = []
    for component in itertools.product(range(len(space)), repeat=rank):
        part = data
        for index in component:
            part = part.pick(len(leading) + len(space), index)
        suffix = "_" + "".join(space[i] for i in component) if rank else ""
        found.append((suffix, part, (*leading, *space)))
    return found


def _scalars(file: Any, found: Contents) -> None:
    for name, scalar in file.get("scalars", {}).items():
        about = hdf5.attributes(scalar)
        if about.get("time_varying", False):
            found.note("scalars", f"the scalar {name} varies in time, and is not read")
            continue
        values = np.asarray(scalar[()], dtype=np.float64)
        if about.get("sample_varying", False):
            found.parameters[name] = values.reshape(len(values))
        elif values.size == 1:
            found.parameters[name] = float(values.reshape(()))
