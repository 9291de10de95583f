"""The phi functions of exponential schemes."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

MOST_REMEMBERED = 2**17


def phi(order: int, z: NDArray) -> NDArray:
    """phi_0 = e^z, phi_{k+1} = (phi_k - 1/k!) / z, to full precision at every z.

    Mean over a circle of radius 1 about z, on which the quotient has no cancellation: Kassam and Trefethen, SIAM J.
    Sci. Comput. 26 (2005) 1214.
    """
    if order == 0:
        return np.exp(z)
    values, places = np.unique(z, return_inverse=True)  # few in the plane, where L depends on |k|
    found = _remembered if values.size <= MOST_REMEMBERED else _mean_over_circles
    return found(order, str(values.dtype), values.tobytes())[places].reshape(z.shape)


def _mean_over_circles(order: int, dtype: str, stored: bytes) -> NDArray:
    z = np.frombuffer(stored, dtype)
    points = 64
    total = np.zeros(z.shape, dtype=np.complex128)
    for theta in 2 * np.pi * (np.arange(points) + 0.5) / points:
        w = z + np.exp(1j * theta)
        value = np.exp(w)
        factorial = 1.0
        for k in range(1, order + 1):
            value = (value - 1 / factorial) / w
            factorial *= k
        total += value
    total /= points
    return total if np.iscomplexobj(z) else total.real


_remembered = lru_cache(maxsize=16)(_mean_over_circles)  # stages, batches and runs ask for the same
