"""Initial states: one pydantic model per kind, and the exact solution that starts from it where there is one.

`state` gives (member, field, *grid): values at the points j L / n of a Fourier discretisation, averages over
the cells of a finite-volume one (of profiles by six-point Gauss quadrature).
"""

from __future__ import annotations

import zipfile
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field as Option

from .equations import Burgers, Equation, Kolmogorov, LinearAdvection
from .equations.burgers import cole_hopf, dirichlet_solution, riemann_solution
from .grid import Grid
from .initial_benchmarks import GaussianVelocity, OscillatorFormula
from .initial_particles import RandomParticles, TwoBody
from .initial_random_surface import RandomSurface
from .initial_shallow_water import DamBreak, GaussianHump, LakeAtRest, RadialDamBreak, Thacker
from .initial_state import InitialState, Members, repeat
from .initial_vlasov import BumpOnTail, Landau, TwoStream, TwoStreamHypar
from .random import SpectralNoise
from .spectral import Transforms


class GaussianRandomField(InitialState):
    """u = sum_k u_hat_k exp(i k x), Gaussian, with E|u_hat_k|^2 = 2 s^2 (|k|^2 + tau^2)^(-a), k = 2 pi m / L.

    Zero mean. s is `scale`, by default tau^(a - d/2) in d dimensions, so that the variance depends on tau
    weakly; a is `exponent`. A member's field is the same function on every grid that resolves it. Li et al.,
    Fourier Neural Operator (ICLR 2021), appendix A.3, N(0, s^2 (-lap + tau^2)^(-a)).
    """

    kind: Literal["gaussian-random-field"] = "gaussian-random-field"
    exponent: float = Option(gt=0)
    tau: float = Option(gt=0)
    scale: float | None = None

    def state(
        self, equation: Equation, grid: Grid, members: Members, seed: int, folder: Path | None = None
    ) -> NDArray[np.float64]:
        periodic = getattr(equation, "boundary", "periodic") == "periodic"
        self._require(periodic and len(equation.fields) == 1, "one periodic field", equation)
        scale = self.tau ** (self.exponent - grid.dimensions / 2) if self.scale is None else self.scale
        k2 = sum(k**2 for k in grid.wavenumbers())
        amplitude = np.sqrt(2) * scale * (k2 + self.tau**2) ** (-self.exponent / 2)
        amplitude.flat[0] = 0.0
        draw = SpectralNoise(grid, amplitude).sample(seed, "initial", members)[:, None]
        if equation.kind == "balance-law":
            for k, h in zip(grid.wavenumbers(), grid.spacing, strict=True):
                draw = draw * np.exp(0.5j * k * h) * np.sinc(k * h / (2 * np.pi))
        return Transforms(grid).to_physical(draw)


class TaylorGreen(InitialState):
    """w = 2 A k cos(k_x x) cos(k_y y), k_i = 2 pi wavenumber / L_i, k^2 = (k_x^2 + k_y^2) / 2.

    A is the largest speed where L_x = L_y. The advection of this vorticity by itself vanishes, so it decays
    as exp(-(2 nu k^2 + drag) t) without forcing and noise: Taylor and Green, Proc. R. Soc. A 158 (1937) 499.
    """

    kind: Literal["taylor-green"] = "taylor-green"
    amplitude: float = 1.0
    wavenumber: int = Option(default=1, ge=1)

    def _wavenumbers(self, grid: Grid) -> NDArray[np.float64]:
        return 2 * np.pi * self.wavenumber / np.array(grid.length)

    def state(
        self, equation: Equation, grid: Grid, members: Members, seed: int, folder: Path | None = None
    ) -> NDArray[np.float64]:
        self._require(isinstance(equation, Kolmogorov), "the equation kolmogorov", equation)
        y, x = np.meshgrid(*grid.coordinates(), indexing="ij")
        ky, kx = self._wavenumbers(grid)
        k = np.sqrt((kx**2 + ky**2) / 2)
        return repeat(2 * self.amplitude * k * np.cos(kx * x) * np.cos(ky * y), members)

    def exact(
        self, equation: Equation, grid: Grid, t: float, members: Members, seed: int
    ) -> NDArray[np.float64] | None:
        assert isinstance(equation, Kolmogorov)
        forced = equation.forcing is not None and equation.has("forcing")
        if forced or equation.noise_law(grid) is not None:
            return None
        viscosity = equation.viscosity if equation.has("diffusion") else 0.0
        drag = equation.drag if equation.has("drag") else 0.0
        rate = viscosity * (self._wavenumbers(grid) ** 2).sum() + drag
        return np.exp(-rate * t) * self.state(equation, grid, members, seed)


class Profile(InitialState):
    """u(x) in one dimension, the same for all members. A subclass writes `at`, and `_burgers` if it can."""

    @abstractmethod
    def at(self, x: NDArray, length: float) -> NDArray[np.float64]:
        """u at x, 0 <= x <= length."""

    def state(
        self, equation: Equation, grid: Grid, members: Members, seed: int, folder: Path | None = None
    ) -> NDArray[np.float64]:
        self._require(grid.dimensions == 1 and len(equation.fields) == 1, "one field in one dimension", equation)
        return repeat(_sample(lambda x: self.at(x, grid.length[0]), equation, grid), members)

    def exact(
        self, equation: Equation, grid: Grid, t: float, members: Members, seed: int
    ) -> NDArray[np.float64] | None:
        (length,) = grid.length
        solution = None
        if equation.noise_law(grid) is not None:
            return None
        if isinstance(equation, LinearAdvection):
            shift = equation.signal_velocity * t
            return repeat(_sample(lambda x: self.at((x - shift) % length, length), equation, grid), members)
        if isinstance(equation, Burgers) and equation.has("advection"):
            solution = self._burgers(equation, length, t)
        return None if solution is None else repeat(_sample(solution, equation, grid), members)

    def _burgers(self, equation: Burgers, length: float, t: float) -> Callable[[NDArray], NDArray] | None:
        """The solution of Burgers' equation at time t as a function of x, or None."""
        return None


class Sine(Profile):
    """u = offset + A sin(2 pi wavenumber x / L + phase).

    Exact for advection, and by `cole_hopf` for viscous Burgers where u is periodic, or odd about both ends of
    a Dirichlet domain that holds 0 there. A wavenumber that is no integer leaves a kink or jump at the seam.
    """

    kind: Literal["sine"] = "sine"
    amplitude: float = 1.0
    wavenumber: float = Option(default=1.0, gt=0)
    offset: float = 0.0
    phase: float = 0.0

    def at(self, x: NDArray, length: float) -> NDArray[np.float64]:
        return self.offset + self.amplitude * np.sin(2 * np.pi * self.wavenumber / length * x + self.phase)

    def _burgers(self, equation: Burgers, length: float, t: float) -> Callable[[NDArray], NDArray] | None:
        if equation.boundary == "periodic":
            fits = self.wavenumber == round(self.wavenumber)
        else:
            fits = 2 * self.wavenumber == round(2 * self.wavenumber)
            fits &= not (self.offset or self.phase or equation.left or equation.right)
        if not fits or equation.effective_viscosity == 0:
            return None
        k, a, phase = 2 * np.pi * self.wavenumber / length, self.amplitude, self.phase
        return lambda x: (
            self.offset
            + cole_hopf(
                x - self.offset * t,
                t,
                equation.effective_viscosity,
                2 * np.pi / k,
                lambda y: a * np.sin(k * y + phase),
                lambda y: -a / k * np.cos(k * y + phase),
            )
        )


class GaussianPulse(Profile):
    """u = A sum_n exp(-(x - centre + n L)^2 / (2 width^2)), the periodic sum. Exact for advection."""

    kind: Literal["gaussian"] = "gaussian"
    centre: float
    width: float = Option(gt=0)
    amplitude: float = 1.0

    def at(self, x: NDArray, length: float) -> NDArray[np.float64]:
        distance = (x - self.centre) % length
        images = np.arange(-np.ceil(9 * self.width / length) - 1, np.ceil(9 * self.width / length) + 1)
        return self.amplitude * np.exp(-0.5 * ((distance[..., None] + images * length) / self.width) ** 2).sum(-1)


class Riemann(Profile):
    """u = left for x < position, right beyond; on a periodic domain the seam is a second jump, back to left.

    Exact for advection, and for Burgers without viscosity until a wave meets another or an end of the domain.
    """

    kind: Literal["riemann"] = "riemann"
    left: float
    right: float
    position: float

    def at(self, x: NDArray, length: float) -> NDArray[np.float64]:
        return np.where(x < self.position, self.left, self.right)

    def _burgers(self, equation: Burgers, length: float, t: float) -> Callable[[NDArray], NDArray] | None:
        l, r, position = self.left, self.right, self.position
        if equation.effective_viscosity > 0:
            return None
        slowest, fastest = _wave(l, r)
        if equation.boundary == "dirichlet":
            fits = (equation.left, equation.right) == (l, r)
            fits &= position + slowest * t >= 0 and position + fastest * t <= length
            return (lambda x: riemann_solution(x, t, l, r, position)) if fits else None
        slowest_seam, fastest_seam = _wave(r, l)
        if position + slowest * t < fastest_seam * t or position + fastest * t > length + slowest_seam * t:
            return None
        return lambda x: (
            riemann_solution(x, t, l, r, position)
            + (riemann_solution(x, t, r, l, 0.0) - l)
            + (riemann_solution(x, t, r, l, length) - r)
        )


class BurgersDirichlet(Profile):
    """u = x / (1 + exp(Re (x^2 / 4 - 1 / 16))), `dirichlet_solution` at t = 0 on [0, 1].

    Exact for Burgers with boundary "dirichlet", 0 at both ends, and viscosity 1 / reynolds, while u(1, t) <
    1e-8.
    """

    kind: Literal["burgers-dirichlet"] = "burgers-dirichlet"
    reynolds: float = Option(gt=0)

    def at(self, x: NDArray, length: float) -> NDArray[np.float64]:
        return dirichlet_solution(x, 0.0, self.reynolds)

    def _burgers(self, equation: Burgers, length: float, t: float) -> Callable[[NDArray], NDArray] | None:
        fits = equation.boundary == "dirichlet" and equation.left == equation.right == 0 and length == 1
        fits &= bool(np.isclose(equation.effective_viscosity * self.reynolds, 1, rtol=1e-12))
        if not fits or dirichlet_solution(np.ones(1), t, self.reynolds)[0] > 1e-8:
            return None
        return lambda x: dirichlet_solution(x, t, self.reynolds)


class File(InitialState):
    """The array `state` of an .npz file: (field, *grid) for all members, or (member, field, *grid).

    With a member axis, member m starts from entry m; a single entry serves all. Pickled arrays are refused.
    """

    kind: Literal["file"] = "file"
    path: Path

    def state(
        self, equation: Equation, grid: Grid, members: Members, seed: int, folder: Path | None = None
    ) -> NDArray[np.float64]:
        path = (folder or Path()) / self.path
        if not path.is_file():
            raise ValueError(f"initial.path: there is no file {path}. Remedy: a path relative to the case file")
        try:
            with np.load(path, allow_pickle=False) as arrays:
                found = dict(arrays)
        except (OSError, EOFError, ValueError, TypeError, zipfile.BadZipFile):
            raise ValueError(
                f"initial.path: {path} is not .npz with arrays of numbers. Remedy: numpy.savez(path, state=u)"
            ) from None
        if "state" not in found:
            raise ValueError(f"initial.path: {path} holds {sorted(found)}. Remedy: name the array 'state'")
        if found["state"].dtype.kind not in "fiu":
            raise ValueError(f"initial.path: state in {path} must be real numbers, found {found['state'].dtype}")
        state = found["state"].astype(np.float64)
        expected = (len(equation.fields), *grid.shape)
        if state.ndim == len(expected):
            state = state[None]
        if state.shape[1:2] == expected[:1] and state.ndim == 1 + len(expected) and state.shape[1:] != expected:
            raise ValueError(
                f"{path} is on a grid of shape {state.shape[2:]}, but grid.shape is {grid.shape}. "
                f"Remedy: grid.shape = {list(state.shape[2:])}, or a file made on the case's grid"
            )
        if state.shape[1:] != expected:
            raise ValueError(
                f"{path}: state has shape {state.shape}, expected (member, field, *grid) = (*, "
                f"{', '.join(map(str, expected))}) with fields {[f.name for f in equation.fields]}"
            )
        if len(state) == 1:
            return np.repeat(state, len(members), axis=0)
        if max(members) >= len(state):
            raise ValueError(
                f"{path} holds {len(state)} members, but member {max(members)} is asked for. "
                "Remedy: a smaller ensemble.members, or a file with one entry for all"
            )
        return state[list(members)]


class Reference(InitialState):
    """The state of the reference run at the start of the case, restricted to the case's grid."""

    kind: Literal["reference"] = "reference"

    def state(
        self, equation: Equation, grid: Grid, members: Members, seed: int, folder: Path | None = None
    ) -> NDArray[np.float64]:
        raise ValueError(
            "initial kind 'reference' is the state of the reference run, which `subgrid run` and "
            "`subgrid compare` set up. Remedy: start the case through them, or choose another initial.kind"
        )


Initial = Annotated[
    GaussianRandomField
    | TaylorGreen
    | Sine
    | GaussianPulse
    | Riemann
    | BurgersDirichlet
    | Landau
    | TwoStream
    | TwoStreamHypar
    | BumpOnTail
    | RandomSurface
    | RandomParticles
    | TwoBody
    | LakeAtRest
    | DamBreak
    | RadialDamBreak
    | GaussianHump
    | Thacker
    | GaussianVelocity
    | OscillatorFormula
    | File
    | Reference,
    Option(discriminator="kind"),
]


def _sample(profile: Callable[[NDArray], NDArray], equation: Equation, grid: Grid) -> NDArray[np.float64]:
    """A function of x at the points of the grid, or averaged over its cells, as the equation's kind wants."""
    if equation.kind == "semi-linear":
        return profile(grid.coordinates()[0])
    nodes, weights = np.polynomial.legendre.leggauss(6)
    x = grid.coordinates(centres=True)[0][:, None] + 0.5 * grid.spacing[0] * nodes
    return profile(x) @ (0.5 * weights)


def _wave(left: float, right: float) -> tuple[float, float]:
    """Slowest and fastest speed in the solution of a Riemann problem of Burgers' equation."""
    return ((left + right) / 2,) * 2 if left > right else (left, right)
