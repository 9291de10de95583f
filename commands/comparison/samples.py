"""Scores trajectory by trajectory, and their confidence intervals by drawing trajectories again.

Every score of a run is a function of means over trajectories, so that the score of a resampled set of trajectories
follows from `Samples` and weights alone. All runs of a comparison, and those of the frontier, are drawn with the same
weights: differences and speed-ups are paired.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95  # of all intervals
DRAWS = 1000
HIGHER_IS_BETTER = ("correlation_time",)
SCORES = ("relative_l2", "correlation_time", "spectrum_distance", "crps", "energy_score")


@dataclass(frozen=True)
class Samples:
    """Means over time of a run's errors, by trajectory, and its spectra.

    relative_l2, correlation_time, crps, energy_score: (trajectory,). energy, true_energy: (trajectory, shell), over the
    shells that are compared; empty where there are none.
    """

    relative_l2: NDArray
    correlation_time: NDArray
    crps: NDArray
    energy_score: NDArray
    energy: NDArray
    true_energy: NDArray

    def scores(self, weights: NDArray) -> dict[str, NDArray]:
        """Each score for weights (draw, trajectory) that add up to 1: (draw,). Scores that do not exist are nan."""
        found = {name: weights @ getattr(self, name) for name in SCORES if name != "spectrum_distance"}
        found["spectrum_distance"] = np.full(len(weights), np.nan)
        if self.energy.shape[1]:
            ratio = np.maximum(weights @ self.energy, 1e-300) / np.maximum(weights @ self.true_energy, 1e-300)
            found["spectrum_distance"] = np.abs(np.log10(ratio)).mean(axis=1)
        return found

    @property
    def trajectories(self) -> int:
        """Number of trajectories."""
        return len(self.relative_l2)

    def mean(self) -> dict[str, float]:
        """Each score over all trajectories."""
        weights = np.full((1, self.trajectories), 1 / self.trajectories)
        return {name: float(values[0]) for name, values in self.scores(weights).items()}

    def arrays(self) -> dict[str, NDArray]:
        """The fields by name, for a file."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def draws(trajectories: int, seed: int = 0, count: int = DRAWS) -> NDArray[np.float64]:
    """Weights (draw, trajectory) of bootstrap samples: how often each trajectory is drawn, over their number.

    Efron, Ann. Statist. 7 (1979) 1. The same for all runs of one comparison.
    """
    generator = np.random.default_rng(seed)
    return generator.multinomial(trajectories, np.full(trajectories, 1 / trajectories), size=count) / trajectories


def central(values: NDArray, level: float = LEVEL) -> tuple[float, float] | None:
    """The central interval of resampled values; None if some are not finite."""
    if not np.isfinite(values).all():
        return None
    low, high = np.quantile(values, (0.5 - level / 2, 0.5 + level / 2))
    return float(low), float(high)


def as_error(score: str, value: NDArray) -> NDArray:
    """The score as a positive number that is smaller for a better run: itself, or its inverse."""
    with np.errstate(divide="ignore"):
        return 1 / np.asarray(value) if score in HIGHER_IS_BETTER else np.asarray(value)
