"""The closure contract: what each answer does to the run, when closures are called, and what the guard lets through."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pydantic import PrivateAttr

from subgrid.solver.backend import select
from subgrid.solver.closure import Closure, ClosureError, Correction, Coupled, Leap, Tendency, UnknownClosure, find
from subgrid.solver.equations import Burgers, Kolmogorov, LinearAdvection
from subgrid.solver.grid import Grid
from subgrid.solver.random import SpectralNoise
from subgrid.solver.simulation import BlowUp, Simulation
from subgrid.solver.time_stepping.schemes import STEPPERS, Multistep, compatible_schemes

LINE = Grid((16,), (2 * np.pi,))
STILL = Burgers(viscosity=0.0, omit=("advection", "diffusion"))  # du/dt = what closures add, and no more
FLOWING = Burgers(viscosity=0.1)
WAVE = np.sin(LINE.coordinates()[0])


class Scripted(Closure):
    """Answers what a function of (view, memory) returns, and notes when it was called."""

    _answer: Callable[..., Any] = PrivateAttr()
    _called: list[int] = PrivateAttr(default_factory=list)

    def start(self, problem):
        return {}

    def __call__(self, view, memory):
        self._called.append(view.step)
        answer = self._answer(view, memory)
        return answer if isinstance(answer, tuple) else (answer, memory)


def scripted(answer: Callable[..., Any], **coupling: Any) -> Coupled:
    closure = Scripted()
    closure._answer = answer
    return Coupled("scripted", closure, **coupling)


def simulation(*closures: Coupled, equation=STILL, stepper="etdrk2", step=0.1, members=1, state=0.0, **rest):
    start = np.zeros((members, 1, *LINE.shape)) + state
    return Simulation(equation, LINE, stepper, step, start, closures=list(closures), **rest)


def growing(view) -> np.ndarray:
    """(1 + 2 t) sin x."""
    return np.broadcast_to((1 + 2 * view.time) * WAVE, view.state.shape)


# -- tendencies ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stepper", compatible_schemes("semi-linear", ()))
def test_a_tendency_is_added_once_per_step_whatever_the_stages_or_the_history(stepper):
    """Where nothing else acts u grows by exactly h F(t_n) a step: F is frozen over stages, and in no history of rates.

    BDF2 alone has a history of states: there an increment is (d_{n-1} + 2 h F_n) / 3.
    """
    coupled = scripted(lambda view, memory: Tendency((-1.0) ** view.step * growing(view)))
    run = simulation(coupled, stepper=stepper)
    run.run(7)
    steps = [0.1 * (-1.0) ** n * (1 + 0.2 * n) for n in range(7)]
    if stepper == "sbdf2":
        for n in range(1, 7):
            steps[n] = (steps[n - 1] + 2 * steps[n]) / 3
    np.testing.assert_allclose(run.state[0, 0], sum(steps) * WAVE, atol=1e-14)
    assert coupled.calls == 7


def test_a_closure_is_called_at_the_steps_that_every_divides():
    two, three = (scripted(lambda view, memory: Tendency(np.zeros_like(view.state)), every=n) for n in (2, 3))
    simulation(two, three).run(9)
    assert two.closure._called == [0, 2, 4, 6, 8]
    assert three.closure._called == [0, 3, 6]
    assert (two.calls, three.calls) == (5, 3)


@pytest.mark.parametrize("where", ["case", "answer"])
def test_linear_hold_reproduces_a_linearly_growing_tendency_exactly(where):
    """After the first interval, in which nothing is known of the slope; a constant hold lags behind."""

    def answer(view, memory):
        return Tendency(growing(view), hold="linear" if where == "answer" else "constant")

    run = simulation(scripted(answer, every=5, hold="linear" if where == "case" else None))
    run.run(20)
    expected = (5 * 1.0 + sum(1 + 0.2 * n for n in range(5, 20))) * 0.1 * WAVE
    np.testing.assert_allclose(run.state[0, 0], expected, atol=1e-13)
    held = simulation(scripted(lambda view, memory: Tendency(growing(view)), every=5))
    held.run(20)
    lagging = 5 * sum(1 + 0.2 * n for n in (0, 5, 10, 15)) * 0.1
    np.testing.assert_allclose(held.state[0, 0], lagging * WAVE, atol=1e-13)


def test_the_case_overrules_the_hold_of_an_answer():
    a, b = (
        simulation(scripted(lambda view, memory, h=h: Tendency(growing(view), hold=h), every=5, hold="constant"))
        for h in ("linear", "constant")
    )
    a.run(20)
    b.run(20)
    assert np.array_equal(a.internal, b.internal)


def test_closures_add_up_and_weights_multiply():
    """a + b in one case acts as a closure that answers a + b; 0.5 a as one that answers half of it."""

    def damping(view, memory):
        return Tendency(-view.state)

    def forcing(view, memory):
        return Tendency(growing(view))

    both = simulation(scripted(damping, weight=0.5), scripted(forcing), equation=FLOWING, state=WAVE)
    one = simulation(
        scripted(lambda view, memory: Tendency(growing(view) - 0.5 * view.state)), equation=FLOWING, state=WAVE
    )
    both.run(12)
    one.run(12)
    np.testing.assert_allclose(both.state, one.state, atol=1e-14)


@pytest.mark.parametrize("every", [1, 3])
def test_linear_holds_of_closures_called_at_different_steps_add_up(every):
    """Each extrapolates from its own last call, wherever the other stands."""
    linear = [scripted(lambda view, memory: Tendency(growing(view)), every=n, hold="linear") for n in (every, 4)]
    run = simulation(*linear)
    run.run(24)
    alone = []
    for n in (every, 4):
        single = simulation(scripted(lambda view, memory: Tendency(growing(view)), every=n, hold="linear"))
        single.run(24)
        alone.append(single.state)
    np.testing.assert_allclose(run.state, alone[0] + alone[1], atol=1e-13)


@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize("hold", ["constant", "linear"])
def test_an_answer_of_none_contributes_nothing_until_the_next_call(hold, backend):
    """The held tendency, its slope and its noise end; the other closure continues; a restart agrees."""
    law = SpectralNoise(LINE, np.exp(-0.1 * LINE.wavenumbers()[0] ** 2))
    answers = {0: Tendency(np.full((1, 1, 16), 5.0), hold, law), 2: Tendency(np.full((1, 1, 16), 7.0), hold, law)}

    def run():
        sometimes = scripted(lambda view, memory: (answers.get(view.step), memory), every=2)
        steady = scripted(lambda view, memory: Tendency(np.ones((1, 1, 16))))
        return simulation(sometimes, steady, backend=select(backend))

    whole = run()
    whole.run(4)
    before = whole.state
    whole.run(10)
    np.testing.assert_allclose(whole.state, before + 0.6, atol=1e-13)
    assert (whole.closures[0].calls, whole.closures[0].skips) == (5, 0)
    first, second = run(), run()
    first.run(7)
    second.restore(first.checkpoint())
    second.run(10)
    assert np.array_equal(second.state, whole.state)
    again = run()
    again.restore(first.checkpoint() | {"step": np.array(7)})
    assert not [k for k in again.checkpoint() if k.startswith("closure.0.held")]


# -- noise --------------------------------------------------------------------------------------------------------


def noisy(every: int, weight: float = 1.0) -> Coupled:
    law = SpectralNoise(LINE, np.exp(-0.1 * LINE.wavenumbers()[0] ** 2))
    return scripted(lambda view, memory: Tendency(np.zeros_like(view.state), noise=law), every=every, weight=weight)


@pytest.mark.parametrize(("step", "every"), [(0.1, 1), (0.1, 5), (0.02, 1), (0.02, 10)])
def test_the_variance_of_accumulated_noise_is_its_law_times_time(step, every):
    """E|u_k|^2 = a_k^2 t for every h and every interval of calls: fresh numbers each step, times h^(-1/2).

    1500 members and 7 modes give a ratio to 1 with a standard deviation of 0.01.
    """
    run = simulation(noisy(every), step=step, members=1500)
    for end in (1.0, 2.0):
        run.run(round(end / step))
        power = np.abs(run.internal[:, 0, 1:8]) ** 2
        law = np.exp(-0.2 * LINE.wavenumbers()[0][1:8] ** 2)
        assert (power.mean(0) / (law * end)).mean() == pytest.approx(1, abs=0.05)


def test_noise_does_not_depend_on_how_often_the_closure_is_called():
    """The same numbers, drawn by step; a weight multiplies them."""
    runs = [simulation(noisy(every), members=3) for every in (1, 4)]
    half = simulation(noisy(3, weight=0.5), members=3)
    for run in (*runs, half):
        run.run(12)
    assert np.array_equal(runs[0].internal, runs[1].internal)
    np.testing.assert_allclose(half.internal, 0.5 * runs[0].internal, rtol=1e-13)


def test_two_closures_and_two_members_draw_different_numbers():
    alone, twice = simulation(noisy(1), members=2), simulation(noisy(1), noisy(1), members=2)
    alone.run(1)
    twice.run(1)
    first, both = alone.internal[:, 0, 1:6], twice.internal[:, 0, 1:6]
    assert (np.abs(first[0] - first[1]) > 1e-6).all()
    assert (np.abs((both - first) - first) > 1e-6).all()


def test_noise_acts_on_finite_volumes_too():
    """The same law on cell values: variance of u is that of the modes, summed."""
    equation = Burgers(viscosity=0.0, discretisation="finite-volume", omit=("advection", "diffusion"))
    run = simulation(noisy(2), equation=equation, stepper="ssp-rk3", members=1500)
    run.run(10)
    k = np.arange(1, 8)
    expected = 1 + 2 * np.exp(-0.2 * k**2).sum()
    assert run.state.var() == pytest.approx(expected, rel=0.05)


# -- corrections --------------------------------------------------------------------------------------------------


def test_a_correction_replaces_the_state():
    coupled = scripted(lambda view, memory: Correction(np.full_like(view.state, view.step)), every=4)
    run = simulation(coupled, state=7.0)
    seen = {}
    run.run(9, lambda n: 1, lambda n: seen.setdefault(n, run.state[0, 0, 0]))
    assert seen[0] == pytest.approx(7)
    assert [seen[n] for n in (1, 4, 5, 8, 9)] == pytest.approx([0, 0, 4, 4, 8], abs=1e-14)


@pytest.mark.parametrize("name", [n for n in STEPPERS if isinstance(STEPPERS[n], Multistep)])
def test_a_correction_starts_multistep_histories_anew(name):
    """Corrected at every step, though by nothing, a multistep scheme takes its first step again and again."""
    corrected = simulation(
        scripted(lambda view, memory: Correction(view.state)), equation=FLOWING, stepper=name, state=WAVE
    )
    corrected.run(5)
    euler = simulation(equation=FLOWING, stepper="cn-euler", state=WAVE)
    euler.run(5)
    np.testing.assert_allclose(corrected.state, euler.state, atol=1e-14)


# -- leaps --------------------------------------------------------------------------------------------------------


def leap_to(*steps: int) -> Callable[..., Leap]:
    """A leap to these steps after the call; the state at step n is n."""
    return lambda view, memory: Leap(
        np.stack([np.full_like(view.state, view.step + s) for s in steps]), 0.1 * (view.step + np.array(steps))
    )


def test_a_leap_gives_the_states_of_coming_steps_and_the_run_goes_on_from_the_last():
    coupled = scripted(leap_to(1, 2, 3), every=5)
    run = simulation(coupled)
    seen: dict[int, tuple[float, bool]] = {}
    run.run(10, lambda n: 1, lambda n: seen.setdefault(n, (run.state[0, 0, 0], run.leaping)))
    assert coupled.closure._called == [0, 5]
    assert {n: round(value) for n, (value, _) in seen.items()} == {
        0: 0, 1: 1, 2: 2, 3: 3, 4: 3, 5: 3, 6: 6, 7: 7, 8: 8, 9: 8, 10: 8
    }  # fmt: skip
    assert [n for n, (_, leaping) in seen.items() if leaping] == [1, 2, 6, 7]


def test_a_leap_must_hold_a_state_for_every_output_and_for_nothing_else():
    """Neither the stops of `events` nor the end of a leap need be outputs."""
    run = simulation(scripted(leap_to(2, 4, 6), every=6))
    run.run(12, lambda n: 1, output_every=2)
    with pytest.raises(ClosureError, match="passes the output at step 3"):
        simulation(scripted(leap_to(2, 4, 6), every=6)).run(12, output_every=3)


def test_states_beyond_the_end_of_the_run_are_left_out():
    run = simulation(scripted(leap_to(1, 2, 3, 4), every=4))
    run.run(6)
    assert run.step_number == 6
    assert run.state == pytest.approx(6)


def test_a_leap_of_no_states_leaves_the_steps_to_the_solver():
    """Another closure's tendency acts, this one's own ends; what is declined is counted, up to the end of the run."""
    answers = {0: Tendency(np.full((1, 1, 16), 5.0)), 4: Leap.none((1, 1, 16), 4), 8: Leap.none((1, 1, 16), 4)}
    coupled = scripted(lambda view, memory: answers[view.step], every=4)
    steady = scripted(lambda view, memory: Tendency(np.ones((1, 1, 16))), every=2)
    run = simulation(coupled, steady)
    run.run(10)
    np.testing.assert_allclose(run.state, 0.4 * 5 + 1.0, atol=1e-14)
    assert (coupled.calls, coupled.declined) == (3, 4 + 2)
    again = simulation(coupled, steady)
    again.restore(run.checkpoint())
    assert again.closures[0].declined == 6


@pytest.mark.parametrize("steps", [(0, 1), (2, 1), (1, 1), (1.5,)])
def test_a_leap_to_times_that_are_not_coming_steps_is_refused(steps):
    def answer(view, memory):
        return Leap(np.zeros((len(steps), *view.state.shape)), 0.1 * np.array(steps))

    with pytest.raises(ClosureError, match="increasing times of steps"):
        simulation(scripted(answer), guard="off").run(4)


# -- the guard ----------------------------------------------------------------------------------------------------


FAULTS = {
    "shape": (lambda view, memory: Tendency(view.state[:, 0]), "has shape"),
    "not finite": (lambda view, memory: Tendency(view.state + np.nan), "16 values that are not finite"),
    "bounds": (lambda view, memory: Tendency(view.state + 1e14), "outside"),
    "correction": (lambda view, memory: Correction(view.state + np.inf), "not finite"),
    "leap": (lambda view, memory: Leap(np.zeros((2, *view.state.shape)), np.array([0.1])), "has shape"),
    "complex": (lambda view, memory: Tendency(view.state + 0j), "array of complex128 .*, expected an array of real"),
    "list": (lambda view, memory: Tendency([0.0]), "list, expected an array"),
    "noise": (lambda view, memory: Tendency(view.state, noise=np.ones(9)), "an array.*not a SpectralNoise"),
    "noise fields": (
        lambda view, memory: Tendency(view.state, noise=SpectralNoise(LINE, np.ones((2, 9)))),
        r"amplitudes of shape \(2, 9\), expected \(9,\) or \(1, 9\)",
    ),
    "noise grid": (
        lambda view, memory: Tendency(view.state, noise=SpectralNoise(Grid((8,), (1.0,)), np.ones(5))),
        r"amplitudes of shape \(5,\), expected",
    ),
    "type": (lambda view, memory: (0.0, memory), "a float, not a Tendency, Correction, Leap or None"),
    **{
        f"noise of {value}": (
            lambda view, memory, value=value: Tendency(view.state, noise=noise_with(value)),
            "1 amplitudes that are not finite or negative",
        )
        for value in (np.nan, np.inf, -np.inf, -1.0)
    },
    "masked": (lambda view, memory: Tendency(np.ma.masked_array(view.state)), "MaskedArray .*expected an array"),
    "masked state": (lambda view, memory: Correction(np.ma.masked_array(view.state)), "MaskedArray .*expected an arr"),
    "objects": (
        lambda view, memory: Tendency(view.state.astype(object)),
        "array of object .*expected an array of real",
    ),
    "bools": (lambda view, memory: Tendency(view.state > 0), "array of bool .*expected an array of real"),
    "hold": (lambda view, memory: Tendency(view.state, hold="cubic"), "hold of the answer is 'cubic', expected 'const"),
    "hold type": (lambda view, memory: Tendency(view.state, hold=np.zeros(3)), "hold of the answer is array"),
    "times": (lambda view, memory: leap(view, [np.nan]), "1 values that are not finite"),
    "infinite times": (lambda view, memory: leap(view, [np.inf]), "1 values that are not finite"),
    "past": (lambda view, memory: leap(view, [0.1]), "increasing times of steps"),
    "between steps": (lambda view, memory: leap(view, [0.55]), "increasing times of steps"),
    "no times": (lambda view, memory: leap(view, None), "times of the answer is None"),
    "times of text": (lambda view, memory: leap(view, ["soon"]), "times of the answer is a list"),
    "times in two axes": (lambda view, memory: leap(view, [[0.5]]), "times of the answer is a list"),
    "masked times": (
        lambda view, memory: leap(view, np.ma.masked_array([0.5])),
        "times of the answer is a MaskedArray",
    ),
    "declined": (lambda view, memory: leap(view, [0.5], -1), "declined of the answer is -1"),
    "declined in part": (lambda view, memory: leap(view, [0.5], 0.5), "declined of the answer is 0.5"),
    "declined type": (lambda view, memory: leap(view, [0.5], None), "declined of the answer is None"),
    "infinite leap": (lambda view, memory: leap(view, [0.5], 0, np.inf), "16 values that are not finite"),
    "finite values whose sum is not": (
        lambda view, memory: Correction(np.full_like(view.state, 1.5e308)),
        "takes the state outside",
    ),
    "infinities that cancel": (
        lambda view, memory: Correction(view.state + np.resize([np.inf, -np.inf], view.state.shape)),
        "16 values that are not finite",
    ),
}


def noise_with(value: float) -> SpectralNoise:
    """White noise, but for one amplitude."""
    amplitude = np.ones(9)
    amplitude[3] = value
    return SpectralNoise(LINE, amplitude)


def leap(view: Any, times: Any, declined: Any = 0, value: float = 0.0) -> Leap:
    """A leap to one state."""
    return Leap(np.full((1, *view.state.shape), value), times, declined)


@pytest.mark.parametrize("fault", FAULTS)
def test_the_guard_stops_at_an_answer_that_is_not_in_order(fault, tmp_path):
    """With the step, the fault and a remedy; the state before the call is dumped."""
    answer, expected = FAULTS[fault]
    good = Tendency(np.ones((1, 1, 16)))
    coupled = scripted(lambda view, memory: answer(view, memory) if view.step == 4 else good, every=2)
    run = simulation(coupled, dump=tmp_path / "dump.npz")
    with pytest.raises(
        ClosureError, match=f"'scripted' at step 4, t = 0.4 .class Scripted.: .*{expected}.*Remedy"
    ) as caught:
        run.run(10)
    assert str(tmp_path / "dump.npz") in str(caught.value)
    with np.load(tmp_path / "dump.npz") as dump:
        assert int(dump["step"]) == 4
        np.testing.assert_allclose(dump["state"], 0.4, atol=1e-14)


@pytest.mark.parametrize("fault", FAULTS)
def test_skipping_drops_the_answer_until_the_next_call_and_counts_it(fault):
    answer, _ = FAULTS[fault]
    good = Tendency(np.ones((1, 1, 16)))
    coupled = scripted(lambda view, memory: answer(view, memory) if view.step == 4 else good, every=2)
    run = simulation(coupled, guard="skip")
    run.run(10)
    np.testing.assert_allclose(run.state, 0.8, atol=1e-14)  # 1.0 less the two steps without the closure
    assert (coupled.calls, coupled.skips) == (5, 1)


def test_a_tendency_is_judged_by_where_it_carries_the_state_until_the_next_call():
    """The bounds are 1e12: 4e12 per time is within them for one step of 0.1, and not for five."""
    answer = scripted(lambda view, memory: Tendency(np.full_like(view.state, 4e12)), every=1)
    simulation(answer).run(1)
    answer.every = 5
    with pytest.raises(ClosureError, match="outside"):
        simulation(answer).run(1)


def test_what_a_closure_raises_is_reported_with_its_name_and_line():
    def answer(view, memory):
        return {}["absent"]

    with pytest.raises(
        ClosureError, match=r"'scripted' at step 0, t = 0 raised KeyError: 'absent' \(.*test_closure.py"
    ):
        simulation(scripted(answer)).run(1)


# -- view, memory, names ------------------------------------------------------------------------------------------


def test_the_view_shows_state_time_step_and_numbers_of_this_closure():
    seen = []

    def answer(view, memory):
        seen.append((view.step, view.time, view.state.copy(), view.random.normal((3,))))
        return Tendency(np.zeros_like(view.state))

    simulation(scripted(answer, every=2), state=WAVE, members=2, start=5.0).run(3)
    assert [(step, time) for step, time, *_ in seen] == [(0, 5.0), (2, pytest.approx(5.2))]
    np.testing.assert_allclose(seen[0][2], np.broadcast_to(WAVE, (2, 1, 16)), atol=1e-15)
    draws = np.stack([draw for *_, draw in seen])
    assert draws.shape == (2, 2, 3)
    assert len(np.unique(draws)) == 12


def test_view_torch_shares_the_memory_of_the_state():
    torch = pytest.importorskip("torch")
    shared = []

    def answer(view, memory):
        tensor = view.torch()
        shared.append(tensor.data_ptr() == view.state.ctypes.data and tensor.dtype == torch.float64)
        return Tendency(np.zeros_like(view.state))

    simulation(scripted(answer)).run(1)
    assert shared == [True]


def test_memory_goes_from_call_to_call_as_arrays():
    def answer(view, memory):
        count = memory.get("count", np.array(0))
        assert isinstance(count, np.ndarray)
        return Tendency(np.zeros_like(view.state)), {"count": count + 1, "label": np.array("a")}

    run = simulation(scripted(answer))
    run.run(4)
    assert int(run.memories[0]["count"]) == 4
    assert run.checkpoint()["closure.0.memory.count"] == 4


MEMORIES = {
    "none": (None, "the memory is None"),
    "list": ([1.0], "the memory is a list"),
    "object": ({"fine": 1.0, "thing": object()}, "an object under 'thing'.*without pickling"),
    "ragged": ({"ragged": [[1.0], [1.0, 2.0]]}, "a list under 'ragged'"),
    "record": ({"record": np.zeros(2, [("a", "f8"), ("b", "O")])}, "an array of .* under 'record'"),
    "key": ({3: np.zeros(2)}, "the key 3, expected a string"),
}


@pytest.mark.parametrize("guard", ["stop", "skip"])
@pytest.mark.parametrize("kind", MEMORIES)
def test_a_memory_that_a_checkpoint_cannot_store_is_refused_whatever_the_guard(kind, guard):
    memory, expected = MEMORIES[kind]
    run = simulation(scripted(lambda view, _: (Tendency(np.zeros_like(view.state)), memory)), guard=guard)
    with pytest.raises(ClosureError, match=rf"'scripted' at step 0, t = 0 \(class Scripted\): .*{expected}.*flat dict"):
        run.run(1)


@pytest.mark.parametrize("kind", MEMORIES)
def test_a_memory_of_start_that_a_checkpoint_cannot_store_is_refused(kind):
    memory, expected = MEMORIES[kind]

    class Starting(Scripted):
        def start(self, problem):
            return memory

    with pytest.raises(ClosureError, match=rf"'starting' at its start \(class Starting\): .*{expected}.*flat dict"):
        simulation(Coupled("starting", Starting()))


RETURNED = {
    "array": (lambda view, memory: np.zeros((2, 16)), r"an array of float64 with shape \(2, 16\)"),
    "answer": (lambda view, memory: Tendency(view.state), "a Tendency"),
    "none": (lambda view, memory: None, "None"),
    "three": (lambda view, memory: (Tendency(view.state), memory, 0), "a tuple of 3"),
    "list": (lambda view, memory: [Tendency(view.state), memory], "a list"),
}


@pytest.mark.parametrize("guard", ["stop", "skip", "off"])
@pytest.mark.parametrize("kind", RETURNED)
def test_a_return_value_that_is_no_pair_is_refused_whatever_the_guard(kind, guard):
    returned, expected = RETURNED[kind]

    class Wrong(Scripted):
        def __call__(self, view, memory):
            return returned(view, memory)

    run = simulation(Coupled("wrong", Wrong(), every=2), guard=guard)
    match = rf"'wrong' at step 0, t = 0 \(class Wrong\): it returned {expected}, expected the pair \(answer, memory\)"
    with pytest.raises(ClosureError, match=f"{match}.*Remedy"):
        run.run(1)


def test_an_unknown_closure_is_met_with_the_nearest_name_and_all_names():
    with pytest.raises(UnknownClosure, match=r"'smagorinski'; did you mean 'smagorinsky'\? Known: .*leith"):
        find("smagorinski")


@pytest.mark.parametrize(
    ("name", "equation", "expected"),
    [
        ("leith", FLOWING, "Leith is made for kolmogorov, not for burgers"),
        ("smagorinsky", LinearAdvection(speed=1.0), "made for kolmogorov, burgers or shallow-water, not for advection"),
        ("smagorinsky", Burgers(viscosity=0.1, discretisation="finite-volume"), "not for burgers on finite volumes"),
        ("hyperviscosity", Burgers(viscosity=0.1, discretisation="finite-volume"), "not for burgers on finite volumes"),
    ],
)
def test_start_refuses_by_name_a_problem_that_the_closure_was_not_made_for(name, equation, expected):
    with pytest.raises(ClosureError, match=f"{expected}.*Remedy"):
        simulation(Coupled(name, find(name)()), equation=equation, stepper="rk4")


def test_the_problem_says_what_is_fixed_for_the_run(tmp_path):
    class Nosy(Scripted):
        def start(self, problem):
            self._called.append(problem)
            return {}

    closure = Nosy()
    grid, equation = Grid((8, 12), (1.0, 2.0)), Kolmogorov(viscosity=0.1)
    coupled, state = Coupled("nosy", closure, every=3), np.zeros((2, 1, 8, 12))
    fixed = {"start": 2.0, "seed": 11, "members": (4, 9), "folder": tmp_path}
    Simulation(equation, grid, "etdrk2", 0.05, state, closures=[coupled], **fixed)
    (problem,) = closure._called
    assert problem.reference is None
    Simulation(equation, grid, "etdrk2", 0.05, state, closures=[coupled], reference=tmp_path / "reference")
    assert closure._called.pop().reference == tmp_path / "reference"
    assert (problem.equation, problem.grid, problem.step, problem.every) == (equation, grid, 0.05, 3)
    assert (problem.start, problem.members, problem.seed, problem.folder) == (2.0, (4, 9), 11, tmp_path)


def test_closures_are_added_and_scaled():
    """0.5 a + b: each part is called by itself, and its tendency has its weight."""
    from subgrid.closures.classical.hyperviscosity import Hyperviscosity

    a, b = Hyperviscosity(rate=3.0), Hyperviscosity(rate=1.0)
    added = 2 * (0.5 * a + b) + a
    assert [(weight, closure.rate) for weight, closure in added.parts] == [(1.0, 3.0), (2.0, 1.0), (1.0, 3.0)]
    runs = []
    for closures in ([0.5 * a + b], [Coupled("a", a, weight=0.5), Coupled("b", b)], [a]):
        run = Simulation(FLOWING, LINE, "etdrk2", 0.01, WAVE[None, None], closures=closures)
        run.run(3)
        runs.append(run.state)
    np.testing.assert_array_equal(runs[0], runs[1])
    assert np.abs(runs[0] - runs[2]).max() > 0


@pytest.mark.parametrize("of", [lambda a: a + 3, lambda a: (a + a) + None, lambda a: "2" * a, lambda a: a * a])
def test_sums_of_other_things_are_refused(of):
    from subgrid.closures.classical.hyperviscosity import Hyperviscosity

    with pytest.raises(TypeError):
        of(Hyperviscosity(rate=3.0))


# -- everything that an answer holds ------------------------------------------------------------------------------


VALUES = (
    "not finite",
    "bounds",
    "correction",
    "infinite leap",
    "finite values whose sum is not",
    "infinities that cancel",
)
VALUES += tuple(f for f in FAULTS if f.startswith("noise of"))


@pytest.mark.parametrize("fault", [f for f in FAULTS if f not in VALUES])
def test_what_the_solver_cannot_use_is_refused_without_a_guard_too(fault):
    """ "off" checks types, shapes and times; values pass."""
    answer, expected = FAULTS[fault]
    coupled = scripted(lambda view, memory: answer(view, memory) if view.step == 4 else None, every=2)
    with pytest.raises(ClosureError, match=expected):
        simulation(coupled, guard="off").run(10)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_noise_that_is_not_finite_is_never_a_run_without_noise(value, backend):
    """Without a guard the state becomes non-finite; with one the answer is dropped and counted."""
    coupled = scripted(lambda view, memory: Tendency(np.zeros_like(view.state), noise=noise_with(value)))
    with pytest.raises(BlowUp):
        simulation(coupled, guard="off", backend=select(backend)).run(3)
    run = simulation(coupled, guard="skip", backend=select(backend))
    run.run(3)
    assert run.closures[0].skips == 3 and not run.state.any()


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_real_arrays_of_every_layout_and_precision_are_one_answer(backend):
    """Integers, single precision, another byte order, reversed and Fortran order."""
    layouts = {
        "double": lambda u: u,
        "integer": lambda u: u.astype(np.int32),
        "single": lambda u: u.astype(np.float32),
        "big-endian": lambda u: u.astype(">f8"),
        "reversed": lambda u: u[..., ::-1].copy()[..., ::-1],
        "fortran": np.asfortranarray,
    }
    found = []
    for layout in layouts.values():
        values = layout(np.arange(32.0).reshape(2, 1, 16))
        coupled = scripted(lambda view, memory, values=values: Tendency(values))
        run = simulation(coupled, members=2, backend=select(backend))
        run.run(2)
        found.append(run.state)
    assert all(np.array_equal(found[0], other) for other in found[1:]) and found[0].any()
