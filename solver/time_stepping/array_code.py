"""Array code of time stepping: the same tables as compiled.py, without writes in place, in any array namespace.

It runs on GPUs and is differentiable on torch. State and memory are arguments and return values.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..backend import in_two_parts
from ..equations.answers import like, signal_speed
from ..equations.base import Equation
from ..equations.right_hand_side import linear_operator
from ..spectral import Operators
from .schemes import Multistep, OneStep, Scheme, Split, longest

Array = Any
Memory = dict[str, Array]


def _times(base: list[Any], u: Array) -> Array:
    """base u, with a base of one or two parts."""
    if len(base) == 1:
        return base[0] * u
    return (u if isinstance(base[0], float) and base[0] == 1.0 else base[0] * u) + base[1] * u


class ArrayStepper:
    """A scheme bound to an equation, a grid in a namespace (`operators`) and a step h.

    `advance` takes the state in the stepper's representation, (member, field, *), and the memory of the last step ({}
    at the first step and after the state was replaced). It returns both as new arrays. added: eigenvalues that join the
    linear operator of the equation, (1 or field, *spectral_shape).
    """

    def __init__(
        self,
        scheme: Scheme,
        equation: Equation,
        operators: Operators,
        step: float,
        added: NDArray | None = None,
    ) -> None:
        self.scheme, self.equation, self.operators, self.h = scheme, equation, operators, step
        self._linear: Array | None = None
        self._single = operators.backend.precision == "float32"
        if isinstance(scheme, Split):
            return
        z = np.zeros(1)
        if equation.spectral:
            linear = linear_operator(equation, operators.grid)
            z = step * (linear if added is None else linear + added)
        if isinstance(scheme, OneStep):
            if scheme.linear == "explicit" and equation.spectral:
                self._linear = operators.constant("stepped linear", lambda: z / step)
            self._stages = [
                (
                    stage.time,
                    self._base(stage.base(z)),
                    [None if w is None else self._coefficient(step * w(z)) for w in stage.weights],
                    self._coefficient(step * sum((w(z) for w in stage.weights if w is not None), np.zeros_like(z))),
                )
                for stage in scheme.stages[1:]
            ]
        else:
            self._table = self._multistep(scheme, z)
            self._start = self._multistep(scheme.start, z) if scheme.start else self._table

    def _coefficient(self, values: Any) -> Array | float | complex:
        """A number where all modes and fields share the value, else an array of the namespace."""
        values = np.asarray(values)
        first = values.flat[0]
        if (values == first).all():
            return complex(first) if np.iscomplexobj(values) and first.imag else float(first.real)
        return self.operators.constant(f"coefficient {hash(values.tobytes())} {values.shape}", lambda: values)

    def _base(self, values: Any) -> list[Any]:
        """A coefficient of the state as the list of its parts: see `in_two_parts`."""
        first, rest = in_two_parts(np.asarray(values), self.operators.backend.precision)
        if rest is None or not rest.any():
            return [self._coefficient(first)]
        return [self._coefficient(first), self._coefficient(rest)]

    def _multistep(self, scheme: Multistep, z: Any) -> Any:
        d = scheme.denominator(z)
        return (
            self._base((scheme.now(z) + (scheme.before if self._single else 0.0)) / d),
            [self._coefficient(self.h * q / d) for q in scheme.rates],
            self._coefficient(self.h / d),
            self._coefficient(scheme.before / d) if scheme.before else None,
        )

    def courant_rate(self, u: Array) -> Array | float:
        """Courant number of a step, per unit of time; for split schemes that of the longest sweep.

        As array code, for an equation that has `array_speed`.
        """
        if not isinstance(self.scheme, Split):
            return self.equation.array_rate(self.operators, u)
        speeds, xp = self.equation.array_speed(self.operators, u), self.operators.xp
        first, *others = (s / h for s, h in zip(speeds, self.operators.grid.spacing, strict=True))
        for rate in others:
            first = xp.maximum(first, rate)
        return longest(self.scheme) * first

    def host_courant_rate(self, state: NDArray) -> float:
        """The same from a state on the host, for every equation."""
        grid = self.operators.grid
        if not isinstance(self.scheme, Split):
            return self.equation.largest_rate(state, grid)
        speeds = signal_speed(self.equation, state, grid)
        return max(s / h for s, h in zip(speeds, grid.spacing, strict=True)) * longest(self.scheme)

    def rate(self, u: Array, t: float) -> Array:
        """N(u, t)."""
        return like(self.equation, "nonlinear", self.equation.nonlinear(self.operators, u, t), u)

    def relax(self, u: Array, h: Array | float) -> Array:
        """u after a time h under the stiff local sources alone."""
        return self.equation.relax(self.operators, u, h)

    def flow(self, part: str, u: Array, h: Array | float, t: Array | float) -> Array:
        """u after a time h under one part of the equation alone, with the forcing of that part."""
        return like(self.equation, "flow", self.equation.forced_flow(part, self.operators, u, h, t), u)

    def advance(
        self, u: Array, t: float, frozen: Array | None, memory: Memory, h: Array | float | None = None
    ) -> tuple[Array, Memory]:
        """One step of u from time t with the frozen tendency (of u's shape) if there is one.

        h: the length of the step where it is not `self.h`, a number or an array without axes in the precision of u;
        then t may be an array without axes too.
        """
        stretch = None if h is None else h / self.h
        h = self.h if h is None else h
        if isinstance(self.scheme, Split):
            return self._split(self.scheme, u, t, frozen, h), memory
        if isinstance(self.scheme, Multistep):
            return self._several(self.scheme, u, t, frozen, memory)
        return self._one_step(u, t, frozen, stretch, h), memory

    def _one_step(self, u: Array, t: float, frozen: Array | None, stretch: Any, h: Array | float) -> Array:
        u = self.relax(u, 0.5 * h)
        state, offset = u, 0.0
        rates: list[Array] = []
        for time, base, weights, total in self._stages:
            rate = self.rate(state, t + offset * h)
            rates.append(rate if self._linear is None else rate + self._linear * state)
            state = u if isinstance(base[0], float) and base == [1.0] else _times(base, u)
            for weight, known in zip(weights, rates, strict=True):
                if weight is not None:
                    state = state + (weight if stretch is None else stretch * weight) * known
            if frozen is not None:
                state = state + (total if stretch is None else stretch * total) * frozen
            offset = time
        return self.relax(state, 0.5 * h)

    def _split(self, scheme: Split, u: Array, t: float, frozen: Array | None, h: Array | float) -> Array:
        u = self.relax(u, 0.5 * h)
        if frozen is not None:
            u = u + 0.5 * h * frozen
        for (part, coefficient), at in zip(scheme.parts, scheme.times, strict=True):
            u = self.flow(part, u, coefficient * h, t + at * h)
        u = self.relax(u, 0.5 * h)
        return u if frozen is None else u + 0.5 * h * frozen

    def _several(
        self, scheme: Multistep, u: Array, t: float, frozen: Array | None, memory: Memory
    ) -> tuple[Array, Memory]:
        rate = self.rate(u, t)
        now, rates, total, before = self._table if memory or not scheme.start else self._start
        out = _times(now, u) + rates[0] * rate
        if len(rates) > 1:
            out = out + rates[1] * memory["rate"]
        if before is not None:
            out = out + before * (memory["state"] - u if self._single else memory["state"])
        if frozen is not None:
            out = out + total * frozen
        if not scheme.start:
            return out, {}
        return out, {"rate": rate, "state": u} if scheme.before else {"rate": rate}
