"""Initial states that come from a file or from the reference run."""

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

    With a member axis, member m starts from entry m; a single entry serves all. Pickled arrays are refused.
    """

    kind: Literal["file"] = "file"
    path: Path

    def state(
        self, equation: Equation, grid: Grid, members: Members, seed: int, folder: Path | None = None
    ) -> NDArray[np.float64]:
        path = (folder or Path()) / self.path
        if not path.is_file():
            raise ValueError(f"initial.path: there is no file {path}. Remedy: a path relative to the case file")
        try:
            with np.load(path, allow_pickle=False) as arrays:
                found = dict(arrays)
        except (OSError, EOFError, ValueError, TypeError, zipfile.BadZipFile):
            raise ValueError(
                f"initial.path: {path} is not .npz with arrays of numbers. Remedy: numpy.savez(path, state=u)"
            ) from None
        if "state" not in found:
            raise ValueError(f"initial.path: {path} holds {sorted(found)}. Remedy: name the array 'state'")
        if found["state"].dtype.kind not in "fiu":
            raise ValueError(f"initial.path: state in {path} must be real numbers, found {found['state'].dtype}")
        state = found["state"].astype(np.float64)
        expected = (len(equation.fields), *grid.shape)
        if state.ndim == len(expected):
            state = state[None]
        if state.shape[1:2] == expected[:1] and state.ndim == 1 + len(expected) and state.shape[1:] != expected:
            raise ValueError(
                f"{path} is on a grid of shape {state.shape[2:]}, but grid.shape is {grid.shape}. "
                f"Remedy: grid.shape = {list(state.shape[2:])}, or a file made on the case's grid"
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
                f"{path} holds {len(state)} members, but member {max(members)} is asked for. "
                "Remedy: a smaller ensemble.members, or a file with one entry for all"
            )
        return state[list(members)]


class Reference(InitialState):
    """The state of the reference run at the start of the case, restricted to the case's grid."""

    kind: Literal["reference"] = "reference"

    def state(
        self, equation: Equation, grid: Grid, members: Members, seed: int, folder: Path | None = None
    ) -> NDArray[np.float64]:
        raise ValueError(
            "initial kind 'reference' is the state of the reference run, which `subgrid run` and "
            "`subgrid compare` set up. Remedy: start the case through them, or choose another initial.kind"
        )
