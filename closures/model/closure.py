"""The closure `model`: a network of any origin, from an ONNX file, with channels that the case declares."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field, PrivateAttr

from subgrid.solver.case.tables import GridTable
from subgrid.solver.closure import Answer, Closure, ClosureError, Correction, Kind, Memory, Problem, Tendency, View

from ..learning.compatibility import mismatch
from .channels import Channels, Input, Output, fault
from .session import Network

PAST = "past"  # states of earlier calls, the latest first, (call, member, field, *grid)


class Model(Closure):
    """du/dt += H, -div F, or u <- u + C: a term H, a flux F or a correction C from a network in an ONNX file.

    The channels of the file are `inputs` and `outputs`, in its order, each (value - offset) / scale; by default the
    fields of the equation. `padding` points are added at each end of every axis, periodic, or with the outermost value
    at walls; an output of the padded shape is cut back. `grid` states the grid for which the network was made. As long
    as there are fewer calls than the inputs go back, the answer is None, no contribution.

    The network runs on the processor, in its own precision, `batch` members at a time. Raises ClosureError, with the
    remedy, for a file that does not fit the case: see `session`. A file of `subgrid export` states its problem, and is
    refused for another one.
    """

    kind: ClassVar[Kind] = "learned"
    file: Path
    inputs: Annotated[tuple[Input, ...], Field(min_length=1)] | None = None
    outputs: Annotated[tuple[Output, ...], Field(min_length=1)] | None = None
    returns: Literal["term", "flux", "correction"] = "term"
    padding: int = Field(0, ge=0)
    grid: GridTable | None = None
    batch: int = Field(16, ge=1)
    _network: Network = PrivateAttr()
    _channels: Channels = PrivateAttr()
    _read: tuple[Input, ...] = PrivateAttr()
    _write: tuple[Output, ...] = PrivateAttr()
    _size: int = PrivateAttr()

    def start(self, problem: Problem) -> Memory:
        grid, fields = problem.grid, [f.name for f in problem.equation.fields]
        self._read = self.inputs or tuple(Input(field=name) for name in fields)
        self._write = self.outputs or tuple(Output(field=name) for name in fields)
        if found := fault(problem.equation, grid, self._read, self._write, self.returns == "flux"):
            raise ClosureError(f"model: {found}")
        self._require_grid(problem)
        self._network = Network(problem.folder / self.file)
        self._require_header(problem)
        self._channels = Channels(problem.equation, grid)
        padded = tuple(n + 2 * self.padding for n in grid.shape)
        sizes = [padded, grid.shape] if self.padding else [padded]
        labels = [c.label for c in self._read], [c.label for c in self._write]
        self._size = self._network.require(*labels, len(problem.members), self.batch, sizes)
        if not self._back:
            return {}
        return {PAST: np.empty((0, len(problem.members), len(fields), *grid.shape))}

    def __call__(self, view: View, memory: Memory) -> tuple[Answer | None, Memory]:
        state = np.asarray(view.state, dtype=np.float64)
        states = [state, *memory.get(PAST, ())]
        later: Memory = {PAST: np.stack(states[: self._back])} if self._back else {}
        if len(states) <= self._back:
            return None, later
        channels = self._channels.pad(self._channels.read(self._read, states), self.padding)
        parts = range(0, len(channels), self._size)
        found = np.concatenate([self._network(channels[i : i + self._size]) for i in parts])
        if found.shape[2:] != state.shape[2:]:
            inner = tuple(slice(self.padding, self.padding + n) for n in state.shape[2:])
            found = found[:, :, *inner]
        answer = self._channels.write(self._write, found, self.returns == "flux")
        return Correction(state + answer) if self.returns == "correction" else Tendency(answer), later

    @property
    def _back(self) -> int:
        return max(c.back for c in self._read)

    def _require_grid(self, problem: Problem) -> None:
        if self.grid is None:
            return
        made, grid = self.grid.grid(), problem.grid
        for key, own, other in (("shape", made.shape, grid.shape), ("length", made.length, grid.length)):
            if own != other and not (key == "length" and grid.has("length", own)):
                raise ClosureError(
                    f"model: {self.file.name} is for grid.{key} = {list(own)}, as `grid` says, the case has "
                    f"{list(other)}. Remedy: the grid for which the network was made"
                )

    def _require_header(self, problem: Problem) -> None:
        if (text := self._network.header) is None:
            return
        try:
            found = mismatch(json.loads(text), problem, grid_independent=False)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            raise ClosureError(
                f"model: the metadata of {self.file.name} are damaged. Remedy: export it again with `subgrid export`"
            ) from None
        if found:
            raise ClosureError(f"model: {self.file.name} {found}. Remedy: train for this case, and export again")
