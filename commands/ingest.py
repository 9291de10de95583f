"""`subgrid ingest`: what data of another code contain, a picture of them, and a copy in the schema."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subgrid.ingest.external.contents import ENTITY, DataError
from subgrid.ingest.external.open import Inspection, inspect
from subgrid.ingest.external.options import options_of
from subgrid.ingest.external.report import as_json, as_text
from subgrid.ingest.external.values import SAMPLE, moving
from subgrid.ingest.external.write import write
from subgrid.solver.backend.files import replace

from .progress import Bars
from .report.drawing import canvas, literal, style
from .terminal import display

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_FIELDS = 6


def ingest(path: Path, keys: dict[str, Any], out: Path | None, picture: Path | None, json_: bool, command: str) -> None:
    """Report on data; with `out`, write them in the schema; draw them, by default to NAME.png if there is no `out`.

    Raises DataError for a fault that remains; nothing is written then.
    """
    options = options_of(keys)
    found = inspect(path, options, values=0 if out is not None else SAMPLE)
    if not json_:
        display(as_text(found))
    found.require_sound()
    if out is not None:
        with Bars(quiet=json_) as bars:
            write(found, out, bars, f"`{command}`")
        if not json_:
            display(f"written: {out}")
    if picture is None and out is None and not json_ and moving(found.contents):
        picture = Path(f"{path.resolve().stem or 'data'}.png")
    if picture is not None:
        replace(picture, png(found))
        if not json_:
            display(f"picture: {picture}")
    if json_:
        print(json.dumps(as_json(found) | ({"out": str(out)} if out else {}), indent=1))


def png(found: Inspection) -> bytes:
    """The picture of data as a file."""
    buffer = io.BytesIO()
    with style():
        figure(found).savefig(buffer, format="png", backend="agg")
    return buffer.getvalue()


def figure(found: Inspection) -> Figure:
    """The fields of the first trajectory at its first and last time: curves, maps, or the paths of entities."""
    import numpy as np

    contents = found.contents
    names = list(moving(contents))[:MOST_FIELDS]
    space = contents.space
    if not names:
        raise DataError(f"{contents.where} has no field that varies in time; there is nothing to draw")

    def line(name: str) -> Any:
        axis = contents.axes.get(name)
        n = contents.sizes[name]
        return np.arange(n) if axis is None or axis.values is None else axis.values

    times = line("time")
    if space == (ENTITY,) and {"x", "y"} <= set(names):
        result, axes = canvas(height=6.0)
        x, y = (contents.fields[a].data[0] for a in "xy")
        axes[0, 0].plot(x[:, :200], y[:, :200], linewidth=0.8)
        axes[0, 0].set(xlabel="x", ylabel="y", aspect="equal", title=f"trajectory 0, {x.shape[1]} entities")
        return result
    ends = [(0, f"t = {float(times[0]):.4g}"), (len(times) - 1, f"t = {float(times[-1]):.4g}")]
    result, axes = canvas(len(names), 1 if len(space) < 2 else 2, 3.2 * len(names))
    for row, name in zip(axes, names, strict=True):
        data = contents.fields[name].data
        for k, (index, label) in enumerate(ends):
            values = data[0, index]
            while values.ndim > 2:
                values = values[len(values) // 2]
            a = row[k if values.ndim == 2 else 0]
            if values.ndim == 2:
                up, along = line(space[-2]), line(space[-1])
                image = a.pcolormesh(along, up, values, shading="nearest")
                result.colorbar(image, ax=a)
                a.set(xlabel=literal(space[-1]), ylabel=literal(space[-2]), title=f"{literal(name)}, {label}")
            else:
                a.plot(line(space[-1]) if space else [0], np.atleast_1d(values), label=label)
                a.set(xlabel=literal(space[-1]) if space else "", ylabel=literal(name))
                a.legend()
    return result
