"""The members of a run between two events: on the CPU in compiled lanes, elsewhere as arrays of all members at once."""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..backend import NUMPY, Backend
from ..equations.base import Equation
from ..grid import Grid
from ..random import SpectralNoise
from ..spectral import Operators, Transforms, empty
from ..time_stepping import compiled, kernels
from ..time_stepping.array_code import ArrayStepper
from ..time_stepping.array_code import Memory as ArrayMemory
from ..time_stepping.schemes import Scheme

Array = Any
LANE_POINTS = 65536  # points per lane: few enough for its work arrays to stay in cache, enough to keep threads apart
# Damped modes sink into subnormal numbers, whose arithmetic is ten times slower; counted in steps, so a restart agrees.
FLUSH_EVERY, FLUSH_BELOW = 64, 1e-280


class BlowUp(RuntimeError):
    """The state is no longer finite, or makes no sense."""


@dataclass(frozen=True)
class NoiseSource:
    """A noise law with the members' keys and a factor, drawn afresh every step.

    origin: the step number, counted from time 0, of the run's first step. Runs of one seed and step that begin at
    different times draw the same increments where they overlap.
    """

    law: SpectralNoise
    keys: NDArray[np.uint64]
    factor: float
    origin: int


@dataclass
class Frozen:
    """What closures and noise add to the right-hand side at step n: value + (n - origin) slope + noise."""

    origin: int = 0
    value: Array | None = None
    slope: Array | None = None
    noise: tuple[NoiseSource, ...] = ()


class Ensemble(Protocol):
    """All members of a run. `internal` is the state as it is stepped: Fourier coefficients of a semi-linear equation,
    else the state itself, in the arrays of the backend."""

    internal: Array

    def inward(self, state: Any) -> Array:
        """A state or tendency (member, field, *grid), of any library, as it is stepped."""

    def physical(self) -> Array:
        """The state (member, field, *grid) as a new array of the backend."""

    def replace(self, state: Any) -> None:
        """Set the state; multistep histories start anew."""

    def advance(self, start: float, first: int, count: int, frozen: Frozen) -> None:
        """Step `count` times from step number `first`; the run began at time `start`."""

    def checkpoint(self) -> dict[str, NDArray]:
        """State and histories."""

    def restore(self, arrays: dict[str, NDArray]) -> None:
        """Take over what `checkpoint` gave."""


def ensemble(
    equation: Equation,
    grid: Grid,
    scheme: Scheme,
    step: float,
    state: NDArray,
    backend: Backend,
    cfl: float | None = None,
    threads: int | None = None,
) -> Ensemble:
    """The ensemble of a backend, at the initial state (member, field, *grid)."""
    if backend.compiled:
        return CompiledEnsemble(equation, grid, scheme, step, state, cfl, threads)
    return ArrayEnsemble(equation, grid, scheme, step, state, backend, cfl)


class Lane:
    """Some members of the ensemble, stepped together by one thread in work arrays of their own."""

    def __init__(
        self, equation: Equation, grid: Grid, scheme: Scheme, step: float, state: NDArray, cfl: float | None
    ) -> None:
        shape = (state.shape[0] * state.shape[1], math.prod(state.shape[2:-1]), state.shape[-1])
        self.u = state.reshape(shape)
        rhs = equation.right_hand_side(grid, state.shape[0])
        self.stepper = compiled.bind(scheme, rhs, shape, str(state.dtype), step)
        self._frozen = np.zeros(shape, state.dtype)
        self._step, self._cfl = step, cfl
        self._grid = grid
        self._draw: NDArray | None = None

    def advance(self, start: float, first: int, count: int, frozen: Frozen, members: slice) -> None:
        h = self._step
        value = None if frozen.value is None else frozen.value[members].reshape(self.u.shape)
        slope = None if frozen.slope is None else frozen.slope[members].reshape(self.u.shape)
        changing = slope is not None or frozen.noise
        for n in range(first, first + count):
            if n % FLUSH_EVERY == 0:
                kernels.flush(self.u.view(np.float64).reshape(-1), FLUSH_BELOW)
            tendency = value
            if changing:
                tendency = self._frozen
                if value is None:
                    tendency[...] = 0.0
                elif slope is None:
                    tendency[...] = value
                else:
                    kernels.extrapolate(tendency, value, slope, float(n - frozen.origin))
                for source in frozen.noise:
                    self._add_noise(tendency, source, n, members)
            if self._cfl is None:
                self.stepper.advance(self.u, start + n * h, tendency)
            else:
                assert isinstance(self.stepper, (compiled.ExplicitStepper, compiled.SplitStepper))
                compiled.advance_adaptively(self.stepper, self.u, start + n * h, tendency, h, self._cfl)

    def _add_noise(self, tendency: NDArray, source: NoiseSource, n: int, members: slice) -> None:
        factor = source.factor / math.sqrt(self._step)
        if np.iscomplexobj(tendency):
            source.law.add_to(tendency, source.keys[members], n + source.origin, factor)
            return
        if self._draw is None:
            self._draw = empty((self.u.shape[0], *self._grid.spectral_shape), "complex128")
            self._physical = empty((self.u.shape[0], *self._grid.shape))
            self._inverse = Transforms(self._grid).inverse(self._draw, self._physical)
        self._draw[...] = 0.0
        source.law.add_to(self._draw, source.keys[members], n + source.origin, factor)
        self._inverse()
        tendency += self._physical.reshape(tendency.shape)


class CompiledEnsemble:
    """Lanes of members in Numba kernels and planned transforms, spread over threads.

    A lane is stepped by one thread and shares nothing, so the number of threads changes no bit. With steps by CFL
    every member has a lane, and steps, of its own.
    """

    def __init__(
        self,
        equation: Equation,
        grid: Grid,
        scheme: Scheme,
        step: float,
        state: NDArray,
        cfl: float | None,
        threads: int | None,
    ) -> None:
        self._transforms = Transforms(grid) if equation.spectral else None
        self.internal = self.inward(state)
        count = state.shape[0]
        size = 1 if cfl else max(1, min(LANE_POINTS // grid.points, math.ceil(count / 2)))
        self._slices = [slice(a, min(a + size, count)) for a in range(0, count, size)]
        self._lanes = [Lane(equation, grid, scheme, step, self.internal[s], cfl) for s in self._slices]
        self._threads = min(threads or available_threads(), len(self._lanes))
        self._pool: ThreadPoolExecutor | None = None

    def inward(self, state: Any) -> NDArray:
        values = NUMPY.asarray(state)
        if self._transforms is None:
            return np.array(values, dtype=np.float64, order="C")
        return self._transforms.to_spectrum(values)

    def physical(self) -> NDArray:
        return self.internal.copy() if self._transforms is None else self._transforms.to_physical(self.internal)

    def replace(self, state: Any) -> None:
        self.internal[...] = self.inward(state)
        for lane in self._lanes:
            lane.stepper.restart()

    def checkpoint(self) -> dict[str, NDArray]:
        arrays = {"state": self.internal}
        for i, lane in enumerate(self._lanes):
            arrays |= {f"lane.{i}.{k}": v for k, v in lane.stepper.memory.items()}
        return arrays

    def restore(self, arrays: dict[str, NDArray]) -> None:
        self.internal[...] = arrays["state"]
        for i, lane in enumerate(self._lanes):
            for k, v in lane.stepper.memory.items():
                v[...] = arrays[f"lane.{i}.{k}"]

    def advance(self, start: float, first: int, count: int, frozen: Frozen) -> None:
        todo = list(zip(self._lanes, self._slices, strict=True))

        def work(thread: int) -> None:
            for lane, members in todo[thread :: self._threads]:
                lane.advance(start, first, count, frozen, members)

        try:
            if self._threads == 1:
                work(0)
            else:
                if self._pool is None:
                    self._pool = ThreadPoolExecutor(self._threads - 1)
                futures = [self._pool.submit(work, i) for i in range(1, self._threads)]
                work(0)
                for f in futures:
                    f.result()
        except ArithmeticError as error:
            raise BlowUp(f"{error}. Remedy: a smaller time.cfl, or another closure") from None


class ArrayEnsemble:
    """All members at once, by the equation's array code in the backend's namespace.

    Noise is drawn on the host, from the same streams as everywhere, and brought to the device.
    """

    def __init__(
        self,
        equation: Equation,
        grid: Grid,
        scheme: Scheme,
        step: float,
        state: NDArray,
        backend: Backend,
        cfl: float | None,
    ) -> None:
        self._equation, self._grid, self._step, self._cfl = equation, grid, step, cfl
        self._backend, self._operators = backend, Operators(grid, backend=backend)
        self._stepper = ArrayStepper(scheme, equation, self._operators, step)
        self._memory: ArrayMemory = {}
        self.internal = self.inward(state)

    def inward(self, state: Any) -> Array:
        values = self._backend.asarray(state)
        return self._operators.forward(values) if self._equation.spectral else self._backend.copy(values)

    def physical(self) -> Array:
        return self._operators.inverse(self.internal) if self._equation.spectral else self._backend.copy(self.internal)

    def replace(self, state: Any) -> None:
        self.internal, self._memory = self.inward(state), {}

    def checkpoint(self) -> dict[str, NDArray]:
        arrays = {"state": self.internal} | {f"history.{k}": v for k, v in self._memory.items()}
        return {k: self._backend.to_numpy(v) for k, v in arrays.items()}

    def restore(self, arrays: dict[str, NDArray]) -> None:
        self.internal = self._backend.asarray(arrays["state"])
        history = {k.removeprefix("history."): v for k, v in arrays.items() if k.startswith("history.")}
        self._memory = {k: self._backend.asarray(v) for k, v in history.items()}

    def advance(self, start: float, first: int, count: int, frozen: Frozen) -> None:
        for n in range(first, first + count):
            self._advance(start + n * self._step, self._tendency(n, frozen))

    def _advance(self, t: float, tendency: Array | None) -> None:
        """One step, or by CFL as many as it takes, all members sharing the shortest."""
        if self._cfl is None:
            self.internal, self._memory = self._stepper.advance(self.internal, t, tendency, self._memory)
            return
        rest = self._step
        while True:
            rate = self._stepper.courant_rate(self._backend.to_numpy(self.internal))
            if not math.isfinite(rate):
                raise BlowUp("the signal speeds are not finite. Remedy: a smaller time.cfl, or another closure")
            steps = max(1, math.ceil(rest * rate / self._cfl - 1e-9))
            while True:
                h = rest / steps
                if h < 1e-9 * self._step:
                    raise BlowUp(f"steps by CFL fell below {h:.1e}. Remedy: a smaller time.cfl, or another closure")
                found, self._memory = self._stepper.advance(self.internal, t + self._step - rest, tendency, {}, h)
                if self._equation.admissible(found):
                    break
                steps *= 2
            self.internal = found
            if steps == 1:
                return
            rest -= h

    def _tendency(self, n: int, frozen: Frozen) -> Array | None:
        tendency = frozen.value
        if frozen.slope is not None:
            tendency = tendency + (n - frozen.origin) * frozen.slope
        for source in frozen.noise:
            drawn = np.zeros((len(source.keys), 1, *self._grid.spectral_shape), dtype=np.complex128)
            source.law.add_to(drawn, source.keys, n + source.origin, source.factor / math.sqrt(self._step))
            increment = self._backend.asarray(drawn)
            if not self._equation.spectral:
                increment = self._operators.inverse(increment)
            tendency = increment if tendency is None else tendency + increment
        return tendency


def available_threads() -> int:
    """Cores this process may use, or SUBGRID_THREADS."""
    chosen = os.environ.get("SUBGRID_THREADS")
    if chosen:
        return int(chosen)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
