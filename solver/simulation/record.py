"""The outputs of a run: its folder, or in memory.

case.toml              the case with every default
inputs.json            the case again, with the hashes of the files that it names
fields.zarr            the outputs
checkpoint/state.npz   the last checkpoint
log.jsonl              one event per line
summary.json           how the run ended
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import time
import tomllib
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
from ..equations.base import Field
from ..grid import Grid
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
from .schedule import output_times
from .store import chunk, empty_store, remove_partial, require_frames, write_store

if TYPE_CHECKING:
    import xarray as xr


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
    def create(cls, folder: Path, case: Case, grid: Grid, reference: Path | None = None) -> Record:
        """The record of a new run. Raises RunFolderError if the folder is not vacant, see `require_vacant`.

        reference: the folder of the reference's trajectories, if the run needs them.
        """
        require_vacant(folder)
        text = _toml(case.resolved())
        inputs = case_inputs(tomllib.loads(text.decode()), reference)
        folder.mkdir(parents=True, exist_ok=True)
        record = cls(folder)
        require_vacant(folder)
        (folder / STARTING).touch()
        for left in FOLDERS:
            shutil.rmtree(folder / left, ignore_errors=True)
        (folder / "checkpoint").mkdir()
        write_store(record._fields, _store(case, grid))
        write_json(folder / "inputs.json", inputs)
        replace(folder / "case.toml", text)
        (folder / STARTING).unlink()
        return record

    @classmethod
    def open(cls, folder: Path) -> Record:
        """The record of an existing run; nothing is written before `go_on`. Raises RunFolderError if there is none."""
        if not (folder / "case.toml").is_file():
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

    def require_outputs(self, case: Case, grid: Grid, step: int) -> None:
        """Raise RunFolderError unless the outputs before a step are on disk and intact."""
        files = _store(case, grid)
        for path in (self._fields / key for key in files):
            folders = [p for p in (path.parent, path.parent / "c") if p.exists() and not p.is_dir()]
            if wrong := [path] if path.is_dir() else folders:
                raise RunFolderError(f"{wrong[0]} is in the way of the outputs. Remedy: move it elsewhere")
        count = int((np.rint((output_times(case) - case.time.start) / case.step) < step).sum())
        try:
            for field in recorded_fields(case):
                require_frames(self._fields, files, field.name, count)
        except DamagedFile as error:
            raise RunFolderError(f"{error}. {self._restart}") from None

    def go_on(self, before: Case, case: Case, grid: Grid, reference: Path | None = None) -> list[str]:
        """Make the folder that of `case`, which may end at another time than the run `before`; the first write.

        Returns the keys of fields.zarr that were missing or damaged. Killed at any instant, it leaves a folder that can
        be resumed, to the old end or to the new one.
        """
        path = self.folder / "case.toml"
        tables = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        last = stored_inputs(self.folder) or {"ends": [], "references": {}}
        if extended := case.time.end != before.time.end:
            tables["time"]["end"] = case.time.end
            old, new = output_times(before), output_times(case)
            for index in (i for i, t in enumerate(old) if i >= len(new) or new[i] != t):
                for field in recorded_fields(case):
                    key = chunk(field.name, index, len(frame_dimensions(case, grid)))
                    (self._fields / key).unlink(missing_ok=True)
        inputs = case_inputs(tables, reference)
        inputs["ends"] = sorted({*last["ends"], before.time.end, case.time.end})
        inputs["references"] = last["references"] | inputs["references"]
        write_json(self.folder / "inputs.json", inputs)
        if extended:
            replace(path, _toml(tables))
        written = write_store(self._fields, _store(case, grid))
        for place in (self.folder, self._checkpoint.parent):
            if place.is_dir():
                remove_temporary(place)
        remove_partial(self._fields)
        (self.folder / STARTING).unlink(missing_ok=True)
        return [] if extended else written

    @property
    def _restart(self) -> str:
        return f"Remedy: delete {self._checkpoint} to start again from the beginning"

    def dataset(self) -> xr.Dataset:
        """The fields of the run on disk, (time, member, *grid), opened lazily."""
        import xarray as xr

        return xr.open_dataset(self._fields, engine="zarr", chunks=None, consolidated=False)

    def write_frame(self, index: int, state: NDArray, names: list[str]) -> None:
        """Write the state (member, field, *grid) as output number `index`; fields that are not recorded are skipped."""
        import zarr

        group = zarr.open_group(self._fields, mode="r+")
        for i, name in enumerate(names):
            if name in group:
                group[name][index] = state[:, i]  # type: ignore[index]

    def save(self, arrays: dict[str, NDArray]) -> None:
        """Replace the checkpoint."""
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
    """The fields of a run that writes no files."""

    def __init__(self, case: Case, grid: Grid) -> None:
        self._dataset = empty_dataset(case, grid)
        self._fields = recorded_fields(case)
        self._dims = frame_dimensions(case, grid)
        shape = tuple(self._dataset.sizes[d] for d in self._dims)
        self._values = {field.name: np.full(shape, np.nan, case.precision) for field in self._fields}

    def write_frame(self, index: int, state: NDArray, names: list[str]) -> None:
        """Store the state (member, field, *grid) as output number `index`; fields that are not recorded are skipped."""
        for i, name in enumerate(names):
            if name in self._values:
                self._values[name][index] = state[:, i]

    def dataset(self) -> xr.Dataset:
        """The fields of the run, (time, member, *grid); nan at outputs that were not reached."""
        variables = {
            f.name: (self._dims, self._values[f.name], {"units": f.unit, "long_name": f.description})
            for f in self._fields
        }
        return self._dataset.assign(variables)


def _toml(tables: dict[str, Any]) -> bytes:
    import tomli_w

    return tomli_w.dumps(tables).encode()


def _store(case: Case, grid: Grid) -> dict[str, bytes]:
    return empty_store(empty_dataset(case, grid), recorded_fields(case), frame_dimensions(case, grid), case.precision)


def recorded_fields(case: Case) -> tuple[Field, ...]:
    """The fields that the case records in its outputs."""
    chosen = case.output.fields
    return tuple(f for f in case.build_equation().fields if not chosen or f.name in chosen)


def frame_dimensions(case: Case, grid: Grid) -> tuple[str, ...]:
    """Dimensions of a field of the outputs: time, member, and the axes of the grid."""
    return ("time", "member", *case.build_equation().axes(grid))


def empty_dataset(case: Case, grid: Grid) -> xr.Dataset:
    """Coordinates and attributes of the outputs of a case, without fields."""
    import xarray as xr

    equation = case.build_equation()
    coords: dict[str, Any] = {
        "time": ("time", output_times(case), {"units": "equation's own", "long_name": "time"}),
        "member": ("member", np.arange(case.ensemble.members)),
    }
    where = {"semi-linear": "points", "particles": "number"}.get(equation.kind, "cell centres")
    for axis, values in equation.coordinates(grid).items():
        coords[axis] = (axis, values, {"units": "equation's own", "long_name": f"{axis}, {where}"})
    return xr.Dataset(coords=coords, attrs={"title": case.title, "equation": equation.name})


def provenance() -> dict[str, Any]:
    """Versions, machine and git revision, for summaries and reports."""
    from importlib.metadata import PackageNotFoundError, version

    versions = {"python": platform.python_version()}
    for package in ("subgrid", "numpy", "scipy", "numba", "torch", "pyfftw", "ducc0", "xarray", "zarr"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "versions": versions,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "git": _revision(),
    }


def _revision() -> str | None:
    """Git revision of the checkout that contains this file, or None if it is not tracked by git."""
    here = Path(__file__).resolve().parent
    try:
        found = subprocess.run(
            ["git", "-C", str(here), "rev-parse", "--short", "HEAD"],
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=5,
        )
        tracked = subprocess.run(
            ["git", "-C", str(here), "ls-files", "--error-unmatch", Path(__file__).name],
            capture_output=True,
            timeout=5,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() if found.returncode == 0 and tracked.returncode == 0 else None
