"""Speed-up at equal error: the cost of the frontier at the error of a run, over the cost of the run.

    speed-up = C(e) / c ,    log C linear in log e between the runs of the frontier

The frontier is the set of classical runs of which none is both cheaper and better. A dearer run that is better by less
than the fraction TIE is left out: a closure that changes nothing, on a coarse grid, would stand just before the next
finer grid, and set the cost of all errors between the two. Beyond the ends there is no number, only a bound: a run with
a smaller error than every run of the frontier has a speed-up above C_last / c, one with a larger error than the
cheapest a speed-up below C_first / c.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Beyond = Literal["", "<", ">"]
TIE = 0.01


@dataclass(frozen=True)
class SpeedUp:
    """value: the speed-up, or its bound where `beyond` is "<" or ">"."""

    value: float
    beyond: Beyond = ""


def frontier(costs: NDArray, errors: NDArray) -> NDArray[np.intp]:
    """Indices of the runs that no run of equal or lower cost beats or ties, by increasing cost.

    Errors must be finite, > 0.
    """
    best, kept = math.inf, []
    for i in np.lexsort((errors, costs)):
        if errors[i] < (1 - TIE) * best:
            best = errors[i]
            kept.append(int(i))
    return np.array(kept, dtype=np.intp)


def speed_up(cost: float, error: float, costs: NDArray, errors: NDArray) -> SpeedUp | None:
    """The speed-up of a run of this cost and error over classical runs (run,); None where it has no meaning.

    Runs of the frontier whose error or cost is not a positive finite number are left out.
    """
    known = np.isfinite(errors) & np.isfinite(costs) & (errors > 0) & (costs > 0)
    if not known.any() or not (math.isfinite(error) and error > 0 and math.isfinite(cost) and cost > 0):
        return None
    costs, errors = costs[known], errors[known]
    ends, least = frontier(costs, errors), errors.min()
    costs, errors = costs[ends], errors[ends]
    if error > errors[0]:
        return SpeedUp(float(costs[0] / cost), "<")
    if error < least:
        return SpeedUp(float(costs[-1] / cost), ">")
    # an error between the last run and one that ties with it is at the end of np.interp: the cost is that of the last
    at = np.interp(-math.log(error), -np.log(errors), np.log(costs))
    return SpeedUp(float(math.exp(at) / cost))


def interval(values: list[SpeedUp | None], level: float) -> tuple[float | None, float | None]:
    """The central interval of resampled speed-ups. A value beyond the frontier counts with its bound.

    The lower end is a quantile of the least that each value can be, the upper end of the most. None for an end that is
    open; of an interval that is open at both ends the lower one is 0. Without values (None, None).
    """
    known = [v for v in values if v is not None]
    if not known:
        return None, None
    least = sorted(-math.inf if v.beyond == "<" else v.value for v in known)
    most = sorted(math.inf if v.beyond == ">" else v.value for v in known)
    low, high = (ends[round(q * (len(known) - 1))] for ends, q in ((least, 0.5 - level / 2), (most, 0.5 + level / 2)))
    if math.isinf(low) and math.isinf(high):
        return 0.0, None
    return (low if math.isfinite(low) else None), (high if math.isfinite(high) else None)
