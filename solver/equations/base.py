"""The equation contract: fields, parameters, right-hand side, invariants and signal speeds of a PDE."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, field_validator, model_serializer

from ..backend import Launcher, Precision
from ..grid import Grid
from ..random import Noise, QWiener
from ..spectral import Operators
from .answers import signal_speed, wrong
from .device_terms import DeviceTerms
from .forcing import Forcing, source_rates
from .quantities import Derived, Quantity
from .right_hand_side import ArrayRightHandSide, Forced, RightHandSide, linear_operator, require_compiled, takes_time

Array = Any
Kind = Literal["semi-linear", "balance-law", "kinetic", "particles"]
Role = Literal["value", "position", "velocity", "constant"]
AXES = ("z", "y", "x")


@dataclass(frozen=True)
class Field:
    """One field of the state: name, unit, a short description, and its role.

    role: "position" or "velocity" of an entity along one axis, in the order of the axes; "constant" for what no step
    changes, which is no field to be scaled or predicted; else "value".
    """

    name: str
    unit: str
    description: str
    role: Role = "value"


class Equation(BaseModel, ABC):
    """du/dt = L u + N(u, t) + noise, without the terms named in `omit`.

    A state is (member, field, *grid). A subclass declares its fields and terms and writes the right-hand side; its
    pydantic fields are the keys of [equation]. It contains nothing about time stepping, files or devices.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: ClassVar[str]
    dimensions: ClassVar[tuple[int, ...]]
    fields: ClassVar[tuple[Field, ...]]
    terms: ClassVar[tuple[str, ...]]
    split: ClassVar[tuple[str, ...]] = ()  # names of the parts that `flow` advances separately
    forced_part: ClassVar[str] = ""  # that of `split` in which the forcing acts, half of it before and half after
    autonomous: ClassVar[bool] = False  # whether N does not depend on t
    fed: ClassVar[bool] = False  # whether sources or sides may raise signal speeds from nothing within a step
    adaptive: ClassVar[bool] = False  # whether signal speeds may grow, so that time.cfl must adapt the steps
    axis_names: ClassVar[tuple[str, ...]] = AXES
    carried: ClassVar[bool] = False  # whether the entities are carried by a flow on `Grid.carrier`
    quantities: ClassVar[dict[str, Quantity]] = {}  # units and descriptions of `invariants` and `diagnostics`
    derived: ClassVar[dict[str, Derived]] = {}  # fields that outputs may hold beside those of the state

    later: ClassVar[tuple[str, ...]] = ()  # options that `_without_later` leaves out

    omit: tuple[str, ...] = ()
    noise: QWiener | None = None

    @field_validator("omit")
    @classmethod
    def _omitted_terms_exist(cls, omit: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [t for t in omit if t not in cls.terms]
        if unknown:
            raise ValueError(f"omit names {unknown}, which {cls.name} does not have; expected any of {list(cls.terms)}")
        return omit

    @model_serializer(mode="wrap")
    def _without_later(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out options of later versions at their defaults: weights and caches of earlier ones still fit."""
        fields = type(self).model_fields
        kept = whole(self).items()
        return {k: v for k, v in kept if k not in self.later or getattr(self, k) != fields[k].default}

    def has(self, term: str) -> bool:
        """True if the model contains the term."""
        return term not in self.omit

    def complete(self) -> Equation:
        """The same equation with no term omitted."""
        return self.model_copy(update={"omit": ()})

    @classmethod
    def having(cls, role: Role) -> list[int]:
        """Indices of the fields with a role, in order."""
        return [i for i, field in enumerate(cls.fields) if field.role == role]

    def pairs(self, entities: int) -> NDArray[np.intp]:
        """The pairs of entities whose separations are compared, (2, pair): by default all pairs i < j."""
        return np.stack(np.triu_indices(entities, 1))

    @abstractmethod
    def invariants(self, state: NDArray, grid: Grid) -> dict[str, NDArray]:
        """Global quantities of the state (member, field, *grid), conserved or not; each is an array (member,)."""

    def diagnostics(self, state: NDArray, grid: Grid) -> dict[str, NDArray]:
        """Further scalars of the state (member, field, *grid), each (member,); runs store them with the invariants."""
        return {}

    def sums(self, grid: Grid) -> dict[str, NDArray]:
        """Further scalars of a Fourier method that are sums over modes of density |u_hat|^2: their densities.

        They are stored as those of `diagnostics` are, and cost less.
        """
        return {}

    def densities(self, grid: Grid) -> dict[str, NDArray]:
        """The quadratic invariants whose budget a run keeps: Q = sum over modes of density |u_hat|^2.

        Each density is broadcastable to (*spectral_shape); none by default.
        """
        return {}

    def gradients(self, state: NDArray, grid: Grid) -> dict[str, NDArray]:
        """dQ/du of each quantity with a budget, (member, field, *grid): a tendency T changes Q by <dQ/du . T> per time.

        <.> is the mean over the grid, summed over the fields. By default those of `densities`.
        """
        operators = Operators(grid)
        found = self.densities(grid)
        u = operators.to_spectrum(state) if found else state
        return {name: operators.to_physical(2 * density * u) for name, density in found.items()}

    def budget_terms(self) -> tuple[str, ...]:
        """The terms of the model whose contributions to the budget a run stores; noise is stored in any case.

        By default all, without the advection of a Fourier method, which conserves the invariants to round-off.
        """
        left_out = {"noise", "advection"} if self.spectral else {"noise"}
        return tuple(term for term in self.terms if self.has(term) and term not in left_out)

    def alone(self, term: str) -> Equation:
        """The same equation with one term, and what is no term."""
        return self.model_copy(update={"omit": tuple(t for t in self.terms if t != term)})

    def rate_of(self, term: str, operators: Operators, u: Array, t: float) -> Array:
        """N of one term, as `nonlinear` gives it; an equation with parts of N that are no terms overrides it."""
        return self.alone(term).nonlinear(operators, u, t)

    @abstractmethod
    def signal_speed(self, state: NDArray, grid: Grid) -> tuple[float, ...]:
        """Largest signal speed along each axis in array order, in length/time."""

    def spectrum_density(self, grid: Grid) -> NDArray:
        """Energy per squared Fourier coefficient, (*spectral_shape): 1/2 unless the equation says otherwise."""
        return np.full(grid.spectral_shape, 0.5)

    def bounds(self) -> tuple[float, float]:
        """(lowest, highest) value of a field; the guard rejects a closure's answer that leads outside."""
        return (-1e12, 1e12)

    def noise_law(self, grid: Grid) -> Noise | None:
        """The law of the equation's own noise, or None if it has none or omits it.

        An amplitude without a field axis holds for every field; the fields draw independent numbers.
        """
        return self.noise.law(grid) if self.noise and self.has("noise") else None

    @property
    def compiles_forcing(self) -> bool:
        """Whether the compiled version contains the forcing; else it is added to its rates."""
        return True

    @property
    def kind(self) -> Kind:
        """Type of the equation: it determines which steppers fit and what the values of a state represent.

        "semi-linear": du/dt = L u + N(u), L diagonal in Fourier space; values at grid points. "balance-law": cell
        averages. "kinetic": values at the cell centres of phase space. "particles": values of each entity.
        """
        return "semi-linear"

    def require(self, grid: Grid) -> None:
        """Raise ValueError, with key and remedy, if the equation's parameters do not fit the grid."""

    def require_times(self, grid: Grid, times: tuple[float, ...]) -> None:
        """Raise ValueError, with key and remedy, if what depends on time has no values at one of the times."""

    @property
    def spectral(self) -> bool:
        """True if the state is stepped as Fourier coefficients."""
        return self.kind == "semi-linear"

    def periodic_axes(self, grid: Grid) -> tuple[bool, ...]:
        """Whether the domain is periodic along each axis, in array order."""
        return (True,) * grid.dimensions

    def axes(self, grid: Grid) -> tuple[str, ...]:
        """Names of the axes, in array order."""
        return self.axis_names[-grid.dimensions :]

    def coordinates(self, grid: Grid) -> dict[str, NDArray]:
        """Coordinates of each axis: points of a Fourier grid, cell centres, or indices of entities."""
        if self.kind == "particles":
            return dict(zip(self.axes(grid), (np.arange(n) for n in grid.shape), strict=True))
        return dict(zip(self.axes(grid), grid.coordinates(centres=not self.spectral), strict=True))

    def linear(self, operators: Operators) -> Array:
        """L_k in 1/time, broadcastable to (field, *spectral_shape); without a field axis it holds for every field.

        Terms that couple fields belong to `nonlinear`. Raises TypeError if the equation is not semi-linear.
        """
        raise TypeError(f"{self.name} is {self.kind} here and has no linear operator in Fourier space")

    @abstractmethod
    def nonlinear(self, operators: Operators, u: Array, t: float) -> Array:
        """N(u, t) as array code in the namespace operators.xp, for u (member, field, *).

        Semi-linear: u and N are Fourier coefficients (..., *spectral_shape), and N is dealiased by the 2/3 rule.
        Otherwise they are states (..., *grid), and N is the whole right-hand side.
        """

    def carrier_velocity(self, operators: Operators, u: Array) -> Array:
        """Fourier coefficients of the velocity (u, v), (member, 2, *spectral_shape), as array code, for tracers.

        u: the state in the stepper's representation. Raises TypeError if the equation has no velocity in a plane.
        """
        raise TypeError(f"{self.name} has no velocity that could carry tracers")

    def split_need(self) -> str:
        """What split steppers need that these parameters do not fulfil, with the remedy; "" if nothing."""
        unforced = self.source is None or self.forced_part in self.split
        return "" if unforced else "an equation without forcing. Remedy: another time.stepper"

    def courant_need(self) -> str:
        """What steps by Courant number need that these parameters do not fulfil, with the remedy; "" if nothing."""
        return ""

    @property
    def source(self) -> Forcing | None:
        """The forcing, an option `forcing` of the equation, unless it is omitted."""
        return getattr(self, "forcing", None) if self.has("forcing") else None

    def source_grid(self, name: str, grid: Grid) -> Grid:
        """The grid of the forcing that is the option `name`; that of the state unless the equation says otherwise."""
        return grid

    def forced(self, operators: Operators, rate: Array, t: float) -> Array:
        """The rate, as array code in the stepper's representation, with the forcing at the time t."""
        if (source := self.source) is None:
            return rate
        grid = operators.grid
        if source.steady:
            return rate + operators.constant("source", lambda: source_rates(self, source, grid, 0.0))
        return rate + operators.array(source_rates(self, source, grid, float(t)))

    def flow(self, part: str, operators: Operators, u: Array, h: float) -> Array:
        """u after a time h under one part of `split` alone, as array code. Raises TypeError if there are no parts.

        A part that depends on time has the further argument t, the middle of the time that it covers.
        """
        raise TypeError(f"{self.name} has no parts for split steppers. Remedy: another time.stepper")

    def forced_flow(self, part: str, operators: Operators, u: Array, h: float, t: float) -> Array:
        """`flow` with what depends on time at t, and with the forcing: in `forced_part`, half before and half after."""
        time = {"t": t} if takes_time(self.flow) else {}
        if self.source is None or part != self.forced_part:
            return self.flow(part, operators, u, h, **time)
        half = 0.5 * h * self.forced(operators, 0 * u, t)
        return self.flow(part, operators, u + half, h, **time) + half

    def relax(self, operators: Operators, u: Array, h: float) -> Array:
        """u after a time h under the stiff local sources alone, by their exact solution; u itself if there are none."""
        return u

    def require_resolved(self, state: NDArray) -> None:
        """Raise ValueError, with key and remedy, if the equation's parameters do not fit the initial state."""

    def require_single(self, state: NDArray, grid: Grid) -> None:
        """Raise ValueError, with remedy, if a run from this state needs more than single precision."""

    def admissible(self, state: Array) -> bool | Array:
        """True if a finite state, an array of any namespace, is in the domain of the equation, e.g. depth >= 0.

        Of an array one truth value without axes, which array code need not read from a device.
        """
        return True

    def compiled(self, grid: Grid, members: int, dtype: Precision = "float64") -> RightHandSide | None:
        """The right-hand side of a batch (member * field, row, column), with Numba and planned transforms, or None.

        dtype: "float64" or "float32", the type of a real state; Fourier coefficients are "complex128" or "complex64". A
        class whose method has no such argument has its compiled version in double precision only.
        """
        return None

    def launched(self, operators: Operators, launch: Launcher) -> DeviceTerms:
        """What CUDA kernels compute on the device of `operators` in place of array code; by default nothing."""
        return DeviceTerms()

    def right_hand_side(
        self, grid: Grid, members: int, compiled: bool = True, dtype: Precision = "float64"
    ) -> RightHandSide:
        """N and L for a batch (member * field, row, column): the compiled version if there is one, else array code.

        L is in double precision in any case. Raises ValueError for a compiled version in double precision only.
        """
        rhs = None
        if compiled:
            require_compiled(self, dtype)
            rhs = self.compiled(grid, members) if dtype == "float64" else self.compiled(grid, members, dtype)
        if rhs is None:
            rhs = ArrayRightHandSide(self, grid, dtype)
        elif self.source is not None and not self.compiles_forcing:
            rhs = Forced(rhs, self, self.source, grid)
        if not callable(rhs) or not (hasattr(rhs, "rows") and hasattr(rhs, "columns")):
            raise wrong(self, "compiled", rhs, "a callable with the attributes linear, rows and columns")
        if self.spectral:
            linear = linear_operator(self, grid)
            rhs.linear = linear.reshape(len(linear), -1, grid.spectral_shape[-1])
            return rhs
        for name in ("rate", "admissible"):
            if not hasattr(rhs, name):
                setattr(rhs, name, getattr(ArrayRightHandSide(self, grid, dtype), name))
        return rhs

    def array_speed(self, operators: Operators, u: Array) -> tuple[Array | float, ...]:
        """`signal_speed` as array code, of numbers or arrays without axes.

        An equation that overrides it takes steps by Courant number without waiting for a device; else the state is
        copied to the host before each.
        """
        return self.signal_speed(np.asarray(u), operators.grid)

    def array_rate(self, operators: Operators, u: Array) -> Array | float:
        """`largest_rate` as array code, from `array_speed`."""
        return sum(s / h for s, h in zip(self.array_speed(operators, u), operators.grid.spacing, strict=True))

    def largest_rate(self, state: NDArray, grid: Grid) -> float:
        """Sum over the axes of signal speed / spacing, in 1/time; a Courant number cfl gives the step cfl / this."""
        return float(sum(s / h for s, h in zip(signal_speed(self, state, grid), grid.spacing, strict=True)))
