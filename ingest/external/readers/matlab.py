"""MATLAB: version 5 by scipy.io, version 7.3, which is HDF5 with all axes reversed, by h5py.

The layout of the Fourier neural operator's data: `u` (sample, x[, y], time), input `a` (sample, x[, y]), `t` (1, T).
Other arrays are read with `axes`, which names those of the largest array in MATLAB's order.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from subgrid.solver.backend.files import LARGEST

from ..contents import TIME, TRAJECTORY, Axis, Contents, DataError, Variable
from ..lazy import Lazy
from ..options import Options
from ..recognise import Reader
from . import hdf5
from .apebench import CHANNEL, SPACE, channels, named

WORD = b"MATLAB "
TIMES = ("t", "time", "tspan", "times")


class MatlabReader(Reader):
    """A .mat file."""

    name = "matlab"
    order = 35
    unnamed = True

    def recognises(self, path: Path) -> bool:
        try:
            if not path.is_file():
                return False
            with path.open("rb") as file:
                return file.read(len(WORD)) == WORD
        except OSError:
            return False

    def read(self, path: Path, options: Options) -> Contents:
        arrays = _version_73(path) if hdf5.is_hdf5(path) else _version_5(path)
        if not arrays:
            raise DataError(f"{path} holds no array of numbers. Remedy: save the fields as arrays, not as structures")
        shapes = {name: [n for n in a.shape if n > 1] for name, a in arrays.items()}
        main = max(arrays, key=lambda name: math.prod(arrays[name].shape))
        times = next((t for t in TIMES if t in arrays and len(shapes[t]) <= 1 and t != main), None)
        count = None if times is None else math.prod(arrays[times].shape)
        dims = named(path, arrays[main], options, _dims(arrays[main].shape, count))
        sizes = dict(zip(dims, arrays[main].shape, strict=True))
        found = Contents(self.name, channels(arrays[main], dims, (main,)), {}, files=[path])
        if list(found.fields) == ["u"] and main != "u":
            found.fields = {main: found.fields["u"]}
        for axis in dims:
            if axis in (TRAJECTORY, CHANNEL):
                continue
            name = times if axis == TIME else axis
            found.axes[axis] = Axis()
            if name in arrays and len(shapes[name]) <= 1:
                found.axes[axis] = Axis(arrays[name][...].reshape(-1))
        still = tuple(d for d in dims if d != TIME)
        for name, array in arrays.items():
            if name in (main, times, *dims):
                continue
            if math.prod(array.shape) == 1:
                found.parameters[name] = float(array[...].reshape(()))
            elif array.shape == arrays[main].shape and CHANNEL not in dims:
                found.fields[name] = Variable(dims, array)
            elif array.shape == tuple(sizes[d] for d in still) and CHANNEL not in dims and TIME in dims:
                found.fields[name] = Variable(still, array)
            elif shapes[name] == [sizes.get(TRAJECTORY)]:
                found.parameters[name] = np.asarray(array[...], dtype=np.float64).reshape(-1)
            else:
                found.note("unread", f"{name} of {path.name}, {array.shape}, fits none of the axes and is not read")
        if not options.axes:
            found.note("names", f"a .mat file names no axes; those of {main} are taken for {', '.join(dims)}")
        return found


def _dims(shape: tuple[int, ...], times: int | None) -> tuple[str, ...]:
    """Axes of the largest array: (trajectory, x[, y[, z]], time) if the last one has as many entries as `t`."""
    if times is not None and shape[-1] == times:
        return (TRAJECTORY, *SPACE[: len(shape) - 2], TIME)[-len(shape) :]
    return (TRAJECTORY, *SPACE[: len(shape) - 1])


def _version_5(path: Path) -> dict[str, Lazy]:
    from scipy.io import loadmat, whosmat

    try:
        listed = whosmat(path)
        size = sum(8 * math.prod(shape) for _, shape, _ in listed)
        if size > LARGEST:
            raise DataError(f"{path} announces {size / 1e9:.3g} GB. Remedy: save it as version 7.3")
        kinds = ("double", "single", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
        names = [name for name, _, kind in listed if kind in kinds]
        found = loadmat(path, variable_names=names) if names else {}
    except (DataError, MemoryError):
        raise
    except Exception as error:  # what scipy raises for a damaged file is not documented
        detail = str(error).partition("\n")[0] or type(error).__name__
        raise DataError(f"{path} is damaged ({detail}). Remedy: a complete copy of the file") from None
    return {name: Lazy.of(np.asarray(found[name])) for name in names if np.asarray(found[name]).dtype.kind in "fiub"}


def _version_73(path: Path) -> dict[str, Lazy]:
    found: dict[str, Any] = {}
    with hdf5.open_file(path) as file:
        names = [n for n in file if hasattr(file[n], "shape") and file[n].dtype.kind in "fiu" and file[n].ndim]
        names = [n for n in names if not file[n].attrs.get("MATLAB_empty", 0)]
        classes = {n: hdf5.plain(file[n].attrs.get("MATLAB_class", b"double")) for n in names}
    for name in names:
        if classes[name] not in ("char", "cell", "struct", "function_handle"):
            data = hdf5.lazy(path, name)
            found[name] = data.transpose(range(data.ndim)[::-1])
    return found
