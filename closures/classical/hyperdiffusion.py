"""Hyperdiffusion in velocity, which damps the filaments that free streaming stretches to the grid scale."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field, PrivateAttr

from subgrid.solver.closure import Closure, Kind, Memory, Problem, Tendency, View


class Hyperdiffusion(Closure):
    """df/dt += -nu (-1)^order d^(2 order) f / dv^(2 order) by differences, averaged over the time between calls.

    With D the second difference in v, without flux through the ends, df/dt += -rate (-D / 4)^order f. rate (1/time) is
    the damping at the grid scale, wavelength 2 dv; nu = rate (dv / 2)^(2 order). D has the eigenvectors
    cos(pi m (j + 1/2) / n), and -D / 4 the eigenvalues s_m = sin^2(pi m / 2 n), so the mass of every column is
    conserved. The tendency (member, 1, v, x) is (exp(-r T) - 1)/T f for each mode, with r = rate s_m^order and T the
    time to the next call: held for T, it gives exactly the decay exp(-r T), so every rate is stable.

    For Vlasov-Poisson. Raises ClosureError for anything else.
    """

    kind: ClassVar[Kind] = "classical"
    tunable: ClassVar = {"rate": (1e-3, 1e2)}
    order: Annotated[int, Field(ge=1, le=16)] = 4
    rate: Annotated[float, Field(ge=0)] = 1.0
    _factor: Any = PrivateAttr()

    def start(self, problem: Problem) -> Memory:
        self.require_equation(problem, "vlasov-poisson")
        n, span = problem.grid.shape[0], problem.every * problem.step
        m, j = np.arange(n), np.arange(n)[:, None]
        modes = np.cos(np.pi / n * (j + 0.5) * m)
        modes /= np.linalg.norm(modes, axis=0)
        decay = np.expm1(-self.rate * span * np.sin(0.5 * np.pi / n * m) ** (2 * self.order)) / span
        self._factor = problem.arrays.asarray((modes * decay) @ modes.T)
        return {}

    def __call__(self, view: View, memory: Memory) -> tuple[Tendency, Memory]:
        return Tendency(self._factor @ view.array), memory
