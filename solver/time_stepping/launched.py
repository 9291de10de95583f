"""Exponential Runge-Kutta schemes on a CUDA device, with one kernel for each stage."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..backend import Launcher, in_two_parts, launcher
from ..equations.base import Equation
from ..equations.right_hand_side import linear_operator
from ..spectral import Operators
from .array_code import ArrayStepper
from .schemes import OneStep, Scheme

Array = Any
TERMS = 6  # of `cuda_kernels.combine`: four rates, the rest of the base in single precision, the frozen tendency


class _Row(NamedTuple):
    """The coefficients of a stage on the device, (1 or field, mode); see `Stage`."""

    time: float
    base: Array
    low: Array | None
    total: Array
    weights: list[Array | None]


class LaunchedStepper(ArrayStepper):
    """`ArrayStepper` for fixed steps of an exponential scheme, whose stages `cuda_kernels.combine` computes.

    The array code reads and writes the state for each term of a stage, the kernel once. The nonlinear term is that of
    `Equation.launched`, or array code where there is none. Not differentiable.
    """

    def __init__(
        self,
        scheme: OneStep,
        equation: Equation,
        operators: Operators,
        step: float,
        added: NDArray | None,
        launch: Launcher,
    ) -> None:
        super().__init__(scheme, equation, operators, step, added)
        self._launch, self._nonlinear = launch, equation.launched(operators, launch)
        linear = linear_operator(equation, operators.grid)
        z = step * (linear if added is None else linear + added)
        backend = operators.backend

        def on_device(values: NDArray | None) -> Array | None:
            return None if values is None else backend.asarray(np.ascontiguousarray(values.reshape(len(z), -1)))

        self._fused: list[_Row] = []
        for stage in scheme.stages[1:]:
            base, low = in_two_parts(stage.base(z), backend.precision)
            weights = [None if w is None else step * w(z) for w in stage.weights]
            total = sum((w for w in weights if w is not None), np.zeros_like(z))
            each = [on_device(w) for w in weights]
            self._fused.append(_Row(stage.time, on_device(base), on_device(low), on_device(total), each))

    def rate(self, u: Array, t: float) -> Array:
        return super().rate(u, t) if self._nonlinear is None else self._nonlinear(u, t)

    def _one_step(self, u: Array, t: float, frozen: Array | None, stretch: Any, h: Array | float) -> Array:
        from . import cuda_kernels

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
            self._launch(cuda_kernels.combine, shape, xp.reshape(state, shape), now, count, row.base, *terms)
            offset = row.time
        return state


def bind(
    scheme: Scheme, equation: Equation, operators: Operators, step: float, added: NDArray | None, fixed: bool
) -> ArrayStepper:
    """The stepper of a run: with CUDA kernels for fixed steps of an exponential scheme on a CUDA device."""
    to = launcher(operators.backend)
    if to is None or not fixed or not isinstance(scheme, OneStep) or scheme.linear != "exponential":
        return ArrayStepper(scheme, equation, operators, step, added)
    if len(scheme.stages) - 1 > TERMS - 2:
        return ArrayStepper(scheme, equation, operators, step, added)
    return LaunchedStepper(scheme, equation, operators, step, added, to)
