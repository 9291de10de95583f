"""Linear parts of closures join the equation's linear operator in every stepper, backend, rollout and restart."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
from pydantic import PrivateAttr

from subgrid.solver.backend import NUMPY, select
from subgrid.solver.closure import Closure, ClosureError, ClosureSum, Linear, Tendency
from subgrid.solver.equations import Burgers, Kolmogorov, ShallowWater
from subgrid.solver.equations.base import Equation, Field
from subgrid.solver.grid import Grid
from subgrid.solver.random import SpectralNoise
from subgrid.solver.simulation import Simulation
from subgrid.solver.simulation.rollout import rollout
from subgrid.solver.spectral import Operators
from subgrid.solver.time_stepping.schemes import Split

GRID = Grid((24, 20), (6.0, 5.0))
FLOW = Kolmogorov(viscosity=0.01, drag=0.1)
SEMI_LINEAR = ["rk4", "ssp-rk3", "etdrk2", "etdrk4", "cn-euler", "cnab2", "sbdf2"]


class Viscous(Closure):
    """du/dt += amount lap u in the linear operator, with noise if asked; called only with `calls`."""

    amount: float = 0.02
    noise: float = 0.0
    calls: bool = False
    _called: int = PrivateAttr(0)

    def start(self, problem):
        self._called = 0
        return {}

    def linear_part(self, problem):
        k2 = Operators(problem.grid).k2
        law = SpectralNoise(problem.grid, self.noise * np.exp(-k2)) if self.noise else None
        return Linear(-self.amount * k2, law, self.calls)

    def __call__(self, view, memory):
        self._called += 1
        return (Tendency(0.1 * np.ones_like(view.state)) if self.calls else None), memory


class Given(Closure):
    """Whatever linear part it is given."""

    part: Any = None

    def start(self, problem):
        return {}

    def linear_part(self, problem):
        return self.part

    def __call__(self, view, memory):
        raise AssertionError("not to be called")


class Pair(Equation):
    """du_f/dt = -rates_f u_f, for two fields that share one operator by default."""

    name: ClassVar[str] = "pair"
    dimensions: ClassVar[tuple[int, ...]] = (2,)
    fields: ClassVar[tuple[Field, ...]] = (Field("u", "1", "first"), Field("v", "1", "second"))
    terms: ClassVar[tuple[str, ...]] = ()
    split: ClassVar[tuple[str, ...]] = ("decay",)
    rates: tuple[float, float] = (1.0, 1.0)

    def linear(self, operators):
        shared = self.rates[0] == self.rates[1]
        rates = self.rates[0] if shared else operators.xp.asarray(self.rates).reshape(2, 1, 1)
        return -rates * (1 + 0 * operators.k2)

    def nonlinear(self, operators, u, t):
        return 0 * u

    def flow(self, part, operators, u, h):
        return np.exp(self.linear(operators) * h) * u

    def invariants(self, state, grid):
        return {}

    def signal_speed(self, state, grid):
        return (0.0, 0.0)


def flow(members: int = 3) -> np.ndarray:
    y, x = np.meshgrid(*GRID.coordinates(), indexing="ij")
    modes = [
        np.cos(2 * np.pi * (x / 5.0 + (m + 1) * y / 6.0)) + np.sin(4 * np.pi * x / 5.0 + m) for m in range(members)
    ]
    return np.stack(modes)[:, None]


def run(stepper: str, equation=FLOW, closures=(), steps: int = 9, backend=NUMPY, members: int = 3, **options) -> Any:
    simulation = Simulation(equation, GRID, stepper, 0.01, flow(members), closures=closures, backend=backend, **options)
    simulation.run(steps)
    return simulation


@pytest.mark.parametrize("stepper", SEMI_LINEAR)
@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_a_viscous_linear_part_is_a_larger_viscosity(stepper, backend):
    library = select(backend)
    expected = run(stepper, Kolmogorov(viscosity=0.03125, drag=0.1), backend=library).state
    found = run(stepper, Kolmogorov(viscosity=0.0, drag=0.1), [Viscous(amount=0.03125)], backend=library).state
    np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-14)
    without = run(stepper, Kolmogorov(viscosity=0.0, drag=0.1), backend=library).state
    assert np.abs(without - expected).max() > 1e-4


def test_weights_multiply_and_linear_parts_of_several_closures_add_up():
    closures = [ClosureSum(((0.5, Viscous(amount=0.02)), (2.0, Viscous(amount=0.005))))]
    found, expected = run("etdrk4", closures=closures).state, run("etdrk4", Kolmogorov(viscosity=0.03, drag=0.1)).state
    np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize("stepper", SEMI_LINEAR)
def test_one_eigenvalue_per_field_acts_on_its_field_alone(stepper, backend):
    state = np.stack([flow(2)[:, 0], 2 * flow(2)[:, 0]], axis=1)
    rates = -np.array([0.0, 2.0]).reshape(2, 1, 1)

    def reached(equation: Pair, closures: list[Closure]) -> np.ndarray:
        options = {"closures": closures, "backend": select(backend)}
        simulation = Simulation(equation, GRID, stepper, 0.01, state, **options)
        simulation.run(10)
        return simulation.state

    found = reached(Pair(), [Given(part=Linear(rates))])
    np.testing.assert_allclose(found, reached(Pair(rates=(1.0, 3.0)), []), rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(found[:, 0], reached(Pair(), [])[:, 0], rtol=1e-13, atol=1e-14)


def test_a_closure_that_is_linear_alone_is_never_called_and_stops_no_step():
    closure = Viscous()
    simulation = Simulation(FLOW, GRID, "etdrk4", 0.01, flow(), closures=[closure])
    stops = []
    simulation.run(50, at=stops.append)
    assert stops == [0, 50]
    assert closure._called == simulation.closures[0].calls == 0


def test_a_closure_may_add_a_tendency_to_its_linear_part():
    closure = Viscous(calls=True)
    found = run("etdrk4", closures=[closure], steps=9).state
    assert closure._called == 9
    plain = run("etdrk4", closures=[Viscous()], steps=9).state
    difference = (found - plain).mean(axis=(1, 2, 3))  # the mean decays by the drag alone
    np.testing.assert_allclose(difference, 0.1 * -np.expm1(-0.1 * 0.09) / 0.1, rtol=1e-10)


def test_the_noise_of_a_linear_part_is_drawn_at_every_step_per_member_and_independent_of_the_batch():
    def noisy(members, **more):
        options = {"members": tuple(members), "closures": [Viscous(noise=1.0)], **more}
        simulation = Simulation(FLOW, GRID, "etdrk4", 0.01, flow(3)[list(members)], **options)
        simulation.run(9)
        return simulation.state

    together = noisy(range(3))
    np.testing.assert_array_equal(noisy([2]), together[2:])
    assert np.abs(together - run("etdrk4", closures=[Viscous()]).state).max() > 1e-3
    np.testing.assert_allclose(noisy(range(3), backend=select("torch")), together, rtol=1e-10, atol=1e-11)
    quiet = run("etdrk4", closures=[Viscous()]).state
    halved = noisy(range(3), closures=[0.5 * Viscous(noise=1.0) + 0.5 * Viscous()])
    assert 0.4 < np.abs(halved - quiet).std() / np.abs(together - quiet).std() < 0.6


@pytest.mark.parametrize("stepper", SEMI_LINEAR)
@pytest.mark.parametrize("calls", [False, True])
def test_continued_equals_uninterrupted(stepper, calls):
    closures = lambda: [Viscous(noise=0.5, calls=calls)]  # noqa: E731
    whole = run(stepper, closures=closures(), steps=12)
    part = run(stepper, closures=closures(), steps=7).checkpoint()
    again = Simulation(FLOW, GRID, stepper, 0.01, flow(), closures=closures())
    again.restore({k: np.copy(v) for k, v in part.items()})
    again.run(12)
    np.testing.assert_array_equal(again.state, whole.state)


@pytest.mark.parametrize("stepper", ["etdrk4", "cn-euler"])
def test_rollouts_take_linear_parts_and_remain_differentiable(stepper):
    torch = pytest.importorskip("torch")
    added = -0.02 * Operators(GRID).k2[None]
    state = torch.from_numpy(flow()).requires_grad_()
    found = rollout(FLOW, GRID, stepper, 0.01, state, 9, added=added)
    expected = run(stepper, closures=[Viscous(amount=0.02)]).state
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-11, atol=1e-12)
    found.square().sum().backward()
    assert state.grad is not None and torch.isfinite(state.grad).all() and state.grad.abs().max() > 0


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (np.zeros((24, 11)), "is a ndarray. Remedy: return Linear"),
        (Linear(np.zeros((3, 3))), "have shape (3, 3), expected one that broadcasts to"),
        (Linear(np.zeros((2, 24, 11))), "have shape (2, 24, 11), expected"),
        (Linear(np.full((24, 11), np.nan)), "264 eigenvalues of its linear part are not finite"),
        (Linear(np.array(["a"])), "expected an array of numbers"),
        (Linear(np.ma.masked_array(np.zeros((24, 11)))), "expected an array of numbers"),
        (Linear(1j), "not that of a real operator. Remedy: eigenvalues with L_{-k} = conj L_k"),
        (Linear(0.0, noise=3), "noise of the answer is"),
        (Linear(0.0, SpectralNoise(GRID, np.full((24, 11), np.nan))), "264 amplitudes that are not finite or negative"),
    ],
)
def test_a_linear_part_that_does_not_fit_is_refused_by_name(part, said):
    with pytest.raises(ClosureError, match="Given") as error:
        run("etdrk4", closures=[Given(part=part)])
    assert said in str(error.value)


def test_odd_imaginary_eigenvalues_are_those_of_a_real_operator():
    ky, kx = GRID.wavenumbers()
    moved = run("etdrk4", Kolmogorov(viscosity=0.0, omit=("advection",)), [Given(part=Linear(-1j * (kx + 0 * ky)))])
    x = GRID.coordinates()[1] - 0.09
    np.testing.assert_allclose(
        moved.state[0, 0, 0], np.cos(2 * np.pi * x / 5.0) + np.sin(4 * np.pi * x / 5.0), atol=1e-12
    )


def test_finite_volumes_have_no_linear_operator_to_join():
    cells = np.stack([np.ones(GRID.shape), 0 * np.ones(GRID.shape), 0 * np.ones(GRID.shape)])[None]
    with pytest.raises(
        ClosureError, match="needs a semi-linear equation on a Fourier grid; shallow-water is balance-law"
    ):
        Simulation(ShallowWater(), GRID, "ssp-rk2", 1e-3, cells, closures=[Viscous()])
    line = Grid((20,), (5.0,))
    with pytest.raises(ClosureError, match="burgers is balance-law here"):
        equation = Burgers(viscosity=0.1, discretisation="finite-volume")
        Simulation(equation, line, "ssp-rk2", 1e-3, np.ones((1, 1, 20)), closures=[Viscous()])


def test_a_stepper_without_linear_operator_is_refused_with_those_that_have_one():
    halves, state = Split("halves", 2, (("decay", 0.5), ("decay", 0.5)), "test"), np.ones((1, 2, *GRID.shape))
    with pytest.raises(ClosureError, match=r"halves composes flows of parts. Remedy: time.stepper = rk4, .*etdrk4"):
        Simulation(Pair(), GRID, halves, 0.01, state, closures=[Viscous()])
