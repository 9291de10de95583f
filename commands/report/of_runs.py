"""The report of a run: its scalars against time, the budgets of its invariants, and its last state."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from subgrid.solver.backend.files import DamagedFile, FolderLock, read_json, remove_temporary, replace
from subgrid.solver.simulation.folder import RunFolderError

from ..terminal import printable
from .drawing import PALETTE, ROUND_OFF, Plot, bracketed, canvas, described, legend, legible, literal, slots, with_units
from .papers import require_no_link

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

BY = "_by_"
# Terms of the equations that ship have a colour each, and a dash pattern that no closure has.
TERMS = ("diffusion", "forcing", "drag", "advection", "beta", "noise", "hyperviscosity")
NEGLIGIBLE = 1e-16  # of the largest value of a spectrum
NAMES = ("scalars", "state")  # of pictures; those of budgets begin with "budget-"


def read(folder: Path) -> tuple[str, xr.Dataset]:
    """The title and the outputs of a run. Raises RunFolderError for a folder without an intact store.

    A file of a field that is missing before a later one is damage, and so is any that a run lacks that is done.
    """
    import xarray as xr

    try:
        found = xr.open_dataset(folder / "fields.zarr", engine="zarr", chunks=None)
        lost = {name: _lost(folder / "fields.zarr" / name / "c", found[name], _done(folder)) for name in _fields(found)}
    except Exception as error:  # the libraries have many errors for damaged files
        raise RunFolderError(f"{folder} holds no outputs that can be read ({error}). Remedy: resume the run") from None
    for name, frames in lost.items():
        if frames:
            time = float(found["time"][frames[0]])
            raise RunFolderError(
                f"{folder}: the output of {name} at t = {time:.10g} has no file, and {len(frames) - 1} more. "
                f"Remedy: restore the files in {folder / 'fields.zarr' / name}, or run the case again"
            )
    return str(found.attrs.get("title", folder.name)), found


def _fields(run: xr.Dataset) -> list[str]:
    """The fields of a run and what is derived from them, which are drawn."""
    return [str(v) for v in run.data_vars if len(run[v].dims) in (3, 4) and "entity" not in run[v].dims]


def _done(folder: Path) -> bool:
    try:
        return bool(read_json(folder / "summary.json")["status"] == "done")
    except (OSError, DamagedFile, KeyError, TypeError):
        return False


def _lost(chunks: Path, field: xr.DataArray, done: bool) -> list[int]:
    """The first outputs of the chunks along time that have no file, of those before the last one or of all."""
    held = {int(place.name) for place in chunks.glob("*") if any(f.is_file() for f in (place, *place.rglob("*")))}
    length = int(field.encoding["chunks"][0])
    count = -(-field.shape[0] // length) if done else max(held, default=-1) + 1
    return [number * length for number in range(count) if number not in held]


def plots(run: xr.Dataset) -> dict[str, Plot]:
    """The pictures for which the run has numbers, by name."""
    series = [str(v) for v in run.data_vars if set(run[v].dims) == {"time", "member"}]
    scalars = [name for name in series if BY not in name and np.isfinite(run[name]).any()]
    found: dict[str, Plot] = {}
    if scalars:
        title = "Scalars against time"
        found["scalars"] = Plot(title, f"{title}: {', '.join(scalars)}.", partial(_scalars, run, scalars))
    for quantity in dict.fromkeys(name.partition(BY)[0] for name in series if BY in name):
        parts = [name for name in series if name.startswith(f"{quantity}{BY}") and np.isfinite(run[name]).any()]
        if parts and quantity in run and run.sizes["time"] > 2:
            title = f"Budget of the {quantity}"
            found[f"budget-{quantity}"] = Plot(title, f"{title}.", partial(_budget, run, quantity, parts))
    fields = _fields(run)
    if fields and (written := np.flatnonzero(_finite(run[fields[0]][:, 0].values))).size:
        last = int(written[-1])
        title = f"The fields of member 0 at t = {float(run['time'][last]):.3g}"
        found["state"] = Plot(title, f"{title}: {', '.join(fields)}.", partial(_state, run, fields, last))
    return found


def write(title: str, drawable: Mapping[str, Plot], folder: Path) -> tuple[Path, dict[str, str]]:
    """Write `pictures/*.png` and `report.html`; returns the page, and the pictures that failed with the reasons.

    Raises ValueError for a folder `pictures` that is a link, with nothing written, and FolderInUse.
    """
    place, page, failed, blocks = folder / "pictures", folder / "report.html", {}, []
    with FolderLock(folder):
        require_no_link(place)
        if page.is_dir():
            raise ValueError(f"{page} is a folder, expected a file. Remedy: delete it")
        place.mkdir(exist_ok=True)
        remove_temporary(place)
        for name, plot in drawable.items():
            try:
                content = plot.png()
            except Exception as error:  # whatever a picture needs, the others do not
                failed[name] = f"{type(error).__name__}: {error}"
                continue
            replace(place / f"{name}.png", content)
            url = f"data:image/png;base64,{base64.b64encode(content).decode('ascii')}"
            blocks.append(f'<h2>{_text(plot.title)}</h2>\n<img src="{url}" alt="{_text(plot.alt)}" width="100%">')
        blocks += [f"<p>The picture {_text(name)} failed: {_text(why)}</p>" for name, why in failed.items()]
        replace(page, PAGE.format(title=_text(title), blocks="\n".join(blocks)).encode())
    return page, failed


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>body {{ font: 16px/1.5 sans-serif; max-width: 1000px; margin: 2em auto; padding: 0 1em; color: #1c2430 }}</style>
</head><body>
<h1>{title}</h1>
{blocks}
</body></html>
"""


def _finite(frames: np.ndarray) -> np.ndarray:
    """Whether each frame is finite, (time,)."""
    return np.isfinite(frames).reshape(len(frames), -1).all(axis=1)


def _text(value: str) -> str:
    return html.escape(printable(value))


def _scalars(run: xr.Dataset, names: list[str]) -> Figure:
    """A panel for each scalar: the mean over the members, and the range from the least to the largest."""
    columns = min(2, len(names))
    rows = -(-len(names) // columns)
    figure, axes = canvas(rows, columns, height=0.5 + 2.4 * rows, panels=len(names))
    for a, name in zip(axes.flat, names, strict=False):
        time, values = run["time"].values, run[name].values
        a.plot(time, values.mean(axis=1), color=PALETTE[0], linewidth=1.8)
        if values.shape[1] > 1:
            a.fill_between(time, values.min(axis=1), values.max(axis=1), color=PALETTE[0], alpha=0.2, linewidth=0)
        a.set(xlabel=with_units("time", run["time"]), ylabel=_label(run, name))
        a.set_title(described(run[name]), fontsize="medium")
        a.margins(x=0.01)
        span, size = np.nanmax(values) - np.nanmin(values), np.nanmax(np.abs(values))
        a.ticklabel_format(axis="y", useOffset=bool(span < 1e-5 * size), scilimits=(-3, 4))
        if size < ROUND_OFF:  # round-off of zero
            a.set_ylim(-100 * ROUND_OFF, 100 * ROUND_OFF)
        elif span < 1e-10 * size:  # round-off of what is conserved
            a.set_ylim(*sorted((0.9 * values.flat[0], 1.1 * values.flat[0])))
    for a in axes.flat[len(names) :]:
        a.set_axis_off()
    return figure


def _label(run: xr.Dataset, name: str) -> str:
    shown = literal(name.removeprefix("invariant_").replace("_", " "))
    text = bracketed(shown, run[name].attrs.get("units"))
    return text.replace(" [", "\n[") if len(text) > 24 else text


def _budget(run: xr.Dataset, quantity: str, parts: list[str]) -> Figure:
    """The contributions to d/dt of a quantity, their sum, and its rate of change, as means over the members."""
    figure, axes = canvas(height=4.6)
    a, time = axes[0, 0], run["time"].values
    values = {name: run[name].values.mean(axis=1) for name in parts}
    sources = {name: name.partition(BY)[2] for name in parts if np.nan_to_num(values[name]).any()}  # not zero
    closures = [source.replace("_", "-") for source in sources.values() if source not in TERMS]
    places = iter(slots(closures))
    for name, source in sources.items():
        place = TERMS.index(source) if source in TERMS else next(places)
        dash: Any = (0, (6, 1.2, 1.2, 1.2)) if source in TERMS else "solid"
        color = PALETTE[place % len(PALETTE)]
        a.plot(time, values[name], color=color, linestyle=dash, linewidth=1.8, label=f"by {literal(source)}")
    a.plot(time, np.sum(list(values.values()), axis=0), color="black", linewidth=2.2, label="sum")
    rate = np.gradient(run[quantity].values.mean(axis=1), time)
    a.plot(time, rate, color="#999999", linestyle=(0, (3, 2)), linewidth=2.2, label="d/dt of the outputs")
    a.axhline(0, color="#444444", linewidth=0.8)
    a.set(xlabel=with_units("time", run["time"]), ylabel=bracketed(f"d {quantity} / dt", run[parts[0]].attrs["units"]))
    a.margins(x=0.01)
    legend(figure, a)
    return figure


def _state(run: xr.Dataset, fields: list[str], last: int) -> Figure:
    """The fields of the first member at the last output, to scale where both axes are lengths."""
    columns = min(2, len(fields))
    rows = -(-len(fields) // columns)
    first = run[max(fields, key=lambda name: run[name].ndim)].isel(time=last, member=0)  # of the grid
    lengths = first.ndim == 2 and all(first[d].attrs.get("units") == "length" for d in first.dims)
    sides = [float(np.ptp(run[d].values)) for d in first.dims]
    shape = legible(sides[0] / sides[-1]) if lengths else 1.0
    height = 0.6 + (1.0 + 2.9 * min(shape, 1.3) if first.ndim == 2 else 2.8) * rows
    figure, axes = canvas(rows, columns, height, panels=len(fields))
    for a, name in zip(axes.flat, fields, strict=False):
        field = run[name].isel(time=last, member=0)
        if field.ndim == 1:
            (x,) = (run[d] for d in field.dims)
            drawn = field
            if name == "spectrum" and (held := field.values > NEGLIGIBLE * field.values.max())[1:].any():
                drawn = field.where(held & (x.values > 0))  # the mean has no place on a logarithmic axis
                a.set(xscale="log", yscale="log")
            a.plot(x, drawn, color=PALETTE[0], linewidth=1.8)
            a.set(xlabel=with_units(str(x.name), x), ylabel=_label(run, name))
            a.margins(x=0)
            continue
        up, along = (run[d] for d in field.dims)
        low, high = float(field.min()), float(field.max())
        signed = low < 0 < high or low == high == 0
        limit = {"vmin": -max(-low, high), "vmax": max(-low, high), "cmap": "RdBu_r"} if signed else {"cmap": "viridis"}
        image = a.pcolormesh(along, up, field, shading="nearest", rasterized=True, **limit)
        a.grid(False)
        a.set_box_aspect(shape)
        a.set(xlabel=with_units(str(along.name), along), ylabel=with_units(str(up.name), up))
        bar = a.inset_axes((1.03, 0, 0.05 * float(np.clip(shape, 0.4, 1.0)), 1))  # as high as the map
        figure.colorbar(image, cax=bar, label=_label(run, name) if shape > 0.4 else "")
        if shape <= 0.4:  # a low bar has no room for a label
            a.set_title(_label(run, name).replace("\n", " "))
    for a in axes.flat[len(fields) :]:
        a.set_axis_off()
    return figure
