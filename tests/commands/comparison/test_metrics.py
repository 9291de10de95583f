"""Scores against their definitions and against closed forms."""

import math

import numpy as np
import pytest
import scoringrules

from subgrid.commands.comparison import metrics
from subgrid.commands.comparison.results import Row
from subgrid.commands.comparison.statistics import decorrelation_time
from subgrid.solver.equations import Burgers, Kolmogorov, LinearAdvection
from subgrid.solver.grid import Grid


def draws(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize("members", [1, 2, 7])
def test_crps_is_the_double_sum(members):
    """mean |x_i - y| - sum_ij |x_i - x_j| / (2 M (M - 1)), at every point."""
    ensemble, truth = draws(2, 3, members, 1, 4, 5), draws(2, 3, 1, 4, 5, seed=1)
    error = np.abs(ensemble - truth[:, :, None]).mean(axis=2)
    spread = np.abs(ensemble[:, :, :, None] - ensemble[:, :, None]).sum(axis=(2, 3)) / (
        2 * members * max(1, members - 1)
    )
    np.testing.assert_allclose(metrics.crps(ensemble, truth), (error - spread).mean(axis=(2, 3, 4)), rtol=1e-12)


@pytest.mark.parametrize("members", [2, 4, 16])
def test_crps_is_the_fair_score_of_scoringrules(members):
    ensemble, truth = draws(3, 2, members, 1, 6, 7), draws(3, 2, 1, 6, 7, seed=1)
    fair = scoringrules.crps_ensemble(truth, ensemble, m_axis=2, estimator="fair", backend="numpy")
    np.testing.assert_allclose(metrics.crps(ensemble, truth), fair.mean(axis=(2, 3, 4)), rtol=1e-12)


@pytest.mark.parametrize("members", [2, 4, 16])
def test_crps_of_a_perfect_ensemble_does_not_depend_on_the_number_of_members(members):
    """1 / sqrt(pi) = 0.564 for members and truth from the standard normal law."""
    points = 40000
    found = metrics.crps(draws(1, 1, members, 1, points), draws(1, 1, 1, points, seed=1))
    assert found[0] == pytest.approx(1 / math.sqrt(math.pi), abs=5 / math.sqrt(points))


def test_crps_of_a_gaussian():
    """sigma [z (2 Phi(z) - 1) + 2 phi(z) - 1 / sqrt(pi)], z = (y - mu) / sigma: Gneiting et al. (2005), eq. 5."""
    mean, deviation, members = 0.4, 1.7, 20000
    generator = np.random.default_rng(0)
    for y in (-3.0, 0.4, 1.0):
        z = (y - mean) / deviation
        normal = 0.5 * (1 + math.erf(z / math.sqrt(2)))
        density = math.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
        expected = deviation * (z * (2 * normal - 1) + 2 * density - 1 / math.sqrt(math.pi))
        ensemble = mean + deviation * generator.standard_normal((1, 1, members, 1, 1))
        found = metrics.crps(ensemble, np.full((1, 1, 1, 1), y))
        assert found[0] == pytest.approx(expected, abs=5 * deviation / math.sqrt(members))


def test_crps_prefers_the_true_law():
    """A proper score: an ensemble that is biased, too narrow or too wide scores worse."""
    truth = draws(1, 1, 1, 4000, seed=3)
    ensemble = draws(1, 1, 50, 1, 4000, seed=4)
    best = metrics.crps(ensemble, truth)[0]
    for other in (ensemble + 0.5, 0.5 * ensemble, 2 * ensemble):
        assert metrics.crps(other, truth)[0] > 1.03 * best


@pytest.mark.parametrize("members", [2, 5, 40])
def test_spread_and_skill_agree_where_the_truth_is_one_of_the_ensemble(members):
    """1 whatever the number of members M, and sqrt(4 (M + 1) / (M + 4)) for an ensemble twice too wide."""
    points, trajectories = 400, 100
    ensemble, truth = draws(2, trajectories, members, 1, points), draws(2, trajectories, 1, points, seed=1)
    tolerance = 5 / math.sqrt(points * trajectories)
    np.testing.assert_allclose(metrics.spread_skill(ensemble, truth), 1, atol=tolerance)
    # variance 4 s^2 (M + 1) / M against an error of the mean of s^2 + 4 s^2 / M
    wide = math.sqrt(4 * (members + 1) / (members + 4))
    np.testing.assert_allclose(metrics.spread_skill(2 * ensemble, truth), wide, rtol=2 * tolerance)


@pytest.mark.parametrize("members", [2, 9])
def test_the_rank_of_the_truth_is_flat_where_it_is_one_of_the_ensemble(members):
    """Too small a spread piles up at both ends, a bias at one."""
    ensemble, truth = draws(3, 10, members, 1, 3000), draws(3, 10, 1, 3000, seed=1)
    found = metrics.rank_histogram(ensemble, truth)
    assert found.mean() == pytest.approx(1) and found == pytest.approx(np.ones(members + 1), abs=0.05)
    narrow, biased = metrics.rank_histogram(0.3 * ensemble, truth), metrics.rank_histogram(ensemble + 1, truth)
    assert min(narrow[0], narrow[-1]) > 1.25 > 1 > narrow[1]
    assert biased[0] > 1.25 and biased[-1] < 0.75


def test_a_run_from_rest_that_follows_the_truth_does_not_lose_its_correlation_at_the_start():
    """Both are uniform then. A run or a truth that alone is uniform has no correlation with the other."""
    truth = draws(3, 2, 1, 20)
    truth[0] = 0.0
    found = metrics.correlation(truth, truth)
    np.testing.assert_allclose(found, 1.0)
    assert (metrics.correlation_time(found, np.arange(3.0), 0.8) == 2.0).all()
    assert (metrics.correlation(0 * truth, truth)[1:] == 0).all()
    assert decorrelation_time(truth[:, :1], np.arange(3.0)) > 0


def test_the_rank_is_flat_where_truth_and_members_are_often_equal():
    """Land is dry in all of them, and a shore in some: neither is a spread that is too small."""
    values = np.maximum(draws(200, 3, 6, 1, 40), 0.5)
    values[..., :20] = 0
    np.testing.assert_allclose(metrics.rank_histogram(values[:, :, 1:], values[:, :, 0]), 1, atol=0.05)


def test_the_rank_is_unknown_for_one_member_or_members_that_do_not_differ():
    truth = draws(3, 2, 1, 4)
    assert np.isnan(metrics.rank_histogram(draws(3, 2, 1, 1, 4), truth)).all()
    same = np.repeat(draws(3, 2, 1, 1, 4, seed=1), 2, axis=2)
    assert np.isnan(metrics.rank_histogram(same + 1e-9 * draws(3, 2, 2, 1, 4), truth)).all()


def test_equal_members_have_no_spread():
    member = draws(3, 2, 1, 1, 4)
    assert (metrics.spread_skill(np.repeat(member, 6, axis=2), member[:, :, 0] + 1.0) == 0).all()


def test_spread_skill_is_unknown_for_one_member_or_no_error():
    assert np.isnan(metrics.spread_skill(draws(3, 2, 1, 1, 4), draws(3, 2, 1, 4))).all()
    truth = draws(3, 2, 1, 4)
    assert np.isnan(metrics.spread_skill(np.repeat(truth[:, :, None], 2, axis=2), truth)).all()


@pytest.mark.parametrize("members", [1, 2, 5])
def test_the_energy_score_is_the_fair_one_of_scoringrules(members):
    """Of every time and trajectory as one vector, over the square root of its length."""
    ensemble, truth = draws(3, 2, members, 2, 6, 7), draws(3, 2, 2, 6, 7, seed=1)
    vectors, true = ensemble.reshape(3, 2, members, -1), truth.reshape(3, 2, -1)
    if members == 1:
        expected = np.linalg.norm(vectors[:, :, 0] - true, axis=-1)
    else:
        expected = scoringrules.es_ensemble(true, vectors, m_axis=2, v_axis=3, estimator="fair", backend="numpy")
    np.testing.assert_allclose(metrics.energy_score(ensemble, truth), expected / np.sqrt(2 * 6 * 7), rtol=1e-12)


def test_correlation_time_is_interpolated_by_trajectory():
    times = np.array([10.0, 11.0, 12.0, 13.0])
    series = np.array(
        [
            [1.0, 1.0, 1.0, 0.7],
            [0.9, 1.0, 1.0, 0.9],
            [0.6, 1.0, 0.7, 0.9],
            [0.9, 1.0, 0.5, 0.9],
        ]
    )
    # 0.9 -> 0.6 crosses 0.8 after a third; never: the window's length; 1.0 -> 0.7 after two thirds; at once: 0
    found = metrics.correlation_time(series, times, 0.8)
    np.testing.assert_allclose(found, [1 + 1 / 3, 3.0, 1 + 2 / 3, 0.0], rtol=1e-12)


def test_correlation_is_pearsons_and_blind_to_mean_and_scale():
    estimate, truth = draws(2, 3, 1, 6, 7), draws(2, 3, 1, 6, 7, seed=1)
    found = metrics.correlation(estimate, truth)
    for t in range(2):
        for j in range(3):
            expected = np.corrcoef(estimate[t, j].ravel(), truth[t, j].ravel())[0, 1]
            assert found[t, j] == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(metrics.correlation(3 * estimate + 2, truth), found, rtol=1e-12)
    np.testing.assert_allclose(metrics.correlation(-estimate, truth), -found, rtol=1e-12)
    assert (metrics.correlation(np.ones_like(truth), truth) == 0).all()


def test_relative_l2():
    estimate, truth = draws(2, 3, 1, 6, 7), draws(2, 3, 1, 6, 7, seed=1)
    found = metrics.relative_l2(estimate, truth)
    assert found.shape == (2, 3)
    expected = math.sqrt(((estimate[1, 2] - truth[1, 2]) ** 2).sum() / (truth[1, 2] ** 2).sum())
    assert found[1, 2] == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(metrics.relative_l2(1.25 * truth, truth), 0.25, rtol=1e-12)


@pytest.mark.parametrize(
    ("equation", "grid"),
    [
        (Kolmogorov(viscosity=0.1), Grid((16, 20), (3.0, 5.0))),
        (Kolmogorov(viscosity=0.1), Grid((15, 21), (6.0, 6.0))),
        (Burgers(viscosity=0.1), Grid((24,), (2.0,))),
        (Burgers(viscosity=0.1), Grid((25,), (2.0,))),
        (LinearAdvection(speed=1.0, discretisation="finite-volume"), Grid((24,), (2.0,))),
    ],
)
def test_the_shells_of_the_spectrum_add_up_to_the_energy(equation, grid):
    """Every mode is in one shell, Nyquist modes included."""
    states = draws(4, 3, 1, *grid.shape)
    energy = metrics.energy_spectrum(states, equation, grid)
    invariant = equation.invariants(states.reshape(12, 1, *grid.shape), grid)["energy"].mean()
    assert energy.sum() == pytest.approx(invariant, rel=1e-12)


def test_one_wave_fills_one_shell():
    """w = cos(3 x + 4 y), |k| = 5, has the energy 1 / (4 |k|^2) in shell 5."""
    grid = Grid((24, 24), (2 * np.pi, 2 * np.pi))
    y, x = np.meshgrid(*grid.coordinates(), indexing="ij")
    energy = metrics.energy_spectrum(np.cos(3 * x + 4 * y)[None, None, None], Kolmogorov(viscosity=0.1), grid)
    expected = np.zeros_like(energy)
    expected[5] = 1 / (4 * 25)
    np.testing.assert_allclose(energy, expected, atol=1e-15)


def test_spectrum_distance_counts_decades():
    """A field ten times too large has a hundred times the energy: two decades, up or down."""
    grid, equation = Grid((32,), (2.0,)), Burgers(viscosity=0.1)
    states = draws(3, 2, 1, 32)
    truth = metrics.energy_spectrum(states, equation, grid)
    for factor in (10.0, 0.1):
        energy = metrics.energy_spectrum(factor * states, equation, grid)
        assert metrics.spectrum_distance(energy, truth, grid.cuts[0] - 1) == pytest.approx(2.0, rel=1e-12)
    assert metrics.spectrum_distance(truth, truth, 9) == 0


def test_spectrum_distance_leaves_out_what_the_truth_does_not_hold():
    """Shells 0, 1, those beyond the largest, and those below 1e-10 of the peak say nothing."""
    truth = np.array([5.0, 4.0, 1.0, 1e-3, 1e-12, 1e-5, 1.0])
    energy = np.array([9.0, 9.0, 10.0, 1e-3, 1.0, 1e-5, 1e9])
    assert metrics.spectrum_distance(energy, truth, 5) == pytest.approx(1 / 3)
    assert metrics.spectrum_distance(energy, truth, 2) is None
    assert metrics.spectrum_distance(np.zeros(7), truth, 5) > 100


@pytest.mark.parametrize("unit", [1e-13, 1.0, 1e9])
def test_an_error_is_found_at_its_time_in_any_unit(unit):
    row = Row(name="a", kind="none", times=[0.0, unit, 2 * unit], relative_l2=[0.0, 0.1, 0.2])
    assert [row.error_at(t) for t in (0.0, unit * (1 + 1e-12), 2 * unit, 3 * unit)] == [0.0, 0.1, 0.2, None]
