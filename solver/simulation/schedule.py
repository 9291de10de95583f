"""Schedules: at which steps a run stops, and what is kept there.

outputs = Schedule(0, steps, every)
simulation.run(steps, stops(outputs, checkpoints, stride=wall_clock(simulation, 0.2)), at, output_every=every)

kept = Collector(simulation, steps, every, onto=restrict)
kept.run(at=draw_progress, stride=50)      # on failure raises; kept.states are those before it
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .loop import Simulation


@dataclass(frozen=True)
class Schedule:
    """Steps first, first + every, ... up to `last`, which need not be one of them; None for no end."""

    first: int
    last: int | None
    every: int

    def due(self, n: int) -> bool:
        """Whether n is one of the steps."""
        return self.first <= n and (self.last is None or n <= self.last) and (n - self.first) % self.every == 0

    def index(self, n: int) -> int:
        """How many of the steps come before n."""
        return max(0, -((self.first - n) // self.every))

    @property
    def count(self) -> int:
        """Number of steps. Raises ValueError for a schedule without end."""
        if self.last is None:
            raise ValueError("a schedule without end has no number of steps")
        return max(0, (self.last - self.first) // self.every + 1)

    def after(self, n: int) -> int | None:
        """The first of the steps after n, or None."""
        following = self.first if n < self.first else n + self.every - (n - self.first) % self.every
        return following if self.last is None or following <= self.last else None


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
    """Runs a simulation from step 0 to step `steps` and keeps onto(state) at every `every`-th step in `states`.

    onto: a function of the state (member, field, *grid); by default the state itself is kept. If the run fails, `run`
    raises what `Simulation.run` raises, and `states` holds what was kept before.
    """

    def __init__(
        self, simulation: Simulation, steps: int, every: int, onto: Callable[[Any], Any] = lambda state: state
    ) -> None:
        self.simulation, self.schedule, self.onto = simulation, Schedule(0, steps, every), onto
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
