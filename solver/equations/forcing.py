"""Forcings: steady sources in the right-hand side of a semi-linear equation, by name or by file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, SerializeAsAny

from ..grid import Grid
from .plugins import PluginModel, Registry, from_table


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


FORCINGS: Registry[type[Forcing]] = Registry(
    "subgrid.forcings", "forcing", Forcing, {"sine": SineForcing, "diagonal": DiagonalForcing}
)
Forcing.plugins = FORCINGS

ForcingTable = Annotated[SerializeAsAny[Forcing], BeforeValidator(from_table(FORCINGS))]
