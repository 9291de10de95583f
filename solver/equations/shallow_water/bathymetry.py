"""Bathymetry of the shallow-water equations: one class per kind, which gives the cell averages of the bottom b."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, field_validator
from pydantic import Field as Option

from ...backend.files import DamagedFile, array_headers, read_arrays
from ...backend.netcdf import is_netcdf, read_variable
from ...grid import Grid, increasing_order
from ..expressions import Expression

Point = tuple[float, float]
AXES = ("y", "x")
LARGEST_BOTTOM = 2**28  # bytes of a bottom file that is read for any grid; for a large grid, 64 times its own size


class Bathymetry(BaseModel, ABC):
    """b(x, y), the height of the bottom, in the length unit of the depth. Points are (y, x), as for the grid."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    kind: str

    @abstractmethod
    def averages(self, grid: Grid) -> NDArray[np.float64] | None:
        """Cell averages of b, (y, x), or None for b = 0. Raises ValueError if the bathymetry does not fit the grid."""


class Flat(Bathymetry):
    """b = 0."""

    kind: Literal["flat"] = "flat"

    def averages(self, grid: Grid) -> None:
        return None


class Paraboloid(Bathymetry):
    """b = depth (r^2 / radius^2 - 1), r the distance from the centre: Thacker's bowl, with its rim at b = 0."""

    kind: Literal["paraboloid"] = "paraboloid"
    depth: float = Option(gt=0)
    radius: float = Option(gt=0)
    centre: Point = (0.0, 0.0)

    def averages(self, grid: Grid) -> NDArray[np.float64]:
        return cell_averages(lambda y, x: self.depth * (_square(y, x, self.centre) / self.radius**2 - 1), grid)


class Bump(BaseModel):
    """height exp(-r^2 / (2 width^2)) about the centre (y, x)."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    height: float
    width: float = Option(gt=0)
    centre: Point


class Bumps(Bathymetry):
    """b = sum of Gaussian bumps, not repeated periodically."""

    kind: Literal["bumps"] = "bumps"
    bumps: tuple[Bump, ...] = Option(min_length=1)

    def averages(self, grid: Grid) -> NDArray[np.float64]:
        def bottom(y: NDArray, x: NDArray) -> NDArray:
            parts = (p.height * np.exp(-0.5 * _square(y, x, p.centre) / p.width**2) for p in self.bumps)
            return functools.reduce(np.add, parts)

        return cell_averages(bottom, grid)


class BathymetryFormula(Bathymetry):
    """b(x, y) as a formula of x and y. Raises ValueError for what `Expression` refuses, and where it is not finite."""

    kind: Literal["expression"] = "expression"
    value: str

    @field_validator("value")
    @classmethod
    def _is_a_formula(cls, value: str) -> str:
        Expression(value, AXES)
        return value

    def averages(self, grid: Grid) -> NDArray[np.float64]:
        formula = Expression(self.value, AXES)
        found = cell_averages(lambda y, x: formula({"y": y, "x": x}), grid)
        if not np.isfinite(found).all():
            raise ValueError(
                f"equation.bathymetry.value: {self.value!r} is not finite at all cells. Remedy: change the formula"
            )
        return found


class BathymetryFile(Bathymetry):
    """The array `bathymetry` of an .npz or NetCDF (version 3) file: cell averages on a grid of its own.

    That grid covers the domain of the case. Its shape is the shape of the case's grid, or a whole multiple of it per
    axis; a finer array is averaged over blocks of cells. In a NetCDF file the dimensions are named y and x, or have
    coordinate variables with the attribute axis = "Y" or "X", in either order; in an .npz file the order is (y, x).
    Coordinates of the cell centres, variables named as the dimensions or arrays `y` and `x`, must be those of the
    domain, in any order, and place the values. Without coordinates the first value is at the lower end of the axis.

    The file is read by `averages`, and by `on_grid` once for each object and grid.
    """

    kind: Literal["file"] = "file"
    path: Path

    def averages(self, grid: Grid) -> NDArray[np.float64]:
        try:
            read = _read_netcdf if is_netcdf(self.path) else _read_npz
            fine, coordinates = read(self.path, max(LARGEST_BOTTOM, 64 * 8 * grid.points))
        except FileNotFoundError:
            raise ValueError(
                f"equation.bathymetry.path: there is no file {self.path}. Remedy: use a path relative to the case file"
            ) from None
        except DamagedFile as error:
            raise ValueError(
                f"equation.bathymetry.path: {error}. Remedy: save it with numpy.savez(path, bathymetry=b), or as "
                "NetCDF version 3"
            ) from None
        except OSError as error:
            raise ValueError(f"equation.bathymetry.path: {self.path} cannot be read ({error.strerror})") from None
        if not np.isfinite(fine).all():
            raise _not_numbers(self.path, fine.shape, "values that are not finite")
        factors = [n // m for n, m in zip(fine.shape, grid.shape, strict=True)]
        if any(n != m * f or f == 0 for n, m, f in zip(fine.shape, grid.shape, factors, strict=True)):
            raise ValueError(
                f"equation.bathymetry.path: {self.path} has {list(fine.shape)} cells, expected a whole multiple of the "
                f"grid's {list(grid.shape)}. Remedy: choose a grid whose shape divides that of the file"
            )
        centres = grid.refined(fine.shape).coordinates(centres=True)
        for axis, (name, expected) in enumerate(zip(AXES, centres, strict=True)):
            if name in coordinates:
                try:
                    fine = fine.take(increasing_order(coordinates[name], expected), axis)
                except ValueError as error:
                    raise ValueError(
                        f"equation.bathymetry.path: coordinates {name} of {self.path}: {error}, the cell centres of "
                        "the domain. Remedy: set grid.length and grid.origin, or use a file for the domain of the case"
                    ) from None
        return block_means(fine, grid.shape)

    @functools.cached_property
    def held(self) -> _Held:
        """What `on_grid` has read from the file for this object."""
        return _Held()


class _Held:
    """Cell averages by grid. Objects of this class compare by identity, so that models compare by their fields."""

    def __init__(self) -> None:
        self.averages: dict[Grid, NDArray[np.float64]] = {}


Read = tuple[NDArray[np.float64], dict[str, NDArray]]


def _read_npz(path: Path, largest: int) -> Read:
    """The bathymetry, (y, x), and its coordinates by axis. Raises ValueError if the header does not fit."""
    headers = array_headers(path, ("bathymetry",))
    if (header := headers.get("bathymetry")) is None:
        raise _missing(path, sorted(headers))
    shape, dtype = header
    if len(shape) != 2 or dtype.kind not in "fiu":
        raise _not_numbers(path, shape, str(dtype))
    found = read_arrays(path, ("bathymetry", *AXES), largest * dtype.itemsize // 8)
    return np.ascontiguousarray(found.pop("bathymetry"), dtype=np.float64), found


def _read_netcdf(path: Path, largest: int) -> Read:
    """As `_read_npz`. Raises ValueError also if the axes are not named clearly."""
    found = read_variable(path, "bathymetry", largest)
    if isinstance(found, list):
        raise _missing(path, found)
    names = [d.axis.lower() or d.name.lower() for d in found.dimensions]
    clash = any(d.axis and d.name.lower() in AXES and d.name.lower() != d.axis.lower() for d in found.dimensions)
    if sorted(names) != sorted(AXES) or clash:
        given = [d.name + (f' (axis = "{d.axis}")' if d.axis else "") for d in found.dimensions]
        raise ValueError(
            f"equation.bathymetry.path: bathymetry in {path} has the dimensions ({', '.join(given)}), expected y and "
            'x. Remedy: name the dimensions y and x, or give their coordinates the attribute axis = "Y" and "X"'
        )
    axes = dict(zip(names, found.dimensions, strict=True))
    coordinates = {name: d.coordinates for name, d in axes.items() if d.coordinates is not None}
    return np.ascontiguousarray(found.values if names[0] == "y" else found.values.T), coordinates


def _missing(path: Path, names: list[str]) -> ValueError:
    return ValueError(
        f"equation.bathymetry.path: {path} contains the arrays {names}, expected 'bathymetry'. "
        "Remedy: name the array 'bathymetry'"
    )


def _not_numbers(path: Path, shape: tuple[int, ...], found: str) -> ValueError:
    return ValueError(
        f"equation.bathymetry.path: bathymetry in {path} must be finite real numbers of shape (y, x), found {found} "
        f"of shape {shape}"
    )


Bottom = Annotated[Flat | Paraboloid | Bumps | BathymetryFormula | BathymetryFile, Option(discriminator="kind")]


def on_grid(bottom: Bathymetry, grid: Grid) -> NDArray[np.float64] | None:
    """`averages`, cached and read-only.

    A formula is cached by its parameters, a file by the object: a new object reads the file as it is then, and a run
    keeps its bottom whatever happens to the file.
    """
    if not isinstance(bottom, BathymetryFile):
        return _of_formula(bottom, grid)
    held = bottom.held.averages
    if grid not in held:
        held[grid] = _read_only(bottom.averages(grid))
    return held[grid]


@functools.lru_cache(maxsize=16)
def _of_formula(bottom: Bathymetry, grid: Grid) -> NDArray[np.float64] | None:
    averages = bottom.averages(grid)
    return None if averages is None else _read_only(averages)


def _read_only(averages: NDArray[np.float64]) -> NDArray[np.float64]:
    averages = np.ascontiguousarray(averages)
    averages.flags.writeable = False
    return averages


def cell_averages(f: Callable[[NDArray, NDArray], NDArray], grid: Grid, nodes: int = 6) -> NDArray[np.float64]:
    """Cell averages (..., y, x) of f(y, x) by Gauss quadrature with nodes^2 points per cell."""
    places, weights = np.polynomial.legendre.leggauss(nodes)
    y, x = (c[:, None] + 0.5 * h * places for c, h in zip(grid.coordinates(centres=True), grid.spacing, strict=True))
    total = np.zeros(grid.shape)
    for i in range(nodes):
        for j in range(nodes):
            total = total + 0.25 * weights[i] * weights[j] * f(y[:, i, None], x[None, :, j])
    return total


def block_means(fine: NDArray, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """(..., y, x) -> (..., *shape): means over blocks of cells."""
    rows, columns = (n // m for n, m in zip(fine.shape[-2:], shape, strict=True))
    return fine.reshape(*fine.shape[:-2], shape[0], rows, shape[1], columns).mean(axis=(-3, -1))


def _square(y: NDArray, x: NDArray, centre: Point) -> NDArray:
    return (y - centre[0]) ** 2 + (x - centre[1]) ** 2
