"""The channels of an external model: what they hold, computed from states and added up to an answer, in NumPy."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from subgrid.solver.equations.base import Equation
from subgrid.solver.grid import Grid

Axis = Literal["x", "y", "z", "v"]
Derived = Literal["anomaly", "derivative", "velocity-x", "velocity-y"]


class Channel(BaseModel):
    """value = offset + scale * channel, with `value` in the units of the field."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    field: str = Field(description="a field of the equation")
    axis: Axis | None = None
    scale: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    offset: float = Field(default=0.0, allow_inf_nan=False)


class Input(Channel):
    """An input channel: a field, or a quantity derived from it, of the current state or of a past one.

    derived: "anomaly" is u - <u>; "derivative" is du/d(axis), spectral on Fourier grids and central otherwise;
    "velocity-x" and "velocity-y" are d(psi)/dy and -d(psi)/dx of a vorticity, with -laplacian psi = w and zero mean.
    back: 0 for the current state, n for the state n calls earlier.
    """

    derived: Derived | None = None
    back: int = Field(default=0, ge=0, le=64)

    @property
    def label(self) -> str:
        """The channel in words, for messages."""
        kind = f" ({self.derived}{f' along {self.axis}' if self.axis else ''})" if self.derived else ""
        return f"{self.field}{kind}" + (f", {self.back} calls back" if self.back else "")


class Output(Channel):
    """An output channel: a field of the term or the correction, or its flux along `axis`."""

    @property
    def label(self) -> str:
        """The channel in words, for messages."""
        return self.field + (f" along {self.axis}" if self.axis else "")


def fault(equation: Equation, grid: Grid, inputs: tuple[Input, ...], outputs: tuple[Output, ...], flux: bool) -> str:
    """Why channels do not fit the equation, with their key and the remedy; empty if they fit."""
    fields, axes = [f.name for f in equation.fields], equation.axes(grid)
    for key, channels in (("inputs", inputs), ("outputs", outputs)):
        for i, channel in enumerate(channels):
            where = f"{key}.{i}"
            if channel.field not in fields:
                return f"{where}.field: {equation.name} has no field {channel.field!r}. Remedy: {' or '.join(fields)}"
            derived = channel.derived if isinstance(channel, Input) else None
            along = derived == "derivative" or (key == "outputs" and flux)
            if along and channel.axis not in axes:
                found = "missing" if channel.axis is None else f"the grid has no axis {channel.axis!r}"
                return f"{where}.axis: {found}. Remedy: {' or '.join(axes)}"
            if not along and channel.axis is not None:
                return f"{where}.axis: only derivatives and fluxes have an axis. Remedy: remove it"
            if (along or derived == "anomaly") and equation.kind == "particles":
                return f"{where}: particles have no {'derivatives' if along else 'means over a grid'}. Remedy: a field"
            if derived in ("velocity-x", "velocity-y") and not (
                channel.field == "vorticity" and equation.spectral and axes == ("y", "x")
            ):
                return (
                    f"{where}.derived: {derived} is made for the vorticity of a flow in two dimensions, on a "
                    "Fourier grid. Remedy: a field, or its derivative"
                )
    named = [(o.field, o.axis) for o in outputs]
    if repeated := [o.label for o in outputs if named.count((o.field, o.axis)) > 1]:
        return f"outputs: {repeated[0]} is named twice. Remedy: one channel for each"
    return ""


class Channels:
    """Input channels of states, and the answer that output channels stand for, on the grid of a problem."""

    def __init__(self, equation: Equation, grid: Grid) -> None:
        self._fields = [f.name for f in equation.fields]
        self._axes, self._grid = equation.axes(grid), grid
        self._periodic, self._spectral = equation.periodic_axes(grid), equation.spectral

    def read(self, inputs: tuple[Input, ...], states: list[NDArray]) -> NDArray:
        """The channels (member, channel, *grid) of states (member, field, *grid), of which the n-th is n calls back."""
        values = [self._value(c, states[c.back][:, self._fields.index(c.field)]) for c in inputs]
        return np.stack([(v - c.offset) / c.scale for v, c in zip(values, inputs, strict=True)], axis=1)

    def write(self, outputs: tuple[Output, ...], channels: NDArray, flux: bool) -> NDArray:
        """The term or the correction (member, field, *grid) of output channels; -div F where they are fluxes F.

        A field without a channel gets zero.
        """
        found = np.zeros((len(channels), len(self._fields), *self._grid.shape))
        for i, c in enumerate(outputs):
            value = c.offset + c.scale * channels[:, i]
            part = found[:, self._fields.index(c.field)]
            part += -self._derivative(value, c.axis, flux=True) if flux else value
        return found

    def pad(self, channels: NDArray, width: int) -> NDArray:
        """The channels with `width` more points at each end: periodic, or the outermost value where there are walls."""
        for axis, periodic in enumerate(self._periodic, start=2):
            ends = [(0, 0)] * channels.ndim
            ends[axis] = (width, width)
            channels = np.pad(channels, ends, mode="wrap" if periodic else "edge")
        return channels

    def _value(self, channel: Input, u: NDArray) -> NDArray:
        match channel.derived:
            case "anomaly":
                return u - u.mean(axis=tuple(range(1, u.ndim)), keepdims=True)
            case "derivative":
                return self._derivative(u, channel.axis)
            case "velocity-x" | "velocity-y":
                return self._velocity(u, channel.derived)
        return u

    def _derivative(self, u: NDArray, name: str | None, flux: bool = False) -> NDArray:
        """du/d(axis) of (member, *grid). A flux through walls is zero."""
        axis = self._axes.index(str(name))
        h, n, place = self._grid.spacing[axis], self._grid.shape[axis], axis + 1
        if self._spectral:
            k = 2 * np.pi * np.fft.rfftfreq(n, h)
            if n % 2 == 0:
                k[-1] = 0.0  # the derivative of the highest mode is zero on the grid
            k = k.reshape([-1 if a == place else 1 for a in range(u.ndim)])
            return np.fft.irfft(1j * k * np.fft.rfft(u, axis=place), n=n, axis=place)
        if self._periodic[axis]:
            return (np.roll(u, -1, place) - np.roll(u, 1, place)) / (2 * h)
        if not flux:
            return np.gradient(u, h, axis=place)
        u = np.moveaxis(u, place, -1)
        wall = np.zeros((*u.shape[:-1], 1))
        faces = np.concatenate([wall, (u[..., 1:] + u[..., :-1]) / 2, wall], axis=-1)
        return np.moveaxis(np.diff(faces, axis=-1) / h, -1, place)

    def _velocity(self, w: NDArray, which: str) -> NDArray:
        ky, kx = self._grid.wavenumbers()
        square = ky**2 + kx**2
        square[0, 0] = np.inf
        ny, nx = self._grid.shape
        if ny % 2 == 0:
            square[ny // 2] = np.inf
        if nx % 2 == 0:
            square[:, -1] = np.inf
        factor = 1j * ky if which == "velocity-x" else -1j * kx
        return np.fft.irfft2(factor * np.fft.rfft2(w) / square, s=(ny, nx))
