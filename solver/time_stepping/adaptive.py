"""Steps of bounded Courant number, for explicit schemes on cells."""

from __future__ import annotations

import math
from collections.abc import Callable


def cover(
    start: float,
    span: float,
    cfl: float,
    courant_rate: Callable[[], float],
    attempt: Callable[[float, float], bool],
) -> None:
    """Advance from `start` over `span` in steps whose Courant number is at most `cfl`.

    Before each step the rest of the span is divided into equal parts. `courant_rate()` is the Courant number of a step
    per unit of time. `attempt(t, h)` takes a step of length h from time t and returns True; where the result is not
    admissible it restores the state and returns False, and the step is halved.

    Raises ArithmeticError for signal speeds that are not finite, and for steps below 1e-9 of the span.
    """
    rest, smallest = span, span * 1e-9
    while True:
        rate = courant_rate()
        if not math.isfinite(rate):
            raise ArithmeticError("the signal speeds are not finite")
        steps = max(1, math.ceil(rest * rate / cfl - 1e-9))
        while True:
            h = rest / steps
            if h < smallest:
                raise ArithmeticError(f"steps by CFL fell below {smallest:.1e}")
            if attempt(start + span - rest, h):
                break
            steps *= 2
        if steps == 1:
            return
        rest -= h
