"""CUDA graphs: a step recorded once and replayed, for small grids, where launching kernels takes longer than they run.

A graph reads and writes fixed memory and freezes numbers, so that it is for fixed steps of equations whose right-hand
side does not depend on the time. A replayed step launches the kernels of the recorded one, so its bits are the same.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any

from ..backend import Backend
from .array_code import ArrayStepper, Memory

Array = Any
Record = Callable[[Callable[[], None]], Callable[[], None]]
LARGEST = 2**24  # values of a state, above which kernels take longer than their launches


def recorder(backend: Backend) -> Record | None:
    """A function that records work on the device of the backend and returns its replay; None where there is none.

    SUBGRID_CUDA_GRAPHS=0 switches graphs off.
    """
    if backend.name != "torch" or not backend.device.startswith("cuda") or os.environ.get("SUBGRID_CUDA_GRAPHS") == "0":
        return None
    import torch

    def record(work: Callable[[], None]) -> Callable[[], None]:
        graph = torch.cuda.CUDAGraph()
        try:
            torch.cuda.synchronize()
            with torch.cuda.graph(graph):
                work()
        except RuntimeError as error:
            reason = str(error).split("\n")[0]
            raise RuntimeError(f"a step cannot be recorded ({reason}). Remedy: SUBGRID_CUDA_GRAPHS=0") from error
        return graph.replay

    return record


class GraphedStepper:
    """`ArrayStepper.advance` for fixed steps, replayed from the second step of a kind on.

    A kind is whether there is a frozen tendency, and what the memory holds. The first step of a kind is not recorded:
    it makes constants and plans of transforms, which a graph must find. The state and the memory that `advance` returns
    are overwritten by the next call.
    """

    def __init__(self, stepper: ArrayStepper, record: Record) -> None:
        self._stepper, self._record = stepper, record
        self._kinds: dict[tuple[bool, tuple[str, ...]], _Recorded | None] = {}

    def advance(self, u: Array, t: float, frozen: Array | None, memory: Memory) -> tuple[Array, Memory]:
        """One step of u from time t; see `ArrayStepper.advance`."""
        kind = (frozen is None, tuple(sorted(memory)))
        if kind not in self._kinds:
            self._kinds[kind] = None
            return self._stepper.advance(u, t, frozen, memory)
        recorded = self._kinds[kind]
        if recorded is None:
            recorded = self._kinds[kind] = _Recorded(self._stepper, self._record, u, t, frozen, memory)
        return recorded.replayed(u, frozen, memory)


class _Recorded:
    """The graph of one kind of step, with the memory that it reads and writes."""

    def __init__(
        self, stepper: ArrayStepper, record: Record, u: Array, t: float, frozen: Array | None, memory: Memory
    ) -> None:
        self._u, self._frozen = u.clone(), None if frozen is None else frozen.clone()
        self._memory = {k: v.clone() for k, v in memory.items()}
        self._after: Memory = {}
        self._last: Array | None = None

        def work() -> None:
            found, after = stepper.advance(self._u, t, self._frozen, self._memory)
            for name, value in after.items():  # first, as a history may hold the state before the step
                if name in self._memory:
                    self._memory[name].copy_(value)
                elif value is self._u:
                    after[name] = value.clone()
            self._after = {k: self._memory.get(k, v) for k, v in after.items()}
            self._u.copy_(found)

        self._replay = record(work)

    def replayed(self, u: Array, frozen: Array | None, memory: Memory) -> tuple[Array, Memory]:
        if u is not self._u:
            self._u.copy_(u)
        if frozen is not self._last and self._frozen is not None:
            self._frozen.copy_(frozen)
            self._last = frozen
        for name, value in memory.items():
            if value is not self._memory[name]:
                self._memory[name].copy_(value)
        self._replay()
        return self._u, dict(self._after)


def graphed(stepper: ArrayStepper, backend: Backend, state: Array, fixed: bool) -> GraphedStepper | ArrayStepper:
    """The stepper with graphs where they are possible and pay."""
    record = recorder(backend)
    if record is None or not fixed or not stepper.equation.autonomous or math.prod(state.shape) > LARGEST:
        return stepper
    return GraphedStepper(stepper, record)
