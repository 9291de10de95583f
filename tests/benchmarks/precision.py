"""Rows for single precision: time of a step in double precision over that in single precision, one member, one core.

Times are those of the processor, so that other processes on the machine count little.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
from timing import Row, ratio

from subgrid.solver.backend import PRECISIONS, Backend
from subgrid.solver.equations import Equation, Kolmogorov, ShallowWater, VlasovPoisson
from subgrid.solver.equations.forcing import SineForcing
from subgrid.solver.equations.shallow_water.initial import RadialDamBreak
from subgrid.solver.equations.vlasov_poisson.initial import TwoStream
from subgrid.solver.grid import Grid
from subgrid.solver.initial.random_field import GaussianRandomField
from subgrid.solver.simulation import Simulation

FLOW = Kolmogorov(viscosity=1e-3, drag=0.1, forcing=SineForcing(amplitude=1.0, wavenumber=4))
FIELD = GaussianRandomField(exponent=2.5, tau=5.0)
DAM = RadialDamBreak(inside=2.0, outside=1.0, radius=0.5, centre=(2.5, 2.5))


def row(what: str, equation: Equation, grid: Grid, initial, stepper: str, step: float, required: float) -> Row:
    state = initial.state(equation, grid, (0,), 0)
    runs = [
        Simulation(equation, grid, stepper, step, state, backend=Backend(precision=p), threads=1) for p in PRECISIONS
    ]
    count, turns = max(1, 2**18 // grid.points), 9 if grid.points < 2**20 else 5
    seconds = np.zeros((2, turns))
    for turn in range(-1, turns):
        for run, spent in zip(runs, seconds, strict=True):
            began = time.process_time()
            run.advance(count)
            spent[turn] = (time.process_time() - began) / count
    double, single = (1e3 * np.median(spent) for spent in seconds)
    detail = f"{double:9.3f} ms, single precision {single:.3f} ms"
    return ratio(what, seconds[0], seconds[1], required, True, detail)


def rows() -> Iterator[Row]:
    for n in (256, 512, 1024, 2048):
        grid = Grid((n, n), (2 * np.pi, 2 * np.pi))
        yield row(f"float32 kolmogorov {n}", FLOW, grid, FIELD, "etdrk2", 0.256 / n, 1.7)
    for n in (128, 256, 512):
        grid = Grid((n, n), (5.0, 5.0))
        for scheme, stepper in (("muscl", "ssp-rk2"), ("weno5", "ssp-rk3"), ("muscl", "dimension-split")):
            water = ShallowWater(gravity=1.0, boundary="wall", reconstruction=scheme)
            name = "sweeps" if stepper == "dimension-split" else scheme
            yield row(f"float32 water {name} {n}", water, grid, DAM, stepper, 0.5 / n, 1.6)
    for n in (128, 256, 512):
        grid = Grid((n, n), (12.0, 4 * np.pi), (-6.0, 0.0))
        for stepper in ("rk4", "strang"):
            yield row(f"float32 vlasov {stepper} {n}", VlasovPoisson(), grid, TwoStream(), stepper, 0.6 / n, 1.6)
