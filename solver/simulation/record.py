"""The outputs of a run: its folder (case.toml, fields.zarr, checkpoint/, log.jsonl, summary.json), or in memory."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..backend.files import FolderInUse, FolderLock, read_arrays, remove_temporary, replace, write_arrays, write_json
from ..case.base import multiple
from ..case.tables import Case
from ..equations.base import Field
from ..grid import Grid

if TYPE_CHECKING:
    import xarray as xr

STARTING = ".starting"  # marks a folder whose layout is not complete; without case.toml such a folder counts as empty


class RunFolderError(ValueError):
    """The folder is not empty, is in use by another process, or contains no run."""


def require_vacant(folder: Path) -> None:
    """Raise RunFolderError unless the folder is absent, empty, or left by a run that was killed before it began."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if (folder / STARTING).is_file() and not (folder / "case.toml").exists():
        return
    raise RunFolderError(f"{folder} is not empty; every run needs its own folder. Remedy: choose another --out")


class Record:
    """The folder of one run.

    The arrays for all output times are created when the run begins and filled during the run, so a resumed run rewrites
    the frames after its checkpoint with the same bytes. Only one process at a time can use a folder: it is locked until
    the process ends or calls `close`. Raises RunFolderError if another process has the lock.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._checkpoint = folder / "checkpoint" / "state.npz"
        try:
            self._lock = FolderLock(folder)
        except FolderInUse as error:
            raise RunFolderError(str(error)) from None

    def close(self) -> None:
        """Release the lock on the folder."""
        self._lock.close()

    @classmethod
    def create(cls, folder: Path, case: Case, grid: Grid) -> Record:
        """The record of a new run. Raises RunFolderError if the folder is not vacant, see `require_vacant`."""
        require_vacant(folder)
        import tomli_w

        folder.mkdir(parents=True, exist_ok=True)
        record = cls(folder)
        require_vacant(folder)
        (folder / STARTING).touch()
        for left in ("checkpoint", "fields.zarr"):
            shutil.rmtree(folder / left, ignore_errors=True)
        (folder / "checkpoint").mkdir()
        record._layout(case, grid)
        replace(folder / "case.toml", tomli_w.dumps(case.resolved()).encode())
        (folder / STARTING).unlink()
        return record

    @classmethod
    def open(cls, folder: Path) -> Record:
        """The record of an existing run, without the remains of interrupted writes. Raises RunFolderError if none."""
        if not (folder / "case.toml").is_file():
            raise RunFolderError(
                f"{folder} holds no run (it has no case.toml). Remedy: `subgrid run CASE --out {folder}`"
            )
        record = cls(folder)
        (folder / STARTING).unlink(missing_ok=True)
        for place in (folder, folder / "checkpoint"):
            remove_temporary(place)
        return record

    def _layout(self, case: Case, grid: Grid) -> None:
        import zarr

        dataset = empty_dataset(case, grid)
        dataset.to_zarr(self.folder / "fields.zarr", mode="w", consolidated=False)
        group = zarr.open_group(self.folder / "fields.zarr", mode="r+")
        dims = frame_dimensions(case, grid)
        shape = tuple(dataset.sizes[d] for d in dims)
        for field in recorded_fields(case):
            array = group.create_array(
                field.name,
                shape=shape,
                chunks=(1, *shape[1:]),
                dtype="float64",
                fill_value=float("nan"),
                dimension_names=dims,
            )
            array.attrs.update({"units": field.unit, "long_name": field.description})

    def dataset(self) -> xr.Dataset:
        """The fields of the run on disk, (time, member, *grid), opened lazily."""
        import xarray as xr

        return xr.open_dataset(self.folder / "fields.zarr", engine="zarr", chunks=None, consolidated=False)

    def write_frame(self, index: int, state: NDArray, names: list[str]) -> None:
        """Write the state (member, field, *grid) as output number `index`; fields that are not recorded are skipped."""
        import zarr

        group = zarr.open_group(self.folder / "fields.zarr", mode="r+")
        for i, name in enumerate(names):
            if name in group:
                group[name][index] = state[:, i]  # type: ignore[index]

    def save(self, arrays: dict[str, NDArray]) -> None:
        """Replace the checkpoint."""
        write_arrays(self._checkpoint, arrays)

    def checkpoint(self) -> dict[str, NDArray] | None:
        """The last checkpoint, or None."""
        return read_arrays(self._checkpoint) if self._checkpoint.is_file() else None

    def log(self, event: str, **values: Any) -> None:
        """Append one event to log.jsonl."""
        line = json.dumps({"wall": time.time(), "event": event, **values})
        with (self.folder / "log.jsonl").open("a") as file:
            file.write(line + "\n")

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
        self._values = {field.name: np.full(shape, np.nan) for field in self._fields}

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
    every = multiple(case.output.every, case.step)
    times = case.time.start + case.step * np.arange(0, case.steps() + 1, every)
    coords: dict[str, Any] = {
        "time": ("time", times, {"units": "equation's own", "long_name": "time"}),
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
