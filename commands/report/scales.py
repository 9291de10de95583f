"""The colour scales of maps."""

from __future__ import annotations

from typing import Any

import numpy as np

NO_VALUES = "#c9c9c9"


def scale(values: np.ndarray, diverging: str) -> dict[str, Any]:
    """Colour limits that contain 99.5 % of the values; for a signed field symmetric, with the map `diverging`."""
    from matplotlib import colormaps

    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, [0.25, 99.75]) if finite.size else (0.0, 1.0)
    signed = low <= 0 <= high and min(-low, high) >= 0.1 * max(-low, high)
    if signed:
        high = max(-low, high) or 1e-12
        low = -high
    name = diverging if signed else "viridis"
    return {"vmin": low, "vmax": high, "cmap": colormaps[name].with_extremes(bad=NO_VALUES)}


def typical(errors: np.ndarray) -> np.ndarray:
    """The errors of all runs, (run, ...), clipped to 1.5 times those of the median run, so that one bad run hides none.

    The errors of a run are the 99.75th percentile of their absolute values.
    """
    usual = [np.percentile(known, 99.75) for one in np.abs(errors) if (known := one[np.isfinite(one)]).size]
    most = 1.5 * float(np.median(usual)) if usual else 0.0
    return np.clip(errors, -most, most) if most > 0 else errors
