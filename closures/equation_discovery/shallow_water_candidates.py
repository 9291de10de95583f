"""Candidate terms of shallow water, as array code on finite volumes.

Differences of fluxes through faces, of second order: the mass is conserved by all, momentum by all inside the domain.
The fluxes commute with quarter turns, shifts and reflections. Terms of the depth are made of the surface e = h + b and
of the velocity, so that a lake at rest over any bottom stays at rest; faces next to a dry cell have neither flux nor
slope. The ghost cells beyond walls and open sides are those of the equation.

c = sqrt(g h) is the wave speed: upwind schemes have errors like div(c grad e) and lap(c lap e). The last two terms of
the momentum are the gradient model: an average over cells of size Delta leaves Delta^2/12 h d_j u_i d_j u_k of the flux
h u_i u_k, and Delta^2/24 g |grad e|^2 of the pressure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from subgrid.solver.equations import Equation, ShallowWater
from subgrid.solver.equations.shallow_water import array_code
from subgrid.solver.spectral import Operators

Array = Any
TINY = 1e-30  # under a square root, whose derivative at 0 is infinite
EVEN, ALONG_X, ALONG_Y = (1.0, 1.0), (-1.0, 1.0), (1.0, -1.0)  # factors beyond walls across x and across y


class Cells:
    """A state (sample, 3, y, x), and its values and gradients on faces; pairs are (faces across x, faces across y).

    A field with ghost cells is (sample, y + 2, x + 2), faces across x (sample, y, x + 1), across y (sample, y + 1, x).
    """

    def __init__(self, equation: ShallowWater, operators: Operators, state: Array) -> None:
        self.xp, self.sides = operators.xp, equation.boundary.all
        self.dy, self.dx = operators.grid.spacing
        bottom = equation.bottom(operators.grid)
        ground = 0.0 if bottom is None else operators.constant("bottom", bottom.copy)
        self.h, self.q, self.p = state[:, 0], state[:, 1], state[:, 2]
        self.e = self.h + ground
        self.u, self.v = (array_code.velocity(self.h, m, equation.dry, self.xp) for m in (self.q, self.p))
        wet = self.h >= equation.dry
        self.c = self.xp.sqrt(self.xp.where(wet, equation.gravity * self.h, TINY + 0 * self.h))
        w = self.wide(self.xp.astype(wet, state.dtype), EVEN)
        self.open_x, self.open_y = w[..., 1:] * w[..., :-1], w[:, 1:] * w[:, :-1]  # 1 between wet cells, with ghosts
        self._size: tuple[Array, Array] | None = None

    def wide(self, a: Array, parity: tuple[float, float]) -> Array:
        """With one ghost cell on every side."""
        left, right, low, high = self.sides
        turn = self.xp.matrix_transpose
        a = array_code.extend(a, 1, left, right, parity[0], self.xp)
        return turn(array_code.extend(turn(a), 1, low, high, parity[1], self.xp))

    def means(self, a: Array, parity: tuple[float, float]) -> tuple[Array, Array]:
        w = self.wide(a, parity)
        return 0.5 * (w[:, 1:-1, 1:] + w[:, 1:-1, :-1]), 0.5 * (w[:, 1:, 1:-1] + w[:, :-1, 1:-1])

    def gradients(self, a: Array, parity: tuple[float, float]) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        """(a_x, a_y) on the faces across x, and on those across y."""
        w = self.wide(a, parity)
        x, y = self.open_x * (w[..., 1:] - w[..., :-1]) / self.dx, self.open_y * (w[:, 1:] - w[:, :-1]) / self.dy
        return (x[:, 1:-1], _between(y)), (_between(x), y[..., 1:-1])

    def divergence(self, x: Array, y: Array) -> Array:
        """Of fluxes through the faces across x and across y."""
        x, y = x * self.open_x[:, 1:-1], y * self.open_y[..., 1:-1]
        return (x[..., 1:] - x[..., :-1]) / self.dx + (y[:, 1:] - y[:, :-1]) / self.dy

    def diffusion(self, a: Array, parity: tuple[float, float], factors: tuple[Array, Array] | None = None) -> Array:
        """div(factor grad a)."""
        (x, _), (_, y) = self.gradients(a, parity)
        k, m = factors or (1.0, 1.0)
        return self.divergence(k * x, m * y)

    def velocity_gradients(self) -> tuple[tuple[Array, Array, Array, Array], ...]:
        """(u_x, u_y, v_x, v_y) on the faces across x, and on those across y."""
        u, v = self.gradients(self.u, ALONG_X), self.gradients(self.v, ALONG_Y)
        return tuple((*a, *b) for a, b in zip(u, v, strict=True))  # type: ignore[return-value]

    def strain(self) -> tuple[Array, Array]:
        """|S| = sqrt(2 S_ij S_ij) on faces."""
        if self._size is None:
            x, y = (
                self.xp.sqrt(2 * a * a + 2 * d * d + (b + c) ** 2 + TINY) for a, b, c, d in self.velocity_gradients()
            )
            self._size = x, y
        return self._size


def _between(a: Array) -> Array:
    """Means of the four values around a place between them."""
    return 0.25 * (a[:, 1:, 1:] + a[:, 1:, :-1] + a[:, :-1, 1:] + a[:, :-1, :-1])


def _depth(term: Callable[[Cells], Array]) -> Callable[[Cells], Array]:
    """A term of the depth as one of the state."""
    return lambda c: _state(c, term(c), 0 * c.h, 0 * c.h)


def _each(term: Callable[[Cells, Array, tuple[float, float]], Array]) -> Callable[[Cells], Array]:
    """The same term of both momenta."""
    return lambda c: _state(c, 0 * c.h, term(c, c.q, ALONG_X), term(c, c.p, ALONG_Y))


def _stress(flux: Callable[..., tuple[Array, Array, Array]]) -> Callable[[Cells], Array]:
    """div of a symmetric stress: flux(h, |S|, u_x, u_y, v_x, v_y) is its xx, xy and yy on faces."""

    def term(c: Cells) -> Array:
        parts = zip(c.means(c.h, EVEN), c.strain(), c.velocity_gradients(), strict=True)
        (xx, xy, _), (_, yx, yy) = (flux(h, size, *slopes) for h, size, slopes in parts)
        return _state(c, 0 * c.h, c.divergence(xx, yx), c.divergence(xy, yy))

    return term


def _state(c: Cells, h: Array, q: Array, p: Array) -> Array:
    return c.xp.stack([h, q, p], axis=1)


def _viscous(h: Array, size: Array, u_x: Array, u_y: Array, v_x: Array, v_y: Array) -> tuple[Array, Array, Array]:
    return 2 * h * u_x, h * (u_y + v_x), 2 * h * v_y


def _smagorinsky(h: Array, size: Array, *slopes: Array) -> tuple[Array, Array, Array]:
    return _viscous(h * size, size, *slopes)


def _gradient(h: Array, size: Array, u_x: Array, u_y: Array, v_x: Array, v_y: Array) -> tuple[Array, Array, Array]:
    return h * (u_x * u_x + u_y * u_y), h * (u_x * v_x + u_y * v_y), h * (v_x * v_x + v_y * v_y)


def _pressure(c: Cells) -> Array:
    (x, y), (x_, y_) = c.gradients(c.e, EVEN)
    return _state(c, 0 * c.h, c.divergence(x * x + y * y, 0 * x_), c.divergence(0 * x, x_ * x_ + y_ * y_))


def _waves(c: Cells, a: Array, parity: tuple[float, float]) -> Array:
    return c.diffusion(a, parity, c.means(c.c, EVEN))


def _fourth(c: Cells, a: Array, parity: tuple[float, float]) -> Array:
    return c.diffusion(c.diffusion(a, parity), parity)


def _fourth_waves(c: Cells, a: Array, parity: tuple[float, float]) -> Array:
    return c.diffusion(c.c * c.diffusion(a, parity), parity)


DEPTH: dict[str, Callable[[Cells], Array]] = {
    "lap e": _depth(lambda c: c.diffusion(c.e, EVEN)),
    "lap^2 e": _depth(lambda c: _fourth(c, c.e, EVEN)),
    "div(|S| grad e)": _depth(lambda c: c.diffusion(c.e, EVEN, c.strain())),
    "div(c grad e)": _depth(lambda c: _waves(c, c.e, EVEN)),
    "lap(c lap e)": _depth(lambda c: _fourth_waves(c, c.e, EVEN)),
}
MOMENTUM: dict[str, Callable[[Cells], Array]] = {
    "lap(h u)": _each(lambda c, a, parity: c.diffusion(a, parity)),
    "lap^2(h u)": _each(_fourth),
    "div(c grad(h u))": _each(_waves),
    "lap(c lap(h u))": _each(_fourth_waves),
    "div(2 h S)": _stress(_viscous),
    "div(2 h |S| S)": _stress(_smagorinsky),
    "d_k(h d_j u_i d_j u_k)": _stress(_gradient),
    "grad |grad e|^2": _pressure,
}
SIDES = dict.fromkeys(DEPTH, "dh/dt") | dict.fromkeys(MOMENTUM, "d(h u)/dt")


def evaluate(equation: Equation, chosen: Sequence[str], operators: Operators, state: Array) -> list[Array]:
    """The chosen candidates of a state (sample, 3, y, x), each of its shape."""
    assert isinstance(equation, ShallowWater)
    cells, terms = Cells(equation, operators, state), DEPTH | MOMENTUM
    return [terms[name](cells) for name in chosen]
