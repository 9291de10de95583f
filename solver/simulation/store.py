"""The Zarr store of the outputs of a run: its metadata, and whether the stored frames are intact.

A store is a group with the coordinates and one array (time, member, *grid) per field, in chunks of one output time.
Everything but the chunks of the fields follows from the case, so it can be compared with the disk and made again.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..backend.files import DamagedFile, replace
from ..equations.base import Field

if TYPE_CHECKING:
    import xarray as xr

_PARTIAL = re.compile(r"^\w+\.[0-9a-f]{32}\.partial$")


def empty_store(
    dataset: xr.Dataset, fields: Iterable[Field], dimensions: tuple[str, ...], dtype: str
) -> dict[str, bytes]:
    """The files of a store without frames, by their keys, such as "time/zarr.json".

    dataset: the coordinates and attributes. dimensions: those of a field, of which the first is time. dtype: the type
    of the fields.
    """
    import zarr
    from zarr.codecs import ZstdCodec
    from zarr.storage import MemoryStore

    store: dict[str, Any] = {}
    dataset.to_zarr(MemoryStore(store), mode="w", consolidated=False)
    group = zarr.open_group(MemoryStore(store), mode="r+")
    shape = tuple(dataset.sizes[d] for d in dimensions)
    for field in fields:
        array = group.create_array(
            field.name,
            shape=shape,
            chunks=(1, *shape[1:]),
            dtype=dtype,
            compressors=ZstdCodec(level=0, checksum=True),  # so that damage is noticed
            fill_value=float("nan"),
            dimension_names=dimensions,
        )
        array.attrs.update({"units": field.unit, "long_name": field.description})
    return {key: value.to_bytes() for key, value in store.items()}


def write_store(folder: Path, files: dict[str, bytes]) -> list[str]:
    """Write those files of a store that are missing or differ on disk; returns their keys. Chunks of fields stay."""
    written = []
    for key, content in files.items():
        path = folder / key
        if not (path.is_file() and path.stat().st_size == len(content) and path.read_bytes() == content):
            path.parent.mkdir(parents=True, exist_ok=True)
            replace(path, content)
            written.append(key)
    return written


def remove_partial(folder: Path) -> None:
    """Delete the files that Zarr left when its process was killed while it wrote a chunk, and no others."""
    for place, _, files in os.walk(folder):
        for name in filter(_PARTIAL.match, files):
            Path(place, name).unlink(missing_ok=True)


def require_frames(folder: Path, files: dict[str, bytes], field: str, count: int) -> None:
    """Raise DamagedFile unless the first `count` outputs of a field are on disk, intact and finite.

    The metadata are those of `files`, not those on disk.
    """
    import zarr
    from zarr.core.buffer import default_buffer_prototype
    from zarr.storage import MemoryStore

    buffer = default_buffer_prototype().buffer
    store: dict[str, Any] = {k: buffer.from_bytes(files[k]) for k in ("zarr.json", f"{field}/zarr.json")}
    array: Any = zarr.open_group(MemoryStore(store), mode="r")[field]
    expected = array.dtype.itemsize * math.prod(array.shape[1:])
    for index in range(count):
        key = chunk(field, index, array.ndim)
        path = folder / key
        if not path.is_file():
            raise DamagedFile(f"{path} is missing")
        content = path.read_bytes()
        if (size := _announced(content)) != expected:
            raise DamagedFile(f"{path} is damaged: it announces {size} bytes, expected {expected}")
        store[key] = buffer.from_bytes(content)
        try:
            intact = bool(np.isfinite(array[index]).all())
        except Exception as error:  # every codec has errors of its own
            raise DamagedFile(f"{path} is damaged ({error})") from None
        if not intact:
            raise DamagedFile(f"{path} is damaged: it holds values that are not finite")
        del store[key]


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


def chunk(field: str, index: int, dimensions: int) -> str:
    """The key of output number `index` of a field."""
    return "/".join([field, "c", str(index), *["0"] * (dimensions - 1)])
