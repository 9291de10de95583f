"""NetCDF and Zarr with named dimensions, by xarray: jax-cfd, pyqg, and any model that writes them.

Axes and their roles follow from CF attributes (axis, standard_name) and from common names; `map` names the others, as
in map = {time = "ocean_time", vorticity = "xi"}. Values under a fill value are missing values.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..contents import TIME, TRAJECTORY, Axis, Contents, DataError, Variable
from ..lazy import Key, Lazy
from ..options import Options
from ..recognise import Reader
from . import hdf5

if TYPE_CHECKING:
    import xarray as xr

NETCDF3 = (b"CDF\x01", b"CDF\x02", b"CDF\x05")
ZARR = ("zarr.json", ".zgroup", ".zmetadata")
ROLES = {
    TIME: ("time", "t", "Time", "times"),
    TRAJECTORY: ("trajectory", "sample", "batch", "member", "ensemble", "realization", "run"),
    "x": ("x", "lon", "longitude"),
    "y": ("y", "lat", "latitude"),
    "z": ("z",),
}
STANDARD = {"time": TIME, "realization": TRAJECTORY, "longitude": "x", "latitude": "y"}
STANDARD |= {f"projection_{a}_coordinate": a for a in "xy"}
LETTERS = {"T": TIME, "X": "x", "Y": "y", "Z": "z", "E": TRAJECTORY}
FULL_CIRCLE = 360.0


class NamedReader(Reader):
    """A NetCDF file, or a Zarr store."""

    name = "netcdf"
    order = 70

    def recognises(self, path: Path) -> bool:
        if path.is_dir():
            return any((path / name).is_file() for name in ZARR)
        return hdf5.is_hdf5(path) or _is_netcdf3(path)

    def read(self, path: Path, options: Options) -> Contents:
        return contents(open_named(path), path, options)


def _is_netcdf3(path: Path) -> bool:
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(4) in NETCDF3
    except OSError:
        return False


def open_named(path: Path, raw: bool = False) -> xr.Dataset:
    """The dataset of a NetCDF file or Zarr store, not decoded if `raw`. Raises DataError if it is damaged."""
    import xarray as xr

    extra: dict[str, Any]
    engine, extra = ("zarr", {"consolidated": False}) if path.is_dir() else ("scipy", {})
    if hdf5.is_hdf5(path):
        with hdf5.open_file(path):
            engine, extra = "h5netcdf", {"phony_dims": "sort"}
    try:
        return xr.open_dataset(
            path, engine=engine, chunks=None, decode_times=False, mask_and_scale=not raw, cache=False, **extra
        )
    except (MemoryError, KeyboardInterrupt):
        raise
    except Exception as error:  # each library has errors of its own for damaged files
        detail = str(error).partition("\n")[0] or type(error).__name__
        raise DataError(f"{path} is damaged ({detail}). Remedy: a complete copy of it") from None


def lazy(variable: xr.DataArray) -> Lazy:
    """A variable as an array that is read when it is indexed."""
    inner = variable.variable

    def read(key: Key) -> NDArray:
        return np.asarray(inner[key].values)

    chunks = variable.encoding.get("chunks") or variable.encoding.get("chunksizes")
    return Lazy(tuple(variable.shape), np.dtype(variable.dtype), read, None if chunks is None else tuple(chunks))


def contents(data: xr.Dataset, path: Path, options: Options) -> Contents:
    """The contents of a dataset with named dimensions."""
    asked = {options.map.get(name, name) for name in options.fields}
    given = {old: new for new, old in options.map.items()}
    roles = _roles(data, given)
    bounds = {str(v.attrs[k]) for v in data.variables.values() for k in ("bounds", "climatology") if k in v.attrs}
    found = Contents("netcdf", {}, {}, files=[path], origin=_plain(data.attrs))
    for key, variable in data.data_vars.items():
        name = str(key)
        numeric = variable.dtype.kind in "fiub"
        dims = tuple(roles.get(str(d), str(d)) for d in variable.dims)
        if name in bounds or (asked and name not in asked):
            continue
        if not numeric or len(set(dims)) != len(dims):
            found.note("unread", f"{name} of {path.name} is {variable.dtype} and is not read")
        elif not dims and name not in asked:
            found.parameters[name] = variable.values.item()
        elif TIME in dims or name in asked or TIME not in roles.values():
            about = variable.attrs
            label = str(about.get("long_name", about.get("standard_name", "")))
            found.fields[name] = Variable(dims, lazy(variable), str(about.get("units", "")), label)
        elif dims == (TRAJECTORY,):
            found.parameters[name] = variable.values.astype(np.float64)
        elif len(dims) > 1:
            found.fields[name] = Variable(dims, lazy(variable), str(variable.attrs.get("units", "")))
    if not found.fields:
        raise DataError(
            f"{path} holds no field of numbers. Its variables: {', '.join(map(str, data.variables)) or 'none'}. "
            "Remedy: another file, or `fields` and `map`"
        )
    for key, dim in ((str(d), roles.get(str(d), str(d))) for d in data.dims):
        if dim != TRAJECTORY:
            found.axes[dim] = _axis(found, data, key, dim)
    for name, old in ((n, str(c)) for n, c in ((roles.get(str(c), str(c)), c) for c in data.coords)):
        coordinate = data[old]
        if coordinate.dims == () and coordinate.dtype.kind in "fiu" and name not in found.axes:
            found.parameters[old] = float(coordinate.values)
        elif (
            old not in data.dims
            and [roles.get(str(d)) for d in coordinate.dims] == [TRAJECTORY]
            and coordinate.dtype.kind in "fiu"
        ):
            found.parameters[old] = coordinate.values.astype(np.float64)
    for name, value in found.origin.items():
        if isinstance(value, (int, float)) and not isinstance(value, bool) and name not in found.parameters:
            found.parameters[name] = float(value)
    renamed = [f"{role} = {old}" for old, role in roles.items() if role != old and old not in given]
    if renamed:
        found.note("names", f"axes of {path.name} by their attributes and names: {', '.join(renamed)}")
    found.mapped = {new: old for old, new in given.items() if roles.get(old) == new}
    return found


def _roles(data: xr.Dataset, given: dict[str, str]) -> dict[str, str]:
    """The schema's name of each dimension that has one: by `map`, attributes, then common names."""
    roles = {str(d): given[str(d)] for d in data.dims if str(d) in given}
    taken = set(roles.values())
    known: list[tuple[str, str]] = []
    for dim in map(str, data.dims):
        if dim in data.coords:
            about = data[dim].attrs
            role = LETTERS.get(str(about.get("axis", ""))) or STANDARD.get(str(about.get("standard_name", "")))
            if role is not None:
                known.append((dim, role))
    known += [
        (dim, role) for role, names in ROLES.items() for name in names for dim in map(str, data.dims) if dim == name
    ]
    for dim, role in known:
        if dim not in roles and role not in taken:
            roles[dim] = role
            taken.add(role)
    return roles


def _axis(found: Contents, data: xr.Dataset, dim: str, name: str) -> Axis:
    if dim not in data.coords:
        return Axis()
    about = data[dim].attrs
    axis = Axis(data[dim].values, str(about.get("units", "")), long_name=str(about.get("long_name", "")))
    if axis.units.startswith("degree") and name == "x" and len(data[dim]) > 2:
        values = np.sort(np.mod(axis.values.astype(np.float64), FULL_CIRCLE))  # type: ignore[union-attr]
        steps = np.diff(np.append(values, values[0] + FULL_CIRCLE))
        if np.allclose(steps, FULL_CIRCLE / len(values), rtol=1e-3):
            found.note("periodic", f"{dim} covers the circle: it is periodic of length 360")
            axis = replace(axis, periodic=True, length=FULL_CIRCLE)
    return axis


def _plain(attrs: Any) -> dict[str, Any]:
    return {str(k): hdf5.plain(v) for k, v in attrs.items()}
