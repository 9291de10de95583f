import array_api_compat.torch
import array_api_strict
import numpy as np
import pytest

from subgrid.solver.equations import LinearAdvection
from subgrid.solver.grid import Grid
from subgrid.solver.initial.profiles import GaussianPulse, Riemann, Sine
from subgrid.solver.simulation import Simulation
from subgrid.solver.spectral import Operators, Transforms
from subgrid.solver.time_stepping.schemes import STEPPERS, needs_linear


def run(equation: LinearAdvection, initial, cells: int, stepper: str, steps: int, end: float) -> np.ndarray:
    """State minus exact solution at `end`, (x,), on a domain of length 2."""
    grid = Grid((cells,), (2.0,))
    simulation = Simulation(equation, grid, stepper, end / steps, initial.state(equation, grid, (0,), 0))
    simulation.advance(steps)
    return (simulation.state - initial.exact(equation, grid, end, (0,), 0))[0, 0]


@pytest.mark.parametrize("speed", [1.3, -0.7])
@pytest.mark.parametrize("stepper", ["etdrk2", "etdrk4"])
def test_fourier_modes_shift_exactly_at_any_step(stepper, speed):
    error = run(LinearAdvection(speed=speed), GaussianPulse(centre=0.4, width=0.1), 64, stepper, 3, 7.5)
    assert np.abs(error).max() < 1e-12


@pytest.mark.parametrize("name", [n for n in STEPPERS if needs_linear(STEPPERS[n])])
def test_every_stepper_takes_an_imaginary_operator(name):
    """Errors of order p in h: below c (k h)^(p + 1) steps, k = 2 pi, for the constants of these schemes."""
    steps = 2000
    error = run(LinearAdvection(speed=1.0), Sine(wavenumber=2.0), 16, name, steps, 1.0)
    z, order = 2 * np.pi / steps, STEPPERS[name].order
    assert np.abs(error).max() < steps * z ** (order + 1) + 1e-12


def test_the_nyquist_mode_stays():
    equation, grid = LinearAdvection(speed=1.0), Grid((8,), (2.0,))
    assert equation.linear(Operators(grid))[-1] == 0
    zigzag = (-1.0) ** np.arange(8)[None, None]
    simulation = Simulation(equation, grid, "etdrk2", 0.3, zigzag)
    simulation.advance(5)
    np.testing.assert_allclose(simulation.state, zigzag, atol=1e-15)


@pytest.mark.parametrize(("reconstruction", "order"), [("muscl", 1.8), ("weno5", 4.8)])
@pytest.mark.parametrize("speed", [1.0, -1.0])
def test_order_of_finite_volumes_on_smooth_data(reconstruction, order, speed):
    """In L1; the steps of rk4 are small enough for space to lead."""
    equation = LinearAdvection(speed=speed, discretisation="finite-volume", reconstruction=reconstruction)
    initial = Sine(wavenumber=1.0, offset=0.3)
    errors = [np.abs(run(equation, initial, n, "rk4", 8 * n, 1.0)).mean() for n in (40, 80)]
    assert np.log2(errors[0] / errors[1]) >= order


@pytest.mark.parametrize("speed", [1.0, -1.0])
def test_muscl_makes_no_new_extrema_and_keeps_the_mass(speed):
    equation = LinearAdvection(speed=speed, discretisation="finite-volume", reconstruction="muscl")
    grid = Grid((50,), (2.0,))
    state = Riemann(left=1.0, right=-0.5, position=0.9).state(equation, grid, (0,), 0)
    simulation = Simulation(equation, grid, "ssp-rk3", 0.5 * 0.04, state)
    variation = [np.abs(np.diff(state[0, 0], append=state[0, 0, :1])).sum()]
    for _ in range(100):
        simulation.advance(1)
        u = simulation.state[0, 0]
        assert u.max() <= 1 + 1e-13
        assert u.min() >= -0.5 - 1e-13
        variation.append(np.abs(np.diff(u, append=u[:1])).sum())
    assert np.diff(variation).max() <= 1e-13
    mass = equation.invariants(state, grid)["mass"]
    np.testing.assert_allclose(equation.invariants(simulation.state, grid)["mass"], mass, atol=1e-14)


@pytest.mark.parametrize("speed", [1.3, -0.7])
@pytest.mark.parametrize("reconstruction", ["muscl", "weno5"])
def test_compiled_equals_array_code(reconstruction, speed):
    grid = Grid((48,), (3.0,))
    equation = LinearAdvection(speed=speed, discretisation="finite-volume", reconstruction=reconstruction)
    u = np.random.default_rng(0).standard_normal((3, 1, 48))
    compiled = np.zeros_like(u)
    equation.right_hand_side(grid, 3)(u, 0.0, compiled)
    for xp in (np, array_api_strict, array_api_compat.torch):
        code = np.asarray(equation.nonlinear(Operators(grid, xp), xp.asarray(u), 0.0))
        np.testing.assert_allclose(code, compiled, rtol=0, atol=1e-13 * np.abs(compiled).max())


def test_omitting_advection_leaves_the_state():
    for discretisation in ("fourier", "finite-volume"):
        equation = LinearAdvection(speed=1.0, discretisation=discretisation, omit=("advection",))
        error = run(equation, Sine(), 32, "ssp-rk3", 10, 1.0)
        assert np.abs(error).max() < 1e-15
        assert equation.signal_speed(np.ones((1, 1, 32)), Grid((32,), (2.0,))) == (0.0,)


def test_array_code_on_fourier_modes_has_no_nonlinear_term():
    grid = Grid((16,), (1.0,))
    u_hat = Transforms(grid).to_spectrum(np.random.default_rng(0).standard_normal((1, 1, 16)))
    assert not np.any(LinearAdvection(speed=1.0).nonlinear(Operators(grid), u_hat, 0.0))
