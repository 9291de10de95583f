"""Initial states of the Vlasov-Poisson system: f(v, x) at cell centres."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field as Option

from ...grid import Grid
from ...random import Stream
from ..base import Equation
from ..initial_state import InitialState, Members, repeat
from .equation import VlasovPoisson


def maxwellian(v: NDArray, speed: float, thermal_speed: float) -> NDArray[np.float64]:
    """exp(-(v - speed)^2 / 2 v_t^2) / (sqrt(2 pi) v_t): the Maxwellian of density 1, in the shape of v."""
    return np.exp(-0.5 * ((v - speed) / thermal_speed) ** 2) / (np.sqrt(2 * np.pi) * thermal_speed)


class Wave(InitialState):
    """f = (1 + amplitude cos(k x)) f_0(v). A subclass writes f_0, and k if it is not 2 pi wavenumber / L.

    With `modes` > 0 the cosine is replaced by a random wave per member: sum_m (a_m cos(m k x) + b_m sin(m k x)),
    m = 1..modes, with a_m and b_m standard normal. State (member, 1, v, x).
    """

    amplitude: float = 0.01
    wavenumber: float = Option(default=1, ge=1, multiple_of=1)
    modes: int = Option(default=0, ge=0)

    @abstractmethod
    def at(self, v: NDArray) -> NDArray[np.float64]:
        """f_0(v), in the shape of v."""

    def _k(self, grid: Grid) -> float:
        return 2 * np.pi * self.wavenumber / grid.length[-1]

    def state(
        self, equation: Equation, grid: Grid, members: Members, seed: int, folder: Path | None = None
    ) -> NDArray[np.float64]:
        self._require(isinstance(equation, VlasovPoisson), "the equation vlasov-poisson", equation)
        v, x = grid.coordinates(centres=True)
        if not self.modes:
            return repeat(np.outer(self.at(v), 1 + self.amplitude * np.cos(self._k(grid) * x)), members)
        phase = self._k(grid) * np.arange(1, self.modes + 1)[:, None] * x
        drawn = Stream(seed, "initial", 0, members).normal((2, self.modes))
        wave = drawn[:, 0] @ np.cos(phase) + drawn[:, 1] @ np.sin(phase)
        return self.at(v)[:, None] * (1 + self.amplitude * wave[:, None, None])


class Landau(Wave):
    """f = (1 + A cos k x) M(v), M the Maxwellian of thermal speed v_t and density 1; the plasma frequency is 1.

    Weak damping (A = 0.01): for k v_t = 0.5 the wave decays as exp(-0.1533 t) with the frequency 1.4156. Strong damping
    (A = 0.5): the wave traps particles and grows again. Source: Cheng and Knorr, J. Comput. Phys. 22 (1976) 330.
    """

    kind: Literal["landau"] = "landau"
    thermal_speed: float = Option(default=1.0, gt=0)

    def at(self, v: NDArray) -> NDArray[np.float64]:
        return maxwellian(v, 0.0, self.thermal_speed)


class TwoStream(Wave):
    """f = (1 + A cos k x) (M(v - v_0) + M(v + v_0)) / 2: two beams of thermal speed v_t, with density 1 in total.

    speed: v_0. Without it the state has the other classical form, f = (1 + A cos k x) (v / v_t)^2 M(v), of Cheng and
    Knorr (1976).
    """

    kind: Literal["two-stream"] = "two-stream"
    speed: float | None = Option(default=None, gt=0)
    thermal_speed: float = Option(default=1.0, gt=0)

    def at(self, v: NDArray) -> NDArray[np.float64]:
        if self.speed is None:
            return (v / self.thermal_speed) ** 2 * maxwellian(v, 0.0, self.thermal_speed)
        beams = (maxwellian(v, sign * self.speed, self.thermal_speed) for sign in (-1, 1))
        return 0.5 * sum(beams, np.zeros_like(v))


class TwoStreamHypar(Wave):
    """f = 8 / sqrt(2 pi T) (1 + A cos k x) (exp(-(v - 2)^2 / 2 T) + exp(-(v + 2)^2 / 2 T)); mean density 16.

    The two-stream example of HyPar and the data of mLaSDI (arXiv 2506.09207): T = `temperature` in [0.9, 1.1],
    k = `wavenumber` in [1.0, 1.2], in 1/length, x in [0, 2 pi), v in [-7, 7). If k does not fit the length, f jumps at
    the periodic boundary; the benchmark includes this jump. The published nodes v_j = -7 + j dv, x_j = j dx are the
    cell centres for grid.origin = (-7 - dv / 2, -dx / 2).
    """

    kind: Literal["two-stream-hypar"] = "two-stream-hypar"
    amplitude: float = 0.1
    wavenumber: float = Option(default=1.0, gt=0)
    temperature: float = Option(default=1.0, gt=0)

    def at(self, v: NDArray) -> NDArray[np.float64]:
        return 8 * sum((maxwellian(v, speed, np.sqrt(self.temperature)) for speed in (-2.0, 2.0)), np.zeros_like(v))

    def _k(self, grid: Grid) -> float:
        return self.wavenumber


class BumpOnTail(Wave):
    """f = (1 + A cos k x) ((1 - b) M(v) + b M_b(v - v_b)): a beam of density b in a plasma of thermal speed 1.

    fraction: b. speed: v_b. The defaults are those of Arber and Vann, J. Comput. Phys. 180 (2002) 339, who use k = 0.3.
    """

    kind: Literal["bump-on-tail"] = "bump-on-tail"
    amplitude: float = 0.04
    fraction: float = Option(default=0.1, ge=0, le=1)
    speed: float = 4.5
    thermal_speed: float = Option(default=0.5, gt=0)

    def at(self, v: NDArray) -> NDArray[np.float64]:
        bulk, beam = maxwellian(v, 0.0, 1.0), maxwellian(v, self.speed, self.thermal_speed)
        return (1 - self.fraction) * bulk + self.fraction * beam
