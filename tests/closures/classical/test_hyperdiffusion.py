"""Hyperdiffusion in v against its closed form, and against the recurrence of a coarse grid."""

import numpy as np
import pytest

from subgrid.closures.classical.hyperdiffusion import Hyperdiffusion
from subgrid.solver.closure import ClosureError, Coupled, Problem
from subgrid.solver.equations import Burgers, VlasovPoisson
from subgrid.solver.equations.vlasov_poisson.initial import Landau
from subgrid.solver.grid import Grid
from subgrid.solver.simulation import Simulation

STILL = VlasovPoisson(omit=("streaming", "field"))


def run(equation, grid, state, closures, *, step=0.1, steps=30, stepper="strang"):
    simulation = Simulation(equation, grid, stepper, step, state, closures=closures)
    simulation.run(steps)
    return simulation.state


@pytest.mark.parametrize(("order", "rate"), [(1, 0.3), (4, 2.0), (8, 1e6)])
@pytest.mark.parametrize(("stepper", "every"), [("strang", 5), ("rk4", 1)])
def test_every_wave_decays_as_its_closed_form_says(order, rate, stepper, every):
    """exp(-rate sin(pi m / 2 n)^(2 order) t) at every rate, where nothing else happens; the mean stays."""
    n, grid = 24, Grid((24, 6), (8.0, 1.0), (-4.0, 0.0))
    closure = Coupled("hyperdiffusion", Hyperdiffusion(order=order, rate=rate), every=every)
    for m in (0, 1, 7, 23):
        wave = np.cos(np.pi * m * (np.arange(n) + 0.5) / n)
        state = np.broadcast_to(wave[:, None], (2, 1, n, 6)).copy()
        end = run(STILL, grid, state, [closure], stepper=stepper)
        decay = np.exp(-rate * np.sin(np.pi * m / (2 * n)) ** (2 * order) * 3.0)
        np.testing.assert_allclose(end, decay * state, atol=1e-12)


def test_it_is_the_power_of_a_second_difference_and_keeps_the_mass():
    """For a short interval, -nu (-1)^p d^2p f with nu = rate (dv / 2)^(2 p), away from the ends."""
    grid, p, rate = Grid((40, 8), (10.0, 1.0)), 2, 3.0
    closure = Hyperdiffusion(order=p, rate=rate)
    closure.start(Problem(STILL, grid, 1e-9, 1, 0.0, (0,), 0))
    state = np.random.default_rng(0).random((1, 1, 40, 8))
    difference = np.diff(state, 2 * p, axis=-2) / grid.spacing[0] ** (2 * p)
    found = closure._factor @ state
    np.testing.assert_allclose(
        found[..., p:-p, :], -rate * (grid.spacing[0] / 2) ** (2 * p) * difference, atol=1e-6 * rate
    )
    np.testing.assert_allclose(found.sum(axis=-2), 0, atol=1e-12)


def test_it_takes_the_recurrence_away():
    """Stripes narrower than the grid come back as a field at t = 2 pi / (k dv). Damped at the grid scale they do not,
    and until then the field is what it was.
    """
    grid = Grid((32, 32), (12.0, 4 * np.pi), (-6.0, 0.0))  # dv = 3/8, k = 1/2: t = 33.5
    equation = VlasovPoisson()
    state = Landau(amplitude=1e-3).state(equation, grid, (0,), 0)
    fields = []
    for closures in ([], [Coupled("hyperdiffusion", Hyperdiffusion(order=4, rate=1.0))]):
        simulation = Simulation(equation, grid, "strang", 0.1, state, closures=closures)
        history = []
        for n in range(10, 410, 10):
            simulation.run(n)
            history.append(np.abs(equation.electric_field(simulation.state, grid)).max())
        fields.append(np.array(history))
    without, damped = fields
    assert without[29:36].max() > 10 * damped[29:36].max()
    np.testing.assert_allclose(damped[:12], without[:12], atol=0.02 * without[0])


def test_it_is_refused_for_other_equations():
    problem = Problem(Burgers(viscosity=0.1), Grid((8,), (1.0,)), 0.1, 1, 0.0, (0,), 0)
    with pytest.raises(ClosureError, match=r"vlasov-poisson"):
        Hyperdiffusion().start(problem)
