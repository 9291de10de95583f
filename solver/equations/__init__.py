"""The equations, by name."""

from __future__ import annotations

from .advection import LinearAdvection
from .base import Equation, Field
from .burgers import Burgers
from .kolmogorov import Kolmogorov
from .shallow_water import ShallowWater
from .vlasov_poisson import VlasovPoisson

EQUATIONS: dict[str, type[Equation]] = {
    e.name: e for e in (LinearAdvection, Burgers, Kolmogorov, ShallowWater, VlasovPoisson)
}

__all__ = [
    "EQUATIONS",
    "Burgers",
    "Equation",
    "Field",
    "Kolmogorov",
    "LinearAdvection",
    "ShallowWater",
    "VlasovPoisson",
]
