"""Compiled time stepping: schemes applied in place to batches of members, in preallocated arrays.

A batch is (member * field, row, column). A stepper is bound to a right-hand side, a step h and a shape. `memory` holds
what a restart needs besides u: nothing for one-step schemes; N_{n-1}, and u_{n-1} where the scheme uses it, for
multistep schemes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..backend import allowed_threads, divided, in_two_parts, real_type, rounded, share
from ..equations.right_hand_side import RightHandSide, takes_time
from . import adaptive, kernels
from .schemes import Multistep, OneStep, Scheme, Split, Stage, longest


class Stepper(Protocol):
    """`advance` takes one step of u in place from time t, with the frozen tendency if there is one."""

    memory: dict[str, NDArray]

    def advance(self, u: NDArray, t: float, frozen: NDArray | None, h: float | None = None) -> None: ...

    def restart(self) -> None:
        """Discard the history after the state was replaced: the next step is the scheme's first."""


def bind(scheme: Scheme, rhs: RightHandSide, shape: tuple[int, int, int], dtype: str, step: float) -> Stepper:
    """The stepper of a scheme for a batch (batch, row, column)."""
    if isinstance(scheme, Split):
        return SplitStepper(scheme, rhs, shape, dtype, step)
    if isinstance(scheme, OneStep) and scheme.linear == "explicit" and rhs.linear is None:
        return ExplicitStepper(scheme, rhs, shape, dtype, step)
    return DiagonalStepper(scheme, rhs, shape, dtype, step)


class SplitStepper:
    """Composed flows of an equation's parts, with Strang-split stiff sources and frozen tendency."""

    def __init__(self, scheme: Split, rhs: RightHandSide, shape: tuple[int, int, int], dtype: str, step: float) -> None:
        self.scheme, self.rhs, self.h = scheme, rhs, step
        self.memory: dict[str, NDArray] = {}
        self.before = np.zeros(shape, dtype)
        self._relax = getattr(rhs, "relax", None)
        self._flows = [(*part, at) for part, at in zip(scheme.parts, scheme.times, strict=True)]
        self._timed = takes_time(rhs.flow)  # type: ignore[attr-defined]

    def restart(self) -> None:
        """A split step has no history."""

    def courant_rate(self, u: NDArray) -> float:
        """Courant number of the longest sweep of a step, per unit of time."""
        return self.rhs.sweep_rate(u) * longest(self.scheme)  # type: ignore[attr-defined]

    def advance(self, u: NDArray, t: float, frozen: NDArray | None, h: float | None = None) -> None:
        h = self.h if h is None else h
        self._sources(u, 0.5 * h, frozen)
        for part, coefficient, at in self._flows:
            time = (t + at * h,) if self._timed else ()
            self.rhs.flow(part, u, coefficient * h, *time)  # type: ignore[attr-defined]
        self._sources(u, 0.5 * h, frozen)

    def _sources(self, u: NDArray, h: float, frozen: NDArray | None) -> None:
        if self._relax:
            self._relax(u, h)
        if frozen is not None:
            flat, force = u.reshape(-1), frozen.reshape(-1)

            def work(first: int, last: int, place: int) -> None:
                kernels.add(flat[first:last], h, force[first:last])

            share(work, flat.size, kernels.COPY)


class ExplicitStepper:
    """An explicit Runge-Kutta scheme for an equation without linear operator; h may change from step to step."""

    def __init__(
        self, scheme: OneStep, rhs: RightHandSide, shape: tuple[int, int, int], dtype: str, step: float
    ) -> None:
        self.scheme, self.rhs, self.h = scheme, rhs, step
        self.memory: dict[str, NDArray] = {}
        zero = np.zeros(1)
        self._tables = [
            (stage.time, np.array([0.0 if w is None else w(zero)[0] for w in stage.weights]))
            for stage in scheme.stages[1:]
        ]
        self._stage = getattr(rhs, "stage", None) if scheme.convex else None
        self._by_columns = getattr(rhs, "by_columns", None)
        self._rates = np.zeros((0 if self._stage else len(self._tables), *shape), dtype)
        self._flat = self._rates.reshape(len(self._rates), -1) if len(self._rates) else self._rates
        self._work = np.zeros((len(self._tables) - 1 if self._stage else 1, *shape), dtype)
        self.before = np.zeros(shape, dtype)
        cost = kernels.COMBINE_STAGES * (2 + len(self._rates))
        self._combine = divided(kernels.combine_stages, math.prod(shape), cost)
        self._no_frozen = np.zeros((1, 1, 1), dtype)
        self._relax = getattr(rhs, "relax", None)

    def restart(self) -> None:
        """A one-step scheme has no history."""

    def courant_rate(self, u: NDArray) -> float:
        """Courant number of a step, per unit of time."""
        return self.rhs.rate(u)  # type: ignore[attr-defined]

    def advance(self, u: NDArray, t: float, frozen: NDArray | None, h: float | None = None) -> None:
        h = self.h if h is None else h
        if self._relax:
            self._relax(u, 0.5 * h)
        state, offset = u, 0.0
        last = len(self._tables) - 1
        by_columns = self._by_columns if self._by_columns and allowed_threads() > 1 else None
        for i, (time, weights) in enumerate(self._tables):
            out = u if i == last else self._work[i if self._stage else 0]
            if self._stage:
                a = self.scheme.convex[i]
                self._stage(state, t + offset * h, out, u, a, 1 - a, h, frozen)
                state, offset = out, time
                continue
            scaled, total = (h * weights).astype(u.dtype, copy=False), h * weights.sum()
            force = self._no_frozen if frozen is None else frozen
            if by_columns:
                combination = out, u, self._rates, scaled, total, force, frozen is not None
                by_columns(state, i, combination, i > 0, i < last)
            else:
                self.rhs(state, t + offset * h, self._rates[i])
                arguments = out.reshape(-1), u.reshape(-1), self._flat, scaled, total, force.reshape(-1)
                self._combine(*arguments, frozen is not None)
            state, offset = out, time
        if self._relax:
            self._relax(u, 0.5 * h)


def _copy(source: NDArray, target: NDArray) -> None:
    """target = source, both (batch, row, column), divided over threads by rows."""

    def work(first: int, last: int, place: int) -> None:
        target[:, first:last] = source[:, first:last]

    share(work, source.shape[1], kernels.COPY * source.size / source.shape[1])


def advance_adaptively(
    stepper: ExplicitStepper | SplitStepper, u: NDArray, t: float, frozen: NDArray | None, span: float, cfl: float
) -> int:
    """Advance u in place from time t over `span`, in steps of Courant number at most `cfl`: see `adaptive.cover`.

    Returns the number of steps. Where rhs.fed is set, a step after which its Courant number is more than GROWTH cfl is
    rejected, too.
    """
    fed = getattr(stepper.rhs, "fed", False)

    def attempt(time: float, h: float) -> bool:
        _copy(u, stepper.before)
        stepper.advance(u, time, frozen, h)
        grown = fed and not h * stepper.courant_rate(u) <= adaptive.GROWTH * cfl
        if not grown and stepper.rhs.admissible(u):  # type: ignore[attr-defined]
            return True
        _copy(stepper.before, u)
        return False

    return adaptive.cover(t, span, cfl, lambda: stepper.courant_rate(u), attempt)


@dataclass
class _Table:
    """Coefficients of a stage: base and total (field, row, column), weights (stage, field, row, column).

    The field axis has length 1 where all fields share the linear operator. before: broadcastable to the batch. In
    single precision low is a part of the base, see `in_two_parts`, and before multiplies u_{n-1} - u_n instead of
    u_{n-1}, so that the base is 1 + z here too.
    """

    time: float
    base: NDArray
    low: NDArray | None
    weights: NDArray
    total: NDArray
    before: NDArray | None = None


class DiagonalStepper:
    """A scheme whose coefficients are functions of z = h L, evaluated mode by mode; h is fixed."""

    def __init__(
        self,
        scheme: OneStep | Multistep,
        rhs: RightHandSide,
        shape: tuple[int, int, int],
        dtype: str,
        step: float,
    ) -> None:
        self.scheme, self.rhs, self.h, self._dtype = scheme, rhs, step, dtype
        self._single = real_type(dtype) == "float32"
        linear = np.zeros((1, *shape[1:])) if rhs.linear is None else rhs.linear
        z = np.ascontiguousarray(step * linear)
        self._rows, self._columns = rhs.rows, rhs.columns
        self._linear: NDArray | None = None
        self.memory: dict[str, NDArray] = {}
        if isinstance(scheme, OneStep):
            self._tables = [self._stage(stage, z) for stage in scheme.stages[1:]]
            count = len(self._tables)
            self._work = np.zeros(shape, dtype)
            if scheme.linear == "explicit" and rhs.linear is not None:
                self._linear = np.ascontiguousarray(rounded(linear, dtype))
                self._rows, self._columns = np.ones(shape[1], dtype=bool), shape[2]
        else:
            count = len(scheme.rates)
            self._tables = [self._multistep(scheme, z, shape[0])]
            if scheme.start:
                self._start = self._multistep(scheme.start, z, shape[0])
                self.memory["age"] = np.zeros(1, dtype=np.int64)
            if scheme.before:
                self.memory["state"] = np.zeros(shape, dtype)
        self._rates = np.zeros((count, *shape), dtype)
        if "age" in self.memory:
            self.memory["rate"] = self._rates[1]
        self._no_frozen = np.zeros((1, 1, 1), dtype)
        cost = kernels.COMBINE * math.prod(shape) / shape[1]
        self._cost = (1 + count) * cost
        self._combine = divided(kernels.combine, shape[1], self._cost)
        self._add_linear = divided(kernels.add_linear, shape[1], cost)

    def _stage(self, stage: Stage, z: NDArray) -> _Table:
        zero = np.zeros_like(z)
        weights = np.stack([zero if w is None else self.h * w(z) for w in stage.weights])
        base, low = in_two_parts(np.ascontiguousarray(stage.base(z)), self._dtype)
        return _Table(stage.time, base, low, rounded(weights, self._dtype), rounded(weights.sum(axis=0), self._dtype))

    def _multistep(self, scheme: Multistep, z: NDArray, batch: int) -> _Table:
        d = scheme.denominator(z)
        weights = np.stack([self.h * q / d for q in scheme.rates])
        before = scheme.before / d if scheme.before else None
        if before is not None and len(z) > 1:
            before = np.tile(before, (batch // len(z), 1, 1))
        now = scheme.now(z) / d
        if before is not None:
            before = rounded(before, self._dtype)
            now = now + scheme.before / d if self._single else now
        base, low = in_two_parts(now, self._dtype)
        return _Table(0.0, base, low, rounded(weights, self._dtype), rounded(self.h / d, self._dtype), before)

    def restart(self) -> None:
        """Discard the history after the state was replaced: the next step is the scheme's first."""
        if "age" in self.memory:
            self.memory["age"][0] = 0

    def advance(self, u: NDArray, t: float, frozen: NDArray | None, h: float | None = None) -> None:
        assert h is None or h == self.h, "the coefficients are those of one step"
        if isinstance(self.scheme, OneStep):
            state, offset = u, 0.0
            last = len(self._tables) - 1
            for i, table in enumerate(self._tables):
                if self._linear is not None:
                    self._rates[i] = 0.0  # N does not write everywhere; clear L u of the last step
                self.rhs(state, t + offset * self.h, self._rates[i])
                if self._linear is not None:
                    self._add_linear(self._rates[i], self._linear, state)
                out = u if i == last else self._work
                self._combine(*self._combination(out, table, u, self._rates, frozen))
                state, offset = out, table.time
            return
        table, rates = self._tables[0], self._rates
        self.rhs(u, t, rates[0])
        if "age" in self.memory and self.memory["age"][0] == 0:
            table = self._start
        arguments = self._combination(u, table, u, rates[: len(table.weights)], frozen)

        def work(first: int, last: int, place: int) -> None:
            here = slice(None), slice(first, last)
            now = u[here].copy() if "state" in self.memory else None
            kernels.combine(*arguments, first, last)
            if "age" in self.memory:
                rates[1][here] = rates[0][here]
            if now is not None:
                before = self.memory["state"][here]
                if table.before is not None:
                    u[here] += table.before[here] * (before - now if self._single else before)
                before[...] = now

        share(work, u.shape[1], self._cost)
        if "age" in self.memory:
            self.memory["age"][0] = 1

    def _combination(self, out: NDArray, table: _Table, u: NDArray, rates: NDArray, frozen: NDArray | None) -> tuple:
        """The arguments of `combine` but for the rows."""
        use = frozen is not None
        force = self._no_frozen if frozen is None else frozen
        return out, table.base, table.low, u, table.weights, rates, table.total, force, use, self._rows, self._columns
