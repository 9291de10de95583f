"""Networks that map a resolved state to a closure term on a periodic grid.

Every network commutes with translations, has no coordinates as input, and maps a normalised state
(batch, field, *grid) to a normalised term (batch, field, *grid) in float32, in one or two dimensions with
axes ordered (y, x).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from .fourier_modes import from_low_modes, low_modes, resize, sharp_cut


def multipliers(
    rows: int, columns: int, highest: int, dimensions: int, size: float, derivatives: bool = False
) -> nn.Parameter:
    """Multipliers M(k) = c + i (d.k/|k|) |k|^s, stored as real numbers (rows, columns, *modes, 2).

    c and, with `derivatives`, d are Gaussian and s is uniform in (-1, 1); each part has the root mean square
    `size`. These initial values are smooth in k and close to the derivatives and inverse derivatives in nonlinear
    terms. They train to a fifth of the error of independent random phases in the same number of steps.
    """
    axes = [torch.arange(highest + 1.0)]
    if dimensions == 2:
        axes.insert(0, torch.cat([axes[0], torch.arange(-highest, 0.0)]))
    wavenumber = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    constant = torch.randn(rows, columns, *[1] * dimensions)
    real = constant.expand(rows, columns, *wavenumber.shape[1:]) * size
    imaginary = torch.zeros_like(real)
    if derivatives:
        norm = wavenumber.square().sum(0).sqrt()
        norm[(0,) * dimensions] = 1
        order = torch.rand_like(constant) * 2 - 1
        direction = torch.tensordot(torch.randn(rows, columns, dimensions), wavenumber / norm, 1)
        imaginary = direction * norm**order
        scale = imaginary.square().mean(tuple(range(2, imaginary.ndim)), keepdim=True).sqrt()
        imaginary = imaginary / scale * size
    return nn.Parameter(torch.stack([real, imaginary], dim=-1).contiguous())


def apply_multipliers(multipliers: torch.Tensor, spectrum: torch.Tensor) -> torch.Tensor:
    """out_r(k) = sum_c M_rc(k) spectrum_c(k) for spectra (batch, c, *modes)."""
    matrix = torch.view_as_complex(multipliers)
    if matrix.shape[1] == 1:
        return matrix[:, 0] * spectrum
    if matrix.shape[0] == 1:
        return (matrix[0] * spectrum).sum(1, keepdim=True)
    return torch.einsum("rc...,bc...->br...", matrix, spectrum)


def _even_smooth(least: int) -> int:
    """The smallest even number >= least without a prime factor above 5."""
    size = least + least % 2
    while True:
        rest = size
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return size
        size += 2


def highest_mode(modes: int, name: str) -> int:
    """modes / 2. Raises ValueError for an odd number, or one below 2."""
    if modes < 2 or modes % 2:
        raise ValueError(f"{name} = {modes}: choose an even number of modes, 2 or more (|k| <= {name}/2)")
    return modes // 2


def _check_dimensions(dimensions: int) -> None:
    if dimensions not in (1, 2):
        raise ValueError(f"dimensions = {dimensions}: the networks are made for 1 or 2")


def _check_grid(state: torch.Tensor, dimensions: int, modes: int) -> None:
    if min(state.shape[-dimensions:]) <= modes:
        raise ValueError(
            f"a grid of {tuple(state.shape[-dimensions:])} points cannot hold {modes} modes on each axis: "
            f"use a grid of at least {modes + 1} points, or train with fewer modes"
        )


def pad_periodic(value: torch.Tensor, halo: int, dimensions: int) -> torch.Tensor:
    """The field with a periodic halo. Keeps the channels-last layout, which ``functional.pad`` does not."""
    for axis in range(-dimensions, 0) if halo else ():
        points = value.shape[axis]
        value = torch.cat([value.narrow(axis, points - halo, halo), value, value.narrow(axis, 0, halo)], dim=axis)
    return value


class QuadraticSpectralNetwork(nn.Module):
    """term = sum_p C_p * [ (A_p * u) (B_p * u) ] + L * u, where * is convolution by learned multipliers.

    A_p, B_p and L act on the lowest `modes` modes of the state (|k_i| <= modes/2), C_p on the lowest
    `output_modes` modes of the products (by default 2 `modes`: all modes of a product of two such fields).
    Advection u.grad(omega) and u u_x have exactly this form. The multipliers are functions of the integer wavenumber,
    so the same weights serve every grid of more than `modes` points and give the same low modes there. The products
    are formed without aliasing on a working grid of at least modes + output_modes/2 + 1 points, which does not depend
    on the grid of the state.

    Raises ValueError for an odd number of modes, and for a state on a grid that cannot hold `modes` modes.
    """

    def __init__(
        self,
        dimensions: int,
        fields_in: int,
        fields_out: int,
        modes: int = 16,
        pairs: int = 8,
        linear: bool = True,
        output_modes: int | None = None,
        cut: int | None = None,
        zero_mean: bool = True,
    ) -> None:
        super().__init__()
        _check_dimensions(dimensions)
        self.dimensions, self.modes, self.zero_mean = dimensions, modes, zero_mean
        self.highest = highest_mode(modes, "modes")
        self.output_highest = min(
            highest_mode(2 * modes if output_modes is None else output_modes, "output_modes"),
            modes,
            modes if cut is None else cut,
        )
        self.working_grid = (_even_smooth(modes + self.output_highest + 1),) * dimensions
        self.factors = multipliers(2 * pairs, fields_in, self.highest, dimensions, fields_in**-0.5, True)
        self.products = multipliers(fields_out, pairs, self.output_highest, dimensions, 0.1 * pairs**-0.5)
        self.linear = (
            multipliers(fields_out, fields_in, min(self.highest, self.output_highest), dimensions, 0.01)
            if linear
            else None
        )

    def outermost(self) -> list[nn.Parameter]:
        """The weights in which the term is linear: without them it is 0."""
        return [self.products, *([] if self.linear is None else [self.linear])]

    def forward(self, state: torch.Tensor) -> torch.Tensor:
        """The term (batch, fields_out, *grid) of a state (batch, fields_in, *grid)."""
        _check_grid(state, self.dimensions, self.modes)
        spectrum = low_modes(state, self.highest, self.dimensions)
        left, right = from_low_modes(apply_multipliers(self.factors, spectrum), self.working_grid).chunk(2, dim=1)
        term = apply_multipliers(self.products, low_modes(left * right, self.output_highest, self.dimensions))
        if self.linear is not None:
            held = self.linear.shape[-2] - 1
            linear = apply_multipliers(self.linear, resize(spectrum, held, self.dimensions))
            term = term + resize(linear, self.output_highest, self.dimensions)
        return sharp_cut(from_low_modes(term, state.shape[-self.dimensions :]), self.dimensions, None, self.zero_mean)


class FourierNeuralOperator(nn.Module):
    """v_{l+1} = gelu(W_l v_l + F^-1 R_l F v_l): a Fourier neural operator without grid coordinates.

    `width` channels, lifted from and projected to the fields by pointwise layers; R_l acts on the lowest
    `modes` modes (|k_i| <= modes/2). Commutes with shifts by whole grid points. The weights run on every grid
    of more than `modes` points, up to aliasing by the pointwise nonlinearity.

    Source: Li et al., arXiv 2010.08895. Raises ValueError for an odd number of modes, and for a state on a
    grid that cannot hold `modes` modes.
    """

    def __init__(
        self,
        dimensions: int,
        fields_in: int,
        fields_out: int,
        width: int = 24,
        modes: int = 12,
        layers: int = 4,
        cut: int | None = None,
        zero_mean: bool = True,
    ) -> None:
        super().__init__()
        _check_dimensions(dimensions)
        self.dimensions, self.modes, self.cut, self.zero_mean = dimensions, modes, cut, zero_mean
        self.highest = highest_mode(modes, "modes")
        pointwise = nn.Conv1d if dimensions == 1 else nn.Conv2d
        self.lift = pointwise(fields_in, width, 1)
        self.spectral = nn.ParameterList(
            multipliers(width, width, self.highest, dimensions, width**-0.5) for _ in range(layers)
        )
        self.pointwise = nn.ModuleList(pointwise(width, width, 1) for _ in range(layers))
        self.project = nn.Sequential(pointwise(width, 2 * width, 1), nn.GELU(), pointwise(2 * width, fields_out, 1))

    def outermost(self) -> list[nn.Parameter]:
        """The weights in which the term is linear: without them it is 0."""
        return list(self.project[-1].parameters())

    def forward(self, state: torch.Tensor) -> torch.Tensor:
        """The term (batch, fields_out, *grid) of a state (batch, fields_in, *grid)."""
        _check_grid(state, self.dimensions, self.modes)
        grid = state.shape[-self.dimensions :]
        value = self.lift(state)
        for multipliers, pointwise in zip(self.spectral, self.pointwise, strict=True):
            spectrum = apply_multipliers(multipliers, low_modes(value, self.highest, self.dimensions))
            value = functional.gelu(pointwise(value) + from_low_modes(spectrum, grid))
        return sharp_cut(self.project(value), self.dimensions, self.cut, self.zero_mean)


class PeriodicCNN(nn.Module):
    """term = C_n gelu(C_{n-1} ... gelu(C_1 u)): `layers` periodic convolutions of `kernel` points per axis.

    Commutes with shifts by whole grid points. The stencil has a fixed number of grid points, so the weights belong to
    the spacing on which they were trained, unless `points` is set: then the state is truncated to |k_i| <= `cut`, the
    convolutions run on a grid of `points` per axis, and the same weights serve every grid that resolves the cut.
    With `precision` "bfloat16" the convolutions run in half precision, transforms and sums in single precision. This is
    several times faster on processors with bfloat16 instructions, and slower on others. In two dimensions weights and
    states are channels-last, the layout in which the convolutions need no reordering.

    Source: the architecture of Guillaumin & Zanna (2021) and Ross et al. (2023), with periodic padding.
    Raises ValueError for an even kernel, fewer than two layers, or a grid narrower than half the kernel.
    """

    def __init__(
        self,
        dimensions: int,
        fields_in: int,
        fields_out: int,
        width: int = 32,
        layers: int = 5,
        kernel: int = 5,
        cut: int | None = None,
        zero_mean: bool = True,
        points: int | None = None,
        precision: Literal["float32", "bfloat16"] = "float32",
    ) -> None:
        super().__init__()
        _check_dimensions(dimensions)
        if points is not None and (cut is None or 2 * cut >= points):
            raise ValueError(f"points = {points}: needs a cut below {points} / 2, so that the grid resolves its modes")
        if precision not in ("float32", "bfloat16"):
            raise ValueError(f"precision = {precision!r}: choose float32 or bfloat16")
        if kernel % 2 == 0:
            raise ValueError(f"kernel = {kernel}: choose an odd number of points, so that it has a centre")
        if layers < 2:
            raise ValueError(f"layers = {layers}: choose 2 or more; one convolution is only a linear filter")
        self.dimensions, self.halo, self.cut, self.zero_mean = dimensions, kernel // 2, cut, zero_mean
        self.working_grid = None if points is None else (points,) * dimensions
        self.low_precision = precision == "bfloat16"
        convolution = nn.Conv1d if dimensions == 1 else nn.Conv2d
        channels = [fields_in, *[width] * (layers - 1), fields_out]
        self.layers = nn.ModuleList(convolution(left, right, kernel) for left, right in pairwise(channels))
        if dimensions == 2:
            self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def outermost(self) -> list[nn.Parameter]:
        """The weights in which the term is linear: without them it is 0."""
        return list(self.layers[-1].parameters())

    def forward(self, state: torch.Tensor) -> torch.Tensor:
        """The term (batch, fields_out, *grid) of a state (batch, fields_in, *grid)."""
        if min(state.shape[-self.dimensions :]) < self.halo:
            raise ValueError(
                f"a grid of {tuple(state.shape[-self.dimensions :])} points is narrower than the halo of "
                f"{self.halo} points: use a smaller kernel"
            )
        grid = state.shape[-self.dimensions :]
        if self.working_grid is not None and self.cut is not None:
            state = from_low_modes(low_modes(state, self.cut, self.dimensions), self.working_grid)
        value = state.contiguous(memory_format=torch.channels_last) if self.dimensions == 2 else state
        with torch.autocast(state.device.type, torch.bfloat16, enabled=self.low_precision):
            for layer in self.layers[:-1]:
                value = functional.gelu(layer(pad_periodic(value, self.halo, self.dimensions)))
            value = self.layers[-1](pad_periodic(value, self.halo, self.dimensions))
        value = value.to(state.dtype)
        if self.working_grid is not None and self.cut is not None:
            value = from_low_modes(low_modes(value, self.cut, self.dimensions), grid)
            return sharp_cut(value, self.dimensions, None, self.zero_mean)
        return sharp_cut(value, self.dimensions, self.cut, self.zero_mean)


NETWORKS: dict[str, type[nn.Module]] = {
    "quadratic": QuadraticSpectralNetwork,
    "fno": FourierNeuralOperator,
    "cnn": PeriodicCNN,
}
