"""What an equation computes by CUDA kernels in place of array code."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from .base import Equation

Array = Any


class DeviceTerms(NamedTuple):
    """Functions with the results of the array code, to round-off; None where array code is used.

    rate(u, t): `Equation.nonlinear`. flow(part, u, h, t): `Equation.forced_flow`. relax(u, h): `Equation.relax`. States
    are in the stepper's representation and are not changed. h: a number, or an array without axes on the device.
    """

    rate: Callable[[Array, float], Array] | None = None
    flow: Callable[[str, Array, Any, float], Array] | None = None
    relax: Callable[[Array, Any], Array] | None = None


def overridden(equation: Equation, written_for: type[Equation], *methods: str) -> bool:
    """Whether a subclass has one of these methods of its own, which the kernels of its parent do not know."""
    return any(getattr(type(equation), name) is not getattr(written_for, name) for name in methods)
