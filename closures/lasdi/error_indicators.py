"""Error indicators of a leap, evaluated before its states are used.

    distance    |D(E(u)) - u| / |u|                        of the present state: the reconstruction error
    spread      |std| / |u_hat|                            of states decoded from samples of the latent dynamics
    residual    |du_hat/dt - RHS(u_hat)| / |RHS(u_hat)|    of the full equation at the decoded states

RHS is the complete right-hand side on the grid, and du_hat/dt = D'(z) dz/dt is exact. Norms are over all fields and
points; of several members the largest value counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from subgrid.solver.equations import Equation
from subgrid.solver.grid import Grid
from subgrid.solver.spectral import Operators

if TYPE_CHECKING:
    from torch import Tensor

    from .interpolated import InterpolatedModel
    from .model import LatentModel

    AnyModel: TypeAlias = LatentModel | InterpolatedModel


def distance(model: AnyModel, states: Tensor, stages: int | None) -> float:
    """The largest reconstruction error of the states (member, point)."""
    rebuilt = model.decode(model.encode(states), stages)
    return float(((rebuilt - states).norm(dim=1) / states.norm(dim=1)).max())


def spread(
    model: AnyModel, states: Tensor, parameters: NDArray, step: float, count: int, start: float = 0.0
) -> NDArray[np.float64]:
    """The spread (time,) at times 0, step, ..., (count - 1) step after the states (member, point) at time `start`."""
    return model.relative_spread(states, parameters, step, count, start=start).amax(0).double().cpu().numpy()


class Residual:
    """The residual of a discrete equation on a grid, computed with its array code. step: of its stiff sources."""

    def __init__(self, equation: Equation, grid: Grid, step: float) -> None:
        self.equation, self.step = equation, step
        self.operators = Operators(grid)
        self.shape = (len(equation.fields), *grid.shape)

    def rate(self, states: NDArray, t: float) -> NDArray[np.float64]:
        """du/dt of states (member, field, *grid); stiff sources count as their mean over a step."""
        equation, operators = self.equation, self.operators
        if equation.spectral:
            u = operators.forward(states)
            return operators.inverse(equation.linear(operators) * u + equation.nonlinear(operators, u, t))
        relaxed = (equation.relax(operators, states, self.step) - states) / self.step
        return equation.nonlinear(operators, states, t) + relaxed

    def __call__(self, model: AnyModel, z: Tensor, parameters: NDArray, t: float, stages: int | None) -> float:
        """The largest residual of the states decoded from latents (member, latent) at time t."""
        found, rate = model.with_rate(z, parameters, stages)
        states, rates = (x.double().cpu().numpy().reshape(-1, *self.shape) for x in (found, rate))
        full = self.rate(states, t)
        left, whole = ((x**2).reshape(len(x), -1).sum(1) for x in (rates - full, full))
        return float(np.sqrt(left / whole).max())


def accepted_states(values: NDArray, tolerance: float, at: NDArray) -> int:
    """Number of states of a leap before the first indicator that exceeds `tolerance`.

    `values` are the indicators of the states number `at`; state 0 is the present one. A value that is not a number
    exceeds the tolerance. The states up to the last checked one within the tolerance are accepted.
    """
    passed = np.cumsum(~(values <= tolerance)) == 0
    return int(at[passed][-1]) if passed[0] else 0


def checked_states(count: int, checks: int) -> NDArray[np.int_]:
    """Numbers of the states of a leap of `count` to check: the present one, the last one and evenly spaced ones."""
    return np.unique(np.rint(np.linspace(0, count, checks)).astype(int))
