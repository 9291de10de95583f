"""Held tendencies: what closures and noise add to the right-hand side between two calls of the closures.

At step n the sum over the closures i, called last at steps n_i, is

    F_n = sum_i [ value_i + (n - n_i) slope_i ] + sum_j noise_j(n) / sqrt(h) ,

with a slope where a tendency is held linearly, and noise drawn anew at every step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..backend import Backend
from ..equations.base import Equation
from ..grid import Grid
from ..random import EntityNoise, Noise, SpectralNoise
from ..spectral import Operators, Transforms, empty
from ..time_stepping import kernels
from .noise_array_code import NoiseDraws

Array = Any


def law_of(amplitude: NDArray, equation: Equation, grid: Grid) -> Noise:
    """The law of noise with this amplitude."""
    return EntityNoise(amplitude) if equation.kind == "particles" else SpectralNoise(grid, amplitude, negligible=0.0)


@dataclass(frozen=True)
class NoiseSource:
    """A noise law with the members' keys and a factor.

    origin: the step number, counted from time 0, of the run's first step. Runs with the same seed and step that begin
    at different times draw the same increments where they overlap.
    """

    law: Noise
    keys: NDArray[np.uint64]
    factor: float
    origin: int

    def of(self, members: slice) -> NoiseSource:
        """The same for some of the members."""
        return NoiseSource(self.law, self.keys[members], self.factor, self.origin)

    def add_to(self, out: NDArray, n: int, h: float) -> None:
        """out += factor xi_hat_n / sqrt(h), with out as in `SpectralNoise.add_to`."""
        self.law.add_to(out, self.keys, n + self.origin, self.factor / math.sqrt(h))


class Arithmetic(Protocol):
    """How F_n is computed: in place in NumPy arrays, or as new arrays of a backend."""

    def extrapolate(self, value: Array | None, slope: Array | None, steps: int) -> Array | None:
        """value + steps slope; what is None counts as zero."""

    def add_noise(self, total: Array | None, source: NoiseSource, n: int) -> Array:
        """total + the noise of step n."""


@dataclass(frozen=True)
class Frozen:
    """The sum F_n = value + (n - origin) slope + noise, which is frozen over the stages of step n.

    value, slope: (member, field, *) in the stepper's representation, or None for zero.
    """

    origin: int = 0
    value: Array | None = None
    slope: Array | None = None
    noise: tuple[NoiseSource, ...] = ()

    def of(self, members: slice, shape: tuple[int, ...]) -> Frozen:
        """The same for some of the members, in arrays of another shape."""
        value = None if self.value is None else self.value[members].reshape(shape)
        slope = None if self.slope is None else self.slope[members].reshape(shape)
        return Frozen(self.origin, value, slope, tuple(source.of(members) for source in self.noise))

    @property
    def changes(self) -> bool:
        """Whether F_n depends on n."""
        return self.slope is not None or bool(self.noise)

    def at(self, n: int, arithmetic: Arithmetic) -> Array | None:
        """F_n; None where nothing is held."""
        if not self.changes:
            return self.value
        total = arithmetic.extrapolate(self.value, self.slope, n - self.origin)
        for source in self.noise:
            total = arithmetic.add_noise(total, source, n)
        return total


class InPlace:
    """F_n in one NumPy array (member * field, row, column), which the next step overwrites."""

    def __init__(self, grid: Grid, shape: tuple[int, ...], dtype: np.dtype, step: float) -> None:
        self._grid, self._step = grid, step
        self._total = np.zeros(shape, dtype)
        self._inverse: Callable[[], Any] | None = None

    def extrapolate(self, value: NDArray | None, slope: NDArray | None, steps: int) -> NDArray:
        if value is None:
            self._total[...] = 0.0
        elif slope is None:
            self._total[...] = value
        else:
            kernels.extrapolate(self._total, value, slope, float(steps))
        return self._total

    def add_noise(self, total: NDArray | None, source: NoiseSource, n: int) -> NDArray:
        assert total is not None
        if np.iscomplexobj(total) or isinstance(source.law, EntityNoise):
            source.add_to(total, n, self._step)
            return total
        if self._inverse is None:
            transforms = Transforms(self._grid, str(total.dtype))
            self._draw = empty((len(total), *self._grid.spectral_shape), transforms.complex)
            self._physical = empty((len(total), *self._grid.shape), transforms.real)
            self._inverse = transforms.inverse(self._draw, self._physical)
        self._draw[...] = 0.0
        source.add_to(self._draw, n, self._step)
        self._inverse()
        total += self._physical.reshape(total.shape)
        return total


class OutOfPlace:
    """F_n as a new array (member, field, *) of a backend, with the noise of `InPlace` drawn on its device."""

    def __init__(self, equation: Equation, operators: Operators, backend: Backend, step: float) -> None:
        self._equation, self._operators, self._backend, self._step = equation, operators, backend, step
        self._draws: dict[bytes, tuple[Noise, NoiseDraws]] = {}

    def extrapolate(self, value: Array | None, slope: Array | None, steps: int) -> Array | None:
        return value if slope is None else value + steps * slope

    def add_noise(self, total: Array | None, source: NoiseSource, n: int) -> Array:
        if isinstance(source.law, EntityNoise):  # few numbers, drawn on the host
            drawn = np.zeros((len(source.keys), *source.law.amplitude.shape), self._backend.precision)
            source.add_to(drawn, n, self._step)
            increment = self._backend.asarray(drawn)
            return increment if total is None else total + increment
        increment = self._draws_of(source).at(n + source.origin, source.factor / math.sqrt(self._step))
        if not self._equation.spectral:
            increment = self._operators.inverse(increment)
        return increment if total is None else total + increment

    def _draws_of(self, source: NoiseSource) -> NoiseDraws:
        """The draws of a source, made when its law is new."""
        assert isinstance(source.law, SpectralNoise)
        purpose = source.keys.tobytes()
        law, draws = self._draws.get(purpose, (None, None))
        if law is not source.law or draws is None:
            draws = NoiseDraws(source.law, source.keys, len(self._equation.fields), self._backend)
            self._draws[purpose] = (source.law, draws)
        return draws


@dataclass(frozen=True)
class Held:
    """The last tendency of one closure, times its weight: value + (n - step) slope + noise."""

    step: int
    value: Array
    slope: Array | None = None
    noise: NoiseSource | None = None

    @classmethod
    def following(
        cls, last: Held | None, step: int, value: Array, linear: bool, noise: NoiseSource | None = None
    ) -> Held:
        """A new answer at a step; with `linear` its slope is that of the line through this answer and the last."""
        slope = None
        if linear:
            span = step - last.step if last else 0
            slope = (value - last.value) / span if last and span else 0 * value
        return cls(step, value, slope, noise)

    def checkpoint(self) -> dict[str, Array]:
        """Arrays of the backend; of the noise the amplitude of its law."""
        arrays = {"value": self.value, "step": np.array(self.step)}
        if self.slope is not None:
            arrays["slope"] = self.slope
        if self.noise is not None:
            arrays["noise"] = self.noise.law.amplitude
        return arrays


def total(held: list[Held | None], own_noise: Sequence[NoiseSource]) -> Frozen:
    """The sum over the closures, with the latest call as its origin, and noise that is always present."""
    held_now = [h for h in held if h is not None]
    origin = max((h.step for h in held_now), default=0)
    value = slope = None
    for h in held_now:
        here = h.value
        if h.slope is not None:
            here = here + (origin - h.step) * h.slope
            slope = h.slope if slope is None else slope + h.slope
        value = here if value is None else value + here
    noise = (*own_noise, *(h.noise for h in held_now if h.noise is not None))
    return Frozen(origin, value, slope, noise)
