"""Perturbed initial states: the amplitude asked for, the same on every grid and in every batch, with the mean kept."""

import numpy as np
import pytest

from subgrid.ingest.perturbation import perturbed
from subgrid.solver.equations import EQUATIONS
from subgrid.solver.grid import Grid


def make(name, **options):
    return EQUATIONS.find(name)(**options)


def test_the_relative_change_has_the_amplitude_that_was_asked_for():
    grid = Grid((16, 16), (1.0, 1.0))
    state = np.ones((400, 3, 16, 16))
    found = perturbed(state, make("shallow-water"), grid, tuple(range(400)), 3, 0.02)
    assert np.abs((found - 1).std() / 0.02 - 1) < 0.05
    np.testing.assert_allclose(found.mean(axis=(2, 3)), 1.0, rtol=1e-12)
    np.testing.assert_array_equal(found[:, 0], found[:, 2])  # one field of perturbations for all fields of a member


def test_a_member_is_perturbed_alike_alone_in_a_batch_and_on_a_frontier():
    kolmogorov = make("kolmogorov", viscosity=1e-3)
    coarse, fine = Grid((32, 32), (2 * np.pi,) * 2), Grid((64, 64), (2 * np.pi,) * 2)

    def wave(grid):
        y, x = grid.coordinates()
        return (np.sin(3 * x) + np.cos(2 * y)[:, None])[None, None]

    both = perturbed(np.repeat(wave(coarse), 2, axis=0), kolmogorov, coarse, (0, 5), 1, 0.1)
    alone = perturbed(wave(coarse), kolmogorov, coarse, (5,), 1, 0.1)
    np.testing.assert_allclose(both[1:], alone, atol=1e-15)
    np.testing.assert_allclose(perturbed(wave(fine), kolmogorov, fine, (5,), 1, 0.1)[..., ::2, ::2], alone, atol=1e-13)
    assert np.abs(both[0] - both[1]).max() > 0.01
    assert np.abs(alone.mean() - wave(coarse).mean()) < 1e-15


def test_depths_stay_positive_and_cell_averages_agree_between_grids_to_second_order():
    water = make("shallow-water")
    grids = [Grid((n, n), (1.0, 1.0)) for n in (32, 64)]
    coarse, fine = (perturbed(np.ones((1, 3, *g.shape)), water, g, (2,), 0, 0.1) for g in grids)
    assert coarse[:, 0].min() > 0
    blocks = fine.reshape(1, 3, 32, 2, 32, 2).mean(axis=(3, 5))
    assert np.abs(blocks - coarse).max() < 0.1 * 0.1


def test_without_amplitude_the_state_is_returned_as_it_is_and_particles_are_refused():
    grid = Grid((16,), (1.0,))
    state = np.ones((1, 1, 16))
    assert perturbed(state, make("advection", speed=1.0), grid, (0,), 0, 0.0) is state
    with pytest.raises(ValueError, match=r"ensemble\.perturbation"):
        perturbed(np.ones((1, 8, 5)), make("charged-particles"), Grid((5,), (5.0,)), (0,), 0, 0.1)
