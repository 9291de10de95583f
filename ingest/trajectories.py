"""Trajectories of the complete equation on the reference grid, restricted to the grid of the case."""

from __future__ import annotations

import math
from collections.abc import Callable

from numpy.typing import NDArray

from subgrid.solver.backend import NUMPY
from subgrid.solver.case.tables import Case
from subgrid.solver.equations.answers import initial_state
from subgrid.solver.equations.plugin_errors import plugin_errors
from subgrid.solver.simulation.build import build_simulation
from subgrid.solver.simulation.schedule import Schedule, stops
from subgrid.solver.spectral import Transforms

from .files import Trajectories, Writer
from .missing_term import MissingTerm
from .requests import Request
from .restriction import Restrict

STRIDE = 100  # upper bound on the steps between two calls of `progress`
Progress = Callable[[int, int, str], None]


@plugin_errors()
def generate(case: Case, request: Request, progress: Progress = lambda done, total, what: None) -> Trajectories:
    """The requested trajectories: from the cache, or generated, from the last checkpoint if there is one.

    The reference is a run of the complete equation on the reference grid. Its states are restricted to the grid of the
    case at the steps of `request.state_steps`; the term that the case's model lacks is evaluated at those of
    `request.term_steps`. progress(done, total, what) is called at least every 100 steps.
    """
    if (request.directory() / "done.json").is_file():
        return Trajectories(request.directory())
    assert case.reference is not None
    model, coarse = case.build_equation(), case.grid.grid()
    equation, fine = model.complete(), coarse.refined(request.reference_shape)
    ids = tuple(range(request.trajectories))
    initial = case.reference.initial or case.initial
    writer = Writer(request, len(equation.fields), coarse)
    simulation = build_simulation(
        case,
        equation,
        fine,
        initial_state(initial, equation, fine, ids, request.seed),
        stepper=request.stepper,
        step=request.step,
        start=request.start,
        seed=request.seed,
        cfl=request.cfl,
        members=ids,
        backend=NUMPY,
    )
    if (checkpoint := writer.checkpoint()) is not None:
        simulation.restore(checkpoint)
    restrict = Restrict(equation, fine, coarse, request.restrict)
    missing = MissingTerm(model, restrict, len(ids))
    law = model.noise.law(coarse) if request.term_noise and model.noise and not model.has("noise") else None
    schedules = dict(writer.schedules)
    if request.fine_at is not None:
        schedules["fine"] = Schedule(request.fine_at, request.fine_at, 1)
    steps = max(schedule.last or 0 for schedule in writer.schedules.values())

    def keep(n: int, due: set[str], state: NDArray) -> None:
        if "state" in due:
            writer.write("state", n, restrict(state))
        if "term" in due:
            term = missing(state)
            if law is not None:
                step = n + round(request.start / request.step)
                drawn = law.sample(request.seed, "equation", ids, step, fields=len(equation.fields))
                term += Transforms(coarse).to_physical(drawn) / math.sqrt(request.step)
            writer.write("term", n, term)
        if "fine" in due:
            writer.write_fine(state)

    def at(n: int) -> None:
        due = {name for name, schedule in schedules.items() if schedule.due(n)}
        if due:
            keep(n, due, simulation.state)
        if writer.checkpoint_due():
            writer.save(simulation.checkpoint())
        progress(n, steps, "reference run" if request.fine_at is not None else "training set")

    simulation.run(steps, stops(*schedules.values(), stride=STRIDE), at)
    return writer.finish(steps)
