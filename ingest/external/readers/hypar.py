"""HyPar: op.bin, op_00010.bin and the same as text (.dat), beside solver.inp, physics.inp and boundary.inp.

Binary, native byte order (src/IOFunctions/WriteBinary.c of github.com/debog/hypar): int32 ndims, int32 nvars, int32
size[ndims], float64 coordinates of all axes one after the other, float64 u, variables fastest, then axis 0, axis 1.
In C order u is (..., axis 1, axis 0, variable): (y, x) in two dimensions, and (v, x) for the Vlasov model. Text
(WriteText.c): each line has the indices, the coordinates and the values of a point.

Output k is of iteration k * file_op_iter; the last one is of n_iter.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..contents import TIME, TRAJECTORY, Axis, Contents, DataError, Variable
from ..lazy import Lazy, stack
from ..options import Options
from ..recognise import Reader

OUTPUT = re.compile(r"^op(?:_(\d+))?(?:_(\d+))?\.(bin|dat)$")
AXES = ("x", "y", "z", "w", "s", "r")
MOST_DIMENSIONS, MOST_VARIABLES = 6, 64
NAMES = {
    "vlasov": ("distribution",),
    "euler1d": ("density", "momentum_x", "energy"),
    "euler2d": ("density", "momentum_x", "momentum_y", "energy"),
    "navierstokes2d": ("density", "momentum_x", "momentum_y", "energy"),
    "navierstokes3d": ("density", "momentum_x", "momentum_y", "momentum_z", "energy"),
    "shallow-water-1d": ("depth", "momentum_x"),
    "shallow-water-2d": ("depth", "momentum_x", "momentum_y"),
}
LINE = re.compile(rb"^\s*(\d+\s+)+([-+]?\d\.\d+[eE][-+]\d+\s*)+$")


@dataclass(frozen=True)
class Frame:
    """One output: its coordinates by axis, and its values (variable, *axes in reverse)."""

    axes: tuple[NDArray[np.float64], ...]
    values: Lazy

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(len(x) for x in self.axes)


class HyParReader(Reader):
    """A folder with HyPar's outputs and its .inp files, or one output."""

    name = "hypar"
    order = 30

    def recognises(self, path: Path) -> bool:
        if path.is_dir():
            return (path / "solver.inp").is_file() or any(_is_output(p) for p in _outputs(path))
        return _is_output(path)

    def read(self, path: Path, options: Options) -> Contents:
        folder, files = (path, sorted(_outputs(path))) if path.is_dir() else (path.parent, [path])
        solver = _inputs(folder / "solver.inp")
        physics = _inputs(folder / "physics.inp")
        if not files:
            raise DataError(f"{folder} has no output op*.bin or op*.dat. Remedy: run HyPar, or name another folder")
        kinds = {p.suffix for p in files}
        if len(kinds) > 1:
            chosen = ".dat" if solver.get("op_file_format", ["binary"])[0] == "text" else ".bin"
            files = [p for p in files if p.suffix == chosen]
        rows = _rows(files, solver.get("op_overwrite", ["no"])[0] == "yes")
        model = solver.get("model", [""])[0]
        first = _frame(rows[0][0][1])
        frames = [[_frame(file, first) for _, file in row] for row in rows]
        self._require_alike(rows, frames, solver, folder)
        count = first.values.shape[0]
        names = NAMES.get(model, ())
        if len(names) != count:
            names = ("u",) if count == 1 else tuple(f"u{i}" for i in range(count))
        axes: tuple[str, ...] = (
            ("x", "v") if model == "vlasov" and len(first.axes) == 2 else ("x", "y", "z", "w", "s", "r")
        )
        axes = axes[: len(first.axes)]
        whole = stack([stack([f.values for f in row], 0) for row in frames], 0)  # (trajectory, time, variable, ...)
        dims = (TRAJECTORY, TIME, *reversed(axes))
        periodic = _periodic(folder / "boundary.inp", len(axes))
        found = Contents(
            self.name,
            {name: Variable(dims, whole.pick(2, i)) for i, name in enumerate(names)},
            {a: Axis(x, periodic=periodic.get(i)) for i, (a, x) in enumerate(zip(axes, first.axes, strict=True))},
            {k: v for key, values in physics.items() for k, v in _numbers(key, values).items()},
            files=[file for row in rows for _, file in row],
            origin={"model": model, "solver": {k: " ".join(v) for k, v in solver.items()}},
        )
        found.axes[TIME] = Axis(_times([k for k, _ in rows[0]], solver))
        if not solver:
            found.note("solver", f"{folder} has no solver.inp: the times and the model are not known")
        return found

    def _require_alike(
        self, rows: list[list[tuple[int, Path]]], frames: list[list[Frame]], solver: dict[str, Any], folder: Path
    ) -> None:
        first, where = frames[0][0], rows[0][0][1]
        for row, line in zip(rows, frames, strict=True):
            for (_, file), frame in zip(row, line, strict=True):
                if frame.sizes != first.sizes or frame.values.shape != first.values.shape:
                    raise DataError(
                        f"{file} is of size {frame.sizes}, {where} of {first.sizes}. Remedy: outputs of one run"
                    )
        if any([k for k, _ in row] != [k for k, _ in rows[0]] for row in rows):
            raise DataError(f"the simulations in {folder} have different outputs. Remedy: remove those without partner")
        stated = solver.get("size")
        if stated is not None and [int(n) for n in stated if n.isdigit()][: len(first.sizes)] != list(first.sizes):
            raise DataError(
                f"{folder / 'solver.inp'} states size {' '.join(stated)}, {where} has {first.sizes}. "
                "Remedy: the .inp files of this run"
            )


def _outputs(folder: Path) -> Iterator[Path]:
    return (p for p in folder.iterdir() if OUTPUT.match(p.name) and p.is_file())


def _is_output(path: Path) -> bool:
    """Whether a file is an output: of the size that its header states or by name, or lines in HyPar's form."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            head = file.read(8 + 4 * MOST_DIMENSIONS)
            header = _header(head)
            if header is not None:
                return path.stat().st_size == header[2] or OUTPUT.match(path.name) is not None
            if b"\0" in head:
                return False
            file.seek(0)
            return LINE.match(file.readline(4096)) is not None
    except OSError:
        return False


def _header(head: bytes) -> tuple[int, tuple[int, ...], int] | None:
    """(variables, sizes of the axes, bytes of the file) as a binary header states them; None if it cannot be one."""
    if len(head) < 12:
        return None
    ndims, nvars = (int(n) for n in np.frombuffer(head[:8], "<i4"))
    if not (1 <= ndims <= MOST_DIMENSIONS and 1 <= nvars <= MOST_VARIABLES) or len(head) < 8 + 4 * ndims:
        return None
    sizes = tuple(int(n) for n in np.frombuffer(head[8 : 8 + 4 * ndims], "<i4"))
    if any(n < 1 or n > 2**24 for n in sizes):
        return None
    return nvars, sizes, 4 * (2 + ndims) + 8 * (sum(sizes) + math.prod(sizes) * nvars)


def _rows(files: list[Path], overwritten: bool) -> list[list[tuple[int, Path]]]:
    """Outputs as (index, file) of each simulation, in the order of their indices."""
    rows: dict[int, dict[int, Path]] = {}
    for file in files:
        match = OUTPUT.match(file.name)
        one, two = (match[1], match[2]) if match else (None, None)
        simulation, index = (one, two) if two is not None else (one, None) if overwritten else (None, one)
        rows.setdefault(int(simulation or 0), {})[-1 if index is None else int(index)] = file
    for row in rows.values():
        if -1 in row and len(row) > 1:
            del row[-1]  # op.bin beside op_00000.bin: of another run
    return [sorted(row.items()) for _, row in sorted(rows.items())]


def _times(indices: list[int], solver: dict[str, list[str]]) -> NDArray[np.float64] | None:
    """Times of the outputs, or None if solver.inp does not give them."""
    try:
        step, last = float(solver["dt"][0]), int(solver["n_iter"][0])
        every = int(solver.get("file_op_iter", ["1000"])[0])
    except (KeyError, IndexError, ValueError):
        return None
    every = every if every > 0 else last
    return step * np.array([last if k < 0 else min(k * every, last) for k in indices], dtype=np.float64)


def _frame(path: Path, like: Frame | None = None) -> Frame:
    """An output. like: one of the same run; a text file is then read when its values are."""
    with path.open("rb") as file:
        header = _header(file.read(8 + 4 * MOST_DIMENSIONS))
    if header is not None:
        return _binary(path, *header)
    if like is None:
        axes, values = _text(path)
        like = Frame(axes, Lazy.of(values))
    shape = like.values.shape

    def read(key: Any) -> NDArray:
        found = _text(path)[1]
        if found.shape != shape:
            raise DataError(f"{path} has shape {found.shape}, expected {shape}. Remedy: outputs of one run")
        return found[key]

    return Frame(like.axes, Lazy(shape, np.dtype(np.float64), read))


def _binary(path: Path, nvars: int, sizes: tuple[int, ...], size: int) -> Frame:
    if path.stat().st_size != size:
        raise DataError(
            f"{path} has {path.stat().st_size} bytes, its header states {size}. Remedy: a complete copy of the file"
        )
    start = 4 * (2 + len(sizes))
    with path.open("rb") as file:
        file.seek(start)
        coordinates = np.frombuffer(file.read(8 * sum(sizes)), "<f8")
    shape = (*reversed(sizes), nvars)
    begin = start + 8 * sum(sizes)

    def read(key: Any) -> NDArray:
        return np.array(np.memmap(path, "<f8", "r", begin, shape)[key])

    data = Lazy(shape, np.dtype("<f8"), read)
    order = (len(sizes), *range(len(sizes)))
    return Frame(tuple(np.split(coordinates, np.cumsum(sizes)[:-1])), data.transpose(order))


def _text(path: Path) -> tuple[tuple[NDArray[np.float64], ...], NDArray[np.float64]]:
    """Coordinates by axis, and values (variable, *axes in reverse). Raises DataError."""
    with path.open("rb") as file:
        tokens = file.readline(4096).split()
    ndims = next((i for i, t in enumerate(tokens) if not t.isdigit()), 0)
    nvars = len(tokens) - 2 * ndims
    if ndims < 1 or nvars < 1:
        raise DataError(f"{path} is not an output of HyPar: its first line has no index, coordinate and value")
    try:
        table = np.loadtxt(path, ndmin=2)
    except ValueError as error:
        raise DataError(f"{path} is damaged ({error}). Remedy: a complete copy of the file") from None
    index = table[:, :ndims].astype(np.int64)
    sizes = tuple(int(n) + 1 for n in index.max(axis=0))
    flat = np.ravel_multi_index(tuple(index.T[::-1]), sizes[::-1])
    if len(table) != math.prod(sizes) or len(np.unique(flat)) != len(flat):
        raise DataError(
            f"{path} has {len(table)} lines, its indices need {math.prod(sizes)}. Remedy: a complete copy of the file"
        )
    values = np.empty((nvars, len(table)))
    values[:, flat] = table[:, 2 * ndims :].T
    axes = []
    for i, n in enumerate(sizes):
        x = np.empty(n)
        x[index[:, i]] = table[:, ndims + i]
        axes.append(x)
    return tuple(axes), values.reshape(nvars, *reversed(sizes))


@lru_cache(maxsize=64)
def _inputs_at(path: Path, changed: int) -> dict[str, list[str]]:
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    words = [line.split("#")[0].split() for line in lines]
    words = [w for w in words if w]
    if not words or words[0] != ["begin"] or ["end"] not in words:
        raise DataError(f"{path} does not read begin ... end. Remedy: a complete copy of the file")
    return {w[0]: w[1:] for w in words[1 : words.index(["end"])]}


def _inputs(path: Path) -> dict[str, list[str]]:
    """Keys and values of an .inp file; empty if there is none. Raises DataError."""
    return dict(_inputs_at(path, path.stat().st_mtime_ns)) if path.is_file() else {}


def _numbers(key: str, values: list[str]) -> dict[str, float]:
    """The numbers of a line of physics.inp: key, or key_0, key_1, ..."""
    try:
        found = [float(v) for v in values]
    except ValueError:
        return {}
    return {key: found[0]} if len(found) == 1 else {f"{key}_{i}": v for i, v in enumerate(found)}


def _periodic(path: Path, ndims: int) -> dict[int, bool]:
    """Whether each axis is periodic, as boundary.inp states it: lines "type axis face extent ..."."""
    if not path.is_file():
        return {}
    found: dict[int, bool] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n")[1:]:
        words = line.split()
        if len(words) >= 3 and words[1].isdigit() and int(words[1]) < ndims:
            axis = int(words[1])
            found[axis] = found.get(axis, True) and words[0] == "periodic"
    return found
