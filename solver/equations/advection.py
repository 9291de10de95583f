"""Linear advection in one dimension, by a Fourier method or by finite volumes."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ..backend import Precision
from ..finite_volume import array_code as finite_volume
from ..finite_volume import kernels as finite_volume_kernels
from ..grid import Grid
from ..spectral import Operators
from .base import Array, Equation, Field, Kind
from .forcing import ForcingTable
from .profiles import Profile, at_faces, level_and_rest
from .quantities import SPECTRUM, Derived, Quantity
from .right_hand_side import NoNonlinearTerm, RightHandSide


class LinearAdvection(Equation):
    """u_t + c u_x = f + sigma dW/dt, periodic in one dimension; without both u(x, t) = u(x - c t, 0).

    State (member, 1, x), dimensionless.

    fourier: values at grid points; L = -i c k and, for a constant speed, N = 0, so exponential steppers are exact for
    any step. The Nyquist mode is left unchanged, because a real field cannot represent its derivative.

    finite-volume: cell averages; upwind flux of reconstructed states. Steps h with |c| h / dx <= 1/2 create no new
    extrema with "muscl".

    speed: c, in length/time. speed_profile: m(x) of a speed c m(x), u_t + (c m u)_x = 0; of the Fourier method the
    middle of its range in L and the rest in N, dealiased. forcing: f(x, t), in 1/time. Terms that can be omitted:
    advection, forcing, noise.
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
        level = 1.0 if self.speed_profile is None else self._level_and_rest(operators.grid)[0]
        return operators.constant("linear", lambda: -1j * (self.signal_velocity * level) * k * below_nyquist)

    def nonlinear(self, operators: Operators, u: Array, t: float) -> Array:
        if self.discretisation == "fourier" and self.speed_profile is not None:
            rest = operators.constant("rest", lambda: self._level_and_rest(operators.grid)[1].copy())
            carried = self.signal_velocity * rest * operators.inverse(operators.mask * u)
            return self.forced(operators, -1j * operators.k[0] * operators.mask * operators.forward(carried), t)
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

    def require(self, grid: Grid) -> None:
        if self.speed_profile is not None:
            self._level_and_rest(grid) if self.spectral else self._speeds(grid)

    def _level_and_rest(self, grid: Grid) -> tuple[float, NDArray[np.float64]]:
        """m at the points: see `level_and_rest`."""
        assert self.speed_profile is not None
        return level_and_rest(self.speed_profile, grid, "equation.speed_profile", True)

    def budget_terms(self) -> tuple[str, ...]:
        """With advection where the speed varies, which does not conserve the energy."""
        found = super().budget_terms()
        changes = self.spectral and self.speed_profile is not None and self.has("advection")
        return ("advection", *found) if changes else found

    def _speeds(self, grid: Grid) -> NDArray[np.float64]:
        """c m(x) at the faces."""
        assert self.speed_profile is not None
        return self.signal_velocity * at_faces(self.speed_profile, grid, "equation.speed_profile", True, True)

    def _flux(self, operators: Operators, left: Array, right: Array) -> Array:
        if self.speed_profile is None:
            return finite_volume.upwind(left, right, self.signal_velocity)
        speeds = operators.constant("speeds", lambda: self._speeds(operators.grid))
        return speeds * operators.xp.where(speeds > 0, left, right)

    def compiled(self, grid: Grid, members: int, dtype: Precision = "float64") -> RightHandSide | None:
        if self.discretisation == "fourier" and self.speed_profile is not None:
            return None
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
