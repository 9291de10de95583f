"""A finished comparison as one page that needs nothing else: verdict, tables, pictures, how to repeat it."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from ..comparison.results import Metrics
from . import curves as pictures
from . import fields as snapshots
from . import parameter_study as study_pictures
from .verdict import CLOSURES, columns, outcome, verdict

if TYPE_CHECKING:
    import xarray as xr
    from rich.table import Table

REMEDY = "make it again with `subgrid compare CASE`"
ORDER = (
    "error",
    "snapshots",
    "spacetime",
    "profiles",
    "paths",
    "correlation",
    "spectra",
    "ensemble",
    "invariants",
    "parameters",
    "latents",
    "cost",
)
NEEDED = ("relative_l2", "correlation", "spectrum", "frames", "frame_time")


def write(directory: Path) -> Path:
    """Write `pictures/*.png`, `pictures/animation.gif` and the self-contained `report.html` of a comparison.

    `directory` holds the `metrics.json` and `comparison.zarr` that `subgrid compare` leaves. Returns the path
    of the page. Raises ValueError, naming the file and the remedy, when either is missing or malformed.
    """
    directory = Path(directory)
    metrics = _read_metrics(directory / "metrics.json")
    comparison = _read_comparison(directory / "comparison.zarr", metrics)
    folder = directory / "pictures"
    folder.mkdir(exist_ok=True)
    drawn = pictures.draw(metrics, comparison, folder) | snapshots.draw(metrics, comparison, folder)
    drawn |= study_pictures.draw(metrics, comparison, folder)
    shown = [drawn[name] for name in ORDER if name in drawn]
    shown.insert(1, snapshots.animate(metrics, comparison, folder / "animation.gif"))
    page = directory / "report.html"
    page.write_text(_html(metrics, comparison, shown), encoding="utf-8")
    return page


def table(metrics: dict[str, Any]) -> Table:
    """The terminal's table of the contents of `metrics.json`: one column for each run.

    The best value of a line is bold; a failed run is red and marked. Raises ValueError (pydantic's) when the
    metrics are malformed.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    read = Metrics.model_validate(metrics)
    result = Table(title=Text(read.case), box=SIMPLE_HEAD, padding=(0, 1, 0, 0), caption_justify="left")
    result.add_column(no_wrap=True, min_width=12)
    for row in read.rows:
        heading = Text(f"{row.name}\nfailed" if row.failed else row.name)
        style = "red" if row.failed else ""
        result.add_column(heading, justify="right", overflow="fold", style=style, header_style=style)
    for column in columns(read):
        best = column.best(read.rows)
        cells = [Text(column.text(r), style="bold green" if r.name in best else "") for r in read.rows]
        result.add_row(column.heading, *cells)
    if any(row.kind == "oracle" for row in read.rows):
        result.caption = "The oracle is given the true term and is not ranked."
    return result


def _read_metrics(path: Path) -> Metrics:
    if not path.is_file():
        raise ValueError(f"{path} is missing: {REMEDY}")
    try:
        return Metrics.model_validate_json(path.read_bytes())
    except ValidationError as error:
        found = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors())
        raise ValueError(f"{path} is malformed ({found}): {REMEDY}") from error


def _read_comparison(path: Path, metrics: Metrics) -> xr.Dataset:
    import xarray as xr

    if not path.is_dir():
        raise ValueError(f"{path} is missing: {REMEDY}")
    try:
        comparison = xr.open_dataset(path, engine="zarr", chunks=None, consolidated=False).load()
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} cannot be read ({error}): {REMEDY}") from error
    spectral = "entity" not in comparison.dims  # particles have no wavenumbers
    if absent := [name for name in NEEDED if name not in comparison and (spectral or name != "spectrum")]:
        raise ValueError(f"{path} lacks {', '.join(absent)}: {REMEDY}")
    sources = [str(name) for name in comparison["source"].values]
    if absent := [name for name in ("reference", *(row.name for row in metrics.rows)) if name not in sources]:
        raise ValueError(f"{path} has no source named {', '.join(absent)}, which metrics.json lists: {REMEDY}")
    return comparison


def _html(metrics: Metrics, comparison: xr.Dataset, shown: list[pictures.Picture]) -> str:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    listed = columns(metrics)
    return environment.get_template("report.html.j2").render(
        metrics=metrics,
        equation=comparison.attrs.get("equation"),
        places="entities" if "entity" in comparison.dims else "cells",
        verdict=verdict(metrics),
        columns=[(column, column.best(metrics.rows)) for column in listed],
        duels=_duels(metrics),
        invariants=sorted({name for row in metrics.rows for name in row.invariants}),
        pictures=[(picture, _embedded(picture.path)) for picture in shown],
    )


def _duels(metrics: Metrics) -> dict[str, dict[str, tuple[str, str]]]:
    """For every closure that finished, and each of its opponents: the outcome, and the error as a ratio."""
    duels: dict[str, dict[str, tuple[str, str]]] = {}
    for row in metrics.rows:
        ours = row.error()
        if row.kind not in CLOSURES or ours is None:
            continue
        duels[row.name] = {
            words: (outcome(row, other), f"{ours / theirs:.2f} × {other.name}")
            for words, other in metrics.opponents(row).items()
            if (theirs := other.error())
        }
    return duels


def _embedded(path: Path) -> str:
    kind = path.suffix.removeprefix(".")
    return f"data:image/{kind};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"
