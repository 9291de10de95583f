"""`mi2a` in the solver loop: the window, leaps, other closures, and problems that it refuses."""

from __future__ import annotations

import numpy as np
import pytest

from subgrid.closures.mi2a.model import WaveModel
from subgrid.ingest.prepare import prepare
from subgrid.solver.case.reading import check
from subgrid.solver.closure import Closure, ClosureError, Correction, Coupled

EVERY, WINDOW = 3, 4


@pytest.fixture
def simulate(turning_wave, tmp_path):
    def start(options=None, amplitude=1.0, end=4.8, members=1, before=(), growth=1.0, **tables):
        data = turning_wave(tmp_path / "wave.safetensors", EVERY, WINDOW, growth)
        table = {"name": "mi2a", "weights": "wave.safetensors", "every": EVERY} | (options or {})
        tables = {
            "initial": data["initial"] | {"amplitude": amplitude},
            "time": data["time"] | {"end": end},
            "ensemble": {"members": members},
            "closure": [table],
        } | tables
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


def wave(t, amplitude=1.0):
    return amplitude * np.sin(2 * np.pi * np.arange(24) / 24 - 1.5 * t)


def test_the_solver_computes_the_window_and_the_model_the_rest(simulate):
    run = simulate(amplitude=1.3, members=2)
    seen, solved = followed(run)
    assert solved == list(range(EVERY * (WINDOW - 1)))
    assert run.closures[0].calls == WINDOW
    assert seen[48] == pytest.approx(np.tile(wave(4.8, 1.3), (2, 1, 1)), abs=2e-3)


def test_a_given_history_needs_no_solver(simulate, tmp_path):
    times = 0.3 * np.arange(8)
    np.savez(tmp_path / "history.npz", state=np.stack([wave(t, 1.3)[None] for t in times]), time=times)
    for source in ("exact", "history.npz"):
        seen, solved = followed(simulate({"history": source}, amplitude=1.3))
        assert solved == []
        assert seen[6] == pytest.approx(wave(0.6, 1.3)[None, None], abs=1e-6)
        assert seen[48] == pytest.approx(wave(4.8, 1.3)[None, None], abs=1e-4)


def test_leaps_alternate_with_the_solver(simulate):
    run = simulate({"history": "exact", "mode": "alternating", "leap": 12, "solve": 9})
    seen, solved = followed(run)
    # the window is 9 steps, then leaps of 12 and the solver's 9 by turns
    assert solved == [*range(21, 30), *range(42, 48)]
    assert seen[48] == pytest.approx(wave(4.8)[None, None], abs=2e-3)


class Nudge(Closure):
    """Replaces the state at step 15 by another wave."""

    def start(self, problem):
        return {}

    def __call__(self, view, memory):
        return (Correction(2 * view.state), memory) if view.step == 15 else (None, memory)


@pytest.mark.parametrize("first", [True, False])
def test_a_correction_by_another_closure_invalidates_the_window(first, simulate):
    """After it the solver computes a new window; the predicted wave is the corrected one."""
    run = simulate({"mode": "alternating", "leap": 6, "solve": 6})
    nudge = Coupled("nudge", Nudge(), 3)
    closures = [nudge, *run.closures] if first else [*run.closures, nudge]
    run = type(run)(
        run.equation, run.grid, "rk4", 0.1, run.state, closures=closures,
        initial={"kind": "sine", "amplitude": 1.0, "wavenumber": 1.0, "offset": 0.0, "phase": 0.0},
        folder=None,
    )  # fmt: skip
    seen, solved = followed(run)
    # the window 0..9, a leap to 15, the correction there, a window of 9 steps from the first call after it
    assert solved[:9] == list(range(9)) and solved[9] == 15
    fresh = 15 if first else 18
    assert set(range(15, fresh + 9)) <= set(solved) and fresh + 9 not in solved
    assert seen[48] == pytest.approx(2 * wave(4.8)[None, None], abs=4e-3)


@pytest.fixture(autouse=True)
def in_the_folder_of_the_weights(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_continued_from_any_step_equals_uninterrupted(simulate):
    """Also from within the window, and between leaps."""
    options = {"mode": "alternating", "leap": 12, "solve": 6}
    whole = simulate(options)
    saved = {}

    def keep(n):
        if not whole.leaping:
            saved[n] = {k: v.copy() for k, v in whole.checkpoint().items()}

    whole.run(48, lambda n: 1, keep)
    assert len(saved) >= 25
    for arrays in saved.values():
        again = simulate(options)
        again.restore(arrays)
        again.run(48, lambda n: 1)
        assert again.state.tobytes() == whole.state.tobytes()


def test_trust_declines_what_the_model_cannot_represent(simulate):
    run = simulate({"trust": "distance", "distance": 0.01, "mode": "alternating", "leap": 12, "solve": 3})
    x = run.grid.coordinates()[0]
    run.replace(run.state + 0.1 * np.sin(3 * x))
    _, solved = followed(run)
    assert len(solved) == 48 and run.closures[0].declined > 0
    assert followed(simulate({"trust": "distance", "distance": 0.01, "reach": 1.0}))[1] == list(range(9))


def test_an_unstable_roll_out_is_caught(simulate):
    """By the guard, or by the range of the latents where they are trusted only there."""
    with pytest.raises(ClosureError, match=r"not finite.*Remedy|values that are not finite.*Remedy"):
        simulate({"history": "exact"}, growth=1e300).run(48)
    run = simulate({"history": "exact", "trust": "distance"}, growth=2.0)
    _, solved = followed(run)
    assert run.closures[0].declined > 0 and len(solved) > 30


@pytest.mark.parametrize(
    ("options", "changes", "message"),
    [
        ({"every": 6}, {}, r"predicts at intervals of 0.3, every = 6 steps are 0.6. Remedy: every = 3"),
        ({}, {"amplitude": 3.0}, r"initial.amplitude = 3 lies outside the training range \[0.5, 2\].*Remedy"),
        ({}, {"equation": {"name": "advection", "speed": 1.4}}, r"is for equation.speed = 1.5, the case has 1.4"),
        ({}, {"grid": {"shape": [32], "length": [2 * np.pi]}}, r"is for the shape \[24\], the case has \[32\]"),
        ({}, {"grid": {"shape": [24], "length": [6.0]}}, r"is for the length"),
        ({"history": "nothing.npz"}, {}, r"history 'nothing.npz' cannot be read.*Remedy"),
        ({"history": "wave.safetensors"}, {}, r"history 'wave.safetensors' cannot be read.*Remedy"),
        ({"mode": "alternating", "leap": 12, "solve": 10}, {}, r"solve = 10 is not a multiple of every = 3"),
    ],
)
def test_a_problem_that_does_not_fit_is_refused_by_name(options, changes, message, simulate):
    with pytest.raises((ClosureError, ValueError), match=message):
        simulate(options, **changes)


@pytest.mark.parametrize(
    ("state", "time", "message"),
    [
        (np.zeros((4, 1, 23)), 0.3 * np.arange(4), "has states"),
        (np.zeros((3, 1, 24)), 0.3 * np.arange(3), "lacks states at the times"),
        (np.full((4, 1, 24), np.nan), 0.3 * np.arange(4), "values that are not finite"),
    ],
)
def test_a_history_file_that_does_not_fit_is_refused(state, time, message, simulate, tmp_path):
    np.savez(tmp_path / "history.npz", state=state, time=time)
    with pytest.raises(ClosureError, match=rf"history 'history.npz' .*{message}.*Remedy"):
        simulate({"history": "history.npz"})


def test_a_run_beyond_the_span_needs_permission(simulate):
    with pytest.raises(ClosureError, match=r"over a time of 4.8, which is over at t = 4.8.*Remedy"):
        simulate({"history": "exact"}, end=9.6).run(96)
    run = simulate({"history": "exact", "extrapolate": True}, end=9.6)
    run.run(96)
    assert run.state == pytest.approx(wave(9.6)[None, None], abs=1e-3)


def test_weights_are_read_as_they_were_written(turning_wave, tmp_path):
    turning_wave(tmp_path / "a.safetensors")
    WaveModel.load(tmp_path / "a.safetensors").save(tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
