"""Rows for Vlasov-Poisson by the clock: one step of one member, by the stepper alone, of the published two-stream case.

vlasov rk4     milliseconds of an RK4 step with WENO5 fluxes: four right-hand sides, each with its field.
vlasov strang  millions of cells per second that a split semi-Lagrangian step takes along x, v and x; default order.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from timing import Row, Work, ratio, repeat, take_turns

from subgrid.solver.equations import VlasovPoisson
from subgrid.solver.equations.vlasov_poisson.initial import TwoStreamHypar
from subgrid.solver.grid import Grid
from subgrid.solver.time_stepping.compiled import bind
from subgrid.solver.time_stepping.schemes import RK4, STRANG, Scheme

EQUATION = VlasovPoisson()
SIZES = (128, 256, 512)


def bare_step(n: int, scheme: Scheme) -> Work:
    grid = Grid((n, n), (14.0, 2 * np.pi), (-7 - 7 / n, -np.pi / n))
    u = TwoStreamHypar().state(EQUATION, grid, (0,), 0)[0]
    stepper = bind(scheme, EQUATION.right_hand_side(grid, 1), u.shape, "float64", 0.64 / n)
    return lambda: stepper.advance(u, 0.0, None)


def fluxes(n: int) -> Row:
    count = 2**21 // n**2
    milliseconds = 1e-3 * take_turns(count, ours=repeat(count, bare_step(n, RK4)))["ours"]
    return ratio(f"vlasov rk4 {n}", milliseconds, np.ones_like(milliseconds), 0.25, False, "milliseconds a step")


def shifts(n: int) -> Row:
    count = 2**22 // n**2
    times = take_turns(count, ours=repeat(count, bare_step(n, STRANG)))["ours"]
    each = 1e3 * times.min() / n**2
    detail = f"{times.min():9.1f} us a step, {each:.1f} ns a cell, {each / 3:.1f} a sweep"
    return ratio(
        f"vlasov strang {n}", np.full_like(times, float(n**2)), times, 250.0 if n > 128 else 200.0, True, detail
    )


def rows() -> Iterator[Row]:
    yield fluxes(128)
    for n in SIZES:
        yield shifts(n)
