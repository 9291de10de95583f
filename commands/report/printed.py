"""The report of a comparison, written to its folder and announced on the terminal."""

from __future__ import annotations

import json
import sys
import textwrap
from pathlib import Path

from rich.console import Console

from subgrid.solver.simulation.folder import COMPARISON

from ..comparison.comparison import Comparison
from ..terminal import display, printable
from . import of_runs, papers
from .page import plots, write
from .table import terminal
from .verdict import verdict


def scores(comparison: Comparison, folder: Path, as_json: bool) -> None:
    """Write the report and print the scores: the contents of metrics.json, or table, verdict and path of the page."""
    page, failed = write(comparison.metrics, comparison.dataset, folder)
    if as_json:
        print(json.dumps(comparison.metrics.model_dump(), indent=1))
    else:
        console = Console()
        with console.capture() as table:  # printed by rich itself, a closed pipe would end the program
            console.print(terminal(comparison.metrics, console.width))
        print(table.get(), end="")
        print(f"\n{textwrap.fill(printable(verdict(comparison.metrics)), console.width)}\n")
        display(f"report: {page}")
    _warn(failed)


def path(folder: Path, style: str, as_json: bool) -> None:
    """Write the report of a comparison or of a run, or its pictures in a style for papers, and print the path."""
    of_run = (folder / "case.toml").is_file() and not (folder / COMPARISON).exists()
    if not of_run and not any((folder / name).exists() for name in (COMPARISON, "metrics.json", "comparison.zarr")):
        remedy = "Remedy: the folder of `subgrid run` or `subgrid compare`, or that of one point of a sweep"
        raise ValueError(f"{folder} holds no run and no comparison. {remedy}")
    if of_run:
        title, found = of_runs.read(folder)
        drawable = of_runs.plots(found)
    else:
        comparison = Comparison.load(folder)
        drawable = plots(comparison.metrics, comparison.dataset)
    if style != "page":
        page, failed = papers.write(drawable, folder, style)
    elif of_run:
        page, failed = of_runs.write(title, drawable, folder)
    else:
        page, failed = write(comparison.metrics, comparison.dataset, folder)
    if as_json:
        print(json.dumps({"report": str(page)}, indent=1))
    else:
        display(str(page))
    _warn(failed)


def _warn(failed: dict[str, str]) -> None:
    for name, reason in failed.items():
        print(printable(f"picture {name} could not be drawn: {reason}"), file=sys.stderr)
