"""Rows for the scalars of a run: 50 steps and the scalars of an output over the 50 steps alone, without files.

Both read the state of one member. Each equation has its fastest stepper for a smooth run, on 64 points per axis, where
the scalars weigh most; Kolmogorov flow has larger grids, too.
"""

from __future__ import annotations

from collections.abc import Iterator

import fourier
import numpy as np
from timing import Row, ratio, take_turns

from subgrid.solver.equations import Burgers, ShallowWater, VlasovPoisson
from subgrid.solver.equations.shallow_water.initial import RandomSurface
from subgrid.solver.equations.vlasov_poisson.initial import TwoStreamHypar
from subgrid.solver.grid import Grid
from subgrid.solver.initial.profiles import Sine
from subgrid.solver.simulation import Simulation
from subgrid.solver.simulation.diagnostics import Diagnostics

OUTPUT_EVERY = 50  # steps
TURN = 2**16  # steps of 64 points in a turn, fewer of larger grids
LEAST = 4  # outputs in a turn


def simulations() -> Iterator[tuple[str, Simulation]]:
    for n in fourier.SIZES:
        flow = Simulation(fourier.FLOW, fourier.square(n), "etdrk2", 0.256 / n, fourier.vorticity(n), threads=1)
        yield f"kolmogorov {n}", flow
    square, line = Grid((64, 64), (1.0, 1.0)), Grid((64,), (2 * np.pi,))
    phase_space = Grid((64, 64), (14.0, 2 * np.pi), (-7 - 7 / 64, -np.pi / 64))
    water, plasma, shock = ShallowWater(), VlasovPoisson(), Burgers(viscosity=0.05)
    surface = RandomSurface(depth=1.0, amplitude=0.1, exponent=3.0, tau=20.0).state(water, square, (0,), 0)
    yield "shallow water 64", Simulation(water, square, "dimension-split", 2e-3, surface, threads=1)
    beams = TwoStreamHypar().state(plasma, phase_space, (0,), 0)
    yield "vlasov 64", Simulation(plasma, phase_space, "strang", 1e-3, beams, threads=1)
    yield "burgers 64", Simulation(shock, line, "etdrk2", 1e-4, Sine().state(shock, line, (0,), 0), threads=1)


def row(name: str, simulation: Simulation) -> Row:
    count = max(LEAST, TURN // simulation.grid.points // OUTPUT_EVERY)
    diagnostics = Diagnostics(simulation)

    def bare() -> None:
        for _ in range(count):
            simulation.advance(OUTPUT_EVERY)
            simulation.state  # noqa: B018

    def measured() -> None:
        for _ in range(count):
            simulation.advance(OUTPUT_EVERY)
            diagnostics.measure(simulation.state)

    times = take_turns(count * OUTPUT_EVERY, turns=9, bare=bare, measured=measured)
    detail = f"{times['measured'].min():9.1f} us a step, without {times['bare'].min():.1f} us"
    return ratio(f"diagnostics {name}", times["measured"], times["bare"], 1.05, False, detail)


def rows() -> Iterator[Row]:
    for name, simulation in simulations():
        yield row(name, simulation)
