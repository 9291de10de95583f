"""Linear operators with a field axis: two fields with different L, coupled through N, in every implementation.

For fields u and v with du/dt = -a k^2 u - i c k u + q v and dv/dt = -b k^2 v + r u, the coefficients of a mode solve a
linear system of two equations, whose exact solution is the exponential of a 2 x 2 matrix.
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
import pytest
import scipy.linalg
import torch

from subgrid.solver.backend import NUMPY, Backend, select
from subgrid.solver.equations.base import Array, Equation, Field
from subgrid.solver.grid import Grid
from subgrid.solver.random import QWiener
from subgrid.solver.simulation import Simulation
from subgrid.solver.simulation.rollout import rollout
from subgrid.solver.spectral import Operators, Transforms
from subgrid.solver.time_stepping.array_code import ArrayStepper
from subgrid.solver.time_stepping.compiled import bind
from subgrid.solver.time_stepping.schemes import STEPPERS, compatible_schemes

GRIDS = {1: Grid((24,), (2 * np.pi,)), 2: Grid((12, 16), (2 * np.pi, 4.0))}
TORCH = select("torch")


class TwoLayers(Equation):
    """The system above; N = (q v, r u), in array code only."""

    name: ClassVar[str] = "two-layers"
    dimensions: ClassVar[tuple[int, ...]] = (1, 2)
    fields: ClassVar[tuple[Field, ...]] = (Field("u", "1", "upper"), Field("v", "1", "lower"))
    terms: ClassVar[tuple[str, ...]] = ("coupling",)

    viscosities: tuple[float, float] = (0.02, 0.1)
    speed: float = 0.7
    coupling: tuple[float, float] = (0.8, -0.5)

    def linear(self, operators: Operators) -> Array:
        k = operators.k[-1]
        return operators.xp.stack(
            [-self.viscosities[0] * operators.k2 - 1j * self.speed * k, -self.viscosities[1] * operators.k2 + 0j]
        )

    def nonlinear(self, operators: Operators, u: Array, t: float) -> Array:
        q, r = self.coupling if self.has("coupling") else (0.0, 0.0)
        return operators.xp.stack([q * u[:, 1, ...], r * u[:, 0, ...]], axis=1)

    def invariants(self, state, grid):
        return {"mean": state.mean(axis=tuple(range(1, state.ndim)))}

    def signal_speed(self, state, grid):
        return (self.speed,) * grid.dimensions


COUPLED, APART = TwoLayers(), TwoLayers(omit=("coupling",))


def start(grid: Grid) -> np.ndarray:
    """Two members of two smooth fields, without Nyquist modes."""
    u = np.random.default_rng(0).standard_normal((2, 2, *grid.shape))
    return Transforms(grid).to_physical(Transforms(grid).to_spectrum(u) * grid.mask())


def exact(equation: TwoLayers, grid: Grid, u: np.ndarray, t: float) -> np.ndarray:
    u_hat = Transforms(grid).to_spectrum(u)
    linear = np.broadcast_to(equation.linear(Operators(grid)), (2, *grid.spectral_shape))
    q, r = equation.coupling if equation.has("coupling") else (0.0, 0.0)
    for mode in np.ndindex(*grid.spectral_shape):
        matrix = np.array([[linear[(0, *mode)], q], [r, linear[(1, *mode)]]])
        here = (slice(None), slice(None), *mode)
        u_hat[here] = u_hat[here] @ scipy.linalg.expm(t * matrix).T
    return Transforms(grid).to_physical(u_hat)


def compiled_lanes(equation, grid, stepper, step, u, steps):
    """The compiled stepper, with the equation's array code for N."""
    run = Simulation(equation, grid, stepper, step, u)
    run.run(steps)
    return run.state


def arrays(backend: Backend):
    def run(equation, grid, stepper, step, u, steps):
        operators = Operators(grid, backend=backend)
        carried = ArrayStepper(STEPPERS[stepper], equation, operators, step)
        u_hat, memory = operators.forward(backend.asarray(u)), {}
        for n in range(steps):
            u_hat, memory = carried.advance(u_hat, n * step, None, memory)
        return backend.to_numpy(operators.inverse(u_hat))

    return run


def differentiable(equation, grid, stepper, step, u, steps):
    return rollout(equation, grid, stepper, step, torch.from_numpy(u), steps).numpy()


WAYS = {"compiled": compiled_lanes, "numpy": arrays(NUMPY), "torch": arrays(TORCH), "rollout": differentiable}


@pytest.mark.parametrize("dimensions", GRIDS)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("stepper", ["etdrk2", "etdrk4"])
def test_exponential_schemes_are_exact_for_fields_with_their_own_operators(stepper, way, dimensions):
    """Without coupling at any step: each field decays and travels by its own L."""
    grid = GRIDS[dimensions]
    u = start(grid)
    found = WAYS[way](APART, grid, stepper, 0.7, u, 3)
    np.testing.assert_allclose(found, exact(APART, grid, u, 2.1), atol=1e-12)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("stepper", compatible_schemes("semi-linear", ()))
def test_coupled_fields_converge_to_the_matrix_exponential_with_the_order_of_the_scheme(stepper, way):
    grid = GRIDS[2]
    u = start(grid)
    truth = exact(COUPLED, grid, u, 1.0)
    steps = 160 if STEPPERS[stepper].order < 4 else 40  # rk4 needs h |L| < 2.8
    errors = [np.abs(WAYS[way](COUPLED, grid, stepper, 1 / n, u, n) - truth).max() for n in (steps, 2 * steps)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(STEPPERS[stepper].order, abs=0.25)
    assert errors[1] < 0.02


@pytest.mark.parametrize("stepper", compatible_schemes("semi-linear", ()))
@pytest.mark.parametrize("dimensions", GRIDS)
def test_all_implementations_agree_to_round_off(stepper, dimensions):
    grid = GRIDS[dimensions]
    u = start(grid)
    found = [way(COUPLED, grid, stepper, 0.02, u, 12) for way in WAYS.values()]
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], atol=1e-13)


@pytest.mark.parametrize("stepper", compatible_schemes("semi-linear", ()))
def test_one_operator_for_all_fields_is_a_field_axis_of_length_one(stepper):
    """Equal operators given once or for each field take the same steps, bit for bit."""

    class Once(TwoLayers):
        def linear(self, operators):
            return -0.05 * operators.k2

    class Twice(TwoLayers):
        def linear(self, operators):
            return operators.xp.stack([-0.05 * operators.k2] * 2)

    grid = GRIDS[2]
    u = start(grid)
    once, twice = (Simulation(equation(), grid, stepper, 0.02, u) for equation in (Once, Twice))
    assert Once().right_hand_side(grid, 2).linear.shape == (1, 12, 9)
    assert Twice().right_hand_side(grid, 2).linear.shape == (2, 12, 9)
    for run in (once, twice):
        run.run(10)
    assert np.array_equal(once.internal, twice.internal)


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_a_tendency_on_several_fields_is_weighted_by_the_operator_of_its_field(backend):
    """bind with F frozen: from u = 0 one exponential step gives (e^z - 1) / L F for each field."""
    grid, step = GRIDS[1], 0.3
    force = Transforms(grid).to_spectrum(start(grid))
    linear = APART.linear(Operators(grid))
    z = step * linear
    expected = force * np.where(z == 0, step, np.expm1(z) / np.where(z == 0, 1, linear))
    if backend == "numpy":
        rhs = APART.right_hand_side(grid, 2)
        u = np.zeros((4, 1, 13), complex)
        bind(STEPPERS["etdrk4"], rhs, u.shape, "complex128", step).advance(u, 0.0, force.reshape(u.shape))
        u = u.reshape(force.shape)
    else:
        operators = Operators(grid, backend=TORCH)
        carried = ArrayStepper(STEPPERS["etdrk4"], APART, operators, step)
        zero = TORCH.asarray(np.zeros_like(force))
        u = TORCH.to_numpy(carried.advance(zero, 0.0, TORCH.asarray(force), {})[0])
    np.testing.assert_allclose(u, expected, atol=1e-14)


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_the_noise_of_an_equation_is_independent_in_every_field_and_survives_a_restart(backend):
    """Variance t of the law in either field; field 0 draws what an equation of one field draws."""
    grid = GRIDS[1]
    equation = TwoLayers(
        viscosities=(0.0, 0.0), speed=0.0, omit=("coupling",), noise=QWiener(amplitude=1.0, correlation=0.1)
    )
    members = 800

    def simulation():
        zero = np.zeros((members, 2, *grid.shape))
        return Simulation(equation, grid, "etdrk2", 0.1, zero, seed=4, backend=select(backend))

    whole, first, second = simulation(), simulation(), simulation()
    whole.run(5)
    u = TORCH.to_numpy(whole.internal) if backend == "torch" else whole.internal
    law = equation.noise_law(grid)
    ratio = (np.abs(u[:, :, 1:6]) ** 2).mean(0) / (0.5 * law.amplitude[1:6] ** 2)
    assert np.abs(ratio - 1).max() < 6 * math.sqrt(2 / members)
    scaled = u[:, :, 1:6] / law.amplitude[1:6]
    assert np.abs((scaled[:, 0] * scaled[:, 1].conj()).mean(0)).max() < 0.5 * 6 / math.sqrt(members)
    one = sum(law.sample(4, "equation", tuple(range(members)), n) for n in range(5)) * math.sqrt(0.1)
    np.testing.assert_allclose(u[:, 0], one, atol=1e-13)
    first.run(2)
    second.restore({k: np.copy(v) for k, v in first.checkpoint().items()})
    second.run(5)
    assert np.array_equal(second.state, whole.state)


@pytest.mark.parametrize("shape", [(3, 12, 9), (12, 8), (1, 2, 12, 9)])
def test_an_operator_of_the_wrong_shape_is_refused(shape):
    class Wrong(TwoLayers):
        def linear(self, operators):
            return np.zeros(shape)

    with pytest.raises(ValueError, match=r"linear operator of two-layers has shape .*\(2, 12, 9\)"):
        Simulation(Wrong(), GRIDS[2], "etdrk2", 0.1, start(GRIDS[2]))
