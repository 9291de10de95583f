"""The fields of a report: one member of every run beside the reference, as pictures and as an animation."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ..comparison.results import Metrics
from . import particle_paths as paths
from .drawing import WIDTH, Look, Plot, bracketed, canvas, legend, legible, looks, size, style, with_units
from .scales import scale, typical

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage
    from matplotlib.lines import Line2D
    from PIL import Image

    Motion = tuple[Figure, Callable[[int], None]]

FRAMES = 40
BYTES = 1_500_000


def plots(metrics: Metrics, comparison: xr.Dataset) -> dict[str, Plot]:
    """`snapshots` (2D), `spacetime` and `profiles` (1D), or `paths` (particles), by name."""
    names = ", ".join(row.name for row in metrics.rows)
    field, last = _field(comparison), f"t = {float(comparison['frame_time'].values[-1]):.3g}"
    now, history = f"{field} at {last}, and its error", f"{field} in space and time, and its error"
    if paths.of_entities(comparison):
        drawn = {"paths": (_paths, f"paths in the x-y plane up to {last}")}
    elif comparison["frames"].ndim == 3:
        drawn = {"spacetime": (_maps, history), "profiles": (_profiles, now)}
    else:
        drawn = {"snapshots": (_maps, now)}
        if "bed" in comparison:
            drawn["section"] = (_section, f"surface over the bed at {last}, along the middle of the domain")
    return {
        name: Plot(title, f"{title}, side by side for the reference, {names}.", partial(plot, metrics, comparison))
        for name, (plot, title) in drawn.items()
    }


def animation(metrics: Metrics, comparison: xr.Dataset) -> tuple[str, str, bytes]:
    """Title, alternative text and a looping GIF of the fields, of at most `FRAMES` frames and about `BYTES` bytes.

    A field with much detail compresses badly: first the number of colours is reduced, then that of frames, then the
    size, until the file is small enough.
    """
    count = comparison.sizes["frame"]
    picks = np.unique(np.linspace(0, count - 1, min(count, FRAMES)).round().astype(int))
    with style(**{"axes.titlelocation": "center"}):
        film = _film(metrics, comparison, picks)
    for colours, stride, factor in (
        (128, 1, 1.0),
        (64, 1, 1.0),
        (32, 1, 1.0),
        (48, 2, 1.0),
        (32, 2, 0.7),
        (16, 4, 0.5),
    ):
        data = _gif(film[::stride], colours, factor)
        if len(data) <= BYTES:
            break
    names = ", ".join(row.name for row in metrics.rows)
    field = _field(comparison)
    return f"{field}, animated", f"Animation of the {field} for the reference, {names}.", data


def _attributes(comparison: xr.Dataset) -> dict[str, Any]:
    return {**comparison.attrs, **comparison["frames"].attrs}


def _field(comparison: xr.Dataset) -> str:
    return str(_attributes(comparison).get("field", "field"))


def _labelled(comparison: xr.Dataset, name: str) -> str:
    return bracketed(name, _attributes(comparison).get("units"))


def _fields(metrics: Metrics, comparison: xr.Dataset) -> dict[Look, np.ndarray]:
    """Frames of every source, shape (frame, *axes), the reference first; nan where not finite."""
    frames = {look: comparison["frames"].sel(source=look.name).values for look in looks(metrics.rows)}
    return {look: np.where(np.isfinite(values), values, np.nan) for look, values in frames.items()}


def _errors(fields: dict[Look, np.ndarray]) -> dict[Look, np.ndarray]:
    """Each run minus the reference."""
    reference, *runs = fields
    return {look: fields[look] - fields[reference] for look in runs}


def _intact(fields: dict[Look, np.ndarray]) -> np.ndarray:
    """The values that set the scale: those of the runs that finished, or of all runs if none did."""
    return np.stack([v for look, v in fields.items() if not look.failed] or list(fields.values()))


def _extent(x: np.ndarray, y: np.ndarray) -> tuple[float, float, float, float]:
    """Outer edges (left, right, bottom, top) of cells with these centres."""
    edges: list[float] = []
    for centres in (x, y):
        half = (centres[-1] - centres[0]) / (2 * max(len(centres) - 1, 1)) or 0.5
        edges += [float(centres[0] - half), float(centres[-1] + half)]
    return edges[0], edges[1], edges[2], edges[3]


def _plane(comparison: xr.Dataset) -> tuple[xr.DataArray, xr.DataArray]:
    """The horizontal and the vertical axis of a map: the axes of the grid, or in 1D the axis and time."""
    *_, up, along = (comparison[d] for d in comparison["frames"].dims)
    return along, comparison["frame_time"] if up.name == "frame" else up


def _axis_label(axis: xr.DataArray) -> str:
    return with_units("time" if axis.name == "frame_time" else str(axis.name), axis)


def _panels(count: int, lines: int, shape: float, width: float) -> tuple[Figure, np.ndarray]:
    """Axes for `count` sources, few enough in a line, with `lines` panels each; shape: height over width."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    fit = size().across if shape > 0.5 else max(1, size().across // (2 if shape > 0.2 else 4))
    blocks = -(-count // fit)
    across = -(-count // blocks)
    side = min((width - 1.2) / across, 3.4 if shape > 0.4 else width, 4.5 / shape)
    inches = (width, blocks * (lines * side * shape + 0.75) + 0.3)
    figure = Figure(inches, layout=ConstrainedLayoutEngine(compress=True, w_pad=0.03, h_pad=0.03, wspace=0, hspace=0))
    axes = figure.subplots(lines * blocks, across, sharex=True, sharey=True, squeeze=False)
    for a in axes.flat:
        a.set_axis_off()
    return figure, axes


def _map(a: Axes, comparison: xr.Dataset, values: np.ndarray, shape: float, limits: dict[str, Any]) -> AxesImage:
    """One field as an image with its axes drawn."""
    along, up = _plane(comparison)
    a.set_axis_on()
    a.grid(False)
    a.set_box_aspect(shape)
    a.spines[:].set_visible(True)
    a.tick_params(labelsize=8, length=3)
    a.locator_params(nbins=4)
    a.locator_params(axis="y", nbins=4 if shape > 0.4 else 2)
    return a.imshow(values, origin="lower", aspect="auto", extent=_extent(along.values, up.values), **limits)


def _head(a: Axes, look: Look, color: str) -> None:
    """The name of the source above its panel, wrapped to the width of the panel."""
    a.set_title("\n".join(textwrap.wrap(look.label, 17)), fontsize=9.5, color=color, fontweight="bold")


def _shape(comparison: xr.Dataset) -> float:
    """Height over width of a map: that of the domain if both axes are lengths, else 1."""
    along, up = _plane(comparison)
    left, right, bottom, top = _extent(along.values, up.values)
    lengths = up.name not in ("frame_time", "v") and along.attrs.get("units") == up.attrs.get("units")
    return legible((top - bottom) / (right - left)) if lengths else 1.0


def _maps(metrics: Metrics, comparison: xr.Dataset) -> Figure:
    """The field of every source and below it the error: at the last frame in 2D, in space and time in 1D."""
    moment = -1 if comparison["frames"].ndim == 4 else slice(None)
    fields = {look: values[moment] for look, values in _fields(metrics, comparison).items()}
    errors = _errors(fields)
    scales = (scale(next(iter(fields.values())), "RdBu_r"), scale(typical(_intact(errors)), "PuOr_r"))
    names = (_labelled(comparison, _field(comparison)), _labelled(comparison, "error"))
    shape = _shape(comparison)
    figure, axes = _panels(len(fields), 2, shape, size().width)
    when = "" if comparison["frames"].ndim == 3 else f"t = {float(comparison['frame_time'].values[-1]):.3g}\n\n"
    along, up = _plane(comparison)
    across = axes.shape[1]
    for i, look in enumerate(fields):
        line, column = 2 * (i // across), i % across
        _head(axes[line, column], look, look.color)
        for below, (group, limits) in enumerate(zip((fields, errors), scales, strict=True)):
            if look not in group:
                continue
            a = axes[line + below, column]
            image = _map(a, comparison, group[look], shape, limits)
            if column == 0:
                a.set_ylabel(_axis_label(up))
            if below or look not in errors:  # below the reference there is no panel
                a.set_xlabel(_axis_label(along))
                a.tick_params(labelbottom=True)
            if column == across - 1 or look is list(fields)[-1]:
                label = names[below] if len(names[below]) < 24 else names[below].replace(" [", "\n[")
                figure.colorbar(image, ax=axes[line + below, :], label=label, aspect=16, pad=0.015, extend="both")
    note = {"transform": axes[1, 0].transAxes, "ha": "center", "va": "center", "color": "#59626d"}
    axes[1, 0].text(0.5, 0.5, f"{when}run minus\nreference", **note)
    return figure


def _profiles(metrics: Metrics, comparison: xr.Dataset) -> Figure:
    """The last frame of every source in one plot, and below it the errors."""
    x = _plane(comparison)[0]
    fields = {look: values[-1:] for look, values in _fields(metrics, comparison).items()}
    figure, axes = canvas(2, 1, 6.0, sharex=True)
    for a, group, name in zip(axes.flat, (fields, _errors(fields)), (_field(comparison), "error"), strict=True):
        _lines(a, x, group, _labelled(comparison, name))
    axes[0, 0].set_title(f"{_field(comparison)} at t = {float(comparison['frame_time'].values[-1]):.3g}")
    axes[1, 0].set_xlabel(_axis_label(x))
    legend(figure, axes[0, 0])
    return figure


def _section(metrics: Metrics, comparison: xr.Dataset) -> Figure:
    """The surface of every source over the bed, along the middle of the longer side of the domain, and its error."""
    along, up = _plane(comparison)
    bed = comparison["bed"].values
    wide = np.ptp(along.values) >= np.ptp(up.values)
    cut: Any = np.s_[len(up) // 2, :] if wide else np.s_[:, len(along) // 2]
    axis, fixed = (along, up) if wide else (up, along)
    figure, axes = canvas(2, 1, 6.0, sharex=True, height_ratios=(2, 1))
    surface, error = axes[:, 0]
    fields = {look: values[-1][cut] for look, values in _fields(metrics, comparison).items()}
    for i, (look, depth) in enumerate(fields.items()):
        surface.plot(axis.values, depth + bed[cut], label=look.label, **look.line)
        if i:
            error.plot(axis.values, depth - next(iter(fields.values())), **look.line)
    low, high = (
        bed[cut].min(),
        max(bed[cut].max(), *(np.max(d + bed[cut], where=np.isfinite(d), initial=-np.inf) for d in fields.values())),
    )
    surface.set_ylim(low - 0.08 * (high - low), high + 0.08 * (high - low))
    surface.fill_between(axis.values, surface.get_ylim()[0], bed[cut], color="#b9a88f", linewidth=0, label="bed")
    unit = _attributes(comparison).get("units")
    last, place = float(comparison["frame_time"].values[-1]), float(fixed.values[len(fixed) // 2])
    title = f"Surface at t = {last:.3g}, {fixed.name} = {place:.3g}"
    surface.set(ylabel=bracketed("surface and bed", unit), title=title)
    error.set(xlabel=_axis_label(axis), ylabel=bracketed("run minus\nreference", unit))
    error.margins(x=0)
    legend(figure, surface)
    return figure


def _lines(a: Axes, x: xr.DataArray, group: dict[Look, np.ndarray], name: str) -> list[Line2D]:
    """A curve for the first frame of each source; the runs that finished set the limits with all their frames."""
    intact = _intact(group)
    if np.isfinite(intact).any():
        margin = 0.08 * (np.nanmax(intact) - np.nanmin(intact)) or 1.0
        a.set_ylim(np.nanmin(intact) - margin, np.nanmax(intact) + margin)
    a.margins(x=0)
    a.set_ylabel(name)
    return [a.plot(x.values, values[0], label=look.label, **look.line)[0] for look, values in group.items()]


def _paths(metrics: Metrics, comparison: xr.Dataset) -> Figure:
    """The paths of the entities of every source."""
    fields = _fields(metrics, comparison)
    figure, axes = _panels(len(fields), 1, 1.0, size().width)
    for a, look in zip(axes.flat, fields, strict=False):
        _head(a, look, look.color)
    paths.still(list(axes.flat), list(fields.values()), _labelled(comparison, ""))
    return figure


def _film(metrics: Metrics, comparison: xr.Dataset, picks: np.ndarray) -> list[Image.Image]:
    """The picked frames as images, each with all sources."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    fields = {look: values[picks] for look, values in _fields(metrics, comparison).items()}
    moving = _moving_maps if comparison["frames"].ndim == 4 else _moving_lines
    figure, show = (_moving_paths if paths.of_entities(comparison) else moving)(comparison, fields)
    figure.set_dpi(90)
    agg = FigureCanvasAgg(figure)
    film = []
    for i, time in enumerate(comparison["frame_time"].values[picks]):
        show(i)
        figure.suptitle(f"{_labelled(comparison, _field(comparison))}, t = {time:.2f}", fontsize=11)
        agg.draw()
        figure.set_layout_engine("none")
        film.append(Image.fromarray(np.asarray(agg.buffer_rgba())).convert("RGB"))
    return film


def _moving_maps(comparison: xr.Dataset, fields: dict[Look, np.ndarray]) -> Motion:
    shape = _shape(comparison)
    limits = scale(next(iter(fields.values())), "RdBu_r")
    figure, axes = _panels(len(fields), 1, shape, 0.72 * WIDTH)
    images = []
    for a, (look, values) in zip(axes.flat, fields.items(), strict=False):
        images.append(_map(a, comparison, values[0], shape, limits))
        _head(a, look, "black")
        a.set(xticks=[], yticks=[])

    def show(frame: int) -> None:
        for image, values in zip(images, fields.values(), strict=True):
            image.set_data(values[frame])

    return figure, show


def _moving_lines(comparison: xr.Dataset, fields: dict[Look, np.ndarray]) -> Motion:
    x = _plane(comparison)[0]
    figure, axes = canvas(height=3.6)
    lines = _lines(axes[0, 0], x, fields, _labelled(comparison, _field(comparison)))
    axes[0, 0].set_xlabel(_axis_label(x))
    legend(figure, axes[0, 0])

    def show(frame: int) -> None:
        for line, values in zip(lines, fields.values(), strict=True):
            line.set_ydata(values[frame])

    return figure, show


def _moving_paths(comparison: xr.Dataset, fields: dict[Look, np.ndarray]) -> Motion:
    figure, axes = _panels(len(fields), 1, 1.0, 0.72 * WIDTH)
    for a, look in zip(axes.flat, fields, strict=False):
        _head(a, look, "black")
    return figure, paths.moving(list(axes.flat), list(fields.values()))


def _gif(film: list[Image.Image], colours: int, scale: float) -> bytes:
    """The images as a GIF with one palette, from the first, the middle and the last image."""
    from PIL import Image

    width, height = (round(scale * side) for side in film[0].size)
    film = [image.resize((width, height), Image.Resampling.LANCZOS) for image in film] if scale != 1 else film
    sample = Image.new("RGB", (width, 3 * height))
    for i, image in enumerate((film[0], film[len(film) // 2], film[-1])):
        sample.paste(image, (0, i * height))
    palette = sample.quantize(colours)
    first, *rest = (image.quantize(palette=palette, dither=Image.Dither.NONE) for image in film)
    buffer = io.BytesIO()
    duration = round(4000 / len(film))  # milliseconds; one loop takes four seconds
    first.save(buffer, "GIF", save_all=True, append_images=rest, duration=duration, loop=0, optimize=True)
    return buffer.getvalue()
