"""Rows on two cores: one member and an ensemble against exponax's, and what two threads make of both."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import fourier
import numpy as np
from exponax_peer import Peer
from numpy.typing import NDArray
from timing import Row, against, ratio, take_turns

from subgrid.solver.backend import share, sharing
from subgrid.solver.backend.pool import PORTION
from subgrid.solver.equations import Burgers2D, ChargedParticles, Equation, ShallowWater, VlasovPoisson
from subgrid.solver.equations.particles.initial import RandomParticles
from subgrid.solver.equations.shallow_water.initial import RadialDamBreak, RandomSurface
from subgrid.solver.equations.vlasov_poisson.initial import TwoStream
from subgrid.solver.grid import Grid
from subgrid.solver.simulation import Simulation


def efficiency(what: str, steps: int, make: Callable[[int], Simulation]) -> Row:
    """Time on one thread over twice that on two; make(threads) is a Simulation."""
    one, two = make(1), make(2)
    times = take_turns(steps, one=lambda: one.advance(steps), two=lambda: two.advance(steps))
    detail = f"{times['one'].min():9.1f} us, on two {times['two'].min():.1f} us"
    return ratio(f"two cores {what}", times["one"], 2 * times["two"], 0.85, True, detail)


def against_exponax(n: int) -> Row:
    """One member on two cores; exponax's step counts by the fastest of its ways on two."""
    steps = max(2, 2**18 // n**2)
    simulation = Simulation(fourier.FLOW, fourier.square(n), "etdrk2", 0.256 / n, fourier.vorticity(n), threads=2)
    theirs = Peer(fourier.FLOW, fourier.square(n), 0.256 / n).one_member(steps, fourier.vorticity(n))
    return against(f"two cores step {n}", 3.5, steps, "exponax", lambda: simulation.advance(steps), theirs)


def speed_up(what: str, equation: Equation, grid: Grid, state: NDArray, stepper: str, step: float, cfl=None) -> Row:
    """Time of one member on one thread over that on two."""
    runs = [Simulation(equation, grid, stepper, step, state, threads=t, cfl=cfl) for t in (1, 2)]
    steps = max(1, 2**20 // grid.points) if equation.kind != "particles" else 50
    one, two = (lambda run=run: run.advance(steps) for run in runs)
    times = take_turns(steps, turns=9 if grid.points >= 2**20 else 21, one=one, two=two)
    assert runs[0].internal.tobytes() == runs[1].internal.tobytes()
    detail = f"{times['one'].min():9.1f} us, on two {times['two'].min():.1f} us"
    return ratio(f"one member {what}", times["one"], times["two"], 1.7, True, detail)


def hand_over() -> Row:
    """Microseconds until two threads have begun and ended a job without work: see pool.PORTION."""

    def nothing(first: int, last: int, place: int) -> None:
        pass

    def work() -> None:
        with sharing(2):
            for _ in range(1000):
                share(nothing, 2, 1e9)

    times = take_turns(1000, ours=work)["ours"]
    return ratio("hand-over", times, np.ones_like(times), 1e-3 * PORTION, False, "microseconds, there and back")


def one_member() -> Iterator[Row]:
    yield hand_over()
    for n in (512, 1024, 2048):
        yield against_exponax(n)
    for n in (128, 256, 512, 1024, 2048):
        grid = fourier.square(n)
        yield speed_up(f"kolmogorov {n}", fourier.FLOW, grid, fourier.vorticity(n), "etdrk2", 0.256 / n)
    dam = RadialDamBreak(inside=2.0, outside=1.0, radius=0.5, centre=(2.5, 2.5))
    for n in (256, 512, 1024):
        grid = Grid((n, n), (5.0, 5.0))
        for scheme, stepper in (("muscl", "ssp-rk2"), ("weno5", "ssp-rk3"), ("muscl", "dimension-split")):
            water = ShallowWater(gravity=1.0, boundary="wall", reconstruction=scheme)
            name = "sweeps" if stepper == "dimension-split" else scheme
            state = dam.state(water, grid, (0,), 0)
            yield speed_up(
                f"water {name} {n}", water, grid, state, stepper, 0.25 / n, 0.3 if scheme == "weno5" else 0.45
            )
    for n in (256, 512, 1024):
        grid = Grid((n, n), (12.0, 4 * np.pi), (-6.0, 0.0))
        for stepper in ("rk4", "strang"):
            state = TwoStream().state(VlasovPoisson(), grid, (0,), 0)
            yield speed_up(f"vlasov {stepper} {n}", VlasovPoisson(), grid, state, stepper, 0.6 / n)
    for n in (128, 256):
        grid = Grid((n, n), (1.0, 1.0))
        state = 0.1 * np.random.default_rng(0).standard_normal((1, 2, n, n))
        yield speed_up(f"burgers-2d {n}", Burgers2D(viscosity=1e-3), grid, state, "rk4", 1e-2 / n)
    particles, entities = ChargedParticles(softening=0.1), Grid((2000,), (2000.0,))
    clouds = RandomParticles().state(particles, entities, (0,), 0)
    yield speed_up("particles 2000", particles, entities, clouds, "velocity-verlet", 1e-3)


def rows() -> Iterator[Row]:
    yield from one_member()
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
