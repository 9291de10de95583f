"""The equations, by name."""

from __future__ import annotations

from .advection import LinearAdvection
from .base import Equation, Field
from .burgers import Burgers
from .kolmogorov import Kolmogorov

EQUATIONS: dict[str, type[Equation]] = {e.name: e for e in (LinearAdvection, Burgers, Kolmogorov)}

__all__ = ["EQUATIONS", "Burgers", "Equation", "Field", "Kolmogorov", "LinearAdvection"]
