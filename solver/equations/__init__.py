"""The equations, by name."""

from __future__ import annotations

from .advection import LinearAdvection
from .base import Equation, Field
from .burgers.line import Burgers
from .burgers.plane import Burgers2D
from .kolmogorov.equation import Kolmogorov
from .oscillator import Oscillator
from .particles.equation import ChargedParticles
from .shallow_water.equation import ShallowWater
from .vlasov_poisson.equation import VlasovPoisson

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
