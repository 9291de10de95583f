"""Coefficients that vary along x: a factor m(x) of a constant one, by formula, at the faces of cells or at points."""

from __future__ import annotations

import functools
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator

from ..grid import Grid
from .expressions import Expression


def _is_a_formula(text: str) -> str:
    Expression(text, ("x",))
    return text


Profile = Annotated[str, AfterValidator(_is_a_formula)]
SAMPLES = 4096  # of m on the domain, for its level


@functools.lru_cache(maxsize=16)
def at_faces(profile: str, grid: Grid, key: str, negative: bool, periodic: bool) -> NDArray[np.float64]:
    """m(x) at the n + 1 faces of the cells, read-only; negative: whether m may be. Raises ValueError, with the key.

    periodic: the last face is the first one, and has its value, so that what leaves at one end enters at the other.
    """
    found = _values(profile, grid.origin[0] + grid.spacing[0] * np.arange(grid.shape[0] + 1), key, negative)
    if periodic:
        found[-1] = found[0]
    found.flags.writeable = False
    return found


@functools.lru_cache(maxsize=16)
def level_and_rest(profile: str, grid: Grid, key: str, negative: bool) -> tuple[float, NDArray[np.float64]]:
    """m = level + rest at the points of a Fourier grid, the rest (x,) read-only and without modes beyond the 2/3 rule.

    The level is half of the largest and of the smallest m on the domain, whatever the grid: where it is a linear
    operator and the rest an explicit term, the rest is not the larger one for m >= 0. Raises ValueError, with the key.
    """
    samples = _values(profile, grid.origin[0] + grid.length[0] / SAMPLES * np.arange(SAMPLES), key, negative)
    level = 0.5 * float(samples.max() + samples.min())
    spectrum = np.fft.rfft(_values(profile, grid.coordinates()[0], key, negative) - level)
    rest = np.fft.irfft(np.where(grid.mask(), spectrum, 0.0), grid.shape[0])
    rest.flags.writeable = False
    return level, rest


def _values(profile: str, x: NDArray, key: str, negative: bool) -> NDArray[np.float64]:
    found = np.broadcast_to(Expression(profile, ("x",))({"x": x}), x.shape).copy()
    if not np.isfinite(found).all() or (not negative and (found < 0).any()):
        wanted = "finite numbers" if negative else "finite numbers >= 0"
        raise ValueError(
            f"{key}: {profile!r} is {found.min():g} to {found.max():g}, expected {wanted}. Remedy: change it"
        )
    return found
