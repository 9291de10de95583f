"""Candidate terms of Kolmogorov flow and Burgers' equation, as array code on Fourier grids.

Every candidate commutes with shifts of the domain and has the symmetries of its equation: for Kolmogorov flow quarter
turns, and the change of sign under a reflection. States are truncated by the 2/3 rule on input, and terms on output,
as N is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from subgrid.solver.equations import Equation
from subgrid.solver.spectral import Operators

Array = Any
TINY = 1e-30  # under a square root, whose derivative at 0 is infinite


class Fields:
    """A state in Fourier space and what several candidates are made of, each computed when it is first used."""

    def __init__(self, operators: Operators, state: Array) -> None:
        self.operators = operators
        self.hat = operators.forward(state) * operators.mask
        self._known: dict[str, Array] = {}

    def physical(self, name: str, factor: Callable[[Operators], Array]) -> Array:
        """inverse(factor u_hat), stored under `name`."""
        if name not in self._known:
            self._known[name] = self.operators.inverse(factor(self.operators) * self.hat)
        return self._known[name]


Term = Callable[[Fields], Array]  # Fourier coefficients of a candidate


def _power(n: int) -> Callable[[Operators], Array]:
    """Eigenvalues of lap^n, or d_x^(2 n) in one dimension."""
    return lambda operators: (-operators.k2) ** n + 0 * operators.k2


LINEAR: dict[str, dict[str, Callable[[Operators], Array]]] = {
    "kolmogorov": {"w": _power(0), "lap w": _power(1), "lap^2 w": _power(2), "lap^3 w": _power(3)},
    "burgers": {"u": _power(0), "u_xx": _power(1), "u_xxxx": _power(2), "u_xxxxxx": _power(3)},
}


def _velocity(f: Fields) -> tuple[Array, Array]:
    return (
        f.physical("u", lambda o: 1j * o.k[0] * o.inverse_k2),
        f.physical("v", lambda o: -1j * o.k[1] * o.inverse_k2),
    )


def _gradient(f: Fields) -> tuple[Array, Array]:
    return f.physical("w_x", lambda o: 1j * o.k[1]), f.physical("w_y", lambda o: 1j * o.k[0])


def _strain(f: Fields) -> tuple[Array, Array, Array]:
    """S_xx, S_xy and |S|."""
    xx = f.physical("S_xx", lambda o: -o.k[0] * o.k[1] * o.inverse_k2)
    xy = f.physical("S_xy", lambda o: 0.5 * (o.k[1] ** 2 - o.k[0] ** 2) * o.inverse_k2)
    return xx, xy, 2 * f.operators.xp.sqrt(xx * xx + xy * xy + TINY)


def _divergence(f: Fields, along_x: Array, along_y: Array) -> Array:
    o = f.operators
    return 1j * o.k[1] * o.forward(along_x) + 1j * o.k[0] * o.forward(along_y)


def _advection(f: Fields) -> Array:
    u, v = _velocity(f)
    w = f.physical("w", lambda o: 1.0)
    return _divergence(f, u * w, v * w)


def _smagorinsky(f: Fields) -> Array:
    (w_x, w_y), (_, _, size) = _gradient(f), _strain(f)
    return _divergence(f, size * w_x, size * w_y)


def _leith(f: Fields) -> Array:
    w_x, w_y = _gradient(f)
    size = f.operators.xp.sqrt(w_x * w_x + w_y * w_y + TINY)
    return _divergence(f, size * w_x, size * w_y)


def _strained_laplacian(f: Fields) -> Array:
    return f.operators.forward(_strain(f)[2] * f.physical("lap w", lambda o: -o.k2))


def _biharmonic(f: Fields) -> Array:
    return -f.operators.k2 * _smagorinsky(f)


def _gradient_model(f: Fields) -> Array:
    (w_x, w_y), (xx, xy, _) = _gradient(f), _strain(f)
    half = 0.5 * f.physical("w", lambda o: 1.0)
    return _divergence(f, xx * w_x + (xy - half) * w_y, (xy + half) * w_x - xx * w_y)


def _burgers_advection(f: Fields) -> Array:
    u = f.physical("u", lambda o: 1.0)
    return 0.5j * f.operators.k[0] * f.operators.forward(u * u)


def _slope(f: Fields) -> Array:
    return f.physical("u_x", lambda o: 1j * o.k[0])


def _burgers_smagorinsky(f: Fields) -> Array:
    slope = _slope(f)
    return 1j * f.operators.k[0] * f.operators.forward(f.operators.xp.abs(slope) * slope)


def _burgers_biharmonic(f: Fields) -> Array:
    return -f.operators.k2 * _burgers_smagorinsky(f)


def _burgers_gradient(f: Fields) -> Array:
    slope = _slope(f)
    return 1j * f.operators.k[0] * f.operators.forward(slope * slope)


NONLINEAR: dict[str, dict[str, Term]] = {
    "kolmogorov": {
        "u.grad w": _advection,
        "|S| lap w": _strained_laplacian,
        "div(|S| grad w)": _smagorinsky,
        "div(|grad w| grad w)": _leith,
        "lap div(|S| grad w)": _biharmonic,
        "d_i(d_k u_i d_k w)": _gradient_model,
    },
    "burgers": {
        "u u_x": _burgers_advection,
        "(|u_x| u_x)_x": _burgers_smagorinsky,
        "(|u_x| u_x)_xxx": _burgers_biharmonic,
        "(u_x^2)_x": _burgers_gradient,
    },
}
FIELD = {"kolmogorov": "w", "burgers": "u"}  # as it is written in formulas


def evaluate(equation: Equation, chosen: Sequence[str], operators: Operators, state: Array) -> list[Array]:
    """The chosen candidates of a state (sample, 1, *grid), each of its shape."""
    fields, found = Fields(operators, state), []
    for name in chosen:
        linear = LINEAR[equation.name].get(name)
        hat = NONLINEAR[equation.name][name](fields) if linear is None else linear(operators) * fields.hat
        found.append(operators.inverse(hat * operators.mask))
    return found
