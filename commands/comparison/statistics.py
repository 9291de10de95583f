"""Long-run statistics of a run against those of the reference, each beside the sampling error of the reference itself.

A trajectory of a chaotic flow is lost after a while, whatever the closure; its statistics are not. The sampling error
is the same distance between the two halves of the reference, by trajectory if there are several, else in time, over
sqrt(2): a distance of this size means that the run cannot be told from the reference.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from subgrid.solver.equations import Equation
from subgrid.solver.grid import Grid
from subgrid.solver.spectral import Operators, Transforms

from . import metrics

QUANTILES = 1000
DECORRELATED = 0.5


def wasserstein(states: NDArray, truth: NDArray) -> float:
    """W1 distance of the one-point distributions over the standard deviation of the truth; the mean over the fields.

    W1 = integral over q of |F^-1(q) - G^-1(q)|, by QUANTILES quantiles. Axis 2 of both arrays is the field.
    """
    at = (np.arange(QUANTILES) + 0.5) / QUANTILES
    found = []
    for field in range(truth.shape[2]):
        ours, theirs = (np.quantile(a[:, :, field], at) for a in (states, truth))
        deviation = truth[:, :, field].std()
        found.append(np.abs(ours - theirs).mean() / deviation if deviation > 0 else 0.0)
    return float(np.mean(found))


def flux(states: NDArray, equation: Equation, grid: Grid, density: NDArray) -> NDArray[np.float64]:
    """-sum over |k| <= K of 2 density Re(conj(u_k) N_k): what the nonlinear term carries beyond shell K, (shell,).

    With density 1/2 the flux of |u|^2/2, for vorticity of enstrophy; with the equation's `spectrum_density` of energy.
    The mean over time and members. N without its forcing, the value for u = 0.
    """
    operators = Operators(grid)
    spectra = Transforms(grid).to_spectrum(states.reshape(-1, *states.shape[2:]))
    forcing = equation.nonlinear(operators, np.zeros_like(spectra[:1]), 0.0)
    rate = np.concatenate([equation.nonlinear(operators, u[None], 0.0) - forcing for u in spectra])
    scale = 2 * grid.half_plane_weight() * density
    transfer = (scale * (spectra.conj() * rate).real).sum(axis=1).mean(axis=0)
    shells = grid.shells().ravel()
    by_shell = np.bincount(shells, weights=transfer.ravel())
    return np.asarray(-np.cumsum(by_shell)[: min(grid.cuts) + 1], dtype=np.float64)


def flux_distance(states: NDArray, truth: NDArray, equation: Equation, grid: Grid, density: NDArray) -> float:
    """||flux - true flux|| / ||true flux|| over the shells up to the 2/3 rule."""
    ours, theirs = (flux(a, equation, grid, density) for a in (states, truth))
    size = float(np.linalg.norm(theirs))
    return float(np.linalg.norm(ours - theirs)) / size if size > 0 else math.nan


def decorrelation_time(states: NDArray, times: NDArray) -> float:
    """The lag at which the correlation of a run with its own past falls below DECORRELATED, (time, member, ...).

    The mean over members and over the first half of the run as the earlier time; nan if it does not fall so far.
    """
    starts = max(1, len(times) // 2)
    lags = len(times) - starts
    curve = [
        np.mean([metrics.correlation(states[t + lag][None], states[t][None]) for t in range(starts)])
        for lag in range(lags + 1)
    ]
    below = np.flatnonzero(np.array(curve) < DECORRELATED)
    if not below.size:
        return math.nan
    i = int(below[0])
    part = (curve[i - 1] - DECORRELATED) / (curve[i - 1] - curve[i])
    return float(times[i - 1] + part * (times[i] - times[i - 1]) - times[0])


def distances(equation: Equation, grid: Grid, times: NDArray) -> dict[str, Callable[[NDArray, NDArray], float]]:
    """name -> distance of states (time, member, field, *grid) from the truth (time, trajectory, field, *grid).

    wasserstein; energy_flux and, for vorticity, enstrophy_flux; decorrelation, |log(time / true time)|. What an
    equation does not have is left out; particles have none.
    """
    if equation.kind == "particles":
        return {}
    found: dict[str, Callable[[NDArray, NDArray], float]] = {"wasserstein": wasserstein}
    if equation.kind == "semi-linear":
        half, energy = np.full(grid.spectral_shape, 0.5), equation.spectrum_density(grid)
        found["energy_flux"] = lambda a, b: flux_distance(a, b, equation, grid, energy)
        if not np.array_equal(half, np.broadcast_to(energy, half.shape)):
            found["enstrophy_flux"] = lambda a, b: flux_distance(a, b, equation, grid, half)

    def ratio(a: NDArray, b: NDArray) -> float:
        ours, theirs = (decorrelation_time(u, times[: len(u)]) for u in (a, b))
        return abs(math.log(ours / theirs)) if ours > 0 and theirs > 0 else math.nan

    return found | {"decorrelation": ratio}


def sampling_error(distance: Callable[[NDArray, NDArray], float], truth: NDArray) -> float:
    """The distance of the two halves of the truth over sqrt(2); nan for a truth that cannot be halved."""
    axis = 1 if truth.shape[1] > 1 else 0
    middle = truth.shape[axis] // 2
    if middle == 0:
        return math.nan
    a, b = truth.take(range(middle), axis), truth.take(range(middle, 2 * middle), axis)
    return distance(a, b) / math.sqrt(2)
