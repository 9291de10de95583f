"""Entities that a flow carries: the flow runs alongside, or was stored, and is one step ahead within a step.

The flow takes its steps in the first and in the second half of a step h of the entities. Its velocity is known at t,
t + h/2 and t + h, which are the stages of the explicit schemes; other times are interpolated by a parabola.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..backend import Backend
from ..equations.tracers.equation import Tracers
from ..equations.tracers.splines import coefficients, evaluate, finer, points_of
from ..grid import Grid
from ..initial.run import Run
from ..random import keys
from ..spectral import Operators
from ..time_stepping.schemes import STEPPERS
from .checkpoint import below
from .ensemble import Ensemble, ensemble
from .held import Frozen, NoiseSource

Array = Any


class Flow(Protocol):
    """The flow of each member; `internal` is its state (member, field, *) in the stepper's representation."""

    @property
    def internal(self) -> Array: ...

    def advance_half(self, n: int, half: int) -> None:
        """Advance over one half, 0 or 1, of step n of the entities."""

    def checkpoint(self) -> dict[str, NDArray]: ...

    def restore(self, arrays: dict[str, NDArray], n: int) -> None: ...


class RunningFlow:
    """A flow that runs alongside, from a state (member, field, *carrier grid) at the time `start` of step 0."""

    def __init__(
        self,
        equation: Tracers,
        grid: Grid,
        state: NDArray,
        step: float,
        start: float,
        seed: int,
        members: tuple[int, ...],
        backend: Backend,
        threads: int | None,
    ) -> None:
        flow, self._start, self._substeps = equation.carrier, start, equation.carrier_substeps
        h = step / (2 * self._substeps)
        scheme = STEPPERS[equation.carrier_stepper]
        self._ensemble: Ensemble = ensemble(flow, grid, scheme, h, state, backend, equation.carrier_cfl, threads)
        law = flow.noise_law(grid)
        noise = () if law is None else (NoiseSource(law, keys(seed, "flow", members), 1.0, round(start / h)),)
        self._frozen = Frozen(noise=noise)

    @property
    def internal(self) -> Array:
        return self._ensemble.internal

    def advance_half(self, n: int, half: int) -> None:
        self.advance((2 * n + half) * self._substeps, self._substeps)

    def advance(self, first: int, count: int) -> None:
        """Take `count` steps of the flow, from its step number `first`."""
        self._ensemble.advance(self._start, first, count, self._frozen)

    def physical(self) -> Array:
        """The state (member, field, *carrier grid)."""
        return self._ensemble.physical()

    def checkpoint(self) -> dict[str, NDArray]:
        return self._ensemble.checkpoint()

    def restore(self, arrays: dict[str, NDArray], n: int) -> None:
        self._ensemble.restore(arrays)


class StoredFlow:
    """The outputs of a run of the flow, on the grid of the carrier, by cubic interpolation in time.

    If this is another grid than that of the run, modes beyond its 2/3 rule are left out. Raises ValueError, with the
    remedy, for a folder that holds no run of the flow, with fewer than four outputs, or that does not cover the times
    that are asked for.
    """

    def __init__(
        self, equation: Tracers, grid: Grid, step: float, start: float, members: tuple[int, ...], backend: Backend,
        folder: Path,
    ) -> None:  # fmt: skip
        assert equation.stored is not None
        self._run, self._folder = Run(path=equation.stored), folder
        self._equation, self._grid, self._members = equation, grid, members
        self._operators, self._backend = Operators(grid, backend=backend), backend
        self._times, shape = self._run.outputs(folder)
        self._filtered = equation.carrier.spectral and shape != grid.shape
        if len(self._times) < 4:
            raise ValueError(f"equation.stored: {equation.stored} has {len(self._times)} outputs, expected 4 or more")
        self._step, self._start = step, start
        self._frames: dict[int, Array] = {}
        self.internal = self._at(start)

    def advance_half(self, n: int, half: int) -> None:
        self.internal = self._at(self._start + (n + 0.5 * (half + 1)) * self._step)

    def _at(self, t: float) -> Array:
        """Lagrange's cubic through the four outputs about t, none of which is weighed if t is that of an output."""
        times = self._times
        slack = 1e-6 * (times[-1] - times[0])
        if not times[0] - slack <= t <= times[-1] + slack:
            raise ValueError(
                f"equation.stored: {self._equation.stored} holds the flow from t = {times[0]:g} to {times[-1]:g}, not "
                f"at {t:g}. Remedy: a longer run, or other times"
            )
        first = int(np.clip(np.searchsorted(times, t) - 2, 0, len(times) - 4))
        self._frames = {i: self._frames.get(i) for i in range(first, first + 4)}
        total: Array = None
        for i in self._frames:
            others = [j for j in self._frames if j != i]
            weight = float(np.prod([(t - times[j]) / (times[i] - times[j]) for j in others]))
            if abs(weight) > 1e-9:
                part = weight * self._frame(i)
                total = part if total is None else total + part
        return total

    def _frame(self, i: int) -> Array:
        if self._frames[i] is None:
            at = self._run.model_copy(update={"time": float(self._times[i])})
            state = self._backend.asarray(at.state(self._equation.carrier, self._grid, self._members, 0, self._folder))
            inner = self._operators.to_spectrum(state) if self._equation.carrier.spectral else state
            self._frames[i] = inner * self._operators.mask if self._filtered else inner
        return self._frames[i]

    def checkpoint(self) -> dict[str, NDArray]:
        return {}

    def restore(self, arrays: dict[str, NDArray], n: int) -> None:
        self.internal = self._at(self._start + n * self._step)


class Carrier:
    """The velocity of a flow, at the entities and elsewhere; what a closure sees as `View.carrier`.

    equation, grid: of the flow. origin, spacing: of the points of the spline coefficients.
    """

    def __init__(self, equation: Tracers, grid: Grid, flow: Flow, step: float, start: float, backend: Backend) -> None:
        self.equation, self.grid, self.flow = equation.carrier, grid, flow
        self._step, self._start = step, start
        self._operators = Operators(grid, backend=backend)
        self._fine = Operators(finer(grid), backend=backend)
        self.origin = points_of(equation.carrier, grid)
        self.spacing = (self._fine.grid.spacing[0], self._fine.grid.spacing[1])
        self._window: list[Array] = [self._now()]
        self._begin = self._reached = 0  # steps at which the window begins, and where the flow is

    def _now(self) -> Array:
        velocity = self.equation.carrier_velocity(self._operators, self.flow.internal)
        return coefficients(velocity, self._operators, self._fine)

    def advance(self, n: int) -> None:
        """Advance the flow over step n, and keep its velocity at the beginning, the middle and the end."""
        self._window, self._begin = [self._window[-1]], n
        for half in (0, 1):
            self.flow.advance_half(n, half)
            self._window.append(self._now())
        self._reached = n + 1

    def advance_to(self, n: int) -> None:
        """Advance the flow to step n, over steps that a closure took in the place of the solver."""
        while self._reached < n:
            self.advance(self._reached)

    def restored(self, n: int) -> None:
        """The flow was set to its state at step n."""
        self._window, self._begin, self._reached = [self._now()], n, n

    def coefficients(self, t: float) -> Array:
        """Spline coefficients (member, 2, y, x) of the velocity at a time within the last step."""
        place = 2 * ((t - self._start) / self._step - self._begin)
        if abs(place - round(place)) < 1e-6:
            return self._window[round(place)]
        before, middle, after = self._window
        return (
            0.5 * (place - 1) * (place - 2) * before
            - place * (place - 2) * middle
            + 0.5 * place * (place - 1) * after
        )  # fmt: skip

    # -- for closures: the flow between two steps

    @property
    def state(self) -> Array:
        """The state of the flow, (member, field, *grid)."""
        internal = self.flow.internal
        return self._operators.to_physical(internal) if self.equation.spectral else internal

    def velocity(self, positions: Array) -> Array:
        """(u, v) at positions (member, 2, any number), whose rows are x and y, as arrays of the run's backend."""
        return evaluate(self._window[-1], positions, self.origin, self.spacing, self._operators.xp)


class CarriedEnsemble:
    """All members of a run of entities that a flow carries: an ensemble of entities, and the flow of each member."""

    def __init__(self, entities: Ensemble, carrier: Carrier) -> None:
        self._entities, self.carrier, self.taken = entities, carrier, entities.taken
        self.inward: Callable[[Any], Array] = entities.inward
        self.physical: Callable[[], Array] = entities.physical
        self.replace: Callable[[Any], None] = entities.replace
        entities.carry(carrier)

    @property
    def internal(self) -> Array:
        return self._entities.internal

    def carry(self, carrier: Any) -> None:
        raise TypeError("the entities have a carrier already")

    def advance(self, start: float, first: int, count: int, frozen: Frozen) -> None:
        for n in range(first, first + count):
            self.carrier.advance(n)
            self._entities.advance(start, n, 1, frozen)

    def checkpoint(self) -> dict[str, NDArray]:
        flow = {f"carrier.{k}": v for k, v in self.carrier.flow.checkpoint().items()}
        return self._entities.checkpoint() | flow

    def restore(self, arrays: dict[str, NDArray]) -> None:
        flow = below(arrays, "carrier.")
        self._entities.restore({k: v for k, v in arrays.items() if not k.startswith("carrier.")})
        n = int(arrays["step"])
        self.carrier.flow.restore(flow, n)
        self.carrier.restored(n)


def carried(
    entities: Ensemble,
    equation: Tracers,
    grid: Grid,
    state: NDArray | None,
    step: float,
    start: float,
    seed: int,
    members: tuple[int, ...],
    backend: Backend,
    threads: int | None,
    folder: Path,
) -> CarriedEnsemble:
    """The entities with their flow, from its state (member, field, *carrier grid), or from the run that stored it.

    Raises ValueError if the flow has no state.
    """
    assert grid.carrier is not None
    flow: Flow
    if equation.stored is not None:
        flow = StoredFlow(equation, grid.carrier, step, start, members, backend, folder)
    elif state is None:
        raise ValueError(
            "initial: it has no flow that could carry the tracers. Remedy: initial.flow, or equation.stored"
        )
    else:
        flow = RunningFlow(equation, grid.carrier, state, step, start, seed, members, backend, threads)
    return CarriedEnsemble(entities, Carrier(equation, grid.carrier, flow, step, start, backend))


def developed(
    equation: Tracers,
    grid: Grid,
    state: NDArray,
    step: float,
    start: float,
    seed: int,
    members: tuple[int, ...],
    at: Callable[[int, int], None] = lambda done, total: None,
) -> NDArray:
    """The state of the flow at `start`, from its state at start - spin_up: (member, field, *carrier grid).

    at(done, total) is called after every hundred steps of the entities or fewer.
    """
    assert grid.carrier is not None
    count = round(equation.spin_up / step)
    if not count:
        return state
    backend, begin = Backend(), start - count * step
    flow = RunningFlow(equation, grid.carrier, state, step, begin, seed, members, backend, None)
    per_step = 2 * equation.carrier_substeps
    for first in range(0, count, 100):
        steps = min(100, count - first)
        flow.advance(first * per_step, steps * per_step)
        at(first + steps, count)
    return flow.physical()
