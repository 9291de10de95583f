"""Data written in the schema, as a Zarr store: block by block in bounded memory, resumable, every value checked.

Beside a store that is being written lies a file with the blocks that are done and what the scan knows of them; the
store has the attribute `incomplete`. One with a fault is deleted: nothing is left of data that are refused.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subgrid.solver.backend.files import DamagedFile, FolderLock, read_arrays, remove_temporary, write_arrays
from subgrid.solver.simulation.store import consolidate, remove_partial

from .contents import DataError
from .open import Inspection, unreadable
from .schema import dataset, provenance
from .values import Scan, blocks, empty_scan, judged

Progress = Callable[[int, int, str], None]
SAVE_SECONDS = 2.0
CHUNK = 2**22  # bytes of a chunk of a field, unless one state is larger
HASHED = 2**28  # bytes of a source file up to which its SHA-256 is recorded
INCOMPLETE = "incomplete"


def write(
    found: Inspection,
    out: Path,
    progress: Progress = lambda done, total, what: None,
    command: str = "run the same command again",
) -> Path:
    """Write inspected data to the Zarr store `out`; a store that an interrupted call left is continued.

    command: what continues it, for messages. Raises DataError, and leaves nothing, if a value shows a fault; DataError
    for a folder that is something else.
    """
    found.require_sound()
    contents = found.contents
    signature = _signature(found)
    _require_place(out, signature)
    out.mkdir(exist_ok=True)
    with FolderLock(out):
        scan, done = _resume(out, signature, found)
        parts = list(blocks(contents))
        group = _begin(found, out, parts, command) if scan is None else _open(out)
        scan = scan or empty_scan(contents)
        saved = time.monotonic()
        for number in range(done, len(parts)):
            block = parts[number]
            for name in scan.names:
                try:
                    values = contents.fields[name].data[block]
                except MemoryError:
                    raise
                except Exception as error:  # every library has errors of its own
                    _discard(out)
                    raise error if isinstance(error, DataError) else unreadable(contents, error) from None
                scan.add(name, *block, values)
                group[name][block] = values
            if time.monotonic() - saved > SAVE_SECONDS:
                _stop_if_missing(found, scan, out)
                _save(out, signature, scan, number + 1)
                saved = time.monotonic()
            progress(number + 1, len(parts), "ingest")
        contents.findings = [f for f in contents.findings if f.code not in found_by_scan] + judged(
            scan, contents, found.options.conserved
        )
        if found.faults:
            _discard(out)
            found.require_sound()
        _finish(group, out, found, scan)
        (_record(out)).unlink(missing_ok=True)
    return out


found_by_scan = {
    "missing-values",
    "zero-filled",
    "duplicates",
    "repeated-end-point",
    "low-precision",
    "not-conserved",
    "means",
}


def statistics(scan: Scan) -> dict[str, dict[str, float]]:
    """Mean, standard deviation, lowest and highest value of each field, over all states."""
    a = scan.arrays
    result = {}
    for i, name in enumerate(scan.names):
        mean = float(np.nanmean(a["mean"][i]))
        variance = max(0.0, float(np.nanmean(a["square"][i])) - mean**2)
        result[name] = {
            "mean": mean,
            "std": math.sqrt(variance),
            "min": float(a["low"][i]),
            "max": float(a["high"][i]),
        }
    return result


def _signature(found: Inspection) -> str:
    """The hash of what the store depends on: the files, by size and time of change, and the options."""
    content = {"provenance": provenance(found.contents), "options": found.options.model_dump(mode="json")}
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def _require_place(out: Path, signature: str) -> None:
    if out.is_symlink():
        raise DataError(f"--out {out}: is a symbolic link, which is not followed. Remedy: name the folder itself")
    if not out.parent.is_dir():
        raise DataError(f"--out {out}: there is no folder {out.parent}. Remedy: make it, or choose another")
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        _record(out).unlink(missing_ok=True)
        return
    if not out.is_dir() or not (_record(out)).is_file():
        raise DataError(f"--out {out}: exists already. Remedy: choose another --out")
    if str(_read_progress(out).get("signature")) != signature:
        raise DataError(
            f"--out {out}: holds an unfinished copy of other data, or with other options. "
            "Remedy: the options of its start, another --out, or delete it"
        )


def _record(out: Path) -> Path:
    """The file that says how far an unfinished store is."""
    return out.with_name(f".{out.name}.unfinished.npz")


def _read_progress(out: Path) -> dict[str, NDArray]:
    try:
        return read_arrays(_record(out))
    except DamagedFile as error:
        raise DataError(f"{error}. Remedy: delete {out}, and start again") from None


def _resume(out: Path, signature: str, found: Inspection) -> tuple[Scan | None, int]:
    """The scan of an unfinished store and the number of its blocks that are done; None for a new one."""
    if not (_record(out)).is_file():
        return None, 0
    arrays = _read_progress(out)
    done = int(arrays.pop("done"))
    arrays.pop("signature")
    remove_temporary(out.parent, of=_record(out).name)
    remove_partial(out)
    if done < 0:  # killed before its first block
        return None, 0
    empty = empty_scan(found.contents)
    return Scan(empty.names, empty.space, empty.shape, arrays), done


def _save(out: Path, signature: str, scan: Scan | None, done: int) -> None:
    arrays = {} if scan is None else scan.arrays
    write_arrays(_record(out), {**arrays, "done": np.array(done), "signature": np.array(signature)})


def _begin(found: Inspection, out: Path, parts: list[tuple[slice, slice]], command: str) -> Any:
    """Write the coordinates, the static fields and empty arrays for the others; returns the group."""
    import zarr
    from zarr.codecs import ZstdCodec

    _save(out, _signature(found), None, -1)
    contents = found.contents
    data = dataset(contents)
    moving = empty_scan(contents).names
    still = data.drop_vars(moving)
    for still_variable in still.variables.values():
        still_variable.encoding.clear()
    still.attrs[INCOMPLETE] = command
    still.to_zarr(out, mode="a", consolidated=False)
    group = zarr.open_group(out, mode="r+")
    for name in moving:
        variable = contents.fields[name]
        shape = variable.data.shape
        array = group.create_array(
            name,
            shape=shape,
            chunks=_chunks(shape, variable.data.dtype.itemsize, parts[0]),
            dtype=variable.data.dtype.newbyteorder("="),
            compressors=ZstdCodec(level=1, checksum=True),
            dimension_names=variable.dims,
            overwrite=True,
        )
        array.attrs.update(data[name].attrs)
    _save(out, _signature(found), empty_scan(contents), 0)
    return group


def _open(out: Path) -> Any:
    import zarr

    return zarr.open_group(out, mode="r+")


def _chunks(shape: tuple[int, ...], itemsize: int, block: tuple[slice, slice]) -> tuple[int, ...]:
    """Chunks of at most CHUNK bytes, or of one state, that blocks consist of without remainder."""
    state = max(1, math.prod(shape[2:]) * itemsize)
    across, along = (part.stop - part.start for part in block)
    times = _divisor(along, max(1, CHUNK // state))
    trajectories = _divisor(across, max(1, CHUNK // (state * times))) if times == along else 1
    return (trajectories, times, *shape[2:])


def _divisor(number: int, limit: int) -> int:
    """The largest divisor of a number that is not above a limit."""
    return next(d for d in range(min(number, limit), 0, -1) if number % d == 0)


def _stop_if_missing(found: Inspection, scan: Scan, out: Path) -> None:
    """Do not read 20 GB to the end if a value is missing in the first."""
    if "missing-values" in found.contents.accepted:
        return
    if scan.arrays["missing"].any():
        faults = [f for f in judged(scan, found.contents) if f.code == "missing-values"]
        _discard(out)
        raise DataError("\n".join(map(str, faults)))


def _discard(out: Path) -> None:
    """Delete an unfinished store, whose lock is held."""
    for entry in os.scandir(out):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            os.unlink(entry.path)
    out.rmdir()
    _record(out).unlink(missing_ok=True)


def _finish(group: Any, out: Path, found: Inspection, scan: Scan) -> None:
    about = provenance(found.contents)
    for file, facts in about["files"].items():
        if Path(file).is_file() and facts["bytes"] <= HASHED:
            with open(file, "rb") as opened:
                facts["sha256"] = hashlib.file_digest(opened, "sha256").hexdigest()
    for name, values in statistics(scan).items():
        group[name].attrs.update(values)
    attrs = dict(group.attrs)
    attrs.pop(INCOMPLETE, None)
    attrs["provenance"] = json.dumps(about)
    attrs["findings"] = json.dumps([str(f) for f in found.contents.findings])
    group.attrs.put(attrs)
    consolidate(out)
