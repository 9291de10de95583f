import math
import os
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest

from subgrid.solver.equations import Burgers, Kolmogorov
from subgrid.solver.equations.forcing import SineForcing
from subgrid.solver.grid import Grid
from subgrid.solver.spectral import Transforms
from subgrid.solver.time_stepping.compiled import Stepper, bind
from subgrid.solver.time_stepping.phi import phi
from subgrid.solver.time_stepping.schemes import STEPPERS, Multistep, compatible_schemes

LINE = Grid((32,), (2 * np.pi,))
PLANE = Grid((16, 16), (2 * np.pi, 2 * np.pi))
BURGERS = Burgers(viscosity=0.1)
KOLMOGOROV = Kolmogorov(viscosity=0.1, drag=0.2, forcing=SineForcing(amplitude=1.0, wavenumber=2))
PROBLEMS = {"burgers": (BURGERS, LINE), "kolmogorov": (KOLMOGOROV, PLANE)}


def smooth(grid: Grid) -> np.ndarray:
    """A flow of low wavenumbers, as (batch, row, column) of Fourier coefficients."""
    x = grid.coordinates()[-1]
    u = 0.5 + np.sin(x) + 0.3 * np.cos(2 * x)
    if grid.dimensions == 2:
        y = grid.coordinates()[0][:, None]
        u = np.sin(x) * np.cos(2 * y) + 0.5 * np.cos(2 * x + y) + np.sin(y)
    return Transforms(grid).to_spectrum(u[None]).reshape(1, -1, grid.spectral_shape[-1])


def stepper(name: str, equation, grid: Grid, u: np.ndarray, step: float) -> Stepper:
    return bind(STEPPERS[name], equation.right_hand_side(grid, len(u)), u.shape, str(u.dtype), step)


def integrate(name: str, equation, grid: Grid, steps: int, end: float) -> np.ndarray:
    u = smooth(grid)
    s = stepper(name, equation, grid, u, end / steps)
    for n in range(steps):
        s.advance(u, n * end / steps, None)
    return u


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("name", compatible_schemes("semi-linear", ()))
def test_order(name, problem):
    equation, grid = PROBLEMS[problem]
    fine = integrate("etdrk4", equation, grid, 800, 1.0)
    coarse = 20 if STEPPERS[name].order > 2 else 160
    errors = [np.abs(integrate(name, equation, grid, n, 1.0) - fine).max() for n in (coarse, 2 * coarse)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(STEPPERS[name].order, abs=0.2)


@pytest.mark.parametrize("name", compatible_schemes("balance-law", ()))
def test_explicit_schemes_step_modes_beyond_the_cut(name):
    """There N = 0, and u_{n+1} / u_n is the Taylor polynomial of e^z of the scheme's order."""
    step, cut = 0.01, LINE.cuts[0]
    u = smooth(LINE)
    u[..., cut + 1 :] = 1.0
    s = stepper(name, BURGERS, LINE, u, step)
    for n in range(5):
        s.advance(u, n * step, None)
    z = -step * BURGERS.viscosity * LINE.wavenumbers()[0][cut + 1 :] ** 2
    growth = sum(z**k / math.factorial(k) for k in range(STEPPERS[name].order + 1))
    np.testing.assert_allclose(u[0, 0, cut + 1 :], growth**5, rtol=1e-13)


@pytest.mark.parametrize("name", compatible_schemes("semi-linear", ()))
def test_a_frozen_tendency_weighs_as_a_constant_nonlinear_term(name):
    """du/dt = L u + F, from u = 0: exactly (e^z - 1) / L F for exponential schemes, h F for L = 0 in all."""
    equation = Burgers(viscosity=0.1, omit=("advection",))
    step, u = 0.05, smooth(LINE) * 0
    force = smooth(LINE)
    stepper(name, equation, LINE, u, step).advance(u, 0.0, force)
    z = -step * equation.viscosity * LINE.wavenumbers()[0] ** 2
    scheme = STEPPERS[name]
    if isinstance(scheme, Multistep):
        exact = step / (1 - z / 2)
    elif scheme.linear == "exponential":
        exact = step * phi(1, z)
    else:
        exact = step * sum(z**k / math.factorial(k + 1) for k in range(scheme.order))
    np.testing.assert_allclose(u[0, 0], exact * force[0, 0], rtol=0, atol=1e-16)
    assert u[0, 0, 0] == pytest.approx(step * force[0, 0, 0], rel=1e-14)


@pytest.mark.parametrize("name", compatible_schemes("semi-linear", ()))
def test_a_frozen_tendency_leads_to_the_steady_state(name):
    """L u + F = 0 in the end, whatever the step."""
    equation = Burgers(viscosity=1.0, omit=("advection",))
    u, force = smooth(LINE), smooth(LINE)
    force[..., 0] = 0
    s = stepper(name, equation, LINE, u, 0.008)
    for n in range(6000):
        s.advance(u, n * 0.008, force)
    k2 = LINE.wavenumbers()[0] ** 2
    np.testing.assert_allclose(u[0, 0, 1:], force[0, 0, 1:] / k2[1:], atol=1e-13)


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("name", compatible_schemes("semi-linear", ()))
def test_restart_from_memory_continues_bit_for_bit(name, problem):
    equation, grid = PROBLEMS[problem]
    u = smooth(grid)
    u[..., -1] = 0.01
    whole = stepper(name, equation, grid, u, 0.01)
    for n in range(3):
        whole.advance(u, n * 0.01, None)
    v = u.copy()
    continued = stepper(name, equation, grid, v, 0.01)
    for key, value in continued.memory.items():
        value[...] = whole.memory[key]
    for n in range(3, 6):
        whole.advance(u, n * 0.01, None)
        continued.advance(v, n * 0.01, None)
    assert np.array_equal(u, v)


@pytest.mark.parametrize("name", [n for n in STEPPERS if isinstance(STEPPERS[n], Multistep)])
def test_restart_without_history_is_a_first_step(name):
    u = smooth(LINE)
    s = stepper(name, BURGERS, LINE, u, 0.01)
    s.advance(u, 0.0, None)
    v = u.copy()
    s.restart()
    s.advance(u, 0.01, None)
    stepper(name, BURGERS, LINE, v, 0.01).advance(v, 0.01, None)
    assert np.array_equal(u, v)


@pytest.mark.parametrize("name", compatible_schemes("semi-linear", ()))
def test_a_member_steps_the_same_alone_and_in_a_batch(name):
    one = smooth(PLANE)
    batch = np.concatenate([0.5 * one, one, 2 * one])
    a, b = stepper(name, KOLMOGOROV, PLANE, one, 0.01), stepper(name, KOLMOGOROV, PLANE, batch, 0.01)
    for n in range(3):
        a.advance(one, n * 0.01, None)
        b.advance(batch, n * 0.01, None)
    assert np.array_equal(batch[1:2], one)


def exact_phi(order: int, z: complex) -> complex:
    """sum_n z^n / (n + order)!, summed in rational numbers and rounded once."""
    x, y = Fraction(z.real), Fraction(z.imag)
    real, imaginary, a, b = Fraction(0), Fraction(0), Fraction(1), Fraction(0)
    for n in range(220):
        real += a / math.factorial(n + order)
        imaginary += b / math.factorial(n + order)
        a, b = a * x - b * y, a * y + b * x
    return complex(real, imaginary)


@pytest.mark.parametrize("z", [0, -1e-8, -1e-3, -1, -50, 1j])
@pytest.mark.parametrize("order", [0, 1, 2, 3])
def test_phi(order, z):
    """Where the contour of 64 points passes closest to 0, |z| = 1, the quotient loses at most (64 / pi)^3 eps."""
    value = phi(order, np.array([z]))[0]
    assert abs(value - exact_phi(order, complex(z))) <= 2e-13 * abs(exact_phi(order, complex(z)))
    assert np.iscomplexobj(value) == np.iscomplexobj(z)


def test_bits_do_not_depend_on_the_order_of_compilation(tmp_path):
    """A run gives the same bytes whether or not `add_linear`, which rk4 needs, was compiled before its kernels."""
    code = """
import sys
import numpy as np
from subgrid.solver.equations import Kolmogorov
from subgrid.solver.grid import Grid
from subgrid.solver.simulation import Simulation
from subgrid.solver.time_stepping.kernels import add_linear

if "first" in sys.argv:
    add_linear(np.ones((1, 4, 4), complex), np.ones((1, 4, 4)), np.ones((1, 4, 4), complex), 0, 4)
state = np.random.default_rng(0).standard_normal((1, 1, 16, 16))
run = Simulation(Kolmogorov(viscosity=0.01), Grid((16, 16), (6.0, 6.0)), "etdrk2", 1e-3, state)
run.run(5)
print(run.internal.tobytes().hex())
"""
    found = []
    for order in ("first", "last"):
        environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / order)}
        command = [sys.executable, "-c", code, order]
        found.append(subprocess.run(command, capture_output=True, text=True, env=environment, check=True).stdout)
    assert found[0] == found[1]
