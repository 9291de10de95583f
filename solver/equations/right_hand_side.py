"""Right-hand sides of a batch of members, as the compiled steppers call them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..backend import Backend, Precision
from ..grid import Grid
from ..spectral import Operators
from .answers import admissible, like, wrong
from .forcing import Forcing, source_rates

if TYPE_CHECKING:
    from .base import Equation


Combination = tuple[NDArray, NDArray, NDArray, NDArray, float, NDArray, bool]


class RightHandSide(Protocol):
    """du/dt = L u + N(u, t) for one batch (member * field, row, column).

    linear: L of shape (1 or field, row, column), or None. rows, columns: the region where N may differ from zero, in a
    row r with rows[r] set and a column below `columns`. `__call__` writes N(u, t) into that region of `out`; elsewhere
    `out` is zero.

    Optional methods, all in place:
    - flow(part, u, h, t): the exact flow of one part, for split schemes; t, the time of what depends on it, may be
      left out of the arguments.
    - relax(u, h): the exact flow of stiff local sources, applied for h/2 before and after every step.
    - rate(u): the largest sum of signal speed / spacing, for steps by Courant number; for split schemes sweep_rate(u),
      the largest signal speed / spacing along one axis.
    - admissible(u): whether the state is physically valid, for steps by Courant number.
    - stage(u, t, out, base, a, c, h, frozen): out = a base + c (u + h (N + frozen)) in one pass over memory, for
      Runge-Kutta schemes in the form of Shu and Osher. `out` may be `base`.
    - by_columns(state, index, combination, known, more), or None: N(state) of one member into rates[index], and
      combination, (out, u, rates, weights, total, frozen, use_frozen): out = u + sum_s weights_s rates_s
      + total frozen. known: `state` is the `out` of the last call; more: `out` is the state of the next one. Explicit
      steppers use it where several threads are allowed, for it is divided over them by columns.

    Methods may divide their work over threads by `backend.share`; a class that does sets divided = True. The results
    must not depend on the number of threads.
    """

    linear: NDArray | None
    rows: NDArray[np.bool_]
    columns: int

    def __call__(self, u: NDArray, t: float, out: NDArray) -> None: ...


def takes_time(flow: Callable[..., Any]) -> bool:
    """Whether a method `flow` has the argument t; that of an equation which does not depend on time needs none."""
    return "t" in inspect.signature(flow).parameters


def require_compiled(equation: Equation, dtype: Precision) -> None:
    """Raise ValueError, with remedy, if the compiled version is in double precision only and dtype is not."""
    if dtype != "float64" and "dtype" not in inspect.signature(equation.compiled).parameters:
        raise ValueError(
            f"precision: {type(equation).__name__}.compiled is in double precision only. Remedy: give it the argument "
            'dtype, or set precision = "float64"'
        )


def linear_operator(equation: Equation, grid: Grid) -> NDArray:
    """L in NumPy, (1 or field, *spectral_shape): a field axis of length 1 where all fields share the operator.

    Raises ValueError if `equation.linear` cannot be broadcast to (field, *spectral_shape), PluginError if it is not
    finite.
    """
    linear = np.asarray(equation.linear(Operators(grid)))
    if linear.dtype.kind not in "fiuc" or not np.isfinite(linear).all():
        raise wrong(equation, "linear", linear, "finite numbers")
    fields = linear.shape[0] if linear.ndim > grid.dimensions else 1
    try:
        if fields not in (1, len(equation.fields)):
            raise ValueError
        return np.broadcast_to(linear, (fields, *grid.spectral_shape))
    except ValueError:
        expected = (len(equation.fields), *grid.spectral_shape)
        raise ValueError(
            f"the linear operator of {equation.name} has shape {linear.shape}; expected a shape that broadcasts to "
            f"(field, *spectral_shape) = {expected}"
        ) from None


class ArrayRightHandSide:
    """The equation's array code on NumPy batches (member * field, row, column), where no compiled version exists."""

    def __init__(self, equation: Equation, grid: Grid, dtype: Precision = "float64") -> None:
        self.linear: NDArray | None = None
        self._equation, self._operators = equation, Operators(grid, backend=Backend(precision=dtype))
        self._shape = (len(equation.fields), *(grid.spectral_shape if equation.spectral else grid.shape))
        self.columns = self._shape[-1]
        self.rows = np.ones(grid.points // grid.shape[-1], dtype=bool)

    def __call__(self, u: NDArray, t: float, out: NDArray) -> None:
        state = self._state(u)
        rate = like(self._equation, "nonlinear", self._equation.nonlinear(self._operators, state, t), state)
        out[...] = rate.reshape(out.shape)

    def _state(self, u: NDArray) -> NDArray:
        return u.reshape(-1, *self._shape)

    def rate(self, u: NDArray) -> float:
        return self._equation.largest_rate(self._state(u), self._operators.grid)

    def admissible(self, u: NDArray) -> bool:
        return admissible(self._equation, self._state(u))

    def relax(self, u: NDArray, h: float) -> None:
        state = self._state(u)
        u[...] = like(self._equation, "relax", self._equation.relax(self._operators, state, h), state).reshape(u.shape)

    def flow(self, part: str, u: NDArray, h: float, t: float = 0.0) -> None:
        state = self._state(u)
        flown = like(self._equation, "flow", self._equation.forced_flow(part, self._operators, state, h, t), state)
        u[...] = flown.reshape(u.shape)


class Forced:
    """A compiled right-hand side with a forcing beside it; without its methods that fuse rates with other work.

    fed: a forcing may raise signal speeds from nothing within a step, see `compiled.advance_adaptively`.
    """

    fed = True

    def __init__(self, rhs: RightHandSide, equation: Equation, forcing: Forcing, grid: Grid) -> None:
        self._rhs, self._equation, self._forcing, self._grid = rhs, equation, forcing, grid
        self.linear: NDArray | None = None
        shape = grid.spectral_shape if equation.spectral else grid.shape
        self.rows, self.columns = np.ones(grid.points // grid.shape[-1], dtype=bool), shape[-1]
        self._steady = self._rates(0.0) if forcing.steady else None

    def __call__(self, u: NDArray, t: float, out: NDArray) -> None:
        out[...] = 0.0  # the region of the other is smaller
        self._rhs(u, t, out)
        rates = self._rates(t) if self._steady is None else self._steady
        batch = out.reshape(-1, *rates.shape)
        batch += rates.astype(out.dtype, copy=False)

    def flow(self, part: str, u: NDArray, h: float, t: float = 0.0) -> None:
        """As `Equation.forced_flow`."""
        acts = part == self._equation.forced_part
        half = 0.5 * h * (self._rates(t) if self._steady is None else self._steady) if acts else np.zeros(())
        half = half.astype(u.dtype, copy=False)
        batch = u.reshape(-1, *half.shape) if acts else u
        batch += half
        self._rhs.flow(part, u, h, *((t,) if takes_time(self._rhs.flow) else ()))  # type: ignore[attr-defined]
        batch += half

    def __getattr__(self, name: str) -> Any:
        if name in ("stage", "by_columns") or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._rhs, name)

    def _rates(self, t: float) -> NDArray:
        found = source_rates(self._equation, self._forcing, self._grid, t)
        return found.reshape(len(found), -1, found.shape[-1])


class NoNonlinearTerm:
    """N = 0 in one dimension: L is the whole right-hand side."""

    def __init__(self) -> None:
        self.linear: NDArray | None = None
        self.rows, self.columns = np.zeros(1, dtype=bool), 0

    def __call__(self, u: NDArray, t: float, out: NDArray) -> None:
        out[...] = 0.0
