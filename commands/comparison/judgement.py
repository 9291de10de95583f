"""Costs, speed-ups at equal error and confidence intervals of the rows of a comparison."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from . import metrics
from .rows import Run
from .samples import HIGHER_IS_BETTER, LEVEL, SCORES, Samples, as_error, central, draws
from .scores import SAMPLES, Truth
from .speedup import SpeedUp, interval, speed_up

RANKED = ("relative_l2", "correlation_time", "spectrum_distance", "crps")  # scores with a speed-up


@dataclass
class Judgement:
    """What is known of one run besides its scores. Intervals are central 95 % ones, over trajectories.

    means: the scores as means over time. speedup: score -> the speed-up over the frontier and its interval, None
    beyond the frontier (see `speedup.interval` for the ends); beyond: the bound there, as (sign, number). intervals: of
    the scores. differences: of the scores less those of each rival, paired by trajectory.
    """

    cpu: float | None = None
    wall: float | None = None
    means: dict[str, float | None] = field(default_factory=dict)
    speedup: dict[str, tuple[float | None, float | None, float | None] | None] = field(default_factory=dict)
    beyond: dict[str, tuple[Literal["<", ">"], float]] = field(default_factory=dict)
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    differences: dict[str, dict[str, tuple[float, float]]] = field(default_factory=dict)


def samples(run: Run, truth: Truth, largest: int) -> Samples | None:
    """The scores of a finished run by trajectory; None for one that failed. largest: the last shell compared."""
    if run.failed or not run.scores:
        return None
    scores = {name: run.scores[f"sample_{name}"] for name in SAMPLES}
    empty = np.empty((len(scores["crps"]), 0))
    if "sample_energy" not in run.scores:
        return Samples(**scores, energy=empty, true_energy=empty)
    shells = metrics.compared_shells(truth.diagnostics["energy"], largest)
    true = truth.diagnostics["sample_energy"][:, shells]
    return Samples(**scores, energy=run.scores["sample_energy"][:, shells], true_energy=true)


def judge(
    runs: list[Samples | None],
    costs: list[tuple[float, float] | None],
    ladder: list[Samples],
    ladder_costs: list[tuple[float, float]],
    longest: float,
    rivals: dict[str, int],
    wanted: tuple[str, ...] = SCORES,
    classical: tuple[Collection[int], Sequence[int]] = ((), ()),
) -> list[Judgement]:
    """A judgement of every run.

    costs: (CPU, wall) seconds per unit of time, or None. ladder: the runs of the frontier. longest: the length of the
    comparison; a correlation time that all trajectories reach is no more than a bound, and has no speed-up. rivals:
    name -> index of the runs from which differences are taken. classical: indices of the runs that are measured against
    a part of the ladder only, those without a closure, and indices of that part: a classical closure is itself on the
    ladder.
    """
    known = next((s for s in [*runs, *ladder] if s is not None), None)
    weights = draws(known.trajectories) if known is not None and known.trajectories > 1 else None
    spent = [cpu for cpu, _ in ladder_costs]
    whole = _Frontier(ladder, spent, weights, longest)
    part = _Frontier([ladder[i] for i in classical[1]], [spent[i] for i in classical[1]], weights, longest)
    drawn = [None if s is None or weights is None else s.scores(weights) for s in runs]
    found = []
    for i, (s, cost) in enumerate(zip(runs, costs, strict=True)):
        judged = Judgement(*(cost or (None, None)))
        found.append(judged)
        if s is None:
            continue
        judged.means = {k: v if np.isfinite(v) else None for k, v in s.mean().items() if k in wanted}
        if (ours := drawn[i]) is not None:
            judged.intervals = _intervals({k: ours[k] for k in wanted})
            for name, j in rivals.items():
                if j != i and (theirs := drawn[j]) is not None:
                    judged.differences[name] = _intervals({k: ours[k] - theirs[k] for k in wanted})
        for score in (name for name in RANKED if name in wanted):
            (part if i in classical[0] else whole).measure(judged, s, score)
    return found


def _intervals(drawn: dict[str, NDArray]) -> dict[str, tuple[float, float]]:
    return {name: ends for name, values in drawn.items() if (ends := central(values)) is not None}


class _Frontier:
    """The scores of the frontier, on average and for every draw."""

    def __init__(self, ladder: list[Samples], costs: list[float], weights: NDArray | None, longest: float) -> None:
        self._costs, self._weights, self._longest = np.array(costs), weights, longest
        self._means = [s.mean() for s in ladder]
        self._drawn = [] if weights is None else [s.scores(weights) for s in ladder]

    def measure(self, judged: Judgement, s: Samples, score: str) -> None:
        """Set the speed-up of a run for one score."""
        judged.speedup[score] = None
        if judged.cpu is None or not self._means:
            return
        value = self._speed_up(judged.cpu, s.mean()[score], [m[score] for m in self._means], score)
        if value is None:
            return
        if value.beyond:
            judged.beyond[score] = (value.beyond, value.value)
        low = high = None
        if self._weights is not None:
            drawn = s.scores(self._weights)[score]
            ladder = np.array([d[score] for d in self._drawn])
            low, high = interval(
                [
                    self._speed_up(judged.cpu, drawn[b], ladder[:, b], score)
                    or self._at_least(judged.cpu, ladder[:, b], score)
                    for b in range(len(drawn))
                    if np.isfinite(drawn[b])
                ],
                LEVEL,
            )
        judged.speedup[score] = (None if value.beyond else value.value, low, high)

    def _at_least(self, cost: float, ladder: NDArray, score: str) -> SpeedUp | None:
        """The bound of a run that reaches the end of the comparison: over the runs that do not."""
        if score not in HIGHER_IS_BETTER:
            return None
        short = ladder < self._longest * (1 - 1e-12)
        if not short.any():
            return SpeedUp(0.0, ">")
        return speed_up(cost, 1 / self._longest, self._costs[short], as_error(score, ladder[short]))

    def _speed_up(self, cost: float, value: float, ladder: NDArray | list[float], score: str) -> SpeedUp | None:
        if score in HIGHER_IS_BETTER and value >= self._longest * (1 - 1e-12):
            return None
        error = float(as_error(score, np.array(value)))
        return speed_up(cost, error, self._costs, as_error(score, np.array(ladder)))
