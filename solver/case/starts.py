"""Which initial states `check` computes: all members of a file, else the first and the last on small grids."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from numpy.typing import NDArray

from ..equations.base import Equation
from ..equations.initial_state import InitialState
from ..equations.plugin_errors import from_plugin, place
from ..grid import Grid
from ..initial.checked import require_values, with_key
from .tables import ReferenceTable

TRIED_POINTS = 2**18  # on grids up to this size the initial states of two members are computed, to check them
Attempt = Callable[[], NDArray]


def attempts(
    equation: Equation,
    grid: Grid,
    members: int,
    initial: InitialState | None,
    reference: ReferenceTable | None,
) -> Iterator[tuple[str, Attempt]]:
    """The keys of [initial] and [reference.initial], and functions that compute and check their states.

    The functions raise ValueError, with the key, as `require_values` does. An initial state from a file is checked on
    the grid on which it is used, which for the reference is the reference grid; the members of a training set are
    checked when the set is made.
    """
    if initial is not None and initial.kind != "reference":
        yield from _of_members("initial", initial, equation, grid, members)
    first = reference.initial or initial if reference else None
    if reference is None or reference.file is not None or first is None or first.kind == "reference":
        return
    key, count = "reference.initial", reference.trajectories
    if first.from_file and reference.shape is not None and len(reference.shape) == grid.dimensions:
        yield from _of_members(key, first, equation, grid.refined(reference.shape), count, not reference.initial)
    elif reference.initial:
        yield from _of_members(key, first, equation, grid, count)


def _of_members(
    key: str, initial: InitialState, equation: Equation, grid: Grid, members: int, borrowed: bool = False
) -> Iterator[tuple[str, Attempt]]:
    """borrowed: whether the reference has no initial state of its own and takes that of the case."""

    def attempt(member: int) -> NDArray:
        try:
            made = initial.trial(equation, grid, member)
            if made.shape[1:] == (len(equation.fields), *grid.shape):
                require_values(made, equation, grid, tuple(range(member + 1))[-len(made) :], key)
        except ValueError as error:
            text = f"{error}{place(error)}" if from_plugin(error) else str(error)
            message = with_key(text, initial, "initial" if borrowed else key)
            missing = "reference.initial: missing, and [initial] does not fit the reference: " if borrowed else ""
            raise ValueError(missing + message) from error
        return made

    small = math.prod(grid.shape) <= TRIED_POINTS
    tried = {members - 1} if initial.from_file else {0, members - 1} if small else set()
    yield from ((key, lambda m=member: attempt(m)) for member in sorted(tried))  # type: ignore[misc]
