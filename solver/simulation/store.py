"""A Zarr store of outputs: its metadata, the writing of its frames, and whether stored frames are intact.

A store is a group with the coordinates and one array (time, ...) per variable, in chunks of several output times. All
but these chunks follows from the case, so it can be compared with the disk and made again. A chunk is written whole and
renamed to its place; while it is not full it is written again with more frames, see `Writer.flush`.
"""

from __future__ import annotations

import json
import math
import os
import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..backend.files import DamagedFile, remove_temporary, replace

if TYPE_CHECKING:
    import xarray as xr

CHUNK_BYTES = 2**22  # of a chunk before compression, if more than one frame fits
MOST_FRAMES = 4096  # in a chunk
MOST_KEPT = 8  # stores without frames
_ZSTD: dict[str, Any] = {"level": 0, "checksum": True}  # so that damage is noticed
_EMPTY: dict[Any, dict[str, bytes]] = {}
_PARTIAL = re.compile(r"^\w+\.[0-9a-f]{32}\.partial$")


@dataclass(frozen=True)
class Variable:
    """An array of a store: its name, dimensions (the first is time), unit, description, type, and frames per chunk."""

    name: str
    dimensions: tuple[str, ...]
    unit: str
    description: str
    dtype: str = "float64"
    chunk: int = 1


def frames_per_chunk(shape: Iterable[int], itemsize: int) -> int:
    """How many frames of a shape (member, ...) a chunk holds by default."""
    return max(1, min(MOST_FRAMES, CHUNK_BYTES // max(1, itemsize * math.prod(shape))))


def empty_store(dataset: xr.Dataset, variables: Iterable[Variable]) -> dict[str, bytes]:
    """The files of a store without frames, by their keys, such as "time/zarr.json".

    dataset: the coordinates and attributes. The metadata are consolidated, so that xarray opens the store without a
    warning. Those of the last few stores are kept, which the runs of a sweep share.
    """
    variables = tuple(variables)
    coordinates = [
        (name, v.dims, v.dtype.str, v.values.tobytes(), repr(v.attrs)) for name, v in dataset.variables.items()
    ]
    key = (*coordinates, repr(dataset.attrs), variables)
    if key not in _EMPTY:
        if len(_EMPTY) >= MOST_KEPT:
            _EMPTY.clear()
        _EMPTY[key] = _empty_store(dataset, variables)
    return dict(_EMPTY[key])


def _empty_store(dataset: xr.Dataset, variables: Iterable[Variable]) -> dict[str, bytes]:
    import zarr
    from zarr.codecs import ZstdCodec
    from zarr.storage import MemoryStore

    store: dict[str, Any] = {}
    dataset.to_zarr(MemoryStore(store), mode="w", consolidated=False)
    group = zarr.open_group(MemoryStore(store), mode="r+")
    for variable in variables:
        shape = tuple(dataset.sizes[d] for d in variable.dimensions)
        array = group.create_array(
            variable.name,
            shape=shape,
            chunks=(variable.chunk, *shape[1:]),
            dtype=variable.dtype,
            compressors=ZstdCodec(**_ZSTD),
            fill_value=float("nan"),
            dimension_names=variable.dimensions,
        )
        array.attrs.update({"units": variable.unit, "long_name": variable.description})
    consolidate(MemoryStore(store))
    return {key: value.to_bytes() for key, value in store.items()}


def consolidate(store: Any) -> None:
    """Copy the metadata of all arrays of a store, or a folder, to its group: xarray then opens it without a warning."""
    import zarr

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that format 3 does not specify consolidated metadata yet
        zarr.consolidate_metadata(store)


def write_dataset(dataset: xr.Dataset, folder: Path) -> None:
    """Write a dataset to a folder, so that xarray opens it without a warning."""
    dataset.to_zarr(folder, mode="w", consolidated=False)
    consolidate(folder)


def write_store(folder: Path, files: dict[str, bytes]) -> list[str]:
    """Write those files of a store that are missing or differ on disk; returns their keys. Chunks of frames stay."""
    written = []
    for key, content in files.items():
        path = folder / key
        if not (path.is_file() and path.stat().st_size == len(content) and path.read_bytes() == content):
            path.parent.mkdir(parents=True, exist_ok=True)
            replace(path, content)
            written.append(key)
    return written


def remove_partial(folder: Path) -> None:
    """Delete the files that a killed process left while it wrote to the store, and no others."""
    for place, _, files in os.walk(folder):
        remove_temporary(Path(place))
        for name in filter(_PARTIAL.match, files):
            Path(place, name).unlink(missing_ok=True)


class Chunks:
    """The chunks of one variable of a store on disk, with the metadata of `files` and not those on disk.

    They are encoded as zarr does, byte for byte: little-endian numbers in C order, in a Zstandard frame with a
    checksum. Of a short run with many scalars, zarr's own calls took a third of the time.
    """

    def __init__(self, folder: Path, files: Mapping[str, bytes], name: str) -> None:
        from numcodecs.zstd import Zstd

        about = json.loads(files[f"{name}/zarr.json"])
        self._folder, self._name = folder, name
        self._codec = Zstd(**_ZSTD)
        length, *frame = about["chunk_grid"]["configuration"]["chunk_shape"]
        self.length: int = length
        self.frame: tuple[int, ...] = tuple(frame)
        self.dtype: np.dtype = np.dtype(about["data_type"])
        self._stored = self.dtype.newbyteorder("<")
        self._bytes = self.dtype.itemsize * self.length * math.prod(self.frame)

    def path(self, number: int) -> Path:
        """The file of a chunk."""
        return self._folder / self._key(number)

    def numbers(self) -> list[int]:
        """Of the chunks that have, or had, a file."""
        place = self._folder / self._name / "c"
        return sorted(int(p.name) for p in place.iterdir() if p.name.isdigit()) if place.is_dir() else []

    def write(self, number: int, frames: NDArray) -> None:
        """Replace a chunk by these frames, (time, *frame), with nan after them."""
        path = self.path(number)
        if np.isnan(frames).all():  # which is what a chunk without a file holds
            path.unlink(missing_ok=True)
            return
        whole = np.full((self.length, *self.frame), np.nan, self._stored)
        whole[: len(frames)] = frames
        path.parent.mkdir(parents=True, exist_ok=True)
        replace(path, self._codec.encode(whole))

    def read(self, number: int, count: int) -> NDArray:
        """The first `count` frames of a chunk. Raises DamagedFile unless they are on disk and intact."""
        path = self.path(number)
        if not path.is_file():
            raise DamagedFile(f"{path} is missing")
        content = path.read_bytes()
        if (size := _announced(content)) != self._bytes:
            raise DamagedFile(f"{path} is damaged: it announces {size} bytes, expected {self._bytes}")
        try:
            values = np.frombuffer(self._codec.decode(content), self._stored)
            return values.reshape(self.length, *self.frame)[:count].astype(self.dtype)
        except Exception as error:  # the codec does not say which it raises
            raise DamagedFile(f"{path} is damaged ({error})") from None

    def _key(self, number: int) -> str:
        return "/".join([self._name, "c", str(number), *["0"] * len(self.frame)])


def require_frames(folder: Path, files: Mapping[str, bytes], name: str, count: int, finite: bool = True) -> None:
    """Raise DamagedFile unless the first `count` outputs of a variable are on disk and intact.

    finite: whether they must be finite as well; a chunk of nan alone has no file.
    """
    chunks = Chunks(folder, files, name)
    for first in range(0, count, chunks.length):
        number = first // chunks.length
        if not finite and not chunks.path(number).is_file():
            continue
        frames = chunks.read(number, min(chunks.length, count - first))
        if finite and not np.isfinite(frames).all():
            raise DamagedFile(f"{chunks.path(number)} is damaged: it holds values that are not finite")


class Writer:
    """Writes the outputs of a store in order. A chunk is kept in memory until it is full or `flush` is called."""

    def __init__(self, folder: Path, files: Mapping[str, bytes], names: Iterable[str]) -> None:
        self._columns = {name: _Column(Chunks(folder, files, name)) for name in names}

    def put(self, index: int, frames: Mapping[str, NDArray]) -> None:
        """Output number `index` of some variables."""
        for name, frame in frames.items():
            self._columns[name].put(index, frame)

    def flush(self) -> None:
        """Write what is not on disk; the chunks that are not full stay in memory, too."""
        for column in self._columns.values():
            column.flush()

    def cut(self, count: int) -> None:
        """Forget the outputs from number `count` on, on disk as well."""
        for column in self._columns.values():
            column.cut(count)


class _Column:
    """The chunk of one variable that is being filled."""

    def __init__(self, chunks: Chunks) -> None:
        self._chunks = chunks
        self._number = -1
        self._frames: NDArray = np.empty((0, *chunks.frame), chunks.dtype)
        self._filled = self._written = 0

    def put(self, index: int, frame: NDArray) -> None:
        number, place = divmod(index, self._chunks.length)
        if number != self._number or place < self._filled:
            self._open(number, place)
        if place >= len(self._frames):  # grows, so that short runs need little memory
            length = min(self._chunks.length, max(16, 2 * place))
            larger = np.full((length, *self._chunks.frame), np.nan, self._chunks.dtype)
            larger[: self._filled] = self._frames[: self._filled]
            self._frames = larger
        self._frames[self._filled : place] = np.nan
        self._frames[place] = frame
        self._filled = place + 1
        if self._filled == self._chunks.length:
            self.flush()

    def flush(self) -> None:
        if self._filled > self._written:
            self._chunks.write(self._number, self._frames[: self._filled])
            self._written = self._filled

    def cut(self, count: int) -> None:
        number, place = divmod(count, self._chunks.length)
        self._open(number, place)
        if place:
            self._chunks.write(number, self._frames[:place])
        else:
            self._chunks.path(number).unlink(missing_ok=True)
        for later in self._chunks.numbers():  # with gaps, as a chunk of nan alone has no file
            if later > number:
                self._chunks.path(later).unlink(missing_ok=True)

    def _open(self, number: int, count: int) -> None:
        """Go to a chunk, of which `count` frames are kept: those in memory, or those on disk."""
        self.flush()
        self._frames = np.empty((0, *self._chunks.frame), self._chunks.dtype)
        if count and self._chunks.path(number).is_file():
            self._frames = self._chunks.read(number, count)
        else:
            self._frames = np.full((count, *self._chunks.frame), np.nan, self._chunks.dtype)
        self._number, self._filled, self._written = number, count, count


def _announced(content: bytes) -> int | None:
    """Bytes that a Zstandard frame announces for its contents (RFC 8878, 3.1.1.1); None if it announces none."""
    if len(content) < 6 or content[:4] != b"\x28\xb5\x2f\xfd":
        return None
    flag, single, dictionary = content[4] >> 6, content[4] >> 5 & 1, (0, 1, 2, 4)[content[4] & 3]
    size = (1 if single else 0, 2, 4, 8)[flag]
    start = 5 + (0 if single else 1) + dictionary
    if not size or len(content) < start + size:
        return None
    return int.from_bytes(content[start : start + size], "little") + (256 if size == 2 else 0)
