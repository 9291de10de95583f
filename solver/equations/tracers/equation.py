"""Tracers that a flow carries, one way: dx/dt = u(x, t)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, PlainSerializer
from pydantic import Field as Option

from ...backend import Precision
from ...grid import Grid
from ...random import EntityNoise
from ...spectral import Operators
from ..base import Array, Equation, Field, Kind
from ..right_hand_side import RightHandSide
from . import kernels, splines


class Carried(Protocol):
    """The velocity of the flow during a step, as spline coefficients.

    origin, spacing: of the points of the coefficients, in array order.
    """

    origin: tuple[float, float]
    spacing: tuple[float, float]

    def coefficients(self, t: float) -> Array:
        """(member, 2, y, x), the components being u and v."""


def _flow(value: Any) -> Any:
    """The equation of a table {name, parameters}."""
    if isinstance(value, Equation):
        return value
    from .. import EQUATIONS

    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        raise ValueError(f'expected a table as in {{name = "kolmogorov", viscosity = 1e-3}}, found {value!r}')
    return EQUATIONS.of(value, "name")(**{k: v for k, v in value.items() if k != "name"})


def _table(flow: Equation) -> dict[str, Any]:
    return {"name": flow.name} | flow.model_dump(mode="json", exclude_none=True)


CarrierTable = Annotated[Equation, BeforeValidator(_flow), PlainSerializer(_table)]


class Tracers(Equation):
    """dx_i/dt = u(x_i, t) + sqrt(2 diffusivity) dW_i/dt, with u of a flow that the tracers do not change.

    State (member, 2, entity): the position (x, y) in length, not reduced to the period of the flow, so that it gives
    the displacement. The flow has the grid `Grid.carrier`, one realisation for each member, and runs alongside, or was
    stored by another run. Its velocity at a position is a quintic B-spline, of sixth order (`splines`).

    carrier: the equation of the flow, on a periodic domain: one with `carrier_velocity`. carrier_stepper: its time
    stepper; carrier_substeps: its steps in half a step of the tracers; carrier_cfl: with it these are divided by
    Courant number. spin_up: the time for which the flow runs without tracers before the start. stored: the folder of a
    run of `carrier`, whose outputs are read in the place of a flow that runs alongside, with cubic interpolation
    between them.

    cluster: tracers i cluster, ..., i cluster + cluster - 1 are one cluster; the separations within clusters are
    compared. Terms that can be omitted: advection, diffusion.
    """

    name: ClassVar[str] = "tracers"
    dimensions: ClassVar[tuple[int, ...]] = (2,)
    fields: ClassVar[tuple[Field, ...]] = tuple(
        Field(axis, "length", f"{axis} of the tracer, not reduced to the period", "position") for axis in "xy"
    )
    terms: ClassVar[tuple[str, ...]] = ("advection", "diffusion")
    axis_names: ClassVar[tuple[str, ...]] = ("entity",)
    carried: ClassVar[bool] = True

    noise: None = None  # type: ignore[assignment]
    carrier: CarrierTable
    carrier_stepper: str = "etdrk4"
    carrier_substeps: int = Option(default=1, ge=1)
    carrier_cfl: float | None = Option(default=None, gt=0)
    spin_up: float = Option(default=0.0, ge=0)
    stored: Path | None = None
    diffusivity: float = Option(default=0.0, ge=0)
    cluster: int = Option(default=2, ge=2)

    @property
    def kind(self) -> Kind:
        return "particles"

    def require(self, grid: Grid) -> None:
        """The flow must fit its grid, be periodic and have a velocity; the clusters must be complete."""
        if grid.points % self.cluster:
            raise ValueError(
                f"grid.entities: {grid.points} tracers are not whole clusters of {self.cluster}. Remedy: a multiple of "
                "equation.cluster"
            )
        if grid.carrier is None:
            raise ValueError("grid.shape: missing; the flow that carries the tracers needs grid.shape and grid.length")
        if type(self.carrier).carrier_velocity is Equation.carrier_velocity:
            raise ValueError(f"equation.carrier: {self.carrier.name} has no velocity in a plane. Remedy: kolmogorov")
        if grid.carrier.dimensions != 2 or not all(self.carrier.periodic_axes(grid.carrier)):
            raise ValueError('equation.carrier: the flow must be periodic in the plane. Remedy: boundary = "periodic"')
        self.carrier.require(grid.carrier)

    def pairs(self, entities: int) -> NDArray[np.intp]:
        """The pairs i < j within each cluster, (2, pair)."""
        first = np.arange(0, entities, self.cluster)
        within = np.stack(np.triu_indices(self.cluster, 1))
        return (first[None, :, None] + within[:, None, :]).reshape(2, -1)

    def noise_law(self, grid: Grid) -> EntityNoise | None:
        if not self.diffusivity or not self.has("diffusion"):
            return None
        return EntityNoise(np.full((2, grid.points), math.sqrt(2 * self.diffusivity)))

    def nonlinear(self, operators: Operators, u: Array, t: float) -> Array:
        flow: Carried | None = operators.carrier
        if not self.has("advection"):
            return 0 * u
        if flow is None:
            raise ValueError(f"{self.name} have no flow here, which only a `Simulation` gives them")
        return splines.evaluate(flow.coefficients(t), u, flow.origin, flow.spacing, operators.xp)

    def compiled(self, grid: Grid, members: int, dtype: Precision = "float64") -> RightHandSide | None:
        return kernels.Advection(grid.points, members) if self.has("advection") else None

    def invariants(self, state: NDArray, grid: Grid) -> dict[str, NDArray]:
        """Rms separation of the pairs within clusters, in length, (member,); it is not conserved."""
        i, j = self.pairs(state.shape[-1])
        apart = ((state[..., i] - state[..., j]) ** 2).sum(axis=1)
        return {"rms_separation": np.sqrt(apart.mean(axis=-1))}

    def signal_speed(self, state: NDArray, grid: Grid) -> tuple[float, ...]:
        raise TypeError(f"{self.name} has no grid of its own. Remedy: set time.step, not time.cfl")
