"""What all benchmarks share: contestants take turns in one process; a row is a ratio and what is required of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Work = Callable[[], Any]
TURNS = 21


class Disagreement(RuntimeError):
    """Two codes do not solve the same problem."""


class Missing(RuntimeError):
    """A peer that is not installed."""


class Row(NamedTuple):
    """One measured value, the same by medians, and what is required of it: at least, or else at most."""

    what: str
    best: float
    median: float
    required: float
    at_least: bool
    detail: str

    @property
    def met(self) -> bool:
        return self.median >= self.required if self.at_least else self.median <= self.required

    def __str__(self) -> str:
        sign, verdict = ">=" if self.at_least else "<=", "ok" if self.met else "MISSED"
        return f"{self.what:32}{self.best:7.2f}{self.median:8.2f}   {sign} {self.required:<5g} {verdict:7}{self.detail}"


def ratio(what: str, upper: NDArray, lower: NDArray, required: float, at_least: bool, detail: str) -> Row:
    return Row(what, float(upper.min() / lower.min()), float(np.median(upper / lower)), required, at_least, detail)


def take_turns(steps: int, turns: int = TURNS, **contestants: Work) -> dict[str, NDArray]:
    """Microseconds per step of every turn of every contestant, after one turn that compiles and warms the caches."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(turns + 1):
        for name, work in contestants.items():
            began = time.perf_counter()
            work()
            if turn:
                times[name].append(1e6 * (time.perf_counter() - began) / steps)
    return {name: np.array(t) for name, t in times.items()}


def repeat(count: int, work: Work) -> Work:
    return lambda: [work() for _ in range(count)]


def against(what: str, required: float, steps: int, peer: str, ours: Work, theirs: dict[str, Work]) -> Row:
    """The fastest of a peer's ways over ours."""
    times = take_turns(steps, ours=ours, **theirs)
    fastest = min(theirs, key=lambda name: times[name].min())
    detail = f"{times['ours'].min():9.1f} us, {peer} ({fastest}) {times[fastest].min():.1f} us"
    return ratio(what, times[fastest], times["ours"], required, True, detail)
