"""Answers of equations, initial states and forcings, checked where they are read: type, shape and values.

Each function raises PluginError, which names the class, the method, what it returned and what was expected.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

from ..backend import real_type
from ..grid import Grid
from .plugin_errors import PluginError, from_plugin, place

if TYPE_CHECKING:
    from .base import Equation
    from .forcing import Forcing
    from .initial_state import InitialState

Array = Any


def describe(value: Any) -> str:
    """The type of a value in words, with dtype and shape of an array."""
    if value is None:
        return "None"
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}"
    name = "array" if type(value) is np.ndarray else type(value).__name__
    found = f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        found += f" of {value.dtype} with shape {tuple(value.shape)}"
    return found


def wrong(model: object, method: str, found: Any, expected: str) -> PluginError:
    """The error for an answer of a method: names the class, what was found and what was expected."""
    return PluginError(f"{type(model).__name__}.{method}{_file(model)} returned {describe(found)}, expected {expected}")


def _file(model: object) -> str:
    """The file of a class that does not ship with subgrid, in brackets."""
    module = type(model).__module__
    file = None if module.startswith("subgrid.") else getattr(sys.modules.get(module), "__file__", None)
    return f" ({file})" if file else ""


def real_array(value: Any, shape: tuple[int, ...]) -> NDArray[np.float64] | None:
    """The value as a contiguous array in double precision; None if it is masked, not real, or of another shape."""
    if isinstance(value, np.ma.MaskedArray):
        return None
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError):  # a ragged list, a tensor on a device
        return None
    if array.dtype.kind not in "fiu" or array.shape != shape:
        return None
    return np.ascontiguousarray(array, dtype=np.float64)


def initial_state(
    initial: InitialState,
    equation: Equation,
    grid: Grid,
    members: tuple[int, ...],
    seed: int,
    folder: Path | None = None,
) -> NDArray[np.float64]:
    """`InitialState.state`, (member, field, *grid). Raises ValueError if it refuses the equation or the grid."""
    try:
        found = initial.state(equation, grid, members, seed, folder)
    except ValueError as error:
        if from_plugin(error):  # a refusal, as `state` documents, and no failure
            raise ValueError(f"{error}{place(error)}") from error
        raise
    return _state("state", initial, found, (len(members), len(equation.fields), *grid.shape))


def exact_state(
    initial: InitialState, equation: Equation, grid: Grid, t: float, members: tuple[int, ...], seed: int
) -> NDArray[np.float64] | None:
    """`InitialState.exact`, (member, field, *grid), or None where no closed form is known."""
    found = initial.exact(equation, grid, t, members, seed)
    return None if found is None else _state("exact", initial, found, (len(members), len(equation.fields), *grid.shape))


def _state(method: str, initial: InitialState, found: Any, shape: tuple[int, ...]) -> NDArray[np.float64]:
    state = real_array(found, shape)
    if state is None:
        raise wrong(initial, method, found, f"an array of real numbers with shape (member, field, *grid) = {shape}")
    return state


def forcing_field(
    forcing: Forcing, grid: Grid, compute: Callable[[], Any] | None = None, fields: int = 0
) -> NDArray[np.float64]:
    """`Forcing.field`, (*grid), or what `compute` returns, finite; with `fields` (field, *grid)."""
    found = forcing.field(grid) if compute is None else compute()
    method = "at" if "at" in vars(type(forcing)) else "field"
    field = real_array(found, grid.shape)
    if field is not None and fields == 1:
        field = field[None]
    elif fields and getattr(found, "shape", ())[:1] == (fields,):
        field = real_array(found, (fields, *grid.shape))
    elif fields > 1:
        field = None
    if field is None:
        axes = "(*grid)" if fields < 2 else "(field, *grid)"
        shape = grid.shape if fields < 2 else (fields, *grid.shape)
        raise wrong(forcing, method, found, f"an array of real numbers with shape {axes} = {shape}")
    if not np.isfinite(field).all():
        raise PluginError(f"{type(forcing).__name__}.{method} returned values that are not finite")
    return field


def invariants(equation: Equation, state: NDArray, grid: Grid) -> dict[str, NDArray[np.float64]]:
    """`Equation.invariants` of a state, in double precision whatever its type: real numbers (member,) by name."""
    found = equation.invariants(np.asarray(state, dtype=np.float64), grid)
    if not isinstance(found, Mapping) or not all(isinstance(name, str) for name in found):
        raise wrong(equation, "invariants", found, "a dict from names to arrays (member,)")
    values = {name: real_array(value, (len(state),)) for name, value in found.items()}
    for name, value in values.items():
        if value is None:
            expected = f"an array of real numbers with shape (member,) = ({len(state)},)"
            raise wrong(equation, f"invariants[{name!r}]", found[name], expected)
    return values  # type: ignore[return-value]


def signal_speed(equation: Equation, state: NDArray, grid: Grid) -> tuple[float, ...]:
    """`Equation.signal_speed`: one real number >= 0 for each axis."""
    found = equation.signal_speed(state, grid)
    speeds = real_array(found, (grid.dimensions,)) if isinstance(found, (tuple, list, np.ndarray)) else None
    if speeds is None:
        raise wrong(equation, "signal_speed", found, f"{grid.dimensions} numbers, one for each axis")
    if (speeds < 0).any():
        raise PluginError(f"{type(equation).__name__}.signal_speed returned {tuple(speeds)}, expected numbers >= 0")
    return tuple(speeds.tolist())


def bounds(equation: Equation) -> tuple[float, float]:
    """`Equation.bounds`: the lowest and the highest value of a field."""
    found = equation.bounds()
    pair = real_array(found, (2,))
    if pair is None or not pair[0] <= pair[1]:
        raise wrong(equation, "bounds", found, "(lowest, highest), two numbers in this order")
    return float(pair[0]), float(pair[1])


def admissible(equation: Equation, state: Array) -> bool:
    """`Equation.admissible`: one truth value."""
    return bool(admissibility(equation, state))


def admissibility(equation: Equation, state: Array) -> Any:
    """The same where it was computed: on a device an array without axes, which is not read."""
    found = equation.admissible(state)
    if math.prod(getattr(found, "shape", ())) != 1 or found is None or isinstance(found, str):
        raise wrong(equation, "admissible", found, "True or False")
    return found


def like(equation: Equation, method: str, found: Array, u: Array) -> Array:
    """An answer of array code that must have the shape of u, and be real if u is. Rounded to the precision of u."""
    if getattr(found, "shape", None) != u.shape or isinstance(found, np.ma.MaskedArray):
        raise wrong(equation, method, found, f"an array with the shape of u, {tuple(u.shape)}")
    if found.dtype == u.dtype:
        return found
    complex_found = "complex" in str(found.dtype)
    if complex_found and "complex" not in str(u.dtype):
        raise wrong(equation, method, found, f"real numbers, as u is of {u.dtype}")
    if real_type(u.dtype) == "float32" and real_type(found.dtype) == "float64":
        xp = array_namespace(found)
        return xp.astype(found, xp.complex64 if complex_found else xp.float32)
    return found
