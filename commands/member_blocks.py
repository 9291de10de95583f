"""Blocks of the members of a run as tasks, each with a folder of its own in blocks/, joined when all are complete."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np

from subgrid.ingest.cache import locked
from subgrid.ingest.cluster import REMEDY, Cluster, WorkersLost
from subgrid.ingest.files import Trajectories
from subgrid.ingest.prepare import Prepared, with_step
from subgrid.solver.backend.files import DamagedFile
from subgrid.solver.case.reading import read
from subgrid.solver.closure import PluginError
from subgrid.solver.simulation import BlowUp, Simulation
from subgrid.solver.simulation.blocks import blocks, join_outputs, joined_checkpoint, of_block
from subgrid.solver.simulation.folder import RunFolderError, require_inputs
from subgrid.solver.simulation.record import Record
from subgrid.solver.simulation.selection import with_chunks

from .execution import advance, observed
from .progress import Bars, Interrupted

FOLDER = "blocks"  # in that of the run
STATE = "state.npy"  # there: the initial state of all members


def has_blocks(folder: Path) -> bool:
    """Whether a run is divided into blocks that have not been joined."""
    return (folder / FOLDER).is_dir()


def drop_joined(folder: Path) -> None:
    """Delete the blocks of a run that is done."""
    if has_blocks(folder) and _summary(folder).get("status") == "done":
        shutil.rmtree(folder / FOLDER)


class Blocks:
    """The members of a run in blocks, by workers, or without a pool one after the other."""

    def __init__(
        self, prepared: Prepared, simulation: Simulation, record: Record, pool: Cluster | None, bars: Bars
    ) -> None:
        self._prepared, self._simulation, self._record = prepared, simulation, record
        self._pool, self._bars = pool, bars
        self._blocks = blocks(simulation)

    def carry_out(self, asked: Callable[[], bool]) -> None:
        """Run the blocks that are not complete, and make the run of them: outputs, checkpoint, counts and seconds.

        Raises Interrupted when asked() has become true, and BlowUp or PluginError for a block that fails.
        """
        folder = self._record.folder
        _store_state(folder / FOLDER / STATE, self._prepared.state)
        left = [b for b in self._blocks if not _complete(place_of(folder, b))]
        total = len(self._blocks)
        self._bars(total - len(left), total, "run, blocks of members")
        stopped = f"interrupted. Resume with: subgrid resume {folder}"

        def stop() -> None:
            if asked():
                raise Interrupted(stopped)

        trajectories = self._prepared.trajectories
        reference = None if trajectories is None else str(trajectories.directory)
        tasks = [(str(folder), b.start, b.stop, reference) for b in left]
        try:
            for done, failure in enumerate(self._failures(tasks, stop), total - len(left) + 1):
                if failure is not None:
                    kind, message = failure
                    raise (BlowUp if kind == "BlowUp" else PluginError)(message)
                self._bars(done, total, "run, blocks of members")
        except WorkersLost as error:
            remedy = f"Remedy: subgrid resume {folder}, with workers or without"
            raise WorkersLost(str(error).replace(REMEDY, remedy)) from None
        except Interrupted:
            raise Interrupted(stopped) from None
        self._join()

    def _failures(self, tasks: list[tuple[Any, ...]], stop: Callable[[], None]) -> Iterator[Any]:
        if self._pool is not None:
            yield from (failure for _, failure in self._pool.carry_out(carry_out, tasks, stop))
            return
        for task in tasks:
            stop()
            yield carry_out(*task)

    def _join(self) -> None:
        simulation, record = self._simulation, self._record
        places = [place_of(record.folder, b) for b in self._blocks]
        case, steps = with_chunks(self._prepared.case), self._prepared.case.steps()
        assert simulation.diagnostics is not None
        with ExitStack() as stack:
            parts = [stack.enter_context(closing(Record.open(place))) for place in places]
            for part, members in zip(parts, self._blocks, strict=True):
                part.require_outputs(of_block(case, members), simulation.diagnostics.quantities, steps + 1)
            found = [arrays for part in parts if (arrays := part.checkpoint()) is not None]
            try:
                if len(found) < len(parts):
                    raise DamagedFile("a block has no checkpoint")
                arrays = joined_checkpoint(found, simulation.checkpoint(), [len(b) for b in self._blocks])
                join_outputs(record, parts)
                simulation.restore(arrays)
            except DamagedFile as error:
                raise RunFolderError(f"{record.folder}: {error}. Remedy: a new run") from None
        for summary in map(_summary, places):
            for name in simulation.seconds:
                simulation.seconds[name] += summary["seconds"][name]
            for coupled, counted in zip(simulation.closures, summary["closures"], strict=True):
                coupled.seconds += counted["seconds"]
        record.save(simulation.checkpoint())


def carry_out(folder: str, first: int, end: int, reference: str | None) -> tuple[str, str] | None:
    """Run the members first, ..., end - 1 of the run in a folder, or go on with them; (kind, message) of a failure.

    reference: the folder of the trajectories of the reference, for closures that need them.
    A worker that is believed to be dead may still be at it: wait for it.
    """
    whole, members = Path(folder), range(first, end)
    place = place_of(whole, members)
    with locked(place.with_name(f".{place.name}.lock"), wait=lambda: None, temporary=True):
        if _complete(place):
            return None
        require_inputs(whole)
        case = with_step(read(whole / "case.toml"))
        state = np.load(whole / FOLDER / STATE, mmap_mode="r")
        trajectories = None if reference is None else Trajectories(Path(reference))
        everything = Prepared(case, case.build_equation(), case.grid.grid(), state, trajectories, whole, state)
        begun = (place / "case.toml").exists()
        try:
            simulation = everything.simulation(case.closure, dump=place / "guard.npz", members=tuple(members))
            own = of_block(case, members)
            prepared = Prepared(own, everything.equation, everything.grid, state, None, whole, state)
            quantities = observed(prepared, simulation)
            with closing(Record.open(place) if begun else Record.create(place, own, quantities)) as record:
                if begun:
                    arrays = record.checkpoint()
                    if arrays is not None:
                        simulation.restore(arrays)
                    record.require_outputs(own, quantities, simulation.step_number)
                    record.go_on(own, own, quantities)
                advance(prepared, simulation, record, Bars(quiet=True))
        except (BlowUp, PluginError) as error:
            kind = "BlowUp" if isinstance(error, BlowUp) else "PluginError"
            return kind, f"{error} (members {first} to {end - 1})"
    return None


def place_of(folder: Path, members: range) -> Path:
    """The folder of a block of the run in a folder."""
    return folder / FOLDER / f"{members.start:06d}-{members.stop - 1:06d}"


def _summary(folder: Path) -> dict[str, Any]:
    """summary.json of a run or of a block; empty if there is none, or a damaged one."""
    try:
        found = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _complete(place: Path) -> bool:
    return _summary(place).get("status") == "done"


def _store_state(path: Path, state: Any) -> None:
    """Write the initial state of all members, for the workers to read their own, unless it is there."""
    if path.is_file():
        return
    path.parent.mkdir(exist_ok=True)
    beside = path.with_name(f".{os.getpid()}.npy")
    np.save(beside, state)
    beside.replace(path)
