"""Candidate terms of the Vlasov-Poisson system, as array code on cells of phase space.

Differences of second order, periodic in x. Terms with a derivative in v are differences of fluxes through faces, which
vanish at both ends, and the others are differences in x: every candidate conserves the mass.

An average over cells of size dv leaves of v f_x the term dv^2/12 f_xv beside v times the average, and of E f_v
likewise dx^2/12 (E_x f_x)_v: the gradient model of phase space. |v| f_xxxxxx and |E| f_vvvvvv are the leading errors of
fifth-order upwind fluxes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from subgrid.solver.equations import Equation
from subgrid.solver.equations.vlasov_poisson import array_code
from subgrid.solver.spectral import Operators

Array = Any


class Cells:
    """f (sample, 1, v, x), E and the differences of which candidates are made."""

    def __init__(self, operators: Operators, f: Array) -> None:
        self.xp, self.f = operators.xp, f
        self.dv, self.dx = operators.grid.spacing
        self.v = operators.constant("velocity", lambda: operators.grid.coordinates(centres=True)[0][:, None])
        matrix = operators.constant("field matrix", lambda: array_code.field_matrix(operators.grid))
        density = self.xp.sum(f, axis=-2, keepdims=True) * self.dv
        self.E = self.xp.matmul(density / self.dv, matrix)  # (sample, 1, 1, x)
        self.E_x = density - self.xp.mean(density, axis=-1, keepdims=True)

    def x(self, a: Array) -> Array:
        """a_x."""
        return (self.xp.roll(a, -1, axis=-1) - self.xp.roll(a, 1, axis=-1)) / (2 * self.dx)

    def xx(self, a: Array) -> Array:
        """a_xx."""
        return (self.xp.roll(a, -1, axis=-1) - 2 * a + self.xp.roll(a, 1, axis=-1)) / self.dx**2

    def vv(self, a: Array) -> Array:
        """a_vv, without flux through the ends."""
        return self.outflow((a[..., 1:, :] - a[..., :-1, :]) / self.dv)

    def faces(self, a: Array) -> Array:
        """Means on the faces between cells in v, (sample, 1, v - 1, x)."""
        return 0.5 * (a[..., 1:, :] + a[..., :-1, :])

    def outflow(self, flux: Array) -> Array:
        """flux_v of a flux on the faces between cells in v, 0 at both ends."""
        none = self.xp.zeros_like(flux[..., :1, :])
        closed = self.xp.concat([none, flux, none], axis=-2)
        return (closed[..., 1:, :] - closed[..., :-1, :]) / self.dv


TERMS: dict[str, Callable[[Cells], Array]] = {
    "f_vv": lambda c: c.vv(c.f),
    "f_vvvv": lambda c: c.vv(c.vv(c.f)),
    "f_xx": lambda c: c.xx(c.f),
    "f_xxxx": lambda c: c.xx(c.xx(c.f)),
    "(v f)_v": lambda c: c.outflow(0.5 * (c.v[1:] + c.v[:-1]) * c.faces(c.f)),
    "v f_x": lambda c: c.v * c.x(c.f),
    "E f_v": lambda c: c.E * c.outflow(c.faces(c.f)),
    "f_xv": lambda c: c.outflow(c.faces(c.x(c.f))),
    "(E_x f_x)_v": lambda c: c.outflow(c.E_x * c.faces(c.x(c.f))),
    "|v| f_xxxxxx": lambda c: c.xp.abs(c.v) * c.xx(c.xx(c.xx(c.f))),
    "|E| f_vvvvvv": lambda c: c.xp.abs(c.E) * c.vv(c.vv(c.vv(c.f))),
}


def evaluate(equation: Equation, chosen: Sequence[str], operators: Operators, state: Array) -> list[Array]:
    """The chosen candidates of a state (sample, 1, v, x), each of its shape."""
    cells = Cells(operators, state)
    return [TERMS[name](cells) for name in chosen]
