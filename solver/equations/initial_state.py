"""What an initial state is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..grid import Grid
from .base import Equation
from .plugins import PluginModel

Members = tuple[int, ...]


class InitialState(PluginModel, ABC):
    """u(x, 0) of every member: the pydantic fields of a subclass are the keys of [initial] beside `kind`.

    `kind` is the name under which a case asks for it; a class that is named by `path` needs none.
    """

    kind: str = ""

    @abstractmethod
    def state(
        self, equation: Equation, grid: Grid, members: Members, seed: int, folder: Path | None = None
    ) -> NDArray[np.float64]:
        """The state (member, field, *grid): values at points of a Fourier grid, else averages over cells.

        members: member numbers; with `seed` they key the random streams, so that a member starts from the same state
        alone and in a batch. folder: folder of the case file, to which paths are relative. Raises ValueError where the
        initial state does not fit the equation or the grid.
        """

    def exact(
        self, equation: Equation, grid: Grid, t: float, members: Members, seed: int
    ) -> NDArray[np.float64] | None:
        """The solution a time t later, in the form of `state`; None where no closed form is known."""
        return None

    def _require(self, fits: bool, wanted: str, equation: Equation) -> None:
        if not fits:
            kind, fields = self.kind or type(self).__name__, [f.name for f in equation.fields]
            raise ValueError(
                f"initial kind {kind!r} is for {wanted}, not for {equation.name} with fields {fields}. "
                "Remedy: another initial.kind"
            )


def repeat(field: NDArray, members: Members) -> NDArray[np.float64]:
    """(*grid) -> (member, 1, *grid), the same for all."""
    return np.repeat(field[None, None], len(members), axis=0)
