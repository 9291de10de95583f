"""The Vlasov-Poisson system in one space dimension and one velocity dimension."""

from __future__ import annotations

import math
from functools import lru_cache, partial
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from ...backend import Launcher, Precision
from ...grid import Grid
from ...spectral import Operators
from ..base import Array, Equation, Field, Kind
from ..device_terms import DeviceTerms, overridden
from ..forcing import Forcing, ForcingTable, source_rates
from ..quantities import Coordinates, Derived, Quantity
from ..right_hand_side import RightHandSide
from . import array_code, transport
from .launched import LaunchedTransport

TINY = 1e-300  # in the place of what is not positive: -f ln f of it is zero to round-off


@lru_cache(maxsize=4)
def _centres(grid: Grid) -> NDArray[np.float64]:
    """v at the centres of the cells, (v,), read-only."""
    found = grid.coordinates(centres=True)[0]
    found.flags.writeable = False
    return found


def _total(values: NDArray) -> NDArray:
    """(member, v, x) -> the sum over v and x, (member,)."""
    return values.reshape(len(values), -1).sum(-1)


def _moment(state: NDArray, grid: Grid, power: int) -> NDArray[np.float64]:
    """The integral over v of v^power f, (member, x)."""
    v = grid.coordinates(centres=True)[0][:, None]
    return (v**power * state[:, 0]).sum(axis=1) * grid.spacing[0]


def _line(grid: Grid) -> Grid:
    return Grid(grid.shape[1:], grid.length[1:], grid.origin[1:])


def _places(equation: Equation, grid: Grid) -> Coordinates:
    return {"x": (equation.coordinates(grid)["x"], "length")}


class VlasovPoisson(Equation):
    """f_t + v f_x + (E + E_ext) f_v = S, E = -phi_x, -phi_xx = n - <n>, n = int f dv.

    Particles of unit charge and mass in a neutralising background: E_x = n - <n>, so they repel each other, and the
    plasma frequency is sqrt(<n>). In electron units E is minus the electric field. Mode 0 of E is zero.

    State (member, 1, v, x), in time/length^2: f at the cell centres of phase space, with grid.origin the lower corner;
    periodic in x, f = 0 beyond the ends in v. `ends`: no flux through "closed" ends, which conserves mass to round-off;
    what crosses "open" ends is lost. n is the sum of f over v times dv.

    Explicit steppers use upwind fluxes with fifth-order WENO-Z states in x and v, and recompute E at every stage; a
    step h with h (max|v| / dx + max|E| / dv) <= 1 is stable with rk4. Split steppers shift f along x ("drift") and, in
    the current field, along v ("kick"). These semi-Lagrangian shifts are conservative, exact except for an
    interpolation of order `interpolation`, and stable for any h. `positivity` keeps f >= 0 in split steps.

    external_field: E_ext(x, t), in length/time^2, at the centres of the cells. forcing: S(v, x, t), in 1/length^2. Both
    by formula, file or plug-in, steady or not. Split steps take them at the time of the kick, S half before and half
    after it, and keep their order.

    Terms that can be omitted: streaming (v f_x), field (E f_v), external_field (E_ext f_v), forcing (S).
    """

    name: ClassVar[str] = "vlasov-poisson"
    dimensions: ClassVar[tuple[int, ...]] = (2,)
    fields: ClassVar[tuple[Field, ...]] = (
        Field("distribution", "time/length^2", "f, particles per unit of phase space"),
    )
    terms: ClassVar[tuple[str, ...]] = ("streaming", "field", "external_field", "forcing")
    split: ClassVar[tuple[str, ...]] = ("drift", "kick")
    forced_part: ClassVar[str] = "kick"
    later: ClassVar[tuple[str, ...]] = ("external_field", "forcing")
    adaptive: ClassVar[bool] = True
    axis_names: ClassVar[tuple[str, ...]] = ("v", "x")
    quantities: ClassVar[dict[str, Quantity]] = {
        "mass": Quantity("1", "particles, the integral of f"),
        "momentum": Quantity("length/time", "momentum, the integral of v f"),
        "kinetic": Quantity("length^2/time^2", "kinetic energy, the integral of v^2 f / 2"),
        "field": Quantity("length^2/time^2", "energy of the field, the integral of E^2 / 2"),
        "energy": Quantity("length^2/time^2", "kinetic energy and that of the field"),
        "l2": Quantity("time/length^2", "the integral of f^2"),
        "entropy": Quantity("1", "the integral of -f ln f"),
        "temperature": Quantity("length^2/time^2", "variance of the velocity over all particles"),
        "field_maximum": Quantity("length/time^2", "largest |E|"),
    }
    derived: ClassVar[dict[str, Derived]] = {
        "density": Derived("1/length", "n, the integral of f over v", lambda e, f, grid: _moment(f, grid, 0), _places),
        "current": Derived("1/time", "the integral of v f over v", lambda e, f, grid: _moment(f, grid, 1), _places),
        "electric_field": Derived("length/time^2", "E", lambda e, f, grid: e.electric_field(f, grid), _places),
    }

    interpolation: array_code.Order = 13
    positivity: bool = False
    ends: Literal["closed", "open"] = "closed"
    external_field: ForcingTable | None = None
    forcing: ForcingTable | None = None

    @model_validator(mode="after")
    def _no_noise(self) -> VlasovPoisson:
        if self.noise is not None:
            raise ValueError("equation.noise: vlasov-poisson has no noise term. Remedy: remove equation.noise")
        return self

    @property
    def kind(self) -> Kind:
        return "kinetic"

    @property
    def external(self) -> Forcing | None:
        """E_ext, unless it is omitted."""
        return self.external_field if self.has("external_field") else None

    @property
    def autonomous(self) -> bool:  # type: ignore[override]
        return all(given is None or given.steady for given in (self.source, self.external))

    @property
    def compiles_forcing(self) -> bool:
        return False

    def courant_need(self) -> str:
        steady = self.external is None or self.external.steady
        return (
            "" if steady else "an external field that depends on time has no largest value. Remedy: set time.step alone"
        )

    def source_grid(self, name: str, grid: Grid) -> Grid:
        return _line(grid) if name == "external_field" else grid

    def external_values(self, grid: Grid, t: float) -> NDArray[np.float64]:
        """E_ext at the centres of the cells, (x,). Raises ValueError for what is not finite or does not fit."""
        assert self.external is not None
        return source_rates(self, self.external, _line(grid), t)[0]

    def nonlinear(self, operators: Operators, u: Array, t: float) -> Array:
        xp, spacing = operators.xp, operators.grid.spacing
        rate = 0 * u
        if self.has("streaming"):
            rate = rate + array_code.upwind_rate(u, self._velocity(operators), spacing[1], "periodic", xp)
        if self.accelerates:
            columns = xp.matrix_transpose(u)
            speed = self.force(operators, u, t)[..., None]
            rate = rate + xp.matrix_transpose(array_code.upwind_rate(columns, speed, spacing[0], self.ends, xp))
        return self.forced(operators, rate, t)

    def flow(self, part: str, operators: Operators, u: Array, h: float, t: float = 0.0) -> Array:
        xp, spacing = operators.xp, operators.grid.spacing
        table = operators.constant("fraction table", lambda: array_code.fraction_table(self.interpolation))
        if part == "drift" and self.has("streaming"):
            distance = self._velocity(operators) * (h / spacing[1])
            return array_code.shift(u, distance, table, "periodic", self.positivity, xp)
        if part == "kick" and self.accelerates:
            distance = self.force(operators, u, t)[..., None] * (h / spacing[0])
            columns = xp.matrix_transpose(u)
            return xp.matrix_transpose(array_code.shift(columns, distance, table, self.ends, self.positivity, xp))
        return u

    def compiled(self, grid: Grid, members: int, dtype: Precision = "float64") -> RightHandSide:
        return transport.Transport(
            grid,
            members,
            self.interpolation,
            self.positivity,
            self.ends == "closed",
            self.has("streaming"),
            self.has("field"),
            dtype,
            None if self.external is None else partial(self.external_values, grid),
            self.external is None or self.external.steady,
        )

    def launched(self, operators: Operators, launch: Launcher) -> DeviceTerms:
        if overridden(self, VlasovPoisson, "nonlinear", "flow"):
            return DeviceTerms()
        terms = LaunchedTransport(self, operators, launch)
        return DeviceTerms(terms.rate, terms.flow if self.source is None else None)

    def electric_field(self, state: NDArray, grid: Grid) -> NDArray[np.float64]:
        """E (member, x) of a state (member, 1, v, x)."""
        return state[:, 0].sum(axis=-2) @ array_code.field_matrix(grid)

    def periodic_axes(self, grid: Grid) -> tuple[bool, ...]:
        return (False, True)

    def invariants(self, state: NDArray, grid: Grid) -> dict[str, NDArray]:
        """Integrals over phase space, (member,). The equation conserves all except the two parts of the energy.

        mass: of f. momentum: v f. kinetic: v^2 f / 2. field: E^2 / 2, over x. energy: kinetic + field. l2: f^2.
        entropy: -f ln f where f > 0.
        """
        f, v, cell = state[:, 0], _centres(grid), math.prod(grid.spacing)
        rows = f.sum(-1) * cell
        kinetic_energy = 0.5 * (rows * v**2).sum(-1)
        field_energy = 0.5 * grid.spacing[1] * (self.electric_field(state, grid) ** 2).sum(-1)
        positive = np.maximum(f, TINY)
        return {
            "mass": rows.sum(-1),
            "momentum": (rows * v).sum(-1),
            "kinetic": kinetic_energy,
            "field": field_energy,
            "energy": kinetic_energy + field_energy,
            "l2": _total(f * f) * cell,
            "entropy": -_total(positive * np.log(positive)) * cell,
        }

    def diagnostics(self, state: NDArray, grid: Grid) -> dict[str, NDArray]:
        """temperature <(v - <v>)^2> over all particles, and the largest |E|, (member,)."""
        v = _centres(grid)
        rows = state[:, 0].sum(-1)
        total = rows.sum(-1)
        mean = (rows * v).sum(-1) / total
        return {
            "temperature": (rows * (v - mean[:, None]) ** 2).sum(-1) / total,
            "field_maximum": np.abs(self.electric_field(state, grid)).max(-1),
        }

    def budget_terms(self) -> tuple[str, ...]:
        acts = {"external_field": self.external is not None, "forcing": self.source is not None}
        return tuple(term for term, present in acts.items() if present)  # the other two together conserve the energy

    def gradients(self, state: NDArray, grid: Grid) -> dict[str, NDArray]:
        """Of the energy: v^2/2 + phi, times the area of phase space; phi from -phi_xx = n - <n>."""
        line = Grid((grid.shape[1],), (grid.length[1],))
        operators = Operators(line)
        phi = operators.inverse(operators.forward(_moment(state, grid, 0)) * operators.inverse_k2)
        v = grid.coordinates(centres=True)[0][:, None]
        return {"energy": (0.5 * v**2 + phi[:, None, None, :]) * float(np.prod(grid.length))}

    def signal_speed(self, state: NDArray, grid: Grid) -> tuple[float, ...]:
        """max|E| along v, max|v| along x."""
        field, streaming = self.array_speed(Operators(grid), state)
        return float(field), streaming

    def array_speed(self, operators: Operators, u: Array) -> tuple[Array | float, float]:
        xp = operators.xp
        field = xp.max(xp.abs(self.force(operators, u, 0.0))) if self.accelerates else 0.0
        centres = operators.grid.coordinates(centres=True)[0]
        return field, float(np.abs(centres).max()) if self.has("streaming") else 0.0

    def _velocity(self, operators: Operators) -> Array:
        """v as a column (v, 1)."""
        return operators.constant("velocity", lambda: operators.grid.coordinates(centres=True)[0][:, None])

    @property
    def accelerates(self) -> bool:
        return self.has("field") or self.external is not None

    def force(self, operators: Operators, u: Array, t: float) -> Array:
        """E + E_ext, of the terms in the model, (member, field, x)."""
        field = self._field(operators, u) if self.has("field") else 0 * operators.xp.sum(u, axis=-2)
        if self.external is None:
            return field
        grid, external = operators.grid, self.external_values
        if self.external.steady:
            return field + operators.constant("external field", lambda: external(grid, 0.0))
        return field + operators.array(external(grid, float(t)))

    def _field(self, operators: Operators, u: Array) -> Array:
        """E (member, field, x)."""
        xp: Any = operators.xp
        matrix = operators.constant("field matrix", lambda: array_code.field_matrix(operators.grid))
        return xp.matmul(xp.sum(u, axis=-2), matrix)
