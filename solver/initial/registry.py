"""Initial states: one pydantic model per kind, and the exact solution that starts from it where there is one.

`state` gives (member, field, *grid): values at the points j L / n of a Fourier discretisation, averages over
the cells of a finite-volume one (of profiles by six-point Gauss quadrature).
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field as Option

from ..equations.burgers.initial import GaussianVelocity
from ..equations.kolmogorov.initial import TaylorGreen
from ..equations.oscillator import OscillatorFormula
from ..equations.particles.initial import RandomParticles, TwoBody
from ..equations.shallow_water.initial import DamBreak, GaussianHump, LakeAtRest, RadialDamBreak, RandomSurface, Thacker
from ..equations.vlasov_poisson.initial import BumpOnTail, Landau, TwoStream, TwoStreamHypar
from .file import File, Reference
from .profiles import BurgersDirichlet, GaussianPulse, Riemann, Sine
from .random_field import GaussianRandomField

Initial = Annotated[
    GaussianRandomField
    | TaylorGreen
    | Sine
    | GaussianPulse
    | Riemann
    | BurgersDirichlet
    | Landau
    | TwoStream
    | TwoStreamHypar
    | BumpOnTail
    | RandomSurface
    | RandomParticles
    | TwoBody
    | LakeAtRest
    | DamBreak
    | RadialDamBreak
    | GaussianHump
    | Thacker
    | GaussianVelocity
    | OscillatorFormula
    | File
    | Reference,
    Option(discriminator="kind"),
]
