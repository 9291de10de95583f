"""The verdict of a comparison: which closure is best, what it beats and what it loses to.

The score of a run is its relative L2 error, averaged over time; lower is better. Two runs tie if the interval of their
difference holds zero or contradicts the averages, or where there is none, if they differ by at most the fraction `TIE`.
An oracle is given the true subgrid term, so it is reported and never ranked as a closure. A failed run is named and
never ranked.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..comparison.results import Metrics, Row, RowKind
from .entities import SCORES as ENTITIES
from .speedups import SPEEDUPS, worth

TIE = 0.01
NOT_REACHED = "not reached"  # in the place of a time that is the length of the window
LEARNED: tuple[RowKind, ...] = ("learned", "sum")
CLOSURES: tuple[RowKind, ...] = ("classical", *LEARNED)
SECONDARY = (
    "correlation time",
    "spectrum distance",
    "CRPS",
)  # scores besides the L2 error on which a closure may be worse


@dataclass(frozen=True)
class Column:
    """One column of the table of scores.

    heading: for a narrow table; name: in full. rank: maps a value to a number of which the smallest is best; None for
    a column that is not ranked. counts: the values are whole numbers.
    """

    heading: str
    name: str
    meaning: str
    value: Callable[[Row], float | None]
    rank: Callable[[float], float] | None = None
    counts: bool = False
    score: str | None = None  # of a speed-up
    limit: float | None = None  # a value that was not reached within the window

    def text(self, row: Row, missing: str = "–") -> str:
        """The value to three significant digits; a dash if there is none. A speed-up may be a bound."""
        if self.score is not None and self.score in row.beyond:
            sign, bound = row.beyond[self.score]
            return f"{sign} {bound:.2g}"
        value = self.value(row)
        if value is not None and self.limit is not None and value >= self.limit * (1 - 1e-9):
            return NOT_REACHED
        return missing if value is None else f"{value:d}" if isinstance(value, int) else f"{value:.3g}"

    def _ends(self, row: Row) -> tuple[float, float] | None:
        """The least and the most that a speed-up can be."""
        if row.failed or self.score is None:
            return None
        if self.score in row.beyond:
            sign, bound = row.beyond[self.score]
            return (0.0, bound) if sign == "<" else (bound, math.inf)
        value = self.value(row)
        return None if value is None else (value, value)

    def best(self, rows: list[Row]) -> set[str]:
        """Names of the rows with the best value among those that finished, without oracles.

        Of speed-ups none, where bounds leave open which is the largest.
        """
        if self.rank is None:
            return set()
        if self.score is not None:
            ends = {row.name: found for row in rows if row.kind != "oracle" and (found := self._ends(row)) is not None}
            largest = {n for n, (low, _) in ends.items() if all(low >= e[1] for m, e in ends.items() if m != n)}
            return largest if len(ends) > 1 else set()
        ranks = {
            row.name: self.rank(value)
            for row in rows
            if row.kind != "oracle" and not row.failed and (value := self.value(row)) is not None
        }
        return {name for name, rank in ranks.items() if rank == min(ranks.values())} if len(ranks) > 1 else set()


def columns(metrics: Metrics) -> list[Column]:
    """The columns in which any row has a value, with the relative L2 error at four times of the longest run."""
    times = max((row.times for row in metrics.rows), key=len)
    last = f" t={times[-1]:.3g}" if times else ""
    window = f" from t = {times[0]:.3g} to {times[-1]:.3g}" if times else ""
    unit = f" [{metrics.unit}]" if metrics.unit not in ("", "1") else ""
    picks = sorted({round(i) for i in np.linspace(0, len(times) - 1, 5)[1:]}) if times else []
    smaller, larger = (lambda v: v), (lambda v: -v)
    l2 = [
        Column(
            f"L2 t={times[i]:.3g}",
            f"relative L2 error at t = {times[i]:.3g}",
            f"relative L2 error of the ensemble mean at t = {times[i]:.3g}",
            lambda row, t=times[i]: row.error_at(t),  # type: ignore[misc]
            smaller,
        )
        for i in picks
    ]
    rest = [
        Column(
            "mean L2",
            "mean relative L2 error",
            f"relative L2 error of the ensemble mean, averaged over time{window}; dimensionless",
            Row.error,
            smaller,
        ),
        Column(
            "corr. time",
            "correlation time",
            f"time until the correlation with the reference falls below the threshold, [time]; looked at{window}",
            lambda row: row.correlation_time,
            larger,
            limit=times[-1] - times[0] if times else None,
        ),
        Column(
            "spectrum",
            "spectrum distance",
            f"mean absolute difference of log10 of the energy spectra, averaged over time{window}; dimensionless",
            lambda row: row.spectrum_distance,
            smaller,
        ),
        Column(
            f"CRPS{last}",
            "CRPS",
            f"continuous ranked probability score{last.replace('t=', 'at t = ')}{unit}",
            lambda row: _last(row, row.crps),
            smaller,
        ),
        Column(
            f"spread/skill{last}" if len(last) <= 6 else "spread/skill",
            "spread/skill",
            f"ensemble spread over the error of the ensemble mean{last.replace('t=', 'at t = ')}; 1 if calibrated",
            lambda row: _last(row, row.spread_skill),
            lambda v: abs(math.log(v)) if v > 0 else math.inf,
        ),
        *(
            Column(*words, lambda row, name=name: row.entities.get(name), smaller)  # type: ignore[misc]
            for name, words in ENTITIES.items()
        ),
        Column("skill", "skill", "1 − error / error of the uncorrected run", lambda row: row.skill, larger),
        *(
            Column(
                f"speed-up {short}",
                f"speed-up, {long}",
                f"cost of the frontier of classical runs at equal {long} over the cost of the run",
                lambda row, score=score: (row.speedup.get(score) or (None,))[0],  # type: ignore[misc]
                larger,
                score=score,
            )
            for score, (short, long) in SPEEDUPS.items()
        ),
        Column(
            "CPU s/t",
            "CPU seconds per unit of time",
            "CPU seconds of one thread per unit of simulated time, measured in turns",
            lambda row: row.cpu_seconds_per_time,
            smaller,
        ),
        Column(
            "wall s/t",
            "wall seconds per unit of time",
            "wall seconds per unit of simulated time",
            lambda row: row.wall_seconds_per_time,
            smaller,
        ),
        Column("calls", "closure calls", "closure calls", lambda row: row.closure_calls, counts=True),
        Column(
            "skips", "rejected answers", "answers that the guard rejected", lambda row: row.guard_skips, counts=True
        ),
        Column(
            "declined",
            "declined steps",
            "steps that a leap left to the solver",
            lambda row: row.steps_declined or None,
        ),
    ]
    return [c for c in l2 + rest if any(c.value(row) is not None or c.score in row.beyond for row in metrics.rows)]


def _last(row: Row, series: list[float | None]) -> float | None:
    return series[-1] if series and not row.failed else None


def outcome(row: Row, other: Row) -> Literal["beats", "ties with", "loses to"]:
    """How the time-mean error of `row` compares with that of `other`. Raises ValueError if one of them failed."""
    ours, theirs = row.error(), other.error()
    if ours is None or theirs is None:
        raise ValueError(f"{row.name!r} and {other.name!r} cannot be ranked: one of them failed")
    ends = row.differences.get(other.name, {}).get("relative_l2")
    if ends is None:
        tied = abs(ours - theirs) <= TIE * max(ours, theirs)
    else:  # of the means over outputs, which may not have the sign of those over time
        tied = ends[0] <= 0 <= ends[1] or (ends[1] < 0) != (ours < theirs)
    if tied:
        return "ties with"
    return "beats" if ours < theirs else "loses to"


def verdict(metrics: Metrics) -> str:
    """One paragraph: the best closure, its outcome against each rival, where it is worse, failures, disturbed costs."""
    best = metrics.best(*CLOSURES)
    notes = [f"{row.name} failed ({row.failed.rstrip('.')})." for row in metrics.rows if row.failed]
    if metrics.shared:
        notes.append("Costs were timed beside other tasks on the same machine.")
    if best is None:
        return " ".join(["No closure finished, so there is no verdict.", *notes])
    learned = metrics.best(*LEARNED)
    judged = learned or best
    sentences = [f"The best closure is {best.name}, with a time-mean relative L2 error of {best.error():.3g}."]
    subject = "It" if judged is best else f"The best learned closure, {judged.name} (error {judged.error():.3g}),"
    if clauses := [_clause(judged, words, other) for words, other in metrics.rivals(judged).items()]:
        sentences.append(f"{subject} {', '.join(clauses[:-1])}{' and ' if clauses[1:] else ''}{clauses[-1]}.")
    sentences += worth(judged)
    sentences += _worse(judged, metrics)
    if oracle := metrics.best("oracle"):
        sentences.append(f"The oracle, which is given the true term, has an error of {oracle.error():.3g}.")
    if learned is None:
        tried = any(row.kind in LEARNED for row in metrics.rows)
        sentences.append("No learned closure finished." if tried else "The comparison has no learned closure.")
    return " ".join(sentences + notes)


def _clause(row: Row, words: str, other: Row) -> str:
    """The outcome against one rival, with the rival's error and its relative cost."""
    name = "" if other.kind == "none" else f"{other.name}, "
    text = f"{outcome(row, other)} {words} ({name}error {other.error():.3g}"
    ours, theirs = row.cpu_seconds_per_time, other.cpu_seconds_per_time
    return text + (f", {theirs / ours:.2g} times the cost)" if ours and theirs else ")")


def _worse(row: Row, metrics: Metrics) -> list[str]:
    """The scores besides the L2 error on which a row is worse than a rival."""
    others = [c for c in columns(metrics) if c.name in SECONDARY]
    worse: list[str] = []
    for words, other in metrics.rivals(row).items():
        for column in others:
            ours, theirs = column.value(row), column.value(other)
            if ours is None or theirs is None or column.rank is None:
                continue
            if column.rank(theirs) < column.rank(ours) and abs(ours - theirs) > TIE * max(abs(ours), abs(theirs)):
                worse.append(f"{column.name} ({column.text(row)}, {words} {column.text(other)})")
    return [f"It is worse on {'; '.join(worse)}."] if worse else []
