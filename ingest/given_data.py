"""Trajectories in files of other codes, checked against a case: states on the grid of the data."""

from __future__ import annotations

import re
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from subgrid.solver.case.consistency import shape_mistakes
from subgrid.solver.case.sweep_design import SweepTable
from subgrid.solver.case.tables import Case, ReferenceTable, TrainingTable
from subgrid.solver.grid import Grid

from .external.contents import ENTITY, TIME, TRAJECTORY, Axis, DataError
from .external.open import inspect, unreadable
from .external.options import options_of
from .external.values import SAMPLE

LENGTH, OWN = ("m", "length"), ("", "1", "dimensionless", "equation's own")
SECOND = ("s", "time")


def given_shape(case: Case, key: str) -> tuple[int, ...]:
    """The grid of the data of a table, checked in structure. Raises DataError, with the key."""
    return GivenData(case, key, values=0).shape


class GivenData:
    """The data of the table `key`, "reference", "training" or "sweep", which names a file.

    shape: that of the data's grid, which covers the domain of the case. values: bytes of fields that are scanned.
    Raises DataError, with the key, for data with faults, and for fields, axes, units, parameters or numbers of
    trajectories that are not those of the case.
    """

    def __init__(self, case: Case, key: str, values: int = SAMPLE) -> None:
        table = getattr(case, key)
        assert isinstance(table, (ReferenceTable, TrainingTable, SweepTable)) and table.file is not None
        where = "sweep.files" if key == "sweep" else f"{key}.file"
        self._swept = list(table.parameters) if isinstance(table, SweepTable) else []
        self.where, self.file = where, table.file
        self.key, self.table, self.equation = "sweep.data" if self._swept else key, table, case.build_equation()
        self.names = [f.name for f in self.equation.fields]
        self.unobserved = {} if isinstance(table, SweepTable) else table.unobserved
        try:
            found = inspect(table.file, options_of(table.data_keys()), values)
            found.require_sound()
        except DataError as error:
            raise DataError(f"{where}: {error}") from None
        self._contents, self._sizes = found.contents, found.contents.sizes
        self._require_fields()
        restrict = case.reference.restrict if case.reference else "filter"
        self.shape = self._shape_on(case.grid.grid(), getattr(table, "shape", None), restrict)
        if (count := self._sizes[TRAJECTORY]) < table.trajectories:
            raise DataError(
                f"{key}.trajectories: {table.trajectories} are asked for, {table.file} has {count}. "
                f"Remedy: at most {count}, or more data"
            )
        self.stated = self._parameters()

    @property
    def known(self) -> bool:
        """Whether the data state the numbers of the equation: one or more, and all that are not at their defaults.

        A stated number is that of the case; others are refused.
        """
        fields = type(self.equation).model_fields
        needed = {name for name, value in self._numbers().items() if value != fields[name].default}
        return bool(self.stated) and needed <= self.stated

    @cached_property
    def times(self) -> NDArray[np.float64]:
        """The times of the data, (time,)."""
        axis = self._contents.axes.get(TIME)
        if axis is None or axis.values is None:
            raise DataError(f'{self.key}.times: missing; {self.file} states none. Remedy: times = "START:STEP"')
        return np.asarray(axis.values, dtype=np.float64)

    def indices(self, wanted: NDArray[np.float64], what: str) -> NDArray[np.intp]:
        """The entries of the data at some times, to 1e-5 of an interval of the data. Raises DataError if one lacks."""
        times = self.times
        nearest = np.abs(times[None] - wanted[:, None]).argmin(axis=1)
        spacing = float(np.diff(times).min()) if len(times) > 1 else 0.0
        tolerance = 1e-5 * spacing + 4e-16 * float(np.abs(times).max())
        missing = np.abs(times[nearest] - wanted) > tolerance
        if missing.any():
            interval = f" every {spacing:g}" if len(times) > 1 else ""
            raise DataError(
                f"{self.key}.times: {what} t = {wanted[missing][0]:g}, which {self.file} lacks: it has "
                f"{len(times)} times from {times[0]:g} to {times[-1]:g}{interval}. "
                f"Remedy: times of the case that are among them, or {self.key}.times if the file states other ones"
            )
        return nearest

    def state(self, index: int, only: int | None = None) -> NDArray[np.float64]:
        """The states (trajectory, field, *grid) at an entry of the data. Raises DataError unless they are finite.

        only: one trajectory, (field, *grid), in the place of those that the table asks for.
        """
        some = slice(0, self.table.trajectories) if only is None else slice(only, only + 1)
        try:
            read = {name: self._contents.fields[name].data[some, int(index)] for name in self._observed}
        except (DataError, MemoryError):
            raise
        except Exception as error:  # HDF5, Zarr and every codec have errors of their own
            raise DataError(f"{self.where}: {unreadable(self._contents, error)}") from None
        like = next(iter(read.values()))
        parts = [read[n] if n in read else np.full(like.shape, self.unobserved[n]) for n in self.names]
        state = np.stack(parts, axis=1).astype(np.float64)
        if not np.isfinite(state).all():
            trajectory, field = np.argwhere(~np.isfinite(state))[0][:2]
            raise DataError(
                f"{self.where}: {self.names[field]} of trajectory {some.start + trajectory} is not finite at t = "
                f"{self.times[index]:g}. Remedy: {self.key}.drop_trajectories, or other times"
            )
        return state if only is None else state[0]

    @property
    def trajectories(self) -> int:
        """Number of trajectories of the data."""
        return self._sizes[TRAJECTORY]

    def parameter(self, name: str) -> NDArray[np.float64] | None:
        """A parameter of the data for each trajectory, (trajectory,), by its full name or its last part, or None."""
        for known in (name, name.rpartition(".")[2]):
            value = self._contents.parameters.get(known)
            if value is not None and not isinstance(value, str):
                return np.broadcast_to(np.asarray(value, dtype=np.float64), (self.trajectories,))
        return None

    @property
    def _observed(self) -> list[str]:
        return [name for name in self.names if name not in self.unobserved]

    def _require_fields(self) -> None:
        fields, space = self._contents.fields, self._contents.space
        if present := [name for name in self.unobserved if name in fields]:
            raise DataError(f"{self.key}.unobserved.{present[0]}: {self.file} has this field. Remedy: leave it out")
        for field in self.equation.fields:
            if field.name in self.unobserved and self._observed:
                continue
            if field.name not in fields:
                known = ", ".join(fields)
                other = f", or unobserved = {{ {field.name} = VALUE }}, that at the start"
                other = other if self.key == "reference" else ""
                raise DataError(
                    f"{self.key}.map: {self.file} has no field {field.name}, which {self.equation.name} needs; "
                    f'it has {known}. Remedy: map = {{ {field.name} = "NAME" }}{other}'
                )
            found = fields[field.name]
            if found.dims != (TRAJECTORY, TIME, *space):
                raise DataError(
                    f"{self.where}: {field.name} has the axes {', '.join(found.dims)}, expected "
                    f"{', '.join((TRAJECTORY, TIME, *space))}"
                )
            self._require_unit(field.name, found.units, field.unit)
        for name in (TIME, *space):
            self._require_unit(name, self._contents.axes.get(name, Axis()).units, None)

    def _require_unit(self, name: str, found: str, expected: str | None) -> None:
        """Refuse a stated unit that is not made of metres and seconds (or length and time) as the case's is."""
        if found in OWN or expected in OWN:
            return
        measured = _exponents(found)
        if measured is None or (expected is not None and measured != _exponents(expected)):
            raise DataError(
                f"{self.key}.units.{name}: {self.file} states {found!r}, the case has "
                f"{expected or 'the units of grid.length and time.end'}. Remedy: convert the data"
            )

    def _shape_on(self, grid: Grid, announced: tuple[int, ...] | None, restrict: str) -> tuple[int, ...]:
        """The shape of the data, which must have the axes and the domain of the case."""
        space, expected = self._contents.space, list(self.equation.coordinates(grid))
        particles = self.equation.kind == "particles"
        if particles != (space == (ENTITY,)) or not (particles or list(space) == expected):
            raise DataError(
                f"{self.key}.map: {self.file} has the axes {', '.join(space) or 'none'}, the case has "
                f'{", ".join(expected)}. Remedy: map = {{ {expected[-1]} = "NAME" }}'
            )
        shape = tuple(self._sizes[name] for name in space)
        if announced is not None and announced != shape:
            raise DataError(
                f"{self.key}.shape: {self.file} has {list(shape)}, found {list(announced)}. Remedy: leave it out"
            )
        if mistakes := list(shape_mistakes(shape, grid.shape, self.equation, restrict, f"{self.where}")):
            raise DataError(f"{mistakes[0]}. Remedy: a coarser grid.shape, or data on another grid")
        if particles:
            return shape
        coordinates = self.equation.coordinates(grid.refined(shape))
        periodic = self.equation.periodic_axes(grid)
        for name, length, wraps in zip(space, grid.length, periodic, strict=True):
            self._require_axis(name, self._contents.axes[name], coordinates[name], length, bool(wraps))
        return shape

    def _require_axis(self, name: str, axis: Axis, expected: NDArray, length: float, periodic: bool) -> None:
        if axis.values is None:
            raise DataError(
                f"{self.key}.length.{name}: missing; {self.file} states no coordinates. "
                f"Remedy: length = {{ {name} = {length:g} }}, if that is its length"
            )
        if periodic and axis.periodic is False:
            raise DataError(
                f"{self.key}.periodic: {name} of {self.file} is not periodic, that of the case is. "
                f"Remedy: periodic = [{name!r}] if it is, or an equation with its boundaries"
            )
        values = np.asarray(axis.values, dtype=np.float64)
        if np.abs(values - expected).max() > 1e-5 * length:
            raise DataError(
                f"{self.where}: {name} has {len(values)} values from {values[0]:.7g} to {values[-1]:.7g}, the case "
                f"has {expected[0]:.7g} to {expected[-1]:.7g} at this resolution. Remedy: grid.length and grid.origin "
                f"of the data, or {self.key}.grid, {self.key}.drop_last_point or {self.key}.select"
            )

    def _numbers(self) -> dict[str, float]:
        numbers = {k: v for k, v in self.equation if isinstance(v, (int, float)) and not isinstance(v, bool)}
        return {name: float(value) for name, value in numbers.items()}

    def _parameters(self) -> set[str]:
        """The numbers of the equation that the data state. Raises DataError if one differs from that of the case."""
        stated = set()
        for name, value in self._numbers().items():
            if f"equation.{name}" in self._swept:
                continue
            found = self._contents.parameters.get(name, self._contents.parameters.get(f"equation.{name}"))
            if found is None or isinstance(found, str):
                continue
            used = np.atleast_1d(np.asarray(found, dtype=np.float64))[: self.table.trajectories]
            if not np.allclose(used, value, rtol=1e-6, atol=0.0):
                shown = ", ".join(f"{v:g}" for v in np.unique(used)[:4])
                raise DataError(
                    f"equation.{name}: is {value:g} in the case, but {shown} in {self.file} ({self.where}). "
                    f"Remedy: the same value, or {self.key}.select of trajectories with it"
                )
            stated.add(name)
        return stated


def _exponents(unit: str) -> tuple[int, int] | None:
    """The exponents of length and time of a unit such as m/s, m s-1 or length^2/time; None for any other unit."""
    total, divided = [0, 0], False
    if not re.fullmatch(r"(?:1|[a-z]+(?:\^?-?\d+)?)(?:\s*[/* ]\s*[a-z]+(?:\^?-?\d+)?)*", unit):
        return None
    for sign, name, power in re.findall(r"([/*]?)\s*([a-z]+|1)\^?(-?\d+)?", unit):
        divided = sign == "/"
        exponent = (-1 if divided else 1) * int(power or 1)
        if name in LENGTH:
            total[0] += exponent
        elif name in SECOND:
            total[1] += exponent
        elif name != "1":
            return None
    return total[0], total[1]
