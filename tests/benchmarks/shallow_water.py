"""Rows for shallow water, against pyclaw's dimension-split classic solver: the radial dam break between walls.

cells  cells that ours steps per second over those that pyclaw steps, on a flat bottom: SSP-RK2 with MUSCL, and sweeps
       along the axes ("dimension-split"); the search for the largest speed counts as ours. A step of sweeps holds two
       along either axis, one of pyclaw one; both advance by the Courant number of a sweep. It counts as two steps.
time   seconds that pyclaw takes to t = 1.5 over those that ours takes by sweeps, both on 128 x 128 cells with Courant
       number 0.9, if our error is no larger: L1 of the depth against the mean of both codes' solutions on 640 x 640,
       whose distance is printed too.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from timing import Disagreement, Missing, Row, ratio, repeat, take_turns

from subgrid.ingest.restriction import average_cells
from subgrid.solver.equations import ShallowWater
from subgrid.solver.equations.shallow_water.initial import RadialDamBreak
from subgrid.solver.grid import Grid
from subgrid.solver.simulation import Simulation
from subgrid.solver.time_stepping.compiled import ExplicitStepper, SplitStepper, bind
from subgrid.solver.time_stepping.schemes import STEPPERS

SIZES = (128, 256, 512)
LENGTH, END = 5.0, 1.5
COARSE, FINE = 128, 640  # cells along an axis: of both codes, and of what they are held against
EQUATION = ShallowWater(gravity=1.0, boundary="wall")
DAM = RadialDamBreak(inside=2.0, outside=1.0, radius=0.5, centre=(LENGTH / 2, LENGTH / 2))


def state(n: int) -> NDArray:
    return DAM.state(EQUATION, Grid((n, n), (LENGTH, LENGTH)), (0,), 0)


def ours(n: int, end: float) -> NDArray:
    grid = Grid((n, n), (LENGTH, LENGTH))
    simulation = Simulation(EQUATION, grid, "dimension-split", end, state(n), cfl=0.9, threads=1)
    simulation.advance(1)
    return simulation.state[0]


def theirs(n: int, end: float) -> NDArray:
    from pyclaw_peer import Peer

    peer = Peer(state(n)[0, 0], LENGTH, 1.0)
    peer.advance(end)
    return peer.depth


def cells(n: int) -> Iterator[Row]:
    """Both codes step on from the same waves, by steps of about the length that their Courant numbers allow."""
    from pyclaw_peer import Peer

    count = max(4, 2**19 // n**2)
    grid, waves = Grid((n, n), (LENGTH, LENGTH)), ours(n, 0.2)
    peer = Peer(state(n)[0, 0], LENGTH, 1.0)
    peer.advance(0.2)
    taken = [peer.steps]

    def peer_steps() -> None:
        peer.advance(0.5 * count * LENGTH / n)
        taken.append(peer.steps)

    def own(name: str, step: float):
        stepper = bind(STEPPERS[name], EQUATION.right_hand_side(grid, 1), waves.shape, "float64", step * LENGTH / n)
        assert isinstance(stepper, (ExplicitStepper, SplitStepper))
        u = waves.copy()
        return repeat(count, lambda: (stepper.courant_rate(u), stepper.advance(u, 0.0, None)))

    contestants = {"ssp-rk2": own("ssp-rk2", 0.15), "dimension-split": own("dimension-split", 0.6)}
    times = take_turns(count, turns=7, peer=peer_steps, **contestants)
    each = times["peer"] * count / np.diff(taken)[1:]
    for name, steps in (("ssp-rk2", 1), ("dimension-split", 2)):
        detail = f"{steps * n**2 / times[name].min():9.1f} million cells/s, pyclaw {n**2 / each.min():.1f}"
        yield ratio(f"cells {n}, {name}", each, times[name] / steps, 8.0, True, detail)


def simulated_time() -> Row:
    depth = [theirs(FINE, END), ours(FINE, END)[0]]

    def error(found: NDArray) -> float:
        n = len(found)
        return float(np.abs(average_cells(0.5 * (depth[0] + depth[1])[None], (n, n))[0] - found).mean())

    own, peer, apart = (
        error(ours(COARSE, END)[0]),
        error(theirs(COARSE, END)),
        float(np.abs(depth[0] - depth[1]).mean()),
    )
    print(f"shallow water: L1 errors {own:.2e}, pyclaw {peer:.2e}; fine {apart:.1e} apart", file=sys.stderr)
    if apart > 0.5 * min(own, peer):
        raise Disagreement("subgrid's and pyclaw's fine solutions differ by as much as the errors that are compared")
    if own > peer:
        raise Disagreement("subgrid's error is larger than pyclaw's")
    times = take_turns(1, turns=7, ours=lambda: ours(COARSE, END), peer=lambda: theirs(COARSE, END))
    detail = f"{1e-3 * times['ours'].min():9.1f} ms, pyclaw {1e-3 * times['peer'].min():.1f}; "
    detail += f"L1 {own:.2e}, pyclaw {peer:.2e}"
    return ratio("time to t = 1.5", times["peer"], times["ours"], 5.0, True, detail)


def rows() -> Iterator[Row]:
    try:
        import clawpack  # noqa: F401
    except ImportError:
        raise Missing(
            "shallow water is compared with clawpack, which is not installed. Remedy: pip install clawpack, which "
            "takes gfortran"
        ) from None
    for n in SIZES:
        yield from cells(n)
    yield simulated_time()
