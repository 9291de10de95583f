"""What an equation is: fields, parameters, a right-hand side, invariants; nothing about loops, files or devices."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, field_validator

from ..grid import Grid
from ..random import SpectralNoise
from ..spectral import Operators
from ..steppers import RightHandSide

Array = Any


@dataclass(frozen=True)
class Field:
    """One field of the state: its name, its unit and what it is."""

    name: str
    unit: str
    description: str


class QWiener(BaseModel):
    """sigma dW/dt with E|W_hat_k|^2 = draws exp(-correlation |k|^2) t / |domain|.

    A Q-Wiener process: Lord, Powell and Shardlow, An Introduction to Computational Stochastic PDEs (2014),
    algorithm 10.6. `draws` independent increments are summed per step, as the benchmark of arXiv 2506.20771
    does; the mean mode is included. The increment over a step h has variance proportional to h, whatever h is.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    kind: Literal["q-wiener"] = "q-wiener"
    amplitude: float
    correlation: float
    draws: int = 1

    def law(self, grid: Grid) -> SpectralNoise:
        """The noise as a law per unit of sqrt(time), for `grid`."""
        k2 = sum(k**2 for k in grid.wavenumbers())
        area = np.prod(grid.length)
        amplitude = self.amplitude * np.sqrt(self.draws / area) * np.exp(-self.correlation * k2 / 2)
        return SpectralNoise(grid, np.broadcast_to(amplitude, grid.spectral_shape).copy())


class Equation(BaseModel, ABC):
    """du/dt = L u + N(u, t) + noise, with the terms named in `omit` left out.

    A subclass says what its fields and parameters are and writes its terms. States are (member, field, *grid).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: ClassVar[str]
    dimensions: ClassVar[tuple[int, ...]]
    fields: ClassVar[tuple[Field, ...]]
    terms: ClassVar[tuple[str, ...]]

    omit: tuple[str, ...] = ()
    noise: QWiener | None = None

    @field_validator("omit")
    @classmethod
    def _omitted_terms_exist(cls, omit: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [t for t in omit if t not in cls.terms]
        if unknown:
            raise ValueError(f"omit names {unknown}, but the terms of {cls.name} are {list(cls.terms)}")
        return omit

    def has(self, term: str) -> bool:
        """Whether the model contains the term."""
        return term not in self.omit

    def complete(self) -> Equation:
        """The same equation with nothing omitted."""
        return self.model_copy(update={"omit": ()})

    @abstractmethod
    def invariants(self, state: NDArray, grid: Grid) -> dict[str, NDArray]:
        """Global quantities of the state (member, field, *grid), each (member,)."""

    @abstractmethod
    def signal_speed(self, state: NDArray, grid: Grid) -> tuple[float, ...]:
        """Largest speed along each axis, in length per time."""

    def spectrum_density(self, grid: Grid) -> NDArray:
        """Energy per squared Fourier coefficient, shape of the spectrum: 1/2 unless the equation says otherwise."""
        return np.full(grid.spectral_shape, 0.5)

    def bounds(self) -> tuple[float, float]:
        """Values the fields may take; the guard refuses anything outside."""
        return (-1e12, 1e12)

    def noise_law(self, grid: Grid) -> SpectralNoise | None:
        """The equation's own noise, if it has one and the model contains it."""
        return self.noise.law(grid) if self.noise and self.has("noise") else None

    @property
    def kind(self) -> str:
        """ "semi-linear" (du/dt = L u + N(u), L diagonal in Fourier space) or "balance-law" (finite volumes)."""
        return "semi-linear"

    def linear(self, operators: Operators) -> Array:
        """L_k, broadcastable over the spectral shape; units 1/time. Semi-linear equations only."""
        raise TypeError(f"{self.name} on finite volumes has no Fourier operator")

    @abstractmethod
    def nonlinear(self, operators: Operators, u: Array, t: float) -> Array:
        """N(u, t) as array code in the namespace operators.xp, for u of shape (..., *).

        Semi-linear: u and N are Fourier coefficients (..., *spectral_shape), dealiased by the 2/3 rule.
        Balance law: u and N are cell averages (..., *grid) and N is the whole right-hand side.
        """

    def compiled(self, grid: Grid, batch: int) -> RightHandSide | None:
        """The same N for a batch (batch, row, column), in Numba and planned transforms, or None."""
        return None

    def right_hand_side(self, grid: Grid, batch: int, compiled: bool = True) -> RightHandSide:
        """N and L for a batch of members: the compiled one where there is one, else the array code."""
        rhs = self.compiled(grid, batch) if compiled else None
        if rhs is None:
            rhs = ArrayRightHandSide(self, grid)
        if self.kind == "semi-linear":
            rhs.linear = np.asarray(self.linear(Operators(grid))).reshape(-1, grid.spectral_shape[-1])
        return rhs


class ArrayRightHandSide:
    """N(u, t) by the equation's array code, for NumPy batches (batch, row, column)."""

    def __init__(self, equation: Equation, grid: Grid) -> None:
        self.linear: NDArray | None = None
        self._equation, self._operators = equation, Operators(grid)
        spectral = equation.kind == "semi-linear"
        self._shape = grid.spectral_shape if spectral else grid.shape
        self.columns = self._shape[-1]
        self.rows = np.ones(grid.points // grid.shape[-1], dtype=bool)

    def __call__(self, u: NDArray, t: float, out: NDArray) -> None:
        rate = self._equation.nonlinear(self._operators, u.reshape(-1, *self._shape), t)
        out[...] = rate.reshape(out.shape)


def spectrum(state_hat: NDArray, grid: Grid, density: NDArray) -> NDArray:
    """sum over shells |m| = 0, 1, ... of density |u_hat|^2, conjugate modes counted; shape (..., shell)."""
    shells = grid.shells()
    energy = density * grid.half_plane_weight() * np.abs(state_hat) ** 2
    flat = energy.reshape(-1, shells.size)
    count = int(shells.max()) + 1
    out = np.stack([np.bincount(shells.ravel(), row, minlength=count) for row in flat])
    return out.reshape(*state_hat.shape[: -grid.dimensions], count)
