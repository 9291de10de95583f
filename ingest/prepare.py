"""What a case starts from: its step, equation, grid, reference, initial state and closures."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subgrid.solver.case.precision import require_single
from subgrid.solver.case.reading import CaseError
from subgrid.solver.case.resolved_step import resolve_step
from subgrid.solver.case.tables import Case
from subgrid.solver.equations import Equation, Field
from subgrid.solver.equations.plugin_errors import plugin_errors
from subgrid.solver.grid import Grid
from subgrid.solver.initial.checked import checked_state, require_values
from subgrid.solver.simulation import Simulation
from subgrid.solver.simulation.build import build_simulation

from .entities import carrier_state, mask_of, restricted_carrier, with_placeholders
from .given_closures import given_rows
from .given_data import given_shape
from .given_runs import with_points
from .perturbation import perturbed
from .requests import Request, describe_initial, reference_request, start_request
from .restriction import Restrict
from .trajectories import Progress, Trajectories, generate


def silent(done: int, total: int, what: str) -> None:
    """Progress that is not shown."""


@dataclass
class Prepared:
    """A case with a resolved step, its equation and grid, its initial state (member, field, *grid), its reference.

    state has the perturbations of [ensemble], `unperturbed` has not. trajectories: those of the reference, None for a
    case that does not need them or whose reference is a closed form. folder: relative paths in options of closures
    start here. carrier: the flow of each member that carries entities, (member, field, *grid.carrier), if there is one.
    """

    case: Case
    equation: Equation
    grid: Grid
    state: NDArray
    trajectories: Trajectories | None
    folder: Path
    unperturbed: NDArray
    carrier: NDArray | None = None

    @property
    def mask(self) -> NDArray[np.bool_] | None:
        """Which entities of each member are real, (member, entity); None where all are."""
        return mask_of(self.case, _numbers(self.case))

    def perturbed(self, amplitude: float) -> Prepared:
        """The same with another amplitude of the perturbations than that of the case."""
        members, seed = tuple(range(len(self.state))), self.case.ensemble.seed
        state = perturbed(self.unperturbed, self.equation, self.grid, members, seed, amplitude)
        ensemble = self.case.ensemble.model_copy(update={"perturbation": amplitude})
        return replace(self, state=state, case=self.case.model_copy(update={"ensemble": ensemble}))

    @property
    def owner(self) -> NDArray:
        """Reference trajectory of each member, (member,)."""
        reference = self.case.reference
        count = reference.trajectories if reference else 1
        return np.repeat(np.arange(count), self.case.ensemble.members // count)

    @property
    def recorded(self) -> Path | None:
        """Folder of the reference's trajectories, for a record of what a run depends on.

        None where there are none, and for data that hold more than the case asks for: which of them the cache has may
        change before the run is resumed, and what the run takes from them are the same bytes.
        """
        if self.trajectories is None or reference_request(self.case).directory() != self.trajectories.directory:
            return None
        return self.trajectories.directory

    @property
    def observed_fields(self) -> list[Field]:
        """The fields that the reference has, by which runs are scored."""
        hidden = self.case.reference.unobserved if self.case.reference else {}
        return [f for f in self.equation.fields if f.name not in hidden]

    def observed(self, states: NDArray) -> NDArray:
        """These fields of states (time, member, field, *grid); the states themselves where they are all fields."""
        fields, seen = self.equation.fields, self.observed_fields
        return states if len(seen) == len(fields) else states[:, :, [i for i, f in enumerate(fields) if f in seen]]

    def of_entities(self, members: tuple[int, ...] | None = None) -> tuple[NDArray | None, NDArray | None]:
        """The arguments `mask` and `carrier` of a simulation of these members, by default of all."""
        chosen: Any = slice(None) if members is None else list(members)
        mask, carrier = (None if values is None else values[chosen] for values in (self.mask, self.carrier))
        return mask, carrier

    @plugin_errors()
    def simulation(
        self,
        closures: Iterable[Any],
        dump: Path | None = None,
        members: tuple[int, ...] | None = None,
        threads: int | None = None,
    ) -> Simulation:
        """The case's model with these closures added up, at the initial state.

        closures: tables of the case, or what `given_rows` accepts. dump: file for the state before a rejected answer.
        members: some of the members, by default all.
        """
        rows = given_rows(self.folder, closures, "closures")
        mask, carrier = self.of_entities(members)
        return build_simulation(
            self.case,
            self.equation,
            self.grid,
            self.state if members is None else self.state[list(members)],
            members=members,
            threads=threads,
            closures=[table.couple(self.folder) for row in rows for table in row.closures],
            dump=dump,
            folder=self.folder,
            initial=describe_initial(self.case.initial),
            reference=self.trajectories.directory if self.trajectories else None,
            mask=mask,
            carrier=carrier,
        )


def _numbers(case: Case) -> list[int]:
    """The trajectory of each member, or its own number in a case without a reference."""
    share = case.ensemble.members // case.reference.trajectories if case.reference else 1
    return [member // share for member in range(case.ensemble.members)]


@plugin_errors()
def with_step(case: Case) -> Case:
    """The case with a step, its own or the one that follows from time.cfl, and with the shape of its reference's data.

    Raises CaseError, and DataError for data that do not fit the case.
    """
    if case.reference is not None and case.reference.file is not None:
        table = case.reference.model_copy(update={"shape": given_shape(case, "reference")})
        case = case.model_copy(update={"reference": table})
    case = with_points(case)
    if case.time.step is not None:
        return case
    if case.initial.kind == "reference":
        raise CaseError(case.title, ['time.cfl: with initial.kind = "reference" give time.step instead'])
    equation, members = case.build_equation(), tuple(range(case.ensemble.members))
    return resolve_step(
        case, equation, checked_state(case.initial, equation, case.grid.grid(), members, case.ensemble.seed)
    )


def needed_reference(case: Case, folder: Path, with_reference: bool) -> Request | None:
    """The part of the reference, on its grid, that a case needs, or None.

    All of it if the caller or a closure of the case needs it; for `initial.kind = "reference"` the start. Raises
    CaseError if a closure needs a reference and the case has none. case: with a step.
    """
    needing = [table.label for table in case.closure if table.find(folder).needs_reference]
    if case.reference is None or case.reference.exact:
        if needing:
            raise CaseError(case.title, [f"closure: {needing[0]} needs a [reference] table with a shape"])
        return None
    if with_reference or needing:
        return reference_request(case)
    return start_request(case) if case.initial.kind == "reference" else None


@plugin_errors()
def prepare(case: Case, folder: Path, with_reference: bool, progress: Progress = silent) -> Prepared:
    """Make what the case starts from. The reference is run if the caller or a closure needs it.

    `initial.kind = "reference"` alone needs its start: then `trajectories` is None, and the reference is run from its
    own start to that of the case, which takes no step where they are the same.
    The reference is in double precision in any case. Raises CaseError if a closure of the case needs a reference on a
    grid and the case has none, or if the case cannot run in its precision; PluginError if a plug-in fails.
    """
    case = with_step(case)
    equation, grid = case.build_equation(), case.grid.grid()
    request = needed_reference(case, folder, with_reference)
    trajectories = carrier = None
    if request is not None:
        trajectories = generate(case, request, progress)
        assert case.reference is not None and case.reference.shape is not None
        restrict = Restrict(equation, grid.refined(case.reference.shape), grid, case.reference.restrict)
        share = case.ensemble.members // case.reference.trajectories
        if trajectories.carrier is not None:
            flows = np.array(trajectories.carrier)
            carrier = restricted_carrier(flows, equation, restrict.fine, grid, case.reference.restrict)
            carrier = np.repeat(carrier, share, axis=0)
        start = np.concatenate([restrict(np.array(fine)[None]) for fine in trajectories.fine])
        require_values(start, equation, grid, tuple(range(len(start))), "reference")
        state = np.repeat(start, share, axis=0)
        if request.state_steps[1] == request.state_steps[0]:
            trajectories = None  # the start alone
    else:
        members = tuple(range(case.ensemble.members))
        state = checked_state(case.initial, equation, grid, members, case.ensemble.seed)
        state = with_placeholders(state, equation, mask_of(case, _numbers(case)))
        carrier = carrier_state(
            case, case.initial, equation, grid, members, case.ensemble.seed, case.step, case.time.start,
            lambda done, total: progress(done, total, "flow"),
        )  # fmt: skip
    prepared = Prepared(case, equation, grid, state, trajectories, folder, state, carrier)
    prepared = prepared.perturbed(case.ensemble.perturbation) if case.ensemble.perturbation else prepared
    if case.precision == "float32":
        try:
            require_single(equation, grid, prepared.state, case.time)
        except ValueError as error:
            raise CaseError(case.title, [str(error)]) from None
    return prepared
