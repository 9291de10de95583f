"""Tracers in a flow whose equation has closures of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PrivateAttr, ValidationError, field_validator

from subgrid.solver.case.tables import ClosureTable
from subgrid.solver.closure import Closure, ClosureError, Kind, Memory, Problem, Tendency, UnknownClosure, View
from subgrid.solver.equations.tracers.equation import Tracers
from subgrid.solver.equations.tracers.kernels import interpolate
from subgrid.solver.equations.tracers.splines import coefficients, finer, points_of
from subgrid.solver.simulation import Simulation
from subgrid.solver.spectral import Operators

PREFIX = "flow."  # of what the checkpoint of the flow holds, in the memory


class CorrectedFlow(Closure):
    """dx/dt += u~(x, t) - u(x, t): tracers move with u~ in the place of u.

    u is the flow of the model. u~ solves the same equation with the closures `flow`, from the state of u at the start,
    and runs alongside, one realisation for each member: with closures that draw random numbers each has its own flow.

    flow: tables as in [[closure]], for the equation, grid and time step of the flow, which is half a step of the
    tracers over equation.carrier_substeps; `every` counts these. The flow is in the memory.

    The answer is the difference d_n of the velocities extrapolated to the middle of the time to the next call,
    1.5 d_n - 0.5 d_{n-1}: the scheme of Adams and Bashforth, of second order in the step.

    Raises ClosureError for a flow that is stored or has noise of its own, and if one of the closures refuses the flow.
    """

    kind: ClassVar[Kind] = "classical"
    draws_later: ClassVar[bool] = True
    flow: tuple[ClosureTable, ...] = Field(min_length=1)
    _flow: Simulation = PrivateAttr()
    _operators: Operators = PrivateAttr()
    _fine: Operators = PrivateAttr()
    _steps: int = PrivateAttr()
    _to_numpy: Callable[[Any], NDArray] = PrivateAttr()

    @field_validator("flow")
    @classmethod
    def _known(cls, tables: tuple[ClosureTable, ...]) -> tuple[ClosureTable, ...]:
        """Names and options of the closures; those of files are looked up at the start, where their folder is known."""
        for table in tables:
            if table.name is None:
                continue
            try:
                table.find(Path())(**table.options)
            except ValidationError as error:
                first = error.errors()[0]
                raise ValueError(f"{table.name}.{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
            except UnknownClosure as error:
                raise ValueError(str(error)) from None
        return tables

    def start(self, problem: Problem) -> Memory:
        self.require_equation(problem, "tracers")
        tracers, grid = cast(Tracers, problem.equation), problem.grid.carrier
        assert grid is not None
        flow = tracers.carrier
        if tracers.stored is not None:
            raise ClosureError(
                "corrected-flow: a stored flow cannot be corrected. Remedy: leave out equation.stored, or store a run "
                "with the closures"
            )
        if flow.noise_law(grid) is not None:
            raise ClosureError(
                "corrected-flow: the noise of equation.carrier would be another one in the corrected flow. Remedy: a "
                "flow without noise"
            )
        self._steps, self._to_numpy = 2 * tracers.carrier_substeps, problem.arrays.to_numpy
        members = len(problem.members)
        shape = (members, len(flow.fields), *grid.shape)
        self._flow = Simulation(
            flow,
            grid,
            tracers.carrier_stepper,
            problem.step / self._steps,
            np.zeros(shape),
            start=problem.start,
            seed=problem.seed,
            members=problem.members,
            closures=[table.couple(problem.folder) for table in self.flow],
            folder=problem.folder,
            cfl=tracers.carrier_cfl,
        )
        self._operators, self._fine = Operators(grid), Operators(finer(grid))
        return {}

    def __call__(self, view: View, memory: Memory) -> tuple[Tendency, Memory]:
        assert view.carrier is not None
        flow, operators = self._flow, self._operators
        state = np.asarray(self._to_numpy(view.carrier.state), dtype=np.float64)
        if memory:
            flow.restore({k.removeprefix(PREFIX): v for k, v in memory.items() if k.startswith(PREFIX)})
            flow.run(self._steps * view.step)
        else:
            flow.replace(state)
            flow.step_number = self._steps * view.step
        given = operators.to_spectrum(state) if flow.equation.spectral else state
        velocities = [flow.equation.carrier_velocity(operators, u) for u in (flow.internal, given)]
        found = self._at(velocities[0] - velocities[1], view.state)
        answer = 1.5 * found - 0.5 * memory["before"] if memory else found
        following = {PREFIX + key: np.array(value) for key, value in flow.checkpoint().items()}
        return Tendency(answer), {"before": found, **following}

    def _at(self, velocity: Any, positions: NDArray) -> NDArray:
        """The velocity given by its Fourier coefficients, at positions (member, 2, entity)."""
        c = coefficients(velocity, self._operators, self._fine)
        x = np.ascontiguousarray(positions, dtype=np.float64)
        found = np.empty_like(x)
        place = points_of(self._flow.equation, self._operators.grid)
        interpolate(c, x, *place, *self._fine.grid.spacing, found, 0, x.shape[-1])
        return found
