"""The cost of runs: CPU seconds of one thread per unit of simulated time, measured in turns.

Wall time grows with every other process on the machine. CPU time does not, and what is left of the influence (caches,
the clock of the processor) is the same for runs that take turns: ratios of costs are stable under load.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from threadpoolctl import threadpool_limits

from subgrid.solver.simulation import Simulation
from subgrid.solver.simulation.schedule import Schedule, stops

TURNS = 7
TURN_SECONDS = 0.1  # lower bound on the CPU time of one turn, unless the whole run takes less


@dataclass
class Clocked:
    """A run whose cost is measured. make: builds its simulation, with one thread. steps: of the whole run.

    output_every: steps between outputs, at which the state is read. A turn covers a multiple of the steps between
    calls of its closures, and begins anew when the run is over.
    """

    make: Callable[[], Simulation]
    steps: int
    output_every: int
    found: list[tuple[float, float]] = field(default_factory=list)  # CPU and wall seconds per unit of time, by turn
    _simulation: Simulation | None = None
    _stride: int = 0

    def turn(self) -> None:
        """Advance by one turn and keep its cost."""
        if self._stride == 0:
            self._stride = self._first()
        if self._simulation is None or self._simulation.step_number + self._stride > self.steps:
            self._simulation = self.make()
        self.found.append(self._timed(self._simulation, self._stride))

    def _first(self) -> int:
        """The length of a turn. Compiles kernels and plans transforms on the way."""
        period = int(np.lcm.reduce([1, *(c.every for c in self.make().closures)]))
        stride = min(period, self.steps)
        self._timed(self.make(), stride)
        spent = self._timed(self.make(), stride, per_time=False)[0]
        while stride < self.steps and spent < TURN_SECONDS:
            stride = min(self.steps, period * max(2 * stride // period, 1))
            spent = self._timed(self.make(), stride, per_time=False)[0]
        return stride

    def _timed(self, simulation: Simulation, steps: int, per_time: bool = True) -> tuple[float, float]:
        outputs = Schedule(0, None, self.output_every)

        def at(n: int) -> None:
            if outputs.due(n):
                _ = simulation.state  # as every run does for its outputs

        began, wall = time.process_time(), time.perf_counter()
        simulation.run(simulation.step_number + steps, stops(outputs), at, output_every=self.output_every)
        span = steps * simulation.step if per_time else 1.0
        return (time.process_time() - began) / span, (time.perf_counter() - wall) / span

    @property
    def cost(self) -> tuple[float, float]:
        """Median CPU and wall seconds per unit of simulated time."""
        cpu, wall = np.median(np.array(self.found), axis=0)
        return float(cpu), float(wall)


def measure(runs: Sequence[Clocked], seen: Callable[[int, int], None] = lambda done, of: None) -> None:
    """Let the runs take TURNS turns, with one thread. seen(done, all) is called after each turn."""
    with one_thread():
        for n in range(TURNS):
            for i, run in enumerate(runs):
                run.turn()
                seen(n * len(runs) + i + 1, TURNS * len(runs))


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread for BLAS, and for torch if a closure has loaded it: waiting threads would count as CPU time."""
    torch = sys.modules.get("torch")
    threads = torch.get_num_threads() if torch else 1
    try:
        if torch:
            torch.set_num_threads(1)
        with threadpool_limits(1, user_api="blas"):
            yield
    finally:
        if torch:
            torch.set_num_threads(threads)
