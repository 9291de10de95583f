"""Runs of a sweep from data of files: their parameters, and their states on the grid of the case."""

from __future__ import annotations

import csv
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subgrid.solver.case.inputs import sha256, sha256_of_data
from subgrid.solver.case.sweep_design import SweepTable
from subgrid.solver.case.tables import Case

from .external.contents import DataError
from .given_data import GivenData
from .restriction import Restrict


def with_points(case: Case) -> Case:
    """The case with the parameters of the files of its sweep as points. Raises DataError, with the key."""
    table = case.sweep
    if table is None or table.files is None:
        return case
    points = _points(table, GivenData(case, "sweep", values=0))
    found = table.model_copy(update={"points_found": tuple(map(tuple, points.tolist()))})
    return case.model_copy(update={"sweep": found})


def _points(table: SweepTable, data: GivenData) -> NDArray[np.float64]:
    """The parameters of each trajectory, (run, parameter), all within the ranges of the sweep."""
    columns = {} if table.table is None else _columns(table, data.trajectories)
    found = []
    for name, (low, high) in table.parameters.items():
        short = name.rpartition(".")[2]
        values = columns.get(name, columns.get(short))
        values = data.parameter(name) if values is None else values
        if values is None:
            raise DataError(
                f"sweep.table: {table.files} states no {name}. Remedy: a CSV file with a column {short} and one "
                f"row for each of {data.trajectories} trajectories, or sweep.data.pattern with {{{short}}}"
            )
        outside = ~((low <= values) & (values <= high))
        if outside.any():
            first = int(outside.argmax())
            raise DataError(
                f"sweep.parameters.{name}: trajectory {first} of {table.files} has {values[first]:g}, outside "
                f"[{low:g}, {high:g}]. Remedy: a wider range, or sweep.data.select"
            )
        found.append(values)
    points = np.stack(found, axis=1)
    if len(points) < 2 or len(np.unique(points, axis=0)) < len(points):
        raise DataError(
            f"sweep.files: {table.files} holds {len(points)} trajectories with {len(np.unique(points, axis=0))} "
            "different values of the parameters. Remedy: two or more, all different, with sweep.data.select"
        )
    return points


def _columns(table: SweepTable, rows: int) -> dict[str, NDArray[np.float64]]:
    assert table.table is not None
    try:
        with table.table.open(newline="", encoding="utf-8-sig") as file:
            lines = list(csv.DictReader(file))
        columns = {str(k).strip(): np.array([float(line[k]) for line in lines]) for k in (lines[0] if lines else ())}
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise DataError(
            f"sweep.table: {table.table} is not a CSV file of numbers ({error}). Remedy: correct it"
        ) from None
    if len(lines) != rows:
        raise DataError(
            f"sweep.table: {table.table} has {len(lines)} rows, {table.files} has {rows} trajectories. "
            "Remedy: one row for each, in their order"
        )
    return columns


def run_of_data(case: Case) -> int | None:
    """The trajectory of the data of [sweep] that has the parameters of the case, or None."""
    return None if case.sweep is None or case.sweep.files is None else case.sweep.run_of_data(case.parameters())


def describe_run(case: Case, run: int) -> dict[str, Any]:
    """A trajectory of the data, represented by their content and keys."""
    table = case.sweep
    assert table is not None and table.files is not None
    files = {"sha256": sha256_of_data(table.files), "keys": table.data_keys(), "trajectory": run}
    return files | ({} if table.table is None else {"table": sha256(table.table)})


def states_of_run(case: Case, run: int, times: NDArray[np.float64]) -> NDArray[np.float64]:
    """(time, field, *grid) of a trajectory at some times, restricted to the grid of the case if theirs is finer."""
    data, grid = GivenData(case, "sweep"), case.grid.grid()
    indices = data.indices(times, "the sweep has a state at")
    state = np.stack([data.state(i, run) for i in indices])
    if data.shape == grid.shape:
        return state
    how = case.reference.restrict if case.reference else "filter"
    return Restrict(case.build_equation(), grid.refined(data.shape), grid, how)(state)
