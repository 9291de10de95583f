import array_api_compat.torch
import array_api_strict
import numpy as np
import pytest
from scipy.special import ive

from subgrid.solver.equations import Burgers
from subgrid.solver.equations.burgers.exact import cole_hopf, dirichlet_solution, riemann_solution
from subgrid.solver.grid import Grid
from subgrid.solver.initial.profiles import BurgersDirichlet, Riemann, Sine
from subgrid.solver.random import QWiener
from subgrid.solver.simulation import Simulation
from subgrid.solver.spectral import Operators, Transforms

CIRCLE = 2 * np.pi


def volumes(viscosity: float, **options) -> Burgers:
    return Burgers(viscosity=viscosity, discretisation="finite-volume", **options)


def error(equation: Burgers, initial, grid: Grid, stepper: str, steps: int, end: float) -> np.ndarray:
    """State minus exact solution at `end`, (x,)."""
    simulation = Simulation(equation, grid, stepper, end / steps, initial.state(equation, grid, (0,), 0))
    simulation.advance(steps)
    exact = initial.exact(equation, grid, end, (0,), 0)
    assert exact is not None
    return (simulation.state - exact)[0, 0]


# -- closed forms ------------------------------------------------------------------------------------------


def test_cole_hopf_equals_its_fourier_series():
    """For u_0 = sin x, u = 4 nu sum n c_n sin(n x) / (c_0 + 2 sum c_n cos(n x)), c_n = I_n(1 / 2 nu) exp(-nu n^2 t)."""
    x, n, nu = np.linspace(0, CIRCLE, 40), np.arange(1, 60), 0.2
    for t in (0.0, 0.01, 1.0, 20.0):
        # -cos x is a potential of sin x, and exp(cos(x) / 2 nu) = I_0 + 2 sum I_n cos(n x)
        c = ive(n, 1 / (2 * nu)) * np.exp(-nu * n**2 * t)
        above = 4 * nu * (n * c * np.sin(np.outer(x, n))).sum(1)
        below = ive(0, 1 / (2 * nu)) + 2 * (c * np.cos(np.outer(x, n))).sum(1)
        u = cole_hopf(x, t, nu, CIRCLE, np.sin, lambda y: -np.cos(y))
        np.testing.assert_allclose(u, above / below, atol=1e-12)


def residual(solution, x: np.ndarray, t: float, viscosity: float, h: float) -> np.ndarray:
    """u_t + u u_x - nu u_xx by central differences of fourth order."""
    u_t = (8 * (solution(x, t + h) - solution(x, t - h)) - solution(x, t + 2 * h) + solution(x, t - 2 * h)) / 12 / h
    values = [solution(x + i * h, t) for i in (-2, -1, 0, 1, 2)]
    u_x = (values[0] - 8 * values[1] + 8 * values[3] - values[4]) / (12 * h)
    u_xx = (-values[0] + 16 * values[1] - 30 * values[2] + 16 * values[3] - values[4]) / (12 * h**2)
    return u_t + values[2] * u_x - viscosity * u_xx


def test_closed_forms_satisfy_the_equation():
    x = np.linspace(0.1, 0.95, 30)

    def from_sine(x, t):
        return cole_hopf(x, t, 0.05, CIRCLE, np.sin, lambda y: -np.cos(y))

    assert np.abs(residual(from_sine, x, 0.7, 0.05, 1e-3)).max() < 1e-8
    assert np.abs(residual(lambda x, t: dirichlet_solution(x, t, 100), x, 0.7, 0.01, 1e-3)).max() < 1e-5


@pytest.mark.parametrize("boundary", ["periodic", "dirichlet"])
def test_a_profile_of_the_viscosity_dissipates_what_the_energy_loses(boundary):
    """<u (nu m u_x)_x> = -nu <m u_x^2>, and the momentum is that of the ends, also where m jumps between them."""
    grid = Grid((256,), (1.0,))
    options = {"discretisation": "finite-volume", "boundary": boundary, "omit": ("advection",)}
    equation = Burgers(viscosity=0.3, viscosity_profile="1 + 4*x", **options)
    x = grid.coordinates(centres=True)[0]
    u = np.sin(2 * np.pi * x)[None, None]
    rate = equation.nonlinear(Operators(grid), u, 0.0)
    np.testing.assert_allclose(equation.diagnostics(u, grid)["dissipation"], -(u * rate).mean(axis=(1, 2)), rtol=1e-3)
    if boundary == "periodic":
        assert abs(rate.mean()) < 1e-12 * np.abs(rate).max()


@pytest.mark.parametrize("reynolds", [1000.0, 3600.0, 1e5])
def test_the_dirichlet_solution_does_not_overflow(reynolds):
    x = np.linspace(0, 1, 101)
    with np.errstate(over="raise", invalid="raise", under="ignore"):
        for t in (0.0, 1.0, 2.0):
            u = dirichlet_solution(x, t, reynolds)
            front = np.sqrt((t + 1) / 4)
            np.testing.assert_allclose(u[x < front - 0.15], x[x < front - 0.15] / (t + 1), rtol=1e-3)
            assert u[0] == 0
            assert u[-1] < 1e-8


# -- Fourier -----------------------------------------------------------------------------------------------


def test_fourier_converges_to_cole_hopf_faster_than_any_order():
    """Doubling the points squares the error of an analytic solution, down to that of the steps."""
    equation, initial = Burgers(viscosity=0.2), Sine(offset=0.4, phase=0.3)
    grids = [Grid((n,), (CIRCLE,)) for n in (32, 64, 128)]
    errors = [np.abs(error(equation, initial, grid, "etdrk4", 1000, 1.0)).max() for grid in grids]
    assert errors[0] < 1e-3
    assert errors[1] < 3 * errors[0] ** 2
    assert errors[2] < 1e-11


def test_fourier_conserves_momentum_always_and_energy_without_viscosity():
    """<u N> = 0 for the kept modes, by the 2/3 rule."""
    grid, equation = Grid((48,), (3.0,)), Burgers(viscosity=0.0)
    transforms = Transforms(grid)
    u_hat = transforms.to_spectrum(np.random.default_rng(0).standard_normal((2, 1, 48))) * grid.mask()
    out = np.zeros_like(u_hat)
    equation.right_hand_side(grid, 2)(u_hat.copy(), 0.0, out)
    u, rate = transforms.to_physical(u_hat), transforms.to_physical(out)
    scale = np.abs(u).max() * np.abs(rate).max()
    np.testing.assert_allclose(rate.mean(-1), 0, atol=1e-15 * scale)
    np.testing.assert_allclose((u * rate).mean(-1), 0, atol=1e-15 * scale)


def test_energy_falls_by_viscosity():
    """d<u^2/2>/dt = -nu <u_x^2>."""
    grid, equation = Grid((48,), (3.0,)), Burgers(viscosity=0.3)
    operators = Operators(grid)
    u_hat = operators.forward(np.random.default_rng(0).standard_normal((2, 1, 48))) * grid.mask()
    rhs = equation.right_hand_side(grid, 2)
    out = np.zeros_like(u_hat)
    rhs(u_hat.copy(), 0.0, out)
    rate = operators.inverse(out + rhs.linear * u_hat)
    dissipation = 0.3 * (operators.inverse(1j * operators.k[0] * u_hat) ** 2).mean(-1)
    np.testing.assert_allclose((operators.inverse(u_hat) * rate).mean(-1), -dissipation, rtol=1e-12)


# -- finite volumes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("reconstruction", "order"), [("muscl", 1.8), ("weno5", 3.7)])
def test_order_on_viscous_data(reconstruction, order):
    """Cole-Hopf in L1; the viscous flux limits weno5 to fourth order, neared from below."""
    equation, initial = volumes(0.1, reconstruction=reconstruction), Sine(offset=0.3)
    grids = [Grid((n,), (CIRCLE,)) for n in (160, 320)]
    errors = [np.abs(error(equation, initial, grid, "rk4", 4 * grid.points, 0.8)).mean() for grid in grids]
    assert np.log2(errors[0] / errors[1]) >= order


@pytest.mark.parametrize(("reconstruction", "order"), [("muscl", 1.8), ("weno5", 4.8)])
def test_order_without_viscosity_before_the_shock(reconstruction, order):
    """u = u_0(x - u t), found by Newton's iteration, for u_0 = 0.3 + sin x at t = 0.3, in L1."""
    initial = Sine(offset=0.3)
    nodes, weights = np.polynomial.legendre.leggauss(6)

    def characteristics(grid: Grid, t: float) -> np.ndarray:
        x = grid.coordinates(centres=True)[0][:, None] + 0.5 * grid.spacing[0] * nodes
        u = initial.at(x, CIRCLE)
        for _ in range(30):
            u -= (u - 0.3 - np.sin(x - u * t)) / (1 + t * np.cos(x - u * t))
        return u @ weights / 2

    errors = []
    for n in (80, 160):
        equation, grid = volumes(0.0, reconstruction=reconstruction), Grid((n,), (CIRCLE,))
        simulation = Simulation(equation, grid, "rk4", 0.3 / n, initial.state(equation, grid, (0,), 0))
        simulation.advance(n)
        errors.append(np.abs(simulation.state[0, 0] - characteristics(grid, 0.3)).mean())
    assert np.log2(errors[0] / errors[1]) >= order


@pytest.mark.parametrize(("reynolds", "cells"), [(400, 256), (1000, 512), (3600, 1024), (3600, 2048)])
@pytest.mark.parametrize(("reconstruction", "constant", "order"), [("muscl", 0.03, 2), ("weno5", 0.005, 4)])
def test_dirichlet_closed_form(reynolds, cells, reconstruction, constant, order):
    """The error is one constant times (cell / width of the front)^order at every Re; the front is 8 / Re wide."""
    equation = volumes(1 / reynolds, reconstruction=reconstruction, boundary="dirichlet")
    grid, initial = Grid((cells,), (1.0,)), BurgersDirichlet(reynolds=reynolds)
    wrong = error(equation, initial, grid, "ssp-rk3", max(2, cells // 512) * cells, 0.4)
    assert np.abs(wrong).max() < constant * (reynolds / 8 / cells) ** order
    assert np.abs(wrong[: cells // 4]).max() < 1e-10


def test_odd_sine_between_walls_is_cole_hopf():
    """Half a wave on [0, L] with u = 0 at both ends is half of a periodic solution, to the order of the scheme."""
    equation, initial = volumes(0.02, reconstruction="weno5", boundary="dirichlet"), Sine(wavenumber=0.5)
    errors = [np.abs(error(equation, initial, Grid((n,), (1.0,)), "rk4", 4 * n, 0.4)).mean() for n in (50, 100)]
    assert np.log2(errors[0] / errors[1]) >= 3.5
    assert errors[1] < 1e-4


@pytest.mark.parametrize(("left", "right"), [(1.0, 0.0), (0.2, -1.0), (-0.5, 1.0), (1.0, 2.0)])
@pytest.mark.parametrize("reconstruction", ["muscl", "weno5"])
def test_shocks_and_rarefactions(left, right, reconstruction):
    """The L1 error is within a cell's width times the jump: the front is where the exact solution has it."""
    equation = volumes(0.0, reconstruction=reconstruction, boundary="dirichlet", left=left, right=right)
    grid, initial = Grid((200,), (2.0,)), Riemann(left=left, right=right, position=0.7)
    wrong = error(equation, initial, grid, "ssp-rk3", 150, 0.5)
    assert np.abs(wrong).mean() * 2.0 < grid.spacing[0] * abs(left - right)


def test_shock_speed():
    """A shock from 1.5 to 0.5 moves at 1: mass between two times says where it stands, to round-off."""
    equation = volumes(0.0, boundary="dirichlet", left=1.5, right=0.5)
    grid = Grid((100,), (2.0,))
    state = Riemann(left=1.5, right=0.5, position=0.5).state(equation, grid, (0,), 0)
    simulation = Simulation(equation, grid, "ssp-rk3", 0.005, state)
    simulation.advance(100)
    moved = 2.0 * (simulation.state - state).mean()
    assert moved == pytest.approx(1.0 * 0.5, abs=1e-13)
    front = simulation.state[0, 0] - np.where(grid.coordinates(centres=True)[0] < 1.0, 1.5, 0.5)
    assert np.abs(front[np.abs(np.arange(100) - 49.5) > 4]).max() < 1e-5


def test_muscl_makes_no_new_extrema_and_keeps_the_momentum():
    equation, grid = volumes(0.0), Grid((100,), (2.0,))
    state = np.random.default_rng(0).uniform(-1, 1, (1, 1, 100))
    simulation = Simulation(equation, grid, "ssp-rk3", 0.5 * 0.02, state)
    low, high, variation = (
        state.min(),
        state.max(),
        np.abs(np.diff(state)).sum() + abs(state[0, 0, 0] - state[0, 0, -1]),
    )
    for _ in range(100):
        simulation.advance(1)
        u = simulation.state
        assert low - 1e-13 <= u.min()
        assert u.max() <= high + 1e-13
        now = np.abs(np.diff(u)).sum() + abs(u[0, 0, 0] - u[0, 0, -1])
        assert now <= variation + 1e-13
        variation = now
    momentum = equation.invariants(state, grid)["momentum"]
    np.testing.assert_allclose(equation.invariants(simulation.state, grid)["momentum"], momentum, atol=1e-14)
    assert equation.signal_speed(state, grid) == (np.abs(state).max(),)


@pytest.mark.parametrize("reconstruction", ["muscl", "weno5"])
@pytest.mark.parametrize("boundary", ["periodic", "dirichlet"])
def test_mirror_symmetry(reconstruction, boundary):
    """x -> L - x turns u into -u, in every bit but the last."""
    ends = {"left": 0.5, "right": -0.5} if boundary == "dirichlet" else {}
    equation = volumes(0.1, reconstruction=reconstruction, boundary=boundary, **ends)
    u = np.random.default_rng(0).standard_normal((1, 1, 40))
    rhs, rate, mirrored = equation.right_hand_side(Grid((40,), (1.0,)), 1), np.zeros_like(u), np.zeros_like(u)
    rhs(u, 0.0, rate)
    rhs(np.ascontiguousarray(-u[..., ::-1]), 0.0, mirrored)
    np.testing.assert_allclose(-mirrored[..., ::-1], rate, atol=1e-14 * np.abs(rate).max())


# -- implementations and options ---------------------------------------------------------------------------


@pytest.mark.parametrize("omit", [(), ("advection",), ("diffusion",)])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"discretisation": "finite-volume", "reconstruction": "muscl"},
        {"discretisation": "finite-volume", "reconstruction": "weno5"},
        {"discretisation": "finite-volume", "boundary": "dirichlet", "left": 1, "right": -2},
        {
            "discretisation": "finite-volume",
            "reconstruction": "weno5",
            "boundary": "dirichlet",
            "left": 1,
            "right": -2,
        },
    ],
)
def test_compiled_equals_array_code(options, omit):
    grid, equation = Grid((48,), (3.0,)), Burgers(viscosity=0.1, omit=omit, **options)
    u = np.random.default_rng(0).standard_normal((3, 1, 48))
    if equation.kind == "semi-linear":
        u = Transforms(grid).to_spectrum(u)
    compiled = np.zeros_like(u)
    rhs = equation.right_hand_side(grid, 3)
    rhs(u.copy(), 0.0, compiled)
    for xp in (np, array_api_strict, array_api_compat.torch):
        operators = Operators(grid, xp)
        code = np.asarray(equation.nonlinear(operators, xp.asarray(u), 0.0))
        np.testing.assert_allclose(code, compiled, rtol=0, atol=2e-15 * max(1, np.abs(compiled).max()))
        if equation.kind == "semi-linear":
            linear = -0.1 * operators.k2 if equation.has("diffusion") else 0 * operators.k2
            np.testing.assert_allclose(np.asarray(equation.linear(operators)), np.asarray(linear))


def test_the_right_hand_side_is_differentiable_on_torch():
    import torch

    grid, equation = Grid((16,), (1.0,)), volumes(0.1, reconstruction="weno5")
    u = torch.randn(1, 1, 16, dtype=torch.float64, generator=torch.manual_seed(0), requires_grad=True)
    operators = Operators(grid, array_api_compat.torch)
    assert torch.autograd.gradcheck(lambda v: equation.nonlinear(operators, v, 0.0), u)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"boundary": "dirichlet"}, "boundary = 'dirichlet' contradicts discretisation = 'fourier'.*Remedy"),
        ({"left": 1.0}, "left = 1, right = 0 contradict boundary = 'periodic'.*Remedy"),
        (
            {
                "boundary": "dirichlet",
                "discretisation": "finite-volume",
                "noise": QWiener(amplitude=1.0, correlation=0.1),
            },
            "noise .*contradicts boundary = 'dirichlet'.*Remedy",
        ),
        ({"reconstruction": "eno3"}, "reconstruction"),
    ],
)
def test_contradictory_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Burgers(viscosity=0.1, **options)


def test_finite_volumes_have_no_fourier_operator():
    with pytest.raises(TypeError, match="burgers is balance-law here and has no linear operator in Fourier space"):
        volumes(0.1).linear(Operators(Grid((8,), (1.0,))))


def test_riemann_solution_at_the_start_is_the_jump():
    x = np.array([0.1, 0.3])
    np.testing.assert_array_equal(riemann_solution(x, 0.0, 0.0, 1.0, 0.2), [0.0, 1.0])
    np.testing.assert_allclose(riemann_solution(np.array([0.25, 0.45, 0.9]), 0.5, 0.0, 1.0, 0.2), [0.1, 0.5, 1.0])
