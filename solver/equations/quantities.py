"""What a run measures beside its fields: scalars with their units, and derived fields."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..grid import Grid
from ..spectral import Operators, spectrum

if TYPE_CHECKING:
    from .base import Equation

Coordinates = dict[str, tuple[NDArray, str]]  # name of an axis -> values and unit


@dataclass(frozen=True)
class Quantity:
    """A scalar of every member: its unit and a short description."""

    unit: str
    description: str


@dataclass(frozen=True)
class Derived:
    """A field that follows from the state.

    compute(equation, state, grid): values (member, *axes) of a state (member, field, *grid) in double precision. axes:
    the axes and their coordinates; by default those of the grid. periodic: whether
    it needs a domain that is periodic along all axes.
    """

    unit: str
    description: str
    compute: Callable[[Any, NDArray, Grid], NDArray]
    axes: Callable[[Any, Grid], Coordinates] | None = None
    periodic: bool = False

    def coordinates(self, equation: Equation, grid: Grid) -> Coordinates:
        """The axes after `member`, in order."""
        if self.axes is None:
            return {name: (values, "length") for name, values in equation.coordinates(grid).items()}
        return self.axes(equation, grid)


def shells(equation: Equation, grid: Grid) -> Coordinates:
    """The axis of spectra: the number of the shell, round(|m|) of the integer wavenumbers m."""
    return {"wavenumber": (np.arange(int(grid.shells().max()) + 1), "1")}


def shell_spectrum(equation: Equation, state: NDArray, grid: Grid) -> NDArray:
    """E_s, (member, shell), summed over the fields."""
    return spectrum(Operators(grid).to_spectrum(state), grid, equation.spectrum_density(grid)).sum(axis=1)


def shell_flux(equation: Equation, state: NDArray, grid: Grid) -> NDArray:
    """Pi_s = -sum over s' <= s of T_s', (member, shell): what advection takes from the shells up to s, per time.

    T_s is the sum over a shell of 2 density Re(conj(u_hat) N_hat), with N the advection alone.
    """
    operators = Operators(grid)
    u = operators.to_spectrum(state)
    alone = equation.model_copy(update={"omit": tuple(term for term in equation.terms if term != "advection")})
    if equation.spectral:
        rate = alone.nonlinear(operators, u, 0.0)
    else:
        rate = operators.to_spectrum(np.asarray(alone.nonlinear(operators, state, 0.0)))
    density = equation.spectrum_density(grid)
    transfer = (spectrum(u + rate, grid, density) - spectrum(u - rate, grid, density)) / 2
    return -np.cumsum(transfer.sum(axis=1), axis=-1)


SPECTRUM = Derived("length^2/time^2", "energy by shell of wavenumbers", shell_spectrum, shells, True)
FLUX = Derived("length^2/time^3", "flux of energy through a shell, to larger wavenumbers", shell_flux, shells, True)
