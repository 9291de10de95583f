"""Scores of entities: displacement errors, energy score of pairs, distribution of separations, dispersion.

All of them are over real entities alone, and over the positions alone. The samples of a trajectory are its K members.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from subgrid.solver.equations import Equation

from .samples import LEVEL, central, draws

BINS = 20  # of the logarithm of the separation, between the QUANTILES of the truth; two more hold what is beyond
QUANTILES = (0.001, 0.999)
SPREAD = (0.1, 0.5, 0.9)  # quantiles of the final displacement error, over entities, samples and trajectories
MEANS = ("ade", "fde", "min_ade", "min_fde", "pair_energy_score")  # by trajectory


def positions(states: NDArray, equation: Equation) -> NDArray[np.float64]:
    """The positions (time, member, axis, entity) of states (time, member, field, entity)."""
    return np.asarray(states[:, :, equation.having("position")], dtype=np.float64)


def without_placeholders(states: NDArray, mask: NDArray[np.bool_] | None) -> NDArray:
    """States (time, member, field, entity) with zeros for what is not real by the mask (member, entity)."""
    return states if mask is None else np.where(mask[None, :, None], states, 0.0)


def separations(x: NDArray, equation: Equation) -> NDArray[np.float64]:
    """|x_i - x_j| (time, member, pair) of positions (time, member, axis, entity), for the pairs of the equation."""
    i, j = equation.pairs(x.shape[-1])
    return np.sqrt(((x[..., i] - x[..., j]) ** 2).sum(axis=2))


def real_pairs(mask: NDArray[np.bool_], equation: Equation) -> NDArray[np.bool_]:
    """Which pairs have two real entities, (member, pair)."""
    i, j = equation.pairs(mask.shape[-1])
    return mask[:, i] & mask[:, j]


def edges(truth: NDArray, equation: Equation, mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The edges of the bins of separations, (BINS + 1,), from the truth (time, trajectory, field, entity)."""
    apart = separations(positions(truth, equation), equation)[:, real_pairs(mask, equation)]
    low, high = np.quantile(apart, QUANTILES)
    return np.geomspace(max(low, 1e-12), max(high, 1e-12) * (1 + 1e-9), BINS + 1)


def diagnostics(
    states: NDArray, equation: Equation, mask: NDArray[np.bool_], bins: NDArray[np.float64], trajectories: int
) -> dict[str, NDArray]:
    """Of states (time, member, field, entity), with the mask (member, entity), which the truth has too.

    dispersion_absolute, dispersion_relative (time,): root mean squares of the displacement since the start, and of the
    separation of pairs. sample_separation (trajectory, time, bin): the share of pairs in each bin.
    """
    x, paired = positions(states, equation), real_pairs(mask, equation)
    moved = ((x - x[0]) ** 2).sum(axis=2)[:, mask]
    apart = separations(x, equation)
    index = np.digitize(apart, bins)  # 0 and BINS + 1 are below and above
    members = len(mask) // trajectories
    shares = np.zeros((trajectories, len(states), BINS + 2))
    for trajectory in range(trajectories):
        block = slice(trajectory * members, (trajectory + 1) * members)
        for time in range(len(states)):
            counts = np.bincount(index[time, block][paired[block]], minlength=BINS + 2)
            shares[trajectory, time] = counts / max(1, counts.sum())
    return {
        "dispersion_absolute": np.sqrt(moved.mean(axis=1)),
        "dispersion_relative": np.sqrt((apart[:, paired] ** 2).mean(axis=1)),
        "sample_separation": shares,
    }


def score(states: NDArray, truth: NDArray, equation: Equation, mask: NDArray[np.bool_]) -> dict[str, NDArray]:
    """Scores of states (time, member, field, entity) against the truth (time, trajectory, field, entity).

    mask: (trajectory, entity). By trajectory, as `sample_NAME`: ade and fde, the displacement error averaged over the
    times after the start, entities and samples, and that at the end; min_ade and min_fde, with the least of the K
    samples for each entity, each by itself, in the place of their mean; pair_energy_score, the fair energy score of the
    positions of two entities as one vector, averaged over pairs and the times after the start. fde_quantiles (3,).
    """
    later = slice(1, None) if len(states) > 1 else slice(None)
    x, y = positions(states, equation)[later], positions(truth, equation)[later]
    x = x.reshape(len(x), y.shape[1], -1, *x.shape[2:])
    error = np.sqrt(((x - y[:, :, None]) ** 2).sum(axis=3))  # (time, trajectory, sample, entity)
    over_time, last = error.mean(axis=0), error[-1]

    def mean(values: NDArray, over: NDArray[np.bool_]) -> NDArray:
        """Over the entities, or pairs, that are real: (trajectory, entity) -> (trajectory,)."""
        return np.where(over, values, 0.0).sum(axis=-1) / np.maximum(over.sum(axis=-1), 1)

    i, j = equation.pairs(x.shape[-1])
    pairs, true_pairs = (np.concatenate([v[..., i], v[..., j]], axis=-2) for v in (x, y))
    misses = np.linalg.norm(pairs - true_pairs[:, :, None], axis=3).mean(axis=2)
    samples = pairs.shape[2]
    spread = np.zeros_like(misses)
    for a in range(samples):
        for b in range(a):
            spread += np.linalg.norm(pairs[:, :, a] - pairs[:, :, b], axis=2)
    energy = (misses - spread / max(1, samples * (samples - 1))).mean(axis=0)
    found = {
        "ade": mean(over_time.mean(axis=1), mask),
        "fde": mean(last.mean(axis=1), mask),
        "min_ade": mean(over_time.min(axis=1), mask),
        "min_fde": mean(last.min(axis=1), mask),
        "pair_energy_score": mean(energy, real_pairs(mask, equation)),
    }
    every = np.broadcast_to(mask[:, None], last.shape)
    return {f"sample_{k}": v for k, v in found.items()} | {"fde_quantiles": np.quantile(last[every], SPREAD)}


def divergence(p: NDArray, q: NDArray) -> NDArray[np.float64]:
    """Jensen-Shannon divergence of distributions (..., bin) in bits: 0 for equal ones, 1 for disjoint ones.

    Lin, IEEE Trans. Inf. Theory 37 (1991) 145.
    """
    middle = 0.5 * (p + q)

    def relative(a: NDArray) -> NDArray:
        ratio = np.divide(a, middle, out=np.ones_like(a), where=a > 0)
        return (a * np.log2(ratio)).sum(axis=-1)

    return 0.5 * (relative(p) + relative(q))


def summary(
    scores: dict[str, Any], truth: dict[str, NDArray]
) -> tuple[dict[str, float | None], dict[str, tuple[float, float]]]:
    """The scores of a run by name, with central 95 % intervals over trajectories where they are not quantiles.

    scores: of the run; truth: the diagnostics of the reference. separation_jsd is the mean over the times after the
    start, separation_jsd_end that of the last. Means have intervals by bootstrap. A divergence of histograms is biased
    in samples that repeat trajectories, so its interval is that of the jackknife, with Student's t: Efron and
    Tibshirani, An Introduction to the Bootstrap (1993), chapter 11.
    """
    count = len(scores["sample_ade"])
    ours, theirs = scores["sample_separation"], truth["sample_separation"]
    theirs = theirs[:, : ours.shape[1]]

    def divergences(weights: NDArray) -> dict[str, NDArray]:
        p, q = (np.einsum("wt,tab->wab", weights, v) for v in (ours, theirs))
        curve = divergence(p, q)
        later = curve[:, 1:] if curve.shape[1] > 1 else curve
        return {"separation_jsd": later.mean(axis=1), "separation_jsd_end": curve[:, -1]}

    values: dict[str, float] = {name: float(scores[f"sample_{name}"].mean()) for name in MEANS}
    values |= {name: float(v[0]) for name, v in divergences(np.full((1, count), 1 / count)).items()}
    intervals: dict[str, tuple[float, float]] = {}
    if count > 1:
        drawn = draws(count)
        ends = {name: central(drawn @ scores[f"sample_{name}"]) for name in MEANS}
        intervals |= {name: end for name, end in ends.items() if end is not None}
        without_one = (1 - np.eye(count)) / (count - 1)
        reach = float(student.ppf(0.5 + LEVEL / 2, count - 1)) * np.sqrt((count - 1) / count)
        for name, left in divergences(without_one).items():
            half = float(reach * np.sqrt(((left - left.mean()) ** 2).sum()))
            intervals[name] = (max(0.0, values[name] - half), min(1.0, values[name] + half))
    quantiles = dict(zip(("fde_10", "fde_median", "fde_90"), map(float, scores["fde_quantiles"]), strict=True))
    return {**values, **quantiles}, intervals
