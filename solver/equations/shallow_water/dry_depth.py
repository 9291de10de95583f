"""What the depth below which a cell counts as dry must be."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LARGEST = 1e-5  # of the deepest water: ten times as much slows a front over dry land by 5 %


def require_small(dry: float, state: NDArray, uneven: bool) -> None:
    """Raise ValueError if it is more than LARGEST of the deepest water where shores or dry land are possible.

    state (member, 3, y, x); uneven: whether the bottom is not flat.
    """
    deepest = float(state[:, 0].max())
    shores = uneven or bool((state[:, 0] < dry).any())
    if shores and 0 < LARGEST * deepest < dry * (1 - 1e-12):
        fits = float(f"{1e-6 * deepest:.1g}")
        raise ValueError(
            f"equation.dry: {dry:g} is more than {LARGEST:g} of the deepest water, {deepest:.3g}: fronts "
            f"over dry land would be too slow. Remedy: equation.dry = {fits:g}, or less"
        )


def require_distinct(dry: float, state: NDArray, bottom: NDArray | None) -> None:
    """Raise ValueError if it is less than the spacing of the surface's values in single precision.

    Where shores or dry land are possible: over the bottom (y, x), or on a flat one, None, with depths that small.
    """
    largest = max(float(state[:, 0].max()), 0.0 if bottom is None else float(np.abs(bottom).max()))
    spacing = float(np.finfo(np.float32).eps) * largest
    if dry < spacing and (bottom is not None or bool((state[:, 0] < spacing).any())):
        raise ValueError(
            f"equation.dry: {dry:g} is less than {spacing:.2g}, the spacing of numbers of single precision at "
            f"{largest:.3g}, the largest depth or height of the bottom. Remedy: equation.dry = "
            f'{float(f"{1.5 * spacing:.1g}"):g}, or precision = "float64"'
        )
