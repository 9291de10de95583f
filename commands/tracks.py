"""Entities in a comparison: the tracks of one member, in every run beside the reference's, and their motion."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .pictures import PALETTE, STYLE, WIDTH, Picture, looks
from .snapshots import FRAMES, head, panels, write_gif
from .verdict import Metrics

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL import Image

TRAIL = 8  # frames that stay visible behind an entity in motion
FAINT = "#b4b4b4"


def draw(metrics: Metrics, comparison: xr.Dataset, folder: Path) -> dict[str, Picture]:
    """Draw `tracks.png`: where the entities went, in the x-y plane; returns the picture by name."""
    import matplotlib

    path = folder / "tracks.png"
    path.unlink(missing_ok=True)
    with matplotlib.rc_context(STYLE):
        figure, axes, places = _panels(metrics, comparison, WIDTH)
        for a, track in zip(axes, places, strict=True):
            for entity in range(track.shape[-1]):
                colour = PALETTE[entity % len(PALETTE)]
                if a is not axes[0]:
                    a.plot(*places[0][:, :, entity].T, color=FAINT, linewidth=3.0, zorder=1)
                a.plot(*track[:, :, entity].T, color=colour, linewidth=1.4, zorder=2)
                a.plot(*track[0, :, entity], "o", color=colour, markersize=4, zorder=3)
        figure.savefig(path)
    title = f"Tracks in the x-y plane up to t = {float(comparison['frame_time'].values[-1]):.3g}"
    names = ", ".join(row.name for row in metrics.rows)
    words = f"{title}, one colour an entity, dots where they start; the reference's in grey behind those of {names}."
    return {"tracks": Picture(path, title, words)}


def animate(metrics: Metrics, comparison: xr.Dataset, path: Path) -> Picture:
    """Write the entities in motion as a looping GIF of at most `FRAMES` frames."""
    import matplotlib

    count = comparison.sizes["frame"]
    picks = np.unique(np.linspace(0, count - 1, min(count, FRAMES)).round().astype(int))
    with matplotlib.rc_context({**STYLE, "axes.titlelocation": "center"}):
        write_gif(_film(metrics, comparison, picks), path)
    names = ", ".join(row.name for row in metrics.rows)
    return Picture(path, "Entities in motion", f"Animation of the entities for the reference, {names}.")


def _panels(metrics: Metrics, comparison: xr.Dataset, width: float) -> tuple[Figure, list[Axes], list[np.ndarray]]:
    """A panel for each source, true to scale, and its positions (frame, coordinate, entity), nan where not finite.

    The limits hold the reference, so that an entity that a run throws out does not shrink the rest.
    """
    places = []
    for look in looks(metrics.rows):
        values = comparison["frames"].sel(source=look.name).values.astype(float)
        places.append(np.where(np.isfinite(values), values, np.nan))
    low, high = np.nanmin(places[0], axis=(0, 2)), np.nanmax(places[0], axis=(0, 2))
    middle, half = (low + high) / 2, 0.55 * max(float((high - low).max()), 1e-12)
    figure, grid = panels(len(places), 1, 1.0, width)
    axes = list(grid.flat)[: len(places)]
    for a, look in zip(axes, looks(metrics.rows), strict=True):
        a.set_axis_on()
        a.set_box_aspect(1.0)
        a.set(xlim=(middle[0] - half, middle[0] + half), ylim=(middle[1] - half, middle[1] + half), xlabel="x")
        a.spines[:].set_visible(True)
        a.tick_params(labelsize=8, length=3)
        a.locator_params(nbins=4)
        head(a, look, look.color)
    axes[0].set_ylabel("y")
    return figure, axes, places


def _film(metrics: Metrics, comparison: xr.Dataset, picks: np.ndarray) -> list[Image.Image]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    figure, axes, places = _panels(metrics, comparison, 0.72 * WIDTH)
    lines = [
        [
            (a.plot([], [], color=PALETTE[i % len(PALETTE)], linewidth=1.2)[0], track[:, :, i])
            for i in range(track.shape[-1])
        ]
        for a, track in zip(axes, places, strict=True)
    ]
    dots = [
        [(a.plot([], [], "o", color=line.get_color(), markersize=5)[0], track) for line, track in pairs]
        for a, pairs in zip(axes, lines, strict=True)
    ]
    figure.set_dpi(90)
    agg = FigureCanvasAgg(figure)
    film = []
    for frame in picks:
        for pairs, ends in zip(lines, dots, strict=True):
            for (line, track), (dot, _) in zip(pairs, ends, strict=True):
                line.set_data(*track[max(0, frame - TRAIL) : frame + 1].T)
                dot.set_data(*track[frame : frame + 1].T)
        figure.suptitle(f"t = {float(comparison['frame_time'].values[frame]):.2f}", fontsize=11)
        agg.draw()
        figure.set_layout_engine("none")
        film.append(Image.fromarray(np.asarray(agg.buffer_rgba())).convert("RGB"))
    return film
