"""The rows of a comparison that are simulations: their closures, members and costs."""

from __future__ import annotations

from pathlib import Path

from numpy.typing import NDArray

from subgrid.ingest.prepare import Prepared
from subgrid.solver.case.base import multiple
from subgrid.solver.case.compare_rows import NONE
from subgrid.solver.case.tables import ClosureTable, CompareRow
from subgrid.solver.simulation import BlowUp

from .cost import Clocked
from .results import RowKind
from .rows import Run, warm_up

UNCORRECTED = CompareRow(label=NONE, closures=())


def simulated(prepared: Prepared) -> list[CompareRow]:
    """The rows that are simulations: the uncorrected model, then those with closures."""
    rows = prepared.case.compare.closures
    corrected = [r for r in rows if acting(r, prepared.folder)]
    return [*([r for r in rows if r not in corrected] or [UNCORRECTED]), *corrected]


def acting(row: CompareRow, folder: Path) -> tuple[ClosureTable, ...]:
    """The closures of a row, without those of kind "none"."""
    return tuple(table for table in row.closures if table.find(folder).kind != "none")


def row_kind(kinds: list[str]) -> RowKind:
    """Kind of a row from those of the closures that act in it."""
    if not kinds:
        return "none"
    if "oracle" in kinds:
        return "oracle"
    if "learned" not in kinds:
        return "classical"
    return "learned" if len(kinds) == 1 else "sum"


def perturbed(prepared: Prepared, row: CompareRow) -> Prepared:
    return prepared if row.perturbation is None else prepared.perturbed(row.perturbation)


def share(prepared: Prepared) -> int:
    """Members of each trajectory."""
    reference = prepared.case.reference
    assert reference is not None
    return prepared.case.ensemble.members // reference.trajectories


def alike(state: NDArray, prepared: Prepared) -> bool:
    """Whether the members of each trajectory, more than one, do not differ after the first steps."""
    by_trajectory = state.reshape(-1, share(prepared), *state.shape[1:])
    return share(prepared) > 1 and bool((by_trajectory == by_trajectory[:, :1]).all())


def distinct_members(prepared: Prepared, alike: bool) -> tuple[int, ...]:
    """The members that are run: one of each trajectory if they are alike."""
    return tuple(range(0, prepared.case.ensemble.members, share(prepared) if alike else 1))


def ladder_members(prepared: Prepared, row: CompareRow, run: Run) -> tuple[int, ...]:
    """The members of the runs of the frontier, which start from the case's own perturbations.

    row, run: the uncorrected row, which may have perturbations of its own.
    """
    if row.perturbation is None:
        return distinct_members(prepared, run.alike)
    begun = prepared.simulation(())
    try:
        warm_up(begun)
    except BlowUp:
        return distinct_members(prepared, False)
    return distinct_members(prepared, alike(begun.state, prepared))


def classical(prepared: Prepared, rows: list[CompareRow]) -> list[ClosureTable]:
    """Closures of the rows that consist of a classical one alone, that ships with subgrid or is installed.

    Those with weights are left out, which belong to one grid, and those of a file, which are what the user tests.
    """
    tables = [row.closures[0] for row in rows if len(acting(row, prepared.folder)) == len(row.closures) == 1]
    found = [(table, table.find(prepared.folder)) for table in tables]
    return [t for t, cls in found if cls.kind == "classical" and t.path is None and "weights" not in cls.model_fields]


def clocked(prepared: Prepared, row: CompareRow, run: Run) -> Clocked | None:
    """The run of a row, up to its last output before a failure, for the measurement of its cost."""
    case = prepared.case
    every = multiple(case.output.every, case.step)
    steps = min(case.steps(), (run.count - 1) * every)
    if steps <= 0:
        return None
    prepared, tables = perturbed(prepared, row), acting(row, prepared.folder)
    members = distinct_members(prepared, run.alike)
    return Clocked(lambda: prepared.simulation(tables, members=members, threads=1), steps, every)
