"""The search for the best options: which candidate is next, and which may follow it."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

GRID = 9  # values of a single option that are tried before the search between them
FAILED = 1e12  # the error of a run that failed, to the search

Ranges = Mapping[str, tuple[float, float]]
Options = tuple[tuple[str, float], ...]  # by name, in the order of the ranges


def search(ranges: Ranges, evaluate: Callable[[Mapping[str, float]], float], evaluations: int) -> None:
    """Minimise over the logarithms: a grid and Brent's method for one option, Nelder and Mead's for several."""
    from scipy.optimize import minimize, minimize_scalar

    names = list(ranges)
    low, high = (np.log([ends[i] for ends in ranges.values()]) for i in (0, 1))

    def at(x: NDArray) -> float:
        inside = np.clip(np.atleast_1d(x), low, high)
        error = evaluate(dict(zip(names, np.exp(inside), strict=True)))
        return error if math.isfinite(error) else FAILED

    if len(names) > 1:
        options = {"maxfev": evaluations, "xatol": 0.02, "fatol": 0.0, "initial_simplex": _simplex(low, high)}
        minimize(at, 0.5 * (low + high), method="Nelder-Mead", options=options)
        return
    points = np.linspace(low[0], high[0], min(GRID, evaluations))
    best = int(np.argmin([at(x) for x in points]))
    if evaluations > len(points):
        ends = points[max(best - 1, 0)], points[min(best + 1, len(points) - 1)]
        minimize_scalar(
            at, bounds=ends, method="bounded", options={"maxiter": evaluations - len(points), "xatol": 0.01}
        )


def _simplex(low: NDArray, high: NDArray) -> NDArray[np.float64]:
    """Corners of the first simplex: the middle of the box, and a quarter of the box farther along each axis."""
    middle = 0.5 * (low + high)
    return np.vstack([middle, middle + 0.25 * np.diag(high - low)])


def ahead(
    ranges: Ranges,
    as_options: Callable[[Mapping[str, float]], Options],
    known: Mapping[Options, float],
    evaluations: int,
    count: int,
) -> list[Options]:
    """Up to `count` candidates that the search asks for next, given the errors of those that are known.

    The first is certain. The others follow from guesses at the errors of those before them: below, between and above
    the known errors, which are all that the methods distinguish, but for the parabolas of Brent's.
    """

    def following(errors: Mapping[Options, float]) -> Options | None:
        def evaluate(values: Mapping[str, float]) -> float:
            if (options := as_options(values)) not in errors:
                raise _Asked(options)
            return errors[options]

        try:
            search(ranges, evaluate, evaluations)
        except _Asked as asked:
            return asked.options
        return None

    first = following(known)
    found = [] if first is None else [first]
    waiting = deque((known, options) for options in found)
    while waiting and len(found) < count:
        errors, options = waiting.popleft()
        for guess in _guesses(list(errors.values())):
            more = {**errors, options: guess}
            if (later := following(more)) is not None and later not in found:
                found.append(later)
                waiting.append((more, later))
    return found[:count]


class _Asked(Exception):
    """The search asks for a candidate whose error is not known."""

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self.options = options


def _guesses(errors: list[float]) -> list[float]:
    """Errors above, below and between the known ones."""
    ordered = sorted({error for error in errors if math.isfinite(error)})
    if not ordered:
        return [1.0]
    between = [0.5 * (a + b) for a, b in pairwise(ordered)]
    return [2 * ordered[-1] + 1, 0.5 * ordered[0], *between]
