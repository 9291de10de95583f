"""Which reader a file or folder needs: the first whose `recognises` is true of the contents."""

from __future__ import annotations

import os
import zipfile
from abc import ABC, abstractmethod
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from subgrid.solver.equations.plugin_errors import plugin_errors
from subgrid.solver.equations.plugins import Registry

from .contents import Contents, DataError, combine
from .options import Options

MOST_SOURCES = 100_000
ZIP = b"PK\x03\x04"


class Reader(ABC):
    """A format of data. Register a subclass with the entry-point group `subgrid.readers`, or name "file.py:Class".

    `recognises` looks at the contents of a path, not at its name, and raises nothing. `read` returns what is there and
    loads no field; it raises DataError for a file that is damaged. `order` decides between readers that both recognise
    a path: the lowest is used.
    """

    name: ClassVar[str]
    order: ClassVar[int] = 50
    unnamed: ClassVar[bool] = False  # whether the format does not name its axes, so that `read` uses options.axes

    @abstractmethod
    def recognises(self, path: Path) -> bool:
        """Whether the path holds data of this format."""

    @abstractmethod
    def read(self, path: Path, options: Options) -> Contents:
        """The contents of the path. Raises DataError."""


_MODULES = {
    "subgrid-data": "own:SchemaReader",
    "subgrid-comparison": "own:ComparisonReader",
    "subgrid-run": "own:RunReader",
    "hypar": "hypar:HyParReader",
    "the-well": "the_well:WellReader",
    "pdebench": "pdebench:PDEBenchReader",
    "matlab": "matlab:MatlabReader",
    "netcdf": "named:NamedReader",
    "md17": "molecules:MoleculeReader",
    "n-body": "nbody:BodyReader",
    "apebench": "apebench:ArrayReader",
    "eth-ucy": "pedestrians:PedestrianReader",
}
READERS: Registry[type[Reader]] = Registry(
    "subgrid.readers",
    "reader",
    Reader,
    {name: f"subgrid.ingest.external.readers.{place}" for name, place in _MODULES.items()},
    required=("name",),
)


@plugin_errors()
def contents_of(path: Path, options: Options) -> Contents:
    """What a file or folder holds. A folder of sources of one format is read as their trajectories.

    Raises DataError, with the remedy, for a path that does not exist, that no reader recognises, or that is damaged.
    """
    if not os.path.lexists(path):
        raise DataError(f"{path}: there is no such file or folder. Remedy: check the path")
    if not path.exists():
        raise DataError(f"{path}: the symbolic link leads nowhere. Remedy: check its target")
    if not (path.is_file() or path.is_dir()):
        raise DataError(f"{path} is a device or a pipe. Remedy: name a file or folder")
    if path.is_file() and path.stat().st_size == 0:
        raise DataError(f"{path} is empty. Remedy: another file, or a complete download")
    reader = _reader(path, options)
    if reader is not None:
        return _read(reader, path, options)
    return _read_all(path, options)


def _reader(path: Path, options: Options) -> Reader | None:
    if options.reader is not None:
        chosen = READERS.find(options.reader)()
        return chosen if path.is_file() or chosen.recognises(path) else None
    known = sorted((cls for _, cls in READERS.available()), key=lambda cls: cls.order)
    return next((reader for cls in known if (reader := cls()).recognises(path)), None)


def _read(reader: Reader, path: Path, options: Options) -> Contents:
    if options.axes and not reader.unnamed:
        raise DataError(f"axes: {reader.name} names the axes of {path}. Remedy: leave it out; map, or transpose")
    try:
        return replace(reader.read(path, options), path=path)
    except (DataError, KeyboardInterrupt, MemoryError, ModuleNotFoundError):
        raise
    except (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, EOFError) as error:
        if not type(reader).__module__.startswith("subgrid."):
            raise
        detail = str(error).partition("\n")[0] or type(error).__name__
        raise DataError(
            f"{path} is damaged, or is not {reader.name} ({detail}). Remedy: a complete copy, or another `reader`"
        ) from None


def _read_all(path: Path, options: Options) -> Contents:
    """A folder whose entries are sources of one format, in the order of their names, as trajectories."""
    known = ", ".join(READERS)
    if path.is_file():
        with path.open("rb") as file:
            if file.read(len(ZIP)) == ZIP and not zipfile.is_zipfile(path):
                raise DataError(f"{path} is an .npz or zip file that is cut off. Remedy: a complete copy of the file")
        raise DataError(
            f"{path} is of no known format. Remedy: `reader` = one of {known}, or a reader of yours, file.py:Class"
        )
    entries = sorted(p for p in path.iterdir() if not p.name.startswith("."))
    found: list[tuple[Path, Any]] = []
    for entry in entries[:MOST_SOURCES]:
        if (entry.is_file() and entry.stat().st_size) or entry.is_dir():
            reader = _reader(entry, options)
            if reader is not None:
                found.append((entry, reader))
    if not found:
        raise DataError(
            f"{path} holds nothing of a known format. Remedy: name a file or folder of one of {known}, or `reader`"
        )
    parts = [_read(reader, entry, options) for entry, reader in found]
    whole = parts[0] if len(parts) == 1 else combine(parts, [str(entry) for entry, _ in found])
    return replace(whole, path=path)
