"""Steps of bounded Courant number: they cover the span, respect the bound, and stop where they cannot continue."""

from __future__ import annotations

import math

import pytest

from subgrid.solver.time_stepping.adaptive import cover


def test_steps_cover_the_span_and_follow_the_courant_rate():
    """A rate that grows with the steps taken: each step divides the rest of the span by the rate at its start."""
    taken: list[tuple[float, float]] = []

    def attempt(t: float, h: float) -> bool:
        taken.append((t, h))
        return True

    cover(2.0, 1.0, 0.5, lambda: 1.0 + len(taken), attempt)
    times = [t for t, _ in taken] + [3.0]
    assert times[0] == 2.0 and len(taken) > 2
    for i, (t, h) in enumerate(taken):
        assert t + h == pytest.approx(times[i + 1], abs=1e-14)
        rest = 3.0 - t
        assert h == pytest.approx(rest / math.ceil(rest * (1 + i) / 0.5 - 1e-9))


def test_a_step_that_is_not_admissible_is_halved_and_the_rest_is_divided_anew():
    taken: list[tuple[float, float]] = []

    def attempt(t: float, h: float) -> bool:
        taken.append((t, h))
        return h < 0.3

    cover(0.0, 1.0, 1.0, lambda: 0.0, attempt)
    assert [h for _, h in taken[:3]] == [1.0, 0.5, 0.25]
    assert sum(h for _, h in taken if h < 0.3) == pytest.approx(1.0)


@pytest.mark.parametrize("rate", [math.inf, math.nan])
def test_speeds_that_are_not_finite_stop_the_run(rate):
    with pytest.raises(ArithmeticError, match="not finite"):
        cover(0.0, 1.0, 0.5, lambda: rate, lambda t, h: True)


def test_a_state_that_no_step_keeps_admissible_stops_the_run():
    with pytest.raises(ArithmeticError, match=r"fell below 1.0e-09"):
        cover(0.0, 1.0, 0.5, lambda: 1.0, lambda t, h: False)
