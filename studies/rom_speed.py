"""Processor time of solver and reduced-order model for the states at a number of output times. Part of studies/rom.py.

Times are processor times of one thread, which other work on the machine does not affect.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from subgrid.closures.lasdi.model import LatentModel
from subgrid.solver.case.tables import Case
from subgrid.solver.simulation import Simulation

INTERVALS = (250, 200, 25, 20, 10, 5, 1)
ROWS = 2048  # snapshots decoded at a time
SOLVED = 8  # members that are timed: the cost of an ensemble is proportional to their number


def seconds(work: Callable[[], Any], repeats: int) -> float:
    """The smallest processor time of a number of repeats."""
    taken = []
    for _ in range(repeats):
        began = time.process_time()
        work()
        taken.append(time.process_time() - began)
    return min(taken)


def table(case: Case, model: LatentModel, points: np.ndarray) -> list[dict[str, float]]:
    """Seconds of solver and model for each number of output times, for one parameter and for all `points` at once.

    The number includes the initial time; the last row has the final time only. The solver advances one member, or an
    ensemble, and its states are read at the output times. Members of an ensemble share the parameters of the equation,
    so variations of those are run one by one.
    """
    assert case.sweep
    grid, steps, span = case.grid.grid(), case.steps(), case.time.end - case.time.start
    varied = [case.varied(case.sweep.values(p)) for p in points]
    shared = all(name.startswith("initial.") for name in case.sweep.parameters)
    starts = np.concatenate([v.initial.state(v.build_equation(), grid, (0,), 0) for v in varied])
    first = torch.from_numpy(starts.reshape(len(starts), -1)).float()
    some = np.linspace(0, len(points) - 1, min(SOLVED, len(points))).astype(int)
    buffer = torch.empty(ROWS, first.shape[1])

    def solve(chosen: Any, every: int) -> None:
        equation = varied[chosen[0]].build_equation()
        stepper, state = case.time.stepper, starts[chosen]
        simulation = Simulation(equation, grid, stepper, case.step, state, threads=1, cfl=case.time.cfl)
        simulation.run(steps, lambda n: every - n % every, lambda n: simulation.state if n % every == 0 else None)

    def predict(chosen: slice, intervals: int) -> None:
        z = model.latents(first[chosen], points[chosen], span / intervals, intervals + 1)
        wanted = z if intervals > 1 else z[:, 1:]
        model.decode(wanted, out=buffer[: wanted.shape[0] * wanted.shape[1]])

    def predict_all(intervals: int) -> None:
        batch = max(1, ROWS // (intervals + 1))
        for begin in range(0, len(points), batch):
            predict(slice(begin, min(begin + batch, len(points))), intervals)

    found = []
    for intervals in (n for n in INTERVALS if steps % n == 0):
        every = steps // intervals
        predict(slice(0, 1), intervals)
        line = {
            "outputs": intervals + 1 if intervals > 1 else 1,
            "solver, one": seconds(lambda e=every: solve(some[:1], e), 3),
            "model, one": seconds(lambda n=intervals: predict(slice(0, 1), n), 40),
            "model, all": seconds(lambda n=intervals: predict_all(n), 3),
        }
        line["solver, all"] = len(points) * line["solver, one"]
        if shared:
            line["solver, all"] = len(points) / len(some) * seconds(lambda e=every: solve(some, e), 1)
        found.append(line | {f"ratio, {n}": line[f"solver, {n}"] / line[f"model, {n}"] for n in ("one", "all")})
    return found


def show(lines: list[dict[str, float]], points: int) -> str:
    """The table as text."""
    ends = f"{'model':>10}{'ratio':>8}"
    rows = [f"{'outputs':>8}{'one: solver':>14}{ends}{f'{points}: solver':>14}{ends}"]
    for line in lines:
        cells = f"{line['outputs']:8.0f}"
        for count in ("one", "all"):
            cells += f"{line[f'solver, {count}']:14.4g}{line[f'model, {count}']:10.4g}{line[f'ratio, {count}']:8.1f}"
        rows.append(cells)
    return "\n".join(rows)
