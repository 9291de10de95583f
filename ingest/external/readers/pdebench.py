"""PDEBench (Takamoto et al., NeurIPS 2022; github.com/pdebench/PDEBench): HDF5 in four layouts.

one tensor         `tensor` (sample, time, x[, y[, z]]); `x-coordinate`: centres of cells; `t-coordinate`: times, or
                   times and the end of the run, which belongs to no state
compressible flow  `density`, `pressure`, `Vx`, `Vy`, `Vz` in place of `tensor`
groups             "0000", "0001", ...: `data` (time, x[, y], channel), `grid/x`, `grid/y`, `grid/t`, attribute
                   `config`
incompressible     `velocity` (sample, time, x, y, 2), `particles` (..., 1), `force` (sample, x, y, 2), `t` (sample,
                   time)

Parameters are numbers in attributes, in `config`, and in the file's name, as in 1D_Burgers_Sols_Nu0.01.hdf5.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..contents import TIME, TRAJECTORY, Axis, Contents, DataError, Variable
from ..lazy import stack
from ..options import Options
from ..recognise import Reader
from . import hdf5

AXES = ("x", "y", "z")
FLOW = {"density": "density", "pressure": "pressure", **{f"V{a}": f"velocity_{a}" for a in AXES}}
GROUP = re.compile(r"^\d{4,}$")
CHANNELS = {(2, 1): ("depth",), (2, 2): ("activator", "inhibitor"), (1, 1): ("concentration",)}
IN_NAME = re.compile(r"^([A-Za-z]+)([-+]?\d+\.?\d*(?:[eE][-+]?\d+)?)$")
IN_CONFIG = re.compile(r"^\s+([\w.]+):\s*([-+]?\d+\.?\d*(?:[eE][-+]?\d+)?)\s*$", re.MULTILINE)
OF_GRID = {"xdim", "ydim", "n_time_steps", "T_end", "seed", "t", "tdim", "x_left", "x_right", "y_bottom", "y_top"}


class PDEBenchReader(Reader):
    """A file of PDEBench."""

    name = "pdebench"
    order = 20

    def recognises(self, path: Path) -> bool:
        keys = hdf5.keys(path)
        flow = {"density", "pressure", "Vx"} <= keys
        return (
            (("tensor" in keys or flow) and "x-coordinate" in keys) or _groups(path, keys) or {"velocity", "t"} <= keys
        )

    def read(self, path: Path, options: Options) -> Contents:
        keys = hdf5.keys(path)
        if "x-coordinate" in keys:
            found = self._tensors(path, keys)
        elif "velocity" in keys:
            found = self._incompressible(path, keys)
        else:
            found = self._samples(path, keys)
        found.files = [path]
        _add_facts(found, path)
        for token in path.name.rpartition(".")[0].split("_"):
            if match := IN_NAME.match(token):
                found.parameters.setdefault(match[1], float(match[2]))
        words = path.stem.split("_")
        if "periodic" in words or "trans" in words:
            for axis in found.space:
                found.axes[axis] = replace(found.axes[axis], periodic="periodic" in words)
        return found

    def _tensors(self, path: Path, keys: set[str]) -> Contents:
        with hdf5.open_file(path) as file:
            stated = hdf5.plain(file.attrs.get("channels", []))
        names = (
            {"tensor": stated[0] if len(stated) == 1 else "u"}
            if "tensor" in keys
            else {k: v for k, v in FLOW.items() if k in keys}
        )
        arrays = {new: hdf5.lazy(path, old) for old, new in names.items()}
        ndim = next(iter(arrays.values())).ndim
        if not 3 <= ndim <= 5:
            raise DataError(f"{path}: tensor has {ndim} axes, expected (sample, time, x[, y[, z]])")
        space = AXES[: ndim - 2]
        dims = (TRAJECTORY, TIME, *space)
        found = Contents(self.name, {}, {})
        for name, data in arrays.items():
            if data.ndim != ndim:
                raise DataError(f"{path}: {name} has {data.ndim} axes, the fields before it have {ndim}")
            found.fields[name] = Variable(dims, data)
        with hdf5.open_file(path) as file:
            for axis in space:
                if (key := f"{axis}-coordinate") in file:
                    found.axes[axis] = Axis(file[key][()], kind="cells")
                else:
                    found.axes[axis] = Axis(kind="cells")
            times = file["t-coordinate"][()] if "t-coordinate" in file else None
        found.axes[TIME] = Axis(_without_end(found, times, next(iter(arrays.values())).shape[1]))
        return found

    def _samples(self, path: Path, keys: set[str]) -> Contents:
        groups = sorted(k for k in keys if GROUP.match(k))
        with hdf5.open_file(path) as file:
            first = file[groups[0]]
            grid = {name: first["grid"][name][()] for name in first["grid"]}
            configs = [_config(file[name].attrs.get("config", "")) for name in groups]
            origin = hdf5.attributes(first)
            stated = tuple(hdf5.plain(file.attrs.get("channels", [])))
            bare = [name for name in groups if "data" not in file[name]]
        if bare:
            raise DataError(f"{path}: the group {bare[0]} has no `data`. Remedy: a complete copy of the file")
        parts = [hdf5.lazy(path, f"{name}/data") for name in groups]
        for name, part in zip(groups, parts, strict=True):
            if part.shape != parts[0].shape:
                raise DataError(
                    f"{path}: the sample {name} has shape {part.shape}, {groups[0]} has {parts[0].shape}. "
                    "Remedy: a complete copy of the file"
                )
        whole = stack(parts, 0)  # (sample, time, *space, channel)
        space = AXES[: whole.ndim - 3]
        if not space:
            raise DataError(f"{path}: data have shape {whole.shape[1:]}, expected (time, x[, y], channel)")
        count = whole.shape[-1]
        names = CHANNELS.get((len(space), count), tuple(f"channel{i}" for i in range(count)))
        names = stated if len(stated) == count else names
        dims = (TRAJECTORY, TIME, *space)
        found = Contents(
            self.name,
            {name: Variable(dims, whole.pick(whole.ndim - 1, i)) for i, name in enumerate(names)},
            {a: Axis(grid.get(a), kind="cells") for a in space},
            origin=origin,
        )
        found.axes[TIME] = Axis(_without_end(found, grid.get("t"), whole.shape[1]))
        if names != stated:
            found.note("names", f"channels of {path.name} have no names; they are called {', '.join(names)}")
        if names == CHANNELS[2, 2]:  # sim_diff_react.py reshapes to (time, y, x), against its documentation
            found.note("order", "the generator of diffusion-reaction writes y before x; for its files: transpose = x,y")
        for key in dict.fromkeys(k for c in configs for k in c):
            column = np.array([c.get(key, np.nan) for c in configs])
            found.parameters[key] = float(column[0]) if (column == column[0]).all() else column
        numbers = [int(name) for name in groups]
        if gaps := sorted(set(range(numbers[0], numbers[-1] + 1)) - set(numbers)):
            found.fault(
                "missing-samples",
                f"{path} lacks the samples {', '.join(f'{n:04d}' for n in gaps[:10])}",
                "a complete copy of the file, or accept = missing-samples",
            )
        return found

    def _incompressible(self, path: Path, keys: set[str]) -> Contents:
        velocity = hdf5.lazy(path, "velocity")
        if velocity.ndim not in (5, 6) or velocity.shape[-1] != velocity.ndim - 3:
            raise DataError(f"{path}: velocity has shape {velocity.shape}, expected (sample, time, x, y, 2)")
        space = AXES[: velocity.ndim - 3]
        dims = (TRAJECTORY, TIME, *space)
        last = velocity.ndim - 1
        fields = {f"velocity_{a}": Variable(dims, velocity.pick(last, i)) for i, a in enumerate(space)}
        if "particles" in keys:
            particles = hdf5.lazy(path, "particles")
            fields["particles"] = Variable(dims, particles.pick(last, 0) if particles.ndim == last + 1 else particles)
        if "force" in keys:
            force = hdf5.lazy(path, "force")
            if force.ndim == last:
                for i, a in enumerate(space):
                    fields[f"force_{a}"] = Variable((TRAJECTORY, *space), force.pick(last - 1, i))
        found = Contents(self.name, fields, {a: Axis(kind="cells") for a in space})
        with hdf5.open_file(path) as file:
            times = file["t"][()]
        found.axes[TIME] = Axis(times)
        return found


def _add_facts(found: Contents, path: Path) -> None:
    """Numbers in the attributes of the file as parameters, and what exports of this package state beside them."""
    with hdf5.open_file(path) as file:
        attrs = hdf5.attributes(file)
    found.parameters |= hdf5.numbers(attrs)
    for axis in found.space:
        known = found.axes[axis]
        if attrs.get("grid") in ("points", "cells"):
            known = replace(known, kind=attrs["grid"])
        if "periodic" in attrs:
            known = replace(known, periodic=axis in attrs["periodic"])
        found.axes[axis] = known


def _groups(path: Path, keys: set[str]) -> bool:
    """Whether the file has groups "0000", ... with data and a grid."""
    named = sorted(k for k in keys if GROUP.match(k))
    if not named:
        return False
    try:
        with hdf5.open_file(path) as file:
            return any(hasattr(file[n], "keys") and {"data", "grid"} <= set(file[n]) for n in named)
    except (DataError, OSError, RuntimeError, KeyError):
        return False


def _without_end(found: Contents, times: NDArray | None, count: int) -> NDArray | None:
    """The times of the states: PDEBench may store the end of the run as well."""
    if times is not None and times.ndim == 1 and len(times) == count + 1:
        found.note("times", f"t-coordinate has {count + 1} entries for {count} states; the last belongs to no state")
        return times[:-1]
    return times


def _config(text: Any) -> dict[str, float]:
    """Numbers of the table `sim` of a configuration in YAML."""
    text = text.decode() if isinstance(text, bytes) else str(text)
    _, _, table = ("\n" + text).partition("\nsim:")
    table = re.split(r"\n(?=\S)", table)[0]
    return {k: float(v) for k, v in IN_CONFIG.findall(table) if k not in OF_GRID}
