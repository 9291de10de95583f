"""The loop: an ensemble is stepped to the next event (closure call, output, checkpoint, end)."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..backend import NUMPY, Backend
from ..closure.contract import ClosureError, Correction, Coupled, Leap, Memory, Problem, Tendency, View
from ..closure.guard import inspect, received
from ..equations.base import Equation
from ..grid import Grid
from ..random import SpectralNoise, Stream, keys
from ..time_stepping.schemes import STEPPERS, Split, fits, fitting, takes_courant_steps
from .ensemble import BlowUp, Frozen, NoiseSource, ensemble

__all__ = ["BlowUp", "Simulation"]


class Simulation:
    """An ensemble of one equation on one grid, stepped with a fixed step h and any number of closures.

    state: initial state (member, field, *grid). Step n is at time start + n h, computed so and never summed up.
    members: numbers that key the random streams (default 0, 1, ...). Closure c is called at the steps that
    `every` divides. The result does not depend on the number of threads.

    cfl: with it, h is the interval of closures and outputs, and is covered by steps of at most this Courant number,
    chosen anew before each (explicit steppers, no Fourier modes).

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
        initial: dict[str, Any] | None = None,
        threads: int | None = None,
        cfl: float | None = None,
        backend: Backend = NUMPY,
    ) -> None:
        scheme = STEPPERS[stepper]
        if not fits(scheme, equation.kind, equation.split):
            raise ValueError(
                f"stepper {stepper} does not fit {equation.name}, which is {equation.kind}. "
                f"Remedy: {', '.join(fitting(equation.kind, equation.split))}"
            )
        if cfl is not None and not takes_courant_steps(scheme, equation.kind):
            raise ValueError(
                f"steps by CFL need an explicit stepper or sweeps on cells, not {stepper} for {equation.name}. "
                "Remedy: leave time.cfl out"
            )
        self.equation, self.grid, self.step, self.start, self.seed = equation, grid, step, start, seed
        self._remedy = "a smaller time.step"
        if cfl is None and equation.adaptive and not isinstance(scheme, Split):
            self._remedy += ", or time.cfl beside it"
        self.members = members or tuple(range(state.shape[0]))
        self.closures = closures or []
        self.guard, self.dump, self.step_number = guard, dump, 0
        self.leaping = False
        self.seconds = {"step": 0.0, "closure": 0.0}
        self.backend = backend
        self._ensemble = ensemble(equation, grid, scheme, step, state, backend, cfl, threads)
        self._own_noise = self._sources(equation.noise_law(grid), "equation", 1.0)
        self._held: list[dict[str, NDArray]] = [{} for _ in self.closures]
        self._laws: list[tuple[NoiseSource, ...]] = [() for _ in self.closures]
        self._frozen = Frozen(noise=self._own_noise)
        self.memories: list[Memory] = []
        for c in self.closures:
            problem = Problem(
                equation,
                grid,
                step,
                c.every,
                start,
                self.members,
                seed,
                backend.name,
                backend.device,
                folder or Path(),
                initial or {},
            )
            with _blaming(c, "at its start"):
                self.memories.append(_checked(c, c.closure.start(problem)))

    # -- state ---------------------------------------------------------------------------------------------

    @property
    def time(self) -> float:
        return self.start + self.step_number * self.step

    @property
    def state(self) -> NDArray:
        """The state in physical space, (member, field, *grid); a new array in the host's memory."""
        return self.backend.to_numpy(self._ensemble.physical())

    @property
    def internal(self) -> Any:
        """The state as it is stepped: Fourier coefficients of a semi-linear equation, else the state itself."""
        return self._ensemble.internal

    def replace(self, state: Any) -> None:
        """Set the state; multistep histories start anew."""
        self._ensemble.replace(state)

    def checkpoint(self) -> dict[str, NDArray]:
        """All that a restart needs, as a flat dict of arrays; not to be taken while `leaping`."""
        arrays = {"step": np.array(self.step_number), **self._ensemble.checkpoint()}
        for i, (coupled, memory, held) in enumerate(zip(self.closures, self.memories, self._held, strict=True)):
            arrays |= {f"closure.{i}.memory.{k}": v for k, v in memory.items()}
            arrays |= {f"closure.{i}.held.{k}": self._to_host(v) for k, v in held.items()}
            arrays[f"closure.{i}.counts"] = np.array([coupled.calls, coupled.skips, coupled.declined])
        return arrays

    def restore(self, arrays: dict[str, NDArray]) -> None:
        """Continue from a checkpoint of a run that was set up in the same way."""
        self.step_number = int(arrays["step"])
        self._ensemble.restore(arrays)
        for i, coupled in enumerate(self.closures):
            self.memories[i] = _below(arrays, f"closure.{i}.memory.")
            held = _below(arrays, f"closure.{i}.held.")
            self._held[i] = {k: self.backend.asarray(v) if k in ("value", "slope") else v for k, v in held.items()}
            coupled.calls, coupled.skips, coupled.declined = (int(v) for v in arrays[f"closure.{i}.counts"])
            if "noise" in self._held[i]:
                law = SpectralNoise(self.grid, self._held[i]["noise"], negligible=0.0)
                self._laws[i] = self._sources(law, self._purpose(i), coupled.weight)
        self._freeze()

    # -- stepping ------------------------------------------------------------------------------------------

    def advance(self, count: int) -> None:
        """Take `count` steps with the present frozen tendency."""
        began = time.perf_counter()
        self._ensemble.advance(self.start, self.step_number, count, self._frozen)
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
        states, `leaping` being set at all but the last, and must hold one for every multiple of `output_every`; after
        one of no states the loop goes on.
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
            internal, xp = self._ensemble.internal, self.backend.xp
            fault = None if xp.isfinite(xp.sum(internal)) else "is not finite"
            if fault is None and not self.equation.admissible(internal):
                fault = "is out of its bounds"
            if fault:
                raise BlowUp(
                    f"the state {fault} at step {self.step_number}, t = {self.time:g}. Remedy: {self._remedy}, or "
                    "another closure"
                )

    # -- closures ------------------------------------------------------------------------------------------

    def _to_host(self, value: Any) -> NDArray:
        return value if isinstance(value, np.ndarray) else self.backend.to_numpy(value)

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
            view = View(self._ensemble.physical, self.time, n, stream, self.backend)
            with _blaming(coupled, f"at step {n}, t = {self.time:g}"):
                answer, memory = coupled.closure(view, self.memories[i])
            self.memories[i] = _checked(coupled, memory)
            coupled.calls += 1
            coupled.seconds += time.perf_counter() - called
            answer, fault = received(answer, self.backend)
            if fault is None and self.guard != "off":
                fault = inspect(answer, view.array, self.equation, coupled.every * self.step)
            if fault:
                self._reject(i, fault, view)
                continue
            if isinstance(answer, Correction):
                self.replace(answer.state)
            elif isinstance(answer, Leap):
                reached = round((answer.times[-1] - self.start) / self.step) if len(answer.times) else n
                coupled.declined += max(0, min(answer.declined, steps - reached))
                if not len(answer.times):
                    self._held[i], self._laws[i] = {}, ()
                    continue
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
        value = coupled.weight * self._ensemble.inward(answer.field)
        held = {"value": value, "step": np.array(n)}
        if (coupled.hold or answer.hold) == "linear":
            span = n - int(last["step"]) if last else 0
            held["slope"] = (value - last["value"]) / span if span else 0 * value
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
