"""Sequentially thresholded least squares on moments finds what the same method on a full design matrix finds."""

from __future__ import annotations

import numpy as np
import pytest

from subgrid.closures.equation_discovery.sparse_regression import Moments, least_squares, sparsest, stlsq

SCALES = np.array([1.0, 100.0, 0.01, 5.0, 1.0])
TRUE = np.array([2.0, 0.0, -300.0, 0.0, 0.05])


def data(noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A design matrix (row, candidate) with units that differ, correlated columns, and noisy values."""
    generator = np.random.default_rng(seed)
    design = generator.standard_normal((4000, 5))
    design[:, 1] += 0.9 * design[:, 0]
    design *= SCALES
    return design, design @ TRUE + noise * generator.standard_normal(4000)


def moments(design: np.ndarray, y: np.ndarray) -> Moments:
    return Moments.of(([*part.T], values) for part, values in zip(np.split(design, 4), np.split(y, 4), strict=True))


def by_design_matrix(design: np.ndarray, y: np.ndarray, threshold: float) -> np.ndarray:
    """The method as published, on columns of unit norm and a target of unit norm."""
    norm = np.linalg.norm(design, axis=0)
    unit, target = design / norm, y / np.linalg.norm(y)
    found = np.linalg.lstsq(unit, target)[0]
    for _ in range(len(found)):
        small = np.abs(found) < threshold
        found[small] = 0
        found[~small] = np.linalg.lstsq(unit[:, ~small], target)[0]
    return found * np.linalg.norm(y) / norm


@pytest.mark.parametrize("threshold", [0.0, 0.005, 0.1, 0.7])
@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_moments_give_what_the_design_matrix_gives(noise, threshold):
    design, y = data(noise)
    found = stlsq(moments(design, y), threshold)
    expected = by_design_matrix(design, y, threshold)
    np.testing.assert_allclose(found * SCALES, expected * SCALES, rtol=1e-9, atol=1e-11)
    assert (found != 0).sum() == {0.0: 5, 0.005: 3, 0.1: 2, 0.7: 1}[threshold] or noise
    error = np.linalg.norm(y - design @ found) / np.linalg.norm(y)
    np.testing.assert_allclose(moments(design, y).error(found), error, atol=1e-7)


def test_exact_data_give_exact_coefficients_and_an_absent_candidate_none():
    design, y = data(0.0)
    design = np.column_stack([design, np.zeros(len(y))])
    np.testing.assert_allclose(stlsq(moments(design, y), 0.001), [*TRUE, 0.0], rtol=1e-10)
    np.testing.assert_allclose(least_squares(moments(design, y), np.ones(6, bool)), [*TRUE, 0.0], atol=1e-9)


def test_the_threshold_of_the_fewest_terms_is_chosen_by_validation():
    train, validation = moments(*data(1.0)), moments(*data(1.0, seed=1))
    found, threshold = sparsest(train, validation, (0.0, 0.002, 0.01, 0.1, 0.7), tolerance=0.0005)
    assert np.flatnonzero(found).tolist() == [0, 2, 4] and threshold in (0.002, 0.01)
    loose, _ = sparsest(train, validation, (0.0, 0.002, 0.01, 0.1, 0.7), tolerance=0.2)
    assert np.flatnonzero(loose).tolist() == [0, 2]
    assert train.error(np.zeros(5)) == 1.0
