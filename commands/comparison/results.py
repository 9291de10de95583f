"""The schema of metrics.json: a comparison's scores, which the comparison writes and the report reads."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import numpy as np
from pydantic import AfterValidator, BaseModel, Field

RowKind = Literal["none", "classical", "oracle", "learned", "sum", "nearest"]

Number = Annotated[float | None, AfterValidator(lambda v: v if v is not None and math.isfinite(v) else None)]


class Invariant(BaseModel):
    """An invariant at the end of a run, and its relative deviation from the reference."""

    final: Number
    drift: Number


class Row(BaseModel):
    """One run of the comparison. Series are over `times`; those of a failed run are short, and `failed` says why.

    kind: "none" (no closure), "classical", "oracle" (is given the true term), "learned", "sum" (of closures, at least
    one of them learned) or "nearest" (the run of the training set whose parameters are nearest to the case's; no
    closure, and no simulation).

    relative_l2: of the ensemble mean, averaged over trajectories. skill: 1 - error / error of the uncorrected run, both
    averaged over the times after the start. means: the scores as means over the times after the start, over which
    speed-ups and intervals are. cpu_seconds_per_time: CPU seconds of one thread per unit of simulated time, the median
    of turns beside all other runs; wall_seconds_per_time: wall seconds of the same turns.

    speedup: score -> [value, low, high], the cost of the frontier at the row's error over the row's cost; for rows of
    kind "none" and "classical" the frontier is that of the runs without a closure. null beyond the frontier, where
    `beyond` has the bound, as [">", number] or ["<", number]; an end of the interval is null where it is open.
    intervals: score -> [low, high], 95 % over trajectories; differences: name of a rival -> the same of the score less
    that of the rival. statistics: name -> [distance from the reference, sampling error of the reference]. entities:
    scores of `entities.summary`; entity_intervals: their intervals. formula: the terms that its closures add, if they
    state them.
    """

    name: str
    kind: RowKind
    times: list[float]
    relative_l2: list[Number]
    correlation_time: Number = None
    spectrum_distance: Number = None
    invariants: dict[str, Invariant] = {}
    crps: list[Number] = []
    spread_skill: list[Number] = []
    rank_histogram: list[Number] = []
    skill: Number = None
    means: dict[str, Number] = {}
    cpu_seconds_per_time: Number = None
    wall_seconds_per_time: Number = None
    speedup: dict[str, tuple[Number, Number, Number] | None] = {}
    beyond: dict[str, tuple[Literal["<", ">"], float]] = {}
    intervals: dict[str, tuple[float, float]] = {}
    differences: dict[str, dict[str, tuple[float, float]]] = {}
    statistics: dict[str, tuple[Number, Number]] = {}
    entities: dict[str, Number] = {}
    entity_intervals: dict[str, tuple[float, float]] = {}
    closure_calls: int = 0
    guard_skips: int = 0
    steps_declined: int = 0
    failed: str | None = None
    note: str | None = None
    formula: str | None = None

    def error(self) -> float | None:
        """Mean over time of the relative L2 error (trapezoidal rule); None for a failed run."""
        known = [(t, e) for t, e in zip(self.times, self.relative_l2, strict=False) if e is not None]
        if self.failed or not known:
            return None
        t, e = np.array(known).T
        return float(np.trapezoid(e, t) / (t[-1] - t[0])) if len(t) > 1 else float(e[0])

    def error_at(self, time: float) -> float | None:
        """Relative L2 error at an output time; None where the run has no output."""
        slack = 1e-9 * max(map(abs, self.times), default=0.0)
        for t, e in zip(self.times, self.relative_l2, strict=False):
            if abs(t - time) <= slack:
                return e
        return None


class FrontierRow(Row):
    """One run of the frontier: no closure, or a classical one, on a grid of the ladder.

    step: the time step; with `cfl` the interval that is divided by Courant number.
    """

    shape: list[int]
    stepper: str
    step: float
    cfl: float | None = None


class Reference(BaseModel):
    """The reference: its shape and how it was made and restricted."""

    shape: list[int]
    description: str


class Metrics(BaseModel):
    """The contents of metrics.json. shared: whether costs were timed on a machine that carried out other tasks, too."""

    case: str
    reference: Reference
    rows: Annotated[list[Row], Field(min_length=1)]
    frontier: list[FrontierRow] = []
    command: str
    versions: dict[str, str]
    machine: str
    git: str | None = None
    unit: str = ""  # of the field that is compared
    shared: bool = False

    def best(self, *kinds: RowKind) -> Row | None:
        """The row of these kinds with the lowest time-mean error; None if none of them finished."""
        return min(
            (row for row in self.rows if row.kind in kinds and row.error() is not None),
            key=lambda row: row.error() or 0.0,
            default=None,
        )

    def rivals(self, row: Row) -> dict[str, Row]:
        """The rows that a closure must beat, by the words for them. The frontier is the other rival."""
        against = {"the uncorrected run": self.best("none"), "the best classical closure": self.best("classical")}
        return {words: other for words, other in against.items() if other is not None and other is not row}
