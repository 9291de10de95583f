"""Scores of large arrays, which are computed part by part."""

import numpy as np

from subgrid.closures.learning import scores


def test_root_mean_squares_of_parts_are_those_of_the_whole(monkeypatch):
    array = np.random.default_rng(0).normal(size=(23, 2, 5, 5)).astype(np.float32)
    whole = scores.root_mean_squares(array)
    np.testing.assert_allclose(whole, np.sqrt((array.astype(float) ** 2).mean((0, 2, 3))), rtol=1e-12)
    monkeypatch.setattr(scores, "LARGE", 1000)
    np.testing.assert_allclose(scores.root_mean_squares(array), whole, rtol=1e-12)
