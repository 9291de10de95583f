"""Whether a case can run in single precision. What cannot is refused, with the quantity that is not resolved."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..equations.answers import initial_state
from ..equations.base import Equation
from ..equations.right_hand_side import linear_operator, require_compiled
from ..grid import Grid
from ..spectral import Operators, Transforms
from .starts import TRIED_POINTS
from .tables import TimeTable
from .trials import fault_of_trial

if TYPE_CHECKING:
    from .consistency import Parts

SPACING = float(np.finfo(np.float32).eps)  # of numbers of single precision, relative: 1.2e-7
LEAST_CHANGE = 100 * SPACING  # of a state in a step, and of a field in space: two digits of it remain
LEAST_STEP = 100 * SPACING  # over the largest time, where the equation depends on time
SMALLEST_STATE = 1e-15  # products of values below it leave the range of single precision
REMEDY = 'or precision = "float64"'


def require_single(equation: Equation, grid: Grid, state: NDArray, time: TimeTable) -> None:
    """Raise ValueError, with the remedy, unless a run from `state` (member, field, *grid) can be in single precision.

    Required are a compiled version in this precision, where there is a compiled one; a state within its range, whose
    fields vary by more than its spacing; what `Equation.require_single` asks for; and steps that it resolves. A step
    must be longer than the spacing of the times, if the equation depends on time, and change the state by more than the
    spacing of its values: step x rate >= 1.2e-5, with `largest_change` as the rate. Time itself is in double precision.
    """
    require_compiled(equation, "float32")
    _require_times(equation, time)
    _require_resolved(equation, state)
    equation.require_single(state, grid)
    if time.step is None:
        return
    rate = largest_change(equation, grid, state, time.start)
    if 0 < time.step * rate < LEAST_CHANGE:
        raise ValueError(
            f"precision: single precision rounds off what a step of {time.step:g} changes: times the largest rate, "
            f"{rate:.3g}, it is {time.step * rate:.2g}, expected at least {LEAST_CHANGE:.2g}. "
            f"Remedy: time.step >= {LEAST_CHANGE / rate:.2g}, {REMEDY}"
        )


def _require_times(equation: Equation, time: TimeTable) -> None:
    latest = max(abs(time.start), abs(time.end))
    if equation.autonomous or time.step is None or time.step >= LEAST_STEP * latest:
        return
    raise ValueError(
        f"precision: {equation.name} depends on time, and single precision does not resolve a step of {time.step:g} at "
        f"t = {latest:g}. Remedy: time.step >= {LEAST_STEP * latest:.2g}, an earlier time, {REMEDY}"
    )


def _require_resolved(equation: Equation, state: NDArray) -> None:
    """The range of the state and the variation of its fields; what varies by round-off alone counts as uniform."""
    largest = float(np.abs(state).max())
    if 0 < largest < SMALLEST_STATE:
        raise ValueError(
            f"precision: the largest value of the initial state is {largest:.2g}, and products of such values are "
            f"below the range of single precision. Remedy: other units, {REMEDY}"
        )
    for field, values in zip(equation.fields, np.moveaxis(state, 1, 0), strict=True):
        size, varies = float(np.abs(values).max()), float(values.max() - values.min())
        if 1e-12 * size < varies < LEAST_CHANGE * size:
            raise ValueError(
                f"precision: {field.name} varies by {varies:.2g} about {size:.3g}, where single precision resolves "
                f"{SPACING * size:.2g}. Remedy: {REMEDY.removeprefix('or ')}"
            )


def largest_change(equation: Equation, grid: Grid, state: NDArray, t: float) -> float:
    """Largest rate at the time t, in 1/time: of signals across a cell, and of the linear operator.

    Where both are zero, and for particles, the largest of max|N| / max|u|, each over the fields of one unit. 0, that
    is unknown, for entities that a flow carries, whose velocity is that of the flow.
    """
    if equation.carried:
        return 0.0
    rate = 0.0
    if equation.kind != "particles":
        rate = equation.largest_rate(state, grid)
    if equation.spectral:
        rate = max(rate, float(np.abs(linear_operator(equation, grid)).max()))
    if rate > 0:
        return rate
    operators = Operators(grid)
    u = Transforms(grid).to_spectrum(state) if equation.spectral else state
    found = np.abs(np.asarray(equation.nonlinear(operators, u, t)))
    axes = (0, *range(2, state.ndim))
    sizes, changes = np.abs(u).max(axis=axes), found.max(axis=axes)
    units = np.array([field.unit for field in equation.fields])
    pairs = [(changes[units == unit].max(), sizes[units == unit].max()) for unit in set(units)]
    return max((float(change / size) for change, size in pairs if size > 0), default=0.0)


def precision_mistakes(p: Parts) -> Iterator[str]:
    """What `require_single` finds in the initial state of the first member; larger grids are tried before a run."""
    if p.precision != "float32" or not (p.equation and p.grid and p.time and p.initial):
        return
    equation, grid, time, initial = p.equation, p.grid.grid(), p.time, p.initial

    def attempt() -> Any:
        if initial.kind == "reference" or math.prod(grid.shape) > TRIED_POINTS:
            require_compiled(equation, "float32")
            _require_times(equation, time)
        else:
            require_single(equation, grid, initial_state(initial, equation, grid, (0,), 0), time)

    try:
        with np.errstate(all="ignore"):
            attempt()
    except BaseException as error:
        yield fault_of_trial("precision", error)
