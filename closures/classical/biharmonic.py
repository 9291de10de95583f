"""Biharmonic Smagorinsky viscosity for shallow water."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

from pydantic import Field, PrivateAttr

from subgrid.solver.closure import Closure, Kind, Memory, Problem, Tendency, View
from subgrid.solver.equations import ShallowWater

from .shallow_water_stress import Array, ViscousFluxes, reciprocal


class Biharmonic(Closure):
    """(h u)_t += -h A(A u), A u = (1/h) div(m h (grad u + grad u^T)), m^2 = nu_4 = coefficient^2 Delta^4 |S|.

    A is the operator of `ViscousFluxes`, with m instead of nu_e. It is symmetric under the weight h, so the energy
    changes by -<h |A u|^2> <= 0; momentum is conserved, and the depth gains nothing. Delta = sqrt(dx dy). Damping grows
    with the fourth power of the wavenumber, so that well resolved scales are damped less than by `smagorinsky`.

    For shallow water. Raises ClosureError for anything else. Source: Griffies and Hallberg, Mon. Weather Rev. 128
    (2000) 2935, whose friction is built from two applications of one operator in the same way.
    """

    kind: ClassVar[Kind] = "classical"
    tunable: ClassVar = {"coefficient": (0.01, 1.0)}
    coefficient: Annotated[float, Field(ge=0)] = 0.1
    _fluxes: RootFluxes = PrivateAttr()
    _equation: ShallowWater = PrivateAttr()

    def start(self, problem: Problem) -> Memory:
        self.require_equation(problem, "shallow-water")
        assert isinstance(problem.equation, ShallowWater)
        self._equation = problem.equation
        self._fluxes = RootFluxes(problem.equation, problem.grid, self.coefficient)
        return {}

    def __call__(self, view: View, memory: Memory) -> tuple[Tendency, Memory]:
        state = view.array
        u, v = self._equation.velocities(state)
        once, root = self._fluxes.divergence(state, u, v)
        inverse = reciprocal(state[:, 0, ...], self._equation.dry, 0.0)
        twice, _ = self._fluxes.divergence(state, inverse * once[:, 1, ...], inverse * once[:, 2, ...], root)
        return Tendency(-twice), memory


class RootFluxes(ViscousFluxes):
    """The fluxes of A: with m = coefficient Delta^2 sqrt|S| in place of nu_e."""

    def viscosity(self, square: Array) -> Array:
        dy, dx = self._spacing
        return math.sqrt(self._factor * dx * dy) * square**0.25
