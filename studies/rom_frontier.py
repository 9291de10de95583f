"""Speed-up at equal error of a reduced-order model against classical runs, for few outputs and for many parameters.

    python studies/rom_frontier.py CASE [--weights FILE]

The classical runs are those of the case's equation on a ladder of grids, each with the steppers and steps below; the
frontier are those of which none is both cheaper and better. The error is the mean over the outputs and over PARAMETERS
parameters of |u_hat - u| / |u|, u the runs of the sweep at these parameters. They are a Latin hypercube of the box of
training, none of them of the training. The cost is processor seconds of one thread for one parameter and the outputs
asked for, without the initial state; the model and the classical runs are timed in turns, and the least time counts. In
a batch the model predicts all parameters of the test grid together; the classical runs advance an ensemble, of which
MEMBERS are timed.

    speed-up = C(e) / c,    log C linear in log e along the frontier, e and c of the model; "<" or ">" beyond its ends

In brackets is its 95 % interval by bootstrap over the parameters: model and classical runs are drawn with the same
weights, and costs are not drawn. "-" is an open end. With `--set reference.shape=[...]` the errors are
against finer runs than those of the training, and the ladder may reach the grid of the training runs.
"""

from __future__ import annotations

import argparse
import itertools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from rom import Model
from rom_speed import ROWS, seconds

from subgrid.closures.lasdi.interpolated import load
from subgrid.closures.learning.compatibility import locate
from subgrid.commands.comparison.samples import LEVEL, draws
from subgrid.commands.comparison.speedup import SpeedUp, frontier, interval, speed_up
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
PARAMETERS = 16
TURNS = {"one": 5, "batch": 2}  # in which everything is timed


@dataclass
class Timed:
    """A run or a model: its errors (parameter,), and its cost for one parameter and per parameter of a batch."""

    name: str
    error: np.ndarray
    work: dict[str, Callable[[], float]]
    cost: dict[str, float] = field(default_factory=dict)


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
        self.visit(simulation, kept.append)
        return np.stack(kept, 1)

    def visit(self, simulation: Simulation, use: Callable[[np.ndarray], None]) -> None:
        """Run and hand over the state (run, field, *grid) at each output."""
        total = multiple(self.case.time.end - self.case.time.start, self.step)
        every = self.every
        simulation.run(total, lambda n: every - n % every, lambda n: None if n % every else use(simulation.state))

    def cost(self, points: np.ndarray) -> float:
        """Seconds per run, without those of the initial state and of the set-up; no state is kept, as of the model."""
        made = self.simulation(points)
        return seconds(lambda: self.visit(made, lambda state: None), 1) / len(points)


def classical(
    case: Case, known: Sweep, batch: np.ndarray, intervals: int, factors: Sequence[float], steps: Sequence[float] | None
) -> list[Timed]:
    """The classical runs with `intervals` intervals between outputs, on grids up to half that of the reference.

    known: the runs of the parameters of the errors. batch (run, parameter): those of the ensemble that is timed.
    """
    assert case.sweep and case.reference and case.reference.shape
    stepper, usual = STEPPERS[case.build_equation().name]
    coarse, span = case.grid.grid(), case.time.end - case.time.start
    truths = [truth(known, i, intervals) for i in range(len(known))]
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
        restrict = Restrict(case.build_equation(), grid, coarse, "filter")
        errors = []
        try:
            for point, exact in zip(known.parameters, truths, strict=True):
                states = run.states(run.simulation(point[None]))[0]
                mine = restrict(states) if shape[0] % coarse.shape[0] == 0 else restrict.onto(states, coarse)
                errors.append(relative(mine, exact))
        except BlowUp:
            continue
        work = {
            "one": lambda run=run: run.cost(known.parameters[:1]),
            "batch": lambda run=run: run.cost(batch),
        }
        found.append(Timed(f"{'x'.join(map(str, shape))}, {stepper}, h = {h:g}", np.array(errors), work))
    return found


def truth(known: Sweep, run: int, intervals: int) -> np.ndarray:
    """The states (time, field, *grid) of a run at the outputs."""
    return known.state(run)[:: (len(known.times) - 1) // intervals].astype(np.float64)


def relative(found: np.ndarray, exact: np.ndarray) -> float:
    """The mean over times of the relative error (time, *)."""
    axes = tuple(range(1, exact.ndim))
    return float(np.sqrt(((found - exact) ** 2).sum(axes) / (exact**2).sum(axes)).mean())


def modelled(model: Model, known: Sweep, test: np.ndarray, intervals: int) -> Timed:
    """The model: its errors at the parameters of known runs. test (point, parameter): those of the batch."""
    span = float(known.times[-1] - known.times[0])
    exact = [truth(known, i, intervals) for i in range(len(known))]
    start = {"one": known.starts(known.parameters), "batch": known.starts(test)}
    first = {how: torch.from_numpy(states).flatten(1) for how, states in start.items()}
    buffer = torch.empty(max(ROWS, intervals + 1), first["one"].shape[1])

    def predict(how: str, points: np.ndarray, begin: int, count: int) -> torch.Tensor:
        chosen = slice(begin, begin + count)
        z = model.latents(first[how][chosen], points[chosen], span / intervals, intervals + 1)
        return model.decode(z, out=buffer[: z.shape[0] * z.shape[1]])

    def all_of_them() -> None:
        each = max(1, ROWS // (intervals + 1))
        for begin in range(0, len(test), each):
            predict("batch", test, begin, each)

    errors = [
        relative(predict("one", known.parameters, i, 1)[0].clone().numpy().reshape(u.shape), u)
        for i, u in enumerate(exact)
    ]
    work = {
        "one": lambda: seconds(lambda: predict("one", known.parameters, 0, 1), 10),
        "batch": lambda: seconds(all_of_them, 1) / len(test),
    }
    return Timed("model", np.array(errors), work)


def measure(several: list[Timed], how: str) -> None:
    """The cost of each, the least of TURNS, in turns with the others."""
    for _ in range(TURNS[how]):
        for one in several:
            one.cost[how] = min(one.cost.get(how, float("inf")), one.work[how]())


def judged(model: Timed, several: list[Timed], how: str) -> tuple[SpeedUp | None, tuple[float | None, float | None]]:
    """The speed-up of the model over classical runs, and its interval by bootstrap over the parameters."""
    errors, costs = np.stack([c.error for c in several]), np.array([c.cost[how] for c in several])
    count = len(model.error)

    def over(weights: np.ndarray) -> SpeedUp | None:
        return speed_up(model.cost[how], float(weights @ model.error), costs, errors @ weights)

    return over(np.full(count, 1 / count)), interval([over(w) for w in draws(count)], LEVEL)


def shown(value: SpeedUp | None, ends: tuple[float | None, float | None]) -> str:
    """A speed-up with its interval: "5.2 [4.1, 6.3]"; "-" is an open end."""
    if value is None:
        return "unknown"
    low, high = ("-" if end is None else f"{end:.3g}" for end in ends)
    return f"{value.beyond + ' ' if value.beyond else ''}{value.value:.3g} [{low}, {high}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", type=Path)
    parser.add_argument("--weights", help="a file, or the name of shipped weights; by default CASE-lasdi")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="overrides of the case")
    parser.add_argument("--outputs", type=int, nargs="+", help="numbers of outputs; by default all of them, and 6")
    parser.add_argument(
        "--factors", type=float, nargs="+", default=FACTORS, help="grids, of the resolution of the case"
    )
    parser.add_argument("--parameters", type=int, default=PARAMETERS, help="number of parameters of the errors")
    parser.add_argument("--steps", type=float, nargs="+", help="steps of the classical runs")
    options = parser.parse_args()
    torch.set_num_threads(1)
    case = with_step(read(options.case, options.set))
    if case.sweep is None or case.reference is None or not len(test := case.sweep.test_points()):
        parser.error(f"{options.case} has no [reference], or no [sweep] with test_counts")
    if options.parameters < 2:
        parser.error(f"--parameters {options.parameters}: an interval needs two at least")
    model = load(locate(options.weights or f"{options.case.stem}-lasdi", Path()))
    drawn = case.sweep.model_copy(update={"test_counts": (), "test_runs": options.parameters}).test_points()
    known = runs(case, drawn[~among(drawn, case.sweep.points())])
    batch = test[:: max(1, len(test) // MEMBERS)][:MEMBERS]
    for outputs in options.outputs or (len(known.times), 6):
        intervals = outputs - 1
        candidates = classical(case, known, batch, intervals, options.factors, options.steps)
        if not candidates:
            parser.error(f"no classical run with {outputs} outputs. Remedy: other --outputs, --factors or --steps")
        mine = modelled(model, known, test, intervals)
        for how in TURNS:
            measure([mine, *candidates], how)
            print(
                f"{outputs} outputs, {how}: model error {mine.error.mean():.3g}, {1e3 * mine.cost[how]:.3g} ms,",
                end=" ",
            )
            print(f"speed-up {shown(*judged(mine, candidates, how))}")
            costs, errors = zip(*((c.cost[how], c.error.mean()) for c in candidates), strict=True)
            for i in frontier(np.array(costs), np.array(errors)):
                print(f"   {candidates[i].name:34} error {errors[i]:.3g}, {1e3 * costs[i]:.4g} ms", flush=True)


if __name__ == "__main__":
    main()
