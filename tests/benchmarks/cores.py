"""Rows on two cores: an ensemble against exponax's, and the efficiency of two threads."""

from __future__ import annotations

from collections.abc import Iterator

import fourier
from timing import Row, ratio, take_turns

from subgrid.solver.simulation import Simulation


def efficiency(what: str, steps: int, make) -> Row:
    """Time on one thread over twice that on two; make(threads) is a Simulation."""
    one, two = make(1), make(2)
    times = take_turns(steps, one=lambda: one.advance(steps), two=lambda: two.advance(steps))
    detail = f"{times['one'].min():9.1f} us, on two {times['two'].min():.1f} us"
    return ratio(f"two cores {what}", times["one"], 2 * times["two"], 0.85, True, detail)


def rows() -> Iterator[Row]:
    fourier.agree(64, fourier.MEMBERS)
    yield fourier.ensemble()
    flow, grid, n = fourier.FLOW, fourier.square(64), fourier.MEMBERS
    state = fourier.vorticity(64, n)
    yield efficiency(f"kolmogorov, {n} of 64", 16, lambda t: Simulation(flow, grid, "etdrk2", 4e-3, state, threads=t))
