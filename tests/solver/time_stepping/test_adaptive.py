"""Steps of bounded Courant number: they cover the span, respect the bound, and stop where they cannot continue."""

from __future__ import annotations

import json
import math

import array_api_compat.torch
import pytest

from subgrid.commands.run import resume, run
from subgrid.solver.backend.files import read_arrays, write_arrays
from subgrid.solver.case.reading import read_case
from subgrid.solver.time_stepping import adaptive, compiled
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


def covered(rate, longest, expected=1):
    """The lengths of the steps by `cover` and by `cover_on_device`, where steps longer than longest(t) are rejected."""
    host: list[float] = []
    reads = []

    def attempt(t, h):
        if h > longest(t):
            return False
        host.append(h)
        return True

    cover(1.0, 2.0, 0.4, lambda: rate(1.0 + sum(host)), attempt)
    xp = array_api_compat.torch

    def masked(u, t, h):
        return xp.concat([u[:1] + h, u[1:] + 1]), h <= longest(t)

    def read(values):
        reads.append(values)
        return values.numpy()

    u, taken = adaptive.cover_on_device(
        xp.zeros(2, dtype=xp.float64), 1.0, 2.0, 0.4, expected, lambda u: rate(1.0 + u[0]), masked, read, xp
    )
    return host, (float(u[0]), int(u[1]), taken), len(reads)


@pytest.mark.parametrize("expected", [1, 7, 1000])
def test_steps_on_a_device_are_those_of_the_host(expected):
    """Their number and their sum, with speeds that grow, with and without steps that are rejected."""
    for longest in (lambda t: 10.0, lambda t: 0.03 + 0.01 * t):
        host, (span, count, taken), reads = covered(lambda t: 3.0 + t, longest, expected)
        assert span == pytest.approx(2.0, rel=1e-14) and count == taken == len(host) and count > 20
        assert reads <= 8


def test_steps_on_a_device_fail_as_those_of_the_host():
    with pytest.raises(ArithmeticError, match="the signal speeds are not finite"):
        covered(lambda t: t * 0 + float("nan"), lambda t: 10.0)
    xp, none = array_api_compat.torch, lambda u, t, h: (u, h < 0)
    for rate, message in ((float("inf"), "not finite"), (1.0, "steps by CFL fell below 2.0e-09")):
        with pytest.raises(ArithmeticError, match=message):
            adaptive.cover_on_device(
                xp.zeros(1), 0.0, 2.0, 0.4, 1, lambda u, r=rate: 0 * u[0] + r, none, lambda a: a.numpy(), xp
            )


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_a_run_counts_the_steps_that_it_took_and_a_resumed_one_counts_on(backend, tmp_path, monkeypatch):
    """Not the intervals between outputs; two members with steps of their own on NumPy, shared ones on torch."""
    water = {
        "title": "water", "backend": backend, "equation": {"name": "shallow-water"},
        "grid": {"shape": [8, 32], "length": [1.0, 4.0]}, "time": {"end": 0.4, "cfl": 0.3, "stepper": "ssp-rk2"},
        "ensemble": {"members": 2, "perturbation": 0.01},
        "initial": {"kind": "gaussian-hump", "level": 1.0, "drops": [{"amplitude": 0.5, "width": 0.3}]},
        "output": {"every": 0.1, "checkpoint_every": 0.1},
    }  # fmt: skip
    counted: list[int] = []
    for place, name in ((compiled.adaptive, "cover"), (adaptive, "cover_on_device")):
        original = getattr(place, name)

        def counting(*arguments, original=original):
            found = original(*arguments)
            counted.append(found if isinstance(found, int) else found[1])
            return found

        monkeypatch.setattr(place, name, counting)
    whole = json.loads(run(read_case(water), out=tmp_path / "whole", progress=False).attrs["summary"])
    assert whole["intervals"] == 4
    alone = backend == "numpy"  # of two members, whose order is that of the threads
    assert sum(counted) / 2 <= whole["steps"] < sum(counted) - 4 if alone else whole["steps"] == sum(counted) > 8
    run(read_case(water, {"time.end": 0.2}), out=tmp_path / "part", progress=False)
    resumed = resume(tmp_path / "part", until=0.4, progress=False)
    assert json.loads(resumed.attrs["summary"])["steps"] == whole["steps"]
    earlier = read_arrays(tmp_path / "part/checkpoint/state.npz")
    del earlier["taken"]  # as versions wrote that did not count
    write_arrays(tmp_path / "part/checkpoint/state.npz", earlier)
    resumed = resume(tmp_path / "part", until=0.5, progress=False)
    assert json.loads(resumed.attrs["summary"])["steps"] is None
