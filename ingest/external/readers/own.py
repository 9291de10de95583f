"""What this package writes: data in the schema, as Zarr or .npz, run folders, and the stores of comparisons."""

from __future__ import annotations

import json
import tomllib
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from subgrid.solver.backend.files import DamagedFile, array_headers, read_arrays, read_json
from subgrid.solver.equations import EQUATIONS
from subgrid.solver.grid import Grid
from subgrid.solver.simulation.folder import COMPARISON

from ..contents import ENTITY, TIME, TRAJECTORY, Axis, Contents, DataError, Kind, Variable
from ..options import Options
from ..recognise import Reader
from ..schema import SCHEMA, of_dataset
from .named import lazy, open_named

if TYPE_CHECKING:
    import xarray as xr

COMPARED = "comparison.zarr"
INCOMPLETE = "incomplete"  # attribute of a store that is being written


class SchemaReader(Reader):
    """Data that `subgrid ingest --out` or `subgrid data --format` wrote: a Zarr store, or an .npz file."""

    name = "subgrid-data"
    order = 1

    def recognises(self, path: Path) -> bool:
        if path.is_dir():
            return _attributes(path).get("schema") == SCHEMA
        try:
            return zipfile.is_zipfile(path) and "schema" in array_headers(path, ())
        except (DamagedFile, OSError):
            return False

    def read(self, path: Path, options: Options) -> Contents:
        data = open_named(path, raw=True) if path.is_dir() else npz(path)
        if data.attrs.get(INCOMPLETE):
            raise DataError(f"{path} is incomplete. Remedy: {data.attrs[INCOMPLETE]}, which continues")
        return of_dataset(data, path, {str(name): lazy(data[name]) for name in data.data_vars})


class RunReader(Reader):
    """The outputs of a run: its folder, or fields.zarr. Members are trajectories."""

    name = "subgrid-run"
    order = 3

    def recognises(self, path: Path) -> bool:
        store = _store(path)
        return {"title", "equation"} <= _attributes(store).keys() and (store / "member").is_dir()

    def read(self, path: Path, options: Options) -> Contents:
        store = _store(path)
        data = open_named(store, raw=True)
        tables = _case(store)
        found = Contents(self.name, {}, {}, files=[store], origin={str(k): v for k, v in data.attrs.items()})
        dims = {"member": TRAJECTORY, "time": TIME}
        space = {str(key): tuple(str(d) for d in v.dims if d not in dims) for key, v in data.data_vars.items()}
        space = {key: axes for key, axes in space.items() if axes}  # others are scalars of every member, no fields
        grid = max(space.values(), key=lambda axes: (len(axes), sum(_kind(data, d) != "unknown" for d in axes)))
        if not options.fields and (others := [key for key, axes in space.items() if set(axes) != set(grid)]):
            text = f"left out, because not on the axes {', '.join(grid)}: {', '.join(others)}. Key to read them: fields"
            found.note("other-axes", text)
            space = {key: axes for key, axes in space.items() if key not in others}
        for key in space:
            v = data[key]
            named = tuple(dims.get(str(d), str(d)) for d in v.dims)
            found.fields[key] = Variable(named, lazy(v), v.attrs["units"], v.attrs["long_name"])
        found.axes[TIME] = Axis(data["time"].values, data["time"].attrs.get("units", ""))
        found.axes |= _run_axes(data, grid, list(dict.fromkeys(d for axes in space.values() for d in axes)), tables)
        equation = tables.get("equation", {})
        found.parameters = {
            k: float(v) for k, v in equation.items() if isinstance(v, (int, float)) and not isinstance(v, bool)
        }
        return found


def _store(path: Path) -> Path:
    return path / "fields.zarr" if (path / "fields.zarr").is_dir() and (path / "case.toml").is_file() else path


def _case(store: Path) -> dict[str, Any]:
    """The tables of the case beside a store; empty without one."""
    case = store.parent / "case.toml"
    if not case.is_file():
        return {}
    try:
        return tomllib.loads(case.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise DataError(f"{case} is not TOML ({error}). Remedy: restore it") from None


def _kind(data: xr.Dataset, name: str) -> Kind:
    """What the values of a run along an axis belong to, by its coordinate; unknown for axes that are none of a grid."""
    word = str(data[name].attrs.get("long_name", "")).rpartition(", ")[2]
    return {"points": "points", "cell centres": "cells", "number": "entities"}.get(word, "unknown")  # type: ignore[return-value]


def _run_axes(data: xr.Dataset, grid: tuple[str, ...], names: list[str], tables: dict[str, Any]) -> dict[str, Axis]:
    """The named axes of a run, those of its grid among them, in array order: the domain is that of its case."""
    about_case = _of_equation(list(grid), tables)
    lengths = tables.get("grid", {}).get("length", [])
    length_of = dict(zip(grid, lengths, strict=True)) if len(grid) == len(lengths) else {}
    found: dict[str, Axis] = {}
    for name in names:
        about, kind = data[name].attrs, _kind(data, name)
        if kind == "entities":
            found[ENTITY if name == "entity" else name] = Axis(kind=kind)
            continue
        found[name] = Axis(
            data[name].values,
            str(about.get("units", "")),
            kind,
            True if kind == "points" else about_case[name][1] if name in about_case else None,
            None if kind == "unknown" else length_of.get(name),
        )
    return found


def _of_equation(names: list[str], tables: dict[str, Any]) -> dict[str, tuple[Kind, bool, float]]:
    """Where the values of each axis are, whether it is periodic, and its length, by the equation of a case.

    Nothing for an equation that does not ship, and for entities.
    """
    table = dict(tables.get("equation", {}))
    name = table.pop("name", None)
    if name is None or not EQUATIONS.ships(name):
        return {}
    try:
        equation: Any = EQUATIONS.find(name).model_validate(table)
        grid = Grid(tuple(tables["grid"]["shape"]), tuple(tables["grid"]["length"]))
        if equation.kind == "particles":
            return {}
        kind: Kind = "points" if equation.spectral else "cells"
        periodic = map(bool, equation.periodic_axes(grid))
        return {n: (kind, p, length) for n, p, length in zip(names, periodic, grid.length, strict=True)}
    except (KeyError, TypeError, ValueError):
        return {}


class ComparisonReader(Reader):
    """The frames of a comparison: its folder, or comparison.zarr. Sources are trajectories, the reference the first."""

    name = "subgrid-comparison"
    order = 2

    def recognises(self, path: Path) -> bool:
        store = _compared(path)
        return {"correlation_threshold", "equation"} <= _attributes(store).keys()

    def read(self, path: Path, options: Options) -> Contents:
        store = _compared(path)
        data = open_named(store, raw=True)
        frames = data["frames"]
        space = [str(d) for d in frames.dims[2:]]
        origin = {str(k): v for k, v in data.attrs.items()}
        origin["sources"] = [str(s) for s in data["source"].values]
        found = Contents(self.name, {}, {}, files=[store], origin=origin, accepted=("missing-values", "duplicates"))
        dims = (TRAJECTORY, TIME, *space)
        units, values = str(data.attrs.get("units", "")), lazy(frames)
        if "coordinate" in space:
            axis = dims.index("coordinate")
            rest = (*dims[:axis], *dims[axis + 1 :])
            for i, name in enumerate(map(str, data["coordinate"].values)):
                found.fields[name] = Variable(rest, values.pick(axis, i), units)
        else:
            found.fields[str(data.attrs["field"])] = Variable(dims, values, units)
        found.axes = {TIME: Axis(data["frame_time"].values)}
        names = [name for name in space if name != "coordinate"]
        known = _of_equation(names, _case(store))
        for name in names:
            if name == ENTITY:
                found.axes[name] = Axis(None, kind="entities")
            else:
                about: tuple[Kind, bool | None, float | None] = known.get(name, ("unknown", None, None))
                found.axes[name] = Axis(data[name].values, str(data[name].attrs.get("units", "")), *about)
        return found


def _compared(path: Path) -> Path:
    return path / COMPARED if (path / COMPARED).is_dir() and (path / COMPARISON).exists() else path


def _attributes(path: Path) -> dict[str, Any]:
    """The attributes of the group of a Zarr store of version 3; empty if there is none."""
    file = path / "zarr.json"
    try:
        found = read_json(file).get("attributes", {}) if path.is_dir() and file.is_file() else {}
    except (DamagedFile, OSError, AttributeError):
        return {}
    return found if isinstance(found, dict) else {}


def npz(path: Path) -> xr.Dataset:
    """The dataset of an .npz file in the schema: `schema`, JSON with dimensions and attributes, and an array each."""
    import xarray as xr

    arrays = read_arrays(path, largest=path.stat().st_size)
    try:
        about = json.loads(str(arrays.pop("schema")))
        variables = {k: xr.Variable(v["dims"], arrays[k], v["attrs"]) for k, v in about["variables"].items()}
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is damaged ({error!r}). Remedy: write it again") from None
    coords = {k: v for k, v in variables.items() if about["variables"][k]["coordinate"]}
    fields = {k: v for k, v in variables.items() if k not in coords}
    return xr.Dataset(fields, coords=coords, attrs=about["attrs"])


def npz_arrays(data: xr.Dataset) -> dict[str, Any]:
    """The arrays of a dataset in the schema, as `npz` reads them."""
    variables = {
        str(name): {"dims": list(map(str, v.dims)), "attrs": v.attrs, "coordinate": name in data.coords}
        for name, v in data.variables.items()
    }
    schema = np.array(json.dumps({"variables": variables, "attrs": data.attrs}))
    return {"schema": schema, **{str(name): np.asarray(v.values) for name, v in data.variables.items()}}
