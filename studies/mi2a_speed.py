"""Speed of a wave model for 1 and 100 predictions, beside the solver on grids of falling cost.

    python studies/mi2a_speed.py CASE WEIGHTS [--set KEY=VALUE ...]

CPU seconds of one thread per prediction, the median of `--repeats`: of the model from a window of true states to the
end of the run, and of the solver, from the initial state to the end with the same outputs, on the grid of the case and
on grids with a half, a quarter and an eighth of its cells along each axis (finite volumes). The step of the solver is
that of the case times the same factor, so the Courant number stays the same, cut to divide the interval of outputs.
Errors are relative to max |u| of the training runs, over the unseen test runs and the times after the window; those of
a coarser grid are against averages of the truth over its cells, which favours it. One line of JSON per row.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from mi2a_scores import WINDOW, Test, errors
from numpy.typing import NDArray

from subgrid.closures.mi2a.model import WaveModel
from subgrid.ingest.prepare import with_step
from subgrid.ingest.sweep import interval, runs
from subgrid.solver.backend import NUMPY
from subgrid.solver.case.reading import read
from subgrid.solver.case.tables import Case
from subgrid.solver.initial.checked import checked_state
from subgrid.solver.simulation.build import build_simulation
from subgrid.solver.simulation.schedule import Collector

MANY = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="overrides of the case")
    parser.add_argument("--noise", type=float, default=0.0, help="on the states of windows, relative to max |u|")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    case = with_step(read(options.case, options.set))
    if case.sweep is None or not len(case.sweep.test_points()):
        parser.error(f"{options.case} has no [sweep] with test_counts or test_runs")
    training = runs(case, case.sweep.points())
    test = Test.of(case, training, None, options.noise)
    model = WaveModel.load(options.weights)
    window = max(WINDOW, model.window)
    first, ahead = window - model.window, test.states.shape[1] - window

    def predict(count: int) -> Callable[[], torch.Tensor]:
        some = torch.arange(count) % len(test.windows)
        return lambda: model.predict(test.windows[some, first:window], test.parameters[some.numpy()], ahead)

    row = {"case": options.case.stem, "name": "model", "seconds": seconds(predict(1), options.repeats)}
    row["seconds_of_many"] = seconds(predict(MANY), options.repeats) / MANY
    found = errors(test, predict(len(test.windows))(), window)
    print(json.dumps(row | {k: found[k] for k in ("mse", "max")}), flush=True)
    for factor in (1, 2, 4, 8):
        if min(case.grid.shape) // factor < 8:
            break
        coarse = coarser(case, factor)
        solved = [solve(coarse, case.sweep.values(point)) for point in test.parameters]
        off = np.stack([averaged(true, s.shape[1:], test) - s for s, true in zip(solved, test.states, strict=True)])
        off = off[:, window:] / test.largest
        row = {"case": options.case.stem, "name": "solver", "shape": list(coarse.grid.shape)}
        values = case.sweep.values(test.parameters[0])
        row["seconds"] = seconds(lambda c=coarse, v=values: solve(c, v), options.repeats)
        row["seconds_of_many"] = seconds(lambda c=coarse, v=values: solve(c, v, MANY), 1) / MANY
        print(json.dumps(row | {"mse": float(np.square(off).mean()), "max": float(np.abs(off).max())}), flush=True)


def seconds(action: Callable[[], object], repeats: int) -> float:
    """Median CPU time after one call that warms up."""
    action()
    taken = []
    for _ in range(repeats):
        began = time.process_time()
        action()
        taken.append(time.process_time() - began)
    return float(np.median(taken))


def coarser(case: Case, factor: int) -> Case:
    """The case on a grid with 1 / factor of the cells along each axis, and a step that is longer in proportion."""
    shape = tuple(n // factor for n in case.grid.shape)
    per_output = interval(case)
    step = case.step * per_output / max(1, math.ceil(per_output / factor))
    return case.model_copy(
        update={
            "grid": case.grid.model_copy(update={"shape": shape}),
            "time": case.time.model_copy(update={"step": step}),
        }
    )


def solve(case: Case, values: dict[str, float], members: int = 1) -> NDArray[np.float64]:
    """(time, field, *grid) of the solver with these parameters; of equal members the first."""
    varied = case.varied(values)
    equation, grid = varied.build_equation(), varied.grid.grid()
    state = checked_state(varied.initial, equation, grid, (0,), 0)
    simulation = build_simulation(
        varied, equation, grid, np.repeat(state, members, 0), members=tuple(range(members)), threads=1, backend=NUMPY
    )
    return np.stack(Collector(simulation, varied.steps(), interval(varied), lambda state: state[0].copy()).run())


def averaged(true: torch.Tensor, shape: tuple[int, ...], test: Test) -> NDArray[np.float64]:
    """States (time, point) on the grid of `shape` (field, *grid): averages over its cells."""
    fields = true.double().numpy().reshape(len(true), *test.shape)
    for axis, n in enumerate(shape[1:], 2):
        fields = fields.reshape(*fields.shape[:axis], n, -1, *fields.shape[axis + 1 :]).mean(axis + 1)
    return fields


if __name__ == "__main__":
    main()
