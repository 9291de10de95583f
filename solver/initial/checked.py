"""Initial states, checked before a run begins: every member, every field, every value."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..equations.answers import admissible, bounds, initial_state
from ..equations.base import Equation
from ..equations.initial_state import InitialState, Members
from ..grid import Grid


def checked_state(
    initial: InitialState,
    equation: Equation,
    grid: Grid,
    members: Members,
    seed: int,
    key: str = "initial",
    folder: Path | None = None,
) -> NDArray[np.float64]:
    """`initial.state`, (member, field, *grid), contiguous and in double precision.

    key: the table of the case that describes it. Raises ValueError, with the key, if `initial.state` does, and as
    `require_values`; and PluginError for a state of another type or shape.
    """
    with np.errstate(all="ignore"):
        try:
            state = initial_state(initial, equation, grid, members, seed, folder)
        except ValueError as error:
            raise ValueError(with_key(str(error), initial, key)) from error
    require_values(state, equation, grid, members, key)
    return state


def with_key(message: str, initial: InitialState, key: str) -> str:
    """The message of an error of `initial`, begun with the key of the case that it is about."""
    if message.startswith((f"{key}:", f"{key}.", "equation.")):
        return message
    return f"{key}{'.' if message.partition(':')[0] in type(initial).model_fields else ': '}{message}"


def require_values(state: NDArray[np.float64], equation: Equation, grid: Grid, members: Members, key: str) -> None:
    """Raise ValueError if a value of a state (member, field, *grid) is not finite, not within the equation's bounds, or
    makes the state inadmissible. The error names the first such member, and in it the field and the place.
    """
    lowest, highest = bounds(equation)
    if lowest <= state.min() and state.max() <= highest and admissible(equation, state):
        equation.require_resolved(state)
        return
    for member, values in zip(members, state, strict=True):
        for within, what, remedy in (
            (np.isfinite(values), "which is not finite", "use smaller values"),
            (
                (lowest <= values) & (values <= highest),
                f"outside the bounds [{lowest:g}, {highest:g}] of {equation.name}",
                "use other units or smaller values",
            ),
        ):
            if not within.all():
                place = np.unravel_index(int(within.argmin()), values.shape)
                raise ValueError(
                    f"{key}: member {member}: {_value(values, place, equation, grid)}, {what}. Remedy: {remedy}"
                )
        if not admissible(equation, values[None]):
            found = _inadmissible(values, equation)
            where = "the state" if found is None else f"{_value(values, found, equation, grid)}, which"
            raise ValueError(
                f"{key}: member {member}: {where} is not admissible for {equation.name}. "
                "Remedy: use values that the equation allows"
            )
    raise ValueError(
        f"{key}: the members together are not admissible for {equation.name}. Remedy: use values that it allows"
    )


def _value(values: NDArray, place: tuple[np.intp, ...], equation: Equation, grid: Grid) -> str:
    """A value of one member (field, *grid) in words, with its field, coordinates and indices."""
    field, *index = map(int, place)
    name, value = equation.fields[field].name, values[place]
    if equation.kind == "particles":
        return f"{name} of entity {index[0]} is {value:.6g}"
    axes = equation.coordinates(grid)
    points = ", ".join(f"{x[i]:.6g}" for x, i in zip(axes.values(), index, strict=True))
    return f"{name} is {value:.6g} at ({', '.join(axes)}) = ({points}), index {index}"


def _inadmissible(values: NDArray, equation: Equation) -> tuple[np.intp, ...] | None:
    """The place (field, *index) of a value of one member (field, *grid) that makes it inadmissible, if one is found.

    A condition on the values at each point fails for a uniform state with the values of a bad point. Bad points are
    looked for where a field is lowest or highest; the field is the one whose other extreme makes that state admissible.
    """
    flat = values.reshape(len(values), -1)
    suspect = None

    def allowed(at_point: NDArray) -> bool:
        uniform = np.broadcast_to(at_point.reshape(-1, *[1] * (values.ndim - 1)), values.shape)
        return admissible(equation, np.ascontiguousarray(uniform)[None])

    for field, row in enumerate(flat):
        ends = (int(row.argmin()), int(row.argmax()))
        for point, other in (ends, ends[::-1]):
            at_point = flat[:, point].copy()
            if allowed(at_point):
                continue
            found = (np.intp(field), *np.unravel_index(point, values.shape[1:]))
            at_point[field] = row[other]
            if allowed(at_point):
                return found
            suspect = suspect or found
    return suspect
