"""The runs of a comparison, before they are scored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subgrid.solver.case.base import multiple
from subgrid.solver.case.tables import Case
from subgrid.solver.closure import PluginError
from subgrid.solver.simulation import BlowUp, Simulation
from subgrid.solver.simulation.schedule import Collector

from ..progress import Bars
from .results import RowKind

STRIDE = 50  # upper bound on the steps between two updates of the progress bar


@dataclass
class Run:
    """One run of the comparison: its states at the output times, (time, member, field, *grid), and its cost.

    seconds_per_time: wall seconds per unit of simulated time. calls, skips, declined: closure calls, answers that the
    guard rejected, and steps that a leap left to the solver. failed: why the run stopped early. scores: those of
    `scores.score`.
    """

    name: str
    kind: RowKind
    states: NDArray
    seconds_per_time: float = 0.0
    calls: int = 0
    skips: int = 0
    declined: int = 0
    failed: str | None = None
    note: str | None = None
    scores: dict[str, Any] = field(default_factory=dict)


def output_times(case: Case) -> NDArray[np.float64]:
    """The output times of a case, from its start to its end."""
    every = multiple(case.output.every, case.step)
    return case.time.start + case.step * np.arange(0, case.steps() + 1, every, dtype=np.float64)


def warm_up(simulation: Simulation) -> None:
    """Compile kernels and plan transforms, so that the time of the run contains neither."""
    simulation.run(max((c.every for c in simulation.closures), default=1))


def follow(
    simulation: Simulation,
    case: Case,
    run: Run,
    bars: Bars,
    onto: Callable[[NDArray], NDArray] = lambda state: state,
    asked: Callable[[], bool] = lambda: False,
) -> Run:
    """Fill `run` with the states at the output times and with the costs; a failed run keeps the states before it.

    onto: the map from the simulation's state to the case's grid. asked: whether the user interrupted, which raises
    KeyboardInterrupt.
    """
    every = multiple(case.output.every, simulation.step)
    steps = multiple(case.time.end - case.time.start, simulation.step)
    collector = Collector(simulation, steps, every, onto)

    def seen(n: int) -> None:
        bars(n, steps, run.name)
        if asked():
            raise KeyboardInterrupt

    try:
        collector.run(seen, STRIDE)
    except (BlowUp, PluginError) as error:
        run.failed = str(error)
    run.states = np.stack(collector.states)
    span = max(simulation.time - case.time.start, simulation.step)
    run.seconds_per_time = sum(simulation.seconds.values()) / span
    run.calls = sum(c.calls for c in simulation.closures)
    run.skips = sum(c.skips for c in simulation.closures)
    run.declined = sum(c.declined for c in simulation.closures)
    return run
