"""The data of a case for other codes: training, validation and test sets, split by trajectory, and the sweep.

A folder holds one file or store per set, and provenance.json: the case, its command, the sets with their numbers of
trajectories, and the normalisation, which is that of the training set (or of the first set, if there is none).
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from subgrid.solver.backend.files import replace_folder, write_json
from subgrid.solver.case.tables import Case

from ..prepare import with_step
from ..requests import reference_request, training_request
from ..sweep import runs
from ..trajectories import Progress, Trajectories, generate, start
from . import export_formats
from .contents import TIME, TRAJECTORY, Axis, Contents, DataError, Kind, Variable
from .lazy import Lazy, stack
from .options import CODES
from .schema import ordered
from .values import blocks, moving

Statistics = dict[str, dict[str, float]]


def export(case: Case, form: str, out: Path, progress: Progress, command: str = "") -> dict[str, Any]:
    """Write the sets of a case in a format to the new folder `out`; returns its provenance.

    The data are taken from the cache, or computed. Raises DataError for a folder that exists and for data that the
    format cannot hold.
    """
    require_new(out)
    export_formats.require_axes(form, _empty(case).axes)
    sets = sets_of(case, progress)
    export_formats.require_size(form, sets)
    first = next(iter(sets))
    about: dict[str, Any] = {
        "case": case.resolved(),
        "command": command,
        "format": form,
        "sets": {name: contents.sizes[TRAJECTORY] for name, contents in sets.items()},
        "normalised_by": first,
        "normalisation": normalisation(sets[first]),
    }

    def fill(folder: Path) -> None:
        for number, (name, contents) in enumerate(sets.items()):
            contents.origin = {**about, "set": name}
            export_formats.WRITERS[form](folder, name, contents, about)
            progress(number + 1, len(sets), "export")
        if form == "the-well":
            export_formats.write_statistics(folder / "stats.yaml", about["normalisation"])
        write_json(folder / "provenance.json", about)

    out.parent.mkdir(parents=True, exist_ok=True)
    replace_folder(out, fill)
    return about


def require_new(out: Path) -> None:
    """Raise DataError if there is something at the path."""
    if out.is_symlink() or (out.exists() and not (out.is_dir() and not any(out.iterdir()))):
        raise DataError(f"--out {out}: exists already. Remedy: choose another --out")


def sets_of(case: Case, progress: Progress) -> dict[str, Contents]:
    """Name -> data: train and valid from [training], test from [reference], sweep from [sweep]; computed if need be.

    The training set also has the missing terms, as fields `missing_NAME`.
    """
    gridded = case.reference is not None and not case.reference.exact
    trains = case.training is not None and (gridded or case.training.file is not None)
    if not gridded and case.sweep is None and not trains:
        raise DataError(
            "reference.shape: missing; without [sweep], data need a finer grid. Remedy: set reference.shape"
        )
    case = with_step(case)
    found: dict[str, Contents] = {}
    if trains:
        assert case.training is not None
        start(case, training_request(case))
        whole = _of_trajectories(case, generate(case, training_request(case), progress), terms=True)
        count = case.training.trajectories
        split = count - case.training.validation
        found["train"] = _part(whole, np.arange(split))
        found["valid"] = _part(whole, np.arange(split, count))
    if gridded:
        found["test"] = _of_trajectories(case, generate(case, reference_request(case), progress), terms=False)
    if case.sweep is not None:
        found["sweep"] = _of_sweep(case, progress)
    return found


def _empty(case: Case) -> Contents:
    """The axes, parameters and names of a case's data, without fields."""
    equation, grid = case.build_equation(), case.grid.grid()
    kind: Kind = {"semi-linear": "points", "particles": "entities"}.get(equation.kind, "cells")  # type: ignore[assignment]
    periodic = (False,) if kind == "entities" else equation.periodic_axes(grid)
    axes = {}
    for i, (name, values) in enumerate(equation.coordinates(grid).items()):
        entities = kind == "entities"
        axes[name] = Axis(
            None if entities else values,
            "" if entities else "equation's own",
            kind,
            bool(periodic[i]),
            None if entities else grid.length[i],
        )
    numbers = {k: float(v) for k, v in equation if isinstance(v, (int, float)) and not isinstance(v, bool)}
    return Contents("subgrid", {}, axes, numbers, accepted=CODES)


def _of_trajectories(case: Case, data: Trajectories, terms: bool) -> Contents:
    found = _empty(case)
    equation = case.build_equation()
    dims = (TRAJECTORY, TIME, *found.axes)
    state = Lazy.of(data.state)
    for i, field in enumerate(equation.fields):
        found.fields[field.name] = Variable(dims, state.pick(2, i), field.unit, field.description)
    if terms:
        term = Lazy.of(data.term)
        for i, field in enumerate(equation.fields):
            text = f"missing term of {field.name}"
            found.fields[f"missing_{field.name}"] = Variable(dims, term.pick(2, i), f"{field.unit}/time", text)
    found.axes[TIME] = Axis(data.times(), "equation's own")
    found.files = [data.directory]
    return ordered(found)


def _of_sweep(case: Case, progress: Progress) -> Contents:
    assert case.sweep is not None
    data = runs(case, case.sweep.points(), progress)
    found = _empty(case)
    shape = data.state(0).shape

    def run(i: int) -> Lazy:
        return Lazy(shape, np.dtype(np.float32), lambda key: data.state(i)[key])

    whole = stack([run(i) for i in range(len(data))], 0)
    dims = (TRAJECTORY, TIME, *found.axes)
    for i, field in enumerate(case.build_equation().fields):
        found.fields[field.name] = Variable(dims, whole.pick(2, i), field.unit, field.description)
    for name, column in zip(data.names, data.parameters.T, strict=True):
        table, _, key = name.partition(".")
        found.parameters.pop(key if table == "equation" else name, None)
        found.parameters[name] = np.array(column)
    found.axes[TIME] = Axis(data.times, "equation's own")
    found.files = [data.directory]
    return ordered(found)


def _part(contents: Contents, chosen: np.ndarray) -> Contents:
    fields = {name: replace(v, data=v.data.take(0, chosen)) for name, v in contents.fields.items()}
    return replace(contents, fields=fields)


def normalisation(contents: Contents) -> Statistics:
    """Of each field: mean, std, rms, min, max; and mean_delta, std_delta, rms_delta of the change between two times."""
    result = {}
    for name in moving(contents):
        data, count, changes = contents.fields[name].data, 0, 0
        sums, low, high = np.zeros(4), math.inf, -math.inf
        for across, along in blocks(contents):
            values = data[across, along.start : min(along.stop + 1, data.shape[1])].astype(np.float64)
            own = values[:, : along.stop - along.start]
            change = np.diff(values, axis=1)
            sums += [own.sum(), (own**2).sum(), change.sum(), (change**2).sum()]
            count, changes = count + own.size, changes + change.size
            low, high = min(low, float(own.min())), max(high, float(own.max()))
        mean, square = (float(s) / max(1, count) for s in sums[:2])
        mean_delta, square_delta = (float(s) / max(1, changes) for s in sums[2:])
        result[name] = {
            "mean": mean,
            "std": math.sqrt(max(0.0, square - mean**2)),
            "rms": math.sqrt(square),
            "min": low,
            "max": high,
            "mean_delta": mean_delta,
            "std_delta": math.sqrt(max(0.0, square_delta - mean_delta**2)),
            "rms_delta": math.sqrt(square_delta),
        }
    return result
