"""Clusters of tracers, and the flow that carries them, at the start."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, SerializeAsAny
from pydantic import Field as Option

from ..equations.base import Equation
from ..equations.initial_state import InitialState, Members
from ..equations.plugins import from_table
from ..equations.tracers.equation import Tracers
from ..grid import Grid
from ..random import Stream
from .checked import checked_state
from .registry import INITIAL_STATES


class TracerClusters(InitialState):
    """Clusters of `equation.cluster` tracers: the first anywhere in the domain, the others at a distance from it.

    The first tracers are uniformly distributed over the period of the flow, the directions of the others over the
    circle. separation: the distance, in length. flow: the table of the initial state of the flow, at time.start less
    equation.spin_up; without it the flow must be stored (equation.stored).
    """

    kind: Literal["tracer-clusters"] = "tracer-clusters"
    separation: float = Option(gt=0)
    flow: Annotated[SerializeAsAny[InitialState], BeforeValidator(from_table(INITIAL_STATES))] | None = None

    def state(
        self, equation: Equation, grid: Grid, members: Members, seed: int, folder: Path | None = None
    ) -> NDArray[np.float64]:
        self._require(isinstance(equation, Tracers), "the equation tracers", equation)
        assert isinstance(equation, Tracers) and grid.carrier is not None
        n, size = grid.points // equation.cluster, equation.cluster
        low, period = (np.array(v)[::-1, None, None] for v in (grid.carrier.origin, grid.carrier.length))
        states = []
        for member in members:
            generator = Stream(seed, "tracers", 0, (member,)).generator(member)
            first = low + period * generator.random((2, n, 1))
            angle = 2 * np.pi * generator.random((n, size - 1))
            others = first + self.separation * np.stack([np.cos(angle), np.sin(angle)])
            states.append(np.concatenate([first, others], axis=2).reshape(2, n * size))
        return np.stack(states)

    def carrier(
        self, equation: Equation, grid: Grid, members: Members, seed: int, folder: Path | None = None
    ) -> NDArray[np.float64] | None:
        assert isinstance(equation, Tracers) and grid.carrier is not None
        if self.flow is None:
            return None
        return checked_state(self.flow, equation.carrier, grid.carrier, members, seed, "initial.flow", folder)

    def trial(self, equation: Equation, grid: Grid, member: int) -> NDArray[np.float64]:
        """With the flow, unless it is from a file, which is for one grid alone."""
        found = super().trial(equation, grid, member)
        if self.flow is not None and not self.flow.from_file:
            self.carrier(equation, grid, (member,), 0)
        return found
