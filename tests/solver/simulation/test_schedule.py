"""Schedules of steps, the stops that follow from them, and states collected on a schedule."""

from __future__ import annotations

import math

import numpy as np
import pytest

from subgrid.solver.closure import Closure, Coupled, Leap
from subgrid.solver.equations import Burgers
from subgrid.solver.grid import Grid
from subgrid.solver.simulation import BlowUp, Simulation
from subgrid.solver.simulation.schedule import Collector, Schedule, stops, wall_clock

LINE = Grid((16,), (2 * np.pi,))


def simulation(closures=(), step=0.1, viscosity=0.1, stepper="etdrk2") -> Simulation:
    state = np.sin(LINE.coordinates()[0])[None, None]
    return Simulation(Burgers(viscosity=viscosity), LINE, stepper, step, state, closures=list(closures))


@pytest.mark.parametrize("schedule", [Schedule(4, 10, 3), Schedule(0, 11, 4), Schedule(5, 5, 1), Schedule(3, 2, 1)])
def test_a_schedule_is_the_range_that_it_names(schedule):
    steps = list(range(schedule.first, schedule.last + 1, schedule.every))
    assert schedule.count == len(steps)
    assert [schedule.index(n) for n in steps] == list(range(len(steps)))
    for n in range(15):
        assert schedule.due(n) == (n in steps)
        assert schedule.after(n) == min((s for s in steps if s > n), default=None)


@pytest.mark.parametrize(
    "schedule", [Schedule(4, 11, 3, True), Schedule(4, 10, 3, True), Schedule(0, 2, 4, True), Schedule(3, 2, 1, True)]
)
def test_a_schedule_with_its_last_step_adds_it_where_the_interval_does_not_divide_the_span(schedule):
    regular = range(schedule.first, schedule.last + 1, schedule.every)
    steps = sorted({*regular, *([schedule.last] if regular else [])})
    assert schedule.count == len(steps) and schedule.steps().tolist() == steps
    assert [schedule.index(n) for n in steps] == list(range(len(steps)))
    for n in range(15):
        assert schedule.due(n) == (n in steps)
        assert schedule.after(n) == min((s for s in steps if s > n), default=None)


def test_a_schedule_without_end():
    schedule = Schedule(2, None, 5)
    assert [schedule.due(n) for n in (0, 2, 7, 1002)] == [False, True, True, True]
    assert [schedule.after(n) for n in (0, 2, 1000)] == [2, 7, 1002]
    with pytest.raises(ValueError, match="without end"):
        _ = schedule.count
    with pytest.raises(ValueError, match="without end"):
        schedule.steps()


def test_stops_are_at_every_schedule_and_at_most_a_stride_apart():
    seen = []
    run = simulation()
    run.run(20, stops(Schedule(0, None, 6), Schedule(7, 11, 2), stride=4), seen.append)
    assert seen == [0, 4, 6, 7, 9, 11, 12, 16, 18, 20]
    assert stops(Schedule(0, 3, 1))(3) == 0 and stops()(5) == 0


def test_a_stride_by_the_wall_clock_follows_the_pace_of_the_run():
    run = simulation()
    stride = wall_clock(run, 0.5)
    assert stride() == 500
    run.run(10)
    run.seconds["step"] = 10 * 0.05
    assert stride() == 10
    run.seconds["step"] = 1e3
    assert stride() == 1
    run.seconds["step"] = 2.0
    later = wall_clock(run, 0.5)  # counts from now on
    run.run(20)
    run.seconds["step"] = 2.0 + 10 * 0.1
    assert later() == 5


def test_a_collector_keeps_the_scheduled_states_and_changes_no_bit():
    plain, stopped = simulation(), []
    kept = Collector(simulation(), 10, 3, onto=lambda state: state[0, 0])
    states = kept.run(at=stopped.append, stride=2)
    assert stopped == [0, 2, 3, 5, 6, 8, 9, 10] and len(states) == kept.schedule.count == 5
    for i, n in enumerate([0, 3, 6, 9, 10]):
        plain.run(n)
        assert np.array_equal(states[i], plain.state[0, 0])
    assert kept.simulation.step_number == 10


def test_a_failure_leaves_the_states_before_it():
    kept = Collector(simulation(step=1.0, viscosity=100.0, stepper="rk4"), 1000, 2)
    with pytest.raises(BlowUp):
        kept.run()
    assert 0 < len(kept.states) == math.ceil(kept.simulation.step_number / 2)
    assert all(np.isfinite(state).all() for state in kept.states)


def test_a_collector_requires_a_leap_to_contain_the_scheduled_states():
    class Leaping(Closure):
        def start(self, problem):
            return {}

        def __call__(self, view, memory):
            steps = view.step + np.array([2, 4])
            return Leap(np.stack([np.full_like(view.state, n) for n in steps]), 0.1 * steps), memory

    assert [s[0, 0, 0] for s in Collector(simulation([Coupled("leap", Leaping(), every=4)]), 8, 2).run()[1:]] == [
        2.0,
        4.0,
        6.0,
        8.0,
    ]
    with pytest.raises(RuntimeError, match="passes the output at step 3"):
        Collector(simulation([Coupled("leap", Leaping(), every=4)]), 8, 3).run()
