"""The schema of metrics.json: a comparison's scores, which the comparison writes and the report reads."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, BaseModel, Field, model_validator

from subgrid.solver.case.compare_rows import NEAREST

RowKind = Literal["none", "classical", "oracle", "learned", "sum", "finer-grid", "nearest"]

Number = Annotated[float | None, AfterValidator(lambda v: v if v is not None and math.isfinite(v) else None)]


class Invariant(BaseModel):
    """An invariant at the end of a run, and its relative deviation from the reference."""

    final: Number
    drift: Number


class Row(BaseModel):
    """One run of the comparison. Series are over `times`; those of a failed run are short, and `failed` says why.

    kind: "none" (no closure), "classical", "oracle" (is given the true term), "learned", "sum" (of closures, at least
    one of them learned), "finer-grid" (no closure, a finer grid of equal cost) or "nearest" (the run of the training
    set whose parameters are nearest to the case's; no closure, and no simulation). The kinds "regression" and "other"
    of earlier versions are read as "learned", and that of the nearest training run as "nearest".

    relative_l2: of the ensemble mean, averaged over trajectories. skill: 1 - error / error of the uncorrected run, both
    averaged over the times after the start. wall_seconds_per_time: per unit of simulated time.
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
    wall_seconds_per_time: Number = None
    closure_calls: int = 0
    guard_skips: int = 0
    steps_declined: int = 0
    failed: str | None = None
    note: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _earlier_kinds(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("kind") in ("regression", "other"):
            nearest = data["kind"] == "other" and data.get("name") == NEAREST
            return {**data, "kind": "nearest" if nearest else "learned"}
        return data

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


class Reference(BaseModel):
    """The reference: its shape and how it was made and restricted."""

    shape: list[int]
    description: str


class Metrics(BaseModel):
    """The contents of metrics.json."""

    case: str
    reference: Reference
    rows: Annotated[list[Row], Field(min_length=1)]
    command: str
    versions: dict[str, str]
    machine: str
    git: str | None = None

    def best(self, *kinds: RowKind) -> Row | None:
        """The row of these kinds with the lowest time-mean error; None if none of them finished."""
        return min(
            (row for row in self.rows if row.kind in kinds and row.error() is not None),
            key=lambda row: row.error() or 0.0,
            default=None,
        )

    def cost_matched(self, row: Row) -> Row | None:
        """The finer-grid run whose wall time per simulated time is nearest to that of `row`, in the logarithm."""
        finer = [r for r in self.rows if r.kind == "finer-grid" and r.error() is not None]
        cost = row.wall_seconds_per_time
        return min(finer, key=lambda r: _log_distance(r.wall_seconds_per_time, cost), default=None)

    def rivals(self, row: Row) -> dict[str, Row]:
        """The runs that a closure must beat to be worth its cost, by the words for them."""
        against = {
            "the uncorrected run": self.best("none"),
            "the best classical closure": self.best("classical"),
            "the finer grid": self.cost_matched(row),
        }
        return {words: other for words, other in against.items() if other is not None and other is not row}


def _log_distance(a: float | None, b: float | None) -> float:
    return abs(math.log(a / b)) if a and b else math.inf
