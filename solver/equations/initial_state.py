"""Base class of initial states."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ..grid import Grid
from .answers import initial_state
from .base import Equation
from .plugins import PluginModel

Members = tuple[int, ...]


class InitialState(PluginModel, ABC):
    """u(x, 0) of every member.

    The pydantic fields of a subclass are the keys of [initial] beside `kind`. `kind` is the name by which a case
    selects the class; a class that is selected by `path` needs none.
    """

    kind: str = ""
    from_file: ClassVar[bool] = False  # whether `subgrid check` computes it whole, on grids of any size

    @abstractmethod
    def state(
        self, equation: Equation, grid: Grid, members: Members, seed: int, folder: Path | None = None
    ) -> NDArray[np.float64]:
        """The state (member, field, *grid): values at grid points, cell averages or entities, see `Equation.kind`.

        members: member numbers. Together with `seed` they key the random streams, so that a member starts from the same
        state alone and in a batch. folder: folder of the case file; relative paths start there. Raises ValueError if
        the initial state does not fit the equation or the grid.
        """

    def trial(self, equation: Equation, grid: Grid, member: int) -> NDArray[np.float64]:
        """What `subgrid check` looks at: the state of one member, raising what `state` raises.

        A subclass whose state is costly may return other numbers that are finite exactly if the state is.
        """
        return initial_state(self, equation, grid, (member,), 0)

    def carrier(
        self, equation: Equation, grid: Grid, members: Members, seed: int, folder: Path | None = None
    ) -> NDArray[np.float64] | None:
        """The state of the flow that carries the entities, (member, field, *grid.carrier); None without one."""
        return None

    def exact(
        self, equation: Equation, grid: Grid, t: float, members: Members, seed: int
    ) -> NDArray[np.float64] | None:
        """The exact solution at the time t after the start, shaped as `state`; None if no closed form is known."""
        return None

    def _require(self, fits: bool, wanted: str, equation: Equation) -> None:
        if not fits:
            kind, fields = self.kind or type(self).__name__, [f.name for f in equation.fields]
            raise ValueError(
                f"initial kind {kind!r} is for {wanted}, not for {equation.name} with fields {fields}. "
                "Remedy: choose another initial.kind"
            )


def repeat(field: NDArray, members: Members) -> NDArray[np.float64]:
    """(*grid) -> (member, 1, *grid), equal for all members."""
    return np.repeat(field[None, None], len(members), axis=0)
