"""Whether a stepper fits an equation, and steps by Courant number."""

from __future__ import annotations

from ..equations.base import Equation
from ..time_stepping.schemes import STEPPERS, Scheme, Split, compatible_schemes, fits, takes_courant_steps


def fitting_scheme(stepper: str | Scheme, equation: Equation, cfl: float | None) -> Scheme:
    """The scheme of this name. Raises ValueError, with the remedy, if it does not fit the equation or `cfl`."""
    scheme = STEPPERS[stepper] if isinstance(stepper, str) else stepper
    if not fits(scheme, equation.kind, equation.split):
        raise ValueError(
            f"stepper {scheme.name} does not fit {equation.name}, which is {equation.kind}. "
            f"Remedy: {', '.join(compatible_schemes(equation.kind, equation.split))}"
        )
    if cfl is not None and not takes_courant_steps(scheme, equation.kind):
        raise ValueError(
            f"steps by CFL need an explicit stepper or sweeps on cells, not {scheme.name} for {equation.name}. "
            "Remedy: leave time.cfl out"
        )
    if cfl is not None and (need := equation.courant_need()):
        raise ValueError(f"time.cfl: {need}")
    return scheme


def remedy_of(scheme: Scheme, equation: Equation, cfl: float | None, closed: bool) -> str:
    """What helps against a run that blows up, with closures or without."""
    courant = cfl is None and equation.adaptive and not isinstance(scheme, Split)
    closures = ", or another closure" if closed else ""
    return f"a smaller time.step{', or time.cfl beside it' if courant else ''}{closures}"
