"""The loop: lanes of members are stepped to the next event (closure call, output, checkpoint, end)."""

from __future__ import annotations

import math
import os
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from . import kernels, steppers
from .closure import ClosureError, Correction, Coupled, Leap, Memory, Problem, Tendency, View, inspect
from .equations import Equation
from .grid import Grid
from .random import SpectralNoise, Stream, keys
from .spectral import Transforms, empty

LANE_POINTS = 65536  # points per lane: few enough for its work arrays to stay in cache, enough to keep threads apart
# Damped modes sink into subnormal numbers, whose arithmetic is ten times slower; counted in steps, so a restart agrees.
FLUSH_EVERY, FLUSH_BELOW = 64, 1e-280


class BlowUp(RuntimeError):
    """The state is no longer finite."""


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
    value: NDArray | None = None
    slope: NDArray | None = None
    noise: tuple[NoiseSource, ...] = ()


class Lane:
    """Some members of the ensemble, stepped together by one thread in work arrays of their own."""

    def __init__(
        self,
        equation: Equation,
        grid: Grid,
        scheme: steppers.OneStep | steppers.Multistep,
        step: float,
        state: NDArray,
    ) -> None:
        shape = (state.shape[0] * state.shape[1], math.prod(state.shape[2:-1]), state.shape[-1])
        self.u = state.reshape(shape)
        rhs = equation.right_hand_side(grid, shape[0])
        self.stepper = steppers.Stepper(scheme, rhs, shape, str(state.dtype), step)
        self._frozen = np.zeros(shape, state.dtype)
        self._step = step
        self._grid = grid
        self._draw: NDArray | None = None

    def advance(self, start: float, first: int, count: int, frozen: Frozen, members: slice) -> None:
        """Step `count` times from step number `first`; the run began at time `start`."""
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
            self.stepper.advance(self.u, start + n * h, tendency)

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


class Simulation:
    """An ensemble of one equation on one grid, stepped with a fixed step h and any number of closures.

    state: initial state (member, field, *grid). Step n is at time start + n h, computed so and never summed up.
    members: numbers that key the random streams (default 0, 1, ...). Closure c is called at the steps that
    `every` divides. The result does not depend on the number of threads.

    guard: "stop" raises ClosureError on an answer that `inspect` rejects, after writing the state to `dump`;
    "skip" drops the answer, counts it, and goes on without the closure's tendency until its next call.
    """

    def __init__(
        self,
        equation: Equation,
        grid: Grid,
        stepper: str,
        step: float,
        state: NDArray,
        *,
        start: float = 0.0,
        seed: int = 0,
        members: tuple[int, ...] | None = None,
        closures: list[Coupled] | None = None,
        guard: Literal["stop", "skip", "off"] = "stop",
        dump: Path | None = None,
        folder: Path | None = None,
        threads: int | None = None,
    ) -> None:
        scheme = steppers.STEPPERS[stepper]
        spectral = equation.kind == "semi-linear"
        if steppers.needs_linear(scheme) and not spectral:
            raise ValueError(
                f"stepper {stepper} treats a Fourier operator apart, which {equation.name} on finite volumes "
                "does not have. Remedy: rk4 or ssp-rk3"
            )
        self.equation, self.grid, self.step, self.start, self.seed = equation, grid, step, start, seed
        self.members = members or tuple(range(state.shape[0]))
        self.closures = closures or []
        self.guard, self.dump, self.step_number = guard, dump, 0
        self.leaping = False
        self.seconds = {"step": 0.0, "closure": 0.0}
        self._transforms = Transforms(grid) if spectral else None
        self._internal = self._inward(state)
        count = state.shape[0]
        size = max(1, min(LANE_POINTS // grid.points, math.ceil(count / 2)))
        self._slices = [slice(a, min(a + size, count)) for a in range(0, count, size)]
        self._lanes = [Lane(equation, grid, scheme, step, self._internal[s]) for s in self._slices]
        self._threads = min(threads or available_threads(), len(self._lanes))
        self._pool: ThreadPoolExecutor | None = None
        self._own_noise = self._sources(equation.noise_law(grid), "equation", 1.0)
        self._held: list[dict[str, NDArray]] = [{} for _ in self.closures]
        self._laws: list[tuple[NoiseSource, ...]] = [() for _ in self.closures]
        self._frozen = Frozen(noise=self._own_noise)
        self.memories: list[Memory] = []
        for c in self.closures:
            problem = Problem(equation, grid, step, c.every, start, self.members, seed, folder=folder or Path())
            with _blaming(c, "at its start"):
                self.memories.append(_checked(c, c.closure.start(problem)))

    # -- state ---------------------------------------------------------------------------------------------

    def _inward(self, state: NDArray) -> NDArray:
        if self._transforms is None:
            return np.array(state, dtype=np.float64, order="C")
        return self._transforms.to_spectrum(state)

    @property
    def time(self) -> float:
        return self.start + self.step_number * self.step

    @property
    def state(self) -> NDArray:
        """The state in physical space, (member, field, *grid); a new array."""
        return self._internal.copy() if self._transforms is None else self._transforms.to_physical(self._internal)

    @property
    def internal(self) -> NDArray:
        """The state as it is stepped: Fourier coefficients of a semi-linear equation, else cell averages."""
        return self._internal

    def replace(self, state: NDArray) -> None:
        """Set the state; multistep histories start anew."""
        self._internal[...] = self._inward(state)
        for lane in self._lanes:
            lane.stepper.restart()

    def checkpoint(self) -> dict[str, NDArray]:
        """All that a restart needs, as a flat dict of arrays; not to be taken while `leaping`."""
        arrays = {"step": np.array(self.step_number), "state": self._internal}
        for i, lane in enumerate(self._lanes):
            arrays |= {f"lane.{i}.{k}": v for k, v in lane.stepper.memory.items()}
        for i, (coupled, memory, held) in enumerate(zip(self.closures, self.memories, self._held, strict=True)):
            arrays |= {f"closure.{i}.memory.{k}": v for k, v in memory.items()}
            arrays |= {f"closure.{i}.held.{k}": v for k, v in held.items()}
            arrays[f"closure.{i}.counts"] = np.array([coupled.calls, coupled.skips])
        return arrays

    def restore(self, arrays: dict[str, NDArray]) -> None:
        """Continue from a checkpoint of a run that was set up in the same way."""
        self.step_number = int(arrays["step"])
        self._internal[...] = arrays["state"]
        for i, lane in enumerate(self._lanes):
            for k, v in lane.stepper.memory.items():
                v[...] = arrays[f"lane.{i}.{k}"]
        for i, coupled in enumerate(self.closures):
            self.memories[i] = _below(arrays, f"closure.{i}.memory.")
            self._held[i] = _below(arrays, f"closure.{i}.held.")
            coupled.calls, coupled.skips = (int(v) for v in arrays[f"closure.{i}.counts"])
            if "noise" in self._held[i]:
                law = SpectralNoise(self.grid, self._held[i]["noise"], negligible=0.0)
                self._laws[i] = self._sources(law, self._purpose(i), coupled.weight)
        self._freeze()

    # -- stepping ------------------------------------------------------------------------------------------

    def advance(self, count: int) -> None:
        """Take `count` steps with the present frozen tendency, lanes spread over the threads."""
        began = time.perf_counter()
        todo = list(zip(self._lanes, self._slices, strict=True))

        def work(thread: int) -> None:
            for lane, members in todo[thread :: self._threads]:
                lane.advance(self.start, self.step_number, count, self._frozen, members)

        if self._threads == 1:
            work(0)
        else:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._threads - 1)
            futures = [self._pool.submit(work, i) for i in range(1, self._threads)]
            work(0)
            for f in futures:
                f.result()
        self.step_number += count
        self.seconds["step"] += time.perf_counter() - began

    def run(
        self,
        steps: int,
        events: Callable[[int], int] = lambda n: 0,
        at: Callable[[int], None] = lambda n: None,
        output_every: int = 0,
    ) -> None:
        """Advance to step number `steps`, stopping where `events` or a closure asks for it.

        events(n) is the number of steps from n to the next event after n, 0 for none. `at(n)` is called at every
        stop, before the closures that are due there; none is called at the last step. A leap stops at each of its
        states, `leaping` being set at all but the last, and must hold one for every multiple of `output_every`.
        """
        while True:
            n = self.step_number
            at(n)
            if n >= steps:
                return
            if self._call_closures(n, steps, at, output_every):
                continue
            ahead = [steps - n, *(c.every - n % c.every for c in self.closures)]
            if following := events(n):
                ahead.append(following)
            self.advance(min(ahead))
            if not np.isfinite(self._internal.sum()):
                raise BlowUp(
                    f"the state is not finite at step {self.step_number}, t = {self.time:g}. "
                    "Remedy: a smaller time.step, or another closure"
                )

    # -- closures ------------------------------------------------------------------------------------------

    def _purpose(self, index: int) -> str:
        return f"closure/{index}/{self.closures[index].name}"

    def _sources(self, law: SpectralNoise | None, purpose: str, factor: float) -> tuple[NoiseSource, ...]:
        if law is None:
            return ()
        origin = round(self.start / self.step)
        return (NoiseSource(law, keys(self.seed, purpose, self.members), factor, origin),)

    def _call_closures(self, n: int, steps: int, at: Callable[[int], None], output_every: int) -> bool:
        """Call the closures that are due at step n; True if one of them leapt."""
        due = [i for i, c in enumerate(self.closures) if n % c.every == 0]
        if not due:
            return False
        began = time.perf_counter()
        for i in due:
            coupled = self.closures[i]
            called = time.perf_counter()
            stream = Stream(self.seed, self._purpose(i), n, self.members)
            view = View(lambda: self.state, self.time, n, stream)
            with _blaming(coupled, f"at step {n}, t = {self.time:g}"):
                answer, memory = coupled.closure(view, self.memories[i])
            self.memories[i] = _checked(coupled, memory)
            coupled.calls += 1
            coupled.seconds += time.perf_counter() - called
            fault = None
            if self.guard != "off":
                fault = inspect(answer, view.state, self.equation, coupled.every * self.step)
            if fault:
                self._reject(i, fault, view)
                continue
            if isinstance(answer, Correction):
                self.replace(answer.state)
            elif isinstance(answer, Leap):
                self._freeze()
                self.seconds["closure"] += time.perf_counter() - began
                self._leap(answer, steps, at, output_every)
                return True
            else:
                self._hold(i, answer, n)
        self._freeze()
        self.seconds["closure"] += time.perf_counter() - began
        return False

    def _reject(self, i: int, fault: str, view: View) -> None:
        coupled = self.closures[i]
        if self.guard == "skip":
            coupled.skips += 1
            self._held[i], self._laws[i] = {}, ()
            return
        where = ""
        if self.dump is not None:
            np.savez(self.dump, state=view.state, time=view.time, step=view.step)
            where = f" The state before the call is in {self.dump}."
        raise ClosureError(
            f"closure {coupled.name!r} at step {view.step}, t = {view.time:g}: {fault}.{where} "
            'Remedy: guard.policy = "skip" goes on without it'
        )

    def _hold(self, i: int, answer: Tendency, n: int) -> None:
        coupled, last = self.closures[i], self._held[i]
        value = coupled.weight * self._inward(answer.field)
        held = {"value": value, "step": np.array(n)}
        if (coupled.hold or answer.hold) == "linear":
            span = n - int(last["step"]) if last else 0
            held["slope"] = (value - last["value"]) / span if span else np.zeros_like(value)
        if answer.noise is not None:
            same = "noise" in last and np.array_equal(last["noise"], answer.noise.amplitude)
            if not (same and self._laws[i]):
                self._laws[i] = self._sources(answer.noise, self._purpose(i), coupled.weight)
            held["noise"] = answer.noise.amplitude
        else:
            self._laws[i] = ()
        self._held[i] = held

    def _freeze(self) -> None:
        """Add up what the closures hold, as value + (n - origin) slope with the last call for origin."""
        held_now = [held for held in self._held if held]
        origin = max((int(held["step"]) for held in held_now), default=0)
        frozen = Frozen(origin, noise=(*self._own_noise, *(s for law in self._laws for s in law)))
        for held in held_now:
            value = held["value"]
            if "slope" in held:
                value = value + (origin - int(held["step"])) * held["slope"]
                frozen.slope = held["slope"] if frozen.slope is None else frozen.slope + held["slope"]
            frozen.value = value if frozen.value is None else frozen.value + value
        self._frozen = frozen

    def _leap(self, leap: Leap, steps: int, at: Callable[[int], None], output_every: int) -> None:
        """Take the states of a leap one by one; those beyond the end of the run are left out."""
        n = self.step_number
        targets = np.rint((np.asarray(leap.times) - self.start) / self.step).astype(int)
        exact = np.allclose(self.start + targets * self.step, leap.times, rtol=0, atol=1e-6 * self.step)
        targets = targets[targets <= steps]
        if not (len(targets) and exact and (np.diff([n, *targets]) > 0).all()):
            raise ClosureError(
                f"a leap at step {n} names times {np.asarray(leap.times)[:4]}..., which are not increasing times "
                f"of steps up to the end. Remedy: answer at start + n * {self.step:g}"
            )
        due = range(n - n % output_every + output_every, targets[-1], output_every) if output_every else ()
        if passed := set(due) - set(targets.tolist()):
            raise ClosureError(
                f"a leap at step {n} passes the output at step {min(passed)} without a state for it. "
                f"Remedy: answer with a state for every {output_every} steps"
            )
        for state, target in zip(leap.states, targets.tolist(), strict=False):
            self.replace(state)
            self.step_number = target
            if target < targets[-1]:
                self.leaping = True
                at(target)
                self.leaping = False


@contextmanager
def _blaming(coupled: Coupled, when: str) -> Iterator[None]:
    """Whatever a closure raises becomes a ClosureError that names it and the line."""
    try:
        yield
    except ClosureError:
        raise
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        raise ClosureError(
            f"closure {coupled.name!r} {when} raised {type(error).__name__}: {error} "
            f"({where.filename}, line {where.lineno})"
        ) from error


def _checked(coupled: Coupled, memory: Memory) -> Memory:
    """The memory as arrays, numbers included, so that a closure is handed the same after a restart."""
    if isinstance(memory, dict):
        arrays = {str(k): np.asarray(v) for k, v in memory.items()}
        if all(v.dtype != object for v in arrays.values()):
            return arrays
    raise ClosureError(
        f"closure {coupled.name!r} gives a memory that no checkpoint can hold. Remedy: a flat dict of NumPy arrays"
    )


def _below(arrays: dict[str, NDArray], prefix: str) -> dict[str, NDArray]:
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}


def available_threads() -> int:
    """Cores this process may use, or SUBGRID_THREADS."""
    chosen = os.environ.get("SUBGRID_THREADS")
    if chosen:
        return int(chosen)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
