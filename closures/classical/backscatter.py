"""Biharmonic eddy viscosity that returns most of the energy it takes to large scales."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from subgrid.solver.closure import Memory, Problem, Tendency, View

from .eddy_viscosity import Array, EddyViscosity


class Backscatter(EddyViscosity):
    """dw/dt += -lap div(nu_4 grad w) - nu_b lap w, nu_4 = coefficient^2 Delta^4 |S|, nu_b = returned E_4 / <w^2>.

    The first term is the curl of -lap(nu_4 lap u). It takes the energy E_4 = <nu_4 |grad w|^2> >= 0 per unit of time,
    mostly from scales near the grid. The negative viscosity -nu_b gives back the fraction `returned` of it, at the
    scales of the vorticity, so that <psi dw/dt> = -(1 - returned) E_4 at every call.

    For Kolmogorov flow. Raises ClosureError for anything else. Source: Jansen and Held, Ocean Modelling 80 (2014) 36.
    """

    tunable: ClassVar = {"coefficient": (0.005, 0.5)}
    coefficient: Annotated[float, Field(ge=0)] = 0.05
    returned: Annotated[float, Field(ge=0, le=1)] = 0.9

    def start(self, problem: Problem) -> Memory:
        self.require_equation(problem, "kolmogorov")
        return super().start(problem)

    def __call__(self, view: View, memory: Memory) -> tuple[Tendency, Memory]:
        to_physical, to_spectrum = self._operators.to_physical, self._operators.to_spectrum
        xp = self._operators.xp
        ky, kx = self._operators.k
        k2 = self._operators.k2
        w = to_spectrum(view.array[:, 0, ...]) * self._operators.mask
        psi = w * self._operators.inverse_k2
        strain = xp.hypot(to_physical(-2 * kx * ky * psi), to_physical((kx**2 - ky**2) * psi))
        viscosity = self.viscosity(w, strain)
        w_x, w_y = to_physical(1j * kx * w), to_physical(1j * ky * w)
        rate = k2 * (1j * kx * to_spectrum(viscosity * w_x) + 1j * ky * to_spectrum(viscosity * w_y))
        taken = xp.mean(viscosity * (w_x**2 + w_y**2), axis=(1, 2))
        enstrophy = xp.mean(to_physical(w) ** 2, axis=(1, 2))
        negative = self.returned * taken / xp.where(enstrophy > 0, enstrophy, xp.ones_like(enstrophy))
        rate = rate + negative[:, None, None] * k2 * w
        return Tendency(to_physical(rate * self._operators.mask)[:, None, ...]), memory

    def viscosity(self, spectrum: Array, strain: Array) -> Array:
        return self.coefficient**2 * self._width**4 * strain
