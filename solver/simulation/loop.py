"""The time loop: steps an ensemble to the next event (closure call, output, checkpoint or end)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..backend import NUMPY, Backend
from ..backend.files import write_arrays
from ..closure.contract import (
    Carrier,
    Closure,
    ClosureSum,
    Correction,
    Coupled,
    Leap,
    Linear,
    Memory,
    Problem,
    Tendency,
    View,
    couple,
)
from ..closure.guard import (
    Calling,
    attribute_errors,
    coerce_answer,
    coerce_memory,
    fault_of,
    split_pair,
    validate_answer,
)
from ..equations.answers import invariants
from ..equations.base import Equation
from ..equations.plugin_errors import plugin_errors
from ..equations.tracers.equation import Tracers
from ..grid import Grid
from ..random import Noise, Stream, keys
from ..time_stepping.schemes import Scheme
from .carrier import CarriedEnsemble, carried
from .checkpoint import TAKEN, UNKNOWN, below, require_checkpoint
from .diagnostics import Diagnostics
from .ensemble import BlowUp, Ensemble, ensemble, fault_of_state
from .fitting import fitting_scheme, remedy_of
from .held import Held, NoiseSource, law_of, total
from .linear import checked_part, joined
from .schedule import Schedule, stops

__all__ = ["BlowUp", "Simulation"]

COUNTS = ("calls", "skips", "declined", "replaced")  # of a coupled closure, in a checkpoint


class Simulation:
    """An ensemble of one equation on one grid, advanced with a fixed step h and any number of closures.

    state: initial state (member, field, *grid). Step n is at time start + n h, computed from n and not accumulated.
    members: numbers that key the random streams (default 0, 1, ...). A closure is called at the multiples of its
    `every`. The result does not depend on the number of threads.

    cfl: with it, h is the interval of closures and outputs. The step is divided into steps of at most this Courant
    number, determined anew before each (explicit steppers on cells only).

    guard: "stop" raises ClosureError for an answer that the guard rejects, after it wrote the state to `dump`; "skip"
    drops and counts the answer and continues without the closure's tendency until its next call; "off" checks types,
    shapes and times, and not values. folder, initial, reference, history, mask: passed on to the closures, see
    `Problem`. carrier: state (member, field, *grid.carrier) at `start` of the flow that carries the entities.

    Raises ValueError for a stepper that does not fit the equation, ClosureError for a closure that refuses the problem,
    and PluginError for another plug-in that fails.
    """

    @plugin_errors()
    def __init__(
        self,
        equation: Equation,
        grid: Grid,
        stepper: str | Scheme,
        step: float,
        state: NDArray,
        *,
        start: float = 0.0,
        seed: int = 0,
        members: tuple[int, ...] | None = None,
        closures: Iterable[Closure | ClosureSum | Coupled] = (),
        guard: Literal["stop", "skip", "off"] = "stop",
        dump: Path | None = None,
        folder: Path | None = None,
        initial: dict[str, Any] | None = None,
        threads: int | None = None,
        cfl: float | None = None,
        backend: Backend = NUMPY,
        reference: Path | None = None,
        history: Callable[[float], NDArray | None] | None = None,
        mask: NDArray[np.bool_] | None = None,
        carrier: NDArray | None = None,
    ) -> None:
        scheme = fitting_scheme(stepper, equation, cfl)
        self.equation, self.grid, self.step, self.start, self.seed = equation, grid, step, start, seed
        self.members = members or tuple(range(state.shape[0]))
        self.closures = [coupled for closure in closures for coupled in couple(closure)]
        self._remedy, self._cfl = remedy_of(scheme, equation, cfl, bool(self.closures)), cfl
        self.guard, self.dump, self.step_number = guard, dump, 0
        self.leaping = self.cut = False
        self.seconds = {"step": 0.0, "closure": 0.0}
        self.backend = backend
        self._keys: dict[str, NDArray[np.uint64]] = {}
        law = equation.noise_law(grid)
        self._own_noise = [self._source(law, "equation", 1.0)] if law else []
        self.held: list[Held | None] = [None for _ in self.closures]
        self.memories: list[Memory] = []
        self.linear_parts: list[Linear | None] = []
        self.changes: list[dict[str, NDArray]] = [{} for _ in self.closures]  # per time, by states that they replaced
        self.diagnostics: Diagnostics | None = None
        for i, c in enumerate(self.closures):
            problem = Problem(
                equation, grid, step, c.every, start, self.members, seed, backend.name, backend.device,
                backend.precision, folder=folder or Path(), initial=initial or {}, reference=reference, history=history,
                mask=mask,
            )  # fmt: skip
            with attribute_errors(c, "at its start"):
                memory = c.closure.start(problem)
                try:
                    self.memories.append(coerce_memory(memory))
                except ValueError as error:
                    raise fault_of(c, "at its start", str(error)) from None
            self.linear_parts.append(part := checked_part(c, problem, scheme))
            if part is not None and part.noise is not None:
                self._own_noise.append(self._source(part.noise, f"{self._purpose(i)}/linear", c.weight))
        added = joined(self.closures, self.linear_parts)
        self._ensemble: Ensemble = ensemble(equation, grid, scheme, step, state, backend, cfl, threads, added)
        if isinstance(equation, Tracers):
            self._ensemble = carried(
                self._ensemble, equation, grid, carrier, step, start, seed, self.members, backend, threads,
                folder or Path(),
            )  # fmt: skip
        self.carrier: Carrier | None = getattr(self._ensemble, "carrier", None)  # the flow that carries the entities
        self._frozen = total(self.held, self._own_noise)
        ends = [None if part is None or part.calls else -1 for part in self.linear_parts]  # -1: never called
        self._calls = [Schedule(0, end, c.every) for end, c in zip(ends, self.closures, strict=True)]
        self._next_call = stops(*self._calls)

    @property
    def time(self) -> float:
        return self.start + self.step_number * self.step

    @property
    def taken(self) -> int | None:
        """Steps since `start`, by Courant number those of the member that took the most; None if not known."""
        count = self.step_number if self._cfl is None else int(self._ensemble.taken.max())
        return count if count >= 0 else None

    @property
    def state(self) -> NDArray:
        """The state in physical space, (member, field, *grid), as a new NumPy array."""
        return self.backend.to_numpy(self._ensemble.physical())

    @plugin_errors()
    def invariants(self) -> dict[str, NDArray]:
        """The equation's invariants of the state, each (member,). Raises PluginError."""
        return invariants(self.equation, self.state, self.grid)

    @property
    def internal(self) -> Any:
        """The state in the stepper's representation: Fourier coefficients if semi-linear, else the state itself."""
        return self._ensemble.internal

    def replace(self, state: Any) -> None:
        """Set the state (member, field, *grid) and discard multistep histories."""
        self._ensemble.replace(state)

    def checkpoint(self) -> dict[str, NDArray]:
        """Everything that a restart needs, as a flat dict of arrays; not to be called while `leaping`.

        Once `cut` is set, a run with a later end does not pass through this state: the end has shortened a leap.
        """
        arrays = {"step": np.array(self.step_number), **self._ensemble.checkpoint()}
        arrays |= {} if self._cfl is None else {TAKEN: self._ensemble.taken}
        for i, (coupled, memory, held) in enumerate(zip(self.closures, self.memories, self.held, strict=True)):
            arrays |= {f"closure.{i}.memory.{k}": v for k, v in memory.items()}
            if held is not None:
                arrays |= {f"closure.{i}.held.{k}": self.to_host(v) for k, v in held.checkpoint().items()}
            arrays |= {f"closure.{i}.change.{k}": v for k, v in self.changes[i].items()}
            arrays[f"closure.{i}.counts"] = np.array([getattr(coupled, name) for name in COUNTS])
        return arrays

    def restore(self, arrays: dict[str, NDArray]) -> None:
        """Continue from a checkpoint of a run with the same arguments. Raises DamagedFile for any other arrays."""
        require_checkpoint(arrays, self.checkpoint(), len(self.closures))
        self.step_number = int(arrays["step"])
        self._ensemble.restore(arrays)
        self._ensemble.taken = arrays.get(TAKEN, UNKNOWN + 0 * self._ensemble.taken)
        for i, coupled in enumerate(self.closures):
            self.memories[i] = below(arrays, f"closure.{i}.memory.")
            self.held[i] = self._restored(i, below(arrays, f"closure.{i}.held."))
            self.changes[i] = below(arrays, f"closure.{i}.change.")
            for name, value in zip(COUNTS, arrays[f"closure.{i}.counts"], strict=True):
                setattr(coupled, name, int(value))
        self._frozen = total(self.held, self._own_noise)

    def _restored(self, i: int, held: dict[str, NDArray]) -> Held | None:
        if not held:
            return None
        value, slope = (self.backend.asarray(held[k]) if k in held else None for k in ("value", "slope"))
        law = law_of(held["noise"], self.equation, self.grid) if "noise" in held else None
        return Held(int(held["step"]), value, slope, self._noise_of(i, law))

    def advance(self, count: int) -> None:
        """Take `count` steps with the tendencies that are held now."""
        began = time.perf_counter()
        self._ensemble.advance(self.start, self.step_number, count, self._frozen)
        self.step_number += count
        self.seconds["step"] += time.perf_counter() - began

    @plugin_errors()
    def run(
        self,
        steps: int,
        events: Callable[[int], int] = lambda n: 0,
        at: Callable[[int], None] = lambda n: None,
        output_every: int = 0,
    ) -> None:
        """Advance to step number `steps`, with stops where `events` or a closure requires one.

        events(n): number of steps from n to the next event, 0 for none; `schedule.stops` makes such a function.
        at(n) is called at every stop, before the closures that are due at n; closures are not called at the last step.
        A leap stops at each of its states, with `leaping` set at all but the last, and must contain a state for every
        multiple of `output_every`. After a leap without states the loop continues with steps.

        Raises BlowUp for a state that is not finite or not admissible, ClosureError for a closure that fails, and
        PluginError for another plug-in that fails.
        """
        while True:
            n = self.step_number
            at(n)
            if n >= steps:
                return
            if self._call_closures(n, steps, at, output_every):
                continue
            ahead = [self._next_call(n), events(n)]
            self.advance(min([steps - n, *(count for count in ahead if count)]))
            if fault := fault_of_state(self.equation, self._ensemble.internal, self.backend):
                when = f"at t = {self.time:g}" if self._cfl else f"at step {self.step_number}, t = {self.time:g}"
                raise BlowUp(f"the state {fault} {when}. Remedy: {self._remedy}")

    def to_host(self, value: Any) -> NDArray:
        return value if isinstance(value, np.ndarray) else self.backend.to_numpy(value)

    def _purpose(self, index: int) -> str:
        return f"closure/{index}/{self.closures[index].name}"

    def _source(self, law: Noise, purpose: str, factor: float) -> NoiseSource:
        if purpose not in self._keys:
            self._keys[purpose] = keys(self.seed, purpose, self.members)
        return NoiseSource(law, self._keys[purpose], factor, round(self.start / self.step))

    def _noise_of(self, i: int, law: Noise | None) -> NoiseSource | None:
        return None if law is None else self._source(law, self._purpose(i), self.closures[i].weight)

    def _call_closures(self, n: int, steps: int, at: Callable[[int], None], output_every: int) -> bool:
        """Call the closures that are due at step n; True if one of them answered with a leap over steps."""
        due = [i for i, calls in enumerate(self._calls) if calls.due(n)]
        if not due:
            return False
        began, leap = time.perf_counter(), None
        for i in due:
            answer = self._call(i, n, steps, output_every)
            if isinstance(answer, Leap):
                reached = round((answer.times[-1] - self.start) / self.step) if len(answer.times) else n
                self.closures[i].declined += max(0, min(answer.declined, steps - reached))
                self.cut |= answer.declined > max(0, steps - reached)
                if len(answer.times):
                    self.closures[i].replaced += 1
                    leap = answer
                    break
            self.changes[i] = {}
            if isinstance(answer, Correction):
                self.closures[i].replaced += 1
                if self.diagnostics is not None:
                    self.diagnostics.change(i, self._ensemble.physical(), answer.state)
                self.replace(answer.state)
            else:
                self.held[i] = self._hold(i, answer, n) if isinstance(answer, Tendency) else None
        self._frozen = total(self.held, self._own_noise)
        self.seconds["closure"] += time.perf_counter() - began
        if leap is not None:
            self._leap(leap, steps, at)
        return leap is not None

    def _call(self, i: int, n: int, steps: int, output_every: int) -> Any:
        """The valid answer of closure i, with its arrays in the backend's library; None for no contribution."""
        coupled, when = self.closures[i], f"at step {n}, t = {self.time:g}"
        began = time.perf_counter()
        stream = Stream(self.seed, self._purpose(i), n, self.members)
        others = sum(c.replaced for c in self.closures) - coupled.replaced
        view = View(self._ensemble.physical, self.time, n, stream, self.backend, others, self.carrier)
        with attribute_errors(coupled, when):
            returned = coupled.closure(view, self.memories[i])
            try:
                answer, memory = split_pair(returned)
                self.memories[i] = coerce_memory(memory)
            except ValueError as error:
                raise fault_of(coupled, when, str(error)) from None
            coupled.calls += 1
            coupled.seconds += time.perf_counter() - began
            if answer is None:
                return None
            shape = (len(self.members), len(self.equation.fields), *self.grid.shape)
            particles, span = self.equation.kind == "particles", (n, self.start, self.step, steps, output_every)
            calling = Calling(self.backend, self.grid, shape, *span, particles)
            answer, fault = coerce_answer(answer, calling)
            if fault is None and self.guard != "off":
                fault = validate_answer(answer, view.array, self.equation, coupled.every * self.step)
        if fault is None:
            return answer
        if self.guard == "skip":
            coupled.skips += 1
            return None
        where = ""
        if self.dump is not None:
            write_arrays(self.dump, {"state": view.state, "time": np.array(view.time), "step": np.array(view.step)})
            where = f" The state before the call is in {self.dump}."
        remedy = 'Remedy: guard.policy = "skip" drops such answers'
        raise fault_of(coupled, when, f"{fault}.{where} {remedy}")

    def _hold(self, i: int, answer: Tendency, n: int) -> Held:
        coupled = self.closures[i]
        inward, hold = self._ensemble.inward(answer.field), coupled.hold or answer.hold
        value = inward if coupled.weight == 1 else coupled.weight * inward
        return Held.following(self.held[i], n, value, hold == "linear", self._noise_of(i, answer.noise))

    def _leap(self, leap: Leap, steps: int, at: Callable[[int], None]) -> None:
        """Take the states of a leap one by one, except those beyond the end of the run."""
        targets = np.rint((leap.times - self.start) / self.step)
        self.cut |= bool((targets > steps).any())
        targets = targets[targets <= steps].astype(int)
        for state, target in zip(leap.states, targets.tolist(), strict=False):
            self.replace(state)
            self.step_number = target
            if isinstance(self._ensemble, CarriedEnsemble):
                self._ensemble.carrier.advance_to(target)
            if target < targets[-1]:
                self.leaping = True
                at(target)
                self.leaping = False
