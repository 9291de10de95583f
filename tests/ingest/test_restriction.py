"""Restriction to a coarser grid, and the term that the coarse model then lacks."""

import numpy as np
import pytest

from subgrid.ingest.missing_term import MissingTerm, Rate
from subgrid.ingest.restriction import Restrict, average_cells
from subgrid.solver.equations import Burgers, Kolmogorov, LinearAdvection
from subgrid.solver.equations.forcing import FormulaForcing, SineForcing
from subgrid.solver.grid import Grid

FINE, COARSE = Grid((48, 64), (3.0, 5.0)), Grid((24, 32), (3.0, 5.0))
FLOW = Kolmogorov(viscosity=0.02, drag=0.1, forcing=SineForcing(amplitude=0.7, wavenumber=2))
CELLS = Burgers(viscosity=0.01, discretisation="finite-volume", reconstruction="weno5")


def waves(grid: Grid, highest: tuple[int, int], seed: int = 0, members: int = 2) -> np.ndarray:
    """The same random sum of waves |m_i| <= highest on any grid, (member, 1, y, x): written out, without an FFT."""
    generator = np.random.default_rng(seed)
    y, x = np.meshgrid(*(np.arange(n) / n for n in grid.shape), indexing="ij")
    field = np.zeros((members, 1, *grid.shape))
    for my in range(-highest[0], highest[0] + 1):
        for mx in range(highest[1] + 1):
            amplitude, phase = generator.standard_normal((2, members, 1, 1, 1))
            if (my, mx) != (0, 0):
                field += amplitude * np.cos(2 * np.pi * (my * y + mx * x + phase))
    return field


def by_hand(w: np.ndarray, grid: Grid, keep: tuple[int, int] | None = None) -> np.ndarray:
    """-u . grad w in physical space by full complex transforms; of the modes |m_i| <= keep alone, cut to them."""
    m = [np.fft.fftfreq(n, 1 / n) for n in grid.shape]
    ky, kx = np.meshgrid(*(2 * np.pi / length * v for length, v in zip(grid.length, m, strict=True)), indexing="ij")
    mask = np.ones(grid.shape)
    if keep:
        mask = (np.abs(m[0]) <= keep[0])[:, None] * (np.abs(m[1]) <= keep[1])
    w_hat = np.fft.fft2(w) * mask
    psi = w_hat / np.where(kx**2 + ky**2 > 0, kx**2 + ky**2, np.inf)
    u, v, w_x, w_y = (np.fft.ifft2(1j * k * f).real for k, f in ((ky, psi), (-kx, psi), (kx, w_hat), (ky, w_hat)))
    return np.fft.ifft2(mask * np.fft.fft2(-(u * w_x + v * w_y))).real


def test_the_filter_keeps_what_the_coarse_model_steps_and_nothing_else():
    """Modes up to the coarse 2/3 cut pass exactly; a field of higher modes alone gives nothing, aliases included."""
    restrict = Restrict(FLOW, FINE, COARSE, "filter")
    low = waves(FINE, COARSE.cuts)
    np.testing.assert_allclose(restrict(low), waves(COARSE, COARSE.cuts), atol=1e-12)
    y, x = np.meshgrid(*FINE.coordinates(), indexing="ij")
    for my, mx in ((COARSE.cuts[0] + 1, 0), (3, COARSE.cuts[1] + 1), (24, 1), (23, 31)):
        high = np.cos(2 * np.pi * (my * y / 3.0 + mx * x / 5.0) + 0.4)[None, None]
        np.testing.assert_allclose(restrict(high), 0, atol=1e-13)
        np.testing.assert_allclose(restrict(low + high), restrict(low), atol=1e-12)


def test_subsampling_takes_points_and_aliases():
    restrict = Restrict(FLOW, FINE, COARSE, "subsample")
    state = np.random.default_rng(0).standard_normal((2, 1, *FINE.shape))
    np.testing.assert_array_equal(restrict(state), state[..., ::2, ::2])
    np.testing.assert_allclose(restrict(waves(FINE, (11, 15))), waves(COARSE, (11, 15)), atol=1e-12)


def test_cells_are_averaged_whatever_the_restriction_is_called():
    fine, coarse = Grid((60,), (2.0,)), Grid((20,), (2.0,))
    state = np.random.default_rng(0).standard_normal((3, 1, 60))
    for how in ("filter", "subsample"):
        found = Restrict(CELLS, fine, coarse, how)(state)
        np.testing.assert_allclose(found, state.reshape(3, 1, 20, 3).mean(-1), atol=1e-15)
        np.testing.assert_allclose(found.mean(-1), state.mean(-1), atol=1e-15)


def polynomial_averages(cells: int, degree: int) -> np.ndarray:
    """Averages of (degree + 1) x^degree over the cells of [0, 1]."""
    return cells * np.diff((np.arange(cells + 1) / cells) ** (degree + 1))[None]


@pytest.mark.parametrize(("fine", "coarse"), [(60, 20), (60, 24), (64, 25), (7, 5), (20, 36), (12, 12), (45, 40)])
def test_cell_averages_on_any_number_of_cells(fine, coarse):
    """The mean is kept, polynomials up to the fourth degree are exact, and whole ratios are plain means."""
    state = np.random.default_rng(1).standard_normal((2, 1, fine))
    found = average_cells(state, (coarse,))
    np.testing.assert_allclose(found.mean(-1), state.mean(-1), atol=1e-14)
    for degree in range(5):
        expected = polynomial_averages(coarse, degree)
        np.testing.assert_allclose(average_cells(polynomial_averages(fine, degree), (coarse,)), expected, atol=1e-12)
    if fine % coarse == 0:
        whole = state.reshape(2, 1, coarse, -1).mean(-1)
        np.testing.assert_allclose(found, whole, atol=1e-15)


def test_cell_averages_are_of_fifth_order():
    def error(fine: int) -> float:
        coarse = fine * 8 // 9
        exact = [n * np.diff(-np.cos(2 * np.pi * np.arange(n + 1) / n + 0.3)) for n in (fine, coarse)]
        return float(np.abs(average_cells(exact[0], (coarse,)) - exact[1]).max())

    assert np.log2(error(36) / error(72)) > 4.7


@pytest.mark.parametrize("how", ["filter", "subsample"])
def test_the_state_for_a_grid_between_holds_what_it_resolves(how):
    """onto: "filter" cuts at the other grid's 2/3 rule, "subsample" at its Nyquist wavenumber."""
    between = Grid((36, 48), FINE.length)
    restrict = Restrict(FLOW, FINE, COARSE, how)
    highest = between.cuts if how == "filter" else (17, 23)
    state = waves(FINE, highest)
    np.testing.assert_allclose(restrict.onto(state, between), waves(between, highest), atol=1e-11)
    x = FINE.coordinates()[1]
    beyond = np.broadcast_to(np.cos(2 * np.pi * (highest[1] + 1) / 5.0 * x), (1, 1, *FINE.shape))
    np.testing.assert_allclose(restrict.onto(beyond, between), 0, atol=1e-13)
    line, other = Grid((60,), (2.0,)), Grid((24,), (2.0,))
    cells = np.random.default_rng(0).standard_normal((2, 1, 60))
    found = Restrict(CELLS, line, Grid((20,), (2.0,)), how).onto(cells, other)
    np.testing.assert_array_equal(found, average_cells(cells, (24,)))


def test_a_model_without_advection_lacks_its_advection():
    """On one grid, and on a coarser one of a flow whose products that grid resolves, H = -u . grad w."""
    model = Kolmogorov(viscosity=0.02, drag=0.1, forcing=FLOW.forcing, omit=("advection",))
    w = waves(FINE, (5, 6))
    expected = by_hand(w, FINE)
    tolerance = 1e-12 * np.abs(expected).max()
    same = MissingTerm(model, Restrict(model, FINE, FINE, "subsample"), len(w))
    np.testing.assert_allclose(same(w), expected, atol=tolerance)
    w = waves(FINE, (3, 4))
    expected = by_hand(waves(COARSE, (3, 4)), COARSE)
    for how in ("subsample", "filter"):
        coarse = MissingTerm(model, Restrict(model, FINE, COARSE, how), len(w))
        np.testing.assert_allclose(coarse(w), expected, atol=tolerance)


@pytest.mark.parametrize("term", ["diffusion", "drag", "forcing"])
def test_any_omitted_term_is_the_missing_one(term):
    y = COARSE.coordinates()[0][:, None]
    w, coarse_w = waves(FINE, (5, 7)), waves(COARSE, (5, 7))
    my, mx = np.meshgrid(*(np.fft.fftfreq(n, 1 / n) for n in COARSE.shape), indexing="ij")
    k2 = (2 * np.pi / 3.0 * my) ** 2 + (2 * np.pi / 5.0 * mx) ** 2
    expected = {
        "diffusion": 0.02 * np.fft.ifft2(-k2 * np.fft.fft2(coarse_w)).real,
        "drag": -0.1 * coarse_w,
        "forcing": -0.7 * (4 * np.pi / 3) * np.cos(4 * np.pi / 3 * y) + 0 * coarse_w,
    }[term]
    # Products of these modes reach beyond the coarse cut: both sides keep the same ones of them.
    model = FLOW.model_copy(update={"omit": (term,)})
    missing = MissingTerm(model, Restrict(model, FINE, COARSE, "filter"), len(w))(w)
    complete = MissingTerm(FLOW, Restrict(FLOW, FINE, COARSE, "filter"), len(w))(w)
    np.testing.assert_allclose(missing - complete, expected, atol=1e-11)


@pytest.mark.parametrize(
    ("equation", "grid"),
    [
        (FLOW, COARSE),
        (Burgers(viscosity=0.1), Grid((48,), (2.0,))),
        (LinearAdvection(speed=1.3), Grid((48,), (2.0,))),
        (CELLS, Grid((48,), (2.0,))),
    ],
)
def test_a_complete_model_on_the_same_grid_lacks_nothing(equation, grid):
    state = np.random.default_rng(0).standard_normal((2, 1, *grid.shape))
    term = MissingTerm(equation, Restrict(equation, grid, grid, "subsample"), 2)(state)
    assert np.abs(term).max() <= 1e-12 * np.abs(Rate(equation, grid, 2)(state)).max()


@pytest.mark.parametrize("discretisation", ["fourier", "finite-volume"])
def test_a_term_that_depends_on_time_is_that_of_the_time_of_the_state(discretisation):
    forcing = FormulaForcing(value="cos(2*pi*x)*cos(t)")
    model = LinearAdvection(speed=1.0, discretisation=discretisation, forcing=forcing, omit=("forcing",))
    fine, coarse = Grid((48,), (1.0,)), Grid((24,), (1.0,))
    term = MissingTerm(model, Restrict(model, fine, coarse, "filter"), 1)
    flat = np.ones((1, 1, 48))
    np.testing.assert_allclose(term(flat, 2.5), np.cos(2.5) * term(flat, 0.0), atol=1e-14)
    assert np.abs(term(flat, 0.0)).max() > 0.9


def test_the_term_of_large_eddy_simulation():
    """Pi = cut(N(w)) - N(cut w), and it is not small; viscosity, drag and forcing commute with the cut."""
    w = waves(FINE, FINE.cuts)
    restrict = Restrict(FLOW, FINE, COARSE, "filter")
    missing = MissingTerm(FLOW, restrict, len(w))(w)
    advection = by_hand(w, FINE, FINE.cuts)
    expected = restrict(advection) - by_hand(restrict(w), COARSE, COARSE.cuts)
    np.testing.assert_allclose(missing, expected, atol=1e-12 * np.abs(advection).max())
    assert np.abs(expected).max() > 0.05 * np.abs(restrict(advection)).max()
    np.testing.assert_allclose(missing.mean(axis=(1, 2, 3)), 0, atol=1e-12 * np.abs(missing).max())


def test_the_term_of_cell_averages():
    """H_j is the difference of the fine fluxes at the ends of a coarse cell, less the coarse fluxes."""
    fine, coarse = Grid((60,), (2.0,)), Grid((20,), (2.0,))
    state = np.random.default_rng(0).standard_normal((2, 1, 60))
    term = MissingTerm(CELLS, Restrict(CELLS, fine, coarse, "filter"), 2)(state)
    rates = Rate(CELLS, fine, 2)(state).reshape(2, 1, 20, 3).mean(-1)
    np.testing.assert_allclose(term, rates - Rate(CELLS, coarse, 2)(state.reshape(2, 1, 20, 3).mean(-1)), atol=1e-12)
    np.testing.assert_allclose(term.mean(-1), 0, atol=1e-12)


def test_the_rate_does_not_touch_the_state():
    state = waves(COARSE, (5, 5))
    kept = state.copy()
    for equation, field, grid in ((FLOW, state, COARSE), (CELLS, state[:, :, 0], Grid((32,), (5.0,)))):
        Rate(equation, grid, 2)(field)
    np.testing.assert_array_equal(state, kept)


@pytest.mark.parametrize(("fine", "coarse"), [(90, 80), (20, 36)])
def test_cell_averages_of_a_depth_that_ends_at_a_shore_stay_positive(fine, coarse):
    """And the water stays the same in all."""
    depth = np.maximum(np.sin(2 * np.pi * (np.arange(fine) + 0.5) / fine), 0.0)[None, None]
    found = average_cells(depth, (coarse,))
    assert found.min() >= 0
    assert found.sum() / coarse == pytest.approx(depth.sum() / fine, rel=1e-14)


def test_the_rate_of_two_fields_uses_the_operator_of_each():
    """(1, 3) u_xx of sin x is -(1, 3) sin x, for every member."""

    class TwoViscosities(Burgers):
        fields = (Burgers.fields[0], Burgers.fields[0])

        def linear(self, operators):
            return -operators.k2 * np.array([[1.0], [3.0]])

        def compiled(self, grid, members):
            return None

    grid = Grid((16,), (2 * np.pi,))
    state = np.array([[[1.0], [1.0]], [[2.0], [5.0]]]) * np.sin(grid.coordinates()[0])
    rate = Rate(TwoViscosities(viscosity=0.0, omit=("advection",)), grid, 2)(state)
    np.testing.assert_allclose(rate, -np.array([[1.0], [3.0]]) * state, atol=1e-13)
