"""Steps on a CUDA device with the kernels of an equation, and one kernel for each stage of a Runge-Kutta scheme."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..backend import Launcher, in_two_parts, launcher
from ..equations.base import Equation
from ..equations.device_terms import DeviceTerms
from ..equations.right_hand_side import linear_operator
from ..spectral import Operators
from .array_code import ArrayStepper
from .schemes import OneStep, Scheme

Array = Any
TERMS = 6  # of a kernel: four rates, the rest of the base in single precision, the frozen tendency


class _Row(NamedTuple):
    """The coefficients of a stage, (1 or field, mode) on the device or numbers; see `Stage`."""

    time: float
    base: Any
    low: Any
    total: Any
    weights: list[Any]


class LaunchedStepper(ArrayStepper):
    """`ArrayStepper` with the kernels of an equation, and with stages of one-step schemes by one kernel each.

    The array code reads and writes the state for each term of a stage, the kernel once. What an equation has no kernels
    for is array code; so are the stages of steps by Courant number. Not differentiable.
    """

    def __init__(
        self,
        scheme: Scheme,
        equation: Equation,
        operators: Operators,
        step: float,
        added: NDArray | None,
        launch: Launcher,
        terms: DeviceTerms,
    ) -> None:
        super().__init__(scheme, equation, operators, step, added)
        self._launch, self._terms = launch, terms
        self._fused: list[_Row] = []
        if not isinstance(scheme, OneStep) or len(scheme.stages) - 1 > TERMS - 2 or self._linear is not None:
            return
        self._exponential = scheme.linear == "exponential"
        z = np.zeros(1)
        if self._exponential:
            linear = linear_operator(equation, operators.grid)
            z = step * (linear if added is None else linear + added)
        for stage in scheme.stages[1:]:
            base, low = stage.base(z), None
            if self._exponential:
                base, low = in_two_parts(base, operators.backend.precision)
            weights = [None if w is None else step * w(z) for w in stage.weights]
            total = sum((w for w in weights if w is not None), np.zeros_like(z))
            each = [self._given(w) for w in weights]
            self._fused.append(_Row(stage.time, self._given(base), self._given(low), self._given(total), each))

    def _given(self, values: NDArray | None) -> Any:
        """Coefficients of all modes on the device, or one number of an explicit scheme."""
        if values is None:
            return None
        if not self._exponential:
            return float(values[0])
        return self.operators.backend.asarray(np.ascontiguousarray(values.reshape(len(values), -1)))

    def rate(self, u: Array, t: float) -> Array:
        return super().rate(u, t) if self._terms.rate is None else self._terms.rate(u, t)

    def relax(self, u: Array, h: Array | float) -> Array:
        return super().relax(u, h) if self._terms.relax is None else self._terms.relax(u, h)

    def flow(self, part: str, u: Array, h: Array | float, t: Array | float) -> Array:
        return super().flow(part, u, h, t) if self._terms.flow is None else self._terms.flow(part, u, h, t)

    def _one_step(self, u: Array, t: float, frozen: Array | None, stretch: Any, h: Array | float) -> Array:
        if stretch is not None or not self._fused:
            return super()._one_step(u, t, frozen, stretch, h)
        from . import cuda_kernels

        kernel = cuda_kernels.combine if self._exponential else cuda_kernels.combine_numbers
        u = self.relax(u, 0.5 * h)
        xp, state, offset = self.operators.xp, u, 0.0
        shape = (*u.shape[:2], math.prod(u.shape[2:]))
        rates: list[Array] = []
        for row in self._fused:
            rates.append(self.rate(state, t + offset * self.h))
            pairs = [] if row.low is None else [(row.low, u)]
            pairs += [(w, r) for w, r in zip(row.weights, rates, strict=True) if w is not None]
            pairs += [] if frozen is None else [(row.total, frozen)]
            count = len(pairs)
            pairs += [(row.base, u)] * (TERMS - count)
            terms = [a for weight, rate in pairs for a in (weight, xp.reshape(rate, shape))]
            state = xp.empty_like(u)
            now = xp.reshape(u, shape)
            self._launch(kernel, shape, xp.reshape(state, shape), now, count, row.base, *terms)
            offset = row.time
        return self.relax(state, 0.5 * h)


def bind(
    scheme: Scheme, equation: Equation, operators: Operators, step: float, added: NDArray | None, fixed: bool
) -> ArrayStepper:
    """The stepper of a run: with CUDA kernels on a device that has them, where an equation or the scheme has some.

    fixed: whether the arrays of the equation stay the same, and steps have one length.
    """
    to = launcher(operators.backend)
    if to is None or equation.carried:
        return ArrayStepper(scheme, equation, operators, step, added)
    terms = equation.launched(operators, to)
    exponential = fixed and isinstance(scheme, OneStep) and scheme.linear == "exponential"
    if not exponential and terms == DeviceTerms():
        return ArrayStepper(scheme, equation, operators, step, added)
    return LaunchedStepper(scheme, equation, operators, step, added, to, terms)
