"""The table [output]: what a run writes, where and how often."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BeforeValidator, Field

from ..backend import Precision
from ..equations.base import Equation
from ..equations.diagnostic import DiagnosticTable
from ..equations.plugins import unknown
from ..grid import Grid
from .base import Count, Positive, Table


def _wall(value: Any) -> Any:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    wall = isinstance(value, str) and re.fullmatch(r"\s*([0-9]+(\.[0-9]*)?|\.[0-9]+)\s*s\s*", value)
    if not wall and not (number and 0 < value < math.inf):
        raise ValueError(f'expected simulated time as a number > 0, or wall time as in "60 s", found {value!r}')
    return value


def _named(groups: dict[str, Any]) -> dict[str, Any]:
    for name in groups:
        if not re.fullmatch(r"\w[\w-]{0,63}", name, re.ASCII):
            raise ValueError(f"{name!r} is no name of a file. Remedy: use letters, digits, - and _")
    return groups


class OutputGroup(Table):
    """Fields of the state, derived fields, and the interval in simulated time at which they are written.

    fields: by default all. derived: names of fields that follow from the state. region: axis -> (from, to), in the
    units of the coordinate, both included. stride: every n-th point, of all axes or of each in array order. precision:
    by default that of the case.
    """

    every: Positive
    fields: tuple[str, ...] | None = None
    derived: tuple[str, ...] = ()
    region: dict[str, tuple[float, float]] = Field(default_factory=dict)
    stride: Count | tuple[Count, ...] = 1
    precision: Precision | None = None

    def parts(self, coordinates: Mapping[str, NDArray]) -> dict[str, slice]:
        """The slice of each axis that lies in the region, at the stride."""
        strides = self.stride if isinstance(self.stride, tuple) else (self.stride,) * len(coordinates)
        found = {}
        for (axis, values), stride in zip(coordinates.items(), strides, strict=True):
            low, high = self.region.get(axis, (-math.inf, math.inf))
            inside = np.flatnonzero((values >= low) & (values <= high))
            found[axis] = slice(int(inside[0]), int(inside[-1]) + 1, stride) if inside.size else slice(0, 0)
        return found


class OutputTable(OutputGroup):
    """What a run writes to fields.zarr, with its scalars, and to one store for each of `groups`.

    every and checkpoint_every are simulated times; checkpoint_every may also be a wall time, as in "60 s".
    frames_per_chunk: output times per file of a variable, by default as many as fit into 4 MiB, at most 4096.
    diagnostics: scalars of the case's own, by path or entry point.
    """

    checkpoint_every: Annotated[float | str, BeforeValidator(_wall)] = "60 s"
    frames_per_chunk: Annotated[int, Field(ge=1, le=10**6)] | None = None
    groups: Annotated[dict[str, OutputGroup], AfterValidator(_named)] = Field(default_factory=dict)
    diagnostics: tuple[DiagnosticTable, ...] = ()

    def checkpoint_seconds(self) -> float | None:
        """Wall time between checkpoints in seconds, or None if it is set in simulated time."""
        return float(self.checkpoint_every.strip(" s")) if isinstance(self.checkpoint_every, str) else None

    def all(self) -> dict[str, OutputGroup]:
        """[output] and its groups, by their keys in a case."""
        return {"output": self, **{f"output.groups.{name}": group for name, group in self.groups.items()}}


def selection_mistakes(output: OutputTable, equation: Equation, grid: Grid) -> Iterator[str]:
    """Fields, derived fields and axes that the equation does not have, and parts of the grid without points."""
    fields, derived = [f.name for f in equation.fields], list(equation.derived)
    for key, group in output.all().items():
        coordinates = equation.coordinates(grid) if group.region or group.stride != 1 else {}
        yield from (f"{key}.fields: {unknown(f, fields)}" for f in group.fields or () if f not in fields)
        for name in group.derived:
            if not derived:
                yield f"{key}.derived: {equation.name} has no derived fields. Remedy: leave out {name!r}"
            elif name not in derived:
                yield f"{key}.derived: {unknown(name, derived)}"
            elif equation.derived[name].periodic and not all(equation.periodic_axes(grid)):
                yield f"{key}.derived: {name} needs a periodic domain. Remedy: leave it out, or change the boundary"
        if group.fields == () and not group.derived:
            yield f"{key}.fields: expected at least 1 field or derived field. Remedy: leave out fields = [] for all"
        if key == "output" and (group.region or group.stride != 1 or group.precision):
            yield (
                "output.region, output.stride and output.precision are for groups, because other runs start from "
                "fields.zarr. Remedy: [output.groups.NAME]"
            )
            continue
        if isinstance(group.stride, tuple) and len(group.stride) != len(coordinates):
            yield f"{key}.stride: expected one number, or one for each of the axes {', '.join(coordinates)}"
            continue
        for axis, (low, high) in group.region.items():
            if axis not in coordinates:
                yield f"{key}.region: {unknown(axis, list(coordinates))}"
            elif not ((coordinates[axis] >= low) & (coordinates[axis] <= high)).any():
                first, last = coordinates[axis][0], coordinates[axis][-1]
                yield (
                    f"{key}.region.{axis}: there is no point from {low:g} to {high:g}. "
                    f"Remedy: coordinates lie from {first:g} to {last:g}"
                )
