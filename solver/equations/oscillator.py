"""A prescribed oscillation in one dimension, a benchmark of multi-stage reduced-order models."""

from __future__ import annotations

import math
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ..backend import Precision, kernel
from ..grid import Grid
from ..spectral import Operators
from .base import Array, Equation, Field, Kind
from .initial_state import InitialState, Members, repeat
from .right_hand_side import RightHandSide


class Oscillator(Equation):
    """u_t = d/dt A [sin(2x - t) + 0.1 cos((40x + 2t) sin t)] exp(-x^2): the solution is prescribed.

    A large slow wave plus a small fast wave, whose wavelength decreases from infinity to 2 pi / 40 and increases again.
    State (member, 1, x), dimensionless, values at cell centres. The right-hand side does not depend on u, so cells are
    not coupled and a stepper is a quadrature in time (RK4 is Simpson's rule). It reproduces the formula if the run
    starts from the formula (`initial.kind = "oscillator"`). The step resolves the fast wave if it is much shorter than
    2 pi / (40 |x|) for the largest |x| at which the envelope exp(-x^2) is not negligible.

    amplitude: A, dimensionless. Source: mLaSDI, arXiv 2506.09207.
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
        """u(x, t) of the formula, in the shape of x."""
        waves = np.sin(2 * x - t) + 0.1 * np.cos((40 * x + 2 * t) * math.sin(t))
        return self.amplitude * waves * np.exp(-(x**2))

    def nonlinear(self, operators: Operators, u: Array, t: float) -> Array:
        xp = operators.xp
        x = operators.constant("x", lambda: operators.grid.coordinates(centres=True)[0])
        fast = 40 * x + 2 * t
        phase_rate = 2 * math.sin(t) + fast * math.cos(t)
        waves = -xp.cos(2 * x - t) - 0.1 * xp.sin(fast * math.sin(t)) * phase_rate
        return 0 * u + self.amplitude * waves * xp.exp(-(x**2))

    def compiled(self, grid: Grid, members: int, dtype: Precision = "float64") -> RightHandSide:
        return Compiled(grid, self.amplitude)

    def periodic_axes(self, grid: Grid) -> tuple[bool, ...]:
        return (False,)

    def invariants(self, state: NDArray, grid: Grid) -> dict[str, NDArray]:
        """energy <u^2>/2 per unit length, (member,); it varies in time."""
        return {"energy": 0.5 * (state[:, 0] ** 2).mean(-1)}

    def signal_speed(self, state: NDArray, grid: Grid) -> tuple[float, ...]:
        """0, because cells are not coupled."""
        return (0.0,)


class Compiled:
    """du/dt of a batch (member, 1, x), equal for all members; computed in double precision, as phases grow with t."""

    def __init__(self, grid: Grid, amplitude: float) -> None:
        self.linear: NDArray | None = None
        self.rows, self.columns = np.ones(1, dtype=bool), grid.shape[-1]
        self._x = grid.coordinates(centres=True)[0]
        self._envelope = amplitude * np.exp(-(self._x**2))
        self._rate = np.zeros_like(self._x)

    def __call__(self, u: NDArray, t: float, out: NDArray) -> None:
        rate(self._x, self._envelope, t, self._rate)
        out[...] = self._rate


@kernel()
def rate(x, envelope, t, out):
    """out (x,) = envelope d/dt [sin(2x - t) + 0.1 cos((40x + 2t) sin t)]."""
    sine, cosine = math.sin(t), math.cos(t)
    for i in range(x.size):
        fast = 40 * x[i] + 2 * t
        waves = -math.cos(2 * x[i] - t) - 0.1 * math.sin(fast * sine) * (2 * sine + fast * cosine)
        out[i] = envelope[i] * waves


class OscillatorFormula(InitialState):
    """u = A [sin(2x - t) + 0.1 cos((40x + 2t) sin t)] exp(-x^2) at t = `time`, which must equal time.start.

    A is the equation's amplitude. The exact solution is known at all times.
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
