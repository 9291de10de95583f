"""The best stepper and the longest accurate step of the uncorrected model on one grid, by search.

Candidates are all steppers that fit the equation, with steps that divide the output interval, and with steps by
Courant number where the equation takes them. Each is run over a short window from the initial states of the case and
compared with the reference. Of those whose error is within a tolerance of the least on this grid, the cheapest is
chosen, for each of TOLERANCES. A particle system has one grid: its ladder is of steps, methods of which none is both
cheaper and better.

The reference decides only which numerical parameters the rivals of a closure have: the search favours the rivals.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from subgrid.ingest.prepare import Prepared
from subgrid.solver.case.base import common_interval, multiple
from subgrid.solver.closure import Coupled, PluginError
from subgrid.solver.grid import Grid
from subgrid.solver.simulation import BlowUp, Simulation
from subgrid.solver.simulation.build import build_simulation
from subgrid.solver.simulation.schedule import Collector
from subgrid.solver.time_stepping.schemes import STEPPERS, compatible_schemes, takes_courant_steps

from . import ladder, metrics
from .ladder import coarsened, of_entities, refined, smooth
from .speedup import frontier as not_beaten

TOLERANCES = (1.05, 1.25)  # one method for each
WINDOW_ERROR = 0.3  # the window ends where the error of the case's own grid exceeds it
WINDOW_OUTPUTS = 5  # and holds at least so many outputs
COURANT = (0.45, 0.9)
CONVERGED = 0.005  # relative change of the error below which a shorter step is not tried
MOST_COST = 4.0  # candidates that cost so many times more than the cheapest are left to finer grids
RIVAL_COST = 1.5  # steppers that cost more than so many times the cheapest are not tried on the next finer grids
MOST_STEPS = 4  # a stepper's shortest step is the case's divided by it, times the ratio of the grids


@dataclass(frozen=True)
class Method:
    """A stepper with its step; with `cfl` the step is divided by Courant number."""

    stepper: str
    step: float
    cfl: float | None = None

    def simulation(
        self,
        prepared: Prepared,
        grid: Grid,
        members: tuple[int, ...],
        threads: int | None = 1,
        closures: Sequence[Coupled] = (),
    ) -> Simulation:
        """The case's model on a grid of the ladder."""
        state = refined(prepared, grid, members)
        mask, carrier = of_entities(prepared, grid, members)
        case = prepared.case
        if self.cfl is not None:
            case = case.model_copy(update={"time": case.time.model_copy(update={"cfl": self.cfl})})
        elif case.time.cfl is not None:
            case = case.model_copy(update={"time": case.time.model_copy(update={"cfl": None})})
        return build_simulation(
            case, prepared.equation, grid, state,
            stepper=self.stepper, step=self.step, members=members, threads=threads, closures=closures,
            folder=prepared.folder, mask=mask, carrier=carrier,
        )  # fmt: skip


def search(
    prepared: Prepared,
    grid: Grid,
    truth: NDArray,
    members: tuple[int, ...],
    window: int,
    steppers: list[str] | None = None,
    seen: Callable[[str], None] = lambda text: None,
) -> tuple[list[tuple[Method, list[Method]]], list[str]]:
    """The chosen methods on a grid, each with those of shorter steps that may replace it; and the good steppers.

    truth (time, trajectory, field, *grid): the reference at the outputs. window: number of outputs, the first among
    them. members: one for each trajectory. steppers: those that are tried, by default all that fit. The good ones have
    an accurate method that costs at most RIVAL_COST times the cheapest one. Both lists are empty if no method reaches
    the end of the window.
    """
    one_grid = prepared.equation.kind == "particles" and not prepared.equation.carried
    known: dict[Method, tuple[float, float]] = {}

    def tried(method: Method) -> float:
        if method not in known:
            seen(f"{'x'.join(map(str, grid.resolution))}, {method.stepper}, step {method.step:.3g}")
            known[method] = _tried(prepared, grid, method, truth, members, window)
        return known[method][0]

    for stepper in steppers or compatible_schemes(prepared.equation.kind, prepared.equation.split):
        per_step = _seconds_per_step(prepared, grid, stepper, members)
        cheapest = min((cost for error, cost in known.values() if math.isfinite(error)), default=math.inf)
        most = math.inf if one_grid else MOST_COST * cheapest
        span = (window - 1) * prepared.case.output.every
        methods = [m for m in _methods(prepared, grid, stepper) if m.cfl or per_step * span / m.step <= most]
        last = math.inf
        for method in methods[_first_stable(methods, tried) :]:
            error = tried(method)
            # a step that no longer lowers the error is short enough; a shorter one only costs more
            if method.cfl is None and abs(error - last) < CONVERGED * error:
                break
            last = error
    found = [method for method, (error, _) in known.items() if math.isfinite(error)]
    if not found:
        return [], []

    def by_cost(method: Method) -> float:
        return known[method][1]

    if one_grid:
        return [(method, _shorter(method, found)) for method in _ladder_of_steps(known, found)], []
    least = min(known[method][0] for method in found)
    accurate = [[m for m in found if known[m][0] <= tolerance * least] for tolerance in TOLERANCES]
    chosen = list(dict.fromkeys(min(methods, key=by_cost) for methods in accurate))
    most = RIVAL_COST * by_cost(chosen[0])
    good = dict.fromkeys([*(m.stepper for m in chosen), *(m.stepper for m in accurate[0] if by_cost(m) <= most)])
    return [(method, _shorter(method, found)) for method in chosen], list(good)


def _ladder_of_steps(known: dict[Method, tuple[float, float]], found: list[Method]) -> list[Method]:
    """Methods of which none is cheaper and better, by increasing cost, about evenly spaced in its logarithm."""
    errors, costs = np.array([known[method] for method in found]).T
    ends = not_beaten(costs, errors)
    logarithms = np.log(costs[ends])
    wanted = np.linspace(logarithms[0], logarithms[-1], ladder.RUNGS)
    nearest = [int(np.argmin(abs(logarithms - cost))) for cost in wanted]
    return [found[ends[i]] for i in dict.fromkeys(nearest)]


def _first_stable(methods: list[Method], error: Callable[[Method], float]) -> int:
    """Index of the longest step of finite error, by bisection; beyond the end if there is none."""
    low, high = 0, len(methods)
    while low < high:
        middle = (low + high) // 2
        if math.isfinite(error(methods[middle])):
            high = middle
        else:
            low = middle + 1
    return low


def _seconds_per_step(prepared: Prepared, grid: Grid, stepper: str, members: tuple[int, ...]) -> float:
    """CPU seconds of one step, after its kernels were compiled; infinite for a stepper that cannot step."""
    tiny = prepared.case.step / MOST_STEPS * prepared.grid.resolution[-1] / grid.resolution[-1]
    try:
        simulation = Method(stepper, tiny).simulation(prepared, grid, members)
        simulation.run(2)
        began = time.process_time()
        simulation.run(6)
    except (ValueError, BlowUp, PluginError):
        return math.inf
    return (time.process_time() - began) / 4


def _shorter(method: Method, found: list[Method]) -> list[Method]:
    """Methods of the same stepper with shorter steps, the longest first: for a run that fails after the window."""
    same = [m for m in found if m.stepper == method.stepper and (m.cfl is None) == (method.cfl is None)]
    key = (lambda m: m.step) if method.cfl is None else (lambda m: m.cfl or 0.0)
    return sorted((m for m in same if key(m) < key(method)), key=key, reverse=True)


def _methods(prepared: Prepared, grid: Grid, stepper: str) -> Iterator[Method]:
    """Methods of one stepper, from the longest step to the shortest."""
    case, equation = prepared.case, prepared.equation
    every = common_interval(case.output.every, case.time.end - case.time.start)
    courant = takes_courant_steps(STEPPERS[stepper], equation.kind) and not equation.courant_need()
    if courant and equation.adaptive:
        for cfl in COURANT[::-1]:
            yield Method(stepper, every, cfl)
        return
    if equation.noise_law(prepared.grid) is not None:
        yield Method(stepper, case.step)  # increments of the noise are those of the case's steps
        return
    shortest = case.step / MOST_STEPS * prepared.grid.resolution[-1] / grid.resolution[-1]
    one_grid = equation.kind == "particles" and not equation.carried
    if one_grid and case.reference is not None and case.reference.step is not None:
        shortest = max(shortest, 2 * case.reference.step)  # the reference is no rival of a closure
    for count in range(1, math.floor(every / shortest + 1e-9) + 1):
        if smooth(count):
            yield Method(stepper, every / count)


def _tried(
    prepared: Prepared, grid: Grid, method: Method, truth: NDArray, members: tuple[int, ...], window: int
) -> tuple[float, float]:
    """Mean relative L2 error over the window after its start, and CPU seconds; infinite for a run that fails."""
    every = multiple(prepared.case.output.every, method.step)
    try:
        simulation = method.simulation(prepared, grid, members)
    except (ValueError, PluginError):
        return math.inf, math.inf
    kept = Collector(simulation, (window - 1) * every, every, lambda state: coarsened(prepared, state, grid))
    began = time.process_time()
    try:
        with np.errstate(all="ignore"):
            states = prepared.observed(np.stack(kept.run()))
            error = float(metrics.relative_l2(states, truth[:window])[1:].mean())
    except (BlowUp, PluginError):
        return math.inf, math.inf
    return error, time.process_time() - began


def window(errors: NDArray) -> int:
    """Number of outputs of the search window, from the errors (time,) of a run on the case's grid."""
    above = np.flatnonzero(errors > WINDOW_ERROR)
    count = int(above[0]) if above.size else len(errors)
    return min(len(errors), max(count, WINDOW_OUTPUTS))
