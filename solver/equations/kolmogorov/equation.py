"""Two-dimensional incompressible flow in vorticity form, doubly periodic, by a Fourier method."""

from __future__ import annotations

import functools
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field as Option

from ...backend import COMPLEX, Launcher, Precision, divided, real_type
from ...grid import Grid
from ...spectral import Operators, Transforms, square
from ..answers import forcing_field
from ..base import Array, Equation, Field
from ..device_terms import DeviceTerms, overridden
from ..forcing import ForcingTable
from ..quantities import FLUX, SPECTRUM, Derived, Quantity
from ..right_hand_side import RightHandSide
from . import kernels


class Kolmogorov(Equation):
    """w_t + u . grad w + beta v = nu lap w - nu_p (-lap)^p w - drag w + f + sigma dW/dt, with w = v_x - u_y.

    State (member, 1, y, x), in 1/time. psi_hat = w_hat / |k|^2 with the mean mode zero, u = psi_y, v = -psi_x. The
    nonlinear term has Basdevant's form, u . grad w = (d_xx - d_yy)(u v) + d_xy (v^2 - u^2), which needs four transforms
    (Basdevant, J. Comput. Phys. 50 (1983) 209); it is dealiased by the 2/3 rule on input and output.

    viscosity: nu, in length^2/time. drag: in 1/time. beta: the gradient of the Coriolis parameter along y, in
    1/(length time). hyperviscosity: nu_p, in length^(2 p)/time; hyperviscosity_order: p. All these are in the linear
    operator. forcing: f, in 1/time^2. Terms that can be omitted: advection, diffusion, drag, beta, hyperviscosity,
    forcing, noise.
    """

    name: ClassVar[str] = "kolmogorov"
    dimensions: ClassVar[tuple[int, ...]] = (2,)
    fields: ClassVar[tuple[Field, ...]] = (Field("vorticity", "1/time", "w = v_x - u_y"),)
    later: ClassVar[tuple[str, ...]] = ("beta", "hyperviscosity", "hyperviscosity_order")
    terms: ClassVar[tuple[str, ...]] = (
        "advection", "diffusion", "drag", "beta", "hyperviscosity", "forcing", "noise",
    )  # fmt: skip
    quantities: ClassVar[dict[str, Quantity]] = {
        "energy": Quantity("length^2/time^2", "kinetic energy <|u|^2>/2"),
        "enstrophy": Quantity("1/time^2", "enstrophy <w^2>/2"),
        "palinstrophy": Quantity("1/(length^2 time^2)", "palinstrophy <|grad w|^2>/2"),
        "dissipation": Quantity("length^2/time^3", "viscous dissipation of energy, nu <w^2>"),
    }
    derived: ClassVar[dict[str, Derived]] = {
        "velocity_x": Derived("length/time", "u = psi_y", lambda e, w, grid: e.velocity(w[:, 0], grid)[0]),
        "velocity_y": Derived("length/time", "v = -psi_x", lambda e, w, grid: e.velocity(w[:, 0], grid)[1]),
        "streamfunction": Derived("length^2/time", "psi, -lap psi = w", lambda e, w, grid: e.streamfunction(w, grid)),
        "spectrum": SPECTRUM,
        "flux": FLUX,
    }

    viscosity: float = Option(ge=0)
    drag: float = Option(default=0.0, ge=0)
    beta: float = 0.0
    hyperviscosity: float = Option(default=0.0, ge=0)
    hyperviscosity_order: int = Option(default=4, ge=2, le=16)
    forcing: ForcingTable | None = None

    def linear(self, operators: Operators) -> Array:
        viscosity = self.viscosity if self.has("diffusion") else 0.0
        drag = self.drag if self.has("drag") else 0.0
        linear = -viscosity * operators.k2 - drag
        if self.hyperviscosity and self.has("hyperviscosity"):
            linear = linear - self.hyperviscosity * operators.k2**self.hyperviscosity_order
        if self.beta and self.has("beta"):
            linear = linear + operators.constant("rossby", lambda: _rossby(operators.grid, self.beta))
        return linear

    @property
    def autonomous(self) -> bool:  # type: ignore[override]
        return self.source is None or self.source.steady

    @property
    def compiles_forcing(self) -> bool:
        return self.autonomous

    def nonlinear(self, operators: Operators, u: Array, t: float) -> Array:
        rate = operators.constant("forcing", lambda: self._forcing(operators.grid))
        if not self.autonomous:
            rate = self.forced(operators, rate, t)
        if not self.has("advection"):
            return 0 * u + rate
        grid = operators.grid
        u_factor = operators.constant("u", lambda: _factors(grid)[0])
        v_factor = operators.constant("v", lambda: _factors(grid)[1])
        cross_factor = operators.constant("u v", lambda: _factors(grid)[2])
        square_factor = operators.constant("v^2 - u^2", lambda: _factors(grid)[3])
        velocity_x, velocity_y = operators.inverse(u * u_factor), operators.inverse(u * v_factor)
        cross = operators.forward(velocity_x * velocity_y) * cross_factor
        squares = operators.forward(velocity_y * velocity_y - velocity_x * velocity_x) * square_factor
        return cross + squares + rate

    def _forcing(self, grid: Grid) -> NDArray[np.complex128]:
        """Of a steady forcing; one that depends on time is added to the rates."""
        if self.forcing is None or not self.has("forcing") or not self.autonomous:
            return np.zeros(grid.spectral_shape, dtype=np.complex128)
        field = forcing_field(self.forcing, grid, lambda: self.forcing.at(self, grid, 0.0), 1)[0]  # type: ignore
        rate = np.fft.rfftn(field, norm="forward")
        rate[np.abs(rate) < 1e-14 * np.abs(rate).max()] = 0.0
        rate[~grid.mask()] = 0.0
        return rate

    def compiled(self, grid: Grid, members: int, dtype: Precision = "float64") -> RightHandSide:
        rate = self._forcing(grid).astype(COMPLEX[dtype])
        return BasdevantAdvection(grid, members, rate) if self.has("advection") else SteadyForcing(grid, rate)

    def launched(self, operators: Operators, launch: Launcher) -> DeviceTerms:
        if not self.has("advection") or not self.autonomous or overridden(self, Kolmogorov, "nonlinear"):
            return DeviceTerms()
        return DeviceTerms(LaunchedAdvection(operators, self._forcing(operators.grid), launch))

    def velocity(self, state: NDArray, grid: Grid) -> tuple[NDArray, NDArray]:
        """(u, v) of the vorticity (..., y, x), each (..., y, x), in length/time."""
        operators = Operators(grid)
        ky, kx = operators.k
        psi = operators.forward(state) * operators.inverse_k2
        return operators.inverse(1j * ky * psi), operators.inverse(-1j * kx * psi)

    def streamfunction(self, state: NDArray, grid: Grid) -> NDArray:
        """psi (member, y, x) of a state (member, 1, y, x), in length^2/time."""
        operators = Operators(grid)
        return operators.to_physical(operators.to_spectrum(state[:, 0]) * operators.inverse_k2)

    def carrier_velocity(self, operators: Operators, u: Array) -> Array:
        ky, kx = operators.k
        psi = u[:, 0, ...] * operators.inverse_k2
        return operators.xp.stack([1j * ky * psi, -1j * kx * psi], axis=1)

    def invariants(self, state: NDArray, grid: Grid) -> dict[str, NDArray]:
        """energy <|u|^2>/2 and enstrophy <w^2>/2 per unit area, (member,)."""
        weight, inverse_k2 = _weights(grid)
        axes = (-2, -1)
        power = np.abs(np.fft.rfftn(state[:, 0], axes=axes, norm="forward")) ** 2 * weight
        return {
            "energy": 0.5 * (power * inverse_k2).sum(axes),
            "enstrophy": 0.5 * power.sum(axes),
        }

    def sums(self, grid: Grid) -> dict[str, NDArray]:
        """palinstrophy <|grad w|^2>/2 and viscous dissipation of energy nu <w^2>."""
        viscosity = self.viscosity if self.has("diffusion") else 0.0
        k2 = Operators(grid).k2
        return {"palinstrophy": 0.5 * k2, "dissipation": viscosity * (k2 > 0)}

    def densities(self, grid: Grid) -> dict[str, NDArray]:
        return {"energy": self.spectrum_density(grid), "enstrophy": np.full(grid.spectral_shape, 0.5)}

    def spectrum_density(self, grid: Grid) -> NDArray:
        """Kinetic energy per squared vorticity coefficient, 1 / (2 |k|^2)."""
        return 0.5 * Operators(grid).inverse_k2

    def signal_speed(self, state: NDArray, grid: Grid) -> tuple[float, ...]:
        u, v = self.velocity(state[:, 0], grid)
        return float(np.abs(v).max()), float(np.abs(u).max())


def _rossby(grid: Grid, beta: float) -> NDArray[np.complex128]:
    """-beta v^ / w^ = i beta k_x / k^2: Rossby waves; 0 at Nyquist wavenumbers, which have no derivative."""
    _, kx = grid.wavenumbers()
    m_y, m_x = grid.integer_wavenumbers()
    below = (2 * np.abs(m_y) != grid.shape[0]) & (2 * m_x != grid.shape[1])
    return 1j * beta * kx * Operators(grid).inverse_k2 * below


@functools.cache
def _weights(grid: Grid) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How many modes each stored one stands for, and 1/|k|^2, each (*spectral_shape)."""
    return grid.half_plane_weight(), Operators(grid).inverse_k2


@functools.cache
def _factors(grid: Grid) -> NDArray[np.complex128]:
    """i k_y / k^2, -i k_x / k^2, k_x^2 - k_y^2 and k_x k_y on the modes that the 2/3 rule keeps: (4, *spectral_shape).

    The first two give u^ and v^ from w^; the last two give Basdevant's terms from (u v)^ and (v^2 - u^2)^.
    """
    ky, kx = grid.wavenumbers()
    psi = Operators(grid).inverse_k2
    parts = np.broadcast_arrays(1j * ky * psi, -1j * kx * psi, kx**2 - ky**2, kx * ky)
    return np.stack(parts) * grid.mask()


def _kept_rows(grid: Grid) -> NDArray[np.bool_]:
    """Whether the 2/3 rule keeps modes of a row of Fourier coefficients."""
    return np.abs(grid.integer_wavenumbers()[0].ravel()) <= grid.cuts[0]


def _complex_factors(grid: Grid) -> tuple[NDArray[np.complex128], NDArray[np.complex128]]:
    """(k_x + i k_y) / k^2, which gives (u + i v)^ from w^, and -i (k_x - i k_y)^2 / 4; see `BasdevantAdvection`."""
    ky, kx = grid.wavenumbers()
    return (kx + 1j * ky) * Operators(grid).inverse_k2, -0.25j * (kx - 1j * ky) ** 2


class SteadyForcing:
    """N = f, for Kolmogorov flow with advection omitted."""

    def __init__(self, grid: Grid, forcing: NDArray) -> None:
        self.linear: NDArray | None = None
        self.rows = np.abs(forcing).max(axis=1) > 0
        present = np.flatnonzero(np.abs(forcing).max(axis=0))
        self.columns = int(present.max()) + 1 if present.size else 0
        self._forcing = forcing

    def __call__(self, u: NDArray, t: float, out: NDArray) -> None:
        out[...] = self._forcing


class BasdevantAdvection:
    """N = -u . grad w + f of a batch (batch, row, column) of Fourier coefficients, with four real transforms.

    They are computed as two complex transforms. With q = u + i v, q^ = (k_x + i k_y) w^ / k^2; the real and imaginary
    parts of q^2 are u^2 - v^2 and 2 u v, so that -u . grad w = -Im (d_x - i d_y)^2 q^2 / 2.
    """

    divided = True

    def __init__(self, grid: Grid, batch: int, forcing: NDArray) -> None:
        self.linear: NDArray | None = None
        transforms = Transforms(grid, real_type(forcing.dtype))
        self.columns = grid.cuts[1] + 1
        self.rows = _kept_rows(grid)
        velocity, curl = _complex_factors(grid)
        self._velocity, self._curl, self._forcing = (
            np.ascontiguousarray(part[:, : self.columns], dtype=forcing.dtype)
            for part in (velocity, transforms.scale * curl, forcing)
        )
        self._spectral, self._square = transforms.through(batch, square)
        height, cost = grid.shape[0], self._spectral.nbytes / 16 / grid.shape[0]
        self._to_velocity = divided(kernels.velocity, height, kernels.VELOCITY * cost)
        self._to_curl = divided(kernels.curl, height, kernels.CURL * cost)

    def __call__(self, u: NDArray, t: float, out: NDArray) -> None:
        self._to_velocity(u, self._velocity, self.rows, self._spectral)
        self._square()
        self._to_curl(self._spectral, self._curl, self._forcing, self.rows, out)


class LaunchedAdvection:
    """`BasdevantAdvection` of w^ (member, 1, row, column) on a CUDA device: three kernels, two complex transforms."""

    def __init__(self, operators: Operators, forcing: NDArray, launch: Launcher) -> None:
        grid = operators.grid
        kept = slice(0, grid.cuts[1] + 1)
        parts = (*_complex_factors(grid), forcing)
        self._velocity, self._curl, self._forcing = (
            operators.backend.asarray(np.ascontiguousarray(part[:, kept])) for part in parts
        )
        self._rows = operators.backend.asarray(_kept_rows(grid))
        self._shape, self._xp, self._launch = grid.shape, operators.xp, launch

    def __call__(self, u: Array, t: float) -> Array:
        from . import cuda_kernels

        xp, members = self._xp, u.shape[0]
        w = xp.reshape(u, (members, *u.shape[2:]))
        spectrum = xp.empty((members, *self._shape), dtype=u.dtype, device=u.device)
        self._launch(cuda_kernels.velocity, spectrum.shape, w, self._velocity, self._rows, spectrum)
        velocity = xp.fft.ifftn(spectrum, axes=(-2, -1), norm="forward")
        velocity *= velocity
        squared = xp.fft.fftn(velocity, axes=(-2, -1), norm="forward")
        out = xp.empty_like(u)
        curl = xp.reshape(out, w.shape)
        self._launch(cuda_kernels.curl, w.shape, squared, self._curl, self._forcing, self._rows, curl)
        return out
