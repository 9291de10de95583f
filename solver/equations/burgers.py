"""Burgers' equation, on Fourier modes or finite volumes, and its closed-form solutions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field as Option
from pydantic import model_validator
from scipy.special import expit

from .. import finite_volume, finite_volume_kernels, kernels
from ..grid import Grid
from ..spectral import Operators, Transforms, empty
from ..stepping import RightHandSide
from .advection import NoNonlinearTerm
from .base import Array, Equation, Field, Kind


class Burgers(Equation):
    """u_t + u u_x = nu u_xx + sigma dW/dt in one dimension: waves steepen to shocks of width nu / (jump).

    State (member, 1, x). Units are the equation's own: viscosity nu in length^2/time.

    fourier: u at the points x_j, periodic; N = -(i k / 2) (u^2)^, dealiased by the 2/3 rule on its input and
    its output, so that sum u^2 of the kept modes changes by viscosity alone.

    finite-volume: averages over cells centred at (j + 1/2) dx; Godunov's flux of reconstructed states;
    central viscous flux, of second order with "muscl", of fourth with "weno5". Explicit steps need
    max|u| h / dx <= 1/2 (for "muscl" to make no new extrema) and nu h / dx^2 below about 1/2. boundary
    "dirichlet" holds u = left at x = 0 and u = right at x = L.

    Terms that can be omitted: advection, diffusion, noise.
    """

    name: ClassVar[str] = "burgers"
    dimensions: ClassVar[tuple[int, ...]] = (1,)
    fields: ClassVar[tuple[Field, ...]] = (Field("velocity", "length/time", "u"),)
    terms: ClassVar[tuple[str, ...]] = ("advection", "diffusion", "noise")

    viscosity: float = Option(ge=0)
    discretisation: Literal["fourier", "finite-volume"] = "fourier"
    flux: Literal["godunov"] = "godunov"
    reconstruction: Literal["muscl", "weno5"] = "muscl"
    boundary: Literal["periodic", "dirichlet"] = "periodic"
    left: float = 0.0
    right: float = 0.0

    @model_validator(mode="after")
    def _options_agree(self) -> Burgers:
        if self.boundary == "periodic":
            if self.left or self.right:
                raise ValueError(
                    f"left = {self.left:g}, right = {self.right:g} contradict boundary = 'periodic'. "
                    "Remedy: boundary = 'dirichlet', or leave left and right out"
                )
            return self
        if self.discretisation == "fourier":
            raise ValueError(
                "boundary = 'dirichlet' contradicts discretisation = 'fourier', which is periodic. "
                "Remedy: discretisation = 'finite-volume', or boundary = 'periodic'"
            )
        if self.noise and self.has("noise"):
            raise ValueError(
                "noise is a sum of periodic waves and contradicts boundary = 'dirichlet'. "
                "Remedy: boundary = 'periodic', or leave noise out"
            )
        return self

    @property
    def kind(self) -> Kind:
        return "semi-linear" if self.discretisation == "fourier" else "balance-law"

    @property
    def effective_viscosity(self) -> float:
        """nu, or 0 where diffusion is omitted."""
        return self.viscosity if self.has("diffusion") else 0.0

    @property
    def _ends(self) -> finite_volume.Ends:
        return None if self.boundary == "periodic" else (self.left, self.right)

    def linear(self, operators: Operators) -> Array:
        if self.discretisation == "finite-volume":
            return super().linear(operators)
        return -self.effective_viscosity * operators.k2

    def nonlinear(self, operators: Operators, u: Array, t: float) -> Array:
        xp = operators.xp
        if self.discretisation == "fourier":
            if not self.has("advection"):
                return 0 * u
            square = operators.inverse(operators.mask * u) ** 2
            return operators.k[0] * operators.mask * (-0.5j * operators.forward(square))

        spacing = operators.grid.spacing[-1]

        def flux(cells: Array, left: Array, right: Array) -> Array:
            width = finite_volume.RECONSTRUCTIONS[self.reconstruction][0]
            viscous = finite_volume.diffusive_flux(cells, width, self.effective_viscosity, spacing)
            return finite_volume.godunov(left, right, xp) + viscous if self.has("advection") else viscous

        return finite_volume.flux_balance(u, self.reconstruction, self._ends, spacing, flux, xp)

    def compiled(self, grid: Grid, members: int) -> RightHandSide:
        if self.discretisation == "fourier":
            return SpectralAdvection(grid, members) if self.has("advection") else NoNonlinearTerm()
        width = finite_volume.RECONSTRUCTIONS[self.reconstruction][0]
        advects, viscosity, spacing = self.has("advection"), self.effective_viscosity, grid.spacing[-1]

        def flux(cells: NDArray, left: NDArray, right: NDArray, out: NDArray) -> None:
            if advects:
                finite_volume_kernels.godunov(left, right, out)
            else:
                out[...] = 0.0
            if viscosity:
                finite_volume_kernels.add_diffusive_flux(cells, width, viscosity, spacing, out)

        return finite_volume_kernels.FluxBalance(grid, members, self.reconstruction, self._ends, flux)

    def periodic_axes(self, grid: Grid) -> tuple[bool, ...]:
        return (self.boundary == "periodic",)

    def invariants(self, state: NDArray, grid: Grid) -> dict[str, NDArray]:
        """momentum <u> and energy <u^2>/2, per unit of length."""
        u = state[:, 0]
        return {"momentum": u.mean(-1), "energy": 0.5 * (u**2).mean(-1)}

    def signal_speed(self, state: NDArray, grid: Grid) -> tuple[float, ...]:
        return (float(np.abs(state).max()) if self.has("advection") else 0.0,)


class SpectralAdvection:
    """N = -(i k / 2) (u^2)^ for a batch (batch, 1, column) of Fourier coefficients, in two transforms."""

    def __init__(self, grid: Grid, batch: int) -> None:
        self.linear: NDArray | None = None
        transforms = Transforms(grid)
        self.rows, self.columns = np.ones(1, dtype=bool), grid.cuts[0] + 1
        self._factor = -0.5 * transforms.scale * grid.wavenumbers()[0][: self.columns]
        self._spectral = empty((batch, 1, *grid.spectral_shape), "complex128")
        physical = empty((batch, 1, *grid.shape))
        self._flat = physical.reshape(-1)
        self._inverse = transforms.inverse(self._spectral, physical)
        self._forward = transforms.forward(physical, self._spectral)

    def __call__(self, u: NDArray, t: float, out: NDArray) -> None:
        kernels.copy_kept(u, self.columns, self._spectral)
        self._inverse()
        kernels.square(self._flat)
        self._forward()
        kernels.burgers_derivative(self._spectral, self._factor, out)


def cole_hopf(
    x: NDArray,
    t: float,
    viscosity: float,
    length: float,
    velocity: Callable[[NDArray], NDArray],
    potential: Callable[[NDArray], NDArray],
) -> NDArray:
    """u(x, t) with viscosity from u_0 = velocity, where potential' = velocity; both have the period L.

    u = int u_0(y) g dy / int g dy, g = exp(-potential(y) / 2 nu - (x - y)^2 / 4 nu t): Cole, Quart. Appl.
    Math. 9 (1951) 225; Hopf, Comm. Pure Appl. Math. 3 (1950) 201. With y = x - sqrt(4 nu t) s the trapezoidal
    rule in s converges exponentially, as g is analytic; every term of the denominator is positive, so the
    error is that of rounding, about 1e-16 range(potential) / nu. A u_0 with mean m is had from the one
    without: u(x, t) = m + v(x - m t, t).
    """
    samples = np.linspace(0.0, length, 4097)
    depth = np.ptp(potential(samples)) / (2 * viscosity)
    steepest = np.abs(np.gradient(velocity(samples), samples)).max()
    step = 0.25 / math.sqrt(1 + t * steepest)
    half = math.ceil((math.sqrt(depth) + 6.5) / step)
    s = step * np.arange(-half, half + 1)
    y = np.asarray(x)[..., None] - math.sqrt(4 * viscosity * t) * s
    exponent = -potential(y) / (2 * viscosity) - s**2
    weight = np.exp(exponent - exponent.max(axis=-1, keepdims=True))
    return (velocity(y) * weight).sum(-1) / weight.sum(-1)


def dirichlet_solution(x: NDArray, t: float, reynolds: float) -> NDArray:
    """u = (x / (t+1)) / (1 + sqrt((t+1) / t_0) exp(Re x^2 / (4t+4))), t_0 = exp(Re / 8), for nu = 1 / Re.

    On 0 <= x <= 1. u(0, t) = 0, and u(1, t) < 1e-8 while (1/(t+1) - 1/4) Re > 80: as long as that holds, u =
    0 may be imposed at both ends. Evaluated in logarithms, so that t_0 does not overflow. Maulik, Lusch and
    Balaprakash, Phys. Fluids 33 (2021) 037106.
    """
    exponent = 0.5 * math.log(t + 1) - reynolds / 16 + reynolds * x**2 / (4 * (t + 1))
    return x / (t + 1) * expit(-exponent)


def riemann_solution(x: NDArray, t: float, left: float, right: float, position: float) -> NDArray:
    """u(x, t) without viscosity from u = left for x < position, right beyond: a shock, or a rarefaction.

    The shock moves with (left + right) / 2; in the rarefaction u = (x - position) / t. LeVeque, Finite Volume
    Methods for Hyperbolic Problems (2002), chapter 11.
    """
    if left > right or t == 0:
        return np.where(x < position + 0.5 * (left + right) * t, left, right)
    return np.clip((x - position) / t, left, right)
