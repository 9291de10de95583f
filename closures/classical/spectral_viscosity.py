"""Spectral eddy viscosity: one damping rate for each shell of wavenumbers, fitted to data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import PrivateAttr

from subgrid.solver.closure import Kind, Linear, Memory, Problem, Tendency, View
from subgrid.solver.grid import Grid
from subgrid.solver.spectral import Operators, Transforms

from ..learning.fitted_term import Fit, FittedTerm, batches

if TYPE_CHECKING:
    from subgrid.ingest.training_set import Dataset

Array = Any


class SpectralViscosity(FittedTerm):
    """du_hat_k/dt += -scale rate(|k|) u_hat_k, with one number per field and shell round(|k|).

    rate(k) = -Re <conj(u_hat) H_hat> / <|u_hat|^2> per shell, over the training pairs (u, H): the diagonal isotropic
    term of least square error. It is positive where the missing term takes energy from the shell. nu(k) = rate / k^2
    is the spectral eddy viscosity of Kraichnan, J. Atmos. Sci. 33 (1976) 1521, here measured instead of derived.

    linear: as a part of the linear operator, exact at no cost per step; else as a tendency, the mean over the time T
    between calls, (exp(-r T) - 1)/T u_hat with r = scale rate, held for T. noise = "residual" adds noise with the
    spectrum of the validation residuals.

    For any equation on a Fourier grid. Raises ClosureError for finite volumes and for weights that do not fit.
    """

    kind: ClassVar[Kind] = "classical"
    method: ClassVar[str] = "spectral-viscosity"
    tunable: ClassVar = {"scale": (0.3, 3.0)}
    scale: float = 1.0
    linear: bool = True
    _rate: NDArray = PrivateAttr()
    _factor: Any = PrivateAttr()
    _operators: Operators = PrivateAttr()

    def start(self, problem: Problem) -> Memory:
        self.require_fourier(problem)
        with self.reading(problem) as (rates, _):
            if rates.shape[0] != len(problem.equation.fields):
                raise ValueError(f"rates of {rates.shape[0]} fields, expected {len(problem.equation.fields)}")
            self._rate = self.scale * by_shell(rates, problem.grid)
        span = problem.every * problem.step
        self._factor = problem.arrays.asarray(np.expm1(-self._rate * span) / span)
        self._operators = Operators(problem.grid, backend=problem.arrays)
        return {}

    def linear_part(self, problem: Problem) -> Linear | None:
        return Linear(-self._rate, self._noise) if self.linear else None

    def __call__(self, view: View, memory: Memory) -> tuple[Tendency, Memory]:
        spectrum = self._operators.to_spectrum(view.array)
        return Tendency(self._operators.to_physical(self._factor * spectrum), noise=self._noise), memory

    @classmethod
    def fit(cls, dataset: Dataset, options: Any) -> Fit:
        grid = dataset.model.grid
        if not dataset.model.equation.spectral:
            raise ValueError(
                f"{cls.method} is made for Fourier grids, not for {dataset.model.equation.name} on cells. "
                "Remedy: another closure (`subgrid list`)"
            )
        rates = shell_rates(*dataset.train, grid)
        unit = np.broadcast_to(np.abs(rates).max(axis=1, keepdims=True), rates.shape).copy()
        return Fit(rates, unit, damping)


def shell_rates(states: NDArray, terms: NDArray, grid: Grid) -> NDArray[np.float64]:
    """rate (field, shell) of least square error for pairs (sample, field, *grid); 0 in shells without energy."""
    shells, weight = grid.shells().ravel(), grid.half_plane_weight()
    fields, count = states.shape[1], int(shells.max()) + 1
    transforms = Transforms(grid)
    work, energy = np.zeros((fields, count)), np.zeros((fields, count))
    for state, term in batches(states, terms):
        u, h = transforms.to_spectrum(state), transforms.to_spectrum(term)
        for sums, values in ((work, (u.conj() * h).real), (energy, np.abs(u) ** 2)):
            density = (weight * values).sum(axis=0).reshape(fields, -1)
            sums += np.stack([np.bincount(shells, row, minlength=count) for row in density])
    negligible = energy <= 1e-14 * energy.max(axis=1, keepdims=True)  # round-off above the 2/3 cut
    return np.where(negligible, 0.0, -work / np.where(negligible, 1.0, energy))


def by_shell(rates: NDArray, grid: Grid) -> NDArray:
    """Rates (field, shell) of each mode, (field, *spectral_shape)."""
    return rates[:, grid.shells()]


def damping(rates: Array, operators: Operators, state: Array) -> Array:
    """-rate(|k|) u_hat_k in physical space, as array code; rates (field, shell), state (sample, field, *grid)."""
    shells = operators.constant("shells", operators.grid.shells)
    return operators.inverse(-rates[:, shells] * operators.forward(state))
