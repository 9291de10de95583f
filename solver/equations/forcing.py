"""Forcings: sources in the right-hand side of an equation, steady or not, by name, formula, file or plug-in."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, SerializeAsAny, field_validator, model_validator

from ..backend.files import LARGEST, DamagedFile, read_arrays
from ..backend.netcdf import is_netcdf, read_variable
from ..finite_volume.averages import average_cells
from ..grid import Grid, increasing_order
from ..spectral import resample
from .answers import forcing_field
from .expressions import Expression, cell_means, sparse
from .plugins import PluginModel, Registry, from_table

if TYPE_CHECKING:
    from .base import Equation

AXES = ("y", "x")
NAMES = ("t", "x", "y", "v")


class Forcing(PluginModel, ABC):
    """f(x) or f(x, t), a source per unit of time: the pydantic fields of a subclass are the keys of its table.

    `kind` is the name under which a case asks for it; a class that is named by `path` needs none. A subclass writes
    `field`; one that depends on time also `steady`, as False, and `at`.
    """

    kind: str = ""

    @abstractmethod
    def field(self, grid: Grid) -> NDArray[np.float64]:
        """f at the points of the grid, shape (*grid), in state units per time; of several fields (field, *grid).

        For balance laws means over the cells. Of a forcing that depends on time its value at t = 0.
        """

    @property
    def steady(self) -> bool:
        """Whether f does not depend on t."""
        return True

    def at(self, equation: Equation, grid: Grid, t: float) -> NDArray[np.float64]:
        """f at the time t, shaped as `field`."""
        return self.field(grid)


class SineForcing(Forcing):
    """f = -A k cos(k y), k = 2 pi wavenumber / L_y: the curl of the velocity forcing A sin(k y) along x.

    amplitude: A, length/time^2.
    """

    kind: Literal["sine"] = "sine"
    amplitude: float
    wavenumber: int = Field(ge=1)

    def field(self, grid: Grid) -> NDArray[np.float64]:
        y, _ = _plane(self.kind, grid)
        k = 2 * np.pi * self.wavenumber / grid.length[0]
        return -self.amplitude * k * np.cos(k * y)


class DiagonalForcing(Forcing):
    """f = A [sin(2 pi n (x/L_x + y/L_y)) + cos(2 pi n (x/L_x + y/L_y))], n = wavenumber.

    amplitude: A, 1/time^2. Source: Li et al., Fourier Neural Operator (ICLR 2021), section 5.3.
    """

    kind: Literal["diagonal"] = "diagonal"
    amplitude: float
    wavenumber: int = Field(ge=1)

    def field(self, grid: Grid) -> NDArray[np.float64]:
        y, x = _plane(self.kind, grid)
        ly, lx = grid.length
        phase = 2 * np.pi * self.wavenumber * (x / lx + y / ly)
        return self.amplitude * (np.sin(phase) + np.cos(phase))


def _plane(kind: str, grid: Grid) -> tuple[NDArray, NDArray]:
    """y and x at the points. Raises ValueError on a line."""
    if grid.dimensions != 2:
        raise ValueError(f'kind = "{kind}" needs two axes. Remedy: kind = "expression"')
    y, x = np.meshgrid(*grid.coordinates(), indexing="ij")
    return y, x


class FormulaForcing(Forcing):
    """f(x, t) as a formula of the coordinates and of t: `value` for equations of one field, else `fields`, by name.

    Names are those of the axes, y and x, or v and x in phase space. Fields without a formula are not forced. Raises
    ValueError for what `Expression` refuses.
    """

    kind: Literal["expression"] = "expression"
    value: str | None = None
    fields: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_or_several(self) -> FormulaForcing:
        if (self.value is None) == (not self.fields):
            raise ValueError(
                "expected value or fields. Remedy: value for one field, fields = { NAME = ... } for several"
            )
        return self

    @field_validator("value", "fields")
    @classmethod
    def _are_formulas(cls, given: str | dict[str, str] | None) -> str | dict[str, str] | None:
        for text in given.values() if isinstance(given, dict) else [] if given is None else [given]:
            Expression(text, NAMES)
        return given

    @property
    def _texts(self) -> list[str]:
        return [*self.fields.values()] if self.value is None else [self.value]

    @property
    def steady(self) -> bool:
        return not any(Expression(text, NAMES).uses("t") for text in self._texts)

    def field(self, grid: Grid) -> NDArray[np.float64]:
        along = dict(zip(AXES[-grid.dimensions :], grid.coordinates(), strict=True))
        return self._found(lambda formula: np.array(formula(sparse(along) | {"t": 0.0})), grid, (*along, "t"), 0.0)[0]

    def at(self, equation: Equation, grid: Grid, t: float) -> NDArray[np.float64]:
        names, along = [field.name for field in equation.fields], equation.coordinates(grid)
        if unknown := [name for name in self.fields if name not in names]:
            raise ValueError(f"fields: {unknown[0]} is no field. Remedy: {', '.join(names)}")
        if self.value is not None and len(names) > 1:
            raise ValueError(f"value: there are several fields. Remedy: fields = {{ {names[0]} = ... }}")

        def sample(formula: Expression) -> NDArray[np.float64]:
            if equation.kind == "balance-law":
                return cell_means(formula, along, grid, {"t": t})
            return formula(sparse(along) | {"t": t})

        found = self._found(sample, grid, (*along, "t"), t)
        if self.value is not None:
            return found
        rates = np.zeros((len(names), *grid.shape))
        for name, values in zip(self.fields, found, strict=True):
            rates[names.index(name)] = values
        return rates

    def _found(
        self, sample: Callable[[Expression], NDArray], grid: Grid, names: tuple[str, ...], t: float
    ) -> NDArray[np.float64]:
        """Values of the formulas, (formula, *grid)."""
        found = np.stack([np.broadcast_to(sample(Expression(text, names)), grid.shape) for text in self._texts])
        if not np.isfinite(found).all():
            text = self._texts[int(np.argmin(np.isfinite(found).reshape(len(found), -1).all(axis=1)))]
            where = "" if self.steady else f", at t = {t:g}"
            raise NotFinite(f"{text!r} is not finite at all points of the grid{where}. Remedy: change the formula")
        return found


class NotFinite(ValueError, ArithmeticError):
    """A forcing that is not finite: a mistake before a run, and the end of it when it happens underway."""


class _Read(NamedTuple):
    """What a file holds: values ([time, ][field, ]*grid), the times, and the coordinates of the axes that it states."""

    values: NDArray[np.float64]
    times: NDArray[np.float64] | None
    coordinates: dict[str, NDArray]


class FileForcing(Forcing):
    """The array `forcing` of a file: (*grid), (field, *grid), or with a first axis of the times in `time`.

    path: .npz, or NetCDF of version 3 with the dimensions v, y and x, `time` and `field`, by name or by the attribute
    `axis`, in any order. Coordinates of the axes, arrays or variables of their names, must be those of the domain. The
    grid may be any on the domain of the case, such as that of the reference: to the grid of the run Fourier modes that
    both resolve are kept, and means over cells are interpolated conservatively (`average_cells`).

    Between two times f is interpolated linearly; the times must cover those of the run. Raises ValueError for a file
    that is missing, damaged or does not fit the grid.
    """

    kind: Literal["file"] = "file"
    path: Path

    @functools.cached_property
    def _file(self) -> _Read:
        try:
            found = _read_netcdf(self.path) if is_netcdf(self.path) else _read_npz(self.path)
        except FileNotFoundError:
            raise ValueError(f"there is no file {self.path}. Remedy: use a path relative to the case file") from None
        except (DamagedFile, OSError, KeyError, ValueError, TypeError) as error:
            raise ValueError(
                f"{self.path} has no array of real numbers named forcing ({error}). "
                "Remedy: numpy.savez(path, forcing=f), or a variable forcing in NetCDF version 3"
            ) from None
        values, times, _ = found
        if not np.isfinite(values).all():
            raise ValueError(f"forcing in {self.path} is not finite. Remedy: correct the file")
        if times is not None and (times.shape != values.shape[:1] or not (np.diff(times) > 0).all()):
            raise ValueError(
                f"time in {self.path} has shape {times.shape}, expected increasing times, one "
                f"for each of the {len(values)} entries of forcing. Remedy: correct the file"
            )
        return found

    @property
    def steady(self) -> bool:
        return self._file.times is None

    def field(self, grid: Grid) -> NDArray[np.float64]:
        """f on the grid of the file, which must be this one: another needs the equation, see `at`."""
        values, times, _ = self._file
        return self._fitting(values if times is None else values[0], None, grid)

    def at(self, equation: Equation, grid: Grid, t: float) -> NDArray[np.float64]:
        values, times, _ = self._file
        if times is None:
            return self._fitting(values, equation, grid)
        if not times[0] - 1e-12 * abs(times[0]) <= t <= times[-1] + 1e-12 * abs(times[-1]):
            raise NotFinite(
                f"{self.path} covers t = {times[0]:g} to {times[-1]:g}, the run needs {t:g}. "
                "Remedy: a file for all times of the run"
            )
        i = int(np.clip(np.searchsorted(times, t) - 1, 0, max(len(times) - 2, 0)))
        if len(times) == 1:
            return self._fitting(values[0], equation, grid)
        share = (t - times[i]) / (times[i + 1] - times[i])
        return self._fitting((1 - share) * values[i] + share * values[i + 1], equation, grid)

    def _fitting(self, values: NDArray, equation: Equation | None, grid: Grid) -> NDArray[np.float64]:
        """Values ([field, ]*source) on the grid."""
        shape = values.shape[-grid.dimensions :]
        known = shape == grid.shape if equation is None else len(shape) == grid.dimensions and min(shape) >= 4
        fields = values.shape[: -grid.dimensions]
        if not known or len(fields) > 1 or (equation is not None and fields not in ((), (len(equation.fields),))):
            raise ValueError(
                f"forcing in {self.path} has shape {values.shape}, expected (*grid) = {grid.shape} or another grid of "
                "the domain with 4 points or more along each axis, or (field, *grid). Remedy: correct the file"
            )
        if equation is None:
            return values
        source = grid.refined(shape)
        for axis, (name, expected) in enumerate(equation.coordinates(source).items(), start=-grid.dimensions):
            if name in self._file.coordinates:
                try:
                    values = values.take(increasing_order(self._file.coordinates[name], expected), axis)
                except ValueError as error:
                    raise ValueError(
                        f"coordinates {name} of {self.path}: {error}, those of the domain. Remedy: a file for the "
                        "domain of the case"
                    ) from None
        if shape == grid.shape:
            return values
        if not equation.spectral:
            return average_cells(values, grid.shape)
        axes = tuple(range(-grid.dimensions, 0))
        spectrum = resample(np.fft.rfftn(values, axes=axes, norm="forward"), source, grid)
        return np.fft.irfftn(spectrum, grid.shape, axes=axes, norm="forward")


ORDER = ("time", "field", "v", "y", "x")  # of the axes of a forcing


def _read_npz(path: Path) -> _Read:
    found = read_arrays(path, ("forcing", *ORDER), LARGEST)
    values, times = np.asarray(found["forcing"], dtype=np.float64), found.get("time")
    axes = {name: found[name] for name in ORDER[2:] if name in found}
    return _Read(values, None if times is None else times.astype(np.float64), axes)


def _read_netcdf(path: Path) -> _Read:
    found = read_variable(path, "forcing")
    if isinstance(found, list):
        raise DamagedFile(f"its variables are {', '.join(found)}")
    letters = {"T": "time", "X": "x", "Y": "y"}
    names = [letters.get(d.axis.upper(), d.name) for d in found.dimensions]
    if len(set(names)) < len(names) or not set(names) <= set(ORDER):
        raise DamagedFile(f"its dimensions are {', '.join(names)}, expected any of {', '.join(ORDER)}")
    axes = {name: d.coordinates for name, d in zip(names, found.dimensions, strict=True) if d.coordinates is not None}
    if "time" in names and "time" not in axes:
        raise DamagedFile("its time has no coordinates")
    values = found.values.transpose(sorted(range(len(names)), key=lambda i: ORDER.index(names[i])))
    return _Read(np.ascontiguousarray(values), axes.pop("time", None), axes)


def source_rates(equation: Equation, forcing: Forcing, grid: Grid, t: float) -> NDArray:
    """The forcing at t in the stepper's representation, (field, *): for a Fourier grid dealiased coefficients."""
    rates = forcing_field(forcing, grid, lambda: forcing.at(equation, grid, t), len(equation.fields))
    if not equation.spectral:
        return rates
    found = np.fft.rfftn(rates, axes=tuple(range(1, rates.ndim)), norm="forward")
    found[:, ~grid.mask()] = 0.0
    return found


FORCINGS: Registry[type[Forcing]] = Registry(
    "subgrid.forcings",
    "forcing",
    Forcing,
    {"sine": SineForcing, "diagonal": DiagonalForcing, "expression": FormulaForcing, "file": FileForcing},
)
Forcing.plugins = FORCINGS

ForcingTable = Annotated[SerializeAsAny[Forcing], BeforeValidator(from_table(FORCINGS))]
