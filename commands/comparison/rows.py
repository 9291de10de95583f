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
from subgrid.solver.equations.plugin_errors import plugin_errors
from subgrid.solver.simulation import BlowUp, Simulation
from subgrid.solver.simulation.schedule import Collector

from ..progress import StoppingBars
from .results import RowKind

STRIDE = 50  # upper bound on the steps between two updates of the progress bar


@dataclass
class Run:
    """One run of the comparison: its cost, and its scores once it is finished.

    seconds_per_time: wall seconds per unit of simulated time; 0 where it was not timed. calls, skips, declined: closure
    calls, answers that the guard rejected, and steps that a leap left to the solver. alike: whether the members of a
    trajectory do not differ, so that one of them was run; the cost is that of one. failed: why the run stopped early.
    formula: those of its closures that have one. states: those at the output times, (time, member, field, *grid), until
    the run is scored; None for a run without any. scores: those of `scores.score`; empty for a run without states.
    """

    name: str
    kind: RowKind
    states: NDArray | None = None
    seconds_per_time: float = 0.0
    calls: int = 0
    skips: int = 0
    declined: int = 0
    failed: str | None = None
    note: str | None = None
    formula: str | None = None
    alike: bool = False
    scores: dict[str, Any] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Number of outputs of a scored run."""
        return len(self.scores["relative_l2"]) if self.scores else 0


def warm_up(simulation: Simulation) -> None:
    """Compile kernels and plan transforms, so that the time of the run contains neither."""
    simulation.run(max((c.every for c in simulation.closures), default=1))


def follow(
    simulation: Simulation,
    case: Case,
    run: Run,
    bars: StoppingBars,
    onto: Callable[[NDArray], NDArray] = lambda state: state,
) -> Run:
    """Fill `run` with the states at the output times and with the costs; a failed run keeps the states before it.

    onto: the map from the simulation's state to the case's grid.
    """
    every = multiple(case.output.every, simulation.step)
    steps = multiple(case.time.end - case.time.start, simulation.step)
    collector = Collector(simulation, steps, every, onto)
    try:
        with plugin_errors():
            collector.run(lambda n: bars(n, steps, run.name), STRIDE)
    except (BlowUp, PluginError) as error:
        run.failed = str(error)
    try:
        with plugin_errors():
            run.formula = "; ".join(filter(None, (c.closure.formula() for c in simulation.closures))) or None
    except PluginError as error:
        run.failed = run.failed or str(error)
    run.states = np.stack(collector.states)
    span = max(simulation.time - case.time.start, simulation.step)
    run.seconds_per_time = sum(simulation.seconds.values()) / span
    run.calls = sum(c.calls for c in simulation.closures)
    run.skips = sum(c.skips for c in simulation.closures)
    run.declined = sum(c.declined for c in simulation.closures)
    return run
