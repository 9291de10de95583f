"""What runs of the shallow-water equations measure, and fields that follow from the state."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..quantities import Derived, Quantity

QUANTITIES: dict[str, Quantity] = {
    "mass": Quantity("length", "mean depth <h>"),
    "momentum_x": Quantity("length^2/time", "mean momentum <h u>"),
    "momentum_y": Quantity("length^2/time", "mean momentum <h v>"),
    "energy": Quantity("length^3/time^2", "kinetic and potential energy per area"),
    "kinetic": Quantity("length^3/time^2", "kinetic energy <h |u|^2>/2"),
    "potential": Quantity("length^3/time^2", "potential energy <g h^2/2 + g h b>"),
    "froude": Quantity("1", "largest Froude number |u|/sqrt(g h) of the wet cells"),
}
DERIVED: dict[str, Derived] = {
    "surface": Derived("length", "surface elevation h + b", lambda e, u, grid: e.surface(u, grid)),
    "velocity_x": Derived("length/time", "u", lambda e, u, grid: e.velocities(u)[0]),
    "velocity_y": Derived("length/time", "v", lambda e, u, grid: e.velocities(u)[1]),
}


def measured(
    state: NDArray, u: NDArray, v: NDArray, bottom: NDArray | float, gravity: float, dry_depth: float
) -> dict[str, NDArray]:
    """kinetic, potential and froude of QUANTITIES, (member,), of a state with the velocities u and v."""
    h = state[:, 0]
    wet = h > dry_depth
    squared = np.where(wet, u * u + v * v, 0.0) / (gravity * np.where(wet, h, 1.0))  # of the Froude number
    return {
        "kinetic": 0.5 * (u * state[:, 1] + v * state[:, 2]).mean((-2, -1)),
        "potential": (gravity * h * (0.5 * h + bottom)).mean((-2, -1)),
        "froude": np.sqrt(squared.max((-2, -1))),
    }
