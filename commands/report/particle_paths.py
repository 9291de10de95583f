"""Paths of particles in the x-y plane, as a picture and as an animation.

Positions are (frame, coordinate, entity); those of the reference come first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import cycle, islice
from typing import TYPE_CHECKING

import numpy as np

from .drawing import PALETTE

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes

TAIL = 8  # earlier frames of a path that the animation draws


def of_entities(comparison: xr.Dataset) -> bool:
    """Whether the frames hold positions of entities rather than a field on a grid."""
    return "entity" in comparison["frames"].dims


def still(axes: list[Axes], positions: list[np.ndarray], units: str) -> None:
    """Draw the paths of every source, from a ring to a dot, one colour per entity; the reference's are dotted."""
    for i, (a, here) in enumerate(_planes(axes, positions)):
        a.set_xlabel(f"x{units}")
        if i == 0 or a.get_subplotspec().is_first_col():  # type: ignore[union-attr]
            a.set_ylabel(f"y{units}")
        for (x, y), (x0, y0), color in zip(_each(here), _each(positions[0]), _colours(here), strict=True):
            if i:
                a.plot(x0, y0, color="black", linestyle=(0, (1, 1.2)), linewidth=0.9)
            a.plot(x, y, color=color, linewidth=1.3)
            a.plot(x[0], y[0], "o", color=color, markerfacecolor="white", markersize=4.5)
            known = np.flatnonzero(np.isfinite(x))
            if known.size:
                a.plot(x[known[-1]], y[known[-1]], "o", color=color, markersize=4.5)


def moving(axes: list[Axes], positions: list[np.ndarray]) -> Callable[[int], None]:
    """Draw the entities of every source as dots with a tail; returns a function that shows one frame."""
    drawn = []
    for a, here in _planes(axes, positions):
        a.set(xticks=[], yticks=[])
        for path, color in zip(_each(here), _colours(here), strict=True):
            (tail,) = a.plot([], [], color=color, linewidth=1.2, alpha=0.6)
            (dot,) = a.plot([], [], "o", color=color, markersize=5)
            drawn.append((tail, dot, path))

    def show(frame: int) -> None:
        for tail, dot, (x, y) in drawn:
            first = max(0, frame - TAIL)
            tail.set_data(x[first : frame + 1], y[first : frame + 1])
            dot.set_data(x[frame : frame + 1], y[frame : frame + 1])

    return show


def _planes(axes: list[Axes], positions: list[np.ndarray]) -> Iterator[tuple[Axes, np.ndarray]]:
    """The axes of each source, square and to scale, with limits that contain the reference."""
    plane = positions[0][:, :2]
    finite = plane[np.isfinite(plane).all(axis=(1, 2))]
    low, high = finite.min(axis=(0, 2)), finite.max(axis=(0, 2))
    middle, half = (low + high) / 2, 0.55 * float((high - low).max()) or 1.0
    for a, here in zip(axes, positions, strict=False):
        a.set_axis_on()
        a.set_box_aspect(1)
        a.spines[:].set_visible(True)
        a.tick_params(labelsize=8, length=3)
        a.locator_params(nbins=5)
        a.set(xlim=(middle[0] - half, middle[0] + half), ylim=(middle[1] - half, middle[1] + half))
        yield a, here


def _each(positions: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """x and y over time, (frame,), of every entity."""
    return ((positions[:, 0, i], positions[:, 1, i]) for i in range(positions.shape[-1]))


def _colours(positions: np.ndarray) -> Iterator[str]:
    return islice(cycle(PALETTE), positions.shape[-1])
