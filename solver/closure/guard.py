"""Checks of what a closure returns: the pair (answer, memory), the arrays of the answer, and their values."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from ..backend import Backend
from ..equations.base import Equation
from ..grid import Grid
from ..random import SpectralNoise
from .contract import Answer, ClosureError, Correction, Coupled, Leap, Memory, Tendency

ARRAYS = {Tendency: "field", Correction: "state", Leap: "states"}


@contextmanager
def attribute_errors(coupled: Coupled, when: str) -> Iterator[None]:
    """Turn every exception of a closure, except ClosureError, into a ClosureError with its name and the line."""
    try:
        yield
    except ClosureError:
        raise
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        raise ClosureError(
            f"closure {coupled.name!r} {when} raised {type(error).__name__}: {error} "
            f"({where.filename}, line {where.lineno})"
        ) from error


def fault_of(coupled: Coupled, when: str, fault: str) -> ClosureError:
    """The error for a wrong return value: names the closure, its class and the step."""
    return ClosureError(f"closure {coupled.name!r} {when} (class {type(coupled.closure).__name__}): {fault}")


def split_pair(returned: Any) -> tuple[Any, Any]:
    """Answer and memory of what a closure returned. Raises ValueError if it is not a pair."""
    if not isinstance(returned, tuple) or len(returned) != 2:
        raise ValueError(
            f"it returned {_describe(returned)}, expected the pair (answer, memory). "
            "Remedy: return (Tendency(...), memory), or (None, memory) for no contribution"
        )
    return returned


def coerce_memory(memory: Any) -> Memory:
    """The memory as NumPy arrays, numbers included: a closure receives the same after a restart.

    Raises ValueError, with the key, for what a checkpoint cannot store.
    """
    if not isinstance(memory, dict):
        raise ValueError(f"the memory is {_describe(memory)}. Remedy: a flat dict of NumPy arrays")
    arrays = {}
    for key, value in memory.items():
        if not isinstance(key, str):
            raise ValueError(f"the memory has the key {key!r}, expected a string. Remedy: a flat dict of NumPy arrays")
        try:
            arrays[key] = np.asarray(value)
            storable = not arrays[key].dtype.hasobject
        except (TypeError, ValueError, RuntimeError):  # a ragged list, a tensor on a device
            storable = False
        if not storable:
            raise ValueError(
                f"the memory holds {_describe(value)} under {key!r}, which NumPy cannot store without pickling. "
                "Remedy: a flat dict of NumPy arrays"
            )
    return arrays


def coerce_answer(answer: Any, backend: Backend, grid: Grid, fields: int) -> tuple[Answer, str | None]:
    """The answer with its array in the backend's library, and what is wrong with its types, or None."""
    if type(answer) not in ARRAYS:
        return answer, f"the answer is {_describe(answer)}, not a Tendency, Correction, Leap or None"
    name = ARRAYS[type(answer)]
    value = getattr(answer, name)
    try:
        if isinstance(value, np.ndarray) and value.dtype.kind not in "fiu":
            raise TypeError
        array = backend.asarray(value)
        if backend.xp.isdtype(array.dtype, "complex floating"):
            raise TypeError
    except (TypeError, AttributeError, BufferError, RuntimeError):
        kind = f"array of {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__
        return answer, f"the answer is given as {kind}, expected an array of real numbers, of NumPy or by DLPack"
    fault = _noise_fault(answer.noise, grid, fields) if isinstance(answer, Tendency) else None
    return replace(answer, **{name: array}), fault


def _noise_fault(noise: Any, grid: Grid, fields: int) -> str | None:
    if noise is None:
        return None
    if not isinstance(noise, SpectralNoise):
        return f"the noise of the answer is {_describe(noise)}, not a SpectralNoise"
    if noise.grid.shape != grid.shape or noise.fields not in (None, fields):
        expected = f"{grid.spectral_shape} or {(fields, *grid.spectral_shape)}"
        return f"the noise of the answer has amplitudes of shape {noise.amplitude.shape}, expected {expected}"
    return None


def validate_answer(answer: Answer, state: Any, equation: Equation, span: float) -> str | None:
    """What is wrong with the values of an answer, or None: shape, finiteness and the equation's bounds.

    A tendency is out of bounds if it carries the state out of bounds within the time `span`.
    """
    low, high = equation.bounds()
    xp = array_namespace(state)
    shape = tuple(state.shape)
    value = getattr(answer, ARRAYS[type(answer)])
    if isinstance(answer, Leap):
        shape = (len(answer.times), *shape)
    if tuple(value.shape) != shape:
        return f"the answer has shape {tuple(value.shape)}, expected {shape}"
    finite = xp.isfinite(value)
    if not xp.all(finite):
        return f"the answer holds {int(xp.sum(xp.astype(~finite, xp.int64)))} values that are not finite"
    reached = state + span * value if isinstance(answer, Tendency) else value
    if not len(reached):
        return None
    if xp.min(reached) < low or xp.max(reached) > high:
        return f"the answer takes the state outside [{low:g}, {high:g}]"
    moments = reached if isinstance(answer, Leap) else reached[None, ...]
    if not all(equation.admissible(moments[i, ...]) for i in range(moments.shape[0])):
        return f"the answer takes the state where {equation.name} does not hold"
    return None


def _describe(value: Any) -> str:
    """The type of a value in words, with dtype and shape of an array."""
    if value is None:
        return "None"
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}"
    name = "array" if isinstance(value, np.ndarray) else type(value).__name__
    found = f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        found += f" of {value.dtype} with shape {tuple(value.shape)}"
    return found
