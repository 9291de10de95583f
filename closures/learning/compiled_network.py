"""Periodic convolutional networks in physical units without torch: features, convolutions and cut in compiled code."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subgrid.solver.backend import COMPLEX, Precision, share
from subgrid.solver.grid import Grid
from subgrid.solver.spectral import Transforms, empty

from .convolution_kernels import convolve, load_fields, wrap, write_fields

SINGLE = "float32"
COST = 0.02  # nanoseconds on one thread per weight and value
LAYERS = "network.layers."  # of the names of tensors


def compilable(network: Mapping[str, Any]) -> bool:
    """Whether `CompiledTerm` evaluates this network: a CNN in single precision."""
    return network["kind"] == "cnn" and network["options"].get("precision", SINGLE) == SINGLE


class CompiledTerm:
    """The term of `LearnedTerm` with a periodic CNN, for states in host memory, in single precision.

    tensors: the weights by name. header: that of their file. grid: of the states. Members are evaluated one by one, so
    that a member has the same bits in every ensemble and on every number of threads. The sums have another order than
    those of torch, from which values differ by less than 1e-5 of the largest.

    Raises ValueError for a grid that is narrower than the halo, LookupError and TypeError for weights that are not of
    such a network.
    """

    def __init__(
        self, tensors: Mapping[str, NDArray], header: Mapping[str, Any], grid: Grid, precision: Precision
    ) -> None:
        network, scales = header["network"], header["normalisation"]
        options, self._features = network["options"], network["features"]
        self.grid, self.precision = grid, precision
        self._layers = _layers(tensors, options, grid.dimensions)
        kernel = self._layers[0][0].shape[-1]
        self._halo = (kernel // 2 if grid.dimensions == 2 else 0, kernel // 2)
        points, cut = options.get("points"), options.get("cut")
        if points is not None and (cut is None or 2 * cut >= points):
            raise ValueError(f"points = {points}: needs a cut below {points} / 2, so that the grid resolves its modes")
        self._working = grid if points is None else grid.refined((points,) * grid.dimensions)
        if min(self._working.shape) < kernel // 2:
            raise ValueError(
                f"a grid of {self._working.shape} points is narrower than the halo of {kernel // 2} points: use a "
                "smaller kernel"
            )
        self._resampled = points is not None
        self._cut = cut if cut is not None and 2 * cut < min(self._working.shape) else None
        self._zero_mean = options.get("zero_mean", True)
        axes = grid.dimensions
        self._state_scale = np.asarray(scales["state"], np.float32).reshape(-1, *[1] * axes)
        self._term_scale = np.asarray(scales["term"], np.float32).reshape(-1, *[1] * axes)
        channels = self._layers[0][0].shape[1]
        units = np.ones(channels) if self._features == "state" else np.asarray(scales["features"])
        if len(units) != channels or len(self._layers[-1][0]) != len(self._term_scale):
            raise TypeError(f"{channels} channels for {len(units)} features")
        self._units = units.astype(np.float32).reshape(-1, *[1] * axes)
        self._origin = tuple(header.get("origin", grid.origin))
        self._places: dict[int, _Workspace] = {}
        weights = sum(layer.size for layer, _ in self._layers)
        self._cost = COST * weights * self._working.points

    def __call__(self, states: NDArray) -> NDArray:
        """The terms (member, field, *grid) of states (member, field, *grid), in the precision of the run."""
        terms = np.empty(states.shape, self.precision)

        def members(first: int, last: int, place: int) -> None:
            workspace = self._places.get(place) or self._places.setdefault(place, _Workspace(self))
            for m in range(first, last):
                workspace.evaluate(states[m], terms[m])

        share(members, len(states), self._cost)
        return terms


class _Workspace:
    """The arrays and plans with which one thread evaluates one member."""

    def __init__(self, term: CompiledTerm) -> None:
        self._term = term
        above, beside = term._halo
        rows, columns = (1, *term._working.shape)[-2:]
        stride = columns + 2 * beside
        self._geometry = rows, stride, above, beside
        size = (rows + 2 * above) * stride + 2 * beside
        layers = term._layers
        widest = max(max(weights.shape[:2]) for weights, _ in layers)
        self._planes = [empty((widest, size), SINGLE) for _ in range(2)]
        self._input = self._inside(0, layers[0][0].shape[1])
        self._output = self._inside(len(layers) % 2, len(layers[-1][0]))
        self._load, self._finish = self._loading(), self._finishing()

    def _inside(self, which: int, channels: int) -> NDArray:
        """The grids (channel, row, column) within the first planes."""
        rows, stride, above, beside = self._geometry
        whole = self._planes[which][:channels, : (rows + 2 * above) * stride].reshape(channels, -1, stride)
        return whole[:, above : above + rows, beside : stride - beside]

    def evaluate(self, state: NDArray, out: NDArray) -> None:
        """Write the term of a state (field, *grid) to `out`."""
        layers, planes = self._term._layers, self._planes
        self._load(state)
        source = planes[0][: layers[0][0].shape[1]]
        wrap(source, *self._geometry)
        for i, (weights, bias) in enumerate(layers):
            target = planes[(i + 1) % 2][: len(weights)]
            convolve(source, weights, bias, target, *self._geometry, i + 1 < len(layers))
            source = target
        self._finish(out)

    def _loading(self) -> Callable[[NDArray], None]:
        """The function that writes the features of a state into the planes."""
        term, target = self._term, self._input
        scale, units = term._state_scale, term._units
        velocity = term._features == "vorticity-velocity"
        if term._features == "phase-space":
            fluxes = _Fluxes(term.grid, term._origin)

            def load_fluxes(state: NDArray) -> None:
                np.divide(fluxes(state[0].astype(np.float32) / scale[0]), units, out=target)

            return load_fluxes
        if velocity or term._resampled:
            fields = (0, 0, 0) if velocity else tuple(range(len(scale)))
            factors = _velocity_factors(term.grid) if velocity else [np.ones(term.grid.spectral_shape)] * len(scale)
            highest = None if term._cut is None or not term._resampled else (term._cut,) * term.grid.dimensions
            scales = [scale.flat[i] * units.flat[channel] for channel, i in enumerate(fields)]
            scaled = [factor / s for factor, s in zip(factors, scales, strict=True)]
            spectra = _Resampling(term.grid, term._working, fields, scaled, highest)
            keep = velocity and not term._resampled

            def load_spectra(state: NDArray) -> None:
                target[...] = spectra(state).reshape(target.shape)
                if keep:  # of the vorticity the modes of half the points as well
                    target[0] = state[0] / (scale.flat[0] * units.flat[0])

            return load_spectra

        centred = term._features == "anomaly"
        sizes = (scale.ravel() * units.ravel()).astype(np.float64)

        def load(state: NDArray) -> None:
            load_fields(state.reshape(target.shape), sizes, centred, target)

        return load

    def _finishing(self) -> Callable[[NDArray], None]:
        """The function that writes the term from the last planes."""
        term, source = self._term, self._output
        fields, scale = len(term._term_scale), term._term_scale
        if term._cut is None:
            scales, centred = scale.ravel().astype(np.float64), term._zero_mean

            def finish(out: NDArray) -> None:
                write_fields(source, scales, centred, out.reshape(source.shape))

            return finish
        whole = np.ones(term._working.spectral_shape)
        if term._zero_mean:
            whole.flat[0] = 0.0
        highest = (term._cut,) * term.grid.dimensions
        factors = [whole * s for s in scale.flat]
        spectra = _Resampling(term._working, term.grid, tuple(range(fields)), factors, highest)

        def finish_spectra(out: NDArray) -> None:
            out[...] = spectra(source)

        return finish_spectra


class _Resampling:
    """Fields on one grid to fields on another: the lowest Fourier modes times factors.

    fields: of each output, the number of the input. factors: of each output, (*spectral_shape) of the source. highest:
    largest integer wavenumber per axis; by default, and at most, the largest below half the points of both grids.
    """

    def __init__(
        self,
        source: Grid,
        target: Grid,
        fields: tuple[int, ...],
        factors: Sequence[NDArray],
        highest: tuple[int, ...] | None = None,
    ) -> None:
        largest = [(min(a, b) - 1) // 2 for a, b in zip(source.shape, target.shape, strict=True)]
        kept = [min(a, b) for a, b in zip(largest, highest or largest, strict=True)]
        self._fields = list(fields)
        self._values = empty((max(fields) + 1, *source.shape), SINGLE)
        self._found = empty((max(fields) + 1, *source.spectral_shape), COMPLEX[SINGLE])
        self._wanted = empty((len(fields), *target.spectral_shape), COMPLEX[SINGLE])
        self._result = empty((len(fields), *target.shape), SINGLE)
        self._forward = Transforms(source, SINGLE).forward(self._values, self._found)
        self._inverse = Transforms(target, SINGLE).inverse(self._wanted, self._result)
        columns = slice(0, kept[-1] + 1)
        rows = [slice(0, kept[0] + 1), *([slice(-kept[0], None)] if kept[0] else [])] if len(kept) == 2 else []
        self._parts = []
        parts: list[tuple[slice, ...]] = [(row, columns) for row in rows] or [(columns,)]
        for part in parts:
            factor = np.stack([f[part] for f in factors]) / source.points
            self._parts.append(((slice(None), *part), factor.astype(COMPLEX[SINGLE])))

    def __call__(self, values: NDArray) -> NDArray:
        """The outputs (output, *target) of inputs (input, *source); the next call overwrites them."""
        self._values[...] = values.reshape(self._values.shape)
        self._forward()
        self._wanted[...] = 0.0
        for part, factor in self._parts:
            np.multiply(factor, self._found[part][self._fields], out=self._wanted[part])
        self._inverse()
        return self._result


class _Fluxes:
    """(f, v f, E f) of a distribution f(v, x), as `learned_term.phase_space`."""

    def __init__(self, grid: Grid, origin: tuple[float, ...]) -> None:
        height = grid.spacing[0]
        self._v = (origin[0] + (np.arange(grid.shape[0]) + 0.5) * height).astype(np.float32)[:, None]
        k = grid.wavenumbers()[1].ravel().copy()
        k[0] = np.inf
        self._field = -1j * height / k

    def __call__(self, f: NDArray) -> NDArray:
        density = np.fft.rfft(f.sum(axis=0, dtype=np.float64))
        field = np.fft.irfft(self._field * density, n=f.shape[1])
        return np.stack([f, self._v * f, field.astype(np.float32) * f])


def _velocity_factors(grid: Grid) -> list[NDArray]:
    """1, i k_y / k^2 and -i k_x / k^2: the factors of vorticity, u and v."""
    ky, kx = grid.wavenumbers()
    square = ky**2 + kx**2
    square[0, 0] = np.inf
    return [np.ones_like(square), 1j * ky / square, -1j * kx / square]


def _layers(
    tensors: Mapping[str, NDArray], options: Mapping[str, Any], dimensions: int
) -> list[tuple[NDArray, NDArray]]:
    """(weights (out, channel, row, column), bias) of each layer. Raises TypeError where they do not fit together."""
    layers, width, kernel = options.get("layers", 5), options.get("width", 32), options.get("kernel", 5)
    if kernel % 2 == 0 or layers < 2:
        raise TypeError(f"{layers} layers with a kernel of {kernel} points")
    found: list[tuple[NDArray, NDArray]] = []
    for i in range(layers):
        weights, bias = (
            np.ascontiguousarray(tensors[f"{LAYERS}{i}.{name}"], np.float32) for name in ("weight", "bias")
        )
        channels = len(found[-1][0]) if found else weights.shape[1]
        outs = width if i + 1 < layers else len(weights)
        if weights.shape != (outs, channels, *[kernel] * dimensions) or bias.shape != (outs,):
            raise TypeError(f"layer {i} has weights of shape {weights.shape} and a bias of shape {bias.shape}")
        found.append((weights[:, :, None] if dimensions == 1 else weights, bias))
    return found
