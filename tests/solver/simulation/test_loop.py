"""The loop: members, threads, events and restarts change nothing in the numbers."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import PrivateAttr

from subgrid.solver.closure import Closure, Coupled, Tendency
from subgrid.solver.equations import Burgers, Kolmogorov
from subgrid.solver.equations.forcing import SineForcing
from subgrid.solver.grid import Grid
from subgrid.solver.initial.random_field import GaussianRandomField
from subgrid.solver.random import QWiener, SpectralNoise
from subgrid.solver.simulation import BlowUp, Simulation
from subgrid.solver.time_stepping.schemes import compatible_schemes

PLANE = Grid((16, 16), (6.0, 6.0))
LINE = Grid((32,), (6.0,))
NOISE = QWiener(amplitude=0.1, correlation=0.1)
FLOW = Kolmogorov(viscosity=0.02, forcing=SineForcing(amplitude=1.0, wavenumber=2), noise=NOISE)
SHOCK = Burgers(viscosity=0.02, discretisation="finite-volume", noise=NOISE)
PROBLEMS = {"kolmogorov": (FLOW, PLANE, "etdrk4"), "finite volumes": (SHOCK, LINE, "ssp-rk3")}


class Stochastic(Closure):
    """A random tendency with memory and noise; keeps what it drew, by member."""

    _drawn: dict = PrivateAttr(default_factory=dict)
    _members: tuple = PrivateAttr()
    _law: SpectralNoise = PrivateAttr()

    def start(self, problem):
        self._members = problem.members
        k2 = sum(k**2 for k in problem.grid.wavenumbers())
        self._law = SpectralNoise(problem.grid, 0.05 * np.exp(-k2), negligible=1e-3)
        return {"last": np.zeros((len(problem.members), 1, *problem.grid.shape))}

    def __call__(self, view, memory):
        normal = view.random.normal(view.state.shape[1:])
        self._drawn |= {(view.step, m): normal[i] for i, m in enumerate(self._members)}
        last = 0.5 * memory["last"] + normal
        return Tendency(0.1 * last - 0.2 * view.state, noise=self._law), {"last": last}


def simulation(problem: str, members: tuple[int, ...], stepper: str | None = None, **options) -> Simulation:
    equation, grid, default = PROBLEMS[problem]
    state = GaussianRandomField(exponent=2.5, tau=3.0).state(equation, grid, members, 3)
    closures = [Coupled("stochastic", Stochastic(), every=3, hold="linear")]
    return Simulation(
        equation, grid, stepper or default, 0.01, state, seed=3, members=members, closures=closures, **options
    )


@pytest.mark.parametrize("problem", PROBLEMS)
def test_a_member_alone_is_the_member_of_a_batch(problem):
    """Its random numbers to the bit, its states to round-off, whatever the batch and its place there."""
    batch = simulation(problem, (0, 3, 7, 12, 5))
    batch.run(20)
    for place, member in ((2, 7), (4, 5)):
        alone = simulation(problem, (member,))
        alone.run(20)
        np.testing.assert_allclose(alone.state[0], batch.state[place], rtol=0, atol=1e-12)
        ours, theirs = alone.closures[0].closure._drawn, batch.closures[0].closure._drawn
        assert len(ours) == 7
        assert all(np.array_equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_number_of_threads_changes_no_byte(problem):
    one, two = simulation(problem, (0, 1, 2, 3, 4), threads=1), simulation(problem, (0, 1, 2, 3, 4), threads=2)
    one.run(20)
    two.run(20)
    assert two._ensemble._threads == 2
    assert one.internal.tobytes() == two.internal.tobytes()


@pytest.mark.parametrize("problem", PROBLEMS)
def test_events_change_no_byte(problem):
    """However often the loop comes up, a run is the same run."""
    plain, busy = simulation(problem, (0, 1)), simulation(problem, (0, 1))
    plain.run(20)
    stops = []
    busy.run(20, lambda n: 1 + n % 3, stops.append)
    assert stops[0] == 0 and stops[-1] == 20 and len(stops) > 9
    assert plain.internal.tobytes() == busy.internal.tobytes()


@pytest.mark.parametrize("stop", [6, 7])
@pytest.mark.parametrize(
    ("problem", "stepper"),
    [("kolmogorov", name) for name in compatible_schemes("semi-linear", ())]
    + [("finite volumes", name) for name in compatible_schemes("balance-law", ())],
)
def test_a_run_restored_from_a_checkpoint_ends_with_the_same_bytes(problem, stepper, stop):
    """On a call and between calls, with linear hold, memory and a law of noise that leaves modes out."""
    whole = simulation(problem, (0, 1, 2), stepper)
    whole.run(20)
    first, second = simulation(problem, (0, 1, 2), stepper), simulation(problem, (0, 1, 2), stepper)
    first.run(stop)
    second.restore({k: v.copy() for k, v in first.checkpoint().items()})
    second.run(20)
    ours, theirs = second.checkpoint(), whole.checkpoint()
    assert ours.keys() == theirs.keys()
    assert all(ours[k].tobytes() == theirs[k].tobytes() for k in ours)


def test_time_is_counted_and_not_summed_up():
    run = simulation("kolmogorov", (0,), start=1.0)
    run.run(20)
    assert run.time == 1.0 + 20 * 0.01


def test_a_state_that_is_not_finite_stops_the_run_with_its_step():
    equation, grid = Burgers(viscosity=1.0), Grid((64,), (1.0,))
    state = np.random.default_rng(0).standard_normal((1, 1, 64))
    run = Simulation(equation, grid, "rk4", 0.01, state)  # h nu k^2 = 400: rk4 grows a thousandfold a step
    with pytest.raises(BlowUp, match=r"not finite at step \d+, t = .*Remedy"):
        run.run(1000, lambda n: 1)
    assert run.step_number < 200


def test_a_stepper_that_needs_a_fourier_operator_is_refused_on_finite_volumes():
    with pytest.raises(ValueError, match=r"etdrk4 does not fit burgers.*Remedy: rk4, ssp-rk2, ssp-rk3"):
        simulation("finite volumes", (0,), "etdrk4")


def test_replacing_the_state_sets_it():
    run = simulation("kolmogorov", (0, 1), "sbdf2")
    run.run(5)
    state = 2 * run.state
    run.replace(state)
    np.testing.assert_allclose(run.state, state, atol=1e-13)
    assert all(lane.stepper.memory["age"][0] == 0 for lane in run._ensemble._lanes)


def test_damped_modes_end_as_zero_and_not_as_subnormal_numbers():
    """exp(-nu k^2 t) falls below the normal numbers within the run; what is left of those modes is 0."""
    grid = Grid((16, 16), (1.0, 1.0))
    equation = Kolmogorov(viscosity=1.0, omit=("advection",))
    state = np.random.default_rng(0).standard_normal((1, 1, 16, 16))
    simulation = Simulation(equation, grid, "etdrk2", 1e-2, state)
    subnormal = 0
    for _ in range(12):
        simulation.run(simulation.step_number + 64)
        simulation.advance(1)
        parts = np.abs(simulation.internal.view(np.float64))
        subnormal += np.count_nonzero((parts > 0) & (parts < np.finfo(np.float64).tiny))
    assert (parts == 0).any()
    assert subnormal == 0
