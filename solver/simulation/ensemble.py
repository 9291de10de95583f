"""Steps of all members between two events: compiled, lane by lane, on the CPU; else as arrays of all members."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..backend import FLUSHED, Backend, available_threads, real_type, share, sharing
from ..equations.answers import admissibility, admissible
from ..equations.base import Equation
from ..equations.plugin_errors import from_plugin
from ..grid import Grid
from ..spectral import Operators, Transforms
from ..time_stepping import adaptive, compiled, cuda_graph, kernels, launched
from ..time_stepping.array_code import Memory as ArrayMemory
from ..time_stepping.schemes import Scheme
from .held import Frozen, InPlace, OutOfPlace

Array = Any
LANE_POINTS = 65536  # points per lane: its work arrays stay in cache, and threads share no cache line
DIVIDED_POINTS = (
    65536  # of a member, from which two threads need little more than half the time, see docs/results/speed
)
LANE_COST = 1e9  # nanoseconds, larger than any threshold: a lane takes many steps
# Damped modes decay into subnormal numbers, whose arithmetic is ten times slower. Counted in steps from step 0, so that
# a restarted run is the same run.
FLUSH_EVERY = 64


class BlowUp(RuntimeError):
    """The state is not finite, or not admissible for the equation."""


def fault_of_state(equation: Equation, internal: Array, backend: Backend) -> str | None:
    """What is wrong with a state in the stepper's representation, or None."""
    finite = backend.xp.isfinite(backend.xp.sum(internal))
    if not backend.compiled and bool(finite & admissibility(equation, internal)):
        return None  # by one number, because each that is read from a device waits for the device
    if not finite:
        return "is not finite"
    return None if admissible(equation, internal) else "is out of its bounds"


class Ensemble(Protocol):
    """All members of a run.

    internal: the state in the stepper's representation, in arrays of the backend: Fourier coefficients for a
    semi-linear equation, else the state itself. taken: steps by Courant number that each group of members with steps of
    its own has taken, (group,).
    """

    taken: NDArray[np.int64]

    @property
    def internal(self) -> Array: ...

    def inward(self, state: Any) -> Array:
        """A state or tendency (member, field, *grid), of any array library, in the stepper's representation."""

    def physical(self) -> Array:
        """The state (member, field, *grid) as a new array of the backend."""

    def replace(self, state: Any) -> None:
        """Set the state and discard multistep histories."""

    def advance(self, start: float, first: int, count: int, frozen: Frozen) -> None:
        """Take `count` steps from step number `first` of a run that began at time `start`."""

    def carry(self, carrier: Any) -> None:
        """Take the velocity of a flow that carries the entities, before the first step."""

    def checkpoint(self) -> dict[str, NDArray]:
        """State and multistep histories."""

    def restore(self, arrays: dict[str, NDArray]) -> None:
        """Set state and histories to those of `checkpoint`."""


def ensemble(
    equation: Equation,
    grid: Grid,
    scheme: Scheme,
    step: float,
    state: NDArray,
    backend: Backend,
    cfl: float | None = None,
    threads: int | None = None,
    added: NDArray | None = None,
) -> Ensemble:
    """The ensemble of a backend, at the initial state (member, field, *grid).

    added: eigenvalues (1 or field, *spectral_shape) that join the linear operator of the equation.
    """
    if backend.compiled:
        return CompiledEnsemble(equation, grid, scheme, step, state, backend, cfl, threads, added)
    return ArrayEnsemble(equation, grid, scheme, step, state, backend, cfl, added)


class Lane:
    """Some members of the ensemble, stepped together in their own work arrays, by one thread or by several."""

    def __init__(
        self,
        equation: Equation,
        grid: Grid,
        scheme: Scheme,
        step: float,
        state: NDArray,
        cfl: float | None,
        added: NDArray | None,
    ) -> None:
        shape = (state.shape[0] * state.shape[1], math.prod(state.shape[2:-1]), state.shape[-1])
        self.u = state.reshape(shape)
        self._real = real_type(state.dtype)
        self.rhs = rhs = equation.right_hand_side(grid, state.shape[0], dtype=self._real)
        self.divided = getattr(rhs, "divided", False) and grid.points >= DIVIDED_POINTS
        if added is not None:
            assert rhs.linear is not None
            rhs.linear = rhs.linear + added.reshape(len(added), *rhs.linear.shape[1:])
        self.stepper = compiled.bind(scheme, rhs, shape, str(state.dtype), step)
        self._arithmetic = InPlace(grid, shape, state.dtype, step)
        self._step, self._cfl, self.taken = step, cfl, 0

    def advance(self, start: float, first: int, count: int, frozen: Frozen) -> None:
        h, tendency, changes = self._step, frozen.value, frozen.changes
        for n in range(first, first + count):
            if n % FLUSH_EVERY == 0:
                self._flush()
            if changes:
                tendency = frozen.at(n, self._arithmetic)
            if self._cfl is None:
                self.stepper.advance(self.u, start + n * h, tendency)
            else:
                assert isinstance(self.stepper, (compiled.ExplicitStepper, compiled.SplitStepper))
                self.taken += compiled.advance_adaptively(self.stepper, self.u, start + n * h, tendency, h, self._cfl)

    def _flush(self) -> None:
        values, smallest = self.u.view(self._real).reshape(-1), FLUSHED.of(self._real)

        def work(first: int, last: int, place: int) -> None:
            kernels.flush(values[first:last], smallest)

        share(work, values.size, kernels.FLUSH)


class CompiledEnsemble:
    """Lanes of members, stepped by Numba kernels and planned transforms.

    As many lanes as threads are stepped at a time, each by one thread. Lanes that remain are stepped one after the
    other, each by all threads, if they are large; so is a single lane. The size of a lane does not depend on the number
    of threads, and no kernel or transform has a result that depends on how it is divided: a run has the same bytes for
    any number. With steps by CFL every member has its own lane and its own steps.
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
        threads: int | None,
        added: NDArray | None,
    ) -> None:
        self._backend = backend
        self._transforms = Transforms(grid, backend.precision) if equation.spectral else None
        self.internal = self.inward(state)
        count = state.shape[0]
        size = 1 if cfl else max(1, min(LANE_POINTS // grid.points, math.ceil(count / 2)))
        self._slices = [slice(a, min(a + size, count)) for a in range(0, count, size)]
        self._lanes = [Lane(equation, grid, scheme, step, self.internal[s], cfl, added) for s in self._slices]
        self._threads = threads or available_threads()

    @property
    def taken(self) -> NDArray[np.int64]:
        return np.array([lane.taken for lane in self._lanes])

    @taken.setter
    def taken(self, counts: NDArray[np.int64]) -> None:
        for lane, count in zip(self._lanes, counts.tolist(), strict=True):
            lane.taken = count

    def inward(self, state: Any) -> NDArray:
        values = self._backend.asarray(state)
        if self._transforms is None:
            return np.array(values, dtype=self._backend.precision, order="C")
        return self._transforms.to_spectrum(values)

    def physical(self) -> NDArray:
        return self.internal.copy() if self._transforms is None else self._transforms.to_physical(self.internal)

    def replace(self, state: Any) -> None:
        self.internal[...] = self._backend.asarray(state) if self._transforms is None else self.inward(state)
        for lane in self._lanes:
            lane.stepper.restart()

    def carry(self, carrier: Any) -> None:
        for lane, members in zip(self._lanes, self._slices, strict=True):
            if hasattr(lane.rhs, "carry"):
                lane.rhs.carry(carrier, members)

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
        together = len(todo)
        if all(lane.divided for lane in self._lanes):
            together -= together % self._threads

        def work(first_lane: int, last_lane: int, place: int) -> None:
            for lane, members in todo[first_lane:last_lane]:
                lane.advance(start, first, count, frozen.of(members, lane.u.shape))

        with _reporting_blow_up(), sharing(self._threads):
            share(work, together, LANE_COST)
            for i in range(together, len(todo)):
                work(i, i + 1, 0)


class ArrayEnsemble:
    """All members at once, by the equation's array code in the backend's namespace."""

    def __init__(
        self,
        equation: Equation,
        grid: Grid,
        scheme: Scheme,
        step: float,
        state: NDArray,
        backend: Backend,
        cfl: float | None,
        added: NDArray | None,
    ) -> None:
        self._equation, self._step, self._cfl = equation, step, cfl
        self._backend, self._operators = backend, Operators(grid, backend=backend)
        fixed = cfl is None and not equation.carried  # arrays of the carrier change from step to step
        self._stepper = launched.bind(scheme, equation, self._operators, step, added, fixed)
        self._arithmetic = OutOfPlace(equation, self._operators, backend, step)
        self._memory: ArrayMemory = {}
        self._fed = equation.fed or equation.source is not None
        self._substeps = 1  # of the last interval
        self.taken = np.zeros(1, dtype=np.int64)
        # whether steps by Courant number need not be read from the device
        self._unread = equation.autonomous and type(equation).array_speed is not Equation.array_speed
        self.internal = self.inward(state)
        self._steps = cuda_graph.graphed(self._stepper, backend, self.internal, fixed=fixed)

    def inward(self, state: Any) -> Array:
        values = self._backend.asarray(state)
        return self._operators.forward(values) if self._equation.spectral else self._backend.copy(values)

    def physical(self) -> Array:
        return self._operators.inverse(self.internal) if self._equation.spectral else self._backend.copy(self.internal)

    def replace(self, state: Any) -> None:
        self.internal, self._memory = self.inward(state), {}

    def carry(self, carrier: Any) -> None:
        self._operators.carrier = carrier

    def checkpoint(self) -> dict[str, NDArray]:
        arrays = {"state": self.internal} | {f"history.{k}": v for k, v in self._memory.items()}
        return {k: self._backend.to_numpy(v) for k, v in arrays.items()}

    def restore(self, arrays: dict[str, NDArray]) -> None:
        self.internal = self._backend.asarray(arrays["state"])
        history = {k.removeprefix("history."): v for k, v in arrays.items() if k.startswith("history.")}
        self._memory = {k: self._backend.asarray(v) for k, v in history.items()}

    def advance(self, start: float, first: int, count: int, frozen: Frozen) -> None:
        for n in range(first, first + count):
            t, tendency = start + n * self._step, frozen.at(n, self._arithmetic)
            if self._cfl is None:
                with _reporting_blow_up():
                    self.internal, self._memory = self._steps.advance(self.internal, t, tendency, self._memory)
            else:
                self._advance_adaptively(t, tendency, self._cfl)

    def _advance_adaptively(self, t: float, tendency: Array | None, cfl: float) -> None:
        """One step, divided by Courant number; all members share the shortest."""
        equation, stepper, xp = self._equation, self._stepper, self._operators.xp
        if self._unread:

            def masked(u: Array, time: Array, h: Array) -> tuple[Array, Array]:
                found, _ = stepper.advance(u, time, tendency, {}, xp.astype(h, u.dtype))
                good = admissibility(equation, found)
                if self._fed:
                    good = good & (h * stepper.courant_rate(found) <= adaptive.GROWTH * cfl)
                return found, good

            with _reporting_blow_up():
                self.internal, self._substeps = adaptive.cover_on_device(
                    self.internal,
                    t,
                    self._step,
                    cfl,
                    self._substeps,
                    stepper.courant_rate,
                    masked,
                    self._backend.to_numpy,
                    xp,
                )
            self.taken += self._substeps
            return

        def attempt(time: float, h: float) -> bool:
            found, _ = stepper.advance(self.internal, time, tendency, {}, h)
            if not admissible(equation, found):
                return False
            if self._fed and not h * rate_of(found) <= adaptive.GROWTH * cfl:
                return False
            self.internal = found
            return True

        def rate_of(u: Array) -> float:
            return stepper.host_courant_rate(self._backend.to_numpy(u))

        with _reporting_blow_up():
            self.taken += adaptive.cover(t, self._step, cfl, lambda: rate_of(self.internal), attempt)


@contextmanager
def _reporting_blow_up() -> Iterator[None]:
    """Turn the failure of an adaptive step into a BlowUp with a remedy."""
    try:
        yield
    except ArithmeticError as error:
        if from_plugin(error):
            raise
        remedy = "" if "Remedy" in str(error) else ". Remedy: a smaller time.cfl, or another closure"
        raise BlowUp(f"{error}{remedy}") from None
