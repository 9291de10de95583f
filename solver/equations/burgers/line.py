"""Burgers' equation in one dimension, by a Fourier method or by finite volumes."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field as Option
from pydantic import model_validator

from ...backend import Precision
from ...finite_volume import array_code as finite_volume
from ...finite_volume import kernels as finite_volume_kernels
from ...grid import Grid
from ...spectral import Operators, Transforms, empty, square
from ..base import Array, Equation, Field, Kind
from ..forcing import ForcingTable
from ..profiles import Profile, at_faces, level_and_rest
from ..quantities import FLUX, SPECTRUM, Derived, Quantity
from ..right_hand_side import NoNonlinearTerm, RightHandSide
from . import kernels


class Burgers(Equation):
    """u_t + u u_x = nu u_xx - nu_p (-d_xx)^p u + f + sigma dW/dt in one dimension.

    Waves steepen to shocks of width nu / jump.

    State (member, 1, x), in length/time. viscosity: nu, in length^2/time.

    fourier: values at the points x_j, periodic. N = -(i k / 2) (u^2)^, dealiased by the 2/3 rule on input and output,
    so that N conserves the sum of u^2 over the kept modes.

    finite-volume: averages over cells centred at (j + 1/2) dx. Godunov flux of reconstructed states; central viscous
    flux, second order with "muscl" and fourth order with "weno5". Explicit steps need max|u| h / dx <= 1/2 (no new
    extrema with "muscl") and nu h / dx^2 below about 1/2. boundary "dirichlet" imposes u = left at x = 0 and u = right
    at x = L.

    viscosity_profile: m(x) >= 0 of a viscosity nu m(x), (nu m u_x)_x; of the Fourier method the middle of its range in
    L and the rest in N, dealiased. forcing: f(x, t), in length/time^2. hyperviscosity: nu_p, in length^(2 p)/time, of
    order p, exactly in the linear operator of the Fourier method, and of that alone.

    Terms that can be omitted: advection, diffusion, hyperviscosity, forcing, noise.
    """

    name: ClassVar[str] = "burgers"
    dimensions: ClassVar[tuple[int, ...]] = (1,)
    fields: ClassVar[tuple[Field, ...]] = (Field("velocity", "length/time", "u"),)
    later: ClassVar[tuple[str, ...]] = ("viscosity_profile", "hyperviscosity", "hyperviscosity_order", "forcing")
    terms: ClassVar[tuple[str, ...]] = ("advection", "diffusion", "hyperviscosity", "forcing", "noise")
    quantities: ClassVar[dict[str, Quantity]] = {
        "momentum": Quantity("length/time", "mean velocity <u>"),
        "energy": Quantity("length^2/time^2", "energy <u^2>/2"),
        "dissipation": Quantity("length^2/time^3", "viscous dissipation of energy, nu <u_x^2>"),
    }
    derived: ClassVar[dict[str, Derived]] = {"spectrum": SPECTRUM, "flux": FLUX}

    viscosity: float = Option(ge=0)
    viscosity_profile: Profile | None = None
    hyperviscosity: float = Option(default=0.0, ge=0)
    hyperviscosity_order: int = Option(default=2, ge=2, le=16)
    forcing: ForcingTable | None = None
    discretisation: Literal["fourier", "finite-volume"] = "fourier"
    flux: Literal["godunov"] = "godunov"
    reconstruction: Literal["muscl", "weno5"] = "muscl"
    boundary: Literal["periodic", "dirichlet"] = "periodic"
    left: float = 0.0
    right: float = 0.0

    @model_validator(mode="after")
    def _options_agree(self) -> Burgers:
        if self.hyperviscosity and self.discretisation != "fourier":
            raise ValueError(
                "hyperviscosity needs discretisation = 'fourier'. Remedy: set it, or remove hyperviscosity"
            )
        if self.boundary == "periodic":
            if self.left or self.right:
                raise ValueError(
                    f"left = {self.left:g}, right = {self.right:g} contradict boundary = 'periodic'. "
                    "Remedy: set boundary = 'dirichlet', or remove left and right"
                )
            return self
        if self.discretisation == "fourier":
            raise ValueError(
                "boundary = 'dirichlet' contradicts discretisation = 'fourier', which is periodic. "
                "Remedy: set discretisation = 'finite-volume' or boundary = 'periodic'"
            )
        if self.noise and self.has("noise"):
            raise ValueError(
                "noise is a sum of periodic waves and contradicts boundary = 'dirichlet'. "
                "Remedy: set boundary = 'periodic', or remove noise"
            )
        return self

    @property
    def autonomous(self) -> bool:  # type: ignore[override]
        return self.source is None or self.source.steady

    @property
    def adaptive(self) -> bool:  # type: ignore[override]
        return self.kind == "balance-law" and self.source is not None

    @property
    def compiles_forcing(self) -> bool:
        return False

    @property
    def kind(self) -> Kind:
        return "semi-linear" if self.discretisation == "fourier" else "balance-law"

    @property
    def effective_viscosity(self) -> float:
        """nu in length^2/time, or 0 if diffusion is omitted."""
        return self.viscosity if self.has("diffusion") else 0.0

    @property
    def _ends(self) -> finite_volume.Ends:
        return None if self.boundary == "periodic" else (self.left, self.right)

    def linear(self, operators: Operators) -> Array:
        if self.discretisation == "finite-volume":
            return super().linear(operators)
        linear = (
            -self.effective_viscosity
            * (self._level_and_rest(operators.grid)[0] if self._varies else 1.0)
            * operators.k2
        )
        if self.hyperviscosity and self.has("hyperviscosity"):
            linear = linear - self.hyperviscosity * operators.k2**self.hyperviscosity_order
        return linear

    def nonlinear(self, operators: Operators, u: Array, t: float) -> Array:
        xp = operators.xp
        if self.discretisation == "fourier":
            kept, derivative, rate = operators.mask * u, 1j * operators.k[0] * operators.mask, 0 * u
            if self.has("advection"):
                square = operators.inverse(kept) ** 2
                rate = operators.k[0] * operators.mask * (-0.5j * operators.forward(square))
            if self._varies:
                rest = operators.constant("rest", lambda: self._level_and_rest(operators.grid)[1].copy())
                varying = self.effective_viscosity * rest * operators.inverse(derivative * u)
                rate = rate + derivative * operators.forward(varying)
            return self.forced(operators, rate, t)

        spacing = operators.grid.spacing[-1]

        def flux(cells: Array, left: Array, right: Array) -> Array:
            width = finite_volume.RECONSTRUCTIONS[self.reconstruction][0]
            viscous = finite_volume.diffusive_flux(cells, width, self.effective_viscosity, spacing)
            if self.viscosity_profile is not None:
                viscous = viscous * operators.constant("viscosity", lambda: self._profile(operators.grid).copy())
            return finite_volume.godunov(left, right, xp) + viscous if self.has("advection") else viscous

        rate = finite_volume.flux_balance(u, self.reconstruction, self._ends, spacing, flux, xp)
        return self.forced(operators, rate, t)

    def compiled(self, grid: Grid, members: int, dtype: Precision = "float64") -> RightHandSide | None:
        if self.discretisation == "fourier":
            if self._varies:
                return None
            return SpectralAdvection(grid, members, dtype) if self.has("advection") else NoNonlinearTerm()
        width = finite_volume.RECONSTRUCTIONS[self.reconstruction][0]
        advects, viscosity, spacing = self.has("advection"), self.effective_viscosity, grid.spacing[-1]

        profile = None if self.viscosity_profile is None else self._profile(grid).astype(dtype)
        viscous = np.zeros((members, 1, grid.shape[0] + 1), dtype)

        def flux(cells: NDArray, left: NDArray, right: NDArray, out: NDArray) -> None:
            if advects:
                finite_volume_kernels.godunov(left, right, out)
            else:
                out[...] = 0.0
            if viscosity and profile is not None:
                viscous[...] = 0.0
                finite_volume_kernels.add_diffusive_flux(cells, width, viscosity, spacing, viscous)
                out += viscous * profile
            elif viscosity:
                finite_volume_kernels.add_diffusive_flux(cells, width, viscosity, spacing, out)

        return finite_volume_kernels.FluxBalance(grid, members, self.reconstruction, self._ends, flux, dtype)

    def require(self, grid: Grid) -> None:
        if self.viscosity_profile is not None:
            self._level_and_rest(grid) if self.spectral else self._profile(grid)

    @property
    def _varies(self) -> bool:
        return self.viscosity_profile is not None and self.effective_viscosity > 0

    def _level_and_rest(self, grid: Grid) -> tuple[float, NDArray[np.float64]]:
        """m at the points: see `level_and_rest`."""
        assert self.viscosity_profile is not None
        return level_and_rest(self.viscosity_profile, grid, "equation.viscosity_profile", False)

    def _profile(self, grid: Grid) -> NDArray[np.float64]:
        """m at the faces, of a viscosity nu m(x)."""
        assert self.viscosity_profile is not None
        return at_faces(self.viscosity_profile, grid, "equation.viscosity_profile", False, self._ends is None)

    def periodic_axes(self, grid: Grid) -> tuple[bool, ...]:
        return (self.boundary == "periodic",)

    def invariants(self, state: NDArray, grid: Grid) -> dict[str, NDArray]:
        """momentum <u> and energy <u^2>/2 per unit length, (member,)."""
        u = state[:, 0]
        return {"momentum": u.mean(-1), "energy": 0.5 * (u**2).mean(-1)}

    def sums(self, grid: Grid) -> dict[str, NDArray]:
        """Viscous dissipation of energy nu <u_x^2>."""
        return {} if self._varies else {"dissipation": self.effective_viscosity * grid.wavenumbers()[0] ** 2}

    def diagnostics(self, state: NDArray, grid: Grid) -> dict[str, NDArray]:
        """Viscous dissipation of energy nu <m u_x^2> by differences at the faces of cells, (member,).

        On Fourier grids with m(x) at the points, from the Fourier derivative.
        """
        if self.spectral:
            if not self._varies:
                return {}
            level, rest = self._level_and_rest(grid)
            slope = np.fft.irfft(1j * grid.wavenumbers()[0] * np.fft.rfft(state[:, 0]), grid.shape[0])
            return {"dissipation": self.effective_viscosity * ((level + rest) * slope**2).mean(-1)}
        u, ends = state[:, 0], self._ends
        outer = (u[:, -1:], u[:, :1]) if ends is None else tuple(np.full((len(u), 1), end) for end in ends)
        steep = np.diff(np.concatenate([outer[0], u, outer[1]], axis=1), axis=1)
        weight = np.ones(steep.shape[1])
        weight[[0, -1]] = 0.5 if ends is None else 2.0  # the same face twice, or half a cell from a wall
        if self.viscosity_profile is not None:
            weight = weight * self._profile(grid)
        squared = (weight * steep**2).sum(-1) / (grid.shape[0] * grid.spacing[0] ** 2)
        return {"dissipation": self.effective_viscosity * squared}

    def densities(self, grid: Grid) -> dict[str, NDArray]:
        return {"energy": np.full(grid.spectral_shape, 0.5)}

    def gradients(self, state: NDArray, grid: Grid) -> dict[str, NDArray]:
        return {"energy": state}

    def array_speed(self, operators: Operators, u: Array) -> tuple[Array | float, ...]:
        return (operators.xp.max(operators.xp.abs(u)) if self.has("advection") else 0.0,)

    def signal_speed(self, state: NDArray, grid: Grid) -> tuple[float, ...]:
        return (float(np.abs(state).max()) if self.has("advection") else 0.0,)


class SpectralAdvection:
    """N = -(i k / 2) (u^2)^ of a batch (batch, 1, column) of Fourier coefficients, with two transforms."""

    def __init__(self, grid: Grid, batch: int, dtype: str) -> None:
        self.linear: NDArray | None = None
        transforms = Transforms(grid, dtype)
        self.rows, self.columns = np.ones(1, dtype=bool), grid.cuts[0] + 1
        self._factor = (-0.5 * transforms.scale * grid.wavenumbers()[0][: self.columns]).astype(dtype)
        self._spectral = empty((batch, 1, *grid.spectral_shape), transforms.complex)
        physical = empty((batch, 1, *grid.shape), dtype)
        self._flat = physical.reshape(-1)
        self._inverse = transforms.inverse(self._spectral, physical)
        self._forward = transforms.forward(physical, self._spectral)

    def __call__(self, u: NDArray, t: float, out: NDArray) -> None:
        kernels.copy_kept(u, self.columns, self._spectral)
        self._inverse()
        square(self._flat)
        self._forward()
        kernels.derivative(self._spectral, self._factor, out)
