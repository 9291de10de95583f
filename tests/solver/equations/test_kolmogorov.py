import array_api_compat.torch
import array_api_strict
import numpy as np
import pytest

from subgrid.solver.equations import Kolmogorov
from subgrid.solver.equations.forcing import DiagonalForcing, SineForcing
from subgrid.solver.equations.kolmogorov.initial import TaylorGreen
from subgrid.solver.grid import Grid
from subgrid.solver.simulation import Simulation
from subgrid.solver.spectral import Operators, Transforms
from subgrid.solver.time_stepping.schemes import STEPPERS, needs_linear

SQUARE = Grid((24, 24), (2 * np.pi, 2 * np.pi))
OBLONG = Grid((24, 32), (3.0, 5.0))
SINE = SineForcing(amplitude=0.7, wavenumber=2)
DIAGONAL = DiagonalForcing(amplitude=0.1, wavenumber=1)


def noise(grid: Grid, members: int = 2) -> np.ndarray:
    """White noise on the modes that the 2/3 rule keeps, without a mean; (member, 1, y, x)."""
    transforms = Transforms(grid)
    w = transforms.to_spectrum(np.random.default_rng(0).standard_normal((members, 1, *grid.shape)))
    w *= grid.mask()
    w[..., 0, 0] = 0
    return transforms.to_physical(w)


def rate(equation: Kolmogorov, grid: Grid, w: np.ndarray) -> np.ndarray:
    """L w + N(w) in physical space, by the compiled right-hand side."""
    transforms = Transforms(grid)
    rhs = equation.right_hand_side(grid, len(w))
    w_hat = transforms.to_spectrum(w).reshape(len(w), -1, grid.spectral_shape[-1])
    out = np.zeros_like(w_hat)
    rhs(w_hat.copy(), 0.0, out)
    return transforms.to_physical((rhs.linear * w_hat + out).reshape(len(w), 1, *grid.spectral_shape))


@pytest.mark.parametrize("name", [n for n in STEPPERS if needs_linear(STEPPERS[n])])
@pytest.mark.parametrize("grid", [SQUARE, OBLONG])
def test_taylor_green_decay(name, grid):
    """N = 0, so exponential schemes are exact and the others err as Crank-Nicolson or BDF2 do for e^z."""
    equation, step, steps = Kolmogorov(viscosity=0.02, drag=0.1), 0.02, 50
    flow = TaylorGreen(amplitude=1.5, wavenumber=2)
    simulation = Simulation(equation, grid, name, step, flow.state(equation, grid, (0, 1), 0))
    simulation.advance(steps)
    exact = flow.exact(equation, grid, step * steps, (0, 1), 0)
    k2 = 4 * (2 * np.pi) ** 2 * sum(1 / length**2 for length in grid.length)
    z = step * (0.02 * k2 + 0.1)
    tolerance = 1e-13 if name.startswith("etd") else steps * z**3 + z**2
    assert np.abs(simulation.state - exact).max() <= tolerance * np.abs(exact).max()
    assert simulation.state.shape == (2, 1, *grid.shape)


def test_laminar_profile_is_steady():
    """u = A / (nu k^2 + drag) sin(k y), so w = -A k / (nu k^2 + drag) cos(k y)."""
    equation = Kolmogorov(viscosity=0.3, drag=0.05, forcing=SINE)
    y = SQUARE.coordinates()[0][:, None]
    w = np.broadcast_to(-0.7 * 2 / (0.3 * 4 + 0.05) * np.cos(2 * y), (1, 1, 24, 24))
    np.testing.assert_allclose(rate(equation, SQUARE, w), 0, atol=1e-13)
    u, v = equation.velocity(w, SQUARE)
    np.testing.assert_allclose(u, np.broadcast_to(0.7 / 1.25 * np.sin(2 * y), u.shape), atol=1e-14)
    np.testing.assert_allclose(v, 0, atol=1e-14)


def most_unstable(reynolds: float, alpha: float, modes: int = 12) -> tuple[complex, np.ndarray]:
    """Growth rate and vorticity w_m, m = -modes..modes, of exp(i alpha x + i m y) waves on u = sin y, nu = 1 / Re.

    w_t = -i alpha sin(y) (w - psi) + (w_xx + w_yy) / Re with psi = w / (alpha^2 + m^2): Meshalkin and Sinai,
    J. Appl. Math. Mech. 25 (1961) 1700.
    """
    m = np.arange(-modes, modes + 1)
    k2 = alpha**2 + m**2
    sine = (np.eye(m.size, k=-1) - np.eye(m.size, k=1)) / 2j
    matrix = -1j * alpha * sine @ np.diag(1 - 1 / k2) - np.diag(k2 / reynolds)
    values, vectors = np.linalg.eig(matrix)
    first = np.argmax(values.real)
    return values[first], vectors[:, first]


@pytest.mark.parametrize(
    ("reynolds", "alpha", "unstable"),
    [
        (1.03 * np.sqrt(2), 0.1, True),
        (0.97 * np.sqrt(2), 0.1, False),
        (1.1 * np.sqrt(2), 1.2, False),
        (20, 0.5, True),
    ],
)
def test_growth_rates_of_kolmogorovs_instability(reynolds, alpha, unstable):
    """Long waves grow above Re = sqrt 2 and decay below; those shorter than the forcing always decay."""
    grid = Grid((32, 8), (2 * np.pi, 2 * np.pi / alpha))
    growth, wave = most_unstable(reynolds, alpha)
    assert (growth.real > 0) == unstable
    y, x = np.meshgrid(*grid.coordinates(), indexing="ij")
    m = np.arange(-12, 13)[:, None, None]
    perturbation = 1e-6 * (wave[:, None, None] * np.exp(1j * (m * y + alpha * x))).sum(0).real
    laminar = -np.cos(y)
    equation = Kolmogorov(viscosity=1 / reynolds, forcing=SineForcing(amplitude=1 / reynolds, wavenumber=1))
    simulation = Simulation(equation, grid, "etdrk4", 0.05, (laminar + perturbation)[None, None])
    simulation.advance(80)
    final = Transforms(grid).to_spectrum(simulation.state - laminar)[0, 0, :, 1]
    first = Transforms(grid).to_spectrum(perturbation)[:, 1]
    measured = np.log(np.vdot(first, final) / np.vdot(first, first)) / 4.0
    assert measured == pytest.approx(growth, abs=1e-7)


@pytest.mark.parametrize("forcing", [None, SINE, DIAGONAL])
def test_energy_and_enstrophy_budgets(forcing):
    """dE/dt = -2 nu Z - 2 drag E + <psi f>, dZ/dt = -2 nu P - 2 drag Z + <w f>, P = <|grad w|^2> / 2."""
    equation = Kolmogorov(viscosity=0.02, drag=0.3, forcing=forcing)
    w = noise(OBLONG)
    transforms, operators = Transforms(OBLONG), Operators(OBLONG)
    w_hat, w_t = transforms.to_spectrum(w), rate(equation, OBLONG, w)
    psi = transforms.to_physical(w_hat * operators.inverse_k2)
    f = np.zeros(OBLONG.shape) if forcing is None else forcing.field(OBLONG)
    invariants = equation.invariants(w, OBLONG)
    energy, enstrophy = invariants["energy"], invariants["enstrophy"]
    power = OBLONG.half_plane_weight() * np.abs(w_hat[:, 0]) ** 2
    palinstrophy = 0.5 * (operators.k2 * power).sum((-2, -1))

    def mean(field: np.ndarray) -> np.ndarray:
        return field[:, 0].mean((-2, -1))

    scale = np.abs(w_t).max() * np.abs(w).max()
    energy_change = -2 * 0.02 * enstrophy - 2 * 0.3 * energy + mean(psi * f)
    np.testing.assert_allclose(mean(psi * w_t), energy_change, rtol=0, atol=1e-14 * scale)
    enstrophy_change = -2 * 0.02 * palinstrophy - 2 * 0.3 * enstrophy + mean(w * f)
    np.testing.assert_allclose(mean(w * w_t), enstrophy_change, rtol=0, atol=1e-14 * scale)


def test_energy_is_that_of_the_velocity():
    equation, w = Kolmogorov(viscosity=0.0), noise(OBLONG)
    u, v = equation.velocity(w, OBLONG)
    kinetic = 0.5 * (u**2 + v**2)[:, 0].mean((-2, -1))
    np.testing.assert_allclose(equation.invariants(w, OBLONG)["energy"], kinetic, rtol=1e-13)
    density = equation.spectrum_density(OBLONG) * OBLONG.half_plane_weight()
    power = np.abs(Transforms(OBLONG).to_spectrum(w[:, 0])) ** 2
    np.testing.assert_allclose((density * power).sum((-2, -1)), kinetic, rtol=1e-13)


@pytest.mark.parametrize("forcing", [None, SINE])
def test_shift_symmetry(forcing):
    """Without forcing a shifted flow stays a shifted flow; with the sine, if the shift is along x or one period."""
    equation = Kolmogorov(viscosity=0.02, forcing=forcing)
    shift = (5, 7) if forcing is None else (12, 7)

    def moved(w: np.ndarray) -> np.ndarray:
        return np.roll(w, shift, axis=(-2, -1))

    check_symmetry(equation, moved)


def mirrored(w: np.ndarray) -> np.ndarray:
    """(x, y) -> (-x, y), under which vorticity changes its sign."""
    return -np.roll(w[..., ::-1], 1, axis=-1)


def turned(w: np.ndarray) -> np.ndarray:
    """(x, y) -> (-x, -y)."""
    return np.roll(w[..., ::-1, ::-1], (1, 1), axis=(-2, -1))


def test_reflection_symmetry():
    check_symmetry(Kolmogorov(viscosity=0.02), mirrored)
    check_symmetry(Kolmogorov(viscosity=0.02, forcing=SINE), turned)


def check_symmetry(equation: Kolmogorov, change) -> None:
    """The right-hand side and 20 steps commute with the change, to round-off that the flow may amplify a little."""
    w = noise(OBLONG)
    expected = change(rate(equation, OBLONG, w))
    np.testing.assert_allclose(rate(equation, OBLONG, change(w)), expected, atol=1e-13 * np.abs(expected).max())
    runs = [Simulation(equation, OBLONG, "cnab2", 0.01, state) for state in (w, change(w))]
    for run in runs:
        run.advance(20)
    np.testing.assert_allclose(runs[1].state, change(runs[0].state), atol=1e-12)
    assert np.abs(runs[0].state - w).max() > 0.1


@pytest.mark.parametrize("omit", [(), ("advection",)])
@pytest.mark.parametrize("forcing", [None, SINE, DIAGONAL])
def test_compiled_equals_array_code(forcing, omit):
    equation = Kolmogorov(viscosity=0.02, forcing=forcing, omit=omit)
    w_hat = Transforms(OBLONG).to_spectrum(np.random.default_rng(1).standard_normal((3, 1, *OBLONG.shape)))
    flat = w_hat.reshape(3, -1, OBLONG.spectral_shape[-1])
    compiled = np.zeros_like(flat)
    equation.right_hand_side(OBLONG, 3)(flat.copy(), 0.0, compiled)
    for xp in (np, array_api_strict, array_api_compat.torch):
        operators = Operators(OBLONG, xp)
        code = np.asarray(equation.nonlinear(operators, xp.asarray(w_hat), 0.0)).reshape(flat.shape)
        np.testing.assert_allclose(code, compiled, rtol=0, atol=1e-15)
        linear = np.broadcast_to(np.asarray(equation.linear(operators)), OBLONG.spectral_shape)
        np.testing.assert_allclose(linear, equation.right_hand_side(OBLONG, 1).linear[0], rtol=1e-15)


def test_basdevants_form_is_advection():
    """-u . grad w by products of derivatives, on a flow whose products alias onto no kept mode."""
    equation, w = Kolmogorov(viscosity=0.0), noise(OBLONG)
    operators = Operators(OBLONG)
    u, v = equation.velocity(w, OBLONG)
    ky, kx = operators.k
    w_hat = operators.forward(w)
    gradient_y, gradient_x = operators.inverse(1j * ky * w_hat), operators.inverse(1j * kx * w_hat)
    expected = operators.inverse(operators.mask * operators.forward(-u * gradient_x - v * gradient_y))
    np.testing.assert_allclose(rate(equation, OBLONG, w), expected, atol=1e-13 * np.abs(expected).max())


def test_signal_speed_is_the_largest_velocity_in_array_order():
    equation = Kolmogorov(viscosity=0.0)
    y = OBLONG.coordinates()[0][:, None]
    k = 2 * np.pi / 3.0
    w = np.broadcast_to(-k * np.cos(k * y), (1, 1, *OBLONG.shape))
    assert equation.signal_speed(w, OBLONG) == pytest.approx((0.0, 1.0), abs=1e-14)


def test_unknown_terms_are_refused():
    with pytest.raises(
        ValueError, match=r"omit names \['pressure'\], which kolmogorov does not have; expected any of \['advection'"
    ):
        Kolmogorov(viscosity=0.1, omit=("pressure",))
