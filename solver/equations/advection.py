"""Linear advection in one dimension, by a Fourier method or by finite volumes."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from ..backend import Precision
from ..finite_volume import array_code as finite_volume
from ..finite_volume import kernels as finite_volume_kernels
from ..grid import Grid
from ..spectral import Operators
from .base import Array, Equation, Field, Kind
from .forcing import ForcingTable
from .profiles import Profile, at_faces
from .quantities import SPECTRUM, Derived, Quantity
from .right_hand_side import NoNonlinearTerm, RightHandSide


class LinearAdvection(Equation):
    """u_t + c u_x = f + sigma dW/dt, periodic in one dimension; without both u(x, t) = u(x - c t, 0).

    State (member, 1, x), dimensionless.

    fourier: values at grid points; L = -i c k and N = 0, so exponential steppers are exact for any step. The Nyquist
    mode is left unchanged, because a real field cannot represent its derivative.

    finite-volume: cell averages; upwind flux of reconstructed states. Steps h with |c| h / dx <= 1/2 create no new
    extrema with "muscl".

    speed: c, in length/time. speed_profile: m(x) of a speed c m(x), u_t + (c m u)_x = 0, with finite volumes.
    forcing: f(x, t), in 1/time. Terms that can be omitted: advection,
    forcing, noise.
    """

    name: ClassVar[str] = "advection"
    dimensions: ClassVar[tuple[int, ...]] = (1,)
    fields: ClassVar[tuple[Field, ...]] = (Field("u", "1", "what is carried along"),)
    later: ClassVar[tuple[str, ...]] = ("speed_profile", "forcing")
    terms: ClassVar[tuple[str, ...]] = ("advection", "forcing", "noise")
    quantities: ClassVar[dict[str, Quantity]] = {
        "mass": Quantity("1", "mean <u>"),
        "energy": Quantity("1", "energy <u^2>/2"),
    }
    derived: ClassVar[dict[str, Derived]] = {"spectrum": replace(SPECTRUM, unit="1")}

    speed: float
    speed_profile: Profile | None = None
    forcing: ForcingTable | None = None
    discretisation: Literal["fourier", "finite-volume"] = "fourier"
    reconstruction: Literal["muscl", "weno5"] = "weno5"

    @property
    def autonomous(self) -> bool:  # type: ignore[override]
        return self.source is None or self.source.steady

    @property
    def compiles_forcing(self) -> bool:
        return False

    @property
    def kind(self) -> Kind:
        return "semi-linear" if self.discretisation == "fourier" else "balance-law"

    @property
    def signal_velocity(self) -> float:
        """c in length/time, or 0 if advection is omitted."""
        return self.speed if self.has("advection") else 0.0

    def linear(self, operators: Operators) -> Array:
        if self.discretisation == "finite-volume":
            return super().linear(operators)
        (k,), (n,) = operators.grid.wavenumbers(), operators.grid.shape
        below_nyquist = 2 * operators.grid.integer_wavenumbers()[0] != n
        return operators.constant("linear", lambda: -1j * self.signal_velocity * k * below_nyquist)

    def nonlinear(self, operators: Operators, u: Array, t: float) -> Array:
        if self.discretisation == "fourier":
            return self.forced(operators, 0 * u, t)
        spacing = operators.grid.spacing[-1]
        rate = finite_volume.flux_balance(
            u,
            self.reconstruction,
            None,
            spacing,
            lambda cells, left, right: self._flux(operators, left, right),
            operators.xp,
        )
        return self.forced(operators, rate, t)

    @model_validator(mode="after")
    def _profile_on_cells(self) -> LinearAdvection:
        if self.speed_profile is not None and self.discretisation == "fourier":
            raise ValueError(
                "speed_profile needs discretisation = 'finite-volume'. Remedy: set it, or remove speed_profile"
            )
        return self

    def require(self, grid: Grid) -> None:
        if self.speed_profile is not None:
            self._speeds(grid)

    def _speeds(self, grid: Grid) -> NDArray[np.float64]:
        """c m(x) at the faces."""
        assert self.speed_profile is not None
        return self.signal_velocity * at_faces(self.speed_profile, grid, "equation.speed_profile", True, True)

    def _flux(self, operators: Operators, left: Array, right: Array) -> Array:
        if self.speed_profile is None:
            return finite_volume.upwind(left, right, self.signal_velocity)
        speeds = operators.constant("speeds", lambda: self._speeds(operators.grid))
        return speeds * operators.xp.where(speeds > 0, left, right)

    def compiled(self, grid: Grid, members: int, dtype: Precision = "float64") -> RightHandSide:
        if self.discretisation == "fourier":
            return NoNonlinearTerm()
        speed = self.signal_velocity
        if self.speed_profile is not None:
            speeds = self._speeds(grid).astype(dtype)

            def flux(cells: NDArray, left: NDArray, right: NDArray, out: NDArray) -> None:
                out[...] = speeds * np.where(speeds > 0, left, right)

            return finite_volume_kernels.FluxBalance(grid, members, self.reconstruction, None, flux, dtype)
        return finite_volume_kernels.FluxBalance(
            grid,
            members,
            self.reconstruction,
            None,
            lambda cells, left, right, out: finite_volume_kernels.upwind(left, right, speed, out),
            dtype,
        )

    def invariants(self, state: NDArray, grid: Grid) -> dict[str, NDArray]:
        """mass <u> and energy <u^2>/2 per unit length, (member,)."""
        u = state[:, 0]
        return {"mass": u.mean(-1), "energy": 0.5 * (u**2).mean(-1)}

    def densities(self, grid: Grid) -> dict[str, NDArray]:
        return {"energy": np.full(grid.spectral_shape, 0.5)}

    def gradients(self, state: NDArray, grid: Grid) -> dict[str, NDArray]:
        return {"energy": state}

    def array_speed(self, operators: Operators, u: Array) -> tuple[float, ...]:
        return (self._largest(operators.grid),)

    def _largest(self, grid: Grid) -> float:
        if self.speed_profile is None:
            return abs(self.signal_velocity)
        return float(np.abs(self._speeds(grid)).max())

    def signal_speed(self, state: NDArray, grid: Grid) -> tuple[float, ...]:
        return (self._largest(grid),)
