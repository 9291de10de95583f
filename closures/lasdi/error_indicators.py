"""How far a leap can be trusted: what a reduced-order model is checked by before its states are taken.

distance    |D(E(u)) - u| / |u|                          of the present state: whether the model can hold it at all
spread      |std| / |u_hat|                              of states decoded from draws of the latent dynamics
residual    |du_hat/dt - RHS(u_hat)| / |RHS(u_hat)|      of the full equation at the decoded states

The residual is that of the complete right-hand side on the grid, the rate of the decoded state being D'(z) dz/dt,
exactly. Norms are over all fields and points; of several members the largest counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from subgrid.solver.closure import Problem
from subgrid.solver.spectral import Operators

if TYPE_CHECKING:
    from .model import LatentModel


def distance(model: LatentModel, states: Tensor, stages: int | None) -> float:
    """Of the states (member, point)."""
    rebuilt = model.decode(model.encode(states), stages)
    return float(((rebuilt - states).norm(dim=1) / states.norm(dim=1)).max())


def spread(model: LatentModel, states: Tensor, parameters: NDArray, step: float, count: int) -> NDArray[np.float64]:
    """At times 0, step, ..., (count - 1) step after the states (member, point); (time,)."""
    return model.relative_spread(states, parameters, step, count).amax(0).double().numpy()


class Residual:
    """The residual of an equation on a grid, as the equation's array code computes it."""

    def __init__(self, problem: Problem) -> None:
        self.equation, self.step = problem.equation, problem.step
        self.operators = Operators(problem.grid)
        self.shape = (len(problem.equation.fields), *problem.grid.shape)

    def rate(self, states: NDArray, t: float) -> NDArray[np.float64]:
        """du/dt of states (member, field, *grid), stiff sources included as their mean over a step."""
        equation, operators = self.equation, self.operators
        if equation.spectral:
            u = operators.forward(states)
            return operators.inverse(equation.linear(operators) * u + equation.nonlinear(operators, u, t))
        relaxed = (equation.relax(operators, states, self.step) - states) / self.step
        return equation.nonlinear(operators, states, t) + relaxed

    def __call__(self, model: LatentModel, z: Tensor, parameters: NDArray, t: float, stages: int | None) -> float:
        """At the states decoded from latents (member, latent) of time t."""
        found, rate = model.with_rate(z, parameters, stages)
        states, rates = (x.double().numpy().reshape(-1, *self.shape) for x in (found, rate))
        full = self.rate(states, t)
        left, whole = ((x**2).reshape(len(x), -1).sum(1) for x in (rates - full, full))
        return float(np.sqrt(left / whole).max())


def trusted(values: NDArray, tolerance: float, at: NDArray) -> int:
    """How many states of a leap come before the first check that fails, `at` being the states that were checked.

    State 0 is the present one. A check that is not a number fails; the states up to the last one that passed count.
    """
    passed = np.cumsum(~(values <= tolerance)) == 0
    return int(at[passed][-1]) if passed[0] else 0


def checked(count: int, checks: int) -> NDArray[np.int_]:
    """The states of a leap of `count` that are looked at: the present one, the last one, and some between."""
    return np.unique(np.rint(np.linspace(0, count, checks)).astype(int))
