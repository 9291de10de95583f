"""Initial states of particles: random states of the published benchmark, and two bodies on a Kepler orbit."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field as Option

from ...grid import Grid
from ...random import Stream
from ..base import Equation
from ..initial_state import InitialState, Members
from .equation import ChargedParticles


class RandomParticles(InitialState):
    """Normally distributed positions of standard deviation `deviation`; velocities and c depend on the force:

        coulomb   equal speeds `speed` in random directions; charges +-1 with equal probability
        springs   equal speeds `speed` in random directions; c = 0 or 1 with equal probability
        gravity   normally distributed velocities of standard deviation `speed`, minus their mean; masses 1

    Defaults of (deviation, speed): coulomb ((N/5)^(1/3), 0.5), springs (0.5, 0.5), gravity (1, 1). These are the states
    of the GeoTDM data generator, except that the generator draws springs pair by pair instead of c.
    """

    kind: Literal["charged-particles"] = "charged-particles"
    deviation: float | None = Option(default=None, gt=0)
    speed: float | None = Option(default=None, ge=0)

    def state(
        self, equation: Equation, grid: Grid, members: Members, seed: int, folder: Path | None = None
    ) -> NDArray[np.float64]:
        self._require(isinstance(equation, ChargedParticles), "the equation charged-particles", equation)
        assert isinstance(equation, ChargedParticles)
        return np.stack([self._member(equation.force, grid.points, seed, member) for member in members])

    def _member(self, force: str, n: int, seed: int, member: int) -> NDArray[np.float64]:
        generator = Stream(seed, "initial", 0, (member,)).generator(member)
        x, v = generator.standard_normal((2, 3, n))
        usual = {"coulomb": ((n / 5) ** (1 / 3), 0.5), "springs": (0.5, 0.5), "gravity": (1.0, 1.0)}[force]
        deviation, speed = (d if g is None else g for d, g in zip(usual, (self.deviation, self.speed), strict=True))
        v = v - v.mean(-1, keepdims=True) if force == "gravity" else v / np.sqrt((v**2).sum(0))
        coin = generator.integers(2, size=(1, n))
        coupling = {"coulomb": 2.0 * coin - 1, "springs": 1.0 * coin, "gravity": np.ones((1, n))}[force]
        return np.concatenate([deviation * x, speed * v, coupling])

    def exact(
        self, equation: Equation, grid: Grid, t: float, members: Members, seed: int
    ) -> NDArray[np.float64] | None:
        """Free motion, and for springs of zero rest length oscillations about the centre of mass of those connected.

        n connected entities oscillate with the angular frequency sqrt(n strength).
        """
        u = self.state(equation, grid, members, seed)
        assert isinstance(equation, ChargedParticles)
        x, v, c = u[:, :3], u[:, 3:6], u[:, 6:]
        tied = c if equation.has("interaction") else 0 * c
        if tied.any() and (equation.force != "springs" or equation.rest_length or equation.force_limit):
            return None
        if equation.strength < 0:
            return None
        n = np.maximum(tied.sum(-1, keepdims=True), 1)
        x0, v0 = ((tied * a).sum(-1, keepdims=True) / n for a in (x, v))
        frequency = np.sqrt(n * equation.strength)
        cosine, sine = np.cos(frequency * t), np.sin(frequency * t)
        ratio = t * np.sinc(frequency * t / np.pi)  # sin(wt) / w
        turned = x0 + v0 * t + (x - x0) * cosine + (v - v0) * ratio
        speed = v0 - (x - x0) * frequency * sine + (v - v0) * cosine
        return np.concatenate([np.where(tied > 0, turned, x + v * t), np.where(tied > 0, speed, v), c], axis=1)


class TwoBody(InitialState):
    """Two entities that attract each other, on a Kepler ellipse in the x-y plane, at their smallest distance at t = 0.

    x_1 - x_2 = (a (cos E - e), b sin E, 0) with Kepler's equation E - e sin E = t sqrt(mu / a^3), b = a sqrt(1 - e^2);
    the centre of mass is at rest at the origin. Gravity: `masses`, mu = strength (m_1 + m_2). Coulomb: charges 1 and
    -1, mu = 2 strength. Raises ValueError for other forces and for more or fewer than two entities.
    """

    kind: Literal["two-body"] = "two-body"
    eccentricity: float = Option(default=0.5, ge=0, lt=1)
    semi_major_axis: float = Option(default=1.0, gt=0)
    masses: tuple[float, float] = (1.0, 1.0)

    def state(
        self, equation: Equation, grid: Grid, members: Members, seed: int, folder: Path | None = None
    ) -> NDArray[np.float64]:
        return np.repeat(self._orbit(equation, grid, 0.0)[None], len(members), axis=0)

    def exact(
        self, equation: Equation, grid: Grid, t: float, members: Members, seed: int
    ) -> NDArray[np.float64] | None:
        assert isinstance(equation, ChargedParticles)
        if equation.softening or equation.force_limit or not equation.has("interaction"):
            return None
        return np.repeat(self._orbit(equation, grid, t)[None], len(members), axis=0)

    def period(self, equation: ChargedParticles) -> float:
        """The orbital period 2 pi sqrt(a^3 / mu)."""
        return 2 * np.pi * np.sqrt(self.semi_major_axis**3 / self._mu(equation))

    def _mu(self, equation: ChargedParticles) -> float:
        total = sum(self.masses) if equation.force == "gravity" else 2.0
        return equation.strength * total

    def _orbit(self, equation: Equation, grid: Grid, t: float) -> NDArray[np.float64]:
        attracts = isinstance(equation, ChargedParticles) and equation.force != "springs" and equation.strength > 0
        self._require(
            attracts and grid.points == 2, "two charged-particles that attract each other (grid.entities = 2)", equation
        )
        assert isinstance(equation, ChargedParticles)
        if min(self.masses) <= 0:
            raise ValueError(f"initial.masses: expected two numbers greater than 0, found {list(self.masses)}")
        a, e = self.semi_major_axis, self.eccentricity
        b, mean_motion = a * np.sqrt(1 - e**2), 2 * np.pi / self.period(equation)
        anomaly = eccentric_anomaly(mean_motion * t, e)
        cosine, sine = np.cos(anomaly), np.sin(anomaly)
        rate = mean_motion / (1 - e * cosine)
        apart = np.array([a * (cosine - e), b * sine, 0.0, -a * rate * sine, b * rate * cosine, 0.0])
        gravity = equation.force == "gravity"
        mass = np.array(self.masses if gravity else (1.0, 1.0))
        share = np.array([mass[1], -mass[0]]) / mass.sum()
        return np.concatenate([apart[:, None] * share, [mass if gravity else [1.0, -1.0]]])


def eccentric_anomaly(mean: float, e: float) -> float:
    """E of Kepler's equation E - e sin E = mean, by Newton's method.

    `mean` is reduced to [0, pi], where the left-hand side is convex; started above the root, the iteration cannot
    overshoot.
    """
    turns = np.round(mean / (2 * np.pi))
    rest = mean - 2 * np.pi * turns
    sign, rest = np.copysign(1.0, rest), abs(rest)
    found = min(rest + e, np.pi)
    for _ in range(100):
        step = (found - e * np.sin(found) - rest) / (1 - e * np.cos(found))
        found -= step
        if abs(step) <= 1e-16 * max(found, 1e-300):
            break
    return float(sign * found + 2 * np.pi * turns)
