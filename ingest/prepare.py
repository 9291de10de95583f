"""From a case to a simulation that is ready to run: reference, initial state, closures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from subgrid.solver.backend import select
from subgrid.solver.case.reading import CaseError, resolve_step
from subgrid.solver.case.tables import Case, ClosureTable
from subgrid.solver.closure import Coupled
from subgrid.solver.equations import Equation
from subgrid.solver.grid import Grid
from subgrid.solver.simulation import Simulation

from .requests import described, reference_request
from .restriction import Restrict
from .trajectories import Progress, Trajectories, generate


def silent(done: int, total: int, what: str) -> None:
    """Progress that nobody watches."""


@dataclass
class Prepared:
    """A case with its step resolved, its equation, grid, initial state and, where it needs one, its reference."""

    case: Case
    equation: Equation
    grid: Grid
    state: NDArray
    trajectories: Trajectories | None
    folder: Path

    @property
    def owner(self) -> NDArray:
        """Trajectory of the reference that each member belongs to."""
        reference = self.case.reference
        count = reference.trajectories if reference else 1
        return np.repeat(np.arange(count), self.case.ensemble.members // count)

    def simulation(self, tables: tuple[ClosureTable, ...], dump: Path | None = None) -> Simulation:
        """The case's model with the given closures, at the initial state."""
        return Simulation(
            self.equation,
            self.grid,
            self.case.time.stepper,
            self.case.step,
            self.state,
            start=self.case.time.start,
            seed=self.case.ensemble.seed,
            closures=[self.couple(t) for t in tables],
            guard=self.case.guard.policy,
            dump=dump,
            folder=self.folder,
            initial=described(self.case.initial),
            cfl=self.case.time.cfl,
            backend=select(self.case.backend),
        )

    def couple(self, table: ClosureTable) -> Coupled:
        """The closure of a table; an oracle is shown where the reference lies."""
        if table.name == "oracle" and "reference" not in table.options and self.trajectories is not None:
            table = table.model_copy()
            table.__pydantic_extra__ = {**table.options, "reference": str(self.trajectories.directory)}
        return table.couple(self.folder)


def with_step(case: Case) -> Case:
    """The case with time.cfl turned into a step."""
    if case.time.step is not None:
        return case
    if case.initial.kind == "reference":
        raise CaseError("case", ['time.cfl: with initial.kind = "reference" give time.step instead'])
    equation, members = case.build_equation(), tuple(range(case.ensemble.members))
    return resolve_step(case, equation, case.initial.state(equation, case.grid.grid(), members, case.ensemble.seed))


def prepare(case: Case, folder: Path, with_reference: bool, progress: Progress = silent) -> Prepared:
    """Make what the case starts from; the reference run only if the case or the caller needs it."""
    case = with_step(case)
    equation, grid = case.build_equation(), case.grid.grid()
    oracle = any(c.name == "oracle" for c in case.closure)
    gridded = case.reference is not None and not case.reference.exact
    trajectories = None
    if gridded and (with_reference or oracle or case.initial.kind == "reference"):
        trajectories = generate(case, reference_request(case), progress)
        assert case.reference is not None and case.reference.shape is not None
        restrict = Restrict(equation, grid.refined(case.reference.shape), grid, case.reference.restrict)
        share = case.ensemble.members // case.reference.trajectories
        state = np.repeat(restrict(np.array(trajectories.fine)), share, axis=0)
    elif oracle:
        raise CaseError("case", ["closure: oracle needs a [reference] table with a shape"])
    else:
        state = case.initial.state(equation, grid, tuple(range(case.ensemble.members)), case.ensemble.seed)
    return Prepared(case, equation, grid, state, trajectories, folder)
