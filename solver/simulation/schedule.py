"""Schedules: at which steps a run stops, and what is kept there.

outputs = output_schedule(case)
simulation.run(steps, stops(outputs, checkpoints, stride=wall_clock(simulation, 0.2)), at, output_every=every)

kept = Collector(simulation, steps, every, onto=restrict)
kept.run(at=draw_progress, stride=50)      # on failure raises; kept.states are those before it
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..case.base import multiple
from ..case.tables import Case

if TYPE_CHECKING:
    from .loop import Simulation


@dataclass(frozen=True)
class Schedule:
    """Steps first, first + every, ... up to `last`; None for no end.

    with_last: `last` is one of the steps also where `every` does not divide the span, which shortens the last interval.
    """

    first: int
    last: int | None
    every: int
    with_last: bool = False

    def due(self, n: int) -> bool:
        """Whether n is one of the steps."""
        if n < self.first or (self.last is not None and n > self.last):
            return False
        return (n - self.first) % self.every == 0 or (self.with_last and n == self.last)

    def index(self, n: int) -> int:
        """How many of the steps come before n."""
        return max(0, -((self.first - n) // self.every))

    @property
    def count(self) -> int:
        """Number of steps. Raises ValueError for a schedule without end."""
        return len(self.steps())

    def steps(self) -> NDArray[np.int64]:
        """All steps, (count,). Raises ValueError for a schedule without end."""
        if self.last is None:
            raise ValueError("a schedule without end has no number of steps")
        regular = np.arange(self.first, self.last + 1, self.every)
        ends_early = len(regular) > 0 and regular[-1] != self.last
        return np.append(regular, self.last) if self.with_last and ends_early else regular

    def after(self, n: int) -> int | None:
        """The first of the steps after n, or None."""
        following = self.first if n < self.first else n + self.every - (n - self.first) % self.every
        if self.last is None or following <= self.last:
            return following
        return self.last if self.with_last and self.first <= n < self.last else None


def output_schedule(case: Case, every: float | None = None) -> Schedule:
    """The steps at which a case has outputs: 0, the multiples of `every` (by default output.every), and the last step.

    Raises ValueError for a case whose interval or span is not a whole number of steps.
    """
    return Schedule(0, case.steps(), multiple(every or case.output.every, case.step), with_last=True)


def output_times(case: Case) -> NDArray[np.float64]:
    """The times of the outputs of a case, (output,), from time.start to time.end."""
    return case.time.start + case.step * output_schedule(case).steps().astype(np.float64)


def stops(*schedules: Schedule, stride: int | Callable[[], int] | None = None) -> Callable[[int], int]:
    """`events` for `Simulation.run`: the number of steps from n to the next scheduled step, 0 for none.

    stride: an upper bound on that number, fixed or evaluated at every stop.
    """

    def events(n: int) -> int:
        ahead = [step - n for s in schedules if (step := s.after(n)) is not None]
        if stride is not None:
            ahead.append(stride() if callable(stride) else stride)
        return min(ahead, default=0)

    return events


def wall_clock(simulation: Simulation, seconds: float) -> Callable[[], int]:
    """A stride: the steps that the simulation takes in about so many seconds, by its pace since this call."""
    first, spent = simulation.step_number, simulation.seconds["step"]

    def stride() -> int:
        done = simulation.step_number - first
        pace = max(1e-6, (simulation.seconds["step"] - spent) / done) if done else 1e-3
        return max(1, int(seconds / pace))

    return stride


class Collector:
    """Runs a simulation from step 0 to step `steps`; `states` keeps onto(state) at every `every`-th and the last step.

    onto: a function of the state (member, field, *grid); by default the state itself is kept. If the run fails, `run`
    raises what `Simulation.run` raises, and `states` holds what was kept before.
    """

    def __init__(
        self, simulation: Simulation, steps: int, every: int, onto: Callable[[Any], Any] = lambda state: state
    ) -> None:
        self.simulation, self.schedule, self.onto = simulation, Schedule(0, steps, every, True), onto
        self.states: list[Any] = []

    def run(
        self, at: Callable[[int], None] = lambda n: None, stride: int | Callable[[], int] | None = None
    ) -> list[Any]:
        """Run to the end and return `states`; at(n) is called at every stop, after the state of step n was kept."""

        def stop(n: int) -> None:
            if self.schedule.due(n):
                self.states.append(self.onto(self.simulation.state))
            at(n)

        every, steps = self.schedule.every, self.schedule.last
        assert steps is not None
        self.simulation.run(steps, stops(self.schedule, stride=stride), stop, output_every=every)
        return self.states
