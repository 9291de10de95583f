"""N-body data of NRI (Kipf et al., ICML 2018) and GeoTDM: loc_NAME.npy with vel_NAME.npy, charges_NAME.npy.

loc and vel are (sample, time, coordinate, entity) or (sample, time, entity, coordinate), with two or three coordinates.
A folder with several NAMEs (train, valid, test) gives their trajectories one after the other.
"""

from __future__ import annotations

import re
from pathlib import Path

from ..contents import ENTITY, TIME, TRAJECTORY, Axis, Contents, DataError, Variable, combine
from ..lazy import Lazy
from ..options import Options
from ..recognise import Reader
from .apebench import is_npy, load

POSITIONS = re.compile(r"^loc_?(.*)\.npy$")
COORDINATE = "coordinate"


class BodyReader(Reader):
    """loc_*.npy with its companions, or a folder of them."""

    name = "n-body"
    order = 45
    unnamed = True

    def recognises(self, path: Path) -> bool:
        if path.is_dir():
            return any(POSITIONS.match(p.name) for p in path.iterdir())
        return POSITIONS.match(path.name) is not None and is_npy(path)

    def read(self, path: Path, options: Options) -> Contents:
        files = sorted(p for p in path.iterdir() if POSITIONS.match(p.name)) if path.is_dir() else [path]
        parts = [self._one(file, options) for file in files]
        return parts[0] if len(parts) == 1 else combine(parts, [str(f) for f in files])

    def _one(self, path: Path, options: Options) -> Contents:
        positions = load(path)
        if positions.ndim != 4 or positions.dtype.kind != "f":
            raise DataError(f"{path} has shape {positions.shape}, expected (sample, time, 3, entity) of floats")
        dims = options.axes or _dims(path, positions)
        if sorted(dims) != sorted((TRAJECTORY, TIME, COORDINATE, ENTITY)):
            raise DataError(f"axes: expected trajectory, time, {COORDINATE}, {ENTITY} in the order of {path}")
        fields = _vectors(positions, dims, "", "length")
        found = Contents(self.name, fields, {ENTITY: Axis(kind="entities", periodic=False)}, files=[path])
        velocities = _beside(path, "vel")
        if velocities is not None:
            speeds = load(velocities)
            if speeds.shape != positions.shape:
                raise DataError(
                    f"{velocities} has shape {speeds.shape}, {path.name} has {positions.shape}. "
                    "Remedy: the files of one data set"
                )
            fields |= _vectors(speeds, dims, "velocity_", "length/time")
            found.files.append(velocities)
        charges = _beside(path, "charges")
        if charges is not None:
            data = load(charges)
            data = data.pick(2, 0) if data.ndim == 3 and data.shape[2] == 1 else data
            count = positions.shape[dims.index(ENTITY)]
            if data.shape != (positions.shape[0], count):
                raise DataError(
                    f"{charges} has shape {data.shape}, expected ({positions.shape[0]}, {count}). "
                    "Remedy: the files of one data set"
                )
            fields["charge"] = Variable((TRAJECTORY, ENTITY), data, "1")
            found.files.append(charges)
        if _beside(path, "edges") is not None:
            found.note("unread", f"edges of {path.name} are not read: they are no field")
        return found


def _dims(path: Path, positions: Lazy) -> tuple[str, ...]:
    """The order of coordinates and entities, which differs between sources. Raises DataError if both are possible."""
    third, fourth = (n in (2, 3) for n in positions.shape[2:])
    if third and not fourth:
        return (TRAJECTORY, TIME, COORDINATE, ENTITY)
    if fourth and not third:
        return (TRAJECTORY, TIME, ENTITY, COORDINATE)
    what = "either of the last two axes may be that of coordinates" if third else "none of them has 2 or 3 coordinates"
    raise DataError(
        f"{path} has shape {positions.shape}: {what}. Remedy: axes = trajectory,time,coordinate,entity "
        "or trajectory,time,entity,coordinate"
    )


def _vectors(data: Lazy, dims: tuple[str, ...], prefix: str, units: str) -> dict[str, Variable]:
    axis = dims.index(COORDINATE)
    rest = (*dims[:axis], *dims[axis + 1 :])
    return {f"{prefix}{a}": Variable(rest, data.pick(axis, i), units) for i, a in enumerate("xyz"[: data.shape[axis]])}


def _beside(path: Path, word: str) -> Path | None:
    other = path.with_name(path.name.replace("loc", word, 1))
    return other if other.is_file() else None
