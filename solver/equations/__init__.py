"""Registry of equations: those of the package, entry points of `subgrid.equations`, and "file.py:Class"."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .base import Equation, Field
from .plugins import Registry

if TYPE_CHECKING:
    from .advection import LinearAdvection
    from .burgers.line import Burgers
    from .burgers.plane import Burgers2D
    from .kolmogorov.equation import Kolmogorov
    from .oscillator import Oscillator
    from .particles.equation import ChargedParticles
    from .shallow_water.equation import ShallowWater
    from .tracers.equation import Tracers
    from .vlasov_poisson.equation import VlasovPoisson

_MODULES = {
    "LinearAdvection": "advection",
    "Burgers": "burgers.line",
    "Burgers2D": "burgers.plane",
    "Kolmogorov": "kolmogorov.equation",
    "ShallowWater": "shallow_water.equation",
    "VlasovPoisson": "vlasov_poisson.equation",
    "ChargedParticles": "particles.equation",
    "Tracers": "tracers.equation",
    "Oscillator": "oscillator",
}
_NAMES = {
    "advection": "LinearAdvection",
    "burgers": "Burgers",
    "burgers-2d": "Burgers2D",
    "kolmogorov": "Kolmogorov",
    "shallow-water": "ShallowWater",
    "vlasov-poisson": "VlasovPoisson",
    "charged-particles": "ChargedParticles",
    "tracers": "Tracers",
    "oscillator": "Oscillator",
}

EQUATIONS: Registry[type[Equation]] = Registry(
    "subgrid.equations",
    "equation",
    Equation,
    {name: f"{__name__}.{_MODULES[of]}:{of}" for name, of in _NAMES.items()},
    required=("name", "dimensions", "fields"),
)

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
    "Tracers",
    "VlasovPoisson",
]


def __getattr__(name: str) -> Any:
    """Import the module of an equation on first access to its class."""
    if name in _MODULES:
        return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
