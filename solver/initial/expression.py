"""Initial states by formula."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..equations.base import Equation
from ..equations.expressions import Expression, cell_means, sparse
from ..equations.initial_state import InitialState, Members
from ..grid import Grid


class Formula(InitialState):
    """u(x, 0) of each field as a formula of the coordinates, and of `member`, the number of the member.

    fields: a formula for every field of the equation, by name. Names are those of the axes, `member` and pi. Values
    at points or centres of cells; for balance laws means over cells, by Gauss-Legendre quadrature with 4 points along
    each axis, exact for polynomials of degree 7. Raises ValueError for particles, for fields that are
    missing or not known, and for formulas that `Expression` refuses.
    """

    kind: Literal["expression"] = "expression"
    fields: dict[str, str]

    def state(
        self, equation: Equation, grid: Grid, members: Members, seed: int, folder: Path | None = None
    ) -> NDArray[np.float64]:
        self._require(equation.kind != "particles", "equations on a grid in space", equation)
        names = [field.name for field in equation.fields]
        if set(self.fields) != set(names):
            raise ValueError(
                f"fields: {equation.name} has the fields {', '.join(names)}, found "
                f"{', '.join(self.fields) or 'none'}. Remedy: give each of them a formula"
            )
        formulas = [self._formula(name, (*equation.axes(grid), "member")) for name in names]
        sample = _over_cells if equation.kind == "balance-law" else _at_points
        state = np.empty((len(members), len(names), *grid.shape))
        for i, member in enumerate(members):
            for j, formula in enumerate(formulas):
                state[i, j] = sample(formula, equation, grid, member)
        return state

    def _formula(self, name: str, known: tuple[str, ...]) -> Expression:
        try:
            return Expression(self.fields[name], known)
        except ValueError as error:
            raise ValueError(f"fields: {name} = {error}") from None


def _at_points(formula: Expression, equation: Equation, grid: Grid, member: int) -> NDArray:
    return formula(sparse(equation.coordinates(grid)) | {"member": float(member)})


def _over_cells(formula: Expression, equation: Equation, grid: Grid, member: int) -> NDArray:
    return cell_means(formula, equation.coordinates(grid), grid, {"member": float(member)})
