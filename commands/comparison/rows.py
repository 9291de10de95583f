"""One row of a comparison: a run and what is kept of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subgrid.solver.case.base import multiple
from subgrid.solver.case.tables import Case
from subgrid.solver.closure import ClosureError
from subgrid.solver.simulation import BlowUp, Simulation

from ..progress import Bars


@dataclass
class Row:
    """One run of the comparison: what it is, its states (time, member, field, *grid) and what it cost."""

    name: str
    kind: str
    states: NDArray
    seconds_per_time: float = 0.0
    calls: int = 0
    skips: int = 0
    declined: int = 0
    failed: str | None = None
    note: str | None = None
    scores: dict[str, Any] = field(default_factory=dict)


def _times(case: Case) -> NDArray[np.float64]:
    every = multiple(case.output.every, case.step)
    return case.time.start + case.step * np.arange(0, case.steps() + 1, every, dtype=np.float64)


def _warm(simulation: Simulation) -> None:
    """Compile and plan, so that the row is charged for its work alone."""
    simulation.run(max((c.every for c in simulation.closures), default=1))


def _follow(simulation: Simulation, case: Case, row: Row, bars: Bars, onto: Any, asked: Any = lambda: False) -> Row:
    """Run to the end of the case, keeping the states at the output times; failure keeps those before it."""
    every = multiple(case.output.every, simulation.step)
    steps = multiple(case.time.end - case.time.start, simulation.step)
    states: list[NDArray] = []

    def at(n: int) -> None:
        bars(n, steps, row.name)
        if n % every == 0:
            states.append(onto(simulation.state))
        if asked():
            raise KeyboardInterrupt

    try:
        simulation.run(steps, lambda n: min(every - n % every, 50), at, output_every=every)
    except (BlowUp, ClosureError) as error:
        row.failed = str(error)
    row.states = np.stack(states)
    span = max(simulation.time - case.time.start, simulation.step)
    row.seconds_per_time = sum(simulation.seconds.values()) / span
    row.calls = sum(c.calls for c in simulation.closures)
    row.skips = sum(c.skips for c in simulation.closures)
    row.declined = sum(c.declined for c in simulation.closures)
    return row
