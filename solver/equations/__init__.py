"""The equations, by name."""

from __future__ import annotations

from .advection import LinearAdvection
from .base import Equation, Field
from .burgers import Burgers
from .charged_particles import ChargedParticles
from .kolmogorov import Kolmogorov
from .shallow_water import ShallowWater
from .vlasov_poisson import VlasovPoisson

EQUATIONS: dict[str, type[Equation]] = {
    e.name: e for e in (LinearAdvection, Burgers, Kolmogorov, ShallowWater, VlasovPoisson, ChargedParticles)
}

__all__ = [
    "EQUATIONS",
    "Burgers",
    "ChargedParticles",
    "Equation",
    "Field",
    "Kolmogorov",
    "LinearAdvection",
    "ShallowWater",
    "VlasovPoisson",
]
