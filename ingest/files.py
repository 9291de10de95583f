"""The files of one set of trajectories, in a directory that is named by the content of the request.

request.json      the request; its hash is the name of the directory
state.npy         (trajectory, time, field, *grid), float64: restricted states
term.npy          (trajectory, call, field, *grid), float32: missing terms, if the request asks for them
fine.npy          (trajectory, field, *reference grid): the reference's own state, if the request asks for it
checkpoint.npz    the simulation of an unfinished generation
done.json         written last: its presence means that all other files are complete
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subgrid.solver.backend.files import read_arrays, write_arrays, write_json
from subgrid.solver.grid import Grid
from subgrid.solver.simulation.schedule import Schedule

from .requests import Request

CHECKPOINT_SECONDS = 60.0


class Trajectories:
    """Read-only access to finished trajectories. Raises ValueError for a directory without them."""

    def __init__(self, directory: Path) -> None:
        if not (directory / "done.json").is_file():
            raise ValueError(f"{directory} contains no finished trajectories. Remedy: `subgrid data CASE`")
        self.directory = directory
        self.request: dict[str, Any] = json.loads((directory / "request.json").read_text(encoding="utf-8"))
        self.step, self.start = float(self.request["step"]), float(self.request["start"])

    def _open(self, name: str) -> NDArray:
        return np.load(self.directory / f"{name}.npy", mmap_mode="r", allow_pickle=False)

    @property
    def state(self) -> NDArray:
        """(trajectory, time, field, *grid), float64."""
        return self._open("state")

    @property
    def term(self) -> NDArray:
        """(trajectory, call, field, *grid), float32."""
        return self._open("term")

    @property
    def fine(self) -> NDArray:
        """(trajectory, field, *reference grid): the reference's own state at the start of the case."""
        return self._open("fine")

    def times(self, name: str = "state") -> NDArray[np.float64]:
        """Times of the entries of `state` or `term`."""
        first, last, every = self.request[f"{name}_steps"]
        return self.start + self.step * np.arange(first, last + 1, every)


class Writer:
    """The directory of trajectories that are being generated. `schedules`: steps of the entries of each array."""

    def __init__(self, request: Request, fields: int, grid: Grid) -> None:
        self.directory = request.directory()
        self.directory.mkdir(parents=True, exist_ok=True)
        write_json(self.directory / "request.json", asdict(request))
        spans = {"state": (request.state_steps, "f8"), "term": (request.term_steps, "f4")}
        self.schedules = {name: Schedule(*span) for name, (span, _) in spans.items() if span}
        self._arrays = {}
        for name, schedule in self.schedules.items():
            shape = (request.trajectories, schedule.count, fields, *grid.shape)
            self._arrays[name] = _memory_map(self.directory / f"{name}.npy", shape, spans[name][1])
        self._checkpoint = self.directory / "checkpoint.npz"
        self._saved = time.monotonic()

    def checkpoint(self) -> dict[str, NDArray] | None:
        """The checkpoint of an interrupted generation, or None."""
        return read_arrays(self._checkpoint) if self._checkpoint.is_file() else None

    def write(self, name: str, n: int, values: NDArray) -> None:
        """Write the entry of step n, (trajectory, field, *grid)."""
        self._arrays[name][:, self.schedules[name].index(n)] = values

    def write_fine(self, state: NDArray) -> None:
        np.save(self.directory / "fine.npy", state)

    def checkpoint_due(self) -> bool:
        """Whether the last checkpoint is older than CHECKPOINT_SECONDS."""
        return time.monotonic() - self._saved > CHECKPOINT_SECONDS

    def save(self, checkpoint: dict[str, NDArray]) -> None:
        """Replace the checkpoint, after all entries before it are on disk."""
        self._flush()
        write_arrays(self._checkpoint, checkpoint)
        self._saved = time.monotonic()

    def finish(self, steps: int) -> Trajectories:
        self._flush()
        write_json(self.directory / "done.json", {"steps": steps})
        self._checkpoint.unlink(missing_ok=True)
        return Trajectories(self.directory)

    def _flush(self) -> None:
        for array in self._arrays.values():
            array.flush()


def _memory_map(path: Path, shape: tuple[int, ...], dtype: str) -> np.memmap:
    if path.is_file():
        return np.lib.format.open_memmap(path, mode="r+")
    return np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
