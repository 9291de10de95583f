"""Speed-ups at equal error in words and as a table: what classical runs of equal error cost, and what that means."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from ..comparison.results import Metrics, Row

Outcome = Literal["beats", "beyond", "ties", "loses"]
SPEEDUPS = {  # score -> its name in a narrow table, and in full
    "relative_l2": ("L2", "relative L2 error"),
    "correlation_time": ("corr. time", "correlation time"),
    "spectrum_distance": ("spectrum", "spectrum distance"),
    "crps": ("CRPS", "CRPS"),
}


@dataclass(frozen=True)
class Cell:
    """A speed-up, or its bound; its interval, if there is one; and whether it is above 1, below, or neither.

    lowest, highest: the ends of the interval, 0 and infinity beyond the frontier; without an interval those that the
    number alone allows. sign: "<" or ">" of a bound, else "".
    """

    text: str
    interval: str
    lowest: float
    highest: float
    sign: str

    @property
    def outcome(self) -> Outcome:
        """ "beyond": no classical run of the ladder is as accurate, and the dearest one costs less."""
        if self.lowest > 1:
            return "beats"
        if self.sign == ">":
            return "beyond"
        return "loses" if self.highest < 1 else "ties"


def cells(row: Row) -> dict[str, Cell]:
    """The speed-ups of a run, by the name of the score."""
    found = {}
    for score, (_, name) in SPEEDUPS.items():
        values = row.speedup.get(score)
        if values is not None:
            found[name] = _cell(*values, *row.beyond.get(score, ("", values[0])), drawn=bool(row.intervals))
    return found


def _cell(
    value: float | None, low: float | None, high: float | None, sign: str, bound: float | None, *, drawn: bool
) -> Cell:
    """drawn: whether trajectories were drawn again, so that an end that is missing lies beyond the frontier."""
    known = value if bound is None else bound
    assert known is not None
    if low is None and high is None and (sign or not drawn):
        lowest, highest = (0.0 if sign == "<" else known), (math.inf if sign == ">" else known)
        interval = ""
    else:
        lowest, highest = (0.0 if low is None else low), (math.inf if high is None else high)
        interval = f"[{'–' if low is None else f'{low:.2g}'}, {'–' if high is None else f'{high:.2g}'}]"
    return Cell(f"{sign} {known:.2g}".strip(), interval, lowest, highest, sign)


def worth(row: Row) -> list[str]:
    """What classical runs of equal error cost, and by which scores the closure is worth its cost."""
    found = cells(row)
    if not found:
        return []
    parts = [f"{cell.text}{f' {cell.interval}' if cell.interval else ''} by {name}" for name, cell in found.items()]
    first = f"The speed-up at equal error, over the frontier of classical runs, is {', '.join(parts)}."
    above, beyond, open_ = (
        [name for name, cell in found.items() if cell.outcome == outcome] for outcome in ("beats", "beyond", "ties")
    )
    if beyond:
        first += f" No classical run of the ladder is as accurate by {' and '.join(beyond)}."
    if above:
        return [first, f"It is worth its cost by {' and '.join(above)}."]
    if open_:
        return [first, f"Whether it is worth its cost by {' and '.join(open_)} the intervals leave open."]
    return [first] if beyond else [first, "It is not worth its cost by any of these."]


@dataclass(frozen=True)
class SpeedUps:
    """The table of speed-ups: names of the scores, and for every closure its cell of each score, or None."""

    headings: list[str]
    rows: dict[str, list[Cell | None]]


def table(metrics: Metrics, kinds: tuple[str, ...]) -> SpeedUps:
    """The speed-ups of the rows of these kinds."""
    rows = {row.name: cells(row) for row in metrics.rows if row.kind in kinds}
    headings = [name for _, name in SPEEDUPS.values() if any(name in found for found in rows.values())]
    return SpeedUps(headings, {row: [found.get(name) for name in headings] for row, found in rows.items()})
