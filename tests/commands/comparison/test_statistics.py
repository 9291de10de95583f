"""Long-run statistics against closed forms."""

import numpy as np
import pytest

from subgrid.commands.comparison import statistics
from subgrid.solver.equations import EQUATIONS
from subgrid.solver.grid import Grid

GRID = Grid((24, 24), (2 * np.pi, 2 * np.pi))


def flow(seed, times=3, trajectories=2):
    r = np.random.default_rng(seed)
    modes = np.zeros((times, trajectories, 1, *GRID.spectral_shape), complex)
    kept = GRID.mask() & (GRID.shells() > 0)
    modes[..., kept] = r.normal(size=(times, trajectories, 1, kept.sum(), 2)) @ [1, 1j]
    return np.fft.irfft2(modes, GRID.shape)


def kolmogorov():
    return EQUATIONS.find("kolmogorov")(viscosity=1e-3)


def test_the_distance_of_shifted_distributions_is_the_shift():
    truth = np.random.default_rng(0).normal(size=(4, 2, 2, 1000))
    found = statistics.wasserstein(truth + 0.3, truth)
    assert found == pytest.approx(0.3 / truth.std(), rel=0.02)
    assert statistics.wasserstein(truth, truth) == 0.0


def test_advection_moves_energy_and_enstrophy_between_shells_and_creates_none():
    """The mean over all shells is zero: the flux beyond the last shell of a flow whose modes the 2/3 rule all keeps."""
    states = flow(1)
    operators, transforms = statistics.Operators(GRID), statistics.Transforms(GRID)
    w = transforms.to_spectrum(states.reshape(-1, 1, *GRID.shape))
    rate = kolmogorov().nonlinear(operators, w, 0.0) - kolmogorov().nonlinear(operators, 0 * w, 0.0)
    for density in (np.full(GRID.spectral_shape, 0.5), kolmogorov().spectrum_density(GRID)):
        found = statistics.flux(states, kolmogorov(), GRID, density)
        whole = (2 * GRID.half_plane_weight() * density * (w.conj() * rate).real).sum() / len(w)
        assert np.abs(found).max() > 0
        assert abs(whole) < 1e-12 * np.abs(found).max()


def test_the_flux_is_minus_the_rate_of_change_of_the_larger_scales():
    states, density, h = 1e3 * flow(2, 1, 1), np.full(GRID.spectral_shape, 0.5), 1e-4
    w = statistics.Transforms(GRID).to_spectrum(states[0])
    operators = statistics.Operators(GRID)
    rate = kolmogorov().nonlinear(operators, w, 0.0) - kolmogorov().nonlinear(operators, 0 * w, 0.0)

    def enstrophy_below(spectrum, shell):
        weight = GRID.half_plane_weight() * density * (GRID.shells() <= shell)
        return float((weight * np.abs(spectrum) ** 2).sum())

    found = statistics.flux(states, kolmogorov(), GRID, density)
    for shell in (2, 4, 6):
        change = (enstrophy_below(w + h * rate, shell) - enstrophy_below(w - h * rate, shell)) / (2 * h)
        assert found[shell] == pytest.approx(-change, rel=1e-6)


def test_a_rotating_wave_decorrelates_after_a_sixth_of_its_period():
    times = np.linspace(0.0, 2.0, 81)
    x = np.arange(32) * 2 * np.pi / 32
    states = np.cos(x - 2 * np.pi * times[:, None] / 2.0)[:, None, None]
    assert statistics.decorrelation_time(states, times) == pytest.approx(2.0 / 6, rel=1e-2)
    assert np.isnan(statistics.decorrelation_time(np.ones_like(states) * np.cos(x), times))


def test_two_halves_of_one_ensemble_differ_by_about_the_sampling_error():
    truth, other = flow(3, 4, 16), flow(4, 4, 16)
    distances = statistics.distances(kolmogorov(), GRID, np.arange(4.0))
    assert distances.keys() == {"wasserstein", "energy_flux", "enstrophy_flux", "decorrelation"}
    sampling = statistics.sampling_error(distances["wasserstein"], truth)
    assert 0.1 < distances["wasserstein"](other, truth) / sampling < 10
    assert distances["wasserstein"](2 * other, truth) > 5 * sampling
