"""Linear parts of closures: eigenvalues that join the linear operator L of a semi-linear equation.

du_hat/dt = (L + sum_i weight_i L_i) u_hat + N(u). The sum is formed once, when a simulation is built.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..closure.contract import Coupled, Linear, Problem
from ..closure.guard import attribute_errors, fault_of, unusable_noise, wrong_amplitudes
from ..grid import Grid
from ..time_stepping.schemes import STEPPERS, Scheme, Split, fits

START = "at its start"


def checked_part(coupled: Coupled, problem: Problem, scheme: Scheme) -> Linear | None:
    """What `Closure.linear_part` returns, with eigenvalues (1 or field, *spectral_shape); None for no linear part.

    Raises ClosureError for an equation without a linear operator, a stepper that does not use it, and eigenvalues or
    noise that are not those of a real operator on the grid.
    """
    with attribute_errors(coupled, START):
        part = coupled.closure.linear_part(problem)
    if part is None:
        return None
    equation, grid = problem.equation, problem.grid
    if not isinstance(part, Linear):
        raise fault_of(
            coupled, START, f"its linear part is a {type(part).__name__}. Remedy: return Linear(...) or None"
        )
    if not equation.spectral:
        raise fault_of(
            coupled,
            START,
            f"its linear part needs a semi-linear equation on a Fourier grid; {equation.name} is {equation.kind} here. "
            "Remedy: another closure, or its tendency if it has the option linear = false",
        )
    if isinstance(scheme, Split):
        known = [
            name
            for name, found in STEPPERS.available()
            if not isinstance(found, Split) and fits(found, equation.kind, equation.split)
        ]
        raise fault_of(
            coupled,
            START,
            f"its linear part needs a stepper with a linear operator; {scheme.name} composes flows of parts. "
            f"Remedy: time.stepper = {', '.join(known)}, or another closure",
        )
    with attribute_errors(coupled, START):
        eigenvalues, fault = _checked(part.eigenvalues, grid, len(equation.fields))
        if fault is None:
            fault = unusable_noise(part.noise, grid, len(equation.fields)) or wrong_amplitudes(part.noise)
    if fault is not None:
        raise fault_of(coupled, START, fault)
    return Linear(eigenvalues, part.noise, part.calls)


def joined(closures: Sequence[Coupled], parts: Sequence[Linear | None]) -> NDArray | None:
    """sum_i weight_i L_i, (1 or field, *spectral_shape); None without linear parts."""
    terms = [c.weight * part.eigenvalues for c, part in zip(closures, parts, strict=True) if part is not None]
    return sum(terms[1:], terms[0]) if terms else None


def _checked(values: object, grid: Grid, fields: int) -> tuple[NDArray, str | None]:
    """The eigenvalues as (1 or field, *spectral_shape), and what is wrong with them, or None."""
    found = np.asarray(values)
    expected = (fields, *grid.spectral_shape)
    if found.dtype.kind not in "fiuc" or isinstance(values, np.ma.MaskedArray):
        return found, f"the eigenvalues of its linear part have the type {found.dtype}, expected an array of numbers"
    count = found.shape[0] if found.ndim > grid.dimensions else 1
    try:
        if count not in (1, fields):
            raise ValueError
        found = np.broadcast_to(found, (count, *grid.spectral_shape))
    except ValueError:
        return found, (
            f"the eigenvalues of its linear part have shape {found.shape}, expected one that broadcasts to "
            f"(field, *spectral_shape) = {expected}"
        )
    if not np.isfinite(found).all():
        return found, f"{int((~np.isfinite(found)).sum())} eigenvalues of its linear part are not finite"
    # Of the modes with k = 0 along the last axis, both k and -k are stored.
    column = found[..., 0]
    mirrored = column.conj()
    for axis in range(1, column.ndim):
        mirrored = np.roll(np.flip(mirrored, axis), 1, axis)
    if not np.allclose(column, mirrored, rtol=1e-9, atol=1e-12 * float(np.abs(found).max(initial=0.0))):
        return found, "its linear part is not that of a real operator. Remedy: eigenvalues with L_{-k} = conj L_k"
    return found, None
