"""Blocks of the members of a run, each a record of its own, and the run that they make together, byte for byte.

A block holds consecutive members. Outputs, checkpoints and random numbers of a member do not depend on the others, see
`require_separate`: the arrays of the blocks, one after the other along the axis of members, are those of the whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ..backend.files import DamagedFile
from ..case.tables import Case
from .diagnostics import members_together
from .loop import Simulation
from .record import Record
from .store import Chunks, Variable

BLOCKS = 16  # about, if there are as many members
_LANE = re.compile(r"^lane\.(\d+)\.(\w+)$")
_BY_MEMBER = re.compile(r"^(?:state|taken|closure\.\d+\.(?:memory\..+|change\..+|held\.(?:value|slope)))$")

Arrays = Mapping[str, NDArray]


def blocks(simulation: Simulation) -> list[range]:
    """The members of each block, the same for any number of workers."""
    count = len(simulation.members)
    together = members_together(simulation.equation, simulation.grid)
    size = together * -(-count // (together * BLOCKS))
    return [range(first, min(first + size, count)) for first in range(0, count, size)]


def require_separate(case: Case, simulation: Simulation) -> None:
    """Raise ValueError unless the members of a run neither interact nor are computed together."""
    reason = ""
    if coupling := [c.name for c in simulation.closures if not c.closure.by_member]:
        reason = f"the closure {coupling[0]} does not declare by_member: its answers may depend on all members"
    elif simulation.closures and simulation.guard == "skip":
        reason = 'guard.policy = "skip" drops an answer for all members'
    elif case.output.diagnostics:
        reason = f"{type(case.output.diagnostics[0]).__name__} in output.diagnostics may measure all members together"
    elif not simulation.backend.compiled:
        reason = f"the backend {simulation.backend.name} computes all members together"
    elif simulation.equation.carried:
        reason = "a flow carries the entities of all members"
    if reason:
        raise ValueError(f"--workers and --scheduler: {reason}. Remedy: leave the option out, which is one process")


def of_block(case: Case, members: range) -> Case:
    """The case whose ensemble is a block; for its record, not to be run as it is."""
    ensemble = case.ensemble.model_copy(update={"members": len(members)})
    return case.model_copy(update={"ensemble": ensemble}).located(case.folder)


def joined_checkpoint(parts: Sequence[Arrays], whole: Arrays, sizes: Sequence[int]) -> dict[str, NDArray]:
    """The checkpoint of a run from those of its blocks at the same step. Raises DamagedFile if they do not fit.

    whole: the checkpoint of the run before its first step, whose lanes have other members than those of the blocks.
    sizes: members of each block.
    """
    found: dict[str, NDArray] = {}
    for key, first in parts[0].items():
        if _LANE.match(key):
            continue
        arrays = [part[key] for part in parts]
        if _BY_MEMBER.match(key):
            wrong = [a.shape for a, n in zip(arrays, sizes, strict=True) if a.ndim == 0 or len(a) != n]
            if wrong:
                raise DamagedFile(f"{key} has the shape {wrong[0]}, expected the members along its first axis")
            found[key] = np.concatenate(arrays)
        elif any(not np.array_equal(first, a) for a in arrays):
            raise DamagedFile(f"{key} differs between the blocks of members")
        else:
            found[key] = first
    names = {match[2] for match in map(_LANE.match, whole) if match}
    rows = {name: np.concatenate([*_of_lanes(parts, name)]) for name in names}
    places = dict.fromkeys(rows, 0)
    for key, array in whole.items():
        if match := _LANE.match(key):
            name = match[2]
            row = 0 if name == "age" else places[name]  # the age is one number for each lane, the same for all
            found[key] = rows[name][row : row + len(array)]
            places[name] += len(array)
    return {k: found[k] for k in (*(k for k in whole if k in found), *(k for k in found if k not in whole))}


def _of_lanes(parts: Sequence[Arrays], name: str) -> Iterator[NDArray]:
    for part in parts:
        numbers = sorted(int(m[1]) for k in part if (m := _LANE.match(k)) and m[2] == name)
        yield from (part[f"lane.{i}.{name}"] for i in numbers)


def join_outputs(record: Record, parts: Sequence[Record]) -> None:
    """Write the outputs of a run from those of its blocks, which are complete. Raises DamagedFile."""
    for i, store in enumerate(record.stores):
        count = store.selection.schedule.count
        pieces = [part.stores[i] for part in parts]
        for variable in store.selection.variables():
            columns = [_frames(Chunks(p.folder, p.files, variable.name), variable, count) for p in pieces]
            for n, frames in enumerate(zip(*columns, strict=True)):
                store.writer.put(n, {variable.name: np.concatenate(frames)})
            store.writer.flush()


def _frames(chunks: Chunks, variable: Variable, count: int) -> Iterator[NDArray]:
    """The frames of one variable, one chunk in memory at a time; one without a file holds nan."""
    for first in range(0, count, chunks.length):
        length = min(chunks.length, count - first)
        if chunks.path(first // chunks.length).is_file():
            yield from chunks.read(first // chunks.length, length)
        else:
            yield from np.full((length, *chunks.frame), np.nan, variable.dtype)
