"""Sparse regression: sequentially thresholded least squares on normal equations.

The pairs of a training set are too many for one design matrix. All that the method needs are sums over them: the
moments of candidates g_j and target y.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Moments:
    """products_ij = <g_i g_j>, target_i = <g_i y>, square = <y^2>."""

    products: NDArray[np.float64]
    target: NDArray[np.float64]
    square: float

    @classmethod
    def of(cls, parts: Iterable[tuple[list[NDArray], NDArray]]) -> Moments:
        """The moments of parts (candidates, target) of a data set."""
        products: NDArray | float = 0.0
        target: NDArray | float = 0.0
        square, count = 0.0, 0
        for candidates, y in parts:
            design = np.stack([g.ravel() for g in candidates])
            products, target = products + design @ design.T, target + design @ y.ravel()
            square, count = square + float(np.vdot(y, y)), count + y.size
        return cls(np.asarray(products) / count, np.asarray(target) / count, square / count)

    def error(self, c: NDArray) -> float:
        """||y - sum c_j g_j|| / ||y||."""
        left = self.square - 2 * c @ self.target + c @ self.products @ c
        return float(np.sqrt(max(0.0, left) / self.square))


def least_squares(moments: Moments, active: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The coefficients of least error among those that are active; the others are 0."""
    found = np.zeros(len(moments.target))
    scale = np.sqrt(np.diag(moments.products)[active])
    scale[scale == 0] = 1.0
    matrix = moments.products[np.ix_(active, active)] / np.outer(scale, scale)
    found[active] = np.linalg.lstsq(matrix, moments.target[active] / scale, rcond=1e-13)[0] / scale
    return found


def stlsq(moments: Moments, threshold: float) -> NDArray[np.float64]:
    """Coefficients by sequentially thresholded least squares.

    Candidates whose contribution, |c_j| rms(g_j) / rms(y), is below `threshold` are dropped and the others fitted
    again, until none is dropped. Contributions are compared and not coefficients, which have different units.
    Source: Brunton, Proctor and Kutz, Proc. Natl. Acad. Sci. 113 (2016) 3932.
    """
    unit = np.sqrt(np.diag(moments.products) / moments.square)
    active = unit > 0
    while True:
        found = least_squares(moments, active)
        kept = active & (np.abs(found) * unit >= threshold)
        if (kept == active).all():
            return found
        active = kept


def sparsest(
    train: Moments, validation: Moments, thresholds: Iterable[float], tolerance: float
) -> tuple[NDArray[np.float64], float]:
    """Coefficients and threshold of the fewest terms whose validation error is within `tolerance` of the least one.

    Among equal numbers of terms the least validation error decides.
    """
    tried = [(stlsq(train, threshold), threshold) for threshold in thresholds]
    errors = [validation.error(found) for found, _ in tried]
    bound = (1 + tolerance) * min(errors)
    good = [i for i, error in enumerate(errors) if error <= bound]
    best = min(good, key=lambda i: (np.count_nonzero(tried[i][0]), errors[i]))
    return tried[best]
