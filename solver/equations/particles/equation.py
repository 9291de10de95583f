"""Particles in three dimensions with pairwise forces: Coulomb, gravity or springs."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field as Option
from scipy.spatial import cKDTree

from ...backend import Precision
from ...grid import Grid
from ...spectral import Operators
from ..base import Array, Equation, Field, Kind
from ..quantities import Coordinates, Derived, Quantity
from ..right_hand_side import RightHandSide
from . import kernels

LEAST_DISTANCE = 1000  # of two entities, in spacings of numbers at their positions
Force = Literal["coulomb", "gravity", "springs"]


def _distances(equation: Equation, state: NDArray, grid: Grid) -> NDArray[np.float64]:
    """|x_i - x_j| of the pairs of `Equation.pairs`, (member, pair)."""
    i, j = equation.pairs(grid.points)
    return np.sqrt(((state[:, :3, i] - state[:, :3, j]) ** 2).sum(axis=1))


def _pairs(equation: Equation, grid: Grid) -> Coordinates:
    return {"pair": (np.arange(equation.pairs(grid.points).shape[1]), "1")}


class ChargedParticles(Equation):
    """x_i' = v_i,  v_i' = a_i = sum_j w_ij (x_i - x_j), with coupling c and r^2 = |x_i - x_j|^2 + softening^2:

        coulomb   w = strength c_i c_j / r^3                     c: charge; like charges repel; unit masses
        gravity   w = -strength c_j / r^3                        c: mass
        springs   w = -strength c_i c_j (1 - rest_length / r)    c: 1 on springs, 0 free; unit masses

    State (member, 7, entity): position in length, velocity in length/time, and c, which is constant. Springs connect
    any two entities with c = 1. `force_limit` clips each component of the sum a_i, as in the published data; momentum
    and energy are then not conserved. There are no walls.

    Split steppers alternate exact updates of x ("drift") and of v ("kick"); the energy error stays bounded.

    Terms that can be omitted: interaction, which leaves free motion.
    """

    name: ClassVar[str] = "charged-particles"
    dimensions: ClassVar[tuple[int, ...]] = (1,)
    fields: ClassVar[tuple[Field, ...]] = (
        *(Field(axis, "length", f"{axis} of the entity", "position") for axis in "xyz"),
        *(Field(f"velocity_{axis}", "length/time", f"velocity along {axis}", "velocity") for axis in "xyz"),
        Field("coupling", "1", "constant: the charge, the mass, or 1 on springs and 0 free", "constant"),
    )
    terms: ClassVar[tuple[str, ...]] = ("interaction",)
    split: ClassVar[tuple[str, ...]] = ("drift", "kick")
    autonomous: ClassVar[bool] = True
    axis_names: ClassVar[tuple[str, ...]] = ("entity",)
    quantities: ClassVar[dict[str, Quantity]] = {
        "energy": Quantity("mass length^2/time^2", "kinetic and potential energy of all entities"),
        **{f"momentum_{axis}": Quantity("mass length/time", f"momentum along {axis}") for axis in "xyz"},
        **{
            f"angular_momentum_{axis}": Quantity("mass length^2/time", f"angular momentum about the {axis} axis")
            for axis in "xyz"
        },
        "kinetic": Quantity("mass length^2/time^2", "kinetic energy of all entities"),
        "potential": Quantity("mass length^2/time^2", "potential energy of all pairs"),
    }
    derived: ClassVar[dict[str, Derived]] = {
        "distance": Derived(
            "length", "distance of the entities of a pair", lambda e, u, grid: _distances(e, u, grid), _pairs
        )
    }

    noise: None = None  # type: ignore[assignment]
    force: Force = "coulomb"
    strength: float = 1.0
    softening: float = Option(default=0.0, ge=0)
    rest_length: float = Option(default=0.0, ge=0)
    force_limit: float | None = Option(default=None, gt=0)

    @property
    def kind(self) -> Kind:
        return "particles"

    def nonlinear(self, operators: Operators, u: Array, t: float) -> Array:
        xp = operators.xp
        return xp.concat([u[:, 3:6, ...], self._acceleration(operators, u), xp.zeros_like(u[:, 6:, ...])], axis=1)

    def flow(self, part: str, operators: Operators, u: Array, h: float) -> Array:
        if part == "drift":
            return operators.xp.concat([u[:, :3, ...] + h * u[:, 3:6, ...], u[:, 3:, ...]], axis=1)
        kicked = u[:, 3:6, ...] + h * self._acceleration(operators, u)
        return operators.xp.concat([u[:, :3, ...], kicked, u[:, 6:, ...]], axis=1)

    def compiled(self, grid: Grid, members: int, dtype: Precision = "float64") -> RightHandSide:
        return kernels.Particles(
            grid.points,
            members,
            self.force,
            self.strength if self.has("interaction") else 0.0,
            self.softening,
            self.rest_length,
            self.force_limit,
            dtype,
        )

    def require_single(self, state: NDArray, grid: Grid) -> None:
        """The distance of two entities must be resolved, where the force depends on its inverse."""
        if not self.has("interaction") or (self.force == "springs" and not self.rest_length) or grid.points < 2:
            return
        for member, x in enumerate(state[:, :3]):
            nearest = float(cKDTree(x.T).query(x.T, k=2)[0][:, 1].min())
            least = LEAST_DISTANCE * float(np.finfo(np.float32).eps) * float(np.abs(x).max())
            if math.hypot(nearest, self.softening) < least:
                raise ValueError(
                    f"precision: two entities of member {member} are {nearest:.2g} apart; single precision needs "
                    f"{least:.2g} at their distance from the origin. Remedy: equation.softening >= {least:.2g}, "
                    'or precision = "float64"'
                )

    def invariants(self, state: NDArray, grid: Grid) -> dict[str, NDArray]:
        """Energy, momentum and angular momentum about the origin, summed over all entities, each (member,)."""
        x, v, c = state[:, :3], state[:, 3:6], state[:, 6]
        mass = c if self.force == "gravity" else np.ones_like(c)
        momentum = mass[:, None] * v
        kinetic = 0.5 * (momentum * v).sum((1, 2))
        spin = np.cross(x, momentum, axis=1)
        return {
            "energy": kinetic + self._potential_energy(x, c),
            **{f"momentum_{axis}": momentum[:, i].sum(-1) for i, axis in enumerate("xyz")},
            **{f"angular_momentum_{axis}": spin[:, i].sum(-1) for i, axis in enumerate("xyz")},
        }

    def diagnostics(self, state: NDArray, grid: Grid) -> dict[str, NDArray]:
        """Kinetic and potential energy of all entities, (member,)."""
        v, c = state[:, 3:6], state[:, 6]
        mass = c if self.force == "gravity" else np.ones_like(c)
        return {
            "kinetic": 0.5 * (mass[:, None] * v**2).sum((1, 2)),
            "potential": self._potential_energy(state[:, :3], c),
        }

    def budget_terms(self) -> tuple[str, ...]:
        return ()

    def signal_speed(self, state: NDArray, grid: Grid) -> tuple[float, ...]:
        raise TypeError(f"{self.name} has no grid, so there is no Courant number. Remedy: set time.step, not time.cfl")

    def _acceleration(self, operators: Operators, u: Array) -> Array:
        """a (member, 3, entity). `diagonal` keeps r >= 1 for i = j, so that no value and no gradient is nan."""
        xp: Any = operators.xp
        if not self.has("interaction"):
            return xp.zeros_like(u[:, :3, ...])
        diagonal = operators.constant("diagonal", lambda: np.eye(operators.grid.points))
        x, c = u[:, :3, ...], u[:, 6, ...]
        apart = x[..., :, None] - x[..., None, :]
        squared = xp.sum(apart**2, axis=1) + self.softening**2 + diagonal
        pairs = -c[:, None, :] if self.force == "gravity" else c[:, :, None] * c[:, None, :]
        if self.force != "springs":
            weight = self.strength * pairs / (squared * xp.sqrt(squared))
        elif self.rest_length:
            weight = -self.strength * pairs * (1 - self.rest_length / xp.sqrt(squared))
        else:
            weight = -self.strength * pairs
        total = xp.sum(weight[:, None, ...] * apart, axis=-1)
        if self.force_limit is None:
            return total
        limit = xp.full_like(total, self.force_limit)  # xp.clip would send its limits to a device
        return xp.minimum(xp.maximum(total, -limit), limit)

    def _potential_energy(self, x: NDArray, c: NDArray) -> NDArray:
        """Potential energy, summed over pairs, (member,)."""
        if not self.has("interaction"):
            return np.zeros(len(x))
        i, j = np.triu_indices(x.shape[-1], 1)
        r = np.sqrt(((x[..., i] - x[..., j]) ** 2).sum(1) + self.softening**2)
        pairs = self.strength * c[:, i] * c[:, j]
        if self.force == "springs":
            return (0.5 * pairs * (r - self.rest_length) ** 2).sum(-1)
        return (pairs / r).sum(-1) * (-1 if self.force == "gravity" else 1)
