"""Gradients flow through every equation and stepper, and memory stays bounded."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from subgrid.solver.closure import Closure, Coupled, Tendency
from subgrid.solver.equations import (
    Burgers,
    ChargedParticles,
    Equation,
    Kolmogorov,
    LinearAdvection,
    ShallowWater,
    VlasovPoisson,
)
from subgrid.solver.equations.forcing import SineForcing
from subgrid.solver.equations.initial_state import InitialState
from subgrid.solver.equations.particles.initial import RandomParticles
from subgrid.solver.equations.shallow_water.initial import RandomSurface
from subgrid.solver.equations.vlasov_poisson.initial import TwoStream
from subgrid.solver.grid import Grid
from subgrid.solver.initial.random_field import GaussianRandomField
from subgrid.solver.simulation import Simulation
from subgrid.solver.simulation.rollout import rollout
from subgrid.solver.time_stepping.schemes import compatible_schemes

FIELD = GaussianRandomField(exponent=2.5, tau=3.0)
FLOW = Kolmogorov(viscosity=1e-2, drag=0.1, forcing=SineForcing(amplitude=1.0, wavenumber=2))
PHASE_SPACE, BEAMS = Grid((24, 16), (14.0, 12.0), (-7.0, 0.0)), TwoStream(amplitude=0.05, modes=3)
CHARGES = ChargedParticles(softening=0.1, force_limit=50.0)
SURFACE = RandomSurface(depth=1.0, amplitude=0.05, exponent=3.0, tau=3.0)
SQUARE, LINE = Grid((12, 16), (4.0, 6.0)), Grid((24,), (6.0,))
# equation, grid, initial state, step, and the steppers to go through
PROBLEMS: dict[str, tuple[Equation, Grid, InitialState, float, list[str]]] = {
    "advection": (LinearAdvection(speed=1.0), LINE, FIELD, 0.02, ["etdrk2"]),
    "advection on cells": (LinearAdvection(speed=1.0, discretisation="finite-volume"), LINE, FIELD, 0.02, ["ssp-rk3"]),
    "burgers": (Burgers(viscosity=0.05), LINE, FIELD, 0.02, ["etdrk4"]),
    "burgers on cells": (Burgers(viscosity=0.05, discretisation="finite-volume"), LINE, FIELD, 0.02, ["ssp-rk2"]),
    "kolmogorov": (FLOW, SQUARE, FIELD, 0.02, compatible_schemes("semi-linear", ())),
    "shallow water": (ShallowWater(coriolis=0.3, manning=0.02), SQUARE, SURFACE, 0.01, ["ssp-rk2", "dimension-split"]),
    "shallow water, weno5": (ShallowWater(reconstruction="weno5"), SQUARE, SURFACE, 0.01, ["ssp-rk3"]),
    "vlasov-poisson": (VlasovPoisson(), PHASE_SPACE, BEAMS, 0.05, ["rk4", "strang", "velocity-verlet", "forest-ruth"]),
    "particles": (CHARGES, Grid((5,), (5.0,)), RandomParticles(), 0.02, compatible_schemes("particles", CHARGES.split)),
}
CHOSEN = [(name, stepper) for name, problem in PROBLEMS.items() for stepper in problem[-1]]


def setting(name: str) -> tuple[Equation, Grid, float, torch.Tensor]:
    equation, grid, initial, step, _ = PROBLEMS[name]
    return equation, grid, step, torch.from_numpy(initial.state(equation, grid, (0, 1), 0))


@pytest.mark.parametrize(("name", "stepper"), CHOSEN)
def test_gradients_through_50_steps_are_those_of_finite_differences(name, stepper):
    """Along a random direction, in proportion to the state; of its projection on another one. Central differences,
    extrapolated where the scheme is smooth. Shallow water's limiters and HLLC's cases have kinks, and a step of 1e-4
    crosses some of them (an error in proportion to the step, of 1e-3): there one short difference instead."""
    equation, grid, step, state = setting(name)
    generator = np.random.default_rng(1)
    direction, weight = (torch.from_numpy(generator.standard_normal(state.shape)) for _ in range(2))
    direction *= 0.1 * state.abs()

    def objective(u: torch.Tensor) -> torch.Tensor:
        return (weight * rollout(equation, grid, stepper, step, u, 50)).sum()

    u = state.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(objective(u), u)
    slope = float((gradient * direction).sum())

    def difference(h: float) -> float:
        with torch.no_grad():
            return float(objective(state + h * direction) - objective(state - h * direction)) / (2 * h)

    if isinstance(equation, ShallowWater):
        expected = difference(5e-8)
    else:
        expected = (4 * difference(5e-5) - difference(1e-4)) / 3
    assert slope == pytest.approx(expected, rel=1e-6)


class Damping(Closure):
    """du/dt += -rate u^3."""

    rate: float = 0.3

    def start(self, problem):
        return {}

    def __call__(self, view, memory):
        return Tendency(-self.rate * view.state**3), memory


@pytest.mark.parametrize("hold", ["constant", "linear"])
@pytest.mark.parametrize(("name", "stepper"), CHOSEN)
def test_a_rollout_is_the_run(name, stepper, hold):
    """With a closure every 3 steps; whatever the segments, with and without gradients."""
    equation, grid, step, state = setting(name)
    coupled = Coupled("damping", Damping(), every=3, hold=hold)
    run = Simulation(equation, grid, stepper, step, state.numpy(), closures=[coupled])
    run.run(10)
    options: dict[str, Any] = {"tendency": lambda u: -0.3 * u**3, "every": 3, "hold": hold}
    with torch.no_grad():
        found = rollout(equation, grid, stepper, step, state, 10, **options)
    assert np.abs(found.numpy() - run.state).max() < 1e-11 * np.abs(run.state).max()
    with_gradient = rollout(equation, grid, stepper, step, state.requires_grad_(True), 10, segment=6, keep=5, **options)
    assert with_gradient.shape == (2, *state.shape)
    assert torch.allclose(with_gradient[-1].detach(), found, rtol=0, atol=1e-12)


def test_memory_grows_like_the_root_of_the_number_of_steps():
    """Gradient checkpointing keeps one state per segment, not every stage of every step."""
    equation, grid, step, state = setting("kolmogorov")

    def kept(segment: int) -> int:
        held: dict[int, int] = {}
        with torch.autograd.graph.saved_tensors_hooks(lambda t: held.setdefault(id(t), t.nbytes) and t, lambda t: t):
            rollout(equation, grid, "etdrk4", step, state.clone().requires_grad_(True), 64, segment=segment)
        return sum(held.values())

    one_state = state.nbytes * 9 // 8  # as Fourier coefficients
    assert kept(8) <= 12 * one_state
    assert kept(1) > 4 * kept(8)


def test_mistakes_are_refused_with_a_remedy():
    equation, grid, step, state = setting("burgers")
    with pytest.raises(ValueError, match=r"double precision.*Remedy: state.double"):
        rollout(equation, grid, "etdrk2", step, state.float(), 4)
    with pytest.raises(ValueError, match="keep = 3 does not divide 4"):
        rollout(equation, grid, "etdrk2", step, state, 4, keep=3)
    with pytest.raises(ValueError, match="segment = 3 is not a multiple of every = 2"):
        rollout(equation, grid, "etdrk2", step, state, 4, segment=3, every=2, tendency=lambda u: u)
