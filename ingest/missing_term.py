"""The term that a coarse model lacks, from states of the fine model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from subgrid.solver.equations import Equation
from subgrid.solver.equations.tracers.splines import coefficients, evaluate, finer, points_of
from subgrid.solver.grid import Grid
from subgrid.solver.simulation import Simulation
from subgrid.solver.spectral import Operators, Transforms

from .entities import restricted_carrier
from .restriction import Restrict


class MissingTerm:
    """H = R(F(u)) - F_model(R(u)), with F = L u + N(u): the missing term, (member, field, *coarse).

    For a model that omits terms, and a restriction that commutes with them, H is the sum of the omitted terms. For a
    complete model on a coarse grid it is the subgrid term of large-eddy simulation. H does not contain noise. t is the
    time of the state, for terms that depend on it.
    """

    def __init__(self, model: Equation, restrict: Restrict, members: int) -> None:
        self._restrict = restrict
        self._fine = Rate(model.complete(), restrict.fine, members)
        self._coarse = Rate(model, restrict.coarse, members)

    def __call__(self, state: NDArray, t: float = 0.0) -> NDArray:
        return self._restrict(self._fine(state, t)) - self._coarse(self._restrict(state), t)


class MissingVelocity:
    """H = u(x) - u_model(x) at the tracers, (member, 2, entity): the velocity of the modes that the model cuts off.

    u is the velocity of the reference flow, u_model that of this flow restricted to the grid of the model; both at the
    positions of the tracers in the reference flow.
    """

    def __init__(self, restrict: Restrict, simulation: Simulation) -> None:
        self._restrict, self._simulation = restrict, simulation

    def __call__(self, state: NDArray, t: float = 0.0) -> NDArray:
        flow, fine, coarse = self._simulation.carrier, self._restrict.fine, self._restrict.coarse
        assert flow is not None and coarse.carrier is not None
        onto, origins = Operators(coarse.carrier), Operators(finer(coarse.carrier))
        state_there = restricted_carrier(flow.state, self._simulation.equation, fine, coarse, self._restrict.how)
        inner = onto.to_spectrum(state_there) if flow.equation.spectral else state_there
        c = coefficients(flow.equation.carrier_velocity(onto, inner), onto, origins)
        there = evaluate(c, state, points_of(flow.equation, coarse.carrier), origins.grid.spacing, np)
        return flow.velocity(state) - there


def missing_term(model: Equation, restrict: Restrict, simulation: Simulation) -> MissingTerm | MissingVelocity:
    """The missing term of a model, from states of a simulation of the complete equation on the fine grid."""
    if simulation.carrier is not None:
        return MissingVelocity(restrict, simulation)
    return MissingTerm(model, restrict, len(simulation.members))


class Rate:
    """F(u, t) = L u + N(u, t) in physical space, (member, field, *grid)."""

    def __init__(self, equation: Equation, grid: Grid, members: int) -> None:
        self._rhs = equation.right_hand_side(grid, members)
        self._transforms = Transforms(grid) if equation.spectral else None

    def __call__(self, state: NDArray, t: float = 0.0) -> NDArray:
        inner = self._transforms.to_spectrum(state) if self._transforms else np.array(state)
        u = inner.reshape(inner.shape[0] * inner.shape[1], -1, inner.shape[-1])
        rate = np.zeros_like(u)
        self._rhs(u, t, rate)
        if self._rhs.linear is not None:
            by_field = (-1, *self._rhs.linear.shape)
            rate += (self._rhs.linear * u.reshape(by_field)).reshape(u.shape)
        shaped = rate.reshape(inner.shape)
        return self._transforms.to_physical(shaped) if self._transforms else shaped
