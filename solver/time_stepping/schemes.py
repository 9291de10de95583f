"""Time integrators as tables of coefficients.

Runge-Kutta and multistep schemes advance du/dt = L u + N(u, t) + F, with L diagonal (or absent) and F, the contribution
of closures and noise, frozen over the step. Every stage of every scheme is one linear combination

    u_i = base_i u_n + sum_j weight_ij N_j + total_i F ,

whose coefficients are functions of z = h L. F has the weight of a constant N in every stage and does not enter a
multistep history. Split schemes compose the exact flows of an equation's parts, with half of F before and half after
the step. compiled.py and array_code.py apply the tables.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..equations.plugin_errors import describe_error
from ..equations.plugins import NotImported, Registry, means_path, unknown
from .phi import phi

Coefficient = NDArray  # values of a function of z, in the shape of z


@dataclass(frozen=True)
class Stage:
    """One row of a table: the time c_i of its state, and functions of z = h L; weights in units of h."""

    time: float
    base: Callable[[NDArray], Coefficient]
    weights: tuple[Callable[[NDArray], Coefficient] | None, ...]


@dataclass(frozen=True)
class OneStep:
    """A Runge-Kutta scheme: stages, the last of which is the update.

    linear: "exponential" if the coefficients depend on L, "explicit" if L u is evaluated with N. convex: for each stage
    the a of u_i = a u_n + (1 - a) (u_{i-1} + h N_{i-1}), for schemes in this form of Shu and Osher, else empty.
    """

    name: str
    order: int
    linear: str
    stages: tuple[Stage, ...]
    source: str
    convex: tuple[float, ...] = ()


@dataclass(frozen=True)
class Multistep:
    """u_{n+1} = (p_0 u_n + p_1 u_{n-1} + h (q_0 N_n + q_1 N_{n-1}) + h F) / d(z), with p_0 and d functions of z.

    `start` is the table of the first step, for which there is no history.
    """

    name: str
    order: int
    denominator: Callable[[NDArray], Coefficient]
    now: Callable[[NDArray], Coefficient]
    before: float
    rates: tuple[float, ...]
    source: str
    start: Multistep | None = None


@dataclass(frozen=True)
class Split:
    """u_{n+1} = flow_m(c_m h) ... flow_1(c_1 h) u_n, with (part, c) in the order of application in `parts`."""

    name: str
    order: int
    parts: tuple[tuple[str, float], ...]
    source: str

    @property
    def times(self) -> tuple[float, ...]:
        """The middle of the time that each flow covers, as a part of the step, for what depends on time.

        Drifts and kicks are those of the system with the further equation dt/ds = 1, which drifts advance, and so of
        the order of the scheme. Sweeps along an axis share the step, to second order.
        """
        found = []
        for i, (part, coefficient) in enumerate(self.parts):
            clock = "drift" if part == "kick" else part
            passed = sum(c for name, c in self.parts[:i] if name == clock)
            found.append(passed + (0.5 * coefficient if part == clock else 0.0))
        return tuple(found)


Scheme = OneStep | Multistep | Split


def _one(z: NDArray) -> NDArray:
    return np.ones_like(z)


def _constant(value: float) -> Callable[[NDArray], Coefficient]:
    return lambda z: np.full_like(z, value)


def explicit(
    name: str,
    order: int,
    a: tuple[tuple[float, ...], ...],
    b: tuple[float, ...],
    source: str,
    convex: tuple[float, ...] = (),
) -> OneStep:
    """An explicit Runge-Kutta scheme from its Butcher tableau."""
    rows = (*a, b)
    stages = tuple(Stage(sum(row), _one, tuple(_constant(w) if w else None for w in row)) for row in rows)
    return OneStep(name, order, "explicit", stages, source, convex)


def _phi(order: int, at: float = 1.0, factor: float = 1.0) -> Callable[[NDArray], Coefficient]:
    return lambda z: factor * phi(order, at * z)


RK4 = explicit("rk4", 4, ((), (0.5,), (0.0, 0.5), (0.0, 0.0, 1.0)), (1 / 6, 1 / 3, 1 / 3, 1 / 6), "Kutta (1901)")
SSP_RK2 = explicit(
    "ssp-rk2", 2, ((), (1.0,)), (0.5, 0.5), "Heun; Shu and Osher, J. Comput. Phys. 77 (1988) 439, eq. 2.15", (0.0, 0.5)
)
SSP_RK3 = explicit(
    "ssp-rk3",
    3,
    ((), (1.0,), (0.25, 0.25)),
    (1 / 6, 1 / 6, 2 / 3),
    "Shu and Osher, J. Comput. Phys. 77 (1988) 439",
    (0.0, 3 / 4, 1 / 3),
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


def _alternating(first: str, second: str, coefficients: tuple[float, ...]) -> tuple[tuple[str, float], ...]:
    return tuple(((first, second)[i % 2], c) for i, c in enumerate(coefficients))


_THETA = 1 / (2 - 2 ** (1 / 3))
STRANG = Split("strang", 2, _alternating("drift", "kick", (0.5, 1.0, 0.5)), "Strang, SIAM J. Numer. Anal. 5 (1968) 506")
VELOCITY_VERLET = Split(
    "velocity-verlet",
    2,
    _alternating("kick", "drift", (0.5, 1.0, 0.5)),
    "Swope, Andersen, Berens and Wilson, J. Chem. Phys. 76 (1982) 637",
)
FOREST_RUTH = Split(
    "forest-ruth",
    4,
    _alternating(
        "drift",
        "kick",
        (_THETA / 2, _THETA, (1 - _THETA) / 2, 1 - 2 * _THETA, (1 - _THETA) / 2, _THETA, _THETA / 2),
    ),
    "Forest and Ruth, Physica D 43 (1990) 105",
)

DIMENSION_SPLIT = Split(
    "dimension-split",
    2,
    (("x", 0.5), ("y", 0.5), ("y", 0.5), ("x", 0.5)),
    "sweeps along the axes in alternating order: Strang, SIAM J. Numer. Anal. 5 (1968) 506",
)

STEPPERS: Registry[Scheme] = Registry(
    "subgrid.steppers",
    "stepper",
    (OneStep, Multistep, Split),
    {
        s.name: s
        for s in (
            RK4,
            SSP_RK2,
            SSP_RK3,
            ETDRK2,
            ETDRK4,
            CN_EULER,
            CNAB2,
            SBDF2,
            STRANG,
            VELOCITY_VERLET,
            FOREST_RUTH,
            DIMENSION_SPLIT,
        )
    },
    instances=True,
)


def known_stepper(name: str) -> str:
    """The name of a stepper, after checks: it exists, and the table of one that does not ship is complete.

    Raises ValueError with the nearest name, or with what is wrong. A file that must not be imported is not checked.
    """
    if not means_path(name) and name not in STEPPERS:
        raise ValueError(unknown(name, STEPPERS))
    if not STEPPERS.ships(name):
        with suppress(NotImported):
            scheme = STEPPERS.load(name, Path()) if means_path(name) else STEPPERS.find(name)
            try:
                _require_complete(scheme)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                reason = str(error) if type(error) is ValueError else describe_error(error)
                raise ValueError(f"{name}: {reason}") from error
    return name


def _require_complete(scheme: Scheme) -> None:
    """Raise ValueError for a table with wrong types, coefficients that are not finite, or of the wrong number."""
    z = np.linspace(-1.0, 0.0, 4).reshape(1, 2, 2)

    def values(what: str, function: Callable[[NDArray], Coefficient]) -> None:
        with np.errstate(all="ignore"):
            found = function(z)
        if np.shape(found) != z.shape or not np.isfinite(found).all():
            raise ValueError(f"{what}(z) must be finite and have the shape of z, {z.shape}; found {np.shape(found)}")

    if isinstance(scheme, Split):
        for part, fraction in scheme.parts:
            if not isinstance(part, str) or not np.isfinite(fraction):
                raise ValueError(f"parts must be pairs (name, fraction of the step), found {(part, fraction)!r}")
    elif isinstance(scheme, Multistep):
        values("denominator", scheme.denominator)
        values("now", scheme.now)
        if len(scheme.rates) not in (1, 2) or not np.isfinite([*scheme.rates, scheme.before]).all():
            raise ValueError(f"rates must be one or two finite numbers, and before finite; found {scheme.rates!r}")
        if scheme.start is not None:
            _require_complete(scheme.start)
    else:
        if scheme.linear not in ("explicit", "exponential") or len(scheme.stages) < 2:
            raise ValueError('linear must be "explicit" or "exponential", with two stages or more, the update included')
        if len(scheme.convex) not in (0, len(scheme.stages) - 1):
            raise ValueError(f"convex must be empty or one number per stage after the first, found {scheme.convex!r}")
        for i, stage in enumerate(scheme.stages):
            if len(stage.weights) != i or not np.isfinite(stage.time):
                raise ValueError(f"stage {i} must have a finite time and {i} weights, found {len(stage.weights)}")
            values(f"stage {i}: base", stage.base)
            for j, weight in enumerate(stage.weights):
                if weight is not None:
                    values(f"stage {i}: weight {j}", weight)


def needs_linear(scheme: Scheme) -> bool:
    """Whether the scheme treats L and N differently: it then fits semi-linear equations only."""
    return isinstance(scheme, Multistep) or (isinstance(scheme, OneStep) and scheme.linear == "exponential")


def fits(scheme: Scheme, kind: str, parts: tuple[str, ...]) -> bool:
    """Whether the scheme can step an equation of this kind with these split parts (() for none)."""
    if isinstance(scheme, Split):
        return {part for part, _ in scheme.parts} <= set(parts)
    return kind == "semi-linear" or not needs_linear(scheme)


def takes_courant_steps(scheme: Scheme, kind: str) -> bool:
    """Whether steps by Courant number are possible: explicit schemes on cells, and sweeps along axes."""
    if isinstance(scheme, Split):
        return kind == "balance-law"
    return kind in ("balance-law", "kinetic") and not needs_linear(scheme)


def longest(scheme: Split) -> float:
    """The largest fraction of a step that one flow takes."""
    return max(c for _, c in scheme.parts)


def compatible_schemes(kind: str, parts: tuple[str, ...]) -> list[str]:
    """Names of the schemes that fit: see `fits`."""
    return [name for name, scheme in STEPPERS.available() if fits(scheme, kind, parts)]
