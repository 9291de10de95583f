"""Charges, masses or springs: entities in three dimensions that act on each other in pairs."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field as Option
from pydantic import model_validator

from .. import particle_kernels, particles
from ..grid import Grid
from ..spectral import Operators
from ..stepping import RightHandSide
from .base import Array, Equation, Field, Kind


class ChargedParticles(Equation):
    """dx_i/dt = v_i, dv_i/dt = a_i = (1/m_i) sum_j f_ij, for entities i in unbounded space.

    With d = x_i - x_j and r = sqrt(|d|^2 + softening^2), by the option `force`:

        coulomb  f_ij =  strength c_i c_j d / r^3                        c: charge, of either sign; m = 1
        gravity  f_ij = -strength c_i c_j d / r^3                        c: mass;   m = c
        springs  f_ij = -strength c_i c_j (1 - rest_length / r) d        c: 1 if held by springs, 0 if free; m = 1

    State (member, 7, entity): x, y, z, vx, vy, vz, and the coupling c, which stays as it is. A spring joins every two
    entities whose couplings are not 0. An entity of mass 0 is a tracer: it is pulled and does not pull.

    force_limit cuts every component of a_i off at +-force_limit, after the sum over j, as the published data of charged
    particles do (at 100). That keeps a close encounter from throwing entities out, and is no law of nature: where it
    acts, energy, momentum and the isotropy of space are lost. Without it a step must resolve the closest encounter.

    There is no grid: the axis counts entities, spacing means nothing, and a step by CFL is refused. Split steppers
    carry positions ("drift") and velocities ("kick") by turns, each exactly, and keep the energy within bounds.

    Terms that can be omitted: interaction (all the a_i).
    """

    name: ClassVar[str] = "charged-particles"
    dimensions: ClassVar[tuple[int, ...]] = (1,)
    fields: ClassVar[tuple[Field, ...]] = (
        *(Field(k, "length", f"position along {k}") for k in "xyz"),
        *(Field(f"v{k}", "length/time", f"velocity along {k}") for k in "xyz"),
        Field("coupling", "1", "charge, mass, or 1 for held by springs"),
    )
    terms: ClassVar[tuple[str, ...]] = ("interaction",)
    split: ClassVar[tuple[str, ...]] = ("drift", "kick")
    axis_names: ClassVar[tuple[str, ...]] = ("entity",)

    force: particles.Force = "coulomb"
    strength: float = 1.0
    softening: float = Option(default=0.0, ge=0)
    rest_length: float = Option(default=0.0, ge=0)
    force_limit: float | None = Option(default=None, gt=0)

    @model_validator(mode="after")
    def _options_agree(self) -> ChargedParticles:
        if self.noise is not None:
            raise ValueError("noise is a field on a grid; charged-particles has none. Remedy: leave noise out")
        if self.rest_length and self.force != "springs":
            raise ValueError(
                f"rest_length = {self.rest_length:g} contradicts force = {self.force!r}. "
                "Remedy: force = 'springs', or leave rest_length out"
            )
        return self

    @property
    def kind(self) -> Kind:
        return "particles"

    @property
    def _strength(self) -> float:
        """The strength, or 0 where the interaction is omitted."""
        return self.strength if self.has("interaction") else 0.0

    def _acceleration(self, operators: Operators, u: Array) -> Array:
        """a (member, 3, entity)."""
        n = operators.grid.shape[0]
        apart = operators.constant("apart", lambda: 1.0 - np.eye(n))
        return particles.acceleration(
            u[:, :3, :],
            u[:, 6, :],
            self.force,
            self._strength,
            self.softening,
            self.rest_length,
            self.force_limit,
            apart,
            operators.xp,
        )

    def nonlinear(self, operators: Operators, u: Array, t: float) -> Array:
        return operators.xp.concat([u[:, 3:6, :], self._acceleration(operators, u), 0 * u[:, 6:, :]], axis=1)

    def flow(self, part: str, operators: Operators, u: Array, h: float) -> Array:
        x, v, coupling = u[:, :3, :], u[:, 3:6, :], u[:, 6:, :]
        if part == "drift":
            x = x + h * v
        elif self.has("interaction"):
            v = v + h * self._acceleration(operators, u)
        return operators.xp.concat([x, v, coupling], axis=1)

    def compiled(self, grid: Grid, members: int) -> RightHandSide:
        return particle_kernels.Particles(
            grid.shape[0], self.force, self._strength, self.softening, self.rest_length, self.force_limit
        )

    def masses(self, state: Any) -> Any:
        """m (member, entity): the coupling under gravity, else 1."""
        return state[:, 6] if self.force == "gravity" else np.ones_like(state[:, 6])

    def invariants(self, state: NDArray, grid: Grid) -> dict[str, NDArray]:
        """Energy, momentum m v and angular momentum m x cross v about the origin, three components each: of all
        entities together, not of each."""
        x, v, m = state[:, :3], state[:, 3:6], self.masses(state)[:, None]
        energy = 0.5 * (m * v**2).sum((1, 2)) + particles.potential(
            x, state[:, 6], self.force, self._strength, self.softening, self.rest_length, np
        )
        momentum, angular = (m * v).sum(-1), (m * np.cross(x, v, axis=1)).sum(-1)
        return {
            "energy": energy,
            **{f"momentum_{k}": momentum[:, i] for i, k in enumerate("xyz")},
            **{f"angular_momentum_{k}": angular[:, i] for i, k in enumerate("xyz")},
        }

    def signal_speed(self, state: NDArray, grid: Grid) -> tuple[float, ...]:
        """0: nothing travels along an axis that counts entities, and no step follows from a Courant number."""
        return (0.0,)
