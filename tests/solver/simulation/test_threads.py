"""One member on several threads: the same bytes as on one, for every equation and stepper, and the threads are used."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from subgrid.solver.backend import PRECISIONS, Backend, pool
from subgrid.solver.equations import Burgers2D, ChargedParticles, Kolmogorov, ShallowWater, VlasovPoisson
from subgrid.solver.equations.forcing import SineForcing
from subgrid.solver.equations.particles import kernels as particles
from subgrid.solver.equations.particles.initial import RandomParticles
from subgrid.solver.equations.shallow_water.bathymetry import Paraboloid
from subgrid.solver.grid import Grid
from subgrid.solver.simulation import Simulation
from subgrid.solver.time_stepping.schemes import compatible_schemes

ROUGH = np.random.default_rng(2)


def flow(stepper: str):
    """250 columns in pieces, rows that blocks do not divide evenly."""
    grid = Grid((90, 250), (6.0, 6.0))
    equation = Kolmogorov(viscosity=1e-3, drag=0.1, forcing=SineForcing(amplitude=1.0, wavenumber=2))
    return equation, grid, ROUGH.normal(size=(1, 1, *grid.shape)), stepper, 1e-4, None


def water(stepper: str, reconstruction: str, bowl: bool, cfl: float | None = 0.3):
    grid = Grid((70, 90), (5.0, 5.0))
    bottom = {"bathymetry": Paraboloid(depth=0.3, radius=3.0, centre=(2.5, 2.5))} if bowl else {}
    equation = ShallowWater(
        gravity=1.0, reconstruction=reconstruction, boundary="wall", manning=0.02, coriolis=0.5, dry=1e-5, **bottom
    )
    state = np.stack([1 + 0.5 * ROUGH.random((1, *grid.shape)), *0.2 * ROUGH.normal(size=(2, 1, *grid.shape))], axis=1)
    state[:, :, :20, :30] = 0.0
    return equation, grid, state, stepper, 1e-3, cfl


def beams(stepper: str, ends: str):
    grid = Grid((60, 150), (12.0, 12.0), (-6.0, 0.0))
    state = np.exp(-(grid.coordinates(centres=True)[0][:, None] ** 2)) + 0.1 * ROUGH.random((1, 1, *grid.shape))
    return VlasovPoisson(ends=ends, positivity=ends == "open"), grid, state, stepper, 0.02, None


def plane():
    grid = Grid((50, 70), (1.0, 1.0))
    return Burgers2D(viscosity=1e-3), grid, ROUGH.normal(size=(1, 2, *grid.shape)), "rk4", 1e-4, None


def charges(force: str):
    grid = Grid((90,), (90.0,))
    equation = ChargedParticles(force=force, softening=0.1, rest_length=0.1, force_limit=20.0)
    return equation, grid, RandomParticles().state(equation, grid, (0,), 0), "velocity-verlet", 1e-3, None


PROBLEMS = {
    **{f"kolmogorov {name}": lambda name=name: flow(name) for name in compatible_schemes("semi-linear", ())},
    "water muscl": lambda: water("ssp-rk2", "muscl", False),
    "water muscl bowl": lambda: water("ssp-rk3", "muscl", True),
    "water weno5": lambda: water("ssp-rk3", "weno5", False),
    "water weno5 bowl": lambda: water("ssp-rk3", "weno5", True, cfl=None),
    "water sweeps": lambda: water("dimension-split", "muscl", False),
    "water sweeps bowl": lambda: water("dimension-split", "muscl", True),
    **{
        f"vlasov {name} {ends}": lambda name=name, ends=ends: beams(name, ends)
        for name in ("rk4", "strang", "ssp-rk3")
        for ends in ("closed", "open")
    },
    "burgers plane": plane,
    **{f"particles {force}": lambda force=force: charges(force) for force in ("coulomb", "gravity", "springs")},
}
problem = cache(lambda name: PROBLEMS[name]())


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", PROBLEMS)
def test_one_member_has_the_same_bytes_on_any_number_of_threads(name, precision, monkeypatch):
    monkeypatch.setattr(pool, "PORTION", 1.0)  # nanoseconds: all that can be divided is divided
    monkeypatch.setattr(particles, "MANY", 50)
    calls, run = [], pool._pool.run
    monkeypatch.setattr(pool._pool, "run", lambda *arguments: (calls.append(arguments[2]), run(*arguments)))
    equation, grid, state, stepper, step, cfl = problem(name)
    found = {}
    for threads in (1, 2, 3):
        backend = Backend(precision=precision)
        simulation = Simulation(equation, grid, stepper, step, state, cfl=cfl, threads=threads, backend=backend)
        simulation.run(2)
        assert np.isfinite(np.asarray(simulation.state)).all()
        found[threads] = simulation.internal.tobytes()
    assert found[1] == found[2] == found[3]
    assert {2, 3} <= set(calls)


def test_frozen_tendencies_and_members_that_remain_have_the_same_bytes_on_any_number_of_threads(monkeypatch):
    """Three lanes on two threads: two at a time, and the third divided."""
    from subgrid.solver.closure import Closure, Coupled, Tendency
    from subgrid.solver.simulation import ensemble

    class Damping(Closure):
        def start(self, problem):
            return {}

        def __call__(self, view, memory):
            return Tendency(-0.5 * view.state), {}

    monkeypatch.setattr(pool, "PORTION", 1.0)
    monkeypatch.setattr(ensemble, "DIVIDED_POINTS", 1)
    monkeypatch.setattr(ensemble, "LANE_POINTS", 1)
    for name in ("kolmogorov etdrk2", "kolmogorov cnab2", "water muscl", "water sweeps", "vlasov rk4", "vlasov strang"):
        equation, grid, state, stepper, step, cfl = problem(name if "vlasov" not in name else f"{name} closed")
        many, found = np.concatenate([state, 0.9 * state, 0.8 * state]), []
        for threads in (1, 2, 3):
            simulation = Simulation(
                equation, grid, stepper, step, many, cfl=cfl, threads=threads, closures=[Coupled("damping", Damping())]
            )
            assert len(simulation._ensemble._lanes) == 3
            simulation.run(2)
            found.append(simulation.internal.tobytes())
        assert found[0] == found[1] == found[2], name


def test_a_blow_up_on_another_thread_is_raised(monkeypatch):
    from subgrid.solver.simulation import BlowUp

    monkeypatch.setattr(pool, "PORTION", 1.0)
    equation, grid, state, stepper, step, cfl = problem("water muscl")
    state = state.copy()
    state[0, 1, -1, -1] = np.nan
    for threads in (1, 2, 3):
        with pytest.raises(BlowUp, match="signal speeds are not finite"):
            Simulation(equation, grid, stepper, step, state, cfl=cfl, threads=threads).run(2)
