"""The results of a sweep: one dataset over the varied keys, one table, and one picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ..report.drawing import PALETTE, WIDTH, bracketed, colours, style
from ..report.frontier import TITLES
from .points import SEED, Axis
from .workers import FAILURE, Task

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.figure import Figure

Values = dict[tuple[str, str], float]  # (row, quantity) -> value; the row of a run is ""
SCORES = ("relative_l2", "correlation_time", "spectrum_distance", "crps")
PANELS = 4


def values(task: Task) -> Values:
    """What a finished task gave: the final invariants of a run, means over members; the scores of each row of a
    comparison, means over the times after the start, its cost and its speed-up. Nothing for a run that failed.
    """
    if (task.folder / FAILURE).exists():
        return {}
    if not task.compares:
        summary = json.loads((task.folder / "summary.json").read_text(encoding="utf-8"))
        return {("", name): float(np.mean(found)) for name, found in summary["invariants"].items()}
    found: Values = {}
    for row in json.loads((task.folder / "metrics.json").read_text(encoding="utf-8"))["rows"]:
        speed_up = row["speedup"].get("relative_l2") or [None]
        listed = {name: row["means"].get(name) for name in SCORES}
        listed |= {"cpu_seconds_per_time": row["cpu_seconds_per_time"], "speedup": speed_up[0]}
        found |= {(row["name"], name): float(value) for name, value in listed.items() if value is not None}
    return found


def dataset(axes: Sequence[Axis], points: Sequence[tuple[Any, ...]], tasks: Sequence[Task]) -> xr.Dataset:
    """Every quantity over the keys of a grid, or over the points of a Latin hypercube, and over the rows if any.

    NaN where a run failed; `failed` has the messages. Coordinates are the varied keys.
    """
    import xarray as xr

    found = [values(task) for task in tasks]
    rows = list(dict.fromkeys(row for one in found for row, _ in one))
    names = list(dict.fromkeys(name for one in found for _, name in one))
    grid = all(axis.values for axis in axes)
    dims = [axis.key for axis in axes] if grid else ["point"]
    shape = [len(axis.values) for axis in axes] if grid else [len(points)]
    coordinates: dict[str, Any] = (
        {axis.key: _labels(axis.values) for axis in axes}
        if grid
        else {axis.key: ("point", [point[i] for point in points]) for i, axis in enumerate(axes)}
    )
    with_rows = rows not in ([""], [])
    variables: dict[str, Any] = {}
    for name in names:
        table = np.array([[one.get((row, name), np.nan) for row in rows] for one in found])
        variables[name] = (
            ([*dims, "row"], table.reshape(*shape, len(rows))) if with_rows else (dims, table.reshape(shape))
        )
    variables["failed"] = (
        dims,
        np.array([_failure(task) for task in tasks], dtype=object).reshape(shape),
    )
    variables["folder"] = (
        dims,
        np.array([task.folder.name for task in tasks], dtype=object).reshape(shape),
    )
    result = xr.Dataset(variables, coordinates | ({"row": np.array(rows, dtype=object)} if with_rows else {}))
    finished = [task for task, one in zip(tasks, found, strict=True) if one]
    for name, unit in _units(finished[0], names).items() if finished else ():
        result[name].attrs["units"] = unit
    return result


def _units(task: Task, names: Sequence[str]) -> dict[str, str]:
    """The units of invariants, as the outputs of a run state them; of a comparison those of its scores and costs."""
    import xarray as xr

    if task.compares:
        of_field = json.loads((task.folder / "metrics.json").read_text(encoding="utf-8")).get("unit", "")
        known = {"correlation_time": "time", "crps": of_field, "cpu_seconds_per_time": "s/time"}
        return {name: unit for name, unit in known.items() if name in names and unit not in ("", "1")}
    with xr.open_dataset(task.folder / "fields.zarr", engine="zarr", chunks=None) as run:
        stored = {name: f"invariant_{name}" if f"invariant_{name}" in run else name for name in names}
        return {name: run[at].attrs["units"] for name, at in stored.items() if at in run}


def _labels(listed: Sequence[Any]) -> NDArray:
    """Values of a key as a coordinate: numbers, truth values, or text."""
    if all(isinstance(value, (int, float)) for value in listed):
        return np.array(listed)
    return np.array([v if isinstance(v, str) else json.dumps(v) for v in listed], dtype=object)


def _failure(task: Task) -> str:
    path = task.folder / FAILURE
    return json.loads(path.read_text(encoding="utf-8"))["error"] if path.exists() else ""


def frame(found: xr.Dataset) -> pd.DataFrame:
    """One line for each point and row; points that differ in ensemble.seed alone are one line with their mean.

    The columns NAME and, with several seeds, NAME +-: half of the 95 % confidence interval of the mean over seeds, by
    Student's t. A line whose runs failed has their number in `failed`.
    """
    keys = [str(name) for name in found.coords]
    table = found.drop_vars("folder").to_dataframe().reset_index()
    table["failed"] = (table["failed"] != "").astype(int)
    names = [str(name) for name in found.data_vars if name not in ("failed", "folder")]
    if SEED not in keys:
        return table[[*keys, *names, "failed"]]
    keys.remove(SEED)
    groups: Any = table.groupby(keys, sort=False, dropna=False) if keys else table.groupby(lambda _: 0)
    result = groups[names].mean()
    for name in names:
        result[f"{name} +-"] = groups[name].apply(_half_interval)
    result["failed"] = groups["failed"].sum()
    ordered = [column for name in names for column in (name, f"{name} +-")]
    return result[[*ordered, "failed"]].reset_index(drop=not keys)


def _half_interval(series: Any) -> float:
    kept = series.dropna()
    if len(kept) < 2:
        return float("nan")
    return float(stats.t.ppf(0.975, len(kept) - 1) * kept.std(ddof=1) / np.sqrt(len(kept)))


def text(table: pd.DataFrame, keys: Sequence[str], width: int) -> str:
    """The table in lines of at most `width` characters where the columns allow it.

    Quantities that do not fit beside each other follow below, with the keys before them again.
    """
    lead = [key for key in (*keys, "row") if key in table]
    rest = [c for c in table if c not in lead and (c != "failed" or table[c].any()) and table[c].notna().any()]
    blocks, block = [], list(lead)
    for column in rest:
        if block != lead and len(_lines(table[[*block, column]])[0]) > width:
            blocks.append(block)
            block = list(lead)
        block.append(column)
    return "\n\n".join("\n".join(_lines(table[columns])) for columns in (*blocks, block))


def _lines(table: pd.DataFrame) -> list[str]:
    return table.to_string(index=False, float_format=lambda value: f"{value:.4g}", na_rep="-").splitlines()


def picture(found: xr.Dataset, keys: Sequence[str]) -> Figure | None:
    """Up to four quantities against the first key of numbers, a line for the other keys; None without such a key.

    Points that differ in ensemble.seed alone are one point with its interval. Points of a Latin hypercube are dots.
    """
    table = frame(found)
    numeric = [key for key in keys if key in table and table[key].dtype.kind in "iuf"]  # no text
    names = [n for n in table.columns if n in found.data_vars and n != "failed" and table[n].notna().any()][:PANELS]
    if not numeric or not names:
        return None
    key, others = numeric[0], [k for k in (*keys, "row") if k in table and k != numeric[0]]
    dots = "point" in found.dims
    with style():
        from matplotlib.figure import Figure as NewFigure

        figure = NewFigure(figsize=(WIDTH, 2.9 * -(-len(names) // 2)), layout="constrained")
        panels = figure.subplots(-(-len(names) // 2), min(2, len(names)), squeeze=False).ravel()
        for panel, name in zip(panels, names, strict=False):
            groups: list[tuple[Any, Any]] = (
                [((), table)] if dots or not others else list(table.groupby(others, sort=False))
            )
            closures = colours([label[0] for label, _ in groups]) if others == ["row"] else PALETTE * len(groups)
            for color, (label, part) in zip(closures, groups, strict=False):
                bars: NDArray | None = part[f"{name} +-"].to_numpy() if f"{name} +-" in part else None
                shown = ", ".join(str(x) for x in (label if isinstance(label, tuple) else (label,)))
                look: dict[str, Any] = {"fmt": "o", "ls": "" if dots else "-", "ms": 3.5, "capsize": 2}
                panel.errorbar(part[key], part[name], yerr=bars, color=color, label=shown, **look)
            title = TITLES.get(name, name.replace("_", " "))
            panel.set(xlabel=key, title=bracketed(title, found[name].attrs.get("units")))
            panel.locator_params(axis="x", nbins=6)
        handles, labels = panels[0].get_legend_handles_labels()
        if len(labels) > 1:
            figure.legend(handles, labels, loc="outside right upper", title=", ".join(others))
        for panel in panels[len(names) :]:
            panel.set_visible(False)
    return figure


def write(folder: Path, found: xr.Dataset, table: pd.DataFrame, keys: Sequence[str]) -> list[Path]:
    """sweep.zarr, sweep.csv and, if there is something to draw, sweep.png. Returns their paths."""
    from subgrid.solver.backend.files import replace, replace_folder
    from subgrid.solver.simulation.store import write_dataset

    replace_folder(folder / "sweep.zarr", lambda path: write_dataset(found, path))
    replace(folder / "sweep.csv", table.to_csv(index=False).encode())
    paths = [folder / "sweep.zarr", folder / "sweep.csv"]
    if (figure := picture(found, keys)) is not None:
        import io

        buffer = io.BytesIO()
        with style():
            figure.savefig(buffer, format="png")
        replace(folder / "sweep.png", buffer.getvalue())
        paths.append(folder / "sweep.png")
    return paths
