"""Hyperviscosity: damping proportional to a high power of the wavenumber."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PrivateAttr

from subgrid.solver.closure import Closure, Kind, Linear, Memory, Problem, Tendency, View
from subgrid.solver.spectral import Operators


class Hyperviscosity(Closure):
    """du_hat/dt += -rate (|k|/k_cut)^(2 order) u_hat, averaged over the time between calls.

    k_cut is the largest wavenumber along an axis that the 2/3 rule keeps; rate (1/time) is the damping there. The
    tendency (member, field, *grid) is (exp(-r T) - 1)/T u_hat, with r the damping of the mode and T the time to the
    next call: held for T, it gives exactly the decay exp(-r T), so every rate is stable. (sbdf2 also uses the previous
    state and follows with a lag.)

    linear: the damping joins the linear operator instead: continuous in time, at no cost per step, and as stable as the
    stepper is for stiff linear terms.

    For any equation on a Fourier grid. Raises ClosureError for finite volumes.
    """

    kind: ClassVar[Kind] = "classical"
    by_member: ClassVar[bool] = True
    tunable: ClassVar = {"rate": (1e-2, 1e3)}
    order: Annotated[int, Field(ge=1, le=16)] = 4
    rate: Annotated[float, Field(ge=0)] = 1.0
    linear: bool = False
    _rate: NDArray = PrivateAttr()
    _factor: Any = PrivateAttr()
    _operators: Operators = PrivateAttr()

    def start(self, problem: Problem) -> Memory:
        self.require_fourier(problem)
        grid = problem.grid
        cut = max(2 * np.pi * c / length for c, length in zip(grid.cuts, grid.length, strict=True))
        self._rate = self.rate * (Operators(grid).k2 / cut**2) ** self.order
        span = problem.every * problem.step
        self._factor = problem.arrays.asarray(np.expm1(-self._rate * span) / span)
        self._operators = Operators(grid, backend=problem.arrays)
        return {}

    def linear_part(self, problem: Problem) -> Linear | None:
        return Linear(-self._rate) if self.linear else None

    def __call__(self, view: View, memory: Memory) -> tuple[Tendency, Memory]:
        spectrum = self._operators.to_spectrum(view.array)
        return Tendency(self._operators.to_physical(self._factor * spectrum)), memory
