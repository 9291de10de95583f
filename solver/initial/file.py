"""Initial states that are read from a file or taken from the reference run."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ..backend.files import DamagedFile, array_headers, read_arrays
from ..equations.base import Equation
from ..equations.initial_state import InitialState, Members
from ..grid import Grid, increasing_order
from . import labelled
from .regridding import on_grid

LARGEST_STATE = 2**28  # bytes of a file that is read for any grid; for a large grid, 256 members

NEGLIGIBLE = 1e-280  # the compiled steppers set smaller values to zero in the first step, array code does not


class File(InitialState):
    """The state in a file: NetCDF, Zarr or .npz, on the grid of the case or on another grid of the same domain.

    NetCDF and Zarr: a variable for every field, by name, with named dimensions in any order: the axes of the equation,
    `member` if members differ, and `time`, of which `time` selects one, by default the last. .npz: the array `state`,
    (field, *grid) for all members or (member, field, *grid).

    With a member axis, member m starts from entry m; a single entry is used for all members. Coordinates, variables or
    arrays named as the axes, must be those of a grid of the domain, in any order, and place the values; those of NetCDF
    and Zarr must be there. A file with coordinates on another grid is carried over as `Run` does. Numbers of any
    precision and byte order are read; values below 1e-280, subnormal ones among them, are zero, and zeros have no sign.

    Raises ValueError if the file is missing, damaged, too large, holds pickled or complex arrays, or does not fit the
    equation, the domain or the members.
    """

    kind: Literal["file"] = "file"
    from_file: ClassVar[bool] = True
    path: Path
    time: float | None = None

    def state(
        self, equation: Equation, grid: Grid, members: Members, seed: int, folder: Path | None = None
    ) -> NDArray[np.float64]:
        entries = self._entries(equation, grid, members, folder)
        return np.repeat(entries, len(members), axis=0) if len(entries) == 1 else entries[list(members)]

    def trial(self, equation: Equation, grid: Grid, member: int) -> NDArray[np.float64]:
        """The entries of all members up to `member`."""
        return self._entries(equation, grid, (member,), None)[: member + 1]

    def _entries(self, equation: Equation, grid: Grid, members: Members, folder: Path | None) -> NDArray[np.float64]:
        """The entries of the file, (entry, field, *grid); one, or enough for these members."""
        path, axes = (folder or Path()) / self.path, equation.axes(grid)
        expected = (len(equation.fields), *grid.shape)
        largest = max(LARGEST_STATE, 8 * math.prod(expected) * max(256, max(members) + 1))
        try:
            if labelled.is_labelled(path):
                state, found = labelled.read(path, equation, axes, self.time, largest)
            elif self.time is not None:
                raise ValueError("time: an .npz file has no times. Remedy: remove initial.time")
            else:
                state, found = self._read_npz(path, equation, grid, members, largest)
        except FileNotFoundError:
            raise ValueError(f"path: there is no file {path}. Remedy: use a path relative to the case file") from None
        except DamagedFile as error:
            raise ValueError(f"path: {error}. Remedy: save it with numpy.savez(path, state=u)") from None
        except OSError as error:
            raise ValueError(f"path: {path} cannot be read ({error.strerror})") from None
        _require_fit(path, state.shape, state.dtype, equation, grid, max(members), set(axes) <= set(found))
        state = np.array(state, dtype=np.float64, order="C", ndmin=1 + len(expected))
        state[np.abs(state) < NEGLIGIBLE] = 0.0
        source = grid.refined(state.shape[2:]) if set(axes) <= set(found) else grid
        for axis, (name, points) in enumerate(equation.coordinates(source).items(), start=2):
            if name in found:
                try:
                    state = state.take(increasing_order(found[name], points), axis)
                except ValueError as error:
                    raise ValueError(
                        f"path: coordinates {name} of {path}: {error}, as on the grid of the case. "
                        "Remedy: set grid.length and grid.origin, or use a file for the domain of the case"
                    ) from None
        return on_grid(state, equation, source, grid)

    def _read_npz(
        self, path: Path, equation: Equation, grid: Grid, members: Members, largest: int
    ) -> tuple[NDArray, dict[str, NDArray]]:
        """The state and the coordinates by axis."""
        axes = equation.axes(grid)
        headers = array_headers(path, ("state", *axes))
        if (header := headers.get("state")) is None:
            raise ValueError(
                f"path: {path} contains the arrays {sorted(headers)}, expected 'state'. Remedy: name the array 'state'"
            )
        _require_fit(path, *header, equation, grid, max(members), set(axes) <= set(headers))
        found = read_arrays(path, ("state", *axes), largest * header[1].itemsize // 8)
        return found.pop("state"), found


def _require_fit(
    path: Path,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    equation: Equation,
    grid: Grid,
    last: int,
    placed: bool,
) -> None:
    """Raise ValueError if a state of this shape and type does not fit equation and grid, or lacks member `last`.

    placed: whether there are coordinates, so that another grid is possible, except for particles.
    """
    expected = (len(equation.fields), *grid.shape)
    if placed and equation.kind != "particles" and len(shape) in (len(expected), 1 + len(expected)):
        expected = (len(equation.fields), *shape[-grid.dimensions :])
    if dtype.kind not in "fiu":
        raise ValueError(f"path: state in {path} must be real numbers, found {dtype}")
    if len(shape) == len(expected):
        shape = (1, *shape)
    if shape[1:2] == expected[:1] and len(shape) == 1 + len(expected) and shape[1:] != expected:
        raise ValueError(
            f"path: {path} is on a grid of shape {shape[2:]}, expected {grid.shape}. "
            f"Remedy: use a file on this grid, or set the shape to {list(shape[2:])}"
        )
    if shape[1:] != expected:
        raise ValueError(
            f"path: state in {path} has shape {shape}, expected (member, field, *grid) = (*, "
            f"{', '.join(map(str, expected))}) with fields {[f.name for f in equation.fields]}"
        )
    if shape[0] != 1 and last >= shape[0]:
        raise ValueError(
            f"path: {path} holds {shape[0]} members, but the run needs member {last}. "
            "Remedy: reduce ensemble.members, or use a file with one entry for all members"
        )


class Reference(InitialState):
    """The state of the reference run at time.start, restricted to the case's grid."""

    kind: Literal["reference"] = "reference"

    def state(
        self, equation: Equation, grid: Grid, members: Members, seed: int, folder: Path | None = None
    ) -> NDArray[np.float64]:
        raise ValueError(
            "initial kind 'reference' needs the reference run, which only `subgrid run` and `subgrid compare` compute. "
            "Remedy: run the case with one of them, or choose another initial.kind"
        )
