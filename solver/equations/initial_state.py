"""What an initial state is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from ..grid import Grid
from .base import Equation

Members = tuple[int, ...]


class InitialState(BaseModel, ABC):
    """What a run starts from. Members are the numbers that key the random streams."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    kind: str

    @abstractmethod
    def state(
        self, equation: Equation, grid: Grid, members: Members, seed: int, folder: Path | None = None
    ) -> NDArray[np.float64]:
        """The state (member, field, *grid). Paths are relative to `folder`, that of the case file.

        Raises ValueError where the kind does not fit the equation or the grid.
        """

    def exact(
        self, equation: Equation, grid: Grid, t: float, members: Members, seed: int
    ) -> NDArray[np.float64] | None:
        """The solution a time t later, in the form of `state`, or None where no closed form is known."""
        return None

    def _require(self, fits: bool, wanted: str, equation: Equation) -> None:
        if not fits:
            raise ValueError(
                f"initial kind {self.kind!r} is for {wanted}, not for {equation.name} with fields "
                f"{[f.name for f in equation.fields]}. Remedy: another initial.kind"
            )


def repeat(field: NDArray, members: Members) -> NDArray[np.float64]:
    """(*grid) -> (member, 1, *grid), the same for all."""
    return np.repeat(field[None, None], len(members), axis=0)
