"""The equations, by name."""

from __future__ import annotations

from .advection import LinearAdvection
from .base import Equation, Field
from .burgers import Burgers
from .kolmogorov import Kolmogorov
from .shallow_water import ShallowWater

EQUATIONS: dict[str, type[Equation]] = {e.name: e for e in (LinearAdvection, Burgers, Kolmogorov, ShallowWater)}

__all__ = ["EQUATIONS", "Burgers", "Equation", "Field", "Kolmogorov", "LinearAdvection", "ShallowWater"]
