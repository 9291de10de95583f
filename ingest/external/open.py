"""`subgrid.open_data`: data of other codes in the schema of this package, opened lazily."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .checks import check_structure
from .contents import Contents, DataError, Finding
from .corrections import corrected
from .options import Options, options_of
from .recognise import contents_of
from .schema import dataset, ordered
from .values import SAMPLE, Scan, judged, scanned

if TYPE_CHECKING:
    import xarray as xr


@dataclass
class Inspection:
    """Contents in the order of the schema, with their findings. complete: whether all values were scanned."""

    contents: Contents
    scan: Scan | None
    complete: bool
    options: Options

    @property
    def faults(self) -> list[Finding]:
        """The faults that are not accepted."""
        return [f for f in self.contents.findings if f.fault and f.code not in self.contents.accepted]

    def require_sound(self) -> None:
        """Raise DataError, with every fault and its remedy, if there are faults."""
        if faults := self.faults:
            raise DataError("\n".join(map(str, faults)))


def inspect(path: Path, options: Options, values: int = SAMPLE) -> Inspection:
    """Read, correct and check data. values: bytes of fields that are scanned; 0 checks the structure alone.

    Raises DataError if nothing can be opened; faults that can be reported are in the result.
    """
    contents = corrected(contents_of(path, options), options)
    if not contents.fields:
        raise DataError(f"{contents.where} holds no field. Remedy: another file, or `map` and `reader`")
    contents = ordered(contents)
    check_structure(contents)
    found = Inspection(contents, None, False, options)
    if values and not any(f.fault and f.code in ("complex", "type", "empty") for f in contents.findings):
        try:
            found.scan, found.complete = scanned(contents, values)
        except (DataError, MemoryError):
            raise
        except Exception as error:  # HDF5, Zarr and every codec have errors of their own
            raise unreadable(contents, error) from None
        contents.findings += judged(found.scan, contents, options.conserved)
    return found


def unreadable(contents: Contents, error: Exception) -> DataError:
    """The error of values that cannot be read, as a file that is cut off or damaged."""
    detail = str(error).partition("\n")[0] or type(error).__name__
    return DataError(f"{contents.where} is damaged ({detail}). Remedy: a complete copy of the file")


def open_data(path: str | os.PathLike[str], /, **options: Any) -> xr.Dataset:
    """Data of a known format as a dataset with one variable per field, (trajectory, time, *axes), read when indexed.

    path: a file, or a folder. options: the keys of `Options`, as in map={"vorticity": "w"}. The schema, with the
    attributes of fields, axes and parameters, is that of `subgrid.ingest.external.schema`. Of large data a sample of
    the states is checked; `subgrid ingest PATH --out` checks all.

    Raises DataError, a ValueError, with every fault that the options neither correct nor accept, and its remedy.
    """
    found = inspect(Path(os.fspath(path)), options_of(options))
    found.require_sound()
    return dataset(found.contents)
