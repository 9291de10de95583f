"""Rows for shallow water, against pyclaw's dimension-split classic solver: the radial dam break between walls, flat bottom.

shallow water cells  cells that ours steps per second over those that pyclaw steps: SSP-RK2 with MUSCL, whole steps
                     with friction's place and the search for the largest speed included.
shallow water time   seconds of pyclaw's for a simulated time over ours, on 128 x 128 cells to t = 1.5, both with steps
                     by Courant number: pyclaw's 0.9 along either axis, ours 0.9 in the sum over the axes. Beside it the
                     L1 errors of the depth against the mean of both codes' solutions on 512 x 512, and the distance of
                     these two; a larger error than pyclaw's fails the row.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from timing import Disagreement, Row, ratio, repeat, take_turns

from subgrid.ingest.restriction import average_cells
from subgrid.solver.equations import ShallowWater
from subgrid.solver.grid import Grid
from subgrid.solver.initial import RadialDamBreak
from subgrid.solver.simulation import Simulation
from subgrid.solver.steppers import SSP_RK2
from subgrid.solver.stepping import bind

SIZES = (128, 256, 512)
LENGTH, END, COURANT = 5.0, 1.5, 0.9
EQUATION = ShallowWater(gravity=1.0, boundary="wall")
DAM = RadialDamBreak(inside=2.0, outside=1.0, radius=0.5, centre=(LENGTH / 2, LENGTH / 2))


def state(n: int) -> NDArray:
    return DAM.state(EQUATION, Grid((n, n), (LENGTH, LENGTH)), (0,), 0)


def cells(n: int) -> Row:
    """Steps of about the length that each code's Courant number allows, from the same waves."""
    from pyclaw_peer import Peer

    count = max(4, 2**19 // n**2)
    start, _ = ours(n, 0.2)
    u = start.state[0].copy()
    stepper = bind(SSP_RK2, EQUATION.right_hand_side(start.grid, 1), u.shape, "float64", 0.2 * LENGTH / n)
    peer = Peer(state(n)[0, 0], LENGTH, 1.0)
    peer.advance(0.2)
    taken: list[int] = []

    def step() -> None:
        stepper.rhs.rate(u)  # type: ignore[attr-defined]
        stepper.advance(u, 0.0, None)

    times = take_turns(
        count,
        ours=repeat(count, step),
        peer=lambda: taken.append(peer.advance(0.5 * count * LENGTH / n)),
        turns=7,
    )
    each = times["peer"] * count / np.array(taken[1:])
    rates = n**2 / times["ours"], n**2 / each
    detail = f"{rates[0].max():9.1f} million cells/s, pyclaw {rates[1].max():.1f}"
    return ratio(f"shallow water cells {n}", each, times["ours"], 5.0, True, detail)


def ours(n: int, end: float) -> tuple[Simulation, int]:
    grid = Grid((n, n), (LENGTH, LENGTH))
    simulation = Simulation(EQUATION, grid, "ssp-rk2", end, state(n), cfl=COURANT, threads=1)
    simulation.advance(1)
    return simulation, 1


def simulated_time(n: int = 128, fine: int = 512) -> Row:
    from pyclaw_peer import Peer

    def theirs(m: int) -> NDArray:
        peer = Peer(state(m)[0, 0], LENGTH, 1.0)
        peer.advance(END)
        return peer.depth

    def mine(m: int) -> NDArray:
        return ours(m, END)[0].state[0, 0]

    solutions = [average_cells(solve(fine)[None], (n, n))[0] for solve in (mine, theirs)]
    truth = 0.5 * (solutions[0] + solutions[1])
    apart = float(np.abs(solutions[0] - solutions[1]).mean())
    error, their_error = (float(np.abs(solve(n) - truth).mean()) for solve in (mine, theirs))
    print(f"shallow water: L1 errors {error:.2e}, pyclaw {their_error:.2e}; fine {apart:.1e} apart", file=sys.stderr)
    if apart > 0.5 * min(error, their_error):
        raise Disagreement("subgrid's and pyclaw's fine solutions differ by as much as the errors that are compared")
    times = take_turns(1, ours=lambda: mine(n), peer=lambda: theirs(n), turns=7)
    detail = f"{1e-3 * times['ours'].min():9.1f} ms, pyclaw {1e-3 * times['peer'].min():.1f}; "
    detail += f"L1 {error:.2e}, pyclaw {their_error:.2e}"
    row = ratio(f"shallow water time {n}", times["peer"], times["ours"], 3.0, True, detail)
    return row if error <= their_error else row._replace(required=float("inf"))


def rows() -> Iterator[Row]:
    try:
        import clawpack  # noqa: F401
    except ImportError:
        raise Disagreement(
            "shallow water is compared with clawpack, which is not installed. Remedy: pip install clawpack "
            "(it needs gfortran), or --only with the other groups"
        ) from None
    for n in SIZES:
        yield cells(n)
    yield simulated_time()
