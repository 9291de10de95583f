"""The contents of metrics.json."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import numpy as np
from pydantic import AfterValidator, BaseModel, Field

Number = Annotated[float | None, AfterValidator(lambda v: v if v is not None and math.isfinite(v) else None)]


class Invariant(BaseModel):
    """A conserved quantity at the end of a run, and its relative deviation from the reference."""

    final: Number
    drift: Number


class Row(BaseModel):
    """One run of the comparison. Series are over `times`; a failed run's are short and `failed` says why."""

    name: str
    kind: Literal["none", "classical", "oracle", "regression", "finer-grid", "sum", "other"]
    times: list[float]
    relative_l2: list[Number]
    correlation_time: Number = None
    spectrum_distance: Number = None
    invariants: dict[str, Invariant] = {}
    crps: list[Number] = []
    spread_skill: list[Number] = []
    rank_histogram: list[Number] = []
    skill: Number = None
    wall_seconds_per_time: Number = None
    closure_calls: int = 0
    guard_skips: int = 0
    steps_declined: int = 0
    failed: str | None = None

    def error(self) -> float | None:
        """Mean over time of the relative L2 error (trapezoidal rule); None for a failed run."""
        known = [(t, e) for t, e in zip(self.times, self.relative_l2, strict=False) if e is not None]
        if self.failed or not known:
            return None
        t, e = np.array(known).T
        return float(np.trapezoid(e, t) / (t[-1] - t[0])) if len(t) > 1 else float(e[0])

    def error_at(self, time: float) -> float | None:
        """Relative L2 error at an output time, None where the run has no output."""
        for t, e in zip(self.times, self.relative_l2, strict=False):
            if math.isclose(t, time, rel_tol=1e-9, abs_tol=1e-12):
                return e
        return None


class Reference(BaseModel):
    """The run that counts as true."""

    shape: list[int]
    description: str


class Metrics(BaseModel):
    """The contents of `metrics.json`."""

    case: str
    reference: Reference
    rows: Annotated[list[Row], Field(min_length=1)]
    command: str
    versions: dict[str, str]
    machine: str
    git: str | None = None

    def best(self, *kinds: str) -> Row | None:
        """The row of these kinds with the lowest time-mean error; None when none of them finished."""
        return min(
            (row for row in self.rows if row.kind in kinds and row.error() is not None),
            key=lambda row: row.error() or 0.0,
            default=None,
        )

    def cost_matched(self, row: Row) -> Row | None:
        """The finer-grid run whose wall time per simulated time is nearest to that of `row`."""
        finer = [r for r in self.rows if r.kind == "finer-grid" and r.error() is not None]
        cost = row.wall_seconds_per_time
        return min(finer, key=lambda r: _distance(r.wall_seconds_per_time, cost), default=None)

    def opponents(self, row: Row) -> dict[str, Row]:
        """What a closure must beat to be worth its cost, in words a sentence can use."""
        against = {
            "the uncorrected run": self.best("none"),
            "the best classical closure": self.best("classical"),
            "the finer grid": self.cost_matched(row),
        }
        return {words: other for words, other in against.items() if other is not None and other is not row}


def _distance(a: float | None, b: float | None) -> float:
    return abs(math.log(a / b)) if a and b else math.inf
