"""Vlasov-Poisson on a CUDA device: rates and shifts by one or two kernels each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...backend import Launcher
from ...spectral import Operators
from . import array_code

if TYPE_CHECKING:
    from .equation import VlasovPoisson

Array = Any


class LaunchedTransport:
    """`VlasovPoisson.nonlinear` and `flow` for states (member, 1, v, x) on the device of `operators`."""

    def __init__(self, equation: VlasovPoisson, operators: Operators, launch: Launcher) -> None:
        self._equation, self._operators, self._launch = equation, operators, launch
        asarray, self._spacing = launch.double.asarray, operators.grid.spacing
        self._table = asarray(array_code.fraction_table(equation.interpolation).copy())
        self._velocity = asarray(operators.grid.coordinates(centres=True)[0][:, None])
        self._streams, self._accelerates = equation.has("streaming"), equation.accelerates
        self._closed = equation.ends == "closed"

    def rate(self, u: Array, t: float) -> Array:
        from . import cuda_kernels

        xp, (members, _, *shape) = self._operators.xp, u.shape
        out = xp.empty_like(u)
        field = self._equation.force(self._operators, u, t) if self._accelerates else xp.zeros_like(u[:, :, 0, :])
        kernel = cuda_kernels.rates(self._streams, self._accelerates, self._closed)
        self._launch(kernel, (members, *shape), u, self._velocity, field, *self._spacing, out)
        return self._equation.forced(self._operators, out, t)

    def flow(self, part: str, u: Array, h: Any, t: float) -> Array:
        """One part of a split step; without a forcing."""
        from . import cuda_kernels

        equation, xp, (members, _, *shape) = self._equation, self._operators.xp, u.shape
        if part == "drift" and self._streams:
            speed = xp.reshape(self._velocity, (1, shape[0]))
            kernel = cuda_kernels.drift(equation.positivity)
        elif part == "kick" and self._accelerates:
            speed = xp.reshape(equation.force(self._operators, u, t), (members, shape[1]))
            kernel = cuda_kernels.kick(equation.positivity, self._closed)
        else:
            return u
        batch, lines = speed.shape
        count = self._table.shape[0]
        whole = xp.empty((batch, lines), dtype=xp.int64, device=u.device)
        taps = xp.empty((batch, count, lines), dtype=xp.float64, device=u.device)
        spacing = self._spacing[1] if part == "drift" else self._spacing[0]
        time = self._launch.number(h)
        self._launch(cuda_kernels.taps, taps.shape, speed, spacing, time, self._table, whole, taps)
        out = xp.empty_like(u)
        self._launch(kernel, (members, *shape), u, whole, taps, out)
        return out
