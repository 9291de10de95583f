"""Grids: what counts as the same domain, and coordinates in any order."""

import numpy as np
import pytest

from subgrid.solver.grid import Grid, increasing_order


@pytest.mark.parametrize("scale", [1e-13, 1e-6, 1.0, 1e9])
def test_domains_are_compared_relative_to_their_length(scale):
    grid = Grid((4, 8), (scale, 3 * scale), (scale, -scale))
    assert grid.has("length", [scale * (1 + 1e-9), 3 * scale])
    assert not grid.has("length", [2 * scale, 3 * scale])
    assert not grid.has("length", [scale * (1 + 1e-3), 3 * scale])
    assert not grid.has("length", [scale])
    assert grid.has("origin", [scale, -scale])
    assert not grid.has("origin", [0.0, 0.0])


def test_coordinates_in_any_order_are_sorted():
    x = Grid((8,), (2.0,), (5.0,)).coordinates()[0]
    shuffled = np.random.default_rng(0).permutation(8)
    np.testing.assert_array_equal(increasing_order(x[shuffled], x), np.argsort(shuffled))
    np.testing.assert_array_equal(increasing_order(x[::-1].astype(">f4"), x), np.arange(8)[::-1])
    for wrong in (x + 0.01, x[:-1], np.where(x == x[3], np.nan, x), x.astype(str), np.full(8, x[0])):
        with pytest.raises(ValueError, match="expected"):
            increasing_order(wrong, x)
