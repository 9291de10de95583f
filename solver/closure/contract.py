"""The closure contract: what a plug-in is handed, what it may answer, and how it is found.

    (answer, memory) = closure(view, memory)

Arrays in an answer may be NumPy's or any other library's that speaks DLPack: on the device of the run they are taken
over without a copy.

A closure is a pydantic model, its fields being its options, with `start` and `__call__`. It may keep what is
fixed for the run (a network, a plan) on itself; all that changes in time goes through `memory`, which lies in
the checkpoint.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from ..backend import NUMPY, Backend
from ..equations.base import Equation
from ..grid import Grid
from ..random import SpectralNoise, Stream

if TYPE_CHECKING:
    import torch

Memory = dict[str, NDArray]
Hold = Literal["constant", "linear"]
Kind = Literal["none", "classical", "oracle", "learned"]


@dataclass(frozen=True)
class Tendency:
    """du/dt gains `field` (member, field, *grid), in state units per time, until the next call.

    hold: "constant" keeps the field as it is; "linear" extrapolates it through this answer and the last one.
    noise: a random part, given as its law per sqrt(time); the solver draws it afresh every step, divided by
    sqrt(h), from this closure's own stream.
    """

    field: Any
    hold: Hold = "constant"
    noise: SpectralNoise | None = None


@dataclass(frozen=True)
class Correction:
    """The state (member, field, *grid) is replaced by `state` now. Multistep histories start anew."""

    state: Any


@dataclass(frozen=True)
class Leap:
    """The states of coming steps, (time, member, field, *grid), at `times`: the solver goes on from the last.

    Every time must be that of a step after the present one, in increasing order, and every output that is due on
    the way must be among them. Without states the solver computes the steps up to the next call itself.

    declined: steps beyond the last state that the closure was to leap over and hands back to the solver, because a
    check of its own says so; counted and reported.
    """

    states: Any
    times: NDArray
    declined: int = 0

    @classmethod
    def none(cls, shape: tuple[int, ...], declined: int = 0) -> Leap:
        """The leap of no states, each of which would have the shape (member, field, *grid)."""
        return cls(np.empty((0, *shape)), np.empty(0), declined)


Answer = Tendency | Correction | Leap


@dataclass(frozen=True)
class Problem:
    """What is fixed for a run.

    equation, grid: the coarse model. step: time step h; every: steps between calls. start: time of step 0.
    members: member numbers; they key the random streams. backend, device: where the state lives. folder: the folder of
    the case file; a closure resolves relative paths of its options against it. initial: the case's table [initial] as
    plain data, empty for a run that was not started from a case. reference: folder of the reference's trajectories, or
    None; `subgrid.ingest.trajectories.Trajectories` reads it.
    """

    equation: Equation
    grid: Grid
    step: float
    every: int
    start: float
    members: tuple[int, ...]
    seed: int
    backend: str = "numpy"
    device: str = "cpu"
    folder: Path = field(default_factory=Path)
    initial: dict[str, Any] = field(default_factory=dict)
    reference: Path | None = None


class View:
    """The state as a closure sees it at an accepted step: state, time, step number, random numbers."""

    def __init__(
        self, state: Callable[[], Any], time: float, step: int, random: Stream, backend: Backend = NUMPY
    ) -> None:
        self._read, self._backend = state, backend
        self._array: Any = None
        self.time, self.step, self.random = time, step, random

    @property
    def array(self) -> Any:
        """The state in physical space, (member, field, *grid), as the backend has it; not to be written to."""
        if self._array is None:
            self._array = self._read()
        return self._array

    @property
    def state(self) -> NDArray:
        """The state as a NumPy array, sharing memory where the backend's is the host's; not to be written to."""
        return self._backend.to_numpy(self.array)

    def torch(self) -> torch.Tensor:
        """The state as a tensor on the run's device that shares its memory (DLPack); not to be written to."""
        import torch

        array = self.array
        return array if isinstance(array, torch.Tensor) else torch.from_dlpack(array)


class ClosureError(RuntimeError):
    """A closure refused the problem, or its answer did not pass the guard."""


class Closure(BaseModel, ABC):
    """Base of all closures: (answer, memory) = closure(view, memory).

    The pydantic fields of a subclass are the options that a case may set. `kind` says how comparisons group it:
    "classical" (the default), "learned" (subclasses of LearnedClosure), "oracle" (is given the true term) or "none".
    A closure with `needs_reference` runs only in a case with a [reference] grid; `Problem.reference` is its folder.

    Closures are added and scaled: `0.5 * a + b` is a `ClosureSum`.
    """

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)
    kind: ClassVar[Kind] = "classical"
    needs_reference: ClassVar[bool] = False

    @abstractmethod
    def start(self, problem: Problem) -> Memory:
        """Prepare for a run; refuse with ClosureError a problem this closure was not made for."""

    @abstractmethod
    def __call__(self, view: View, memory: Memory) -> tuple[Answer, Memory]:
        """Answer for the present state; called on accepted steps only."""

    def require_equation(self, problem: Problem, *names: str) -> None:
        """Refuse any equation but the named ones."""
        if problem.equation.name not in names:
            known = " or ".join(filter(None, (", ".join(names[:-1]), names[-1])))
            raise ClosureError(
                f"{type(self).__name__} is made for {known}, not for {problem.equation.name}. "
                "Remedy: choose another closure (`subgrid list`)"
            )

    def __add__(self, other: Closure | ClosureSum) -> ClosureSum:
        return ClosureSum(((1.0, self),)) + other

    def __mul__(self, weight: float) -> ClosureSum:
        return ClosureSum(((float(weight), self),))

    __rmul__ = __mul__


@dataclass(frozen=True)
class ClosureSum:
    """sum_i weight_i closure_i: each is called by itself, and its tendency is multiplied by its weight.

    Corrections and leaps have no weight: they replace the state.
    """

    parts: tuple[tuple[float, Closure], ...]

    def __add__(self, other: Closure | ClosureSum) -> ClosureSum:
        more = other.parts if isinstance(other, ClosureSum) else ((1.0, other),)
        return ClosureSum((*self.parts, *more))

    def __mul__(self, weight: float) -> ClosureSum:
        return ClosureSum(tuple((float(weight) * w, closure) for w, closure in self.parts))

    __rmul__ = __mul__

    def coupled(self, every: int = 1, hold: Hold | None = None) -> list[Coupled]:
        """The parts as a run couples them, all called every `every` steps."""
        return [Coupled(type(closure).__name__, closure, every, weight, hold) for weight, closure in self.parts]


@dataclass
class Coupled:
    """A closure as a case couples it: called every `every` steps, its tendency times `weight`, held as `hold` says.

    hold None leaves the choice to the closure's answer.
    """

    name: str
    closure: Closure
    every: int = 1
    weight: float = 1.0
    hold: Hold | None = None
    calls: int = 0
    skips: int = 0
    declined: int = 0
    seconds: float = 0.0
