"""The closure contract: what a closure receives, what it may return, and how a run couples it.

    (answer, memory) = closure(view, memory)

Arrays in an answer may be NumPy arrays or arrays of any library that supports DLPack; on the device of the run they are
used without a copy.

A closure is a pydantic model with `start` and `__call__`; its fields are its options. It may store on itself what is
fixed for the run (a network, a plan of a transform). Everything that changes in time must be in `memory`, which is part
of the checkpoint.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, SupportsFloat

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from ..backend import NUMPY, Backend, Precision
from ..equations.base import Equation
from ..equations.plugin_errors import PluginError
from ..grid import Grid
from ..random import Noise, SpectralNoise, Stream

if TYPE_CHECKING:
    import torch

Memory = dict[str, NDArray]
Hold = Literal["constant", "linear"]
HOLDS = ("constant", "linear")
Kind = Literal["none", "classical", "oracle", "learned"]


@dataclass(frozen=True)
class Tendency:
    """du/dt += field until the next call; field is (member, field, *grid), in state units per time.

    hold: "constant" keeps the field; "linear" extrapolates linearly in time from this answer and the previous one.
    noise: the law of an additional random tendency, per sqrt(time): `SpectralNoise` on a grid, `EntityNoise` for
    entities. The solver draws it anew at every step from the closure's own random stream and divides it by sqrt(h).
    """

    field: Any
    hold: Hold = "constant"
    noise: Noise | None = None


@dataclass(frozen=True)
class Correction:
    """Replace the current state by `state` (member, field, *grid). Multistep schemes restart their history."""

    state: Any


@dataclass(frozen=True)
class Leap:
    """The states of coming steps, (time, member, field, *grid), at `times`; the solver continues from the last one.

    `times` are times of steps after the current one, in increasing order, and include every output that is due up to
    the last of them. Without states the solver computes the steps up to the next call itself.

    declined: number of steps after the last state that the closure should have covered, but returns to the solver
    because one of its own checks failed; counted and reported.
    """

    states: Any
    times: NDArray
    declined: int = 0

    @classmethod
    def none(cls, shape: tuple[int, ...], declined: int = 0) -> Leap:
        """A leap without states; `shape` is (member, field, *grid)."""
        return cls(np.empty((0, *shape)), np.empty(0), declined)


Answer = Tendency | Correction | Leap


@dataclass(frozen=True)
class Linear:
    """du_hat_k/dt += eigenvalues_k u_hat_k at all times, as a part of the equation's linear operator L.

    eigenvalues: 1/time, broadcastable to (field, *spectral_shape); real, or complex with L_{-k} = conj L_k. A stepper
    treats them as it treats L: an exponential one exactly, an implicit one implicitly, an explicit one with the rest of
    the right-hand side. A step costs the same as without them.

    noise: a random tendency as in `Tendency`. calls: whether the closure is called as well, for what is not linear;
    by default it is not called.
    """

    eigenvalues: Any
    noise: SpectralNoise | None = None
    calls: bool = False


@dataclass(frozen=True)
class Problem:
    """What is fixed for a run, as passed to `Closure.start`.

    equation, grid: the coarse model. step: time step h. every: steps between calls. start: time of step 0. members:
    member numbers; together with `seed` they key the random streams. backend, device: where the state is stored.
    precision: type of its real values. folder: folder of the case file; relative paths in the closure's options start
    there. initial: the case's table [initial] as plain data, empty for a run without a case. reference: folder of the
    reference's trajectories, or None; `subgrid.ingest.trajectories.Trajectories` reads it. history: the true state
    (member, field, *grid) at a time of the run, or None where no closed form is known. mask: which entities are real,
    (member, entity); the others fill up members with fewer entities. None where all are.
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
    precision: Precision = "float64"
    folder: Path = field(default_factory=Path)
    initial: dict[str, Any] = field(default_factory=dict)
    reference: Path | None = None
    history: Callable[[float], NDArray | None] | None = None
    mask: NDArray[np.bool_] | None = None

    @property
    def arrays(self) -> Backend:
        """The backend whose arrays a closure receives as `View.array`."""
        return Backend(self.backend, self.device, self.precision)


class Carrier(Protocol):
    """The flow that carries the entities, at the time of a view; arrays are those of the backend.

    equation, grid: of the flow.
    """

    equation: Equation
    grid: Grid

    @property
    def state(self) -> Any:
        """The state of the flow, (member, field, *grid)."""

    def velocity(self, positions: Any) -> Any:
        """(u, v) at positions (member, 2, any number), whose rows are x and y: (member, 2, the same number)."""


class View:
    """What a closure sees at an accepted step: state, time, step number and its own random stream.

    carrier: the flow that carries the entities; None without one.

    replaced: number of corrections and leaps of other closures so far in the run. A closure that remembers states must
    discard them when it changes.
    """

    def __init__(
        self,
        state: Callable[[], Any],
        time: float,
        step: int,
        random: Stream,
        backend: Backend = NUMPY,
        replaced: int = 0,
        carrier: Carrier | None = None,
    ) -> None:
        self._read, self._backend, self.carrier = state, backend, carrier
        self._array: Any = None
        self.time, self.step, self.random, self.replaced = time, step, random, replaced

    @property
    def array(self) -> Any:
        """The state in physical space, (member, field, *grid), as an array of the backend; do not write to it."""
        if self._array is None:
            self._array = self._read()
        return self._array

    @property
    def state(self) -> NDArray:
        """The state as a NumPy array, which shares memory if the state is in host memory; do not write to it."""
        return self._backend.to_numpy(self.array)

    def torch(self) -> torch.Tensor:
        """The state as a tensor on the run's device, which shares memory (DLPack); do not write to it."""
        import torch

        array = self.array
        return array if isinstance(array, torch.Tensor) else torch.from_dlpack(array)


class ClosureError(PluginError):
    """A closure refuses the problem or raised an exception, or the guard rejects its answer."""


class Closure(BaseModel, ABC):
    """(answer, memory) = closure(view, memory): base class of closures.

    The pydantic fields of a subclass are the options that a case may set. `kind` is the group in comparisons:
    "classical" (the default), "learned" (subclasses of LearnedClosure), "oracle" (uses the true term) or "none". A
    closure with `needs_reference` runs only in a case with a [reference] grid; `Problem.reference` is its folder. With
    `draws_later` random numbers enter only after some steps, and a comparison runs all members of a trajectory.
    With `by_member` the answer for a member depends on that member alone, to the last bit, and all arrays of the memory
    have the members as their first axis: blocks of members may then be computed apart.
    `tunable` names the options that `subgrid tune` searches, each with a range of positive numbers.

    Closures can be added and scaled: `0.5 * a + b` is a `ClosureSum`.
    """

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)
    kind: ClassVar[Kind] = "classical"
    needs_reference: ClassVar[bool] = False
    draws_later: ClassVar[bool] = False
    by_member: ClassVar[bool] = False
    tunable: ClassVar[Mapping[str, tuple[float, float]]] = {}

    @abstractmethod
    def start(self, problem: Problem) -> Memory:
        """Prepare for a run and return the first memory. Raises ClosureError for a problem the closure does not fit."""

    def linear_part(self, problem: Problem) -> Linear | None:
        """The part that joins the equation's linear operator, asked for once, after `start`; None for no such part.

        The equation must be semi-linear, and the stepper must use its linear operator.
        """
        return None

    def formula(self) -> str | None:
        """The term with its coefficients as text for reports, asked for after `start`; None for no formula."""
        return None

    @abstractmethod
    def __call__(self, view: View, memory: Memory) -> tuple[Answer | None, Memory]:
        """The answer for the current state, and the new memory; called at accepted steps only."""

    def require_equation(self, problem: Problem, *names: str) -> None:
        """Raise ClosureError unless the equation is one of `names`."""
        if problem.equation.name not in names:
            known = " or ".join(filter(None, (", ".join(names[:-1]), names[-1])))
            raise ClosureError(
                f"{type(self).__name__} is made for {known}, not for {problem.equation.name}. "
                "Remedy: choose another closure (`subgrid list`)"
            )

    def require_fourier(self, problem: Problem) -> None:
        """Raise ClosureError unless the equation is semi-linear, on a Fourier grid."""
        equation = problem.equation
        if not equation.spectral:
            where = " on finite volumes" if equation.kind == "balance-law" else f", which is {equation.kind}"
            raise ClosureError(
                f"{type(self).__name__} is made for Fourier grids, not for {equation.name}{where}. Remedy: another "
                'closure (`subgrid list`), or equation.discretisation = "fourier" where the equation has it'
            )

    def __add__(self, other: Closure | ClosureSum) -> ClosureSum:
        return ClosureSum(((1.0, self),)) + other

    def __mul__(self, weight: float) -> ClosureSum:
        return ClosureSum(((1.0, self),)) * weight

    __rmul__ = __mul__


@dataclass(frozen=True)
class ClosureSum:
    """sum_i weight_i closure_i: each closure is called separately, and its tendency is multiplied by its weight,
    as are its noise and its linear part. Weights do not apply to corrections and leaps, which replace the state.
    """

    parts: tuple[tuple[float, Closure], ...]

    def __add__(self, other: Closure | ClosureSum) -> ClosureSum:
        if not isinstance(other, (Closure, ClosureSum)):
            return NotImplemented
        more = other.parts if isinstance(other, ClosureSum) else ((1.0, other),)
        return ClosureSum((*self.parts, *more))

    def __mul__(self, weight: float) -> ClosureSum:
        if not isinstance(weight, SupportsFloat):
            return NotImplemented
        return ClosureSum(tuple((float(weight) * w, closure) for w, closure in self.parts))

    __rmul__ = __mul__

    def coupled(self, every: int = 1, hold: Hold | None = None) -> list[Coupled]:
        """The parts as a run couples them, each called every `every` steps."""
        return [Coupled(type(closure).__name__, closure, every, weight, hold) for weight, closure in self.parts]


@dataclass
class Coupled:
    """A closure in a run: called every `every` steps, its tendency multiplied by `weight` and held by `hold`.

    hold: None leaves the choice to the answer. calls, skips, declined, replaced (corrections, and
    leaps with states) and seconds are counted during the run.
    """

    name: str
    closure: Closure
    every: int = 1
    weight: float = 1.0
    hold: Hold | None = None
    calls: int = 0
    skips: int = 0
    declined: int = 0
    replaced: int = 0
    seconds: float = 0.0


def couple(closure: Closure | ClosureSum | Coupled) -> list[Coupled]:
    """A closure, or the parts of a sum, as a run couples them: called at every step unless a Coupled says otherwise."""
    if isinstance(closure, Coupled):
        return [closure]
    return (closure if isinstance(closure, ClosureSum) else 1.0 * closure).coupled()
