"""Hyperdiffusion in velocity: damping of the stripes that free streaming draws out to the grid."""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PrivateAttr

from subgrid.solver.closure import Closure, Kind, Memory, Problem, Tendency, View


class Hyperdiffusion(Closure):
    """df/dt += -nu (-1)^order d^(2 order) f / dv^(2 order) by differences, averaged over the interval of its calls.

    With D the second difference in v, nothing flowing through the ends, df/dt += -rate (-D / 4)^order f: `rate`
    (1/time) is the damping at the grid scale, wavelength 2 dv, and nu = rate (dv / 2)^(2 order). D's eigenvectors are
    cos(pi m (j + 1/2) / n), those of -D / 4 s_m = sin^2(pi m / 2 n), so the mass of every column is kept. What is
    answered is (exp(-r T) - 1)/T f mode by mode, r = rate s_m^order, T the time to the next call: held for T it takes
    off exactly the decay of that time, so no rate is unstable. Vlasov-Poisson alone, else ClosureError.
    """

    kind: ClassVar[Kind] = "classical"
    order: Annotated[int, Field(ge=1, le=16)] = 4
    rate: Annotated[float, Field(ge=0)] = 1.0
    _factor: NDArray = PrivateAttr()

    def start(self, problem: Problem) -> Memory:
        self.require_equation(problem, "vlasov-poisson")
        n, span = problem.grid.shape[0], problem.every * problem.step
        m, j = np.arange(n), np.arange(n)[:, None]
        modes = np.cos(np.pi / n * (j + 0.5) * m)
        modes /= np.linalg.norm(modes, axis=0)
        decay = np.expm1(-self.rate * span * np.sin(0.5 * np.pi / n * m) ** (2 * self.order)) / span
        self._factor = (modes * decay) @ modes.T
        return {}

    def __call__(self, view: View, memory: Memory) -> tuple[Tendency, Memory]:
        return Tendency(self._factor @ view.state), memory
