"""What the numbers of a comparison say: which closure is best, what it beats and what it loses to.

A run's score is the mean over time of its relative L2 error. Lower is better; two scores within `TIE` of each
other are called a tie. The oracle is given the true subgrid term, so it is the floor and never a contestant;
a failed run is named and never ranked.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..comparison.results import Metrics, Row

TIE = 0.01
CLOSURES = ("classical", "regression", "sum", "other")


@dataclass(frozen=True)
class Column:
    """One column of the table of metrics. `rank` maps a value to what should be small, if anything should."""

    heading: str
    meaning: str
    value: Callable[[Row], float | None]
    rank: Callable[[float], float] | None = None

    def text(self, row: Row) -> str:
        """The value to three significant digits, a dash where there is none."""
        value = self.value(row)
        return "–" if value is None else f"{value:d}" if isinstance(value, int) else f"{value:.3g}"

    def best(self, rows: list[Row]) -> set[str]:
        """Names of the contestants (no oracle, nothing failed) with the best value."""
        if self.rank is None:
            return set()
        ranks = {
            row.name: self.rank(value)
            for row in rows
            if row.kind != "oracle" and not row.failed and (value := self.value(row)) is not None
        }
        return {name for name, rank in ranks.items() if rank == min(ranks.values())} if len(ranks) > 1 else set()


def columns(metrics: Metrics) -> list[Column]:
    """The columns that hold any value, with the relative L2 error at four times of the longest run."""
    times = max((row.times for row in metrics.rows), key=len)
    picks = sorted({round(i) for i in np.linspace(0, len(times) - 1, 5)[1:]}) if times else []
    smaller, larger = (lambda v: v), (lambda v: -v)
    l2 = [
        Column(
            f"L2 t={times[i]:.3g}",
            f"relative L2 error at t = {times[i]:.3g}",
            lambda row, t=times[i]: row.error_at(t),  # type: ignore[misc]
            smaller,
        )
        for i in picks
    ]
    rest = [
        Column("mean L2", "relative L2 error, mean over time", Row.error, smaller),
        Column("corr. time", "time at which the correlation is lost", lambda row: row.correlation_time, larger),
        Column("spectrum", "distance of the energy spectra", lambda row: row.spectrum_distance, smaller),
        Column(
            "CRPS",
            "continuous ranked probability score at the end",
            lambda row: _last(row, row.crps),
            smaller,
        ),
        Column(
            "spread/skill",
            "ensemble spread over ensemble-mean error at the end; 1 is ideal",
            lambda row: _last(row, row.spread_skill),
            lambda v: abs(math.log(v)) if v > 0 else math.inf,
        ),
        Column("skill", "1 − error / error of the uncorrected run", lambda row: row.skill, larger),
        Column("wall s/t", "wall seconds per unit of time", lambda row: row.wall_seconds_per_time, smaller),
        Column("calls", "closure calls", lambda row: row.closure_calls),
        Column("skips", "answers refused by the guard", lambda row: row.guard_skips),
        Column("declined", "steps that a leap handed back to the solver", lambda row: row.steps_declined or None),
    ]
    return [c for c in l2 + rest if any(c.value(row) is not None for row in metrics.rows)]


def _last(row: Row, series: list[float | None]) -> float | None:
    return series[-1] if series and not row.failed else None


def outcome(row: Row, other: Row) -> Literal["beats", "ties with", "loses to"]:
    """How the time-mean error of `row` stands against that of `other`; both must have finished."""
    ours, theirs = row.error(), other.error()
    if ours is None or theirs is None:
        raise ValueError(f"{row.name!r} and {other.name!r} cannot be ranked: one of them failed")
    if abs(ours - theirs) <= TIE * max(ours, theirs):
        return "ties with"
    return "beats" if ours < theirs else "loses to"


def verdict(metrics: Metrics) -> str:
    """One paragraph: the best closure, its three opponents, the measures it is behind on, and what failed."""
    best = metrics.best(*CLOSURES)
    failures = [f"{row.name} failed ({row.failed.rstrip('.')})." for row in metrics.rows if row.failed]
    if best is None:
        return " ".join(["No closure finished, so there is no verdict.", *failures])
    learned = metrics.best("regression", "sum", "other")
    hero = learned or best
    sentences = [f"The best closure is {best.name}, with a time-mean relative L2 error of {best.error():.3g}."]
    subject = "It" if hero is best else f"The best learned closure, {hero.name} ({hero.error():.3g}),"
    if clauses := [_stands(hero, words, other) for words, other in metrics.opponents(hero).items()]:
        sentences.append(f"{subject} {', '.join(clauses[:-1])}{' and ' if clauses[1:] else ''}{clauses[-1]}.")
    sentences += _losses(hero, metrics)
    if oracle := metrics.best("oracle"):
        sentences.append(f"The oracle, which is given the true term, stands at {oracle.error():.3g}.")
    if learned is None:
        sentences.append("No learned closure finished.")
    return " ".join(sentences + failures)


def _stands(row: Row, words: str, other: Row) -> str:
    """One clause, with the opponent's error and what it costs."""
    name = "" if other.kind == "none" else f"{other.name}: "
    text = f"{outcome(row, other)} {words} ({name}{other.error():.3g}"
    ours, theirs = row.wall_seconds_per_time, other.wall_seconds_per_time
    return text + (f" at {theirs / ours:.2g} times its cost)" if ours and theirs else ")")


def _losses(row: Row, metrics: Metrics) -> list[str]:
    """The measures other than the L2 error on which a row is behind an opponent."""
    others = [c for c in columns(metrics) if c.heading in ("corr. time", "spectrum", "CRPS")]
    behind: list[str] = []
    for words, other in metrics.opponents(row).items():
        for column in others:
            ours, theirs = column.value(row), column.value(other)
            if ours is None or theirs is None or column.rank is None:
                continue
            if column.rank(theirs) < column.rank(ours) and abs(ours - theirs) > TIE * max(abs(ours), abs(theirs)):
                behind.append(f"{column.heading} ({column.text(row)} against {column.text(other)} of {words})")
    return [f"It is behind on {'; '.join(behind)}."] if behind else []
