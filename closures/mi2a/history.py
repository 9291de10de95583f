"""The window of states before the first leap, where it does not come from the solver."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from subgrid.solver.backend.files import read_arrays
from subgrid.solver.closure import ClosureError, Problem

from .options import METHOD


def given(source: str, problem: Problem, times: NDArray) -> NDArray[np.float64] | None:
    """States (member, time, field, *grid) at `times`; None for the source "solver".

    Raises ClosureError, with the remedy, for states that are not known or do not fit the problem.
    """
    if source == "solver":
        return None
    if source == "exact":
        found = None if problem.history is None else [problem.history(float(t)) for t in times]
        if found is None or any(state is None for state in found):
            raise ClosureError(
                f"{METHOD}: no closed form of the initial state is known up to t = {times[-1]:g}. "
                'Remedy: history = "solver", or a file'
            )
        return np.stack(found, axis=1)  # type: ignore[arg-type]
    return _from_file(source, problem, times)


def _from_file(source: str, problem: Problem, times: NDArray) -> NDArray[np.float64]:
    path, points = problem.folder / source, problem.grid.points * len(problem.equation.fields)
    remedy = 'Remedy: an .npz file with state (time, field, *grid) and time, or history = "solver" or "exact"'
    try:
        arrays = read_arrays(path, largest=max(2**28, 16 * 64 * points))
        states, held = arrays["state"], arrays["time"]
    except (OSError, ValueError, KeyError) as error:
        raise ClosureError(f"{METHOD}: history {path.name!r} cannot be read ({error}). {remedy}") from None
    shape = (len(problem.equation.fields), *problem.grid.shape)
    if held.ndim != 1 or states.shape != (len(held), *shape):
        raise ClosureError(
            f"{METHOD}: history {path.name!r} has states {states.shape}, expected (time, {shape}). {remedy}"
        )
    places = np.abs(held[None] - times[:, None]).argmin(1) if len(held) else np.zeros(len(times), int)
    interval = times[1] - times[0]
    if not len(held) or (np.abs(held[places] - times) > 1e-6 * interval).any():
        raise ClosureError(
            f"{METHOD}: history {path.name!r} lacks states at the times {times[:3]}...{times[-1]:g}. {remedy}"
        )
    if not np.isfinite(states).all():
        raise ClosureError(f"{METHOD}: history {path.name!r} holds values that are not finite. {remedy}")
    return np.repeat(states[places].astype(np.float64)[None], len(problem.members), axis=0)
