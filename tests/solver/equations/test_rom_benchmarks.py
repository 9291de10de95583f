"""The equations of the reduced-order benchmarks: the prescribed oscillator, and Burgers in the plane."""

from __future__ import annotations

import array_api_compat.torch
import array_api_strict
import numpy as np
import pytest

from subgrid.solver.equations import Burgers, Burgers2D, Equation, Oscillator
from subgrid.solver.equations.burgers.initial import GaussianVelocity
from subgrid.solver.equations.oscillator import OscillatorFormula
from subgrid.solver.grid import Grid
from subgrid.solver.simulation import Simulation
from subgrid.solver.spectral import Operators

LINE = Grid((60,), (6.0,), (-3.0,))
PLANE = Grid((16, 20), (6.0, 6.0), (-3.0, -3.0))


@pytest.mark.parametrize(
    ("equation", "grid"),
    [
        (Oscillator(amplitude=1.3), LINE),
        (Burgers2D(viscosity=0.02), PLANE),
        (Burgers2D(viscosity=0.02, omit=("advection",)), PLANE),
        (Burgers2D(viscosity=0.02, omit=("diffusion",)), PLANE),
    ],
)
def test_compiled_equals_array_code(equation: Equation, grid: Grid):
    """To round-off, on random states of either sign."""
    u = np.random.default_rng(0).standard_normal((3, len(equation.fields), *grid.shape))
    batch = u.reshape(-1, *(grid.shape if grid.dimensions == 2 else (1, *grid.shape)))
    compiled = np.zeros_like(batch)
    equation.right_hand_side(grid, 3)(batch, 0.7, compiled)
    for xp in (np, array_api_strict, array_api_compat.torch):
        code = np.asarray(equation.nonlinear(Operators(grid, xp), xp.asarray(u), 0.7))
        np.testing.assert_allclose(code, compiled.reshape(u.shape), rtol=0, atol=1e-13 * np.abs(compiled).max())


def test_the_oscillator_is_its_formula_to_fourth_order():
    """Simpson's rule: sixteen times closer with half the step, and at round-off soon."""
    equation, initial, off = Oscillator(amplitude=1.2), OscillatorFormula(time=0.5), []
    for steps in (200, 400, 6400):
        simulation = Simulation(equation, LINE, "rk4", 2.0 / steps, initial.state(equation, LINE, (0, 1), 0), start=0.5)
        simulation.advance(steps)
        off.append(np.abs(simulation.state - initial.exact(equation, LINE, 2.0, (0, 1), 0)).max())
    assert 14 < off[0] / off[1] < 18
    assert off[2] < 1e-10
    assert np.abs(simulation.state).max() > 0.5


def test_a_plane_wave_is_that_of_one_dimension():
    """u(x), v = 0 and its mirror image solve the equation in one dimension, up to the form of the advection."""
    line, plane = Grid((64,), (6.0,)), Grid((4, 64), (1.0, 6.0))
    u = 0.6 + 0.4 * np.sin(2 * np.pi / 6 * line.coordinates(centres=True)[0])
    one = Simulation(Burgers(viscosity=0.01, discretisation="finite-volume"), line, "rk4", 0.01, u[None, None])
    one.advance(100)
    along_x = np.zeros((1, 2, 4, 64))
    along_x[0, 0] = u
    two = Simulation(Burgers2D(viscosity=0.01), plane, "rk4", 0.01, along_x)
    two.advance(100)
    assert np.abs(two.state[0, 0] - one.state[0, 0]).max() < 2e-3 < np.abs(two.state[0, 0] - u).max()
    assert np.abs(two.state[0, 1]).max() == 0
    turned = Simulation(
        Burgers2D(viscosity=0.01), Grid((64, 4), (6.0, 1.0)), "rk4", 0.01, along_x[:, ::-1].swapaxes(2, 3).copy()
    )
    turned.advance(100)
    np.testing.assert_allclose(turned.state, two.state[:, ::-1].swapaxes(2, 3), rtol=0, atol=1e-14)


def test_second_order_without_new_extrema():
    """Against a fine grid where it is smooth; from a jump nothing overshoots."""
    equation, initial = Burgers2D(viscosity=1e-3), GaussianVelocity(amplitude=0.8)
    found = {}
    for n in (30, 60, 120, 240):
        grid = Grid((n, n), (6.0, 6.0), (-3.0, -3.0))
        simulation = Simulation(equation, grid, "ssp-rk3", 0.01, initial.state(equation, grid, (0,), 0))
        simulation.advance(30)
        found[n] = simulation.state.reshape(2, 30, n // 30, 30, n // 30).mean(axis=(2, 4))
    off = {n: np.abs(found[n] - found[240]).mean() for n in (60, 120)}
    assert 3.2 < off[60] / off[120] < 7
    jump = np.zeros((1, 2, 16, 20))
    jump[:, :, 4:9, 6:12] = 1.0
    simulation = Simulation(Burgers2D(viscosity=0.0), PLANE, "ssp-rk3", 0.05, jump)
    simulation.advance(40)
    assert simulation.state.min() > -1e-13 and simulation.state.max() < 1 + 1e-13


def test_initial_states_are_for_their_equations():
    equation = Burgers2D(viscosity=0.0)
    state = GaussianVelocity(amplitude=0.8, width=1.1).state(equation, PLANE, (0, 1), 0)
    assert state.shape == (2, 2, 16, 20)
    cell = np.prod(PLANE.spacing)
    assert state[0, 0].sum() * cell == pytest.approx(0.8 * np.pi * 1.1, rel=2e-3)
    with pytest.raises(ValueError, match="for the equation burgers-2d, not for oscillator"):
        GaussianVelocity().state(Oscillator(), LINE, (0,), 0)
    with pytest.raises(ValueError, match="for the equation oscillator, not for burgers-2d"):
        OscillatorFormula().state(equation, PLANE, (0,), 0)
