"""States in NetCDF files and Zarr stores: variables named as the fields, with named dimensions and coordinates."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..backend.files import DamagedFile, require_regular
from ..backend.netcdf import MAGIC
from ..equations.base import Equation

HDF5 = b"\x89HDF"
SAME_TIME = 1e-6  # relative to the largest time


def is_labelled(path: Path) -> bool:
    """Whether it is a Zarr store, or begins as NetCDF files do. Raises as `files.require_regular` does."""
    try:
        if path.is_dir():
            return True
    except OSError:  # such as a name that is too long
        return False
    require_regular(path)
    with path.open("rb") as file:
        start = file.read(4)
    return start in MAGIC or start == HDF5


def read(
    path: Path, equation: Equation, axes: tuple[str, ...], time: float | None, largest: int
) -> tuple[NDArray[np.float64], dict[str, NDArray]]:
    """The state, (entry, field, *axes), and the coordinates by axis.

    time: that of the output to read; by default the last. Raises ValueError, with the key and the remedy, for a file
    without a field, with other dimensions or without that time; DamagedFile for one that cannot be read.
    """
    try:
        opened = _open(path)
    except (ValueError, OSError, KeyError, ImportError, RuntimeError) as error:
        if isinstance(error, FileNotFoundError) and not path.exists():
            raise
        raise DamagedFile(f"{path} cannot be read as NetCDF or Zarr ({str(error).splitlines()[0]})") from None
    with opened as data:
        parts, coordinates = [], {}
        for field in equation.fields:
            if field.name not in data:
                raise ValueError(
                    f"path: {path} has the variables {sorted(map(str, data.data_vars))}, expected {field.name!r}. "
                    f"Remedy: name the variables {', '.join(f.name for f in equation.fields)}"
                )
            values = data[field.name]
            if "time" in values.dims:
                values = values.isel(time=_index(path, np.asarray(values["time"].values), time))
            elif time is not None:
                raise ValueError(f"time: {field.name} in {path} has no dimension time. Remedy: remove initial.time")
            if set(values.dims) - {"member"} != set(axes) or values.dtype.kind not in "fiu":
                raise ValueError(
                    f"path: {field.name} in {path} is {values.dtype} with dimensions {list(map(str, values.dims))}, "
                    f"expected real numbers with {list(axes)}, and member and time if there are several. "
                    "Remedy: rename the dimensions"
                )
            if 8 * math.prod(values.shape) * len(equation.fields) > largest:
                raise ValueError(f"path: {path} is larger than the {largest / 1e6:.3g} MB expected here")
            values = values.transpose(*(["member"] if "member" in values.dims else []), *axes)
            for name in axes:
                if name not in values.coords:
                    raise ValueError(f"path: {path} has no coordinates {name}. Remedy: add them to the file")
                coordinates[name] = np.asarray(values[name].values)
            array = np.asarray(values.values, dtype=np.float64)
            parts.append(array if "member" in values.dims else array[None])
    if len({part.shape for part in parts}) > 1:
        raise ValueError(f"path: the fields in {path} have the shapes {[p.shape for p in parts]}. Remedy: equal shapes")
    return np.stack(parts, axis=1), coordinates


def _open(path: Path) -> Any:
    import xarray  # imported here: it takes a second

    if path.is_dir():
        return xarray.open_zarr(path, consolidated=False, decode_times=False)
    with path.open("rb") as file:
        engine = "scipy" if file.read(4) in MAGIC else "h5netcdf"
    return xarray.open_dataset(path, engine=engine, decode_times=False)  # type: ignore[arg-type]


def _index(path: Path, times: NDArray, time: float | None) -> int:
    if time is None:
        return len(times) - 1
    index = int(np.abs(times - time).argmin())
    if abs(times[index] - time) > SAME_TIME * max(float(np.abs(times).max()), 1e-300):
        raise ValueError(f"time: {path} has no t = {time:.10g}. Remedy: the nearest is {times[index]:.10g}")
    return index
