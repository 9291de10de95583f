"""Scores of an ensemble (time, trajectory, member, *) against the truth (time, trajectory, *)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from subgrid.solver.equations import Equation
from subgrid.solver.grid import Grid
from subgrid.solver.spectral import Transforms, spectrum


def _flat(values: NDArray, lead: int) -> NDArray:
    return values.reshape(*values.shape[:lead], -1)


def relative_l2(estimate: NDArray, truth: NDArray) -> NDArray:
    """||estimate - truth|| / ||truth|| for every time and trajectory: (time, trajectory), not finite for 0 truth."""
    a, b = _flat(estimate, 2), _flat(truth, 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.linalg.norm(a - b, axis=-1) / np.linalg.norm(b, axis=-1)


def correlation(estimate: NDArray, truth: NDArray, real: NDArray[np.bool_] | None = None) -> NDArray:
    """Pattern correlation of the two fields about their means: (time, trajectory).

    1 where both are uniform, as at a start from rest, and 0 where one of them is.
    real: (trajectory, *grid), over which points it is, by default all.
    """
    a, b = _flat(estimate, 2), _flat(truth, 2)
    counted = None if real is None else _flat(np.broadcast_to(real[:, None], truth.shape[1:]), 1)
    a, b = (x - np.mean(x, -1, keepdims=True, where=True if counted is None else counted) for x in (a, b))
    if counted is not None:
        a, b = a * counted, b * counted
    sizes = np.linalg.norm(a, axis=-1), np.linalg.norm(b, axis=-1)
    scale = sizes[0] * sizes[1]
    uniform = (sizes[0] == 0) & (sizes[1] == 0)
    return np.where(uniform, 1.0, (a * b).sum(-1) / np.where(scale > 0, scale, 1.0))


def correlation_time(values: NDArray, times: NDArray, threshold: float) -> NDArray[np.float64]:
    """The time after the start at which the correlation (time, trajectory) first falls below the threshold.

    Linear between output times; a trajectory that never does counts with the length of the window.
    """
    spans = []
    for series in values.T:
        below = np.flatnonzero(series < threshold)
        if below.size == 0:
            spans.append(times[-1] - times[0])
        elif below[0] == 0:
            spans.append(0.0)
        else:
            i = below[0]
            part = (series[i - 1] - threshold) / (series[i - 1] - series[i])
            spans.append(times[i - 1] + part * (times[i] - times[i - 1]) - times[0])
    return np.array(spans)


def crps(ensemble: NDArray, truth: NDArray) -> NDArray:
    """mean_i |x_i - y| - sum_ij |x_i - x_j| / (2 M (M - 1)), averaged over points: (time, trajectory).

    The fair score of an ensemble x_1, ..., x_M: its expectation for members drawn from a law does not depend on M and
    is least for the law of the truth. For one member it is the mean absolute error. Single points can be negative.
    Ferro, Q. J. R. Meteorol. Soc. 140 (2014) 1917; Hersbach, Weather and Forecasting 15 (2000) 559.
    """
    members = ensemble.shape[2]
    error = np.abs(ensemble - truth[:, :, None]).mean(axis=tuple(range(2, ensemble.ndim)))
    ordered = np.sort(ensemble, axis=2)
    weight = (2 * np.arange(members) - members + 1).reshape(1, 1, members, *[1] * (ensemble.ndim - 3))
    spread = (weight * ordered).sum(axis=2).mean(axis=tuple(range(2, ensemble.ndim - 1)))
    spread /= members * max(1, members - 1)
    return error - spread


def energy_score(ensemble: NDArray, truth: NDArray) -> NDArray:
    """mean_i |x_i - y| - sum_ij |x_i - x_j| / (2 M (M - 1)), |.| the rms over points and fields: (time, trajectory).

    The fair score of the ensemble as one vector, which sees the correlations that CRPS does not: Gneiting and Raftery,
    J. Amer. Stat. Assoc. 102 (2007) 359, eq. 22. For one member it is the rms error.
    """
    flat = _flat(ensemble, 3)
    members, points = flat.shape[2], flat.shape[3]
    error = np.linalg.norm(flat - _flat(truth, 2)[:, :, None], axis=-1).mean(axis=2)
    pairs = [np.linalg.norm(flat[:, :, i] - flat[:, :, j], axis=-1) for i in range(members) for j in range(i)]
    spread = np.sum(pairs, axis=0) / (members * (members - 1)) if pairs else 0.0
    return (error - spread) / np.sqrt(points)


def spread_skill(ensemble: NDArray, truth: NDArray) -> NDArray:
    """sqrt((M+1)/M mean variance) / rms error of the mean: (time,), 1 for a calibrated ensemble.

    nan for one member or where the error is zero. Fortin et al., J. Hydrometeorology 15 (2014) 1708.
    """
    members = ensemble.shape[2]
    if members < 2:
        return np.full(len(ensemble), np.nan)
    axes = tuple(range(1, truth.ndim))
    deviations = ensemble - ensemble[:, :, :1]  # of equal members exactly zero
    variance = deviations.var(axis=2, ddof=1).mean(axis=axes) * (members + 1) / members
    error = ((ensemble.mean(axis=2) - truth) ** 2).mean(axis=axes)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(error > 0, np.sqrt(variance / error), np.nan)


def rank_histogram(ensemble: NDArray, truth: NDArray) -> NDArray:
    """How often the truth is the r-th from below of members and truth, times (M + 1): (M + 1,), flat if calibrated.

    Over all points, trajectories and times. A truth that equals members has all ranks among them alike; points where
    it equals all of them, as on dry land, are left out. High ends are a spread that is too small. nan for one member,
    or for members that do not differ: deviations below 1e-3 of the error. Hamill, Mon. Wea. Rev. 129 (2001) 550.
    """
    members = ensemble.shape[2]
    spread = ensemble.std(axis=2).mean() if members > 1 and ensemble.size else 0.0
    if not spread > 1e-3 * np.abs(ensemble[:, :, 0] - truth).mean():
        return np.full(members + 1, np.nan)
    below = (ensemble < truth[:, :, None]).sum(axis=2).ravel()
    equal = (ensemble == truth[:, :, None]).sum(axis=2).ravel()
    counts = np.zeros(members + 1)
    for tied in range(members):
        ranks = below[equal == tied]
        for more in range(tied + 1 if len(ranks) else 0):
            counts += np.bincount(ranks + more, minlength=members + 1) / (tied + 1)
    counted = (equal < members).sum()
    return counts * (members + 1) / counted if counted else np.full(members + 1, np.nan)


def energy_spectrum(states: NDArray, equation: Equation, grid: Grid) -> NDArray:
    """Energy per shell of integer wavenumber, averaged over all leading axes of (..., field, *grid): (shell,)."""
    flat = states.reshape(-1, *grid.shape)
    return spectrum(Transforms(grid).to_spectrum(flat), grid, equation.spectrum_density(grid)).mean(axis=0)


def compared_shells(truth: NDArray, largest: int) -> NDArray[np.int64]:
    """The shells 2..largest that hold more than 1e-10 of the truth's peak; none where fewer than two do."""
    shells = np.arange(2, min(largest + 1, len(truth)))
    shells = shells[truth[shells] > 1e-10 * truth.max()]
    return shells if len(shells) > 1 else shells[:0]


def spectrum_distance(energy: NDArray, truth: NDArray, largest: int) -> float | None:
    """Mean of |log10(E / E_truth)| over `compared_shells`; None where there are none."""
    shells = compared_shells(truth, largest)
    if not len(shells):
        return None
    ratio = np.maximum(energy[shells], 1e-300) / truth[shells]
    return float(np.abs(np.log10(ratio)).mean())
