"""Checks of what a closure returns: the pair (answer, memory), everything that the answer holds, and its values.

A fault is described in words; the policy of the guard decides what happens to the answer. Types, shapes and times are
checked under every policy, as the solver needs them to use an answer at all; values under "stop" and "skip".
"""

from __future__ import annotations

import numbers
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

from ..backend import Backend
from ..equations.answers import admissibility, describe
from ..equations.base import Equation
from ..equations.plugin_errors import PluginError, describe_error
from ..grid import Grid
from ..random import EntityNoise, Noise, SpectralNoise
from .contract import HOLDS, Answer, ClosureError, Correction, Coupled, Leap, Memory, Tendency

ARRAYS = {Tendency: "field", Correction: "state", Leap: "states"}
WANTED = "expected an array of real numbers, of NumPy or by DLPack"


class attribute_errors:
    """Turn every exception of a closure into a ClosureError with its name and the line.

    Also SystemExit, GeneratorExit and StopIteration. PluginError (with ClosureError) and KeyboardInterrupt pass.
    """

    def __init__(self, coupled: Coupled, when: str) -> None:
        self._name, self._when = coupled.name, when

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is not None and not isinstance(error, (KeyboardInterrupt, PluginError)):
            raise ClosureError(f"closure {self._name!r} {self._when} raised {describe_error(error)}") from error


def fault_of(coupled: Coupled, when: str, fault: str) -> ClosureError:
    """The error for a wrong return value: names the closure, its class and the step."""
    return ClosureError(f"closure {coupled.name!r} {when} (class {type(coupled.closure).__name__}): {fault}")


def split_pair(returned: Any) -> tuple[Any, Any]:
    """Answer and memory of what a closure returned. Raises ValueError if it is not a pair."""
    if not isinstance(returned, tuple) or len(returned) != 2:
        raise ValueError(
            f"it returned {describe(returned)}, expected the pair (answer, memory). "
            "Remedy: return (Tendency(...), memory), or (None, memory) for no contribution"
        )
    return returned


def coerce_memory(memory: Any) -> Memory:
    """The memory as NumPy arrays, numbers included: a closure receives the same after a restart.

    Raises ValueError, with the key, for what a checkpoint cannot store.
    """
    if not isinstance(memory, dict):
        raise ValueError(f"the memory is {describe(memory)}. Remedy: a flat dict of NumPy arrays")
    arrays = {}
    for key, value in memory.items():
        if not isinstance(key, str):
            raise ValueError(f"the memory has the key {key!r}, expected a string. Remedy: a flat dict of NumPy arrays")
        try:
            arrays[key] = np.asarray(value)
            storable = not arrays[key].dtype.hasobject and not isinstance(value, np.ma.MaskedArray)
        except (TypeError, ValueError, RuntimeError):  # a ragged list, a tensor on a device
            storable = False
        if not storable:
            raise ValueError(
                f"the memory holds {describe(value)} under {key!r}, which NumPy cannot store without pickling or loss. "
                "Remedy: a flat dict of NumPy arrays"
            )
    return arrays


@dataclass(frozen=True)
class Calling:
    """What a run expects of an answer.

    shape: that of the state, (member, field, *grid). step_number, start, step: of the call. output_every: steps between
    the outputs that a leap must contain, or 0. steps: number of steps of the run.
    """

    backend: Backend
    grid: Grid
    shape: tuple[int, ...]
    step_number: int
    start: float
    step: float
    steps: int
    output_every: int
    particles: bool = False


def coerce_answer(answer: Any, calling: Calling) -> tuple[Answer, str | None]:
    """The answer with its arrays in the backend's library, and what makes it unusable, or None."""
    if type(answer) not in ARRAYS:
        return answer, f"the answer is {describe(answer)}, not a Tendency, Correction, Leap or None"
    name = ARRAYS[type(answer)]
    array = _real(getattr(answer, name), calling.backend)
    if array is None:
        return answer, f"{name} of the answer is {describe(getattr(answer, name))}, {WANTED}"
    found: Answer = replace(answer, **{name: array})
    shape = calling.shape
    if isinstance(found, Leap):
        found, fault = _leap(found)
        if fault is not None:
            return answer, fault
        shape = (len(found.times), *shape)
    if tuple(array.shape) != shape:
        return answer, f"{name} of the answer has shape {tuple(array.shape)}, expected {shape}"
    if isinstance(found, Leap):
        return found, _wrong_times(found.times, calling) if len(found.times) else None
    if isinstance(found, Tendency):
        if not (isinstance(found.hold, str) and found.hold in HOLDS):
            return answer, f"hold of the answer is {found.hold!r}, expected {' or '.join(map(repr, HOLDS))}"
        return found, unusable_noise(found.noise, calling.grid, shape[1], calling.particles)
    return found, None


def _real(value: Any, backend: Backend) -> Any:
    """The value as an array of real numbers of the backend; None if it is something else."""
    if isinstance(value, np.ndarray):
        if isinstance(value, np.ma.MaskedArray) or value.dtype.kind not in "fiu":
            return None
        value = backend.on_host(value)
        if backend.name != "numpy":  # torch has neither negative strides nor foreign byte orders
            value = np.ascontiguousarray(value)
    try:
        array = backend.asarray(value)
        real = backend.xp.isdtype(array.dtype, ("real floating", "integral"))
    except (TypeError, ValueError, AttributeError, BufferError, RuntimeError):
        return None
    return array if real else None


def _leap(leap: Leap) -> tuple[Leap, str | None]:
    """The leap with its times as a NumPy array, and what is wrong with the types of its times and of `declined`."""
    times = leap.times
    if not isinstance(times, np.ndarray):
        try:
            times = np.asarray(times)
        except (TypeError, ValueError, RuntimeError):  # a ragged list, a tensor on a device
            times = np.array(None)
    numbers_only = times.dtype.kind in "fiu" and not isinstance(times, np.ma.MaskedArray)
    if not numbers_only or times.ndim != 1:
        return leap, f"times of the answer is {describe(leap.times)}, expected an array of real numbers, one per state"
    if isinstance(leap.declined, bool) or not isinstance(leap.declined, numbers.Integral) or leap.declined < 0:
        return leap, f"declined of the answer is {leap.declined!r}, expected a number of steps, an integer >= 0"
    return replace(leap, times=times.astype(np.float64), declined=int(leap.declined)), None


def _wrong_times(times: NDArray[np.float64], calling: Calling) -> str | None:
    """Why the times of a leap are not increasing times of steps, or which output they pass; None if they are right."""
    n, h = calling.step_number, calling.step
    if not np.isfinite(times).all():
        return f"times of the answer hold {int((~np.isfinite(times)).sum())} values that are not finite"
    counts = np.rint((times - calling.start) / h)
    exact = np.allclose(calling.start + counts * h, times, rtol=0, atol=1e-6 * h)
    if not exact or not (np.diff(np.concatenate([[n], counts])) > 0).all() or counts[0] > calling.steps:
        return (
            f"the answer has times {times[:4]}..., which are not increasing times of steps, start + n * {h:g}, up to "
            "the end"
        )
    reached = counts[counts <= calling.steps]
    if calling.output_every:
        first = (n // calling.output_every + 1) * calling.output_every
        passed = set(range(first, int(reached[-1]), calling.output_every)) - {int(c) for c in reached}
        if passed:
            return (
                f"the answer passes the output at step {min(passed)} without a state for it, expected one for every "
                f"{calling.output_every} steps"
            )
    return None


def unusable_noise(noise: Any, grid: Grid, fields: int, particles: bool = False) -> str | None:
    if noise is None:
        return None
    wanted = EntityNoise if particles else SpectralNoise
    if type(noise) is not wanted:
        article = "an" if particles else "a"
        return f"noise of the answer is {describe(noise)}, not {article} {wanted.__name__}"
    if isinstance(noise, EntityNoise):
        if noise.amplitude.shape == (fields, *grid.shape):
            return None
        found = noise.amplitude.shape
        return f"noise of the answer has amplitudes of shape {found}, expected {(fields, *grid.shape)}"
    if noise.grid.shape != grid.shape or noise.fields not in (None, fields):
        expected = f"{grid.spectral_shape} or {(fields, *grid.spectral_shape)}"
        return f"noise of the answer has amplitudes of shape {noise.amplitude.shape}, expected {expected}"
    return None


def wrong_amplitudes(noise: Noise | None) -> str | None:
    """How many amplitudes of noise are negative or not finite, in words; None if none is."""
    found = np.zeros(1) if noise is None else noise.amplitude
    count = int((~(np.isfinite(found) & (found >= 0))).sum())
    return f"noise of the answer holds {count} amplitudes that are not finite or negative" if count else None


def _all_finite(value: Any, xp: Any) -> bool:
    """Whether all values are finite: nan and infinities are among the sum of the values of a float array, too.

    The sum may overflow though all values are finite, and then each value is looked at.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(xp.isfinite(xp.sum(value))) or bool(xp.all(xp.isfinite(value)))


def validate_answer(answer: Answer, state: Any, equation: Equation, span: float) -> str | None:
    """What is wrong with the values of an answer, or None: finiteness, and the equation's bounds.

    A tendency is out of bounds if it carries the state out of bounds within the time `span`.
    """
    low, high = equation.bounds()
    xp = array_namespace(state)
    value = getattr(answer, ARRAYS[type(answer)])
    reached = value
    if isinstance(answer, Tendency):
        reached = span * value
        in_place = isinstance(reached, np.ndarray) and reached.dtype == state.dtype
        reached = np.add(state, reached, out=reached) if in_place else state + reached
    moments = reached if isinstance(answer, Leap) else reached[None, ...]
    if not isinstance(value, np.ndarray) and len(reached) and not wrong_amplitudes(getattr(answer, "noise", None)):
        # in one number, because each that is read from a device waits for the device
        good = xp.all(xp.isfinite(value)) & (xp.min(reached) >= low) & (xp.max(reached) <= high)
        for i in range(moments.shape[0]):
            good = good & admissibility(equation, moments[i, ...])
        if bool(good):
            return None
    if not _all_finite(value, xp):
        finite = xp.isfinite(value)
        return f"the answer holds {int(xp.sum(xp.astype(~finite, xp.int64)))} values that are not finite"
    if isinstance(answer, Tendency) and (fault := wrong_amplitudes(answer.noise)):
        return fault
    if not len(reached):
        return None
    if xp.min(reached) < low or xp.max(reached) > high:
        return f"the answer takes the state outside [{low:g}, {high:g}]"
    if not all(equation.admissible(moments[i, ...]) for i in range(moments.shape[0])):
        return f"the answer takes the state where {equation.name} does not hold"
    return None
