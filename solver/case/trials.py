"""Trials of the plug-ins of a case on its own grid, so that wrong answers are mistakes that `check` finds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..equations.answers import (
    admissible,
    bounds,
    initial_state,
    invariants,
    like,
    real_array,
    signal_speed,
    wrong,
)
from ..equations.base import Equation
from ..equations.forcing import Forcing, source_rates
from ..equations.initial_state import InitialState
from ..equations.plugin_errors import PluginError, describe_error, from_plugin, place
from ..equations.plugins import NotImported
from ..equations.right_hand_side import linear_operator
from ..grid import Grid
from ..random import EntityNoise, SpectralNoise
from ..spectral import Operators, Transforms

if TYPE_CHECKING:
    from .consistency import Parts

LARGEST_GRID = 2**18  # points up to which equations are tried


def fault_of_trial(key: str, error: BaseException) -> str:
    """The mistake for what a trial raised. An interrupt, and an error that is a defect of this package, is raised."""
    refusal = isinstance(error, (ValueError, PluginError))
    if refusal or (isinstance(error, (ArithmeticError, MemoryError)) and not from_plugin(error)):
        message = f"{error}{place(error)}" if from_plugin(error) else str(error)
        return message if message.startswith((f"{key}.", f"{key}:", "equation.")) else f"{key}: {message}"
    if isinstance(error, KeyboardInterrupt) or not from_plugin(error):
        raise error
    return f"{key}: {describe_error(error)}"


def plugin_faults(p: Parts) -> Iterator[str]:
    """Wrong answers of an equation that does not ship with subgrid and of forcings, and noise that is not finite."""
    if not (p.equation and p.grid) or math.prod(p.grid.points) > LARGEST_GRID:
        return
    equation, grid = p.equation, p.grid.grid()
    yield from _tried("equation.noise", lambda: _try_noise(equation, grid))
    for name, forcing in equation:
        if isinstance(forcing, Forcing):
            yield from _tried(f"equation.{name}", partial(_try_forcing, equation, name, forcing, grid, p))
    initial = p.initial
    if initial and initial.kind == "reference":
        initial = p.reference.initial if p.reference else None
    if _foreign(equation) and initial is not None:
        yield from _tried("equation", lambda: _try_equation(equation, grid, initial))


def _try_forcing(equation: Equation, name: str, forcing: Forcing, grid: Grid, p: Parts) -> None:
    grid = equation.source_grid(name, grid)
    times = (0.0,) if forcing.steady or not p.time else (p.time.start, 0.5 * (p.time.start + p.time.end), p.time.end)
    for t in times:
        source_rates(equation, forcing, grid, t)


def initial_times(p: Parts) -> Iterator[str]:
    """Mistakes for formulas of a time of their own, which must be the time at which a run starts from them."""
    if not p.time:
        return
    if p.equation and p.grid and len(p.grid.points) in p.equation.dimensions:
        equation, grid, times = p.equation, p.grid.grid(), (p.time.start, (p.time.start + p.time.end) / 2, p.time.end)
        yield from _tried("equation", lambda: equation.require_times(grid, times))
    starts: list[tuple[str, InitialState | None, str, float]] = [("initial", p.initial, "time.start", p.time.start)]
    if (reference := p.reference) and reference.shape is not None and reference.file is None:
        own = reference.start is not None
        start = p.time.start if reference.start is None else reference.start
        key = "initial" if reference.initial is None else "reference.initial"
        starts.append((key, reference.initial or p.initial, "reference.start" if own else "time.start", start))
    mistakes = {
        f"{key}.time: must equal {of} = {start:g}, found {initial.time:g}": None  # type: ignore[attr-defined]
        for key, initial, of, start in starts
        if initial and initial.kind == "oscillator" and not math.isclose(initial.time, start, abs_tol=1e-12)  # type: ignore[attr-defined]
    }
    yield from mistakes


def _foreign(model: object) -> bool:
    return not type(model).__module__.startswith("subgrid.")


def _tried(key: str, attempt: Callable[[], Any]) -> Iterator[str]:
    try:
        with np.errstate(all="ignore"):
            attempt()
    except NotImported:  # a command that only looks executes no file
        return
    except BaseException as error:
        yield fault_of_trial(key, error)


def _try_noise(equation: Equation, grid: Grid) -> None:
    law = equation.noise_law(grid)
    if law is None:
        return
    if not isinstance(law, EntityNoise if equation.kind == "particles" else SpectralNoise):
        raise wrong(equation, "noise_law", law, "a SpectralNoise, for entities an EntityNoise, or None")
    if isinstance(law, EntityNoise):
        if law.amplitude.shape != (expected := (len(equation.fields), *grid.shape)):
            raise wrong(equation, "noise_law", law.amplitude, f"amplitudes of shape {expected}")
    elif law.grid.shape != grid.shape or law.fields not in (None, len(equation.fields)):
        raise wrong(equation, "noise_law", law.amplitude, f"amplitudes of shape {grid.spectral_shape} or (field, ...)")
    if not (np.isfinite(law.amplitude) & (law.amplitude >= 0)).all():
        raise ValueError("the amplitudes of the noise are not finite and >= 0. Remedy: use a smaller amplitude")


def _try_equation(equation: Equation, grid: Grid, initial: InitialState) -> None:
    """Call the methods of an equation for one member of the initial state. Raises PluginError for a wrong answer."""
    state = initial_state(initial, equation, grid, (0,), 0)
    invariants(equation, state, grid)
    signal_speed(equation, state, grid)
    bounds(equation)
    admissible(equation, state)
    found: Any = equation.spectrum_density(grid)
    if real_array(found, grid.spectral_shape) is None:
        raise wrong(equation, "spectrum_density", found, f"real numbers with shape {grid.spectral_shape}")
    _try_axes(equation, grid)
    operators, u = Operators(grid), state
    if equation.spectral:
        linear_operator(equation, grid)
        u = Transforms(grid).to_spectrum(state)
    before: NDArray = u.copy()
    like(equation, "nonlinear", equation.nonlinear(operators, u, 0.0), u)
    like(equation, "relax", equation.relax(operators, u, 0.0), u)
    for part in equation.split:
        like(equation, f"flow({part!r})", equation.flow(part, operators, u, 0.0), u)
    if not np.array_equal(u, before, equal_nan=True):
        raise PluginError(f"{type(equation).__name__} changed u in place. Remedy: return new arrays")
    equation.right_hand_side(grid, 1)


def _try_axes(equation: Equation, grid: Grid) -> None:
    axes = equation.axes(grid)
    for method, found in (("axes", axes), ("periodic_axes", equation.periodic_axes(grid))):
        if not isinstance(found, (tuple, list)) or len(found) != grid.dimensions:
            raise wrong(equation, method, found, f"a tuple of {grid.dimensions}, one entry for each axis")
    coordinates = equation.coordinates(grid)
    shapes = dict(zip(axes, grid.shape, strict=True))
    if not isinstance(coordinates, dict) or coordinates.keys() != shapes.keys():
        raise wrong(equation, "coordinates", coordinates, f"a dict with the keys {list(axes)}")
    for name, n in shapes.items():
        if real_array(coordinates[name], (n,)) is None:
            raise wrong(equation, f"coordinates[{name!r}]", coordinates[name], f"{n} real numbers")
