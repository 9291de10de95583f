"""What the outputs of a case hold: fields, derived fields and scalars, of [output] and of each of its groups."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..case.output import OutputGroup
from ..case.tables import Case
from ..equations.base import Equation
from ..equations.quantities import Coordinates, Quantity
from ..grid import Grid
from .schedule import Schedule, output_schedule
from .store import MOST_FRAMES, Variable, empty_store, frames_per_chunk

if TYPE_CHECKING:
    import xarray as xr

CF = "CF-1.11"
LETTERS = {"x": "X", "y": "Y", "z": "Z"}


@dataclass(frozen=True)
class Selection:
    """The variables of one store of a run, their coordinates, and the steps at which they are written.

    place: the folder of the store, relative to that of the run. group: fields, derived fields, region, stride and
    precision. quantities: the scalars, which only the store of [output] holds.
    """

    case: Case
    equation: Equation
    grid: Grid
    place: Path
    group: OutputGroup
    schedule: Schedule
    quantities: Mapping[str, Quantity]

    @property
    def dtype(self) -> str:
        return self.group.precision or self.case.precision

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of the state that are written, in the order of the equation."""
        chosen = self.group.fields
        return tuple(f.name for f in self.equation.fields if chosen is None or f.name in chosen)

    def coordinates(self, name: str | None = None) -> Coordinates:
        """The axes of a derived field, by default of the state, within the region and at the stride."""
        equation, grid = self.equation, self.grid
        if name is None:
            unit = _unit_of_axes(equation)
            found: Coordinates = {k: (v, unit.get(k, "length")) for k, v in equation.coordinates(grid).items()}
        else:
            found = equation.derived[name].coordinates(equation, grid)
            found = {k: (v, _unit_of_axes(equation).get(k, unit)) for k, (v, unit) in found.items()}
        kept = self.kept
        return {k: (v[kept[k]] if k in kept else v, unit) for k, (v, unit) in found.items()}

    @property
    def kept(self) -> dict[str, slice]:
        """The part of each axis of the grid that is written."""
        return self.group.parts(self.equation.coordinates(self.grid))

    def variables(self) -> list[Variable]:
        """The arrays of the store, each (time, member, *axes); those of scalars have no axes, and are last."""
        found = []
        for field in self.equation.fields:
            if field.name in self.fields:
                found.append(self._variable(field.name, self.coordinates(), field.unit, field.description))
        for name in self.group.derived:
            derived = self.equation.derived[name]
            found.append(self._variable(name, self.coordinates(name), derived.unit, derived.description))
        for name, quantity in self.quantities.items():
            made = self._variable(self.scalar(name), {}, quantity.unit, quantity.description)
            chunk = frames_per_chunk((self.case.ensemble.members,), 8)
            found.append(replace(made, dtype="float64", chunk=chunk))
        return found

    def scalar(self, name: str) -> str:
        """The name of a scalar in the store: that of a field has a prefix."""
        taken = {*(f.name for f in self.equation.fields), *self.group.derived}
        return f"invariant_{name}" if name in taken else name

    def _variable(self, name: str, axes: Coordinates, unit: str, description: str) -> Variable:
        points = math.prod(len(values) for values, _ in axes.values())
        frames = (self.case.output.frames_per_chunk or 1) * self.grid.points // max(1, points)
        chunk = max(1, min(frames, MOST_FRAMES))
        return Variable(name, ("time", "member", *axes), unit, description, self.dtype, chunk)

    def frames(self, state: NDArray) -> dict[str, NDArray]:
        """Fields and derived fields of a state (member, field, *grid), as `variables` lists them."""
        found = {}
        cut = tuple(self.kept.get(axis, slice(None)) for axis in self.equation.axes(self.grid))
        for i, field in enumerate(self.equation.fields):
            if field.name in self.fields:
                part: Any = (slice(None), i, *cut)
                found[field.name] = state[part]
        exact = np.asarray(state, dtype=np.float64) if self.group.derived else state
        for name in self.group.derived:
            values = self.equation.derived[name].compute(self.equation, exact, self.grid)
            axes = self.equation.derived[name].coordinates(self.equation, self.grid)
            kept = self.kept
            found[name] = values[(slice(None), *(kept.get(axis, slice(None)) for axis in axes))]
        return found

    def dataset(self) -> xr.Dataset:
        """Coordinates and attributes of the store, without variables."""
        import xarray as xr

        case, equation = self.case, self.equation
        times = case.time.start + case.step * self.schedule.steps().astype(np.float64)
        coords: dict[str, Any] = {
            "time": ("time", times, {"units": "time", "long_name": "time", "axis": "T"}),
            "member": ("member", np.arange(case.ensemble.members), {"units": "1", "long_name": "member"}),
        }
        where = {"semi-linear": "points", "particles": "number"}.get(equation.kind, "cell centres")
        axes = {**self.coordinates()} if self.fields else {}
        for name in self.group.derived:
            axes |= self.coordinates(name)
        for axis, (values, unit) in axes.items():
            of_grid = axis in equation.axes(self.grid)
            attributes = {"units": unit, "long_name": f"{axis}, {where}" if of_grid else axis}
            coords[axis] = (axis, values, attributes | ({"axis": LETTERS[axis]} if axis in LETTERS else {}))
        return xr.Dataset(coords=coords, attrs={"title": case.title, "equation": equation.name, "Conventions": CF})

    def files(self) -> dict[str, bytes]:
        """The files of the store without frames."""
        return empty_store(self.dataset(), self.variables())


def with_chunks(case: Case) -> Case:
    """The case with output.frames_per_chunk, as many frames of the whole state as fit, so that a resumed run has it."""
    if case.output.frames_per_chunk is not None:
        return case
    shape = (case.ensemble.members, *case.grid.grid().shape)
    return _with_frames(case, frames_per_chunk(shape, np.dtype(case.precision).itemsize))


def of_old_version(case: Case) -> Case:
    """The case with one frame per file, as versions wrote that had no output.frames_per_chunk."""
    return _with_frames(case, 1)


def _with_frames(case: Case, count: int) -> Case:
    output = case.output.model_copy(update={"frames_per_chunk": count})
    return case.model_copy(update={"output": output}).located(case.folder)


def _unit_of_axes(equation: Equation) -> dict[str, str]:
    if equation.kind == "particles":
        return dict.fromkeys(equation.axis_names, "1")
    return {"v": "length/time"} if equation.kind == "kinetic" else {}


def selections(case: Case, quantities: Mapping[str, Quantity]) -> list[Selection]:
    """The stores of a run: that of [output], with the scalars, and one for each of its groups."""
    equation, grid = case.build_equation(), case.grid.grid()
    found = [Selection(case, equation, grid, Path("fields.zarr"), case.output, output_schedule(case), quantities)]
    for name, group in case.output.groups.items():
        schedule = output_schedule(case, group.every)
        found.append(Selection(case, equation, grid, Path("groups") / f"{name}.zarr", group, schedule, {}))
    return found
