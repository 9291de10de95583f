"""Coefficients that vary along x: a factor m(x) of a constant one, by formula, at the faces of cells."""

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


@functools.lru_cache(maxsize=16)
def at_faces(profile: str, grid: Grid, key: str, negative: bool, periodic: bool) -> NDArray[np.float64]:
    """m(x) at the n + 1 faces of the cells, read-only; negative: whether m may be. Raises ValueError, with the key.

    periodic: the last face is the first one, and has its value, so that what leaves at one end enters at the other.
    """
    x = grid.origin[0] + grid.spacing[0] * np.arange(grid.shape[0] + 1)
    found = np.broadcast_to(Expression(profile, ("x",))({"x": x}), x.shape).copy()
    if not np.isfinite(found).all() or (not negative and (found < 0).any()):
        wanted = "finite numbers" if negative else "finite numbers >= 0"
        raise ValueError(
            f"{key}: {profile!r} is {found.min():g} to {found.max():g}, expected {wanted}. Remedy: change it"
        )
    if periodic:
        found[-1] = found[0]
    found.flags.writeable = False
    return found
