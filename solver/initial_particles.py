"""Initial states of particle systems: drawn at random, and the orbit of two bodies with its closed form."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field as Option

from .equations import ChargedParticles, Equation
from .grid import Grid
from .initial_state import InitialState, Members
from .random import Stream


class RandomParticles(InitialState):
    """Positions N(0, spread^2) in each component, velocities in random directions, all of the same speed.

    A member's numbers are its own, whatever the ensemble. Spread 1 and speed 0.5 are those of the published N-body data
    (Kipf et al., ICML 2018, in two dimensions; Satorras et al., ICML 2021, and GeoTDM, NeurIPS 2024, in three), which
    scale a standard normal velocity to the length 0.5. A subclass says what the couplings are.
    """

    force: ClassVar[str]
    spread: float = Option(default=1.0, gt=0)
    speed: float = Option(default=0.5, ge=0)

    @abstractmethod
    def couplings(self, generator: np.random.Generator, entities: int) -> NDArray[np.float64]:
        """One number for each entity."""

    def state(
        self, equation: Equation, grid: Grid, members: Members, seed: int, folder: Path | None = None
    ) -> NDArray[np.float64]:
        fits = isinstance(equation, ChargedParticles) and equation.force == self.force
        self._require(fits, f"charged-particles with force = {self.force!r}", equation)
        stream, n = Stream(seed, "initial", 0, members), grid.shape[0]
        state = np.empty((len(members), 7, n))
        for one, member in zip(state, members, strict=True):
            generator = stream.generator(member)
            one[:3] = self.spread * generator.standard_normal((3, n))
            direction = generator.standard_normal((3, n))
            one[3:6] = self.speed * direction / np.linalg.norm(direction, axis=0)
            one[6] = self.couplings(generator, n)
        return state


class RandomCharges(RandomParticles):
    """Charges +1 and -1 with equal probability, for force = "coulomb"."""

    kind: Literal["charged-particles"] = "charged-particles"
    force: ClassVar[str] = "coulomb"

    def couplings(self, generator: np.random.Generator, entities: int) -> NDArray[np.float64]:
        return np.where(generator.random(entities) < 0.5, -1.0, 1.0)


class RandomMasses(RandomParticles):
    """Equal masses, for force = "gravity"."""

    kind: Literal["gravity-particles"] = "gravity-particles"
    force: ClassVar[str] = "gravity"
    mass: float = Option(default=1.0, gt=0)

    def couplings(self, generator: np.random.Generator, entities: int) -> NDArray[np.float64]:
        return np.full(entities, self.mass)


class RandomSprings(RandomParticles):
    """Each entity is held by springs, coupling 1, with the probability `held`, and else free, for force = "springs".

    A spring joins every two that are held. The published data draw each pair by itself, which no number of an entity
    can say.
    """

    kind: Literal["spring-particles"] = "spring-particles"
    force: ClassVar[str] = "springs"
    held: float = Option(default=0.5, ge=0, le=1)

    def couplings(self, generator: np.random.Generator, entities: int) -> NDArray[np.float64]:
        return np.where(generator.random(entities) < self.held, 1.0, 0.0)


class TwoBody(InitialState):
    """Two bodies on Kepler ellipses in the x-y plane, at pericentre on the x axis, their centre of mass at rest in 0.

    The separation d obeys d'' = -mu d / |d|^3, with mu = strength (c_1 + c_2) of masses c under gravity, and
    -2 strength c_1 c_2 of charges c of unit mass, which must attract. semi_major_axis is that of d. The period is
    2 pi sqrt(a^3 / mu). Exact without softening and force_limit.
    """

    kind: Literal["two-body"] = "two-body"
    semi_major_axis: float = Option(default=1.0, gt=0)
    eccentricity: float = Option(default=0.0, ge=0, lt=1)
    couplings: tuple[float, float] = (1.0, 1.0)

    def state(
        self, equation: Equation, grid: Grid, members: Members, seed: int, folder: Path | None = None
    ) -> NDArray[np.float64]:
        return self._at(equation, grid, 0.0, members)

    def exact(
        self, equation: Equation, grid: Grid, t: float, members: Members, seed: int
    ) -> NDArray[np.float64] | None:
        assert isinstance(equation, ChargedParticles)
        if equation.softening or equation.force_limit is not None or not equation.has("interaction"):
            return None
        return self._at(equation, grid, t, members)

    def mu(self, equation: ChargedParticles) -> float:
        """Strength of the attraction between the two, in length^3/time^2."""
        one, other = self.couplings
        if equation.force == "gravity":
            return equation.strength * (one + other)
        return -2 * equation.strength * one * other

    def period(self, equation: ChargedParticles) -> float:
        return float(2 * np.pi * np.sqrt(self.semi_major_axis**3 / self.mu(equation)))

    def _at(self, equation: Equation, grid: Grid, t: float, members: Members) -> NDArray[np.float64]:
        fits = isinstance(equation, ChargedParticles) and equation.force != "springs" and grid.shape == (2,)
        self._require(fits, "charged-particles with force = 'coulomb' or 'gravity' and grid.entities = 2", equation)
        assert isinstance(equation, ChargedParticles)
        mu, a, e = self.mu(equation), self.semi_major_axis, self.eccentricity
        c = np.array(self.couplings)
        masses = c if equation.force == "gravity" else np.ones(2)
        if mu <= 0 or (masses < 0).any():
            raise ValueError(
                f"initial.couplings: {list(self.couplings)} do not attract each other under force = "
                f"{equation.force!r}. Remedy: positive masses, or charges of opposite signs"
            )
        motion = np.sqrt(mu / a**3)
        anomaly = eccentric_anomaly(motion * t, e)
        minor, turning = a * np.sqrt(1 - e**2), motion / (1 - e * np.cos(anomaly))
        state = np.zeros((7, 2))
        share = np.array([masses[1], -masses[0]]) / masses.sum()
        for field, value in (
            (0, a * (np.cos(anomaly) - e)),
            (1, minor * np.sin(anomaly)),
            (3, -a * np.sin(anomaly) * turning),
            (4, minor * np.cos(anomaly) * turning),
        ):
            state[field] = share * value
        state[6] = c
        return np.repeat(state[None], len(members), axis=0)


def eccentric_anomaly(mean: float, eccentricity: float) -> float:
    """E of Kepler's equation E - e sin E = M, to round-off.

    Newton's iteration from E = pi, where it converges monotonically for every M in [0, 2 pi) and e < 1: Charles and
    Tatum, Celest. Mech. Dyn. Astron. 69 (1998) 357.
    """
    turns = np.floor(mean / (2 * np.pi))
    rest = mean - 2 * np.pi * turns
    anomaly = np.pi
    for _ in range(60):
        change = (anomaly - eccentricity * np.sin(anomaly) - rest) / (1 - eccentricity * np.cos(anomaly))
        anomaly -= change
        if abs(change) < 1e-15:
            break
    return float(anomaly + 2 * np.pi * turns)
