"""Collisions in velocity: drag and diffusion that relax a distribution to a Maxwellian."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field, PrivateAttr

from subgrid.solver.backend import Backend
from subgrid.solver.closure import Closure, Kind, Memory, Problem, Tendency, View


class LenardBernstein(Closure):
    """df/dt += rate d/dv [(v - U) f + T df/dv], with U and T of each column that conserve momentum and energy.

    Fluxes through the faces between cells in v, second order, zero at the ends. U(x) and T(x) solve the two linear
    conditions sum F = 0 and sum v F = 0 over the faces of a column, so mass, momentum and energy of every column are
    conserved to round-off; in the limit of small cells U and T are the mean velocity and the variance. The tendency
    (member, 1, v, x) is explicit and held to the next call: rate T every h / dv^2 must be below 1/2.

    A physical form of the damping of filaments in velocity: `hyperdiffusion` conserves mass alone, and `order` there
    confines it to smaller scales. For Vlasov-Poisson. Raises ClosureError for anything else. Sources: Lenard and
    Bernstein, Phys. Rev. 112 (1958) 1456; with conserved moments: Dougherty, Phys. Fluids 7 (1964) 1788.
    """

    kind: ClassVar[Kind] = "classical"
    tunable: ClassVar = {"rate": (1e-6, 1.0)}
    rate: Annotated[float, Field(ge=0)] = 1e-3
    _faces: Any = PrivateAttr()
    _xp: Any = PrivateAttr()
    _spacing: float = PrivateAttr()

    def start(self, problem: Problem) -> Memory:
        self.require_equation(problem, "vlasov-poisson")
        grid = problem.grid
        self._spacing = grid.spacing[0]
        faces = (grid.origin[0] + self._spacing * np.arange(1, grid.shape[0]))[:, None]
        self._xp = problem.arrays.xp
        self._faces = Backend(problem.backend, problem.device).asarray(faces)  # moments are in double precision
        return {}

    def __call__(self, view: View, memory: Memory) -> tuple[Tendency, Memory]:
        f, xp = view.array, self._xp
        mean, slope = 0.5 * (f[..., 1:, :] + f[..., :-1, :]), (f[..., 1:, :] - f[..., :-1, :]) / self._spacing
        v = self._faces
        # F = v mean - U mean + T slope; U and T from sum F = sum v F = 0
        m0, m1, m2 = (xp.sum(v**n * mean, axis=-2) for n in range(3))
        s0, s1 = (xp.sum(v**n * slope, axis=-2) for n in range(2))
        determinant = m0 * s1 - m1 * s0
        flat, none = determinant == 0, xp.zeros_like(determinant)
        safe = xp.where(flat, none + 1.0, determinant)
        drift = xp.where(flat, none, (m1 * s1 - m2 * s0) / safe)
        spread = xp.where(flat, none, (m1 * m1 - m0 * m2) / safe)
        flux = (v - drift[..., None, :]) * mean + spread[..., None, :] * slope
        flux = xp.where(flat[..., None, :], xp.zeros_like(flux), flux)
        rate = xp.zeros_like(f)
        rate[..., :-1, :] += flux
        rate[..., 1:, :] -= flux
        return Tendency(self.rate / self._spacing * rate), memory
