"""Trajectories from data of files: restricted to the grid of the case as a reference run is, with missing terms."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from subgrid.solver.backend import NUMPY
from subgrid.solver.case.base import multiple
from subgrid.solver.case.tables import Case
from subgrid.solver.grid import Grid
from subgrid.solver.simulation.build import build_simulation
from subgrid.solver.simulation.schedule import Schedule

from .cache import LOG
from .external.contents import DataError
from .files import Trajectories, Writer
from .given_data import GivenData
from .missing_term import MissingTerm, Rate
from .requests import Request
from .restriction import Restrict

CHECKED = 8  # states at which the residual of the equation is computed


def opened(case: Case, request: Request) -> GivenData:
    """The data of a request, with states at all its times. Raises DataError, with the key."""
    data = GivenData(case, key_of(request))
    steps = [schedule_times(request, span) for span in (request.state_steps, request.term_steps) if span is not None]
    what = "the case has an output at" if data.key == "reference" else "the training set has a sample at"
    data.indices(steps[0], what)
    if len(steps) > 1:
        if data.unobserved:
            raise DataError(
                f"reference.unobserved: a closure needs the missing term, which needs {', '.join(data.unobserved)}. "
                "Remedy: another closure, or data that hold all fields"
            )
        data.indices(steps[1], "a closure needs the missing term at")
        if way_of(case, request, data) == "differences":
            if data.key == "reference":
                raise DataError(
                    f"reference.parameters: {data.file} does not state those of {data.equation.name}, so that "
                    'its missing term is unknown. Remedy: state them, or term = "equation"'
                )
            data.indices(steps[1] + interval(request), "the difference of consecutive samples needs")
    return data


def key_of(request: Request) -> str:
    """The table that names the data."""
    return "training" if request.fine_at is None else "reference"


def way_of(case: Case, request: Request, data: GivenData) -> str:
    """How the missing term is computed: "equation" or "differences"."""
    return _term(case, request) or ("equation" if data.known else "differences")


def _term(case: Case, request: Request) -> str | None:
    table = case.training if key_of(request) == "training" else case.reference
    assert table is not None
    return table.term


def interval(request: Request) -> float:
    """Time between two missing terms."""
    assert request.term_steps is not None
    return request.term_steps[2] * request.step


def schedule_times(request: Request, span: tuple[int, int, int] | tuple[int, int, int, bool]) -> NDArray[np.float64]:
    """The times of a schedule of a request."""
    return request.start + request.step * Schedule(*span).steps().astype(np.float64)


def take(case: Case, request: Request, data: GivenData, progress: Callable[[int, int, str], None]) -> Trajectories:
    """Write the states of the data, restricted to the grid of the case, and their missing terms.

    The logger "subgrid" says how the missing term was computed, and the residual of the equation if the data state its
    parameters. The caller holds the lock of the directory. Raises DataError for values that are not finite.
    """
    model, coarse = case.build_equation(), case.grid.grid()
    fine = coarse.refined(request.reference_shape)
    restrict = Restrict(model, fine, coarse, request.restrict)
    ids = request.trajectories
    way = way_of(case, request, data) if request.term_steps is not None else None
    missing = MissingTerm(model, restrict, ids) if way == "equation" else None
    _say(case, request, data, fine, way)
    writer = Writer(request, model, coarse)
    writer.begin()
    steps = np.unique(np.concatenate([s.steps() for s in writer.schedules.values()]))
    indices = data.indices(request.start + request.step * steps.astype(np.float64), "the case needs")
    what = "reference data" if data.key == "reference" else "training data"
    for done, (n, index) in enumerate(zip(steps.tolist(), indices, strict=True)):
        due = {name for name, schedule in writer.schedules.items() if schedule.due(n)}
        state = data.state(index)
        restricted = restrict(state)
        if "state" in due:
            writer.write("state", n, restricted)
        if "fine" in due:
            writer.write("fine", n, state)
        if "term" in due:
            t = request.start + n * request.step
            term = missing(state, t) if missing else _difference(case, request, data, restrict, restricted, n)
            writer.write("term", n, term)
        progress(done + 1, len(steps), what)
    return writer.finish()


def _difference(
    case: Case, request: Request, data: GivenData, restrict: Restrict, restricted: NDArray, n: int
) -> NDArray:
    """(R(u(t + D)) - the model's step of R(u(t)) over D) / D, with D the interval between samples."""
    span, start = interval(request), request.start + n * request.step
    simulation = build_simulation(
        case,
        case.build_equation(),
        restrict.coarse,
        restricted,
        start=start,
        members=tuple(range(request.trajectories)),
        backend=NUMPY,
    )
    simulation.run(multiple(span, request.step))
    after = data.state(data.indices(np.array([start + span]), "the difference of consecutive samples needs")[0])
    return (restrict(after) - simulation.state) / span


def _say(case: Case, request: Request, data: GivenData, fine: Grid, way: str | None) -> None:
    """Say how the missing term was computed, and how well the data fulfil the equation."""
    file = data.file
    if data.unobserved:
        LOG.warning(
            "%s.file: %s has no %s. The model starts with the values in unobserved, and is scored by the other fields",
            data.key, file, ", ".join(data.unobserved),
        )  # fmt: skip
    elif way == "differences":
        LOG.warning(
            "%s.file: the missing term of %s is a learned correction, what the model lacks between two samples, %s",
            data.key, file, 'as term = "differences" asks' if _term(case, request) else
            f"because the data do not state the parameters of {data.equation.name}",
        )  # fmt: skip
    elif data.known or way == "equation":
        found = residual(case, request, data, fine)
        if found is not None:
            LOG.warning(
                "%s.file: %s fulfils %s to %.2g of its rate of change (by central differences in time). "
                "A large residual points to another forcing, other boundaries, or times that are far apart",
                data.key, file, data.equation.name, found,
            )  # fmt: skip


def residual(case: Case, request: Request, data: GivenData, fine: Grid) -> float | None:
    """|du/dt - F(u)| / |du/dt|, root mean squares over some states; du/dt by central differences of uneven times.

    None for an equation with noise, and where no state has neighbours in time.
    """
    equation = case.build_equation().complete()
    times = schedule_times(request, request.state_steps)
    inner = data.indices(times, "the case needs")
    inner = inner[(inner > 0) & (inner < len(data.times) - 1)]
    if equation.noise or not len(inner):
        return None
    rate = Rate(equation, fine, request.trajectories)
    difference, change = 0.0, 0.0
    for i in inner[:: max(1, len(inner) // CHECKED)]:
        before, now, after = (data.state(j) for j in (i - 1, i, i + 1))
        h, k = data.times[i] - data.times[i - 1], data.times[i + 1] - data.times[i]
        slope = (h / k * (after - now) + k / h * (now - before)) / (h + k)
        difference += float(((slope - rate(now, float(data.times[i]))) ** 2).sum())
        change += float((slope**2).sum())
    return float(np.sqrt(difference / change)) if change else None
