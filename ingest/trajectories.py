"""Trajectories of the complete equation on the reference grid, restricted to the grid of the case."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from subgrid.solver.backend import NUMPY
from subgrid.solver.backend.files import DamagedFile, read_json
from subgrid.solver.case.tables import Case
from subgrid.solver.equations.plugin_errors import plugin_errors
from subgrid.solver.initial.checked import checked_state
from subgrid.solver.simulation import BlowUp, Simulation
from subgrid.solver.simulation.build import build_simulation
from subgrid.solver.simulation.schedule import stops
from subgrid.solver.spectral import Transforms

from .cache import LOG, cache, locked, say_waiting
from .entities import carrier_state, mask_of, with_placeholders
from .files import Trajectories, Writer, block_size
from .given_trajectories import opened, take
from .missing_term import missing_term
from .requests import Piece, Request, pieces
from .restriction import Restrict

STRIDE = 100  # upper bound on the steps between two calls of `progress`
Progress = Callable[[int, int, str], None]


def start(case: Case, request: Request) -> NDArray[np.float64]:
    """The initial states (trajectory, field, *reference grid) of the first block, checked. Raises ValueError."""
    if request.file is not None:
        data = opened(case, request)
        return data.state(data.indices(np.array([request.start]), "the case starts at")[0])
    assert case.reference is not None
    equation, grid = case.build_equation().complete(), case.grid.grid().refined(request.reference_shape)
    key = "reference.initial" if case.reference.initial else "initial"
    ids = tuple(range(request.first, request.first + block_size(request)))
    state = checked_state(case.reference.initial or case.initial, equation, grid, ids, request.seed, key)
    return with_placeholders(state, equation, mask_of(case, ids))


@plugin_errors()
def generate(case: Case, request: Request, progress: Progress = lambda done, total, what: None) -> Trajectories:
    """The requested trajectories: from the cache, or generated, from the last checkpoint if there is one.

    One process at a time generates them; another one waits and then uses the result. Damaged data are generated again,
    and so are those of a damaged checkpoint; the logger "subgrid" says so.

    Data that hold more terms than requested are used too, the states do not depend on the rows of a comparison; and for
    a request of the start alone data that go on from it.

    The reference is a run of the complete equation on the reference grid. Its states are restricted to the grid of the
    case at the steps of `request.state_steps`; the term that the case's model lacks is evaluated at those of
    `request.term_steps`. progress(done, total, what) is called at least every 100 steps.
    """
    directory = request.directory()
    with suppress(ValueError, OSError):  # what is wrong is said below, by the process that has the lock
        return Trajectories(directory)
    if (holding := holding_more(request)) is not None:
        return holding
    state = start(case, request)  # before anything is written
    with locked(directory, say_waiting(f"the data in {directory}")):
        if (directory / "done.json").is_file():
            try:
                return Trajectories(directory)
            except DamagedFile as error:
                LOG.warning("%s. These data are computed again", error)
        if request.file is not None:
            return take(case, request, opened(case, request), progress)
        if not isinstance(request, Piece) and any(p.directory().is_dir() for p in pieces(request)):
            return _continued(case, request, progress)
        return _generate(case, request, state, progress)


def _continued(case: Case, request: Request, progress: Progress) -> Trajectories:
    """The trajectories that workers have begun; the caller holds the lock of their directory."""
    parts = pieces(request)
    before = 0

    def seen(done: int, total: int, what: str) -> None:
        progress(before * total + done, len(parts) * total, what)

    for part in parts:
        generate(case, part, seen)
        before += 1
    return joined(case, request)


def joined(case: Case, request: Request) -> Trajectories:
    """The trajectories of all pieces in one directory, whose lock the caller holds; then the pieces are deleted."""
    writer = Writer(request, case.build_equation().complete(), case.grid.grid())
    writer.begin()
    for part in pieces(request):
        writer.copy(Trajectories(part.directory()), part.first)
    found = writer.finish()
    for part in pieces(request):
        shutil.rmtree(part.directory(), ignore_errors=True)
    return found


def kind_of(request: Request) -> str:
    """What is computed, for a bar of progress."""
    return "reference run" if request.fine_at is not None else "training set"


def holding_more(request: Request) -> Trajectories | None:
    """Finished trajectories that hold those requested and more missing terms or later states, if there are any.

    None for a piece, which is data of its own.
    """
    if isinstance(request, Piece):
        return None
    records: list[Path] = []
    with suppress(OSError):  # a cache that cannot be read is refused where it is written
        records = sorted(cache().glob("*/request.json"))
    for record in records:
        with suppress(ValueError, OSError, KeyError, TypeError, IndexError):
            content = read_json(record)
            terms, states = content["term_steps"], content["state_steps"]
            held = replace(request, term_steps=None if terms is None else tuple(terms), state_steps=tuple(states))
            if held != request and held.directory() == record.parent and _contains(held, request):
                return Trajectories(record.parent)
    return None


def _contains(held: Request, asked: Request) -> bool:
    """Whether data hold the states and terms that are asked for, whose requests are otherwise the same.

    The states are the same, or the start of the case is asked for, which is kept on the reference grid.
    """
    states, start = asked.state_steps, asked.fine_at is not None and asked.state_steps[0] == asked.state_steps[1]
    if tuple(held.state_steps) != tuple(states) and not (start and held.state_steps[0] == states[0]):
        return False
    if asked.term_steps is None:
        return True
    terms = held.term_steps
    return terms is not None and asked.term_steps[:2] == terms[:2] and asked.term_steps[2] % terms[2] == 0


def _generate(case: Case, request: Request, state: NDArray, progress: Progress) -> Trajectories:
    """Generate the trajectories; the caller holds the lock of their directory.

    state: the initial states of the first block of them. Only one block is in memory at a time.
    """
    assert case.reference is not None
    initial = case.reference.initial or case.initial
    model, coarse = case.build_equation(), case.grid.grid()
    equation, fine = model.complete(), coarse.refined(request.reference_shape)
    what = kind_of(request)

    def build(rows: range) -> Simulation:
        part = replace(request, first=request.first + rows.start, trajectories=len(rows))
        ids = tuple(range(part.first, part.first + len(rows)))
        carrier = carrier_state(
            case, initial, equation, fine, ids, request.seed, request.step, request.start,
            lambda done, total: progress(done, total, f"{what}, flow"),
        )  # fmt: skip
        return build_simulation(
            case,
            equation,
            fine,
            start(case, part) if rows.start else state,
            stepper=request.stepper,
            step=request.step,
            start=request.start,
            seed=request.seed,
            cfl=request.cfl,
            members=ids,
            backend=NUMPY,
            mask=mask_of(case, ids),
            carrier=carrier,
            folder=case.folder,
        )

    writer = Writer(request, equation, coarse)
    directory = writer.directory
    simulation = None
    if not (writer.directory / "done.json").exists() and writer.interrupted:
        try:
            simulation = writer.resume(build)
        except DamagedFile as error:
            where = "" if str(directory) in str(error) else f"{directory / 'checkpoint.npz'}: "
            LOG.warning("%s%s. The interrupted computation of these data starts again", where, error)
            writer.begin()
    else:
        writer.begin()
    restrict = Restrict(equation, fine, coarse, request.restrict)
    law = model.noise.law(coarse) if request.term_noise and model.noise and not model.has("noise") else None
    schedules, steps = writer.schedules, writer.last

    def run(simulation: Simulation) -> None:
        """Run a block of trajectories to its end, and keep what is due."""
        missing = missing_term(model, restrict, simulation)

        def keep(n: int, due: set[str], state: NDArray) -> None:
            if "state" in due:
                writer.write("state", n, restrict(state))
            if "term" in due:
                term = missing(state, simulation.time)
                if law is not None:
                    step = n + round(request.start / request.step)
                    drawn = law.sample(request.seed, "equation", simulation.members, step, fields=len(equation.fields))
                    term += Transforms(coarse).to_physical(drawn) / math.sqrt(request.step)
                writer.write("term", n, term)
            if "fine" in due:
                writer.write("fine", n, state)
            if "carrier" in due:
                assert simulation.carrier is not None
                writer.write("carrier", n, simulation.carrier.state)

        def at(n: int) -> None:
            due = {name for name, schedule in schedules.items() if schedule.due(n)}
            if due:
                keep(n, due, simulation.state)
            if writer.checkpoint_due():
                writer.save(simulation.checkpoint())
            progress(writer.block * steps + n, len(writer.blocks) * steps, what)

        try:
            simulation.run(steps, stops(*schedules.values(), stride=STRIDE), at)
        except BlowUp as error:  # the step is not that of the case
            text = str(error).replace(" time.", " reference.")
            raise BlowUp(f"the {what}: {text}") from None

    while writer.block < len(writer.blocks):
        if simulation is None:
            simulation = build(writer.blocks[writer.block])
        run(simulation)
        simulation = None  # before the next one is made
        writer.block += 1
    return writer.finish()
