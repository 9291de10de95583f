"""The simulation of a case."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ..backend import Backend, select
from ..case.tables import Case
from ..closure.contract import Coupled
from ..equations.base import Equation
from ..grid import Grid
from .loop import Simulation


def build_simulation(
    case: Case,
    equation: Equation,
    grid: Grid,
    state: NDArray,
    *,
    stepper: str | None = None,
    step: float | None = None,
    start: float | None = None,
    seed: int | None = None,
    cfl: float | None = None,
    members: tuple[int, ...] | None = None,
    closures: Sequence[Coupled] = (),
    dump: Path | None = None,
    folder: Path | None = None,
    initial: dict[str, Any] | None = None,
    reference: Path | None = None,
    threads: int | None = None,
    backend: Backend | None = None,
    mask: NDArray | None = None,
    carrier: NDArray | None = None,
) -> Simulation:
    """A simulation of `equation` on `grid` from `state` (member, field, *grid), set up as the case says.

    stepper, step, start, seed, cfl and backend replace those of the case; the guard is the case's. The case's step must
    be resolved (`time.step`). The other arguments are those of `Simulation`, which raises ValueError if the stepper
    does not fit the equation.
    """
    numbers = members or tuple(range(state.shape[0]))
    begin, own_seed = case.time.start if start is None else start, case.ensemble.seed if seed is None else seed

    def history(t: float) -> NDArray | None:
        return case.initial.exact(equation, grid, t - case.time.start, numbers, own_seed)

    return Simulation(
        equation,
        grid,
        case.time.stepper if stepper is None else stepper,
        case.step if step is None else step,
        state,
        start=begin,
        seed=own_seed,
        members=members,
        closures=list(closures),
        guard=case.guard.policy,
        dump=dump,
        folder=folder,
        initial=initial,
        reference=reference,
        history=history,
        threads=threads,
        cfl=case.time.cfl if cfl is None else cfl,
        backend=select(case.backend, case.precision) if backend is None else backend,
        mask=mask,
        carrier=carrier,
    )
