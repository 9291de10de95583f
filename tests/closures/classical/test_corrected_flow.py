"""Tracers in a flow with closures of its own: its velocity, its noise, restarts, and what it refuses."""

from itertools import pairwise

import numpy as np
import pytest
from pydantic import PrivateAttr

from subgrid import read_case
from subgrid.closures.classical.corrected_flow import CorrectedFlow
from subgrid.solver.closure import Closure, ClosureError, Linear, Problem, Tendency
from subgrid.solver.equations import Kolmogorov
from subgrid.solver.grid import Grid
from subgrid.solver.random import SpectralNoise
from subgrid.solver.simulation import Simulation

NONE = {"name": "none"}


class Drag(Closure):
    """du/dt += -u / 2, in the linear operator."""

    def start(self, problem):
        return {}

    def linear_part(self, problem):
        return Linear(np.full((1, *problem.grid.spectral_shape), -0.5))

    def __call__(self, view, memory):
        return None, memory


class Shaken(Closure):
    """White noise in all modes."""

    _law: SpectralNoise = PrivateAttr()

    def start(self, problem):
        self._law = SpectralNoise(problem.grid, np.full((1, *problem.grid.spectral_shape), 0.1))
        return {}

    def __call__(self, view, memory):
        return Tendency(0 * view.array, noise=self._law), memory


def build(*closures, members=(0, 1), step=0.1, noise=None, equation=None, **options):
    """The model of the shipped case, 20 tracers in a flow of its initial kind."""
    case = read_case("tracers-kolmogorov")
    equation = equation or case.build_equation()
    grid = Grid((20,), (20.0,), carrier=case.grid.grid().carrier)
    initial = case.reference.initial
    x = initial.state(equation, grid, members, 0)
    flow = initial.carrier(equation, grid, members, 0, case.folder)
    rows = [CorrectedFlow(flow=[c]) for c in closures]
    return Simulation(equation, grid, "rk4", step, x, members=members, carrier=flow, closures=rows, **options)


def followed(run, end=1.0):
    run.run(round(end / run.step))
    return run.state


def test_a_flow_without_a_closure_changes_nothing():
    np.testing.assert_allclose(followed(build(NONE)), followed(build()), rtol=0, atol=1e-12)


def test_the_tracers_move_with_the_corrected_flow_to_second_order_in_the_step():
    """The closure gives the flow another drag; the truth is a run whose flow has that drag by itself."""
    case = read_case("tracers-kolmogorov")
    equation = case.build_equation()
    other = equation.model_copy(update={"carrier": equation.carrier.model_copy(update={"drag": 0.6})})
    weak = {"path": f"{__file__}:Drag"}
    true = followed(build(equation=other, step=0.0125))
    errors = [np.abs(followed(build(weak, step=h)) - true).max() for h in (0.1, 0.05, 0.025)]
    free = np.abs(followed(build()) - true).max()
    assert errors[0] < 0.15 * free
    assert all(3.0 < coarse / fine < 5.5 for coarse, fine in pairwise(errors))


def test_noise_of_the_flow_differs_between_members_and_continues_after_a_restart():
    noisy = {"path": f"{__file__}:Shaken"}
    whole = build(noisy)
    calm = followed(build())
    saved = {}
    whole.run(10, lambda n: 1, lambda n: saved.setdefault(n, {k: v.copy() for k, v in whole.checkpoint().items()}))
    assert (np.abs(whole.state - calm).max((1, 2)) > 1e-3).all()
    for n in (1, 4, 9):
        again = build(noisy)
        again.restore(saved[n])
        again.run(10)
        np.testing.assert_array_equal(again.state, whole.state)
    alone = followed(build(noisy, members=(1,)))
    np.testing.assert_allclose(alone[0], whole.state[1], rtol=0, atol=1e-10)


def test_flows_that_cannot_be_corrected_are_refused(tmp_path):
    equation = read_case("tracers-kolmogorov").build_equation()
    stored = equation.model_copy(update={"stored": tmp_path})
    noise = {"kind": "q-wiener", "amplitude": 0.1, "correlation": 0.5}
    shaken = equation.model_copy(update={"carrier": Kolmogorov(viscosity=1e-3, noise=noise)})
    grid = build().grid
    for wrong, message in ((stored, "a stored flow cannot be corrected"), (shaken, "the noise of equation.carrier")):
        with pytest.raises(ClosureError, match=message):
            CorrectedFlow(flow=[NONE]).start(Problem(wrong, grid, 0.1, 1, 0.0, (0,), 0))
    with pytest.raises(ClosureError, match="kolmogorov"):
        CorrectedFlow(flow=[NONE]).start(Problem(equation.carrier, grid.carrier, 0.1, 1, 0.0, (0,), 0))


@pytest.mark.parametrize(
    ("flow", "message"),
    [
        ([], "at least 1 item"),
        ([{"name": "nope"}], "nope"),
        ([{"name": "leith", "foo": 2}], "leith.foo: Extra inputs are not permitted"),
        ([{"name": "leith", "coefficient": -1}], "leith.coefficient: Input should be greater than"),
    ],
)
def test_mistakes_in_the_closures_of_the_flow_are_found_with_the_case(flow, message):
    with pytest.raises(ValueError, match=message):
        CorrectedFlow(flow=flow)
