"""A prescribed oscillation in one dimension, the first test of multi-stage reduced-order models."""

from __future__ import annotations

import math
from pathlib import Path
from typing import ClassVar, Literal

import numba
import numpy as np
from numpy.typing import NDArray

from ..grid import Grid
from ..spectral import Operators
from .base import Array, Equation, Field, Kind
from .initial_state import InitialState, Members, repeat
from .right_hand_side import RightHandSide


class Oscillator(Equation):
    """u_t = d/dt A [sin(2x - t) + 0.1 cos((40x + 2t) sin t)] exp(-x^2): an evolution that is known beforehand.

    A large slow wave and a small fast one, whose wavelength goes from infinity to 2 pi / 40 and back. State
    (member, 1, x), values at the centres of cells. Nothing couples the cells: a stepper that meets no state is a
    quadrature in time (RK4 is Simpson's rule), and gives the formula back where the state at some time was the
    formula's (`initial.kind = "oscillator"`). Steps much below 2 pi / 40 over the largest |x| that matters resolve it.

    amplitude: A. Source: mLaSDI, arXiv 2506.09207.
    """

    name: ClassVar[str] = "oscillator"
    dimensions: ClassVar[tuple[int, ...]] = (1,)
    fields: ClassVar[tuple[Field, ...]] = (Field("u", "1", "displacement"),)
    terms: ClassVar[tuple[str, ...]] = ()

    noise: None = None  # type: ignore[assignment]
    amplitude: float = 1.0

    @property
    def kind(self) -> Kind:
        return "balance-law"

    def at(self, x: NDArray, t: float) -> NDArray[np.float64]:
        """u of the formula."""
        waves = np.sin(2 * x - t) + 0.1 * np.cos((40 * x + 2 * t) * math.sin(t))
        return self.amplitude * waves * np.exp(-(x**2))

    def nonlinear(self, operators: Operators, u: Array, t: float) -> Array:
        xp = operators.xp
        x = operators.constant("x", lambda: operators.grid.coordinates(centres=True)[0])
        fast = 40 * x + 2 * t
        phase_rate = 2 * math.sin(t) + fast * math.cos(t)
        waves = -xp.cos(2 * x - t) - 0.1 * xp.sin(fast * math.sin(t)) * phase_rate
        return 0 * u + self.amplitude * waves * xp.exp(-(x**2))

    def compiled(self, grid: Grid, members: int) -> RightHandSide:
        return Compiled(grid, self.amplitude)

    def periodic_axes(self, grid: Grid) -> tuple[bool, ...]:
        return (False,)

    def invariants(self, state: NDArray, grid: Grid) -> dict[str, NDArray]:
        """energy <u^2>/2, per unit of length; nothing keeps it."""
        return {"energy": 0.5 * (state[:, 0] ** 2).mean(-1)}

    def signal_speed(self, state: NDArray, grid: Grid) -> tuple[float, ...]:
        """0: nothing travels from cell to cell."""
        return (0.0,)


class Compiled:
    """The rate for a batch (member, 1, x), the same for all members."""

    def __init__(self, grid: Grid, amplitude: float) -> None:
        self.linear: NDArray | None = None
        self.rows, self.columns = np.ones(1, dtype=bool), grid.shape[-1]
        self._x = grid.coordinates(centres=True)[0]
        self._envelope = amplitude * np.exp(-(self._x**2))

    def __call__(self, u: NDArray, t: float, out: NDArray) -> None:
        rate(self._x, self._envelope, t, out)


@numba.njit(cache=True, nogil=True)
def rate(x, envelope, t, out):
    """out = envelope d/dt [sin(2x - t) + 0.1 cos((40x + 2t) sin t)]."""
    sine, cosine = math.sin(t), math.cos(t)
    for i in range(x.size):
        fast = 40 * x[i] + 2 * t
        waves = -math.cos(2 * x[i] - t) - 0.1 * math.sin(fast * sine) * (2 * sine + fast * cosine)
        for b in range(out.shape[0]):
            out[b, 0, i] = envelope[i] * waves


class OscillatorFormula(InitialState):
    """u = A [sin(2x - t) + 0.1 cos((40x + 2t) sin t)] exp(-x^2) at t = `time`, which must be the case's time.start.

    A is the equation's amplitude. Exact at all times.
    """

    kind: Literal["oscillator"] = "oscillator"
    time: float = 0.0

    def state(
        self, equation: Equation, grid: Grid, members: Members, seed: int, folder: Path | None = None
    ) -> NDArray[np.float64]:
        return self.exact(equation, grid, 0.0, members, seed)

    def exact(self, equation: Equation, grid: Grid, t: float, members: Members, seed: int) -> NDArray[np.float64]:
        self._require(isinstance(equation, Oscillator), "the equation oscillator", equation)
        assert isinstance(equation, Oscillator)
        return repeat(equation.at(grid.coordinates(centres=True)[0], self.time + t), members)
