"""Rain on shallow water: a rate of change of the depth that depends on place and time."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator

from ...grid import Grid
from ..expressions import Expression, cell_means

NAMES = ("t", "x", "y")


def _is_a_rate(value: float | str) -> float | str:
    if isinstance(value, str):
        Expression(value, NAMES)
    elif not 0 <= value < np.inf:
        raise ValueError(f"must be finite and not negative, found {value:g}")
    return value


RainRate = Annotated[float | str, AfterValidator(_is_a_rate)]


@dataclass(frozen=True)
class Rain:
    """r(x, y, t) >= 0 in length/time, a number or a formula; it falls at rest, so it adds no momentum."""

    rate: float | str

    @property
    def falls(self) -> bool:
        return self.rate != 0.0

    @functools.cached_property
    def steady(self) -> bool:
        """Whether it does not depend on t."""
        return not isinstance(self.rate, str) or not Expression(self.rate, NAMES).uses("t")

    def means(self, grid: Grid, t: float) -> NDArray[np.float64]:
        """Means over the cells at time t, (y, x), read-only. Raises ArithmeticError for other values than r >= 0."""
        return _means(self.rate, grid, 0.0 if self.steady else float(t))


@functools.lru_cache(maxsize=4)
def _means(rate: float | str, grid: Grid, t: float) -> NDArray[np.float64]:
    found = np.full(grid.shape, rate, dtype=np.float64) if not isinstance(rate, str) else _of_formula(rate, grid, t)
    if not np.isfinite(found).all() or (found < 0).any():
        raise ArithmeticError(
            f"equation.rain is {found.min():g} to {found.max():g} at t = {t:g}, expected finite numbers >= 0. "
            "Remedy: change the formula"
        )
    found.flags.writeable = False
    return found


def _of_formula(rate: str, grid: Grid, t: float) -> NDArray[np.float64]:
    formula = Expression(rate, NAMES)
    if not (formula.uses("x") or formula.uses("y")):
        return np.full(grid.shape, formula({"t": t}))
    return cell_means(formula, dict(zip(("y", "x"), grid.coordinates(centres=True), strict=True)), grid, {"t": t})
