"""The outputs of a run: its folder, or in memory.

case.toml              the case with every default
inputs.json            the case again, with the hashes of the files that it names
fields.zarr            the outputs
groups/NAME.zarr       the outputs of a group
checkpoint/state.npz   the last checkpoint
log.jsonl              one event per line
summary.json           how the run ended
"""

from __future__ import annotations

import json
import os
import shutil
import time
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..backend.files import (
    DamagedFile,
    FolderInUse,
    FolderLock,
    read_arrays,
    remove_temporary,
    replace,
    write_arrays,
    write_json,
)
from ..case.tables import Case
from ..equations.quantities import Quantity
from .folder import (
    COMPARISON,
    FOLDERS,
    STARTING,
    RunFolderError,
    case_inputs,
    require_kinds,
    require_no_links,
    require_vacant,
    stored_inputs,
)
from .provenance import provenance
from .schedule import Schedule
from .selection import Selection, of_old_version, selections, with_chunks
from .store import Writer, remove_partial, require_frames, write_store

if TYPE_CHECKING:
    import xarray as xr


FLUSH_SECONDS = 10.0  # after which an output is on disk at the latest, if another one follows


class Record:
    """The folder of one run.

    The arrays for all output times are created when the run begins and filled during the run, so a resumed run rewrites
    the frames after its checkpoint with the same bytes. Only one process at a time can use a folder: it is locked until
    the process ends or calls `close`. Raises RunFolderError if another process has the lock.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._fields = folder / "fields.zarr"
        self._checkpoint = folder / "checkpoint" / "state.npz"
        try:
            self._lock = FolderLock(folder)
        except FolderInUse as error:
            raise RunFolderError(str(error)) from None

    def close(self) -> None:
        """Release the lock on the folder."""
        self._lock.close()

    @classmethod
    def create(
        cls, folder: Path, case: Case, quantities: Mapping[str, Quantity], reference: Path | None = None
    ) -> Record:
        """The record of a new run. Raises RunFolderError if the folder is not vacant, see `require_vacant`.

        quantities: the scalars that it stores. reference: the folder of the reference's trajectories, if the run needs
        them.
        """
        require_vacant(folder)
        case = with_chunks(case)
        text = _toml(case.resolved())
        inputs = case_inputs(tomllib.loads(text.decode()), reference)
        folder.mkdir(parents=True, exist_ok=True)
        record = cls(folder)
        require_vacant(folder)
        (folder / STARTING).touch()
        for left in FOLDERS:
            shutil.rmtree(folder / left, ignore_errors=True)
        (folder / "checkpoint").mkdir()
        record._open(case, quantities)
        for store in record.stores:
            write_store(store.folder, store.files)
        write_json(folder / "inputs.json", inputs)
        replace(folder / "case.toml", text)
        (folder / STARTING).unlink()
        return record

    @classmethod
    def open(cls, folder: Path) -> Record:
        """The record of an existing run; nothing is written before `go_on`. Raises RunFolderError if there is none."""
        if not (folder / "case.toml").is_file():
            if (folder / "sweep.json").is_file():
                raise RunFolderError(f"{folder} holds a sweep. Remedy: give its `subgrid sweep` command again")
            raise RunFolderError(
                f"{folder} holds no run (it has no case.toml). Remedy: `subgrid run CASE --out {folder}`"
            )
        if (folder / COMPARISON).exists():
            raise RunFolderError(
                f"{folder} holds a comparison. Remedy: `subgrid resume {folder}`, or resume_comparison"
            )
        record = cls(folder)
        try:
            require_no_links(folder)
            require_kinds(folder)
        except BaseException:
            record.close()
            raise
        return record

    def _open(self, case: Case, quantities: Mapping[str, Quantity]) -> None:
        self.stores = [_Store.of(chosen, self.folder) for chosen in selections(case, quantities)]
        self._flushed = time.monotonic()

    def require_outputs(self, case: Case, quantities: Mapping[str, Quantity], step: int) -> None:
        """Raise RunFolderError unless the outputs before a step are on disk and intact.

        A folder whose case has no output.frames_per_chunk is of a version that wrote one frame per file and no scalars.
        """
        complete = case.output.frames_per_chunk is not None
        self._open(case if complete else of_old_version(case), quantities)
        try:
            for store in self.stores:
                store.require(step, complete)
        except DamagedFile as error:
            raise RunFolderError(f"{error}. {self._restart}") from None

    def go_on(
        self, before: Case, case: Case, quantities: Mapping[str, Quantity], reference: Path | None = None
    ) -> list[str]:
        """Make the folder that of `case`, which may end at another time than the run `before`; the first write.

        Returns the keys of fields.zarr that were missing or damaged. Killed at any instant, it leaves a folder that can
        be resumed, to the old end or to the new one.
        """
        path = self.folder / "case.toml"
        tables = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        last = stored_inputs(self.folder) or {"ends": [], "references": {}}
        if extended := case.time.end != before.time.end:
            tables["time"]["end"] = case.time.end
            old = before if before.output.frames_per_chunk is not None else of_old_version(before)
            earlier = [_Store.of(chosen, self.folder) for chosen in selections(old, quantities)]
            for one, other in zip(earlier, self.stores, strict=True):
                times = [store.selection.dataset()["time"].values for store in (one, other)]
                if (kept := _index(*times)) < len(times[0]):
                    one.writer.cut(kept)
        inputs = case_inputs(tables, reference)
        inputs["ends"] = sorted({*last["ends"], before.time.end, case.time.end})
        inputs["references"] = last["references"] | inputs["references"]
        write_json(self.folder / "inputs.json", inputs)
        if extended:
            replace(path, _toml(tables))
        written = []
        for store in self.stores:
            keys = write_store(store.folder, store.files)
            written += keys if store is self.stores[0] else [f"{store.selection.place.name}/{key}" for key in keys]
            remove_partial(store.folder)
        for place in (self.folder, self._checkpoint.parent):
            if place.is_dir():
                remove_temporary(place)
        (self.folder / STARTING).unlink(missing_ok=True)
        return [] if extended else written

    @property
    def _restart(self) -> str:
        return f"Remedy: delete {self._checkpoint} to start again from the beginning"

    def dataset(self) -> xr.Dataset:
        """The fields of the run on disk, (time, member, *grid), opened lazily."""
        import xarray as xr

        return xr.open_dataset(self._fields, engine="zarr", chunks=None)

    def due(self, n: int) -> bool:
        """Whether step n has outputs."""
        return any(schedule.due(n) for schedule in self.stops())

    def stops(self) -> list[Schedule]:
        """The steps that have outputs, of each store."""
        return [store.selection.schedule for store in self.stores]

    def write_frame(self, n: int, state: NDArray, scalars: Mapping[str, NDArray] | None) -> None:
        """Write the outputs of step n: fields and derived fields of the state (member, field, *grid), and scalars.

        They are on disk when a chunk is full, after FLUSH_SECONDS, and before a checkpoint is saved.
        """
        for store in self.stores:
            store.write(n, state, scalars)
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write all outputs to disk."""
        for store in self.stores:
            store.writer.flush()
        self._flushed = time.monotonic()

    def save(self, arrays: dict[str, NDArray]) -> None:
        """Replace the checkpoint, after the outputs before it are on disk."""
        self.flush()
        self._checkpoint.parent.mkdir(exist_ok=True)
        write_arrays(self._checkpoint, arrays)

    def checkpoint(self) -> dict[str, NDArray] | None:
        """The last checkpoint, or None. Raises RunFolderError if it is damaged."""
        if not self._checkpoint.is_file():
            return None
        try:
            return read_arrays(self._checkpoint, largest=self._checkpoint.stat().st_size)  # it is not compressed
        except DamagedFile as error:
            raise self.damaged(error) from None

    def damaged(self, error: Exception) -> RunFolderError:
        """The error for a checkpoint that is not one of this run."""
        where = "" if str(self._checkpoint) in str(error) else f"{self._checkpoint}: "
        return RunFolderError(f"{where}{error}. {self._restart}")

    def log(self, event: str, **values: Any) -> None:
        """Append one event to log.jsonl, on a line of its own even if the last line is cut off."""
        line = json.dumps({"wall": time.time(), "event": event, **values}).encode() + b"\n"
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
        with os.fdopen(os.open(self.folder / "log.jsonl", flags, 0o666), "r+b", buffering=0) as file:
            if file.seek(0, os.SEEK_END):
                file.seek(-1, os.SEEK_END)
                line = line if file.read(1) == b"\n" else b"\n" + line
            file.write(line)

    def summarise(self, status: str, **values: Any) -> None:
        """Write summary.json: status, versions, machine, git revision and the given values."""
        write_json(self.folder / "summary.json", {"status": status, **provenance(), **values})


class MemoryRecord:
    """The outputs of a run that writes no files."""

    def __init__(self, case: Case, quantities: Mapping[str, Quantity]) -> None:
        self._selections = selections(case, quantities)
        self._dataset = self._selections[0].dataset()
        self._values: dict[str, NDArray] = {}
        for v in self._selections[0].variables():
            self._values[v.name] = np.full([self._dataset.sizes[d] for d in v.dimensions], np.nan, v.dtype)

    def due(self, n: int) -> bool:
        """Whether step n has an output."""
        return self._selections[0].schedule.due(n)

    def stops(self) -> list[Schedule]:
        """The steps that have outputs."""
        return [self._selections[0].schedule]

    def write_frame(self, n: int, state: NDArray, scalars: Mapping[str, NDArray] | None) -> None:
        """Store the outputs of step n; a case with groups of outputs needs a folder."""
        chosen = self._selections[0]
        index = chosen.schedule.index(n)
        named = {chosen.scalar(k): v for k, v in (scalars or {}).items()}
        for name, frame in (chosen.frames(state) | named).items():
            self._values[name][index] = frame

    def flush(self) -> None:
        """Nothing is kept back."""

    def dataset(self) -> xr.Dataset:
        """The outputs of the run, (time, member, ...); nan at outputs that were not reached."""
        variables = {
            v.name: (v.dimensions, self._values[v.name], {"units": v.unit, "long_name": v.description})
            for v in self._selections[0].variables()
        }
        return self._dataset.assign(variables)


def _toml(tables: dict[str, Any]) -> bytes:
    import tomli_w

    return tomli_w.dumps(tables).encode()


@dataclass(frozen=True)
class _Store:
    """One store of a run: what it holds, the folder, its files without frames, and the writer of its frames."""

    selection: Selection
    folder: Path
    files: dict[str, bytes]
    writer: Writer

    @classmethod
    def of(cls, selection: Selection, folder: Path) -> _Store:
        files = selection.files()
        place = folder / selection.place
        return cls(selection, place, files, Writer(place, files, [v.name for v in selection.variables()]))

    def require(self, step: int, complete: bool) -> None:
        """Raise DamagedFile unless the outputs before a step are intact. complete: those of scalars, too."""
        for path in (self.folder / key for key in self.files):
            folders = [p for p in (path.parent, path.parent / "c") if p.exists() and not p.is_dir()]
            if wrong := [path] if path.is_dir() else folders:
                raise RunFolderError(f"{wrong[0]} is in the way of the outputs. Remedy: move it elsewhere")
        count = self.selection.schedule.index(step)
        for variable in self.selection.variables():
            scalar = len(variable.dimensions) == 2
            if complete or not scalar:
                derived = variable.name in self.selection.group.derived
                require_frames(self.folder, self.files, variable.name, count, finite=not (scalar or derived))

    def write(self, n: int, state: NDArray, scalars: Mapping[str, NDArray] | None) -> None:
        """Write the outputs of step n, if it has any."""
        chosen = self.selection
        if chosen.schedule.due(n):
            named = {chosen.scalar(k): v for k, v in (scalars or {}).items() if k in chosen.quantities}
            self.writer.put(chosen.schedule.index(n), chosen.frames(state) | named)


def _index(times: NDArray, others: NDArray) -> int:
    """How many of the first output times are the same."""
    count = min(len(times), len(others))
    different = np.flatnonzero(times[:count] != others[:count])
    return int(different[0]) if len(different) else count
