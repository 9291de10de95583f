"""APEBench and exponax: .npy, (sample, time, channel, *space), axes in `ij` order, so x first.

Exponax solves on periodic domains; x_j = j L / n, and L is not in the file. Other arrays are read with `axes`.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np

from subgrid.solver.backend.files import array_header

from ..contents import TIME, TRAJECTORY, Axis, Contents, DataError, Variable
from ..lazy import Lazy
from ..options import Options
from ..recognise import Reader

MAGIC = b"\x93NUMPY"
CHANNEL = "channel"
SPACE = ("x", "y", "z")


def is_npy(path: Path) -> bool:
    """Whether the file begins as .npy does."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def load(path: Path) -> Lazy:
    """The array of an .npy file, mapped. Raises DataError if it is damaged, or holds Python objects."""
    try:
        with path.open("rb") as file:
            array_header(file)
        return Lazy.of(np.load(path, mmap_mode="r", allow_pickle=False))
    except (ValueError, EOFError) as error:
        if "objects" in str(error):
            raise DataError(
                f"{path} holds Python objects, which are never loaded. Remedy: np.save the numbers, array.astype(float)"
            ) from None
        raise DataError(f"{path} is damaged ({error}). Remedy: a complete copy of the file") from None


def channels(data: Lazy, dims: tuple[str, ...], names: tuple[str, ...] = ()) -> dict[str, Variable]:
    """One field per entry of the axis `channel`: u, or u0, u1, ..., unless names are given."""
    if CHANNEL not in dims:
        return {"u": Variable(dims, data)}
    axis = dims.index(CHANNEL)
    count = data.shape[axis]
    names = names if len(names) == count else ("u",) if count == 1 else tuple(f"u{i}" for i in range(count))
    rest = (*dims[:axis], *dims[axis + 1 :])
    return {name: Variable(rest, data.pick(axis, i)) for i, name in enumerate(names)}


def named(path: Path, data: Lazy, options: Options, default: tuple[str, ...]) -> tuple[str, ...]:
    """The axes of an array without names: those of the option `axes`, or the default. Raises DataError."""
    dims = options.axes or default
    if len(dims) != data.ndim:
        raise DataError(
            f"axes: {path} has shape {data.shape}, that is {data.ndim} axes; {', '.join(dims)} are {len(dims)}. "
            "Remedy: axes = the names in the order of the file, as in trajectory,time,channel,x"
        )
    if len(set(dims)) != len(dims):
        raise DataError(f"axes: {', '.join(dims)} has a name twice. Remedy: one name for each axis")
    return dims


class ArrayReader(Reader):
    """An array in an .npy file."""

    name = "apebench"
    order = 60
    unnamed = True

    def recognises(self, path: Path) -> bool:
        return is_npy(path)

    def read(self, path: Path, options: Options) -> Contents:
        data = load(path)
        if data.dtype.kind not in "fiub":
            raise DataError(f"{path} holds {data.dtype}, not real numbers. Remedy: store real numbers")
        if not options.axes and not 4 <= data.ndim <= 6:
            raise DataError(
                f"{path} has shape {data.shape}, expected (sample, time, channel, x[, y[, z]]). "
                "Remedy: axes = the names in the order of the file, as in trajectory,time,x"
            )
        dims = named(path, data, options, (TRAJECTORY, TIME, CHANNEL, *SPACE[: max(0, data.ndim - 3)]))
        space = [d for d in dims if d not in (TRAJECTORY, TIME, CHANNEL)]
        axes: dict[str, Any] = {a: Axis(kind="points", periodic=True) for a in space}
        found = Contents(self.name, channels(data, dims), axes, files=[path])
        found.note("names", f"an .npy file names nothing; its axes are taken for {', '.join(dims)}, x_j = j L / n")
        if not options.axes:
            lengths = {data.shape[dims.index(a)] for a in space}
            for one, other in itertools.pairwise(space if len(lengths) > 1 else ()):
                found.note("order", f"{one} and {other} differ in length; if exchanged: transpose = {one},{other}")
        return found
