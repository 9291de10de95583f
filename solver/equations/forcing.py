"""Forcings: steady sources in the right-hand side of a semi-linear equation, by name or by file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, SerializeAsAny, field_validator

from ..grid import Grid
from .expressions import Expression
from .plugins import PluginModel, Registry, from_table

AXES = ("y", "x")


class Forcing(PluginModel, ABC):
    """f(x), a steady source per unit of time: the pydantic fields of a subclass are the keys of its table.

    `kind` is the name under which a case asks for it; a class that is named by `path` needs none.
    """

    kind: str = ""

    @abstractmethod
    def field(self, grid: Grid) -> NDArray[np.float64]:
        """f at the points of the grid, shape (*grid), in state units per time."""


class SineForcing(Forcing):
    """f = -A k cos(k y), k = 2 pi wavenumber / L_y: the curl of the velocity forcing A sin(k y) along x.

    amplitude: A, length/time^2.
    """

    kind: Literal["sine"] = "sine"
    amplitude: float
    wavenumber: int = Field(ge=1)

    def field(self, grid: Grid) -> NDArray[np.float64]:
        y, _ = np.meshgrid(*grid.coordinates(), indexing="ij")
        k = 2 * np.pi * self.wavenumber / grid.length[0]
        return -self.amplitude * k * np.cos(k * y)


class DiagonalForcing(Forcing):
    """f = A [sin(2 pi n (x/L_x + y/L_y)) + cos(2 pi n (x/L_x + y/L_y))], n = wavenumber.

    amplitude: A, 1/time^2. Source: Li et al., Fourier Neural Operator (ICLR 2021), section 5.3.
    """

    kind: Literal["diagonal"] = "diagonal"
    amplitude: float
    wavenumber: int = Field(ge=1)

    def field(self, grid: Grid) -> NDArray[np.float64]:
        y, x = np.meshgrid(*grid.coordinates(), indexing="ij")
        ly, lx = grid.length
        phase = 2 * np.pi * self.wavenumber * (x / lx + y / ly)
        return self.amplitude * (np.sin(phase) + np.cos(phase))


class FormulaForcing(Forcing):
    """f(x) as a formula of the coordinates: x, or y and x. Raises ValueError for what `Expression` refuses.

    `field` raises ValueError where the formula is not finite.
    """

    kind: Literal["expression"] = "expression"
    value: str

    @field_validator("value")
    @classmethod
    def _is_a_formula(cls, value: str) -> str:
        Expression(value, AXES)
        return value

    def field(self, grid: Grid) -> NDArray[np.float64]:
        names = AXES[-grid.dimensions :]
        values = dict(zip(names, np.meshgrid(*grid.coordinates(), indexing="ij"), strict=True))
        found = np.broadcast_to(Expression(self.value, names)(values), grid.shape).copy()
        if not np.isfinite(found).all():
            raise ValueError(f"{self.value!r} is not finite at all points of the grid. Remedy: change the formula")
        return found


FORCINGS: Registry[type[Forcing]] = Registry(
    "subgrid.forcings",
    "forcing",
    Forcing,
    {"sine": SineForcing, "diagonal": DiagonalForcing, "expression": FormulaForcing},
)
Forcing.plugins = FORCINGS

ForcingTable = Annotated[SerializeAsAny[Forcing], BeforeValidator(from_table(FORCINGS))]
