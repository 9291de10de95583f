"""Steps of bounded Courant number, for explicit schemes on cells."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

Array = Any
GROWTH = 1.5  # of the Courant number in a step, where sources or sides feed the state
MOST_UNREAD = 64  # steps that are taken before the device is asked how far they came


def cover(
    start: float,
    span: float,
    cfl: float,
    courant_rate: Callable[[], float],
    attempt: Callable[[float, float], bool],
) -> int:
    """Advance from `start` over `span` in steps whose Courant number is at most `cfl`; returns how many it took.

    Before each step the rest of the span is divided into equal parts. `courant_rate()` is the Courant number of a step
    per unit of time. `attempt(t, h)` takes a step of length h from time t and returns True; where the result is not
    admissible it restores the state and returns False, and the step is halved.

    Raises ArithmeticError for signal speeds that are not finite, and for steps below 1e-9 of the span.
    """
    rest, smallest, taken = span, span * 1e-9, 0
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
        taken += 1
        if steps == 1:
            return taken
        rest -= h


def cover_on_device(
    u: Array,
    start: float,
    span: float,
    cfl: float,
    expected: int,
    courant_rate: Callable[[Array], Array | float],
    attempt: Callable[[Array, Array, Array], tuple[Array, Array]],
    read: Callable[[Array], NDArray],
    xp: Any,
) -> tuple[Array, int]:
    """`cover` of a state u on a device: the state after `span`, and the number of steps that it took.

    Lengths of steps, and whether a step counts, are arrays without axes, so that the host does not wait for them. Steps
    beyond the end leave the state as it is. The host reads how far the steps came after the `expected` number of them,
    and then whenever as many as the speeds require have been taken.

    attempt(u, t, h): the state after a step, and whether it is admissible. read: an array on the host.
    Raises ArithmeticError as `cover` does.
    """
    smallest = span * 1e-9
    rest = xp.full((), span, dtype=xp.float64, device=u.device)
    parts, fault, taken = xp.ones_like(rest), xp.zeros_like(rest), xp.zeros_like(rest)
    count = expected
    while True:
        for _ in range(max(1, min(count, MOST_UNREAD))):
            needed = rest * courant_rate(u) / cfl
            steps = xp.maximum(xp.ones_like(rest), xp.ceil(needed - 1e-9)) * parts
            h, unfinished = rest / steps, rest > 0
            fault = xp.where(unfinished & (h < smallest), xp.full_like(fault, 2.0), fault)
            fault = xp.where(unfinished & ~xp.isfinite(needed), xp.ones_like(fault), fault)
            found, good = attempt(u, start + span - rest, h)
            tried = unfinished & (fault == 0)
            accepted = tried & good
            u = xp.where(accepted, found, u)
            parts = xp.where(tried, xp.where(accepted, xp.ones_like(parts), 2 * parts), parts)
            rest = xp.where(accepted, rest - h, rest)  # 0 after the last, whose h is the rest
            taken = taken + xp.astype(accepted, taken.dtype)
        ahead = xp.ceil(rest * courant_rate(u) / cfl) * parts
        left, wrong, done, more = read(xp.stack([rest, fault, taken, ahead])).tolist()
        if wrong == 1:
            raise ArithmeticError("the signal speeds are not finite")
        if wrong == 2:
            raise ArithmeticError(f"steps by CFL fell below {smallest:.1e}")
        if left == 0:
            return u, int(done)
        count = int(more) if math.isfinite(more) else 1
