"""Eddy-viscosity closures: Smagorinsky (from the strain rate) and Leith (from the vorticity gradient)."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, Any, ClassVar

from pydantic import Field, PrivateAttr

from subgrid.solver.closure import Closure, Kind, Memory, Problem, Tendency, View
from subgrid.solver.equations import ShallowWater
from subgrid.solver.grid import Grid
from subgrid.solver.spectral import Operators

from .shallow_water_stress import ViscousFluxes

Array = Any


class EddyViscosity(Closure):
    """du/dt += div(2 nu_e S), S the resolved strain rate, nu_e a pointwise function of the resolved field.

    Kolmogorov flow: dw/dt += curl div(2 nu_e S) = (d_xx - d_yy)(2 nu_e S_xy) - 2 d_xy (2 nu_e S_xx), the exact curl
    instead of div(nu_e grad w). Burgers' equation: du/dt += d_x (nu_e u_x). The filter width is Delta = pi / k_cut,
    with k_cut the largest wavenumber that the 2/3 rule keeps on the coarser axis. The state is truncated by this rule
    on input, and the tendency (member, 1, *grid) on output. Raises ClosureError for finite volumes.
    """

    kind: ClassVar[Kind] = "classical"
    by_member: ClassVar[bool] = True
    _grid: Grid = PrivateAttr()
    _operators: Operators = PrivateAttr()
    _width: float = PrivateAttr()

    def start(self, problem: Problem) -> Memory:
        self.require_equation(problem, "kolmogorov", "burgers")
        self.require_fourier(problem)
        self._grid = problem.grid
        self._operators = Operators(problem.grid, backend=problem.arrays)
        self._width = max(
            length / (2 * cut) for length, cut in zip(problem.grid.length, problem.grid.cuts, strict=True)
        )
        return {}

    def __call__(self, view: View, memory: Memory) -> tuple[Tendency, Memory]:
        spectrum = self._operators.to_spectrum(view.array[:, 0, ...]) * self._operators.mask
        rate = self._vorticity(spectrum) if self._grid.dimensions == 2 else self._velocity(spectrum)
        return Tendency(self._operators.to_physical(rate * self._operators.mask)[:, None, ...]), memory

    def _vorticity(self, w: Array) -> Array:
        ky, kx = self._operators.k
        psi = w * self._operators.inverse_k2
        strain_xx = self._operators.to_physical(-kx * ky * psi)  # u_x = psi_xy = -v_y
        strain_xy = self._operators.to_physical(0.5 * (kx**2 - ky**2) * psi)  # (psi_yy - psi_xx) / 2
        twice = 2 * self.viscosity(w, self._operators.xp.sqrt(4 * (strain_xx**2 + strain_xy**2)))
        stress_xx = self._operators.to_spectrum(twice * strain_xx)
        stress_xy = self._operators.to_spectrum(twice * strain_xy)
        return (ky**2 - kx**2) * stress_xy + 2 * kx * ky * stress_xx

    def _velocity(self, u: Array) -> Array:
        (k,) = self._operators.k
        slope = self._operators.to_physical(1j * k * u)
        stress = self.viscosity(u, self._operators.xp.abs(slope)) * slope
        return 1j * k * self._operators.to_spectrum(stress)

    @abstractmethod
    def viscosity(self, spectrum: Array, strain: Array) -> Array:
        """nu_e (member, *grid) from the state's spectrum (member, *spectral_shape) and |S| (member, *grid)."""


class Smagorinsky(EddyViscosity):
    """nu_e = (coefficient Delta)^2 |S|, |S| = sqrt(2 S_ij S_ij).

    For Kolmogorov flow and Burgers on Fourier grids (`EddyViscosity`), and for shallow water, with Delta = sqrt(dx dy)
    and h times the stress (`ViscousFluxes`). Raises ClosureError for anything else. Source: Smagorinsky, Mon. Weather
    Rev. 91 (1963) 99.
    """

    tunable: ClassVar = {"coefficient": (0.01, 0.5)}
    coefficient: Annotated[float, Field(ge=0)] = 0.17
    _fluxes: ViscousFluxes | None = PrivateAttr(None)

    def start(self, problem: Problem) -> Memory:
        self.require_equation(problem, "kolmogorov", "burgers", "shallow-water")
        self._fluxes = None
        if not isinstance(problem.equation, ShallowWater):
            return super().start(problem)
        self._fluxes = ViscousFluxes(problem.equation, problem.grid, self.coefficient)
        return {}

    def __call__(self, view: View, memory: Memory) -> tuple[Tendency, Memory]:
        if self._fluxes is None:
            return super().__call__(view, memory)
        return Tendency(self._fluxes(view.array)), memory

    def viscosity(self, spectrum: Array, strain: Array) -> Array:
        return (self.coefficient * self._width) ** 2 * strain


class Leith(EddyViscosity):
    """nu_e = (coefficient Delta)^3 |grad w|, for the enstrophy cascade of two-dimensional flow.

    For Kolmogorov flow. Raises ClosureError for anything else. Source: Leith, Physica D 98 (1996) 481.
    """

    tunable: ClassVar = {"coefficient": (0.02, 1.0)}
    coefficient: Annotated[float, Field(ge=0)] = 0.25

    def start(self, problem: Problem) -> Memory:
        self.require_equation(problem, "kolmogorov")
        return super().start(problem)

    def viscosity(self, spectrum: Array, strain: Array) -> Array:
        ky, kx = self._operators.k
        gradient_x = self._operators.to_physical(1j * kx * spectrum)
        gradient_y = self._operators.to_physical(1j * ky * spectrum)
        return (self.coefficient * self._width) ** 3 * self._operators.xp.hypot(gradient_x, gradient_y)
