"""Speed-up at equal error of a reduced-order model against classical runs, for few outputs and for many parameters.

    python studies/rom_frontier.py CASE [--weights FILE]

The classical runs are those of the case's equation on a ladder of grids, each with the steppers and steps below; the
frontier are those of which none is both cheaper and better. The error is the mean over the outputs and over some test
parameters, none of them of the training, of |u_hat - u| / |u|, u the runs of the sweep at these parameters. The cost
is processor seconds of one thread for one parameter and the outputs asked for, without the initial state. In a batch
the model predicts all test parameters together; the classical runs advance an ensemble, of which MEMBERS are timed.

    speed-up = C(e) / c,    log C linear in log e along the frontier, e and c of the model; "<" or ">" beyond its ends
"""

from __future__ import annotations

import argparse
import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from rom import Model
from rom_speed import ROWS, seconds

from subgrid.closures.lasdi.interpolated import load
from subgrid.closures.learning.compatibility import locate
from subgrid.ingest.prepare import with_step
from subgrid.ingest.restriction import Restrict
from subgrid.ingest.sweep import Sweep, runs
from subgrid.solver.case.base import multiple
from subgrid.solver.case.reading import read
from subgrid.solver.case.sweep_design import among
from subgrid.solver.case.tables import Case
from subgrid.solver.grid import Grid
from subgrid.solver.simulation import BlowUp, Simulation

STEPPERS = {
    "vlasov-poisson": ("strang", (0.01, 0.02, 0.025, 0.04, 0.05, 0.1, 0.125, 0.2, 0.25, 0.5)),
    "burgers-2d": ("ssp-rk2", (0.00125, 0.0025, 0.005, 0.01, 0.02)),
}
FACTORS = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0)  # of the resolution of the case
MEMBERS = 8
SCORED = 4  # test parameters


@dataclass
class Timed:
    """A classical run: its error, and its cost for one parameter and per parameter of a batch."""

    name: str
    error: float
    cost: dict[str, float]


@dataclass
class Classical:
    """Classical runs on one grid with one step, whose states are kept every `every` steps."""

    case: Case
    grid: Grid
    stepper: str
    step: float
    every: int

    def simulation(self, points: np.ndarray) -> Simulation:
        """An ensemble of runs at points of the sweep."""
        assert self.case.sweep
        varied = [self.case.varied(self.case.sweep.values(p)) for p in points]
        equation = varied[0].build_equation()
        start = np.concatenate([v.initial.state(equation, self.grid, (0,), 0) for v in varied])
        return Simulation(equation, self.grid, self.stepper, self.step, start, threads=1)

    def states(self, simulation: Simulation) -> np.ndarray:
        """(run, time, field, *grid), from the initial state on."""
        kept: list[np.ndarray] = []

        def keep(n: int) -> None:
            if n % self.every == 0:
                kept.append(simulation.state)

        total = multiple(self.case.time.end - self.case.time.start, self.step)
        simulation.run(total, lambda n: self.every - n % self.every, keep)
        return np.stack(kept, 1)

    def cost(self, points: np.ndarray, repeats: int) -> float:
        """Seconds per run, the least of the repeats, without those of the initial state and of the set-up."""
        made = iter([self.simulation(points) for _ in range(repeats)])
        return seconds(lambda: self.states(next(made)), repeats) / len(points)


def classical(
    case: Case, test: Sweep, chosen: list[int], intervals: int, factors: Sequence[float], steps: Sequence[float] | None
) -> list[Timed]:
    """The classical runs with `intervals` intervals between outputs, on grids up to half that of the reference."""
    assert case.sweep and case.reference and case.reference.shape
    stepper, usual = STEPPERS[case.build_equation().name]
    coarse, span = case.grid.grid(), case.time.end - case.time.start
    stride = (len(test.times) - 1) // intervals
    truth = np.stack([test.state(i)[::stride] for i in chosen]).astype(np.float64)
    batch = test.parameters[:: max(1, len(test) // MEMBERS)][:MEMBERS]
    found = []
    for factor, h in itertools.product(factors, steps or usual):
        shape = tuple(round(n * factor) for n in coarse.shape)
        grid = coarse.refined(shape)
        try:
            every, _ = multiple(span / intervals, h), multiple(span, h)
        except ValueError:
            continue
        if max(shape) > max(case.reference.shape) // 2:
            continue
        run = Classical(case, grid, stepper, h, every)
        try:
            states = run.states(run.simulation(test.parameters[chosen]))
        except BlowUp:
            continue
        restrict = Restrict(case.build_equation(), grid, coarse, "filter")
        flat = states.reshape(-1, *states.shape[2:])
        mine = restrict(flat) if shape[0] % coarse.shape[0] == 0 else restrict.onto(flat, coarse)
        cost = {"one": run.cost(test.parameters[chosen[:1]], 3), "batch": run.cost(batch, 2)}
        name = f"{'x'.join(map(str, shape))}, {stepper}, h = {h:g}"
        found.append(Timed(name, relative(mine.reshape(truth.shape), truth), cost))
    return found


def relative(found: np.ndarray, truth: np.ndarray) -> float:
    """The mean over runs and times of the relative error (run, time, *)."""
    axes = tuple(range(2, truth.ndim))
    return float(np.sqrt(((found - truth) ** 2).sum(axes) / (truth**2).sum(axes)).mean())


def frontier(candidates: list[Timed], how: str) -> list[Timed]:
    """Those of which none is both cheaper and better, from the cheapest on."""
    best: list[Timed] = []
    for one in sorted(candidates, key=lambda c: c.cost[how]):
        if not best or one.error < best[-1].error:
            best.append(one)
    return best


def speedup(error: float, cost: float, line: list[Timed], how: str) -> str:
    """C(error) / cost, with the sign of a bound beyond the ends of the frontier."""
    errors, costs = [c.error for c in line], [c.cost[how] for c in line]
    if error > errors[0]:
        return f"< {costs[0] / cost:.3g}"
    if error < errors[-1]:
        return f"> {costs[-1] / cost:.3g}"
    at = np.interp(-np.log(error), -np.log(errors), np.log(costs))
    return f"{np.exp(at) / cost:.3g}"


def predictions(model: Model, test: Sweep, chosen: list[int], intervals: int) -> tuple[float, dict[str, float]]:
    """Error of the model, and its cost for one parameter and per parameter of a batch of all test parameters."""
    span = float(test.times[-1] - test.times[0])
    stride = (len(test.times) - 1) // intervals
    truth = np.stack([test.state(i)[::stride] for i in chosen]).astype(np.float64)
    start = torch.from_numpy(test.starts(test.parameters)).flatten(1)
    buffer = torch.empty(max(ROWS, intervals + 1), start.shape[1])

    def predict(points: slice | list[int]) -> torch.Tensor:
        z = model.latents(start[points], test.parameters[points], span / intervals, intervals + 1)
        return model.decode(z, out=buffer[: z.shape[0] * z.shape[1]])

    def all_of_them() -> None:
        each = max(1, ROWS // (intervals + 1))
        for begin in range(0, len(start), each):
            predict(slice(begin, begin + each))

    error = relative(np.stack([predict([i])[0].clone().numpy() for i in chosen]).reshape(truth.shape), truth)
    one = seconds(lambda: predict(chosen[:1]), 30)
    return error, {"one": one, "batch": seconds(all_of_them, 3) / len(start)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", type=Path)
    parser.add_argument("--weights", help="a file, or the name of shipped weights; by default CASE-lasdi")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="overrides of the case")
    parser.add_argument("--outputs", type=int, nargs="+", help="numbers of outputs; by default all of them, and 6")
    parser.add_argument(
        "--factors", type=float, nargs="+", default=FACTORS, help="grids, of the resolution of the case"
    )
    parser.add_argument("--steps", type=float, nargs="+", help="steps of the classical runs")
    options = parser.parse_args()
    torch.set_num_threads(1)
    case = with_step(read(options.case, options.set))
    assert case.sweep
    model = load(locate(options.weights or f"{options.case.stem}-lasdi", Path()))
    test, training = case.sweep.test_points(), case.sweep.points()
    unseen = np.flatnonzero(~among(test, training))
    chosen = unseen[np.linspace(0, len(unseen) - 1, SCORED + 2).astype(int)[1:-1]].tolist()
    known = runs(case, test[chosen])
    sweep = Sweep(
        known.names, known.ranges, test, tuple(_files(known, chosen, len(test))), known.times, known.about, case
    )
    for outputs in options.outputs or (len(known.times), 6):
        intervals = outputs - 1
        candidates = classical(case, sweep, chosen, intervals, options.factors, options.steps)
        error, cost = predictions(model, sweep, chosen, intervals)
        for how in ("one", "batch"):
            line = frontier(candidates, how)
            print(f"{intervals + 1} outputs, {how}: model error {error:.3g}, {1e3 * cost[how]:.3g} ms,", end=" ")
            print(f"speed-up {speedup(error, cost[how], line, how)}")
            for run in line:
                print(f"   {run.name:34} error {run.error:.3g}, {1e3 * run.cost[how]:.4g} ms", flush=True)


def _files(known: Sweep, chosen: list[int], count: int) -> list[Path]:
    """A file for each of the test parameters: only those of the chosen ones are read."""
    files = [Path()] * count
    for i, file in zip(chosen, known.files, strict=True):
        files[i] = file
    return files


if __name__ == "__main__":
    main()
