"""Initial states that are read from a file or taken from the reference run."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..equations.base import Equation
from ..equations.initial_state import InitialState, Members
from ..grid import Grid


class File(InitialState):
    """The array `state` of an .npz file: (field, *grid) for all members, or (member, field, *grid).

    With a member axis, member m starts from entry m; a single entry is used for all members. Raises ValueError if the
    file is missing, holds pickled or complex arrays, or does not fit the equation, the grid or the members.
    """

    kind: Literal["file"] = "file"
    path: Path

    def state(
        self, equation: Equation, grid: Grid, members: Members, seed: int, folder: Path | None = None
    ) -> NDArray[np.float64]:
        path = (folder or Path()) / self.path
        if not path.is_file():
            raise ValueError(f"initial.path: there is no file {path}. Remedy: use a path relative to the case file")
        try:
            with np.load(path, allow_pickle=False) as arrays:
                found = dict(arrays)
        except (OSError, EOFError, ValueError, TypeError, zipfile.BadZipFile):
            raise ValueError(
                f"initial.path: {path} is not an .npz file with arrays of numbers. "
                "Remedy: save it with numpy.savez(path, state=u)"
            ) from None
        if "state" not in found:
            raise ValueError(
                f"initial.path: {path} contains the arrays {sorted(found)}, expected 'state'. "
                "Remedy: name the array 'state'"
            )
        if found["state"].dtype.kind not in "fiu":
            raise ValueError(f"initial.path: state in {path} must be real numbers, found {found['state'].dtype}")
        state = found["state"].astype(np.float64)
        expected = (len(equation.fields), *grid.shape)
        if state.ndim == len(expected):
            state = state[None]
        if state.shape[1:2] == expected[:1] and state.ndim == 1 + len(expected) and state.shape[1:] != expected:
            raise ValueError(
                f"{path} is on a grid of shape {state.shape[2:]}, but grid.shape is {grid.shape}. "
                f"Remedy: set grid.shape = {list(state.shape[2:])}, or use a file on the case's grid"
            )
        if state.shape[1:] != expected:
            raise ValueError(
                f"{path}: state has shape {state.shape}, expected (member, field, *grid) = (*, "
                f"{', '.join(map(str, expected))}) with fields {[f.name for f in equation.fields]}"
            )
        if len(state) == 1:
            return np.repeat(state, len(members), axis=0)
        if max(members) >= len(state):
            raise ValueError(
                f"{path} holds {len(state)} members, but the run needs member {max(members)}. "
                "Remedy: reduce ensemble.members, or use a file with one entry for all members"
            )
        return state[list(members)]


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
