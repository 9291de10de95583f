"""The report of a comparison: one HTML page with the verdict, tables, pictures and the command that repeats it."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from subgrid.solver.backend.files import FolderLock, remove_temporary, replace

from ..comparison.results import Metrics
from ..terminal import printable
from . import curves, entities, fields, parameter_study
from .drawing import Plot
from .speedups import table as speedups
from .verdict import CLOSURES, columns, outcome, verdict

if TYPE_CHECKING:
    import xarray as xr

ORDER = (
    "frontier",
    "error",
    "snapshots",
    "section",
    "spacetime",
    "profiles",
    "paths",
    "entities",
    "correlation",
    "spectra",
    "ensemble",
    "invariants",
    "parameters",
    "latents",
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
        **entities.plots(metrics, comparison),
        **parameter_study.plots(metrics, comparison),
    }
    return {name: found[name] for name in ORDER if name in found}


def pictures(metrics: Metrics, comparison: xr.Dataset) -> tuple[list[Picture], dict[str, str]]:
    """All pictures of the page as files, with the animation in the second place, and those that failed, with why."""
    drawn, failed = [], {}
    if "plane_failed" in comparison:
        failed["parameters"] = str(comparison["plane_failed"].values)
    wanted = plots(metrics, comparison)
    for name in [*list(wanted)[:1], "animation", *list(wanted)[1:]]:
        try:
            if name == "animation":
                drawn.append(Picture(name, *fields.animation(metrics, comparison), suffix="gif"))
            else:
                drawn.append(Picture(name, wanted[name].title, wanted[name].alt, wanted[name].png()))
        except Exception as error:  # whatever a picture needs, the tables do not
            failed[name] = f"{type(error).__name__}: {error}"
    return drawn, failed


def write(metrics: Metrics, comparison: xr.Dataset, folder: Path) -> tuple[Path, dict[str, str]]:
    """Write `pictures/*.png`, `pictures/animation.gif` and `report.html` to the folder of a comparison.

    Returns the path of the page, and the pictures that could not be drawn with the reasons; the page names them. A
    picture that an earlier call left and that has no numbers now is removed. Nothing outside of the folder is written:
    symbolic links in it are replaced, and refused for `pictures`. Raises FolderInUse if another process has the folder,
    and ValueError, with nothing written, for a folder `pictures` that is a link and a folder in the place of a file.
    """
    place = folder / "pictures"
    with FolderLock(folder):
        if place.is_symlink():
            raise ValueError(f"{place} is a symbolic link, which is not followed. Remedy: delete the link")
        earlier = [*(place / f"{name}.png" for name in ORDER), place / "animation.gif"]
        for file in (*earlier, folder / "report.html"):
            if file.is_dir() and not file.is_symlink():
                raise ValueError(f"{file} is a folder, expected a file. Remedy: delete it")
        drawn, failed = pictures(metrics, comparison)
        place.mkdir(exist_ok=True)
        remove_temporary(place)
        for file in earlier:
            file.unlink(missing_ok=True)
        for picture in drawn:
            replace(place / f"{picture.name}.{picture.suffix}", picture.data)
        replace(folder / "report.html", html(metrics, comparison, drawn, failed))
    return folder / "report.html", failed


def html(
    metrics: Metrics,
    comparison: xr.Dataset,
    drawn: list[Picture] | None = None,
    failed: dict[str, str] | None = None,
) -> bytes:
    """The page, UTF-8, with its pictures embedded; they are drawn if they are not given. `failed`: those that failed.

    Control characters of titles, names and messages are escaped.
    """
    import jinja2

    if drawn is None:
        drawn, failed = pictures(metrics, comparison)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        finalize=lambda value: printable(value, keep="\n") if isinstance(value, str) else value,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html.j2").render(
        metrics=metrics,
        equation=comparison.attrs.get("equation"),
        places="entities" if "entity" in comparison.dims else "cells",
        verdict=verdict(metrics),
        columns=[(column, column.best(metrics.rows)) for column in columns(metrics)],
        outcomes=_outcomes(metrics),
        speedups=speedups(metrics, CLOSURES),
        statistics=sorted({name for row in metrics.rows for name in row.statistics}),
        oracle=any(row.kind == "oracle" for row in metrics.rows),
        invariants=sorted({name for row in metrics.rows for name in row.invariants}),
        pictures=drawn,
        failed_pictures=failed or {},
    )
    return page.encode()


def _outcomes(metrics: Metrics) -> dict[str, dict[str, tuple[str, str]]]:
    """For every closure that finished and each of its rivals among the rows: the outcome, and the ratio of errors."""
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
