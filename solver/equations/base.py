"""What an equation is: fields, parameters, a right-hand side, invariants; nothing about loops, files or devices."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, field_validator

from ..grid import Grid
from ..random import QWiener, SpectralNoise
from ..spectral import Operators
from .right_hand_side import ArrayRightHandSide, RightHandSide

Array = Any
Kind = Literal["semi-linear", "balance-law", "kinetic", "particles"]
AXES = ("z", "y", "x")


@dataclass(frozen=True)
class Field:
    """One field of the state: its name, its unit and what it is."""

    name: str
    unit: str
    description: str


class Equation(BaseModel, ABC):
    """du/dt = L u + N(u, t) + noise, with the terms named in `omit` left out.

    A subclass says what its fields and parameters are and writes its terms. States are (member, field, *grid).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: ClassVar[str]
    dimensions: ClassVar[tuple[int, ...]]
    fields: ClassVar[tuple[Field, ...]]
    terms: ClassVar[tuple[str, ...]]
    split: ClassVar[tuple[str, ...]] = ()  # names of the parts that `flow` can carry out one by one
    adaptive: ClassVar[bool] = False  # whether signal speeds may grow, so that a step by CFL must be chosen anew
    axis_names: ClassVar[tuple[str, ...]] = AXES

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
    def kind(self) -> Kind:
        """Which steppers fit, and what a state is.

        "semi-linear": du/dt = L u + N(u), L diagonal in Fourier space; values at the points of the grid. "balance-law":
        averages over cells. "kinetic": values at the centres of the cells of phase space. "particles": entities.
        """
        return "semi-linear"

    def require(self, grid: Grid) -> None:
        """Raise ValueError, with the key and the remedy, if the equation's parameters do not fit the grid."""

    @property
    def spectral(self) -> bool:
        """Whether the state is stepped as Fourier coefficients."""
        return self.kind == "semi-linear"

    def periodic_axes(self, grid: Grid) -> tuple[bool, ...]:
        """Whether the domain is periodic along each axis, in array order."""
        return (True,) * grid.dimensions

    def axes(self, grid: Grid) -> tuple[str, ...]:
        """Names of the axes, in array order."""
        return self.axis_names[-grid.dimensions :]

    def coordinates(self, grid: Grid) -> dict[str, NDArray]:
        """What the axes count: the points of a Fourier grid, the centres of cells, the numbers of entities."""
        if self.kind == "particles":
            return dict(zip(self.axes(grid), (np.arange(n) for n in grid.shape), strict=True))
        return dict(zip(self.axes(grid), grid.coordinates(centres=not self.spectral), strict=True))

    def linear(self, operators: Operators) -> Array:
        """L_k, broadcastable over the spectral shape; units 1/time. Semi-linear equations only."""
        raise TypeError(f"{self.name} on cells has no Fourier operator")

    @abstractmethod
    def nonlinear(self, operators: Operators, u: Array, t: float) -> Array:
        """N(u, t) as array code in the namespace operators.xp, for u (member, field, *).

        Semi-linear: u and N are Fourier coefficients (..., *spectral_shape), dealiased by the 2/3 rule. Else they are
        states (..., *grid), and N is the whole right-hand side.
        """

    def flow(self, part: str, operators: Operators, u: Array, h: float) -> Array:
        """u carried along for a time h by one of the parts named in `split` alone, as array code."""
        raise TypeError(f"{self.name} is not split into parts")

    def relax(self, operators: Operators, u: Array, h: float) -> Array:
        """u after a time h under its stiff local sources alone, exactly, as array code. By default there are none."""
        return u

    def admissible(self, state: Array) -> bool:
        """Whether the state (an array of any namespace) makes sense, beyond being finite."""
        return True

    def compiled(self, grid: Grid, members: int) -> RightHandSide | None:
        """The same for a batch (member * field, row, column), in Numba and planned transforms, or None."""
        return None

    def right_hand_side(self, grid: Grid, members: int, compiled: bool = True) -> RightHandSide:
        """N and L for a batch of members: the compiled one where there is one, else the array code."""
        rhs = self.compiled(grid, members) if compiled else None
        if rhs is None:
            rhs = ArrayRightHandSide(self, grid)
        if self.spectral:
            rhs.linear = np.asarray(self.linear(Operators(grid))).reshape(-1, grid.spectral_shape[-1])
            return rhs
        for name in ("rate", "admissible"):
            if not hasattr(rhs, name):
                setattr(rhs, name, getattr(ArrayRightHandSide(self, grid), name))
        return rhs

    def largest_rate(self, state: NDArray, grid: Grid) -> float:
        """sum over the axes of signal speed / spacing, in 1/time: what a step by CFL is divided by."""
        return float(sum(s / h for s, h in zip(self.signal_speed(state, grid), grid.spacing, strict=True)))
