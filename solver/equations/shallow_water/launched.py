"""Shallow water on a CUDA device: rates, sweeps and friction by one kernel each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ...backend import Launcher, real_type
from ...spectral import Operators
from ..device_terms import DeviceTerms
from . import array_code
from .compiled import with_ghosts
from .pointwise_kernels import ROUND_OFF

if TYPE_CHECKING:
    from .equation import ShallowWater

Array = Any


class LaunchedBalance:
    """`ShallowWater.nonlinear`, `flow` and `relax` for states (member, 3, y, x), without prescribed sides and rain."""

    def __init__(self, equation: ShallowWater, operators: Operators, launch: Launcher) -> None:
        self._equation, self._operators, self._launch = equation, operators, launch
        grid, asarray, sides = operators.grid, launch.double.asarray, equation.boundary.all
        bottom = equation.bottom(grid)
        self._bottomed = bottom is not None
        self._ground = asarray(np.zeros((1, 1)) if bottom is None else bottom.copy())
        self._columns, self._turn_x = (asarray(a) for a in with_ghosts(grid.shape[1], *sides[:2], "float64"))
        self._rows, self._turn_y = (asarray(a) for a in with_ghosts(grid.shape[0], *sides[2:], "float64"))
        self._whole = asarray(np.array([0.0, 0.0, 1.0]))
        flow = self.flow if equation.source is None else None
        law = equation.resistance
        self.terms = DeviceTerms(self.rate, flow, None if law.quadratic or law.linear else self.relax)
        self._wide, self._spacing = equation.reconstruction == "weno5", grid.spacing

    def rate(self, u: Array, t: float) -> Array:
        out = self._balanced(u, u, self._whole, "xy", self._equation.rotation, self._wide)
        return self._equation.forced(self._operators, out, t)

    def _balanced(self, u: Array, base: Array, weights: Array, axes: str, coriolis: float, wide: bool = False) -> Array:
        """weights_0 base + weights_1 u + weights_2 N(u), N of the fluxes along the axes; wide: by WENO5."""
        from . import cuda_kernels

        out = self._operators.xp.empty_like(u)
        members, _, *shape = u.shape
        kernel = cuda_kernels.balance(self._bottomed, wide, "x" in axes, "y" in axes)
        places = self._rows, self._columns, self._turn_y, self._turn_x
        per = [1 / spacing for spacing in self._spacing]
        physics = self._equation.gravity, coriolis, self._equation.dry
        self._launch(kernel, (members, *shape), u, self._ground, *places, *per, *physics, weights, base, out)
        return out

    def flow(self, part: str, u: Array, h: Any, t: float) -> Array:
        """One sweep of a split step; without a forcing."""
        xp, rotation = self._operators.xp, self._equation.rotation
        angle = 0.25 * rotation * h if rotation else 0.0
        u = array_code.apply_coriolis(u, angle, xp)
        return array_code.apply_coriolis(self._swept(part, u, h), angle, xp)

    def _swept(self, part: str, u: Array, h: Any) -> Array:
        from . import cuda_kernels

        equation, operators = self._equation, self._operators
        time = self._launch.number(h)
        if self._bottomed:
            none, concat = 0 * time, operators.xp.concat
            euler, heun = concat([none, none + 1, time]), concat([none + 0.5, none + 0.5, 0.5 * time])
            return self._balanced(self._balanced(u, u, euler, part, 0.0), u, heun, part, 0.0)
        out = operators.xp.empty_like(u)
        members, _, *shape = u.shape
        places = (self._columns, self._turn_x) if part == "x" else (self._rows, self._turn_y)
        physics = self._spacing[part == "x"], equation.gravity, equation.dry
        self._launch(cuda_kernels.sweep(part == "x"), (members, *shape), u, *places, *physics, time, out)
        return out

    def relax(self, u: Array, h: Any) -> Array:
        from . import cuda_kernels

        out = self._operators.xp.empty_like(u)
        members, _, *shape = u.shape
        law = self._equation.resistance.manning, self._equation.dry, float(ROUND_OFF.of(real_type(u.dtype)))
        time = self._launch.number(h)
        self._launch(cuda_kernels.relax, (members, *shape), u, *law, time, out)
        return out
