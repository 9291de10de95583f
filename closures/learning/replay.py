"""Networks replayed as CUDA graphs: a call launches hundreds of small kernels, which takes longer than they run."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from subgrid.solver.backend import Backend
from subgrid.solver.time_stepping import cuda_graph

if TYPE_CHECKING:
    import torch

Function = Callable[["torch.Tensor"], "torch.Tensor"]


class Replayed:
    """A function of one tensor that draws no noise, with the same values, without gradients.

    On a CUDA device the second call with a shape records the kernels, and later ones replay them; the first finds plans
    and constants. Elsewhere, and for more values than `cuda_graph.LARGEST`, it is the function.
    """

    def __init__(self, function: Function, device: str) -> None:
        self._function, self._record = function, cuda_graph.recorder(Backend("torch", device))
        self._known: dict[tuple[int, ...], _Recorded | None] = {}

    def in_parts(self, given: torch.Tensor, batch: int) -> torch.Tensor:
        """The values for so many members at a time, in one tensor."""
        import torch

        parts = [self(part) for part in given.split(batch)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def __call__(self, given: torch.Tensor) -> torch.Tensor:
        shape = tuple(given.shape)
        if self._record is None or given.numel() > cuda_graph.LARGEST:
            return self._function(given)
        if shape not in self._known:
            self._known[shape] = None
            return self._function(given)
        recorded = self._known[shape]
        if recorded is None:
            recorded = self._known[shape] = _Recorded(self._function, self._record, given)
        return recorded(given)


class _Recorded:
    """The graph for one shape, with the tensors that it reads and writes."""

    def __init__(self, function: Function, record: cuda_graph.Record, given: torch.Tensor) -> None:
        self._given = given.clone()
        self._found: torch.Tensor | None = None

        def work() -> None:
            self._found = function(self._given)

        self._replay = record(work)

    def __call__(self, given: torch.Tensor) -> torch.Tensor:
        self._given.copy_(given)
        self._replay()
        assert self._found is not None
        return self._found.clone()
