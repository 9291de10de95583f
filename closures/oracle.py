"""The oracle: the true missing term, read from the reference run."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import PrivateAttr

from subgrid.ingest.requests import describe_equation
from subgrid.ingest.trajectories import Trajectories
from subgrid.solver.case.tables import GridTable
from subgrid.solver.closure import Closure, ClosureError, Kind, Memory, Problem, Tendency, View
from subgrid.solver.random import SpectralNoise


class Oracle(Closure):
    """du/dt += H(t), the missing term of the reference at the time of a call, plus noise if the model omits it.

    H (member, field, *grid) is held until the next call. The noise is drawn from the law of the equation's noise; it is
    not the realisation of the reference. reference: directory of the reference's trajectories;
    `subgrid run` and `subgrid compare` set it. The members are distributed over the trajectories in equal blocks.
    Raises ClosureError if the reference has no term at the time of a call, or is for another equation or grid.
    """

    kind: ClassVar[Kind] = "oracle"
    needs_reference: ClassVar[bool] = True
    reference: Path | None = None
    _term: NDArray = PrivateAttr()
    _times: NDArray = PrivateAttr()
    _owner: NDArray = PrivateAttr()
    _noise: SpectralNoise | None = PrivateAttr()

    def start(self, problem: Problem) -> Memory:
        reference = self.reference or problem.reference
        if reference is None:
            raise ClosureError("oracle: needs a reference run. Remedy: add a [reference] table to the case")
        try:
            trajectories = Trajectories(reference)
        except ValueError as error:
            raise ClosureError(f"oracle: {error}") from None
        made_for = trajectories.request
        model = describe_equation(problem.equation)
        if differing := [k for k, v in model.items() if made_for["equation"].get(k) != v]:
            key = differing[0]
            raise ClosureError(
                f"oracle: the reference's term is for equation.{key} = {made_for['equation'].get(key)!r}, the case has "
                f"{model[key]!r}. Remedy: remove `reference` from the options of the closure"
            )
        grid = GridTable.model_validate(made_for["grid"]).grid()
        if grid.shape != problem.grid.shape or not problem.grid.has("length", grid.length):
            raise ClosureError(
                f"oracle: the reference was restricted to shape {list(grid.shape)} and length {list(grid.length)}, the "
                f"case has {list(problem.grid.shape)} and {list(problem.grid.length)}. "
                "Remedy: remove `reference` from the options of the closure"
            )
        if made_for["term_steps"] is None:
            raise ClosureError(
                "oracle: the reference was stored without missing terms. Remedy: name the oracle in the case file"
            )
        self._term, self._times = trajectories.term, trajectories.times("term")
        share, left = divmod(len(problem.members), len(self._term))
        if left:
            raise ClosureError(
                f"oracle: {len(problem.members)} members cannot be distributed equally over the {len(self._term)} "
                "trajectories of the reference. Remedy: remove `reference` from the options of the closure"
            )
        self._owner = np.repeat(np.arange(len(self._term)), share)
        omitted = problem.equation.noise if not problem.equation.has("noise") else None
        self._noise = omitted.law(problem.grid) if omitted else None
        return {}

    def __call__(self, view: View, memory: Memory) -> tuple[Tendency, Memory]:
        index = int(np.abs(self._times - view.time).argmin())
        spacing = self._times[1] - self._times[0] if len(self._times) > 1 else 1.0
        if abs(self._times[index] - view.time) > 1e-6 * spacing:
            raise ClosureError(
                f"oracle: the reference has no term at t = {view.time:g} (it stores one every {spacing:g}). "
                "Remedy: set `every` as in the case for which the reference was computed"
            )
        field = self._term[:, index].astype(np.float64)[self._owner]
        return Tendency(field, noise=self._noise), memory
