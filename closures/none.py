"""The null closure: the uncorrected model."""

from __future__ import annotations

from typing import ClassVar

from array_api_compat import array_namespace

from subgrid.solver.closure import Closure, Kind, Memory, Problem, Tendency, View


class NoClosure(Closure):
    """du/dt += 0, for any equation. A case without closures gives the same run without the calls."""

    kind: ClassVar[Kind] = "none"
    by_member: ClassVar[bool] = True

    def start(self, problem: Problem) -> Memory:
        return {}

    def __call__(self, view: View, memory: Memory) -> tuple[Tendency, Memory]:
        return Tendency(array_namespace(view.array).zeros_like(view.array)), memory
