"""HDF5 files by h5py: opened for each read, so that a folder of a thousand files does not exhaust the open files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..contents import DataError
from ..lazy import Key, Lazy

MAGIC = b"\x89HDF\r\n\x1a\n"
STARTS = (0, 512)  # MATLAB puts 512 bytes of its own before


def is_hdf5(path: Path) -> bool:
    """Whether the file begins as HDF5 does."""
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            head = file.read(STARTS[-1] + len(MAGIC))
    except OSError:
        return False
    return any(head[start : start + len(MAGIC)] == MAGIC for start in STARTS)


@contextmanager
def open_file(path: Path) -> Iterator[Any]:
    """The file, open for reading. Raises DataError if it is damaged, or if h5py is not installed."""
    try:
        import h5py
    except ImportError:
        raise DataError(f"{path} is HDF5, which needs h5py. Remedy: pip install 'subgrid[data]'") from None
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        if isinstance(error, (PermissionError, FileNotFoundError)):
            raise
        detail = str(error).partition("\n")[0]
        raise DataError(f"{path} is damaged ({detail}). Remedy: a complete copy of the file") from None
    with file:
        yield file


def keys(path: Path) -> set[str]:
    """Names of what lies at the root of an HDF5 file; empty if it cannot be opened."""
    if not is_hdf5(path):
        return set()
    try:
        with open_file(path) as file:
            return set(file)
    except (DataError, OSError, RuntimeError):
        return set()


def lazy(path: Path, name: str) -> Lazy:
    """The dataset `name` of a file, read when it is indexed. Raises DataError if it is no array of numbers."""
    with open_file(path) as file:
        if name not in file or not hasattr(file[name], "shape"):
            raise DataError(f"{path} has no dataset {name!r}. Remedy: a complete copy, or another `reader`")
        data = file[name]
        if data.dtype.hasobject or data.dtype.kind not in "fiubc":
            raise DataError(f"{name} of {path} holds {data.dtype}, not numbers. Remedy: leave it out")
        shape, dtype, chunks = data.shape, data.dtype.newbyteorder("="), data.chunks

    def read(key: Key) -> NDArray:
        with open_file(path) as file:
            return np.asarray(file[name][key], dtype=dtype)

    return Lazy(tuple(int(n) for n in shape), np.dtype(dtype), read, chunks)


def attributes(item: Any) -> dict[str, Any]:
    """The attributes of a file, group or dataset, as plain numbers, texts and lists."""
    return {str(name): plain(value) for name, value in item.attrs.items()}


def plain(value: Any) -> Any:
    """A number, text or list in the place of a NumPy scalar, bytes or array."""
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    if isinstance(value, np.ndarray):
        return [plain(v) for v in value.tolist()] if value.ndim else plain(value.item())
    return value.item() if isinstance(value, np.generic) else value


def numbers(attrs: dict[str, Any]) -> dict[str, float]:
    """The attributes that are numbers."""
    return {k: float(v) for k, v in attrs.items() if isinstance(v, (int, float)) and not isinstance(v, bool)}
