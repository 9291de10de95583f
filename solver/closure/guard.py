"""The guard: what is wrong with an answer."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from array_api_compat import array_namespace

from ..backend import Backend
from ..equations.base import Equation
from .contract import Answer, Correction, Leap, Tendency

if TYPE_CHECKING:
    pass


def received(answer: Any, backend: Backend) -> tuple[Answer, str | None]:
    """The answer with its arrays as the backend's own, and what is wrong with it if it has none."""
    names = {Tendency: "field", Correction: "state", Leap: "states"}
    if type(answer) not in names:
        return answer, f"the answer is a {type(answer).__name__}, not a Tendency, Correction or Leap"
    name = names[type(answer)]
    value = getattr(answer, name)
    kind = f"array of {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__
    try:
        if isinstance(value, np.ndarray) and value.dtype.kind not in "fiu":
            raise TypeError
        array = backend.asarray(value)
        if backend.xp.isdtype(array.dtype, "complex floating"):
            raise TypeError
    except (TypeError, AttributeError, BufferError, RuntimeError):
        return answer, f"the answer is given as {kind}, expected an array of real numbers, of NumPy or by DLPack"
    return replace(answer, **{name: array}), None


def inspect(answer: Answer, state: Any, equation: Equation, span: float) -> str | None:
    """What is wrong with an answer, or None: its shape, finiteness, and the equation's bounds.

    A tendency is out of bounds if, kept for `span`, it carries the state there.
    """
    low, high = equation.bounds()
    xp = array_namespace(state)
    shape = tuple(state.shape)
    if isinstance(answer, Tendency):
        value = answer.field
    elif isinstance(answer, Correction):
        value = answer.state
    else:
        value, shape = answer.states, (len(answer.times), *shape)
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
