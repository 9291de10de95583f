"""Differentiable runs: the steppers' array code on torch, with gradient checkpointing."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from ..backend import Backend, keep_freed_memory
from ..closure.contract import Hold
from ..equations.base import Equation
from ..grid import Grid
from ..spectral import Operators
from ..time_stepping.array_code import ArrayStepper
from ..time_stepping.schemes import STEPPERS

if TYPE_CHECKING:
    import torch


def rollout(
    equation: Equation,
    grid: Grid,
    stepper: str,
    step: float,
    state: torch.Tensor,
    steps: int,
    *,
    start: float = 0.0,
    tendency: Callable[[torch.Tensor], torch.Tensor] | None = None,
    every: int = 1,
    hold: Hold = "constant",
    keep: int | None = None,
    segment: int | None = None,
    added: NDArray | None = None,
) -> torch.Tensor:
    """u(t + n h) as a differentiable function of u(t), and of whatever `tendency` depends on.

    state: (member, field, *grid), float64, on any device. tendency(state) is evaluated before every `every`-th step, as
    a closure in a run, and held until the next call. hold: "linear" extrapolates it from the last two calls, and holds
    it after the first. added: eigenvalues that join the linear operator of a semi-linear equation, as
    `simulation.linear.joined` gives them for closures; they are constants. The equation's own noise is omitted. Returns
    the state after `steps` steps or, with `keep`, the states after every `keep`-th step, (time, member, field, *grid).

    Gradient checkpointing every `segment` steps (by default about sqrt(steps), a multiple of `every`): memory grows
    with steps / segment + segment instead of with steps, for one more evaluation of every step. A run of one segment,
    which would gain no memory, has none.

    Raises ValueError for a state that is not in double precision, for `keep` that does not divide `steps`, and for
    `segment` that is not a multiple of `every`.
    """
    import torch
    from torch.utils.checkpoint import checkpoint

    if state.dtype != torch.float64:
        raise ValueError(f"a rollout is in double precision, the state is {state.dtype}. Remedy: state.double()")
    if keep is not None and steps % keep:
        raise ValueError(f"keep = {keep} does not divide {steps} steps")
    span = segment or every * max(1, round(math.sqrt(steps) / every))
    if tendency is not None and span % every:
        raise ValueError(f"segment = {span} is not a multiple of every = {every}, the interval of the tendency")
    keep_freed_memory()
    operators = Operators(grid, backend=Backend("torch", str(state.device)))
    carried = ArrayStepper(STEPPERS[stepper], equation, operators, step, added)
    inward = operators.forward if equation.spectral else _same
    outward = operators.inverse if equation.spectral else _same

    def advance(u: Any, memory: Any, held: Any, slope: Any, first: int, count: int) -> Any:
        for n in range(first, first + count):
            if tendency is not None and n % every == 0:
                last, held = held, inward(tendency(outward(u)))
                if hold == "linear" and last is not None:
                    slope = (held - last) / every
            frozen = held if slope is None else held + (n % every) * slope
            u, memory = carried.advance(u, start + n * step, frozen, memory)
        return u, memory, held, slope

    memory: dict[str, Any] = {}
    u, held, slope = inward(state), None, None
    kept, n = [], 0
    while n < steps:
        count = min(span - n % span, steps - n, *([keep - n % keep] if keep else []))
        if torch.is_grad_enabled() and span < steps:
            u, memory, held, slope = checkpoint(advance, u, memory, held, slope, n, count, use_reentrant=False)
        else:
            u, memory, held, slope = advance(u, memory, held, slope, n, count)
        n += count
        if keep and n % keep == 0:
            kept.append(outward(u))
    return torch.stack(kept) if keep else outward(u)


def _same(values: Any) -> Any:
    return values
