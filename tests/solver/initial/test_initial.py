import numpy as np
import pytest
from pydantic import TypeAdapter

from subgrid.solver.equations import Burgers, Burgers2D, ChargedParticles, Kolmogorov, LinearAdvection, ShallowWater
from subgrid.solver.equations.forcing import SineForcing
from subgrid.solver.equations.kolmogorov.initial import TaylorGreen
from subgrid.solver.grid import Grid
from subgrid.solver.initial.file import File, Reference
from subgrid.solver.initial.profiles import BurgersDirichlet, GaussianPulse, Pulses, Riemann, Sine, Waves
from subgrid.solver.initial.random_field import GaussianRandomField
from subgrid.solver.initial.registry import Initial
from subgrid.solver.random import QWiener
from subgrid.solver.spectral import Transforms, resample

FLOW = Kolmogorov(viscosity=0.01)
BURGERS = Burgers(viscosity=0.01)
VOLUMES = Burgers(viscosity=0.01, discretisation="finite-volume")
INVISCID = Burgers(viscosity=0.0, discretisation="finite-volume")
WALLS = Burgers(viscosity=0.01, discretisation="finite-volume", boundary="dirichlet")
NOISE = QWiener(amplitude=1.0, correlation=0.1)
LINE = Grid((64,), (2.0,))
PLANE = Grid((32, 24), (2.0, 3.0))
FIELD = GaussianRandomField(exponent=2.5, tau=7.0)


def coarsened(u: np.ndarray, factor: int) -> np.ndarray:
    """Averages over `factor` cells of the last axis."""
    return u.reshape(*u.shape[:-1], -1, factor).mean(-1)


@pytest.mark.parametrize(
    ("table", "kind"),
    [
        ({"kind": "gaussian-random-field", "exponent": 2.5, "tau": 7}, GaussianRandomField),
        ({"kind": "taylor-green", "amplitude": 2.0}, TaylorGreen),
        ({"kind": "sine", "wavenumber": 3}, Sine),
        ({"kind": "gaussian", "centre": 0.5, "width": 0.1}, GaussianPulse),
        ({"kind": "pulses", "pulses": [{"centre": 0.5, "width": 0.1}]}, Pulses),
        ({"kind": "waves", "sine": [0.5, 0.1]}, Waves),
        ({"kind": "riemann", "left": 1, "right": 0, "position": 0.5}, Riemann),
        ({"kind": "burgers-dirichlet", "reynolds": 1000}, BurgersDirichlet),
        ({"kind": "file", "path": "start.npz"}, File),
        ({"kind": "reference"}, Reference),
    ],
)
def test_kinds_by_name(table, kind):
    assert isinstance(TypeAdapter(Initial).validate_python(table), kind)
    with pytest.raises(ValueError, match="Extra inputs are not permitted"):
        TypeAdapter(Initial).validate_python(table | {"colour": "red"})


# -- Gaussian random fields --------------------------------------------------------------------------------


@pytest.mark.parametrize(("equation", "grid"), [(FLOW, PLANE), (BURGERS, LINE)])
def test_the_spectrum_is_the_law(equation, grid):
    """E|u_hat|^2 = 2 tau^(2a - d) (|k|^2 + tau^2)^(-a), within 6 standard errors of 2000 draws; no mean."""
    u = FIELD.state(equation, grid, tuple(range(2000)), 0)
    power = (np.abs(Transforms(grid).to_spectrum(u)) ** 2).mean((0, 1))
    k2 = sum(k**2 for k in grid.wavenumbers())
    law = 2 * 7.0 ** (5 - grid.dimensions) * (k2 + 49) ** -2.5
    inner = grid.mask()
    inner.flat[0] = False
    np.testing.assert_allclose(power[inner], law[inner], rtol=6 * np.sqrt(2 / 2000))
    assert power.flat[0] < 1e-30
    doubled = GaussianRandomField(exponent=2.5, tau=7.0, scale=2 * 7.0 ** (2.5 - grid.dimensions / 2))
    np.testing.assert_allclose(doubled.state(equation, grid, (3,), 0), 2 * u[3:4], atol=1e-13)


@pytest.mark.parametrize(
    ("equation", "coarse", "fine"), [(FLOW, PLANE, Grid((48, 40), PLANE.length)), (BURGERS, LINE, Grid((96,), (2.0,)))]
)
def test_a_member_is_one_field_on_every_grid(equation, coarse, fine):
    a, b = FIELD.state(equation, coarse, (0, 5), 1), FIELD.state(equation, fine, (5,), 1)
    cut = resample(Transforms(fine).to_spectrum(b), fine, coarse)
    np.testing.assert_allclose(a[1:], Transforms(coarse).to_physical(cut), atol=1e-14)
    assert not np.allclose(a[0], a[1])
    assert not np.allclose(a, FIELD.state(equation, coarse, (0, 5), 2))


@pytest.mark.parametrize("grid", [PLANE, Grid((48, 40), PLANE.length)])
def test_several_fields_are_independent_draws_of_one_law(grid):
    """The first is that of an equation of one field, on every grid; correlations below 6 standard errors."""
    members = tuple(range(600))
    equation = Burgers2D(viscosity=0.1)
    u = FIELD.state(equation, grid, members, 5)
    assert u.shape == (600, 2, *grid.shape)
    assert np.array_equal(u[7:8], FIELD.state(equation, grid, (7,), 5))
    points = Transforms(grid).to_spectrum(u)
    alone = Transforms(grid).to_spectrum(FIELD.state(FLOW, grid, members, 5)[:, 0])
    for k, h in zip(grid.wavenumbers(), grid.spacing, strict=True):
        alone = alone * np.exp(0.5j * k * h) * np.sinc(k * h / (2 * np.pi))  # the average over a cell
    np.testing.assert_allclose(points[:, 0], alone, atol=1e-13)
    first, second = (points[:, f, 1, 2] / np.std(points[:, f, 1, 2]) for f in (0, 1))
    assert abs(np.vdot(first, second)) / 600 < 6 / np.sqrt(600)
    assert np.abs(points[:, 1, 1, 2]).std() == pytest.approx(np.abs(points[:, 0, 1, 2]).std(), rel=6 / np.sqrt(600))


@pytest.mark.parametrize(("equation", "grid"), [(ShallowWater(), PLANE), (ChargedParticles(), Grid((4,), (1.0,)))])
def test_fields_that_are_not_of_either_sign_are_refused(equation, grid):
    with pytest.raises(ValueError, match=r"is for periodic fields that may be negative.*Remedy"):
        FIELD.state(equation, grid, (0,), 0)


def test_cells_hold_averages_of_the_same_field():
    """Averages over cells of the smoothest draw, against many points in each cell."""
    smooth = GaussianRandomField(exponent=30.0, tau=20.0)
    fine = Grid((64 * 64,), (2.0,))
    points = smooth.state(BURGERS, fine, (4,), 0)
    middle = 0.5 * (points + np.roll(points, -1, axis=-1))  # trapezoidal rule over each cell
    np.testing.assert_allclose(
        smooth.state(VOLUMES, LINE, (4,), 0), coarsened(middle, 64), atol=1e-4 * np.abs(points).max()
    )


def test_periodic_fields_are_refused_between_walls():
    with pytest.raises(ValueError, match=r"'gaussian-random-field' is for periodic fields.*Remedy"):
        FIELD.state(WALLS, LINE, (0,), 0)


# -- profiles ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "profile",
    [
        Sine(amplitude=0.7, wavenumber=2, offset=0.2, phase=0.4),
        GaussianPulse(centre=1.9, width=0.15, amplitude=2.0),
        Pulses(pulses=[{"centre": 1.9, "width": 0.15}, {"centre": 0.3, "width": 0.2, "amplitude": -0.5}]),
        Waves(cosine=[0.1, 0.3], sine=[0.2], offset=0.4),
        BurgersDirichlet(reynolds=100.0),
    ],
)
def test_points_and_cell_averages_of_profiles(profile):
    points = profile.state(BURGERS, LINE, (0, 1), 0)
    np.testing.assert_allclose(points[:, 0], np.stack([profile.at(LINE.coordinates()[0], 2.0)] * 2), atol=1e-15)
    fine = profile.state(VOLUMES, Grid((256,), (2.0,)), (0,), 0)
    np.testing.assert_allclose(profile.state(VOLUMES, LINE, (0,), 0), coarsened(fine, 4), atol=1e-12)


def test_the_pulse_is_periodic_however_wide():
    """For width >= L the sum over images is flat but for its first harmonic, 2 exp(-(2 pi w / L)^2 / 2) of the mean."""
    x = np.linspace(0, 1, 9)
    mean = np.sqrt(2 * np.pi) * 0.5
    wave = 2 * np.exp(-0.5 * np.pi**2) * np.cos(2 * np.pi * (x - 0.3))
    pulse = GaussianPulse(centre=0.3, width=0.5)
    np.testing.assert_allclose(pulse.at(x, 1.0), mean * (1 + wave), rtol=1e-8)


def test_waves_are_sines():
    """cos and sin of equal wavenumber are one sine, and their exact solutions agree."""
    waves = Waves(cosine=[0.0, 0.3], sine=[0.0, 0.4], offset=0.2)
    sine = Sine(amplitude=0.5, wavenumber=2, offset=0.2, phase=np.arctan2(0.3, 0.4))
    for t in (0.0, 0.3):
        np.testing.assert_allclose(
            waves.exact(BURGERS, LINE, t, (0,), 0), sine.exact(BURGERS, LINE, t, (0,), 0), atol=1e-12
        )


def test_profiles_are_refused_in_two_dimensions_and_vortices_in_one():
    with pytest.raises(ValueError, match=r"'sine' is for one field in one dimension, not for kolmogorov.*Remedy"):
        Sine().state(FLOW, PLANE, (0,), 0)
    with pytest.raises(ValueError, match=r"'taylor-green' is for the equation kolmogorov, not for burgers.*Remedy"):
        TaylorGreen().state(BURGERS, LINE, (0,), 0)


# -- exact solutions ---------------------------------------------------------------------------------------

JUMP_UP, JUMP_DOWN = Riemann(left=0.0, right=1.0, position=1.0), Riemann(left=1.0, right=0.0, position=1.0)


@pytest.mark.parametrize(
    ("initial", "equation", "grid"),
    [
        (Sine(), LinearAdvection(speed=1.0), LINE),
        (Sine(wavenumber=0.3), LinearAdvection(speed=1.0, discretisation="finite-volume"), LINE),
        (GaussianPulse(centre=1.9, width=0.1), LinearAdvection(speed=-1.0), LINE),
        (JUMP_UP, LinearAdvection(speed=-1.0), LINE),
        (Sine(offset=0.5, phase=0.2), BURGERS, LINE),
        (Sine(wavenumber=1.5), WALLS, LINE),
        (Pulses(pulses=[{"centre": 1.9, "width": 0.1}]), LinearAdvection(speed=-1.0), LINE),
        (Waves(cosine=[0.0, 0.3], sine=[0.2], offset=0.4), BURGERS, LINE),
        (JUMP_UP, INVISCID, LINE),
        (JUMP_DOWN, INVISCID, LINE),
        (BurgersDirichlet(reynolds=1000.0), WALLS.model_copy(update={"viscosity": 0.001}), Grid((50,), (1.0,))),
        (TaylorGreen(), FLOW, PLANE),
    ],
)
def test_the_exact_solution_starts_at_the_state(initial, equation, grid):
    start = initial.state(equation, grid, (0, 1), 0)
    np.testing.assert_allclose(initial.exact(equation, grid, 0.0, (0, 1), 0), start, atol=1e-12)
    moved = initial.exact(equation, grid, 0.05, (0, 1), 0)
    assert moved.shape == start.shape
    assert not np.allclose(moved, start, atol=1e-6)


@pytest.mark.parametrize(
    ("initial", "equation", "grid", "t"),
    [
        (Sine(), LinearAdvection(speed=1.0, noise=NOISE), LINE, 0.1),
        (Sine(), BURGERS.model_copy(update={"noise": NOISE}), LINE, 0.1),
        (Sine(), BURGERS.model_copy(update={"omit": ("diffusion",)}), LINE, 0.1),
        (Sine(), BURGERS.model_copy(update={"omit": ("advection",)}), LINE, 0.1),
        (Sine(wavenumber=0.5), BURGERS, LINE, 0.1),
        (Sine(offset=0.5), WALLS, LINE, 0.1),
        (GaussianPulse(centre=1.0, width=0.1), BURGERS, LINE, 0.1),
        (JUMP_DOWN, VOLUMES, LINE, 0.1),
        (Riemann(left=1.0, right=0.0, position=0.5), INVISCID, LINE, 1.1),
        (Riemann(left=0.0, right=1.0, position=1.5), INVISCID, LINE, 1.1),
        (JUMP_DOWN, WALLS.model_copy(update={"viscosity": 0.0}), LINE, 0.1),
        (BurgersDirichlet(reynolds=200.0), WALLS, Grid((50,), (1.0,)), 0.0),
        (BurgersDirichlet(reynolds=100.0), WALLS, Grid((50,), (1.0,)), 2.0),
        (BurgersDirichlet(reynolds=100.0), WALLS, LINE, 0.0),
        (
            TaylorGreen(),
            FLOW.model_copy(update={"forcing": SineForcing(amplitude=1.0, wavenumber=1)}),
            PLANE,
            0.1,
        ),
        (TaylorGreen(), FLOW.model_copy(update={"noise": NOISE}), PLANE, 0.1),
        (FIELD, FLOW, PLANE, 0.1),
    ],
)
def test_no_exact_solution(initial, equation, grid, t):
    assert initial.exact(equation, grid, t, (0,), 0) is None


def test_periodic_riemann_solution_has_a_fan_and_a_shock():
    """Left 1, right 0: the shock stands at 1 + t/2, the fan from the seam is u = x / t; integral u stays."""
    u = JUMP_DOWN.exact(INVISCID, Grid((400,), (2.0,)), 1.0, (0,), 0)[0, 0]
    x = Grid((400,), (2.0,)).coordinates(centres=True)[0]
    np.testing.assert_allclose(u, np.where(x < 1.5, np.minimum(x, 1), 0), atol=1e-12)
    assert 2 * u.mean() == pytest.approx(1.0, abs=1e-12)


def test_taylor_green_amplitude_is_the_largest_speed():
    square = Grid((32, 32), (2.0, 2.0))
    w = TaylorGreen(amplitude=1.5, wavenumber=2).state(FLOW, square, (0,), 0)
    assert FLOW.signal_speed(w, square) == pytest.approx((1.5, 1.5), rel=1e-13)


# -- files -------------------------------------------------------------------------------------------------


def test_a_file_gives_every_member_its_entry(tmp_path):
    state = np.random.default_rng(0).standard_normal((3, 1, 64))
    np.savez(tmp_path / "start.npz", state=state)
    initial = File(path="start.npz")
    np.testing.assert_array_equal(initial.state(BURGERS, LINE, (2, 0), 0, tmp_path), state[[2, 0]])
    np.testing.assert_array_equal(File(path=tmp_path / "start.npz").state(BURGERS, LINE, (1,), 0), state[1:2])
    np.savez(tmp_path / "one.npz", state=state[0])
    shared = File(path="one.npz").state(BURGERS, LINE, (0, 7), 0, tmp_path)
    np.testing.assert_array_equal(shared, state[[0, 0]])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"state": np.zeros((1, 1, 32))}, r"on a grid of shape \(32,\), expected \(64,\).*Remedy.*\[32\]"),
        ({"state": np.zeros((1, 2, 64))}, r"shape \(1, 2, 64\), expected .*fields \['velocity'\]"),
        ({"state": np.zeros(64)}, r"shape \(64,\), expected"),
        ({"state": np.zeros((2, 1, 64))}, "holds 2 members, but the run needs member 4.*Remedy"),
        ({"velocity": np.zeros((1, 1, 64))}, r"contains the arrays \['velocity'\], expected 'state'.*Remedy"),
        ({"state": np.array([object()])}, "is not an intact .npz file with arrays of numbers.*Remedy"),
        ({"state": np.zeros((1, 1, 64), dtype=complex)}, "must be real numbers, found complex128"),
    ],
)
def test_files_that_do_not_fit_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "start.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        File(path="start.npz").state(BURGERS, LINE, (0, 4), 0, tmp_path)


def test_a_missing_file_is_named():
    with pytest.raises(ValueError, match=r"there is no file nowhere.npz. Remedy"):
        File(path="nowhere.npz").state(BURGERS, LINE, (0,), 0)


def test_the_reference_is_set_up_elsewhere():
    with pytest.raises(ValueError, match=r"only `subgrid run` and `subgrid compare` compute. Remedy"):
        Reference().state(BURGERS, LINE, (0,), 0)
