"""Eddy viscosities and hyperviscosity against what their formulas say."""

import numpy as np
import pytest

from subgrid.closures.classical.eddy_viscosity import EddyViscosity, Leith, Smagorinsky
from subgrid.closures.classical.hyperviscosity import Hyperviscosity
from subgrid.solver.closure import ClosureError, Coupled, Problem, View
from subgrid.solver.equations import Burgers, Kolmogorov, LinearAdvection, ShallowWater, VlasovPoisson
from subgrid.solver.grid import Grid
from subgrid.solver.random import Stream
from subgrid.solver.simulation import Simulation
from subgrid.solver.spectral import Transforms
from subgrid.solver.time_stepping.schemes import STEPPERS, compatible_schemes

SQUARE = Grid((32, 32), (2 * np.pi, 2 * np.pi))
OBLONG = Grid((24, 32), (3.0, 5.0))
LINE = Grid((48,), (2.0,))
FLOW = Kolmogorov(viscosity=0.01)


def answer(closure, equation, grid, state, every=1, step=0.01):
    """The tendency that the closure gives for a state (member, field, *grid)."""
    members = tuple(range(len(state)))
    memory = closure.start(Problem(equation, grid, step, every, 0.0, members, 0))
    tendency, _ = closure(View(lambda: state, 0.0, 0, Stream(0, "closure", 0, members)), memory)
    assert tendency.noise is None and tendency.field.shape == state.shape
    return tendency.field


def kept(grid: Grid, seed: int = 0, members: int = 3, slope: float = 0.0) -> np.ndarray:
    """Random modes that the 2/3 rule keeps, falling as |k|^-slope, without a mean; (member, 1, *grid)."""
    transforms = Transforms(grid)
    u = transforms.to_spectrum(np.random.default_rng(seed).standard_normal((members, 1, *grid.shape)))
    u *= grid.mask() * np.maximum(grid.shells(), 1.0) ** -slope
    u.reshape(members, -1)[:, 0] = 0
    return transforms.to_physical(u)


def derivative(field: np.ndarray, grid: Grid, axis: int) -> np.ndarray:
    """d/dx along an axis by full complex transforms: no code in common with what is tested."""
    n, length = grid.shape[axis], grid.length[axis]
    m = np.fft.fftfreq(n, 1 / n)
    m[np.abs(m) == n / 2] = 0
    where = axis - grid.dimensions
    shape = [-1 if a == where else 1 for a in range(-grid.dimensions, 0)]
    k = (2j * np.pi / length * m).reshape(shape)
    return np.fft.ifft(k * np.fft.fft(field, axis=where), axis=where).real


def strain(w: np.ndarray, grid: Grid) -> tuple[np.ndarray, ...]:
    """(S_xx, S_xy, S_yy) of the flow with vorticity w, from its velocity."""
    u, v = FLOW.velocity(w, grid)
    u_x, u_y, v_x, v_y = (derivative(f, grid, axis) for f in (u, v) for axis in (1, 0))
    return u_x, 0.5 * (u_y + v_x), v_y


def cut(field: np.ndarray, grid: Grid) -> np.ndarray:
    """The modes that the 2/3 rule keeps."""
    axes = tuple(range(-grid.dimensions, 0))
    keep = np.ones(grid.shape, dtype=bool)
    for axis, (n, c) in enumerate(zip(grid.shape, grid.cuts, strict=True)):
        m = np.abs(np.fft.fftfreq(n, 1 / n)).reshape([-1 if a == axis else 1 for a in range(grid.dimensions)])
        keep = keep & (m <= c)
    return np.fft.ifftn(keep * np.fft.fftn(field, axes=axes), axes=axes).real


def curl_of_divergence(viscosity: np.ndarray, w: np.ndarray, grid: Grid) -> np.ndarray:
    """curl div (2 nu_e S), tensor component by component, dealiased once at its end."""
    xx, xy, yy = (2 * viscosity * s for s in strain(w, grid))
    along_x = derivative(xx, grid, 1) + derivative(xy, grid, 0)
    along_y = derivative(xy, grid, 1) + derivative(yy, grid, 0)
    return cut(derivative(along_y, grid, 1) - derivative(along_x, grid, 0), grid)


@pytest.mark.parametrize("grid", [SQUARE, OBLONG])
@pytest.mark.parametrize("closure", [Smagorinsky(coefficient=0.2), Leith(coefficient=0.3)])
def test_the_term_is_the_curl_of_the_divergence_of_the_stress(closure, grid):
    """nu_e from strain or vorticity gradient in physical space, Delta = pi / k_cut of the coarser axis."""
    w = kept(grid)
    width = np.pi / min(2 * np.pi * c / length for c, length in zip(grid.cuts, grid.length, strict=True))
    if isinstance(closure, Smagorinsky):
        xx, xy, yy = strain(w, grid)
        viscosity = (0.2 * width) ** 2 * np.sqrt(2 * (xx**2 + yy**2 + 2 * xy**2))
    else:
        viscosity = (0.3 * width) ** 3 * np.hypot(derivative(w, grid, 1), derivative(w, grid, 0))
    expected = curl_of_divergence(viscosity, w, grid)
    found = answer(closure, FLOW, grid, w)
    np.testing.assert_allclose(found, expected, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize("grid", [SQUARE, OBLONG])
def test_uniform_viscosity_is_diffusion(grid, monkeypatch):
    """curl div (2 nu S) = nu lap w where nu is uniform."""
    monkeypatch.setattr(Smagorinsky, "viscosity", lambda self, spectrum, strain: np.full_like(strain, 0.37))
    w = kept(grid)
    laplacian = sum(derivative(derivative(w, grid, axis), grid, axis) for axis in (0, 1))
    found = answer(Smagorinsky(), FLOW, grid, w)
    np.testing.assert_allclose(found, 0.37 * laplacian, atol=1e-12 * np.abs(laplacian).max())


@pytest.mark.parametrize("closure", [Smagorinsky(), Leith()])
@pytest.mark.parametrize("slope", [0.0, 2.0])
def test_energy_falls_by_the_mean_dissipation(closure, slope):
    """<psi dw/dt> = -<2 nu_e S_ij S_ij> to round-off; and enstrophy falls too."""
    w = kept(SQUARE, slope=slope)
    rate = answer(closure, FLOW, SQUARE, w)
    xx, xy, yy = strain(w, SQUARE)
    square = xx**2 + yy**2 + 2 * xy**2
    gradient = np.hypot(derivative(w, SQUARE, 1), derivative(w, SQUARE, 0))
    width = np.pi / SQUARE.cuts[0]
    viscosity = (0.17 * width) ** 2 * np.sqrt(2 * square) if isinstance(closure, Smagorinsky) else None
    viscosity = (0.25 * width) ** 3 * gradient if viscosity is None else viscosity
    transforms = Transforms(SQUARE)
    k2 = sum(k**2 for k in SQUARE.wavenumbers())
    psi = transforms.to_physical(transforms.to_spectrum(w) / np.where(k2 > 0, k2, np.inf))
    energy = (psi * rate).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(energy, -(2 * viscosity * square).mean(axis=(1, 2, 3)), rtol=1e-11)
    assert (energy < 0).all()
    assert ((w * rate).mean(axis=(1, 2, 3)) < 0).all()


@pytest.mark.parametrize(("closure", "power"), [(Smagorinsky, 2), (Leith, 3)])
def test_scaling_with_coefficient_amplitude_and_width(closure, power):
    """nu_e ~ (C Delta)^power |w|: the term is quadratic in the amplitude, and 0 without a coefficient or a strain."""
    w = kept(SQUARE)
    once = answer(closure(coefficient=0.1), FLOW, SQUARE, w)
    size = np.abs(once).max()
    thrice = answer(closure(coefficient=0.3), FLOW, SQUARE, w)
    np.testing.assert_allclose(thrice, 3**power * once, atol=1e-12 * 27 * size)
    stronger = answer(closure(coefficient=0.1), FLOW, SQUARE, 5 * w)
    np.testing.assert_allclose(stronger, 25 * once, atol=1e-12 * 25 * size)
    assert not answer(closure(coefficient=0.0), FLOW, SQUARE, w).any()
    assert not answer(closure(), FLOW, SQUARE, np.zeros_like(w)).any()
    large = Grid(SQUARE.shape, tuple(2 * length for length in SQUARE.length))
    # The same w on a domain twice as large: Delta doubles, |grad w| and each derivative of the stress halve.
    larger = answer(closure(coefficient=0.1), FLOW, large, w)
    np.testing.assert_allclose(larger, once, atol=1e-12 * size)


def test_rigid_rotation_has_no_stress():
    """A uniform vorticity, the mean mode, has no strain on a periodic domain: it neither spins down nor is seen."""
    w = kept(SQUARE)
    for closure in (Smagorinsky(), Leith()):
        assert not answer(closure, FLOW, SQUARE, np.full_like(w, 3.0)).any()
        found, without = (answer(closure, FLOW, SQUARE, state) for state in (w + 3.0, w))
        np.testing.assert_allclose(found, without, atol=1e-13 * np.abs(without).max())


@pytest.mark.parametrize("closure", [Smagorinsky(), Leith()])
def test_shift_reflection_and_quarter_turn(closure):
    """w(y + a, x + b), -w(y, -x) and w(x, -y) give the term moved in the same way."""
    w = kept(SQUARE)
    rate = answer(closure, FLOW, SQUARE, w)
    tolerance = 1e-12 * np.abs(rate).max()

    def mirror(field):
        return -np.roll(field[..., ::-1], 1, axis=-1)

    def turn(field):
        return np.roll(np.swapaxes(field, -1, -2)[..., ::-1], 1, axis=-1)

    for move in (lambda f: np.roll(f, (5, -3), (-2, -1)), mirror, turn):
        np.testing.assert_allclose(answer(closure, FLOW, SQUARE, move(w)), move(rate), atol=tolerance)


def test_members_do_not_see_each_other():
    w = kept(SQUARE)
    together = answer(Smagorinsky(), FLOW, SQUARE, w)
    np.testing.assert_allclose(answer(Smagorinsky(), FLOW, SQUARE, w[1:2]), together[1:2], rtol=1e-13, atol=1e-13)


def test_burgers_smagorinsky_is_the_flux_form_and_dissipates():
    """du/dt = d_x ((C Delta)^2 |u_x| u_x): momentum is kept, and energy falls by <(C Delta)^2 |u_x|^3>."""
    u = kept(LINE)
    rate = answer(Smagorinsky(coefficient=0.2), Burgers(viscosity=0.1), LINE, u)
    slope = derivative(u, LINE, 0)
    factor = (0.2 * LINE.length[0] / (2 * LINE.cuts[0])) ** 2
    expected = cut(derivative(factor * np.abs(slope) * slope, LINE, 0), LINE)
    np.testing.assert_allclose(rate, expected, atol=1e-12 * np.abs(expected).max())
    np.testing.assert_allclose(rate.mean(-1), 0, atol=1e-12 * np.abs(rate).max())
    np.testing.assert_allclose((u * rate).mean(-1), -(factor * np.abs(slope) ** 3).mean(-1), rtol=1e-11)


@pytest.mark.parametrize(
    ("closure", "equation", "grid", "named"),
    [
        (Smagorinsky(), LinearAdvection(speed=1.0), LINE, "Smagorinsky.*advection"),
        (Smagorinsky(), Burgers(viscosity=0.1, discretisation="finite-volume"), LINE, "Smagorinsky.*finite volumes"),
        (Smagorinsky(), VlasovPoisson(), OBLONG, "Smagorinsky.*kolmogorov, burgers or shallow-water.*vlasov-poisson"),
        (Leith(), ShallowWater(), OBLONG, "Leith.*shallow-water"),
        (Leith(), Burgers(viscosity=0.1), LINE, "Leith.*burgers"),
        (Hyperviscosity(), Burgers(viscosity=0.1, discretisation="finite-volume"), LINE, "Hyperviscosity.*volumes"),
    ],
)
def test_problems_they_were_not_made_for_are_refused(closure, equation, grid, named):
    with pytest.raises(ClosureError, match=f"{named}.*Remedy"):
        closure.start(Problem(equation, grid, 0.01, 1, 0.0, (0,), 0))


def test_options_out_of_range_are_refused():
    for wrong in (lambda: Smagorinsky(coefficient=-0.1), lambda: Hyperviscosity(order=0), lambda: Leith(width=1)):
        with pytest.raises(ValueError):
            wrong()


def test_the_closure_is_abstract_without_a_viscosity():
    with pytest.raises(TypeError):
        EddyViscosity()


@pytest.mark.parametrize(
    "name", [n for n in compatible_schemes("semi-linear", ()) if not getattr(STEPPERS[n], "before", 0)]
)
@pytest.mark.parametrize("every", [1, 7])
@pytest.mark.parametrize("mode", [(1, 2), (0, 10), (12, 9)])
def test_hyperviscosity_takes_off_the_exact_decay(name, every, mode):
    """With no other term a mode falls by exp(-r T) in T, however stiff: r T is 159 for the last of these."""
    grid, rate, order, step = SQUARE, 40.0, 3, 0.05
    equation = Kolmogorov(viscosity=0.0, omit=("advection",))
    y, x = np.meshgrid(*grid.coordinates(), indexing="ij")
    wave = np.cos(mode[0] * y + mode[1] * x + 0.3)[None, None]
    closure = Coupled("hyperviscosity", Hyperviscosity(order=order, rate=rate), every)
    simulation = Simulation(equation, grid, name, step, wave, closures=[closure])
    for _ in range(2):
        simulation.run(simulation.step_number + every)
    decay = rate * ((mode[0] ** 2 + mode[1] ** 2) / grid.cuts[0] ** 2) ** order
    exact = np.exp(-decay * 2 * every * step) * wave
    np.testing.assert_allclose(simulation.state, exact, atol=1e-13)


def test_hyperviscosity_is_the_rate_at_the_cut_and_spares_the_mean():
    """As T -> 0 the answer is -rate (|k| / k_cut)^(2 order) u, in one dimension and on an oblong."""
    for equation, grid in ((Burgers(viscosity=0.1), LINE), (FLOW, OBLONG)):
        cut_off = max(2 * np.pi * c / length for c, length in zip(grid.cuts, grid.length, strict=True))
        axis = int(np.argmax([c / length for c, length in zip(grid.cuts, grid.length, strict=True)]))
        x = np.meshgrid(*grid.coordinates(), indexing="ij")[axis]
        wave = np.sin(cut_off * x)[None, None]
        found = answer(Hyperviscosity(rate=2.0, order=2), equation, grid, 1.0 + wave, step=1e-9)
        np.testing.assert_allclose(found, -2.0 * wave, atol=1e-7)


@pytest.mark.parametrize("name", [n for n, s in STEPPERS.items() if getattr(s, "before", 0)])
@pytest.mark.parametrize("every", [1, 2, 7])
def test_hyperviscosity_stays_stable_where_the_scheme_remembers_the_last_state(name, every):
    """u_{n-1} makes a new rate act with a lag, so the decay is not exact; it is a decay at any rate all the same."""
    equation = Kolmogorov(viscosity=0.0, omit=("advection",))
    w = kept(SQUARE, members=1)
    closure = Coupled("hyperviscosity", Hyperviscosity(order=1, rate=1e9), every)
    simulation = Simulation(equation, SQUARE, name, 0.1, w, closures=[closure])
    simulation.run(60 * every)
    assert np.abs(simulation.state).max() < 1e-9 * np.abs(w).max()
