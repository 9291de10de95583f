"""Initial states that continue another run."""

from __future__ import annotations

import hashlib
import math
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError, model_validator

from ..backend.files import LARGEST
from ..equations.base import Equation
from ..equations.initial_state import InitialState, Members
from ..grid import Grid
from .regridding import on_grid

SAME_TIME = 1e-6  # of the interval between outputs
SAME_DOMAIN = 1e-12  # of the length
MOST_OUTPUTS = 10**7


class Run(InitialState):
    """The output of another run at one time, for a case with other parameters or on another grid of the same domain.

    path: the run folder. time: an output time; by default the last output, whose time is written into the case. On the
    grid of the run the state is copied. On another grid, a spectral equation keeps every Fourier mode that both grids
    resolve, and cell averages are interpolated conservatively; where a field without negative values vanishes in a
    state of several fields, as the depth on dry land, all are averaged by the overlap of cells. Member m starts from
    member m of the run; a single member is used for all. The clock is that of the case: it starts at time.start.

    Raises ValueError if the folder holds no run, the run has no such output, or is of another equation, other fields,
    another kind of values, another domain, another number of particles, or fewer members.
    """

    kind: Literal["run"] = "run"
    from_file: ClassVar[bool] = True
    path: Path
    time: float | None = None

    @model_validator(mode="before")
    @classmethod
    def _with_time(cls, data: Any) -> Any:
        """The last output in the place of a time that is not given, unless `state` has to say that there is none."""
        path = data.get("path") if isinstance(data, Mapping) else None
        if isinstance(path, (str, Path)) and os.path.isabs(path) and data.get("time") is None:
            try:
                return {**data, "time": _Outputs(Path(path)).last()[1]}
            except (ValueError, OSError):
                return data
        return data

    def state(
        self, equation: Equation, grid: Grid, members: Members, seed: int, folder: Path | None = None
    ) -> NDArray[np.float64]:
        if equation.carried:
            raise ValueError(
                f"path: a run of {equation.name} records no flow that could carry them on. Remedy: "
                'initial.kind = "tracer-clusters", or `subgrid resume RUN --until T`'
            )
        outputs = _Outputs((folder or Path()) / self.path)
        outputs.require(equation)
        source = outputs.grid(equation, grid)
        index = outputs.last()[0] if self.time is None else outputs.index(self.time)
        state = np.stack([outputs.frame(field.name, index) for field in equation.fields], axis=1)
        if not np.isfinite(state).all():
            raise ValueError(
                f"time: {outputs.folder} has not reached t = {outputs.times[index]:g}. Remedy: an earlier time"
            )
        if state.shape[2:] != source.shape:
            raise ValueError(f"path: the run {outputs.folder} is damaged (its outputs do not fit its grid)")
        state = on_grid(state, equation, source, grid)
        if len(state) == 1:
            return np.repeat(state, len(members), axis=0)
        if max(members) >= len(state):
            raise ValueError(
                f"path: {outputs.folder} has {len(state)} members, but the case needs member {max(members)}. "
                "Remedy: reduce ensemble.members, or continue a run with one member"
            )
        return state[list(members)]

    def outputs(self, folder: Path) -> tuple[NDArray[np.float64], tuple[int, ...]]:
        """Times of the outputs that were written, and the shape of their grid. Raises ValueError without a run."""
        outputs = _Outputs(folder / self.path)
        last, _ = outputs.last()
        return outputs.times[: last + 1], tuple(outputs.tables.get("grid", {}).get("shape", ()))

    def trial(self, equation: Equation, grid: Grid, member: int) -> NDArray[np.float64]:
        """The states of all members up to `member`."""
        return self.state(equation, grid, tuple(range(member + 1)), 0)


def contents(path: Path, time: float) -> dict[str, str]:
    """SHA-256 of each field of the output of a run at a time, by its name. Raises ValueError if there is none."""
    outputs = _Outputs(path)
    index, output = outputs.index(time), outputs.tables.get("output", {})
    if "frames_per_chunk" not in output:  # of a version that wrote one file per output
        files = sorted(f for f in outputs.folder.glob(f"fields.zarr/*/c/{index}/**/*") if f.is_file())
        return {f.relative_to(outputs.folder).as_posix(): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}
    frames = {name: outputs.frame(name, index) for name in sorted(outputs.fields())}
    return {name: hashlib.sha256(frame.tobytes()).hexdigest() for name, frame in frames.items()}


class _Outputs:
    """The outputs in a run folder. Raises ValueError, with the key, for a folder without an intact run."""

    def __init__(self, folder: Path) -> None:
        import zarr

        self.folder = folder
        if not (folder / "case.toml").is_file() or not (folder / "fields.zarr").is_dir():
            raise ValueError(f"path: {folder} holds no run. Remedy: the folder of a run, relative to the case file")
        try:
            self.tables = tomllib.loads((folder / "case.toml").read_text(encoding="utf-8-sig"))
            self._group: Any = zarr.open_group(folder / "fields.zarr", mode="r")
            self._name = self._group.attrs["equation"]
            times: Any = self._group["time"]
            if times.ndim != 1 or times.size > MOST_OUTPUTS or not times.size:
                raise ValueError(f"its time has shape {times.shape}")
            self.times = np.asarray(times[:], dtype=np.float64)
        except Exception as error:  # the libraries have many errors for damaged files
            raise ValueError(f"path: the run {folder} is damaged ({error})") from None

    def require(self, equation: Equation) -> None:
        """Raise ValueError unless the run is of this equation, with all its fields, and the same kind of values."""
        if self._name != equation.name:
            raise ValueError(
                f"path: {self.folder} is a run of {self._name}, not of {equation.name}. "
                "Remedy: a run of the same equation"
            )
        if missing := [f.name for f in equation.fields if f.name not in self._group]:
            raise ValueError(
                f"path: {self.folder} did not record {', '.join(missing)}. "
                "Remedy: a run without output.fields, which records all fields"
            )
        try:
            table = self.tables["equation"]
            source = type(equation).model_validate({k: v for k, v in table.items() if k not in ("name", "path")})
        except (ValidationError, KeyError, AttributeError) as error:
            raise ValueError(f"path: the equation of the run {self.folder} cannot be read ({error})") from None
        if source.kind != equation.kind:
            raise ValueError(
                f"path: {self.folder} is a run of {source.name} as {source.kind}, the case is {equation.kind}. "
                "Remedy: the same equation.discretisation"
            )

    def grid(self, equation: Equation, grid: Grid) -> Grid:
        """The grid of the run. Raises ValueError unless it covers the domain of `grid`."""
        table = self.tables.get("grid", {})
        try:
            shape = tuple(table["shape"]) if equation.kind != "particles" else (table["entities"],)
            length = tuple(table.get("length", (float(shape[0]),)))
            source = Grid(shape, length, tuple(table.get("origin", ())))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"path: the grid of the run {self.folder} cannot be read ({error!r})") from None
        if equation.kind == "particles" and source.shape != grid.shape:
            raise ValueError(
                f"path: {self.folder} has {source.shape[0]} entities, the case has {grid.shape[0]}. "
                f"Remedy: grid.entities = {source.shape[0]}"
            )
        if not (grid.has("length", source.length, SAME_DOMAIN) and grid.has("origin", source.origin, SAME_DOMAIN)):
            raise ValueError(
                f"path: the domain of {self.folder} has length {list(source.length)} and origin "
                f"{list(source.origin)}, the case has {list(grid.length)} and {list(grid.origin)}. "
                "Remedy: the same grid.length and grid.origin"
            )
        return source

    def fields(self) -> list[str]:
        """The variables with axes beside time and member; the others are scalars."""
        return [name for name, array in self._group.arrays() if array.ndim > 2]

    def last(self) -> tuple[int, float]:
        """Index and time of the last output that was written."""
        names = self.fields()
        for index in range(len(self.times) - 1, -1, -1):
            if names and all(np.isfinite(self.frame(name, index)).all() for name in names):
                return index, float(self.times[index])
        raise ValueError(f"path: {self.folder} has written no output")

    def index(self, time: float) -> int:
        """Index of the output at a time."""
        index = int(np.abs(self.times - time).argmin())
        spacing = self.times[1] - self.times[0] if len(self.times) > 1 else abs(time)
        if abs(self.times[index] - time) > SAME_TIME * spacing:
            raise ValueError(
                f"time: {self.folder} has no output at t = {time:.10g}. Remedy: the nearest is {self.times[index]:.10g}"
            )
        return index

    def frame(self, name: str, index: int) -> NDArray[np.float64]:
        """An output of a field, (member, *grid); nan if it was not written."""
        try:
            array = self._group[name]
            if 8 * math.prod(array.shape[1:]) > LARGEST or array.shape[0] != len(self.times):
                raise ValueError(f"its shape is {array.shape}")
            return np.asarray(array[index], dtype=np.float64)
        except Exception as error:  # every codec has errors of its own
            raise ValueError(
                f"path: the output of {name} at t = {self.times[index]:g} in {self.folder} is damaged ({error})"
            ) from None
