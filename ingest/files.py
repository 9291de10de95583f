"""The files of one set of trajectories, in a directory that is named by the content of the request.

request.json      the request; its hash is the name of the directory
state.npy         (trajectory, time, field, *grid), float64: restricted states
term.npy          (trajectory, call, field, *grid), float32: missing terms, if the request asks for them
fine.npy          (trajectory, field, *reference grid), float64: the reference's own state, if the request asks for it
carrier.npy       (trajectory, field, *reference grid), float64: with it, of the flow that carries entities
checkpoint.npz    the simulation of an unfinished generation, and a CRC-32 of each entry before it
done.json         written last: its presence means that all other files are complete; it holds the CRC-32 of each
"""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subgrid.solver.backend.files import (
    DamagedFile,
    read_arrays,
    read_json,
    remove_temporary,
    write_arrays,
    write_json,
)
from subgrid.solver.equations import Equation
from subgrid.solver.equations.tracers.equation import Tracers
from subgrid.solver.grid import Grid
from subgrid.solver.simulation import Simulation
from subgrid.solver.simulation.schedule import Schedule

from .entries import BLOCK, Entries
from .requests import Request

CHECKPOINT_SECONDS = 60.0
CLOCK_TICK = 10**9  # ns; two changes of a file within this time may show the same time of modification
TOGETHER = 2**22  # points of the reference grids of the trajectories that are computed at a time
ARRAYS = ("state", "term", "fine", "carrier")
_verified: dict[Path, tuple[int, ...]] = {}  # device, inode, size and time of files that this process found intact


class Trajectories:
    """Read-only access to finished trajectories.

    The files are verified when they are opened: once per process, and again if one was replaced. Data of a version that
    stored no checksums must have the announced sizes and finite values. Raises ValueError for a directory without
    finished trajectories, and DamagedFile, which is one, naming the file that is damaged.
    """

    def __init__(self, directory: Path) -> None:
        if not (directory / "done.json").is_file():
            raise ValueError(f"{directory} contains no finished trajectories. Remedy: `subgrid data CASE`")
        self.directory = directory
        done = read_json(directory / "done.json")
        if not isinstance(done, dict):
            raise DamagedFile(f"{directory / 'done.json'} is not a record of finished data")
        try:
            checksums = done.get("checksums")
            if checksums is not None:
                verify_once(directory / "request.json", lambda path: checksum(path) == checksums["request.json"])
            self.request: dict[str, Any] = read_json(directory / "request.json")
            self.step, self.start = float(self.request["step"]), float(self.request["start"])
            for name in arrays_of(self.request):
                verify_once(
                    directory / f"{name}.npy",
                    lambda path: _finite(path) if checksums is None else checksum(path) == checksums[path.name],
                )
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, DamagedFile):
                raise
            raise DamagedFile(f"{directory} does not hold the data of its request ({error!r})") from None

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

    @property
    def carrier(self) -> NDArray | None:
        """(trajectory, field, *grid.carrier): the flow that carries the entities, at the time of `fine`."""
        return self._open("carrier") if "carrier" in arrays_of(self.request) else None

    def times(self, name: str = "state") -> NDArray[np.float64]:
        """Times of the entries of `state` or `term`."""
        return self.start + self.step * Schedule(*self.request[f"{name}_steps"]).steps().astype(np.float64)


def arrays_of(request: dict[str, Any]) -> list[str]:
    """Names of the arrays that a request asks for."""
    asked = {"state": True, "term": request["term_steps"] is not None, "fine": request["fine_at"] is not None}
    flow = request["equation"].get("carrier") is not None and request["equation"].get("stored") is None
    asked["carrier"] = asked["fine"] and flow and request.get("file") is None
    return [name for name in ARRAYS if asked[name]]


def checksum(path: Path) -> int:
    """CRC-32 of a file, read block by block."""
    found, block = 0, bytearray(BLOCK)
    with open(path, "rb", buffering=0) as file:
        while count := file.readinto(block):
            found = zlib.crc32(memoryview(block)[:count], found)
    return found


def verify_once(path: Path, intact: Callable[[Path], bool]) -> None:
    """Raise DamagedFile unless the file is intact. One that was found intact is verified again only if it changed."""
    try:
        found = path.stat()
        version = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
        if _verified.get(path) == version:
            return
        if not intact(path):
            raise DamagedFile(f"{path} is damaged: its contents are not those that were written")
    except FileNotFoundError:
        raise DamagedFile(f"{path} is missing") from None
    if time.time_ns() - found.st_mtime_ns > CLOCK_TICK:  # a later change shows in the time of the file
        _verified[path] = version


def _finite(path: Path) -> bool:
    """Whether the file is an array of finite floats of the announced size."""
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    return array.dtype.kind == "f" and all(bool(np.isfinite(part).all()) for part in array)


def block_size(request: Request) -> int:
    """The number of trajectories that are computed at a time: a constant of the request, so that it can be resumed."""
    if request.file is not None:  # a file holds all of them at each time
        return request.trajectories
    return max(1, min(request.trajectories, TOGETHER // math.prod(request.reference_shape)))


class Writer:
    """The directory of trajectories that are being generated. Its lock is held by the caller.

    schedules: steps of the entries of each array. last: the last step of a state or term. blocks: numbers of the
    trajectories that are computed together, block by block; block: the one that is being written. The size of blocks
    bounds the memory of a reference by what one block needs, whatever the number of trajectories and states.
    """

    def __init__(self, request: Request, equation: Equation, grid: Grid) -> None:
        self.directory, self._content = request.directory(), asdict(request)
        if not request.first:
            del self._content["first"]
        fine = None if request.fine_at is None else (request.fine_at, request.fine_at, 1)
        spans = {"state": request.state_steps, "term": request.term_steps, "fine": fine, "carrier": fine}
        reference = grid.refined(request.reference_shape)
        asked = arrays_of(self._content)
        size, count = block_size(request), request.trajectories
        self.blocks = [range(i, min(i + size, count)) for i in range(0, count, size)]
        self.block = 0
        self._entries: dict[str, Entries] = {}
        for name, span in spans.items():
            if span is None or name not in asked:
                continue
            schedule, single, fields = Schedule(*span), name in ("fine", "carrier"), len(equation.fields)
            points = (fields, *reference.shape) if single else (schedule.count, fields, *grid.shape)
            if name == "carrier":
                assert isinstance(equation, Tracers) and reference.carrier is not None
                points = (len(equation.carrier.fields), *reference.carrier.shape)
            shape, dtype = (request.trajectories, *points), "<f4" if name == "term" else "<f8"
            self._entries[name] = Entries(self.directory / f"{name}.npy", schedule, shape, dtype, single, size)
        self.schedules = {name: entries.schedule for name, entries in self._entries.items()}
        self.last = max(schedule.last or 0 for schedule in self.schedules.values())
        self._checkpoint = self.directory / "checkpoint.npz"
        self._saved = time.monotonic()
        remove_temporary(self.directory)

    @property
    def interrupted(self) -> bool:
        """Whether there is a checkpoint of an interrupted generation."""
        return self._checkpoint.is_file()

    def begin(self) -> None:
        """Write everything anew: delete what is there, and allocate the arrays."""
        self.block = 0
        for name in ("done.json", "checkpoint.npz", "request.json", *(f"{name}.npy" for name in ARRAYS)):
            (self.directory / name).unlink(missing_ok=True)
        write_json(self.directory / "request.json", self._content)
        for entries in self._entries.values():
            entries.allocate()

    def resume(self, build: Callable[[range], Simulation]) -> Simulation:
        """The simulation of the block that was interrupted, restored, and the position of the writer in it.

        build: the simulation of the trajectories of a block. Raises DamagedFile unless the checkpoint and all entries
        before it are intact.
        """
        try:
            arrays = read_arrays(self._checkpoint, largest=self._checkpoint.stat().st_size)
            step, block = int(arrays["step"]), int(arrays.pop("block", np.zeros(())))
            if not (0 <= step <= self.last and 0 <= block < len(self.blocks)):
                raise DamagedFile(f"{self._checkpoint}: step {step} is not one of 0 ... {self.last}")
            if bad := [k for k, a in arrays.items() if a.dtype.kind in "fc" and not np.isfinite(a).all()]:
                raise DamagedFile(f"{self._checkpoint}: {bad[0]} holds values that are not finite")
            for name, entries in self._entries.items():
                entries.open()
                entries.verify(arrays.pop(f"entries.{name}"), block, step)
            simulation = build(self.blocks[block])
            simulation.restore(arrays)
            self.block = block
            return simulation
        except (KeyError, IndexError, TypeError, ValueError) as error:
            if isinstance(error, DamagedFile):
                raise
            raise DamagedFile(f"{self._checkpoint} is not a checkpoint of this generation ({error!r})") from None

    def write(self, name: str, n: int, values: NDArray) -> None:
        """Write the entry of step n of the present block, (trajectory, field, *grid).

        Raises BlowUp for values that are not finite.
        """
        self._entries[name].write(self.block, n, values)

    def copy(self, part: Trajectories, first: int) -> None:
        """Write all entries of the trajectories from number `first` on, block by block, from finished ones."""
        for name, entries in self._entries.items():
            entries.copy(part.directory / f"{name}.npy", first)

    def checkpoint_due(self) -> bool:
        """Whether the last checkpoint is older than CHECKPOINT_SECONDS."""
        return time.monotonic() - self._saved > CHECKPOINT_SECONDS

    def save(self, checkpoint: dict[str, NDArray]) -> None:
        """Replace the checkpoint, after all entries before it are on disk."""
        self._flush()
        entries = {f"entries.{name}": np.array(e.checksums, dtype=np.uint32) for name, e in self._entries.items()}
        write_arrays(self._checkpoint, checkpoint | entries | {"block": np.array(self.block)})
        self._saved = time.monotonic()

    def finish(self) -> Trajectories:
        """Record the checksums of the files, which makes the data finished."""
        self._flush()
        files = ["request.json", *(entries.path.name for entries in self._entries.values())]
        checksums = {name: checksum(self.directory / name) for name in files}
        write_json(self.directory / "done.json", {"steps": self.last, "checksums": checksums})
        self._checkpoint.unlink(missing_ok=True)
        return Trajectories(self.directory)

    def _flush(self) -> None:
        for entries in self._entries.values():
            entries.flush()
