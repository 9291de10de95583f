"""NetCDF version 3: one variable with the coordinates of its dimensions, checked by its header before it is read."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .files import LARGEST, DamagedFile, require_regular

MAGIC = (b"CDF\x01", b"CDF\x02")


@dataclass(frozen=True)
class Dimension:
    """A dimension of a variable: its name, its coordinates (n,) if the file has them, and their attribute `axis`."""

    name: str
    coordinates: NDArray[np.float64] | None
    axis: str


@dataclass(frozen=True)
class Variable:
    """A variable in double precision, missing values as nan, with one Dimension for each axis."""

    values: NDArray[np.float64]
    dimensions: tuple[Dimension, ...]


def is_netcdf(path: Path) -> bool:
    """Whether the file begins as NetCDF version 3 does. Raises as `files.require_regular` does."""
    require_regular(path)
    with path.open("rb") as file:
        return file.read(4) in MAGIC


def read_variable(path: Path, name: str, largest: int = LARGEST) -> Variable | list[str]:
    """The variable `name` of a NetCDF file of version 3, or the names of the variables if it is not among them.

    Raises DamagedFile if the file is damaged, if the variable or its coordinates are no real numbers, and if it takes
    more than `largest` bytes in double precision.
    """
    from scipy.io import netcdf_file

    if not is_netcdf(path):
        raise DamagedFile(f"{path} is not NetCDF version 3")
    try:
        with warnings.catch_warnings(), netcdf_file(path, "r", mmap=True, maskandscale=True) as file:
            warnings.simplefilter("ignore")  # of values that overflow when they are scaled
            variables = file.variables
            if name not in variables:
                return sorted(variables)
            size = 8 * math.prod(variables[name].shape)
            if size > largest:
                raise DamagedFile(
                    f"{path} announces {name} {size / 1e9:.3g} GB, more than the {largest / 1e9:.3g} GB expected here"
                )
            dimensions = tuple(_dimension(path, variables, d) for d in variables[name].dimensions)
            return Variable(_numbers(path, name, variables[name]), dimensions)
    except DamagedFile:
        raise
    except Exception as error:  # what scipy raises for a damaged file is not documented
        detail = str(error).partition("\n")[0] or type(error).__name__
        raise DamagedFile(f"{path} is not an intact NetCDF file of version 3 ({detail})") from None


def _dimension(path: Path, variables: Mapping[str, Any], name: str) -> Dimension:
    variable = variables.get(name)
    if variable is None or variable.dimensions != (name,):
        return Dimension(name, None, "")
    axis = getattr(variable, "axis", b"")
    return Dimension(name, _numbers(path, name, variable), axis.decode("latin-1") if isinstance(axis, bytes) else "")


def _numbers(path: Path, name: str, variable: Any) -> NDArray[np.float64]:
    values = np.ma.asarray(variable[:])
    if values.dtype.kind not in "fiu":
        raise DamagedFile(f"{name} in {path} must be real numbers, found {values.dtype}")
    return np.ma.filled(values.astype(np.float64), np.nan)
