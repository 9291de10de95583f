"""`lasdi` in the solver loop: leaps that alternate with solver steps, and leaps that an error indicator declines."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from subgrid.closures.lasdi.error_indicators import accepted_states
from subgrid.ingest.prepare import prepare
from subgrid.solver.case.reading import CaseError, check
from subgrid.solver.closure import ClosureError
from subgrid.solver.spectral import Operators

WRONG = 0.02  # the model's speed is off by WRONG (p^2 - 1), p = 2 c - 3


@pytest.fixture
def simulate(carried_wave, tmp_path):
    def start(options, speed=1.5, wrong=0.0, noise=1e-9, end=4.8, members=1):
        data = carried_wave(tmp_path / "wave.safetensors", wrong, noise)
        table = {"name": "lasdi", "weights": "wave.safetensors", "every": 3} | options
        tables = {
            "equation": data["equation"] | {"speed": speed},
            "time": data["time"] | {"end": end},
            "ensemble": {"members": members},
            "closure": [table],
        }
        prepared = prepare(check(data | tables, "wave.toml", tmp_path), tmp_path, with_reference=False)
        return prepared.simulation(prepared.case.closure)

    return start


def followed(run, steps=48):
    """States at all steps where the loop stops, and the steps that the solver has taken."""
    seen = {}
    advance, solved = run.advance, []
    run.advance = lambda count: (solved.extend(range(run.step_number, run.step_number + count)), advance(count))
    run.run(steps, lambda n: 6 - n % 6, lambda n: seen.setdefault(n, run.state), output_every=6)
    return seen, solved


def wave(t, speed):
    return np.sin(2 * np.pi * np.arange(24) / 24 - speed * t)


def test_leaps_alternate_with_the_solver(simulate):
    """Leaps of 12 steps with 9 solver steps between them; each leap encodes the state that the solver has reached."""
    run = simulate({"mode": "alternating", "leap": 12, "solve": 9}, wrong=-WRONG, members=2)
    seen, solved = followed(run)
    assert solved == [*range(12, 21), *range(33, 42)]
    leapt = 0.1 * (48 - len(solved))
    assert seen[48] == pytest.approx(np.tile(wave(4.8 + WRONG / 1.5 * leapt, 1.5), (2, 1, 1)), abs=2e-4)
    assert run.closures[0].declined == 0


@pytest.mark.parametrize(("speed", "trusts"), [(1.5, True), (2.0, True), (3.0, False)])
def test_the_residual_is_that_of_the_equation(speed, trusts, simulate):
    """|(c' - c) u_x| / |c u_x|, in the box and outside, by a Fourier method; a leap is taken where it is tolerated."""
    p = 2 * speed - 3
    expected = abs(WRONG * (p**2 - 1)) / speed
    run = simulate({"trust": "residual", "tolerance": 0.017}, speed, WRONG)
    closure = run.closures[0].closure
    parameters = np.array([[speed]])
    z = closure._model.encode(torch.from_numpy(run.state[:, 0]))
    assert closure._residual(closure._model, z, parameters, 0.0, None) == pytest.approx(expected, abs=1e-5)
    _, solved = followed(run)
    assert (solved == []) == trusts == (expected < 0.017)
    assert run.closures[0].declined == len(solved) == (0 if trusts else 48)
    if not trusts:
        assert np.allclose(run.state[0, 0], wave(4.8, speed), atol=2e-3)  # rk4 at a step of 0.1


def test_the_residual_of_finite_volumes_is_that_of_their_fluxes(simulate):
    """The residual is that of the discrete equation, not of the differential equation."""
    run = simulate({"trust": "residual", "tolerance": 0.5})
    closure = run.closures[0].closure
    equation = run.equation.model_copy(update={"discretisation": "finite-volume", "reconstruction": "muscl"})
    closure._residual.equation = equation
    state = np.sin(run.grid.coordinates()[0])[None, None]
    z = closure._model.encode(torch.from_numpy(state[:, 0]))
    exact = -1.5 * np.cos(run.grid.coordinates()[0])
    full = equation.nonlinear(Operators(run.grid), state, 0.0)[0, 0]
    expected = np.linalg.norm(exact - full) / np.linalg.norm(full)
    assert expected > 0.005
    assert closure._residual(closure._model, z, np.array([[1.5]]), 0.0, None) == pytest.approx(expected, rel=1e-3)


def test_a_leap_ends_where_the_spread_exceeds_the_tolerance(simulate):
    """The spread grows with time: the first states are used, the others are declined and computed by the solver."""
    few, many = (simulate({"trust": "spread", "tolerance": t}, noise=0.01) for t in (0.01, 0.03))
    solved = [followed(run)[1] for run in (few, many)]
    for run, own in zip((few, many), solved, strict=True):
        assert 0 < len(own) < 48 and own == list(range(own[0], 48)) and own[0] % 3 == 0
        assert run.closures[0].declined == len(own)
    assert len(solved[0]) > len(solved[1])
    assert followed(simulate({"trust": "spread", "tolerance": 0.01}))[1] == []


def test_no_leap_starts_at_a_state_with_a_large_reconstruction_error(simulate):
    for trust in ("spread", "residual"):
        run = simulate({"mode": "alternating", "leap": 12, "solve": 3, "trust": trust, "tolerance": 1.0})
        state = run.state
        run.replace(state + 0.05 * np.sin(2 * run.grid.coordinates()[0]))
        assert len(followed(run)[1]) == 48
        assert run.closures[0].declined == 12 + 12 + 12 + 3  # of leaps at 0, 15, 30, 45


@pytest.mark.parametrize("distance", [0.005, 0.02])
def test_a_leap_starts_up_to_the_distance_and_not_beyond(distance, simulate):
    """A part of relative size e that the decoder cannot represent is a reconstruction error of e / sqrt(1 + e^2)."""
    for part, declined in ((0.9, 0), (1.1, 12)):
        options = {"mode": "alternating", "leap": 12, "solve": 36, "distance": distance}
        run = simulate(options | {"trust": "residual", "tolerance": 1.0})
        error = part * distance
        outside = error / np.sqrt(1 - error**2) * np.sin(2 * run.grid.coordinates()[0])
        run.replace(wave(0.0, 1.5)[None, None] + outside)
        followed(run)
        assert run.closures[0].declined == declined


def test_unstable_latents_are_declined(simulate):
    run = simulate({"trust": "residual", "tolerance": 1e9, "reach": 0.001}, wrong=0.5)
    run.closures[0].closure._model.operator[0, 1:] += 0.2 * torch.eye(2)
    followed(run)
    assert run.closures[0].declined == 48


def test_without_an_indicator_ranges_and_span_are_enforced(simulate):
    alternating = {"mode": "alternating", "leap": 12, "solve": 9}
    with pytest.raises(ClosureError, match=r"speed = 2.2 lies outside the training range \[1, 2\]"):
        simulate(alternating, 2.2)
    with pytest.raises(ClosureError, match=r"over a time of 4.8, which is over"):
        simulate(alternating, end=9.6).run(96)
    checked = {"trust": "residual", "tolerance": 1e-3}
    run = simulate(alternating | checked, 2.2, end=9.6)
    run.run(96)
    assert run.closures[0].declined == 0  # the model is exact outside its ranges too


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "alternating"}, "needs leap and solve"),
        ({"leap": 12}, "needs leap and solve"),
        ({"trust": "residual"}, "need a tolerance"),
        ({"tolerance": 0.1}, "need a tolerance"),
        ({"mode": "alternating", "leap": 12, "solve": 10}, "solve = 10 is not a multiple of every = 3"),
    ],
)
def test_options_that_contradict_each_other(options, message, simulate):
    with pytest.raises((CaseError, ClosureError), match=message):
        simulate(options)


def test_states_before_the_first_failed_check_are_accepted():
    at = np.array([0, 2, 4, 6])
    assert accepted_states(np.array([1.0, 1.0, 1.0, 1.0]), 1.0, at) == 6
    assert accepted_states(np.array([1.0, 1.0, 1.1, 0.0]), 1.0, at) == 2
    assert accepted_states(np.array([1.1, 0.0, 0.0, 0.0]), 1.0, at) == 0
    assert accepted_states(np.array([0.0, np.nan, 0.0, 0.0]), 1.0, at) == 0


@pytest.mark.parametrize("noise", [1e-9, 0.02])
def test_latent_trajectories_of_an_exact_model(noise, simulate):
    """Encoded and predicted latents agree, z = (-sin c t, cos c t); the deviation is that of the Gaussian processes."""
    closure = simulate({}, noise=noise).closures[0].closure
    states = np.stack([wave(0.3 * i, 1.5)[None] for i in range(9)])
    found = closure.latent_trajectories(states, 0.3)
    assert set(found) == {"encoded", "predicted", "deviation"}
    angle = 1.5 * 0.3 * np.arange(9)
    assert found["encoded"] == pytest.approx(np.stack([-np.sin(angle), np.cos(angle)], 1), abs=1e-5)
    assert found["predicted"] == pytest.approx(found["encoded"], abs=1e-5)
    assert (found["deviation"][-1].max() > 0.01) == (noise > 0.01)
