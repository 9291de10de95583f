"""What all pictures of a report share: Matplotlib's settings, the size of a figure, its palette and its legend.

The palette is that of Okabe and Ito (2008), https://jfly.uni-koeln.de/color/, which colour-blind readers can tell
apart.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..terminal import printable

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..comparison.results import Row

MARKERS = "Dosv^P*"
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#6A3D9A", "#8C564B")
DASHES = {"none": (0, (4, 1.5)), "oracle": (0, (1, 1))}
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.linewidth": 0.8,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.handlelength": 2.6,
    "image.interpolation": "nearest",
    "savefig.dpi": 160,
    "savefig.bbox": "tight",
}
WIDTH = 9.5  # inches; the page shows a picture about 1000 pixels wide, and 10 point type then has 14 pixels


@dataclass(frozen=True)
class Plot:
    """A picture of the report: its title, the text in its place where it cannot be seen, and how it is drawn."""

    title: str
    alt: str
    draw: Callable[[], Figure]

    def figure(self) -> Figure:
        """The picture as a figure, which needs no display."""
        with style():
            return self.draw()

    def png(self) -> bytes:
        """The picture as a file."""
        buffer = io.BytesIO()
        with style():
            self.draw().savefig(buffer, format="png", backend="agg")
        return buffer.getvalue()


@contextmanager
def style(**changes: Any) -> Iterator[None]:
    """Matplotlib's defaults with the settings of the report, whatever the user has set; the user's are restored."""
    matplotlib = _matplotlib()
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({**STYLE, **changes})
        yield


def _matplotlib() -> Any:
    """Matplotlib, whose import refuses a backend of MPLBACKEND that is not installed."""
    if "matplotlib" not in sys.modules:
        chosen = os.environ.pop("MPLBACKEND", None)
        try:
            import matplotlib
        finally:
            if chosen is not None:
                os.environ["MPLBACKEND"] = chosen
        with suppress(ValueError):
            matplotlib.rcParams.update({"backend": chosen} if chosen else {})
    import matplotlib

    return matplotlib


def literal(name: str) -> str:
    """The text of a name that Matplotlib neither takes for mathtext nor, for a leading underscore, leaves out."""
    text = printable(name).replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


@dataclass(frozen=True)
class Look:
    """How one source is drawn in every picture."""

    name: str
    color: str
    dash: Any = "solid"
    failed: bool = False
    width: float = 1.8
    marker: str = "D"

    @property
    def label(self) -> str:
        """The name as a legend shows it literally, and whether the run failed."""
        return literal(self.name) + (" (failed)" if self.failed else "")


def looks(rows: list[Row]) -> list[Look]:
    """The look of the reference, then that of each row in order. Rows of the same colour differ in their markers."""
    found, coloured = [Look("reference", "black", width=3.0)], 0
    for row in rows:
        color, marker = "#7a7a7a", MARKERS[0]
        if row.kind != "none":
            color, marker = PALETTE[coloured % len(PALETTE)], MARKERS[coloured // len(PALETTE) % len(MARKERS)]
            coloured += 1
        dash, failed = DASHES.get(row.kind, "solid"), row.failed is not None
        found.append(Look(row.name, color, dash, failed, marker=marker))
    return found


def canvas(rows: int = 1, columns: int = 1, height: float = 4.2, **options: Any) -> tuple[Figure, np.ndarray]:
    """A figure as wide as the page, and its axes as a (rows, columns) array."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def with_units(name: str, array: xr.DataArray) -> str:
    units = array.attrs.get("units")
    return f"{name} [{units}]" if units and units != "1" else name


def legend(figure: Figure, *axes: Axes) -> None:
    """One legend for the figure to the right of the axes, with each label once."""
    entries = {label: line for a in axes for line, label in zip(*a.get_legend_handles_labels(), strict=True)}
    figure.legend(list(entries.values()), list(entries), loc="outside right upper")
