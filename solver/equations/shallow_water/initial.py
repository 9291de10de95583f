"""Initial states of shallow water as cell averages, with their exact solutions where these are known."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from pydantic import Field as Option

from ...grid import Grid
from ...random import SpectralNoise, Stream
from ...spectral import Transforms
from ..base import Equation
from ..initial_state import InitialState, Members
from .bathymetry import Paraboloid, Point, cell_averages
from .equation import ShallowWater


class Water(InitialState):
    """A shallow-water state (member, 3, y, x). A subclass writes `_fields`, and `_later` if there is a closed form."""

    def state(
        self, equation: Equation, grid: Grid, members: Members, seed: int, folder: Path | None = None
    ) -> NDArray[np.float64]:
        self._require(isinstance(equation, ShallowWater), "the equation shallow-water", equation)
        assert isinstance(equation, ShallowWater)
        return np.stack([self._fields(equation, grid, m, seed) for m in members])

    def exact(
        self, equation: Equation, grid: Grid, t: float, members: Members, seed: int
    ) -> NDArray[np.float64] | None:
        if not isinstance(equation, ShallowWater):
            return None
        later = self._later(equation, grid, t)
        return None if later is None else np.repeat(later[None], len(members), axis=0)

    @abstractmethod
    def _fields(self, equation: ShallowWater, grid: Grid, member: int, seed: int) -> NDArray[np.float64]:
        """h, h u and h v of one member, (3, y, x)."""

    def _later(self, equation: ShallowWater, grid: Grid, t: float) -> NDArray[np.float64] | None:
        """The exact solution (3, y, x) at the time t after the start, equal for all members, or None."""
        return None


def at_rest(surface: NDArray | float, equation: ShallowWater, grid: Grid) -> NDArray[np.float64]:
    """Water at rest, (3, y, x), up to `surface`, cell averages (y, x) or a number; higher ground is dry."""
    bottom = equation.bottom(grid)
    state = np.zeros((3, *grid.shape))
    state[0] = np.maximum(surface if bottom is None else surface - bottom, 0.0)
    return state


class LakeAtRest(Water):
    """h + b = level, h u = h v = 0 over any bottom: an exact steady state."""

    kind: Literal["lake-at-rest"] = "lake-at-rest"
    level: float = 0.0

    def _fields(self, equation: ShallowWater, grid: Grid, member: int, seed: int) -> NDArray[np.float64]:
        return at_rest(self.level, equation, grid)

    def _later(self, equation: ShallowWater, grid: Grid, t: float) -> NDArray[np.float64]:
        return at_rest(self.level, equation, grid)


class Drop(BaseModel):
    """Surface perturbation amplitude exp(-r^2 / (2 width^2)) about the centre (y, x)."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    amplitude: float = 1.0
    width: float = Option(gt=0)
    centre: Point = (0.0, 0.0)


class GaussianHump(Water):
    """Water at rest with h + b = level + sum of drops; across periodic sides the nearest image of each drop is used.

    scatter: all drops of a member are displaced by one random vector per member, uniform in [-scatter, scatter]^2.
    """

    kind: Literal["gaussian-hump"] = "gaussian-hump"
    level: float = 1.0
    drops: tuple[Drop, ...] = Option(min_length=1)
    scatter: float = Option(default=0.0, ge=0)

    def _fields(self, equation: ShallowWater, grid: Grid, member: int, seed: int) -> NDArray[np.float64]:
        shift = np.zeros(2)
        if self.scatter:
            shift = Stream(seed, "initial", 0, (member,)).generator(member).uniform(-self.scatter, self.scatter, 2)
        periods = (
            grid.length[0] if equation.boundary.bottom == "periodic" else math.inf,
            grid.length[1] if equation.boundary.left == "periodic" else math.inf,
        )

        def nearest(distance: NDArray, period: float) -> NDArray:
            return distance - period * np.round(distance / period) if math.isfinite(period) else distance

        def surface(y: NDArray, x: NDArray) -> NDArray:
            total = self.level + 0 * y * x
            for d in self.drops:
                offsets = (y - d.centre[0] - shift[0], x - d.centre[1] - shift[1])
                dy, dx = (nearest(o, p) for o, p in zip(offsets, periods, strict=True))
                total = total + d.amplitude * np.exp(-0.5 * (dy**2 + dx**2) / d.width**2)
            return total

        return at_rest(cell_averages(surface, grid), equation, grid)


class RadialDamBreak(Water):
    """Water at rest with h = `inside` within `radius` of the centre and h = `outside` beyond, over any bottom."""

    kind: Literal["radial-dam-break"] = "radial-dam-break"
    inside: float = Option(default=2.0, ge=0)
    outside: float = Option(default=1.0, ge=0)
    radius: float = Option(default=0.5, gt=0)
    centre: Point = (0.0, 0.0)

    def _fields(self, equation: ShallowWater, grid: Grid, member: int, seed: int) -> NDArray[np.float64]:
        def within(y: NDArray, x: NDArray) -> NDArray:
            return ((y - self.centre[0]) ** 2 + (x - self.centre[1]) ** 2 < self.radius**2).astype(np.float64)

        share = cell_averages(within, grid, nodes=12)
        state = np.zeros((3, *grid.shape))
        state[0] = self.outside + (self.inside - self.outside) * share
        return state


class DamBreak(Water):
    """Water at rest with h = `left` for x < position and h = `right` beyond; over a bottom h + b, where it is positive.

    On a flat bottom the exact solution is Stoker's, or Ritter's on a dry bed. It holds without friction and rotation,
    if left and right sides are not periodic, until a wave reaches an end of the domain.
    """

    kind: Literal["dam-break"] = "dam-break"
    left: float = Option(ge=0)
    right: float = Option(ge=0)
    position: float

    def _fields(self, equation: ShallowWater, grid: Grid, member: int, seed: int) -> NDArray[np.float64]:
        depths = self._averages(equation, grid, 0.0)
        return depths if equation.bottom(grid) is None else at_rest(depths[0], equation, grid)

    def _later(self, equation: ShallowWater, grid: Grid, t: float) -> NDArray[np.float64] | None:
        breaks, _ = dam_break(self.left, self.right, equation.gravity)
        start, end = grid.origin[1], grid.origin[1] + grid.length[1]
        fits = equation.bottom(grid) is None and equation.unforced
        fits &= equation.boundary.left != "periodic" and max(self.left, self.right) > 0
        if not fits or self.position + breaks[0] * t < start or self.position + breaks[-1] * t > end:
            return None
        return self._averages(equation, grid, t)

    def _averages(self, equation: ShallowWater, grid: Grid, t: float) -> NDArray[np.float64]:
        """Exact cell averages by Gauss quadrature: between wave fronts h and h u are polynomials in x."""
        breaks, solution = dam_break(self.left, self.right, equation.gravity)
        n, spacing, start = grid.shape[1], grid.spacing[1], grid.origin[1]
        ends = start + spacing * np.arange(n + 1)
        fronts = self.position + (np.array(breaks) * t if t else np.zeros(1))
        pieces = np.unique(np.concatenate([ends, fronts[(fronts > start) & (fronts < ends[-1])]]))
        nodes, weights = np.polynomial.legendre.leggauss(4)
        half = 0.5 * np.diff(pieces)
        x = (pieces[:-1] + half)[:, None] + half[:, None] * nodes
        if t:
            h, u = solution((x - self.position) / t)
        else:
            h, u = np.where(x < self.position, self.left, self.right), 0 * x
        cells = np.minimum(np.searchsorted(ends, pieces[:-1] + half, side="right") - 1, n - 1)
        state = np.zeros((3, *grid.shape))
        for k, value in enumerate((h, h * u)):
            state[k] = np.bincount(cells, half * (value @ weights), minlength=n) / spacing
        return state


Solution = Callable[[NDArray], tuple[NDArray, NDArray]]


def dam_break(left: float, right: float, gravity: float) -> tuple[tuple[float, ...], Solution]:
    """Wave-front speeds in ascending order, and h and u as functions of x / t, for water initially at rest.

    `left` and `right` are the depths on both sides of x = 0. A rarefaction moves into the deeper side and a shock into
    the other: Stoker, Water Waves (1957), section 10.8. On a dry bed there is only the rarefaction: Ritter, Z. Ver.
    Dtsch. Ing. 36 (1892) 947.
    """
    if left < right:
        breaks, mirrored = dam_break(right, left, gravity)

        def reflected(s: NDArray) -> tuple[NDArray, NDArray]:
            h, u = mirrored(-s)
            return h, -u

        return tuple(-b for b in reversed(breaks)), reflected
    c = math.sqrt(gravity * left)
    if left == right:
        return (0.0,), lambda s: (np.full_like(s, left), np.zeros_like(s))
    if right == 0:
        h_middle = u_middle = 0.0
        tail = front = 2 * c
    else:

        def speed_behind_shock(h: float) -> float:
            return (h - right) * math.sqrt(0.5 * gravity * (1 / h + 1 / right))

        from scipy.optimize import brentq  # imported here: it takes 0.2 s, and only this needs it

        h_middle = brentq(
            lambda h: speed_behind_shock(h) - 2 * (c - math.sqrt(gravity * h)), right, left, xtol=1e-15 * left
        )
        u_middle = speed_behind_shock(h_middle)
        tail, front = u_middle - math.sqrt(gravity * h_middle), h_middle * u_middle / (h_middle - right)

    def solution(s: NDArray) -> tuple[NDArray, NDArray]:
        regions = [s < -c, s < tail, s < front]
        h = np.select(regions, [left, (2 * c - s) ** 2 / (9 * gravity), h_middle], right)
        u = np.select(regions, [0.0, 2 / 3 * (c + s), u_middle], 0.0)
        return h, u

    return (-c, tail, front) if right else (-c, front), solution


class Thacker(Water):
    """Oscillations in a paraboloidal bowl of rim radius a and depth D, which the bathymetry sets.

    "curved": the surface is a paraboloid that rises and falls with the angular frequency omega = sqrt(8 g D) / a;
    amplitude is A in h_centre = D sqrt(1 - A^2) / (1 - A cos omega t), 0 < A < 1. "planar": the surface is a plane, and
    the centre of the circular shoreline moves around the centre of the bowl at the distance amplitude a with
    omega = sqrt(2 g D) / a. The exact solution holds without friction and rotation. Raises ValueError if the bathymetry
    is not a paraboloid. Source: Thacker, J. Fluid Mech. 107 (1981) 499.
    """

    kind: Literal["thacker"] = "thacker"
    surface: Literal["curved", "planar"] = "curved"
    amplitude: float = Option(gt=0, lt=1)

    def omega(self, equation: ShallowWater) -> float:
        """Angular frequency of the oscillation, in radians/time."""
        bowl = equation.bathymetry
        assert isinstance(bowl, Paraboloid)
        return math.sqrt((8 if self.surface == "curved" else 2) * equation.gravity * bowl.depth) / bowl.radius

    def _fields(self, equation: ShallowWater, grid: Grid, member: int, seed: int) -> NDArray[np.float64]:
        if not isinstance(equation.bathymetry, Paraboloid):
            raise ValueError(
                f"initial kind 'thacker' needs a paraboloid as bottom, found {equation.bathymetry.kind!r}. "
                'Remedy: set equation.bathymetry.kind = "paraboloid"'
            )
        return self._averages(equation, grid, 0.0)

    def _later(self, equation: ShallowWater, grid: Grid, t: float) -> NDArray[np.float64] | None:
        if not isinstance(equation.bathymetry, Paraboloid) or not equation.unforced:
            return None
        return self._averages(equation, grid, t)

    def _averages(self, equation: ShallowWater, grid: Grid, t: float) -> NDArray[np.float64]:
        bowl = equation.bathymetry
        assert isinstance(bowl, Paraboloid)
        depth, radius, size = bowl.depth, bowl.radius, self.amplitude
        omega = self.omega(equation)
        cosine, sine = math.cos(omega * t), math.sin(omega * t)

        def fields(y: NDArray, x: NDArray) -> NDArray:
            y, x = (a / radius for a in np.broadcast_arrays(y - bowl.centre[0], x - bowl.centre[1]))
            r2 = y**2 + x**2
            if self.surface == "curved":
                swing = 1 - size * cosine
                e = math.sqrt(1 - size**2) / swing - 1 - r2 * ((1 - size**2) / swing**2 - 1)
                rate = 0.5 * omega * radius * size * sine / swing
                u, v = rate * x, rate * y
            else:
                e = size * (2 * x * cosine + 2 * y * sine - size)
                speed = size * radius * omega
                u, v = np.full_like(x, -speed * sine), np.full_like(x, speed * cosine)
            h = depth * np.maximum(e + 1 - r2, 0.0)
            return np.stack([h, h * u, h * v])

        return cell_averages(fields, grid, nodes=8)


class RandomSurface(InitialState):
    """Water at rest with h + b = depth + eta, eta Gaussian with E|eta_hat_k|^2 ~ (|k|^2 + tau^2)^(-exponent).

    k = 2 pi m / L. The mean of eta is 0, and E<eta^2> = amplitude^2. The eta of a member is one function, averaged over
    cells, on every grid that resolves it. Raises ValueError unless all sides are periodic.
    """

    kind: Literal["random-surface"] = "random-surface"
    depth: float = Option(gt=0)
    amplitude: float = Option(ge=0)
    exponent: float = Option(default=3.0, gt=0)
    tau: float = Option(gt=0)

    def state(
        self, equation: Equation, grid: Grid, members: Members, seed: int, folder: Path | None = None
    ) -> NDArray[np.float64]:
        self._require(isinstance(equation, ShallowWater), "the equation shallow-water", equation)
        assert isinstance(equation, ShallowWater)
        if set(equation.boundary.all) != {"periodic"}:
            raise ValueError(
                "initial kind 'random-surface' needs periodic sides. Remedy: set equation.boundary = \"periodic\""
            )
        # normalise over a fixed set of modes, not those of this grid, so that eta is the same function on every grid
        m = np.arange(-512, 513) * 2 * np.pi
        spectrum = ((m[:, None] / grid.length[0]) ** 2 + (m / grid.length[1]) ** 2 + self.tau**2) ** -self.exponent
        spectrum[512, 512] = 0.0
        k2 = sum(k**2 for k in grid.wavenumbers())
        power = self.amplitude**2 * (k2 + self.tau**2) ** -self.exponent / spectrum.sum()
        power.flat[0] = 0.0
        surface = SpectralNoise(grid, np.sqrt(power)).sample(seed, "initial", members)
        for k, h in zip(grid.wavenumbers(), grid.spacing, strict=True):
            surface = surface * np.exp(0.5j * k * h) * np.sinc(k * h / (2 * np.pi))
        state = np.zeros((len(members), 3, *grid.shape))
        bottom = equation.bottom(grid)
        level = self.depth + Transforms(grid).to_physical(surface)
        state[:, 0] = np.maximum(level if bottom is None else level - bottom, 0.0)
        return state
