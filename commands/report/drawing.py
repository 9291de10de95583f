"""What all pictures of a report share: Matplotlib's settings, the size of a figure, its palette and its legend.

The palette is that of Okabe and Ito (2008), https://jfly.uni-koeln.de/color/, which colour-blind readers can tell
apart.
"""

from __future__ import annotations

import io
import os
import re
import sys
import textwrap
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..terminal import printable

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

    from ..comparison.results import Row

ROUND_OFF = 1e-14  # errors below it are none
MARKERS = "Dosv^P*"
RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#6A3D9A")
NONE, ORACLE = "#7a7a7a", "#8C564B"
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


@dataclass(frozen=True)
class Size:
    """The width of a figure in inches, its type in points, and how many panels fit beside each other."""

    width: float
    points: float
    across: int


SIZES = {  # the page shows a picture about 1000 pixels wide, and 10 point type then has 14 pixels
    "page": Size(9.5, 10, 5),
    "one-column": Size(3.5, 8, 2),
    "two-column": Size(7.1, 8, 4),
}
PAPER = 9.5  # the height of a column of a paper in inches
WIDTH = SIZES["page"].width
_SIZE: ContextVar[Size] = ContextVar("the size of figures", default=SIZES["page"])
# The colour of a closure is that of its name, in every picture and report: first those that meet most often.
NAMES = (
    "regression", "smagorinsky", "latent-diffusion", "spectral-viscosity", "leith", "equation-discovery",
    "hyperviscosity", "regression-rollout", "lasdi", "mi2a", "lam-slide", "backscatter", "biharmonic", "gradient",
    "dynamic-smagorinsky", "hyperdiffusion", "lenard-bernstein", "ou-displacement", "correlated-velocity", "model",
)  # fmt: skip


@dataclass(frozen=True)
class Plot:
    """A picture of the report: its title, the text in its place where it cannot be seen, and how it is drawn."""

    title: str
    alt: str
    draw: Callable[[], Figure]

    def figure(self) -> Figure:
        """The picture as a figure, which needs no display."""
        with style():
            found = self.draw()
        if size() is not SIZES["page"]:
            for axes in found.axes:  # the caption of a paper says it; what fits names a panel
                if len(axes.get_title("left")) > 11 * size().width:
                    axes.set_title("", loc="left")
        return found

    def png(self) -> bytes:
        """The picture as a file."""
        return self.file("png")

    def file(self, kind: Literal["png", "pdf"]) -> bytes:
        """The picture as PNG or PDF; the same numbers give the same bytes."""
        buffer = io.BytesIO()
        exact = {} if size() is SIZES["page"] else {"savefig.bbox": "standard", "savefig.dpi": 300}
        figure = self.figure()
        with style(**exact):
            options: dict[str, Any] = {"backend": "agg"} if kind == "png" else {"metadata": {"CreationDate": None}}
            figure.savefig(buffer, format=kind, **options)
        return buffer.getvalue()


def size() -> Size:
    """The size of figures that are drawn now."""
    return _SIZE.get()


@contextmanager
def sized(name: str) -> Iterator[None]:
    """Draw figures in one of SIZES. Raises ValueError, with the known names."""
    if name not in SIZES:
        raise ValueError(f"--style: expected one of {', '.join(SIZES)}, found {name!r}")
    token = _SIZE.set(SIZES[name])
    try:
        yield
    finally:
        _SIZE.reset(token)


@contextmanager
def style(**changes: Any) -> Iterator[None]:
    """Matplotlib's defaults with the settings of the report, whatever the user has set; the user's are restored."""
    matplotlib = _matplotlib()
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        points = size().points
        type_size = {"font.size": points, "axes.titlesize": points + 1, "legend.fontsize": points - 1}
        matplotlib.rcParams.update({**STYLE, **(type_size if points < 10 else {}), **changes})
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

    @property
    def line(self) -> dict[str, Any]:
        """How Matplotlib draws its curves; a dashed one lies over a solid one, which shows through where they agree."""
        above = {} if self.dash == "solid" else {"zorder": 2.5}
        return {"color": self.color, "linestyle": self.dash, "linewidth": self.width, **above}


def slots(names: list[str]) -> list[int]:
    """A place in the palette for each name: its own, or the next free one where another name has it.

    Names that ship come first, so that no other name takes their colour.
    """
    found: dict[int, int] = {}
    for i in sorted(range(len(names)), key=lambda i: names[i] not in NAMES):
        name, taken = names[i], set(found.values())
        slot = NAMES.index(name) if name in NAMES else zlib.crc32(name.encode()) % len(PALETTE)
        colours = {s % len(PALETTE) for s in taken}
        slot = next((s for s in range(slot, slot + len(PALETTE)) if s % len(PALETTE) not in colours), slot)
        while slot in taken:  # more names than colours: another marker
            slot += len(PALETTE)
        found[i] = slot
    return [found[i] for i in range(len(names))]


def looks(rows: list[Row]) -> list[Look]:
    """The look of the reference, then that of each row in order. Rows of the same colour differ in their markers.

    The colour follows from the name, so that a run has the same one in every picture and report. Later curves are
    thinner, so that those that they cover can be seen.
    """
    found = [Look("reference", "black", width=3.4)]
    widths = iter(np.linspace(2.4, 1.4, max(2, sum(row.kind not in ("none", "oracle") for row in rows))))
    places = iter(slots([row.name for row in rows if row.kind not in ("none", "oracle")]))
    for row in rows:
        color, marker, width = *((NONE, MARKERS[0]) if row.kind == "none" else (ORACLE, MARKERS[1])), 1.8
        if row.kind not in ("none", "oracle"):
            place, width = next(places), float(next(widths))
            color, marker = PALETTE[place % len(PALETTE)], MARKERS[place // len(PALETTE) % len(MARKERS)]
        dash, failed = DASHES.get(row.kind, "solid"), row.failed is not None
        found.append(Look(row.name, color, dash, failed, width, marker))
    return found


def colours(names: list[str]) -> list[str]:
    """The colours of rows of which only the names are known; the same as those of `looks`."""
    kept = {"none": NONE, "oracle": ORACLE}
    places = iter(slots([name for name in names if name not in kept]))
    return [kept[name] if name in kept else PALETTE[next(places) % len(PALETTE)] for name in names]


def legible(shape: float) -> float:
    """Height over width of a map of a domain; of a domain that is much longer than wide the axes differ in scale."""
    return float(np.clip(shape, 1 / 8, 8))


def plain_logarithm(axis: Axis) -> None:
    """Label a logarithmic axis by plain numbers of few digits, else by powers of ten, and never by both.

    Over about two decades 2 and 5 times a power of ten have labels, too; on a horizontal axis, where they are wide,
    over one decade only if they are no plain numbers.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    if high > 1e5 * low:
        return
    plain = low >= 0.5e-3 and high < 1e5
    room = 400 if getattr(axis, "axis_name", "x") == "y" else 150 if plain else 12
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < room * low else (1,)))
    axis.set_major_formatter("{x:g}" if plain else FuncFormatter(_power))
    axis.set_minor_formatter(NullFormatter())


def _power(value: float, _: int = 0) -> str:
    """A number of one digit times a power of ten, as mathtext."""
    exponent = int(np.floor(np.log10(value) + 1e-9))
    digit = value / 10.0**exponent
    return rf"$10^{{{exponent}}}$" if abs(digit - 1) < 1e-6 else rf"${digit:.3g}\times10^{{{exponent}}}$"


def canvas(
    rows: int = 1, columns: int = 1, height: float = 4.2, panels: int | None = None, **options: Any
) -> tuple[Figure, np.ndarray]:
    """A figure of the size that is set, and its axes as a (rows, columns) array.

    height: in inches on the page. In one column the panels of a row stand below each other, and there are as many axes
    as `panels` says, (panels, 1).
    """
    from matplotlib.figure import Figure

    here = size()
    if here.across < 3 <= 2 * columns:
        count = panels or rows * columns
        tall = min(0.3 + columns * height * 0.62 * count / (rows * columns), PAPER)
        figure = Figure(figsize=(here.width, tall), layout="constrained")
        axes = figure.subplots(count, 1, squeeze=False, **options)
        return figure, axes if panels else axes.reshape(rows, columns)
    scale = max(here.width / WIDTH, 0.62)
    figure = Figure(figsize=(here.width, height * scale), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def with_units(name: str, array: xr.DataArray) -> str:
    """The name with its unit in brackets, where it has one; time is in units of time."""
    return bracketed(name, array.attrs.get("units"))


def described(array: xr.DataArray) -> str:
    """The title of a panel: what the quantity is, in lines that fit; empty if the data do not say it."""
    return "\n".join(textwrap.wrap(literal(str(array.attrs.get("long_name", ""))), 42))


def bracketed(name: str, unit: str | None) -> str:
    """name [unit]; powers of units as raised numbers."""
    if not unit or unit in ("1", name):
        return name
    raised = re.sub(r"\^(-?[0-9]+)", lambda match: match[1].translate(RAISED), unit)
    return f"{name} [{raised}]"


def legend(figure: Figure, *axes: Axes, free: Axes | None = None) -> None:
    """One legend for the figure, with each label once: to the right of the axes, or below them in one column.

    free: a panel that nothing is drawn in, which takes the legend.
    """
    entries = {label: line for a in axes for line, label in zip(*a.get_legend_handles_labels(), strict=True)}
    if free is not None:
        free.legend(list(entries.values()), list(entries), loc="upper left", borderaxespad=0)
        return
    narrow = size().across < 3
    place: dict[str, Any] = {"loc": "outside lower left", "ncols": 2} if narrow else {"loc": "outside right upper"}
    figure.legend(list(entries.values()), list(entries), **place)
