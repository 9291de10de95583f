"""Bathymetry of the shallow-water equations: one class per kind, which gives the cell averages of the bottom b."""

from __future__ import annotations

import functools
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from pydantic import Field as Option

from ...grid import Grid

Point = tuple[float, float]


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


class BathymetryFile(Bathymetry):
    """The array `bathymetry` (y, x) of an .npz or NetCDF (version 3) file: cell averages on a grid of its own.

    That grid covers the domain of the case. Its shape is the shape of the case's grid, or a whole multiple of it per
    axis; a finer array is averaged over blocks of cells.
    """

    kind: Literal["file"] = "file"
    path: Path

    def averages(self, grid: Grid) -> NDArray[np.float64]:
        fine = _read(self.path)
        factors = [n // m for n, m in zip(fine.shape, grid.shape, strict=True)]
        if any(n != m * f or f == 0 for n, m, f in zip(fine.shape, grid.shape, factors, strict=True)):
            raise ValueError(
                f"equation.bathymetry.path: {self.path} has {list(fine.shape)} cells, expected a whole multiple of the "
                f"grid's {list(grid.shape)}. Remedy: choose a grid whose shape divides that of the file"
            )
        return block_means(fine, grid.shape)


Bottom = Annotated[Flat | Paraboloid | Bumps | BathymetryFile, Option(discriminator="kind")]


@functools.lru_cache(maxsize=16)
def on_grid(bottom: Bathymetry, grid: Grid) -> NDArray[np.float64] | None:
    """`averages`, cached and read-only."""
    averages = bottom.averages(grid)
    if averages is not None:
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


@functools.lru_cache(maxsize=4)
def _read(path: Path) -> NDArray[np.float64]:
    if not path.is_file():
        raise ValueError(
            f"equation.bathymetry.path: there is no file {path}. Remedy: use a path relative to the case file"
        )
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                found = {name: np.asarray(arrays[name]) for name in arrays}
        else:
            import xarray

            with xarray.open_dataset(path, engine="scipy") as data:
                found = {str(name): np.asarray(data[name].values) for name in data.data_vars}
    except (OSError, EOFError, ValueError, TypeError, zipfile.BadZipFile):
        raise ValueError(
            f"equation.bathymetry.path: {path} is neither .npz with arrays of numbers nor NetCDF version 3. "
            "Remedy: save it with numpy.savez(path, bathymetry=b)"
        ) from None
    if "bathymetry" not in found:
        raise ValueError(
            f"equation.bathymetry.path: {path} contains the arrays {sorted(found)}, expected 'bathymetry'. "
            "Remedy: name the array 'bathymetry'"
        )
    bottom = found["bathymetry"]
    if bottom.ndim != 2 or bottom.dtype.kind not in "fiu" or not np.isfinite(bottom).all():
        raise ValueError(
            f"equation.bathymetry.path: bathymetry in {path} must be finite real numbers of shape (y, x), found "
            f"{bottom.dtype} of shape {bottom.shape}"
        )
    return bottom.astype(np.float64)
