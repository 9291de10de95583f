"""The report of a comparison: one HTML page with the verdict, tables, pictures and the command that repeats it."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..comparison.results import Metrics
from . import curves, fields, parameter_study
from .curves import Plot
from .verdict import CLOSURES, columns, outcome, verdict

if TYPE_CHECKING:
    import xarray as xr

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


@dataclass(frozen=True)
class Picture:
    """A picture as a file: its name, its title, the text in its place where it cannot be seen, and its bytes."""

    name: str
    title: str
    alt: str
    data: bytes
    suffix: str = "png"

    @property
    def url(self) -> str:
        """The picture as a data URL."""
        return f"data:image/{self.suffix};base64,{base64.b64encode(self.data).decode('ascii')}"


def plots(metrics: Metrics, comparison: xr.Dataset) -> dict[str, Plot]:
    """The pictures for which the comparison has numbers, in the order of the page, by name."""
    found = {
        **curves.plots(metrics, comparison),
        **fields.plots(metrics, comparison),
        **parameter_study.plots(metrics, comparison),
    }
    return {name: found[name] for name in ORDER if name in found}


def pictures(metrics: Metrics, comparison: xr.Dataset) -> list[Picture]:
    """All pictures of the page as files, with the animation in the second place."""
    drawn = [Picture(name, plot.title, plot.alt, plot.png()) for name, plot in plots(metrics, comparison).items()]
    drawn.insert(1, Picture("animation", *fields.animation(metrics, comparison), suffix="gif"))
    return drawn


def write(metrics: Metrics, comparison: xr.Dataset, folder: Path) -> Path:
    """Write `pictures/*.png`, `pictures/animation.gif` and `report.html` to a folder; returns the path of the page.

    A picture that an earlier call left and that has no numbers now is removed.
    """
    drawn = pictures(metrics, comparison)
    (folder / "pictures").mkdir(exist_ok=True)
    for name in ORDER:
        (folder / "pictures" / f"{name}.png").unlink(missing_ok=True)
    for picture in drawn:
        (folder / "pictures" / f"{picture.name}.{picture.suffix}").write_bytes(picture.data)
    page = folder / "report.html"
    page.write_text(html(metrics, comparison, drawn), encoding="utf-8")
    return page


def html(metrics: Metrics, comparison: xr.Dataset, drawn: list[Picture] | None = None) -> str:
    """The page, with its pictures embedded; they are drawn if they are not given."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(
        metrics=metrics,
        equation=comparison.attrs.get("equation"),
        places="entities" if "entity" in comparison.dims else "cells",
        verdict=verdict(metrics),
        columns=[(column, column.best(metrics.rows)) for column in columns(metrics)],
        outcomes=_outcomes(metrics),
        oracle=any(row.kind == "oracle" for row in metrics.rows),
        invariants=sorted({name for row in metrics.rows for name in row.invariants}),
        pictures=pictures(metrics, comparison) if drawn is None else drawn,
    )


def _outcomes(metrics: Metrics) -> dict[str, dict[str, tuple[str, str]]]:
    """For every closure that finished and each of its rivals: the outcome, and the ratio of the errors."""
    found: dict[str, dict[str, tuple[str, str]]] = {}
    for row in metrics.rows:
        ours = row.error()
        if row.kind not in CLOSURES or ours is None:
            continue
        found[row.name] = {
            words: (outcome(row, other), f"{ours / theirs:.2f} × {other.name}")
            for words, other in metrics.rivals(row).items()
            if (theirs := other.error())
        }
    return found
