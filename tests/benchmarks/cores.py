"""Rows on two cores: an ensemble against exponax's, and the efficiency of two threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import fourier
import numpy as np
from timing import Row, ratio, take_turns

from subgrid.solver.equations import ChargedParticles, ShallowWater, VlasovPoisson
from subgrid.solver.equations.particles.initial import RandomParticles
from subgrid.solver.equations.shallow_water.initial import RandomSurface
from subgrid.solver.equations.vlasov_poisson.initial import TwoStream
from subgrid.solver.grid import Grid
from subgrid.solver.simulation import Simulation


def efficiency(what: str, steps: int, make: Callable[[int], Simulation]) -> Row:
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
    phase_space = Grid((128, 128), (14.0, 8 * np.pi), (-7.0, 0.0))
    beams = TwoStream(amplitude=0.02, modes=3).state(VlasovPoisson(), phase_space, tuple(range(8)), 0)
    for name, steps in (("rk4", 8), ("strang", 32)):
        yield efficiency(
            f"vlasov {name}, 8 of 128",
            steps,
            lambda t, name=name: Simulation(VlasovPoisson(), phase_space, name, 5e-3, beams, threads=t),
        )
    plane = Grid((128, 128), (1.0, 1.0))
    surface = RandomSurface(depth=1.0, amplitude=0.1, tau=20.0).state(ShallowWater(), plane, tuple(range(8)), 0)
    yield efficiency(
        "shallow water, 8 of 128",
        1,
        lambda t: Simulation(ShallowWater(), plane, "ssp-rk2", 4e-3, surface, threads=t, cfl=0.45),
    )
    particles, entities = ChargedParticles(), Grid((20,), (20.0,))
    clouds = RandomParticles().state(particles, entities, tuple(range(1000)), 0)
    yield efficiency(
        "particles, 1000 of 20",
        8,
        lambda t: Simulation(particles, entities, "velocity-verlet", 1e-3, clouds, threads=t),
    )
