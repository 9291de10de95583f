"""Initial states that are functions u(x) in one dimension."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from pydantic import Field as Option

from ..equations.advection import LinearAdvection
from ..equations.base import Equation
from ..equations.burgers.exact import cole_hopf, dirichlet_solution, riemann_solution
from ..equations.burgers.line import Burgers
from ..equations.initial_state import InitialState, Members, repeat
from ..grid import Grid


class Profile(InitialState):
    """u(x), equal for all members. A subclass writes `at`, and `_burgers` if Burgers' equation has a closed form."""

    @abstractmethod
    def at(self, x: NDArray, length: float) -> NDArray[np.float64]:
        """u(x) for 0 <= x <= length, in the shape of x."""

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
        if equation.noise_law(grid) is not None or equation.source is not None:
            return None
        if getattr(equation, "viscosity_profile", None) or getattr(equation, "speed_profile", None):
            return None
        if getattr(equation, "hyperviscosity", 0.0) and equation.has("hyperviscosity"):
            return None
        if isinstance(equation, LinearAdvection):
            shift = equation.signal_velocity * t
            return repeat(_sample(lambda x: self.at((x - shift) % length, length), equation, grid), members)
        if isinstance(equation, Burgers) and equation.has("advection"):
            solution = self._burgers(equation, length, t)
        return None if solution is None else repeat(_sample(solution, equation, grid), members)

    def _burgers(self, equation: Burgers, length: float, t: float) -> Callable[[NDArray], NDArray] | None:
        """The solution of Burgers' equation at time t as a function of x, or None if it is not known."""
        return None


class Sine(Profile):
    """u = offset + A sin(2 pi wavenumber x / L + phase).

    The exact solution is known for advection, and by `cole_hopf` for viscous Burgers if u is periodic, or odd about
    both ends of a Dirichlet domain with boundary values 0. A wavenumber that is not an integer makes u or its
    derivative jump at the periodic boundary.
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
    """u = A sum_n exp(-(x - centre + n L)^2 / (2 width^2)): periodic sum; exact solution for advection."""

    kind: Literal["gaussian"] = "gaussian"
    centre: float
    width: float = Option(gt=0)
    amplitude: float = 1.0

    def at(self, x: NDArray, length: float) -> NDArray[np.float64]:
        distance = (x - self.centre) % length
        images = np.arange(-np.ceil(9 * self.width / length) - 1, np.ceil(9 * self.width / length) + 1)
        return self.amplitude * np.exp(-0.5 * ((distance[..., None] + images * length) / self.width) ** 2).sum(-1)


class Pulse(BaseModel):
    """amplitude exp(-(x - centre)^2 / (2 width^2))."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    centre: float
    width: float = Option(gt=0)
    amplitude: float = 1.0


class Pulses(Profile):
    """The sum of pulses, each a periodic sum as in `GaussianPulse`; exact solution for advection."""

    kind: Literal["pulses"] = "pulses"
    pulses: tuple[Pulse, ...] = Option(min_length=1)

    def at(self, x: NDArray, length: float) -> NDArray[np.float64]:
        found = [GaussianPulse(**dict(p)).at(x, length) for p in self.pulses]
        return np.sum(found, axis=0)


class Waves(Profile):
    """u = offset + sum_n (cosine_n cos 2 pi n x / L + sine_n sin 2 pi n x / L), n = 1, 2, ...

    The exact solution is known for advection, and by `cole_hopf` for viscous Burgers if it is periodic.
    """

    kind: Literal["waves"] = "waves"
    cosine: tuple[float, ...] = ()
    sine: tuple[float, ...] = ()
    offset: float = 0.0

    def at(self, x: NDArray, length: float) -> NDArray[np.float64]:
        k = 2 * np.pi / length
        return self.offset + self._sum(k * x, self.cosine, self.sine)

    @staticmethod
    def _sum(angle: NDArray, cosine: Sequence[float], sine: Sequence[float]) -> NDArray[np.float64]:
        found = np.zeros_like(angle, dtype=np.float64)
        for n, c in enumerate(cosine, 1):
            found += c * np.cos(n * angle)
        for n, s in enumerate(sine, 1):
            found += s * np.sin(n * angle)
        return found

    def _burgers(self, equation: Burgers, length: float, t: float) -> Callable[[NDArray], NDArray] | None:
        if equation.boundary != "periodic" or equation.effective_viscosity == 0:
            return None
        k, m = 2 * np.pi / length, self.offset
        cosine = [-s / (k * n) for n, s in enumerate(self.sine, 1)]  # of the potential
        sine = [c / (k * n) for n, c in enumerate(self.cosine, 1)]
        return lambda x: (
            m
            + cole_hopf(
                x - m * t,
                t,
                equation.effective_viscosity,
                length,
                lambda y: self._sum(k * y, self.cosine, self.sine),
                lambda y: self._sum(k * y, cosine, sine),
            )
        )


class Riemann(Profile):
    """u = left for x < position and u = right beyond; at a periodic boundary u jumps back to left.

    The exact solution is known for advection, and for Burgers without viscosity until a wave meets another wave or an
    end of the domain.
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

    The exact solution is known for Burgers with boundary "dirichlet", u = 0 at both ends and viscosity 1 / reynolds,
    while u(1, t) < 1e-8. reynolds: by default 1 / viscosity of the equation, so that a sweep over the viscosity varies
    both.
    """

    kind: Literal["burgers-dirichlet"] = "burgers-dirichlet"
    reynolds: float | None = Option(default=None, gt=0)

    def at(self, x: NDArray, length: float) -> NDArray[np.float64]:
        assert self.reynolds is not None
        return dirichlet_solution(x, 0.0, self.reynolds)

    def state(
        self, equation: Equation, grid: Grid, members: Members, seed: int, folder: Path | None = None
    ) -> NDArray[np.float64]:
        if self.reynolds is not None:
            return super().state(equation, grid, members, seed, folder)
        viscosity = equation.effective_viscosity if isinstance(equation, Burgers) else 0.0
        self._require(viscosity > 0, "burgers with a positive viscosity, or with initial.reynolds,", equation)
        return self._of(viscosity).state(equation, grid, members, seed, folder)

    def _of(self, viscosity: float) -> BurgersDirichlet:
        return self.model_copy(update={"reynolds": 1 / viscosity})

    def _burgers(self, equation: Burgers, length: float, t: float) -> Callable[[NDArray], NDArray] | None:
        if self.reynolds is None:
            viscosity = equation.effective_viscosity
            return self._of(viscosity)._burgers(equation, length, t) if viscosity > 0 else None
        fits = equation.boundary == "dirichlet" and equation.left == equation.right == 0 and length == 1
        fits &= bool(np.isclose(equation.effective_viscosity * self.reynolds, 1, rtol=1e-12))
        if not fits or dirichlet_solution(np.ones(1), t, self.reynolds)[0] > 1e-8:
            return None
        reynolds = self.reynolds
        return lambda x: dirichlet_solution(x, t, reynolds)


def _sample(profile: Callable[[NDArray], NDArray], equation: Equation, grid: Grid) -> NDArray[np.float64]:
    """A function of x at the grid points, or averaged over the cells, according to the kind of the equation."""
    if equation.kind == "semi-linear":
        return profile(grid.coordinates()[0])
    nodes, weights = np.polynomial.legendre.leggauss(6)
    x = grid.coordinates(centres=True)[0][:, None] + 0.5 * grid.spacing[0] * nodes
    return profile(x) @ (0.5 * weights)


def _wave(left: float, right: float) -> tuple[float, float]:
    """Slowest and fastest wave speed in the solution of a Riemann problem of Burgers' equation."""
    return ((left + right) / 2,) * 2 if left > right else (left, right)
