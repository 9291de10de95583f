"""The two-dimensional shallow-water equations over any bottom, by finite volumes."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray
from pydantic import Field as Option
from pydantic import model_validator

from ...backend import Launcher, Precision
from ...grid import Grid
from ...spectral import Operators
from ..base import Array, Equation, Field
from ..device_terms import DeviceTerms, overridden
from ..forcing import ForcingTable
from ..quantities import Derived, Quantity
from ..right_hand_side import RightHandSide
from . import array_code, compiled, dry_depth, friction, prescribed, sides_array_code, sweep_array_code
from .bathymetry import Bottom, Flat, on_grid
from .friction import Resistance
from .launched import LaunchedBalance
from .measured import DERIVED, QUANTITIES, measured
from .rain import Rain, RainRate
from .sides import NAMES as SIDES
from .sides import Prescribed, Sides, Values


class ShallowWater(Equation):
    """h_t + div(h u) = r, (h u)_t + div(h u u + g h^2/2) = -g h grad b - friction + f h (v, -u).

    State (member, 3, y, x), cell averages: depth h >= 0 in length, momenta h u along x and h v along y in
    length^2/time. b is the bottom, e = h + b the surface. gravity: g, in length/time^2. Friction is the sum of
    Manning's g n^2 |u| u / h^(1/3) (manning: n, in time/length^(1/3)), Darcy and Weisbach's f |u| u / 8
    (darcy_weisbach: f), Chezy's g |u| u / C^2 (chezy: C, in length^(1/2)/time) and k h u (linear_friction: k, in
    1/time). rain: r >= 0, in length/time, a number or a formula of x, y and t. coriolis: f, in 1/time. dry: depth below
    which a cell counts as dry, in length. boundary: see `Sides`.

    HLLC fluxes of MUSCL or WENO5 states with hydrostatic reconstruction, see array_code.py. Explicit steps keep the
    depth non-negative if the sum over the axes of (|u| + sqrt(g h)) step / spacing is at most 1/2 with "muscl", or 1/3
    with "weno5"; adaptive stepping rejects a step that makes a depth negative. Friction is solved exactly over half a
    step before and after each step. Terms that can be omitted: friction, coriolis, rain, forcing.
    """

    name: ClassVar[str] = "shallow-water"
    dimensions: ClassVar[tuple[int, ...]] = (2,)
    fields: ClassVar[tuple[Field, ...]] = (
        Field("depth", "length", "h"),
        Field("momentum_x", "length^2/time", "h u"),
        Field("momentum_y", "length^2/time", "h v"),
    )
    later: ClassVar[tuple[str, ...]] = ("darcy_weisbach", "chezy", "linear_friction", "rain", "forcing")
    terms: ClassVar[tuple[str, ...]] = ("friction", "coriolis", "rain", "forcing")
    adaptive: ClassVar[bool] = True
    split: ClassVar[tuple[str, ...]] = ("x", "y")
    forced_part: ClassVar[str] = "y"
    quantities: ClassVar[dict[str, Quantity]] = QUANTITIES
    derived: ClassVar[dict[str, Derived]] = DERIVED

    gravity: float = Option(default=9.81, gt=0)
    reconstruction: Literal["muscl", "weno5"] = "muscl"
    boundary: Sides = Sides(left="periodic", right="periodic", bottom="periodic", top="periodic")
    bathymetry: Bottom = Flat()
    manning: float = Option(default=0.0, ge=0)
    darcy_weisbach: float = Option(default=0.0, ge=0)
    chezy: float | None = Option(default=None, gt=0)
    linear_friction: float = Option(default=0.0, ge=0)
    rain: RainRate | None = None
    forcing: ForcingTable | None = None
    coriolis: float = 0.0
    dry: float = Option(default=1e-6, gt=0)

    @model_validator(mode="after")
    def _no_noise(self) -> ShallowWater:
        if self.noise is not None:
            raise ValueError("equation.noise: shallow-water has no noise term. Remedy: remove equation.noise")
        return self

    @property
    def compiles_forcing(self) -> bool:
        return False

    @property
    def kind(self) -> Literal["balance-law"]:
        return "balance-law"

    @property
    def autonomous(self) -> bool:  # type: ignore[override]
        steady = self.source is None or self.source.steady
        return steady and self.boundary.steady and self.rainfall.steady

    @property
    def fed(self) -> bool:  # type: ignore[override]
        return bool(self.boundary.prescribed) or self.rainfall.falls

    @property
    def resistance(self) -> Resistance:
        """The coefficients of friction, 0 if it is omitted."""
        if not self.has("friction"):
            return Resistance(0.0, 0.0, 0.0)
        chezy = 0.0 if self.chezy is None else self.gravity / self.chezy**2
        return Resistance(self.gravity * self.manning**2, self.darcy_weisbach / 8 + chezy, self.linear_friction)

    @property
    def rainfall(self) -> Rain:
        return Rain((self.rain or 0.0) if self.has("rain") else 0.0)

    @property
    def unforced(self) -> bool:
        """Whether there is no friction, rotation and rain."""
        return not any(self.resistance) and not self.rotation and not self.rainfall.falls and self.source is None

    @property
    def rotation(self) -> float:
        """f in 1/time, or 0 if the Coriolis force is omitted."""
        return self.coriolis if self.has("coriolis") else 0.0

    def require(self, grid: Grid) -> None:
        self.bottom(grid)
        for axis, sides in zip(("y", "x"), (("bottom", "top"), ("left", "right")), strict=True):
            count = grid.shape[axis == "x"]
            if count < 4 and any(side in self.boundary.prescribed for side in sides):
                raise ValueError(f"grid.shape: prescribed sides need 4 cells along {axis}, found {count}")

    def require_times(self, grid: Grid, times: tuple[float, ...]) -> None:
        """Raise ValueError if a formula of a side or of the rain has no admissible values at one of the times."""
        try:
            for t in times:
                self.side_values(grid, t)
                self.rainfall.means(grid, t)
        except ArithmeticError as error:
            raise ValueError(str(error)) from None

    def bottom(self, grid: Grid) -> NDArray[np.float64] | None:
        """Cell averages of b, (y, x), or None for a flat bottom."""
        return on_grid(self.bathymetry, grid)

    def side_values(self, grid: Grid, t: float) -> dict[str, Values]:
        """Discharge out of the domain, depth and level at the cells along each prescribed side, by its name."""
        return {side: given.values(side, grid, t) for side, given in self.boundary.prescribed.items()}

    def nonlinear(self, operators: Operators, u: Array, t: float) -> Array:
        scheme = self.gravity, self.rotation, self.reconstruction, self.dry, operators.xp
        spacing: tuple[float, float] = operators.grid.spacing[-2:]  # type: ignore[assignment]
        if not self.boundary.prescribed:
            rate = array_code.rate(u, self._ground(operators), self.boundary.all, spacing, *scheme)
        else:
            extension = self._extension(operators, t)
            whole = extension.extended(u)
            rate = array_code.rate(whole, extension.bottom, self.boundary.all, spacing, *scheme)
            rate = extension.correct(extension.inner(rate), whole, spacing)
        if self.rainfall.falls:
            rate = operators.xp.concat([rate[:, :1, ...] + self._rain(operators, t), rate[:, 1:, ...]], axis=1)
        if self.fed and any(self.resistance):
            part, drag = friction.share(u, self.resistance, self._shared(operators.grid), self.dry, operators.xp)
            drag = (part * drag)[:, None, ...]
            rate = operators.xp.concat([rate[:, :1, ...], rate[:, 1:, ...] - drag * u[:, 1:, ...]], axis=1)
        return self.forced(operators, rate, t)

    def split_need(self) -> str:
        need = 'equation.reconstruction = "muscl". Remedy: set it, or choose another stepper'
        return "" if self.reconstruction == "muscl" else need

    def _shared(self, grid: Grid) -> friction.Shared:
        return friction.Shared(self.gravity, grid.spacing[-2:])  # type: ignore[arg-type]

    def _ground(self, operators: Operators) -> Array | None:
        b = self.bottom(operators.grid)
        return None if b is None else operators.constant("bottom", b.copy)

    def _rain(self, operators: Operators, t: float) -> Array:
        if self.rainfall.steady:
            return operators.constant("rain", lambda: self.rainfall.means(operators.grid, 0.0))
        return operators.array(self.rainfall.means(operators.grid, float(t)))

    def _extension(self, operators: Operators, t: float, names: tuple[str, ...] = SIDES) -> sides_array_code.Extension:
        """The state with ghost cells beyond the prescribed sides among `names`."""
        grid, b, ground = operators.grid, self.bottom(operators.grid), self._ground(operators)
        sides = {name: side for name, side in self.boundary.prescribed.items() if name in names}
        whole = None
        if b is not None:
            widths = sides_array_code.padding(sides)
            whole = operators.constant(
                f"bottom beyond {', '.join(sides)}", lambda: sides_array_code.padded_bottom(b, widths, np)
            )

        def values(name: str, side: Prescribed) -> list[Array | None]:
            found = side.values(name, grid, float(t))
            if side.steady:
                return [None if v is None else operators.constant(f"{name} {i}", v.copy) for i, v in enumerate(found)]
            return [None if v is None else operators.array(v.copy()) for v in found]

        at = {name: values(name, side) for name, side in sides.items()}
        return sides_array_code.Extension(
            at, ground, whole, (self.gravity, self.reconstruction, self.dry), operators.xp
        )

    def flow(self, part: str, operators: Operators, u: Array, h: float, t: float = 0.0) -> Array:
        """From t - h/2 to t + h/2; along y with rain and the friction in the rates, half before and half after."""
        spacing: tuple[float, float] = operators.grid.spacing[-2:]  # type: ignore[assignment]
        angle, xp = 0.25 * self.rotation * h if self.rotation else 0.0, operators.xp
        u = array_code.apply_coriolis(u, angle, xp)
        rain = self._rain(operators, t) if self.rainfall.falls else None
        u = self.supplied(u, 0.5 * h, rain, operators.grid, xp, before=True) if part == "y" else u
        sides = SIDES[:2] if part == "x" else SIDES[2:]
        extension, later = (self._extension(operators, t + sign * 0.5 * h, sides) for sign in (-1, 1))
        scheme = self.boundary.all, spacing, self.gravity, self.dry, h, xp
        edges = extension.extended, later.extended, extension.inner
        u = sweep_array_code.shift(u, part, extension.bottom, *scheme, *edges)
        u = self.supplied(u, 0.5 * h, rain, operators.grid, xp, before=False) if part == "y" else u
        return array_code.apply_coriolis(u, angle, xp)

    def supplied(self, u: Array, h: float, rain: Array | None, grid: Grid, xp: Any, before: bool) -> Array:
        """The state after a time h of rain, and then of the friction in the rates, frozen; in reverse order before."""
        whole = u if rain is None else xp.concat([u[:, :1, ...] + h * rain, u[:, 1:, ...]], axis=1)
        if self.fed and any(self.resistance):
            part, drag = friction.share(u if before else whole, self.resistance, self._shared(grid), self.dry, xp)
            whole = xp.concat([whole[:, :1, ...], xp.exp(-h * part * drag)[:, None, ...] * u[:, 1:, ...]], axis=1)
        return whole

    def relax(self, operators: Operators, u: Array, h: float) -> Array:
        law = self.resistance
        if law.quadratic or law.linear or (self.fed and any(law)):
            shared = self._shared(operators.grid) if self.fed else None
            return friction.resist(u, law, self.dry, h, operators.xp, shared)
        return array_code.relax(u, law.manning, self.dry, h, operators.xp)

    def require_resolved(self, state: NDArray) -> None:
        dry_depth.require_small(self.dry, state, self.bathymetry.kind != "flat")

    def require_single(self, state: NDArray, grid: Grid) -> None:
        dry_depth.require_distinct(self.dry, state, self.bottom(grid))

    def admissible(self, state: Array) -> Array:
        return (state[:, 0, ...] >= 0).all()

    def compiled(self, grid: Grid, members: int, dtype: Precision = "float64") -> RightHandSide:
        if self.fed:
            return prescribed.PrescribedBalance(self, grid, dtype)
        return compiled.ShallowWaterBalance(
            grid,
            self.bottom(grid),
            self.boundary.all,
            self.gravity,
            self.rotation,
            self.resistance,
            self.reconstruction,
            self.dry,
            dtype,
        )

    def launched(self, operators: Operators, launch: Launcher) -> DeviceTerms:
        if self.fed or overridden(self, ShallowWater, "nonlinear", "flow", "relax"):
            return DeviceTerms()
        return LaunchedBalance(self, operators, launch).terms

    def velocities(self, state: Array) -> tuple[Array, Array]:
        """u and v, each (member, y, x), in length/time; they vanish with the depth in nearly dry cells."""
        xp = array_namespace(state)
        h = state[:, 0, ...]
        per_depth = array_code.per_depth(xp.maximum(h, xp.zeros_like(h)), self.dry, xp)
        return state[:, 1, ...] * per_depth, state[:, 2, ...] * per_depth

    def carrier_velocity(self, operators: Operators, u: Array) -> Array:
        """Of the cell averages of the momentum over those of the depth; zero on dry cells."""
        h = u[:, :1, ...]
        wet = h > self.dry
        xp = operators.xp
        velocity = xp.where(wet, u[:, 1:, ...], xp.zeros_like(u[:, 1:, ...])) / xp.where(wet, h, xp.ones_like(h))
        return operators.to_spectrum(velocity)

    def periodic_axes(self, grid: Grid) -> tuple[bool, ...]:
        return (self.boundary.bottom == "periodic", self.boundary.left == "periodic")

    def invariants(self, state: NDArray, grid: Grid) -> dict[str, NDArray]:
        """mass <h>, momenta <h u> and <h v>, energy <h |u|^2/2 + g h^2/2 + g h b> per unit area, (member,)."""
        u, v = self.velocities(state)
        h, b = state[:, 0], self.bottom(grid)
        potential = self.gravity * h * (0.5 * h if b is None else 0.5 * h + b)
        energy = 0.5 * (u * state[:, 1] + v * state[:, 2]) + potential
        means = {"mass": h, "momentum_x": state[:, 1], "momentum_y": state[:, 2], "energy": energy}
        return {name: value.mean(axis=(-2, -1)) for name, value in means.items()}

    def diagnostics(self, state: NDArray, grid: Grid) -> dict[str, NDArray]:
        """kinetic and potential energy per unit area, and the largest Froude number of the wet cells, (member,)."""
        bottom = 0.0 if (b := self.bottom(grid)) is None else b
        return measured(state, *self.velocities(state), bottom, self.gravity, self.dry)

    def gradients(self, state: NDArray, grid: Grid) -> dict[str, NDArray]:
        """Of the energy: g (h + b) - |u|^2/2, u and v."""
        u, v = self.velocities(state)
        head = self.gravity * self.surface(state, grid) - 0.5 * (u**2 + v**2)
        return {"energy": np.stack([head, u, v], axis=1)}

    def budget_terms(self) -> tuple[str, ...]:
        acts = {"friction": any(self.resistance), "rain": self.rainfall.falls, "forcing": self.source is not None}
        return tuple(term for term, present in acts.items() if present)  # the Coriolis force does no work

    def rate_of(self, term: str, operators: Operators, u: Array, t: float) -> Array:
        if term == "friction":
            return friction.rate(u, self.resistance, self._shared(operators.grid), self.dry, operators.xp)
        none = 0 * u
        if term == "rain":
            return operators.xp.concat([none[:, :1, ...] + self._rain(operators, t), none[:, 1:, ...]], axis=1)
        return self.forced(operators, none, t)

    def surface(self, state: NDArray, grid: Grid) -> NDArray:
        """The surface h + b, (member, y, x); on dry land that of the bottom."""
        b = self.bottom(grid)
        return state[:, 0] if b is None else state[:, 0] + b

    def largest_rate(self, state: NDArray, grid: Grid) -> float:
        """max over the cells of (|u| + c) / dx + (|v| + c) / dy, in 1/time, c = sqrt(g h)."""
        return float(self.array_rate(Operators(grid), state))

    def signal_speed(self, state: NDArray, grid: Grid) -> tuple[float, ...]:
        """max(|v| + c) along y, max(|u| + c) along x, c = sqrt(g h)."""
        across, along = self.array_speed(Operators(grid), state)
        return float(across), float(along)

    def array_rate(self, operators: Operators, u: Array) -> Array:
        (across, along), (dy, dx) = self._speeds(operators.xp, u), operators.grid.spacing
        return operators.xp.max(along / dx + across / dy)

    def array_speed(self, operators: Operators, u: Array) -> tuple[Array, Array]:
        across, along = self._speeds(operators.xp, u)
        return operators.xp.max(across), operators.xp.max(along)

    def _speeds(self, xp: Any, state: Array) -> tuple[Array, Array]:
        """|v| + c and |u| + c, each (member, y, x)."""
        h = state[:, 0, ...]
        c = xp.sqrt(self.gravity * xp.maximum(h, xp.zeros_like(h)))
        u, v = self.velocities(state)
        return xp.abs(v) + c, xp.abs(u) + c
