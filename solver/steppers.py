"""Time integrators, as tables.

Every scheme here advances du/dt = L u + N(u, t) + F, with L diagonal (or absent) and F frozen over the step
(what closures and noise contribute). Every stage of every scheme is one linear combination

    u_i = base_i u_n + sum_j weight_ij N_j + total_i F ,

whose coefficients are functions of z = h L. A scheme is the table of these functions and nothing else. F is
carried by all stages with the weight a constant N would have, and never enters a multistep history.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from . import kernels

Coefficient = NDArray  # a function of z, evaluated: shape of z


class RightHandSide(Protocol):
    """N of one batch of members, and L where the equation has one.

    linear: L, broadcast to (row, column), or None. rows, columns: where N may differ from zero. `__call__`
    writes N(u, t) into `out`; u and out are (batch, row, column), and out is zero outside rows and columns.
    """

    linear: NDArray | None
    rows: NDArray[np.bool_]
    columns: int

    def __call__(self, u: NDArray, t: float, out: NDArray) -> None: ...


def phi(order: int, z: NDArray) -> NDArray:
    """phi_0 = e^z, phi_{k+1} = (phi_k - 1/k!) / z, to full precision at every z.

    Mean over a circle of radius 1 about z, where the quotient has no cancellation: Kassam and Trefethen,
    SIAM J. Sci. Comput. 26 (2005) 1214.
    """
    if order == 0:
        return np.exp(z)
    points = 64
    total = np.zeros(z.shape, dtype=np.complex128)
    for theta in 2 * np.pi * (np.arange(points) + 0.5) / points:
        w = z + np.exp(1j * theta)
        value = np.exp(w)
        factorial = 1.0
        for k in range(1, order + 1):
            value = (value - 1 / factorial) / w
            factorial *= k
        total += value
    total /= points
    return total if np.iscomplexobj(z) else total.real


@dataclass(frozen=True)
class Stage:
    """One row of a table: the time c_i of the state it gives, and functions of z = h L; weights in units of h."""

    time: float
    base: Callable[[NDArray], Coefficient]
    weights: tuple[Callable[[NDArray], Coefficient] | None, ...]


@dataclass(frozen=True)
class OneStep:
    """A Runge-Kutta scheme: stages, the last of which is the update.

    linear: "exponential" if the coefficients carry L, "explicit" if L u is evaluated with N.
    """

    name: str
    order: int
    linear: str
    stages: tuple[Stage, ...]
    source: str


@dataclass(frozen=True)
class Multistep:
    """u_{n+1} = (p_0 u_n + p_1 u_{n-1} + h (q_0 N_n + q_1 N_{n-1}) + h F) / d(z), with p_0 and d functions of z.

    `start` is the table of the first step, which has no history.
    """

    name: str
    order: int
    denominator: Callable[[NDArray], Coefficient]
    now: Callable[[NDArray], Coefficient]
    before: float
    rates: tuple[float, ...]
    source: str
    start: Multistep | None = None


def _one(z: NDArray) -> NDArray:
    return np.ones_like(z)


def _constant(value: float) -> Callable[[NDArray], Coefficient]:
    return lambda z: np.full_like(z, value)


def explicit(name: str, order: int, a: tuple[tuple[float, ...], ...], b: tuple[float, ...], source: str) -> OneStep:
    """An explicit Runge-Kutta scheme from its Butcher tableau."""
    rows = (*a, b)
    stages = tuple(Stage(sum(row), _one, tuple(_constant(w) if w else None for w in row)) for row in rows)
    return OneStep(name, order, "explicit", stages, source)


def _phi(order: int, at: float = 1.0, factor: float = 1.0) -> Callable[[NDArray], Coefficient]:
    return lambda z: factor * phi(order, at * z)


RK4 = explicit("rk4", 4, ((), (0.5,), (0.0, 0.5), (0.0, 0.0, 1.0)), (1 / 6, 1 / 3, 1 / 3, 1 / 6), "Kutta (1901)")
SSP_RK3 = explicit(
    "ssp-rk3",
    3,
    ((), (1.0,), (0.25, 0.25)),
    (1 / 6, 1 / 6, 2 / 3),
    "Shu and Osher, J. Comput. Phys. 77 (1988) 439",
)
ETDRK2 = OneStep(
    "etdrk2",
    2,
    "exponential",
    (
        Stage(0.0, _one, ()),
        Stage(1.0, np.exp, (_phi(1),)),
        Stage(1.0, np.exp, (lambda z: phi(1, z) - phi(2, z), _phi(2))),
    ),
    "Cox and Matthews, J. Comput. Phys. 176 (2002) 430, eq. 22",
)
ETDRK4 = OneStep(
    "etdrk4",
    4,
    "exponential",
    (
        Stage(0.0, _one, ()),
        Stage(0.5, lambda z: np.exp(z / 2), (_phi(1, 0.5, 0.5),)),
        Stage(0.5, lambda z: np.exp(z / 2), (None, _phi(1, 0.5, 0.5))),
        Stage(1.0, np.exp, (lambda z: 0.5 * phi(1, z / 2) * np.expm1(z / 2), None, _phi(1, 0.5))),
        Stage(
            1.0,
            np.exp,
            (
                lambda z: phi(1, z) - 3 * phi(2, z) + 4 * phi(3, z),
                lambda z: 2 * phi(2, z) - 4 * phi(3, z),
                lambda z: 2 * phi(2, z) - 4 * phi(3, z),
                lambda z: 4 * phi(3, z) - phi(2, z),
            ),
        ),
    ),
    "Cox and Matthews, J. Comput. Phys. 176 (2002) 430, eqs. 26-29",
)
CN_EULER = Multistep(
    "cn-euler",
    1,
    denominator=lambda z: 1 - z / 2,
    now=lambda z: 1 + z / 2,
    before=0.0,
    rates=(1.0,),
    source="Crank-Nicolson for L, explicit Euler for N and F",
)
CNAB2 = Multistep(
    "cnab2",
    2,
    denominator=lambda z: 1 - z / 2,
    now=lambda z: 1 + z / 2,
    before=0.0,
    rates=(1.5, -0.5),
    source="Crank-Nicolson for L, Adams-Bashforth 2 for N: Ascher, Ruuth and Wetton (1995), eq. 16",
    start=CN_EULER,
)
SBDF2 = Multistep(
    "sbdf2",
    2,
    denominator=lambda z: 1.5 - z,
    now=_constant(2.0),
    before=-0.5,
    rates=(2.0, -1.0),
    source="Ascher, Ruuth and Wetton, SIAM J. Numer. Anal. 32 (1995) 797, eq. 17",
    start=CN_EULER,
)

STEPPERS: dict[str, OneStep | Multistep] = {s.name: s for s in (RK4, SSP_RK3, ETDRK2, ETDRK4, CN_EULER, CNAB2, SBDF2)}


def needs_linear(scheme: OneStep | Multistep) -> bool:
    """Whether the scheme treats L apart from N, and so fits semi-linear equations only."""
    return isinstance(scheme, Multistep) or scheme.linear == "exponential"


@dataclass
class _Table:
    """A stage's coefficients, evaluated: base, total and before (row, column), weights (stage, row, column)."""

    time: float
    base: NDArray
    weights: NDArray
    total: NDArray
    before: NDArray | None = None


class Stepper:
    """A scheme bound to a right-hand side, a step h and the shape (batch, row, column) of a batch of members.

    `advance` moves u in place by one step. `memory` holds what a restart needs besides u: nothing for one-step
    schemes; N_{n-1}, and u_{n-1} where the scheme uses it, for multistep ones.
    """

    def __init__(
        self,
        scheme: OneStep | Multistep,
        rhs: RightHandSide,
        shape: tuple[int, int, int],
        dtype: str,
        step: float,
    ) -> None:
        self.scheme, self.rhs, self.h = scheme, rhs, step
        linear = np.zeros(shape[1:]) if rhs.linear is None else np.broadcast_to(rhs.linear, shape[1:])
        z = np.ascontiguousarray(step * linear)
        self._rows, self._columns = rhs.rows, rhs.columns
        self._linear: NDArray | None = None
        self.memory: dict[str, NDArray] = {}
        if isinstance(scheme, OneStep):
            self._tables = [self._stage(stage, z) for stage in scheme.stages[1:]]
            count = len(self._tables)
            self._work = np.zeros(shape, dtype)
            if scheme.linear == "explicit" and rhs.linear is not None:
                self._linear = np.ascontiguousarray(linear)
                self._rows, self._columns = np.ones(shape[1], dtype=bool), shape[2]
        else:
            count = len(scheme.rates)
            self._tables = [self._multistep(scheme, z)]
            if scheme.start:
                self._start = self._multistep(scheme.start, z)
                self.memory["age"] = np.zeros(1, dtype=np.int64)
            if scheme.before:
                self.memory["state"] = np.zeros(shape, dtype)
        self._rates = np.zeros((count, *shape), dtype)
        if "age" in self.memory:
            self.memory["rate"] = self._rates[1]
        self._no_frozen = np.zeros((1, 1, 1), dtype)

    def _stage(self, stage: Stage, z: NDArray) -> _Table:
        zero = np.zeros_like(z)
        weights = np.stack([zero if w is None else self.h * w(z) for w in stage.weights])
        return _Table(stage.time, np.ascontiguousarray(stage.base(z)), weights, weights.sum(axis=0))

    def _multistep(self, scheme: Multistep, z: NDArray) -> _Table:
        d = scheme.denominator(z)
        weights = np.stack([self.h * q / d for q in scheme.rates])
        before = scheme.before / d if scheme.before else None
        return _Table(0.0, scheme.now(z) / d, weights, self.h / d, before)

    def restart(self) -> None:
        """Forget the history: the state was replaced, so the next step is the scheme's first."""
        if "age" in self.memory:
            self.memory["age"][0] = 0

    def advance(self, u: NDArray, t: float, frozen: NDArray | None) -> None:
        """One step of u, in place, from time t, with the frozen tendency (batch, row, column) if there is one."""
        if isinstance(self.scheme, OneStep):
            state, offset = u, 0.0
            last = len(self._tables) - 1
            for i, table in enumerate(self._tables):
                if self._linear is not None:
                    self._rates[i] = 0.0  # L u of the last step lies where N does not write
                self.rhs(state, t + offset * self.h, self._rates[i])
                if self._linear is not None:
                    kernels.add_linear(self._rates[i], self._linear, state)
                out = u if i == last else self._work
                self._combine(out, table, u, self._rates, frozen)
                state, offset = out, table.time
            return
        table, rates = self._tables[0], self._rates
        self.rhs(u, t, rates[0])
        if "age" in self.memory and self.memory["age"][0] == 0:
            table = self._start
        if "state" in self.memory:
            now = u.copy()
        self._combine(u, table, u, rates[: len(table.weights)], frozen)
        if "age" in self.memory:
            rates[1] = rates[0]
            self.memory["age"][0] = 1
        if "state" in self.memory:
            if table.before is not None:
                u += table.before * self.memory["state"]
            self.memory["state"][...] = now

    def _combine(self, out: NDArray, table: _Table, u: NDArray, rates: NDArray, frozen: NDArray | None) -> None:
        use = frozen is not None
        force = self._no_frozen if frozen is None else frozen
        kernels.combine(out, table.base, u, table.weights, rates, table.total, force, use, self._rows, self._columns)
