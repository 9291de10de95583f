"""The equations, by name."""

from __future__ import annotations

from .advection import LinearAdvection
from .base import Equation, Field
from .burgers import Burgers
from .burgers_2d import Burgers2D
from .charged_particles import ChargedParticles
from .kolmogorov import Kolmogorov
from .oscillator import Oscillator
from .shallow_water import ShallowWater
from .vlasov_poisson import VlasovPoisson

EQUATIONS: dict[str, type[Equation]] = {
    e.name: e
    for e in (
        LinearAdvection,
        Burgers,
        Burgers2D,
        Kolmogorov,
        ShallowWater,
        VlasovPoisson,
        ChargedParticles,
        Oscillator,
    )
}

__all__ = [
    "EQUATIONS",
    "Burgers",
    "Burgers2D",
    "ChargedParticles",
    "Equation",
    "Field",
    "Kolmogorov",
    "LinearAdvection",
    "Oscillator",
    "ShallowWater",
    "VlasovPoisson",
]
