"""A network in physical units: its input features, and the scales of its input and output."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from .networks import NETWORKS
from .options import Features

Lengths = float | Sequence[float]


def vorticity_velocity(state: torch.Tensor, length: Lengths, origin: Lengths) -> torch.Tensor:
    """(omega, u, v) of a vorticity: psi_hat = omega_hat / |k|^2, u = dpsi/dy, v = -dpsi/dx; the mean flow is zero.

    `state` is (batch, 1, y, x) on a periodic domain of `length` (one number, or one per axis in the order y, x).
    Returns (batch, 3, y, x). The velocity has no Nyquist modes, whose derivative is undefined. Raises ValueError unless
    the state is one field in two dimensions.
    """
    _require_one_field(state, "vorticity-velocity")
    ny, nx = state.shape[-2:]
    length_y, length_x = np.broadcast_to(length, 2)
    ky = torch.fft.fftfreq(ny, 1 / ny, device=state.device)[:, None] * (2 * np.pi / length_y)
    kx = torch.fft.rfftfreq(nx, 1 / nx, device=state.device) * (2 * np.pi / length_x)
    square = ky**2 + kx**2
    square[0, 0].fill_(math.inf)
    if ny % 2 == 0:
        square[ny // 2].fill_(math.inf)
    if nx % 2 == 0:
        square[:, -1].fill_(math.inf)
    stream = torch.fft.rfft2(state) / square
    velocity = torch.fft.irfft2(torch.cat([1j * ky * stream, -1j * kx * stream], dim=1), s=(ny, nx))
    return torch.cat([state, velocity], dim=1)


def phase_space(state: torch.Tensor, length: Lengths, origin: Lengths) -> torch.Tensor:
    """(f, v f, E f) of a distribution (batch, 1, v, x), with E_x = n - <n>: f and the fluxes of the Vlasov equation.

    v is taken at the centres of cells that begin at `origin`. Raises ValueError unless the state is one field in two
    dimensions.
    """
    _require_one_field(state, "phase-space")
    nv, nx = state.shape[-2:]
    length_v, length_x = np.broadcast_to(length, 2)
    v = np.broadcast_to(origin, 2)[0] + (torch.arange(nv, device=state.device) + 0.5) * (length_v / nv)
    k = torch.fft.rfftfreq(nx, 1 / nx, device=state.device) * (2 * np.pi / length_x)
    k[0].fill_(math.inf)
    density = torch.fft.rfft(state.sum(-2, keepdim=True) * (length_v / nv))
    field = torch.fft.irfft(-1j * density / k, n=nx)
    return torch.cat([state, v.to(state.dtype)[:, None] * state, field * state], dim=1)


def placed(values: Sequence[float], like: torch.Tensor) -> torch.Tensor:
    """A few numbers as a tensor, made on the device of another one: a copy from the host would wait for the device."""
    return torch.stack([like.new_full((), value) for value in values])


def anomaly(state: torch.Tensor, length: Lengths, origin: Lengths) -> torch.Tensor:
    """u - <u> of every field (batch, field, *grid), for fields that vary little about a conserved mean."""
    return state - state.mean(dim=tuple(range(2, state.ndim)), keepdim=True)


FEATURES: dict[str, Callable[[torch.Tensor, Lengths, Lengths], torch.Tensor]] = {
    "vorticity-velocity": vorticity_velocity,
    "phase-space": phase_space,
    "anomaly": anomaly,
}


def _require_one_field(state: torch.Tensor, name: str) -> None:
    if state.ndim != 4 or state.shape[1] != 1:
        raise ValueError(
            f"features {name!r} need a single field (batch, 1, *grid) in 2 dimensions, got "
            f'{tuple(state.shape)}: use features = "state"'
        )


def build(
    kind: str, options: Mapping[str, Any], fields: int, dimensions: int, features: Features = "state"
) -> nn.Module:
    """The network `kind` ("quadratic", "fno" or "cnn") for `fields` fields in one or two dimensions.

    `options` are the keyword arguments of its class. The input channels are those of the function `features` of
    `FEATURES`, the output channels are the fields. Raises ValueError for an unknown kind, option or feature set, naming
    the known ones, and for options that the network rejects.
    """
    if kind not in NETWORKS:
        raise ValueError(f"unknown network {kind!r}: choose one of {', '.join(NETWORKS)}")
    known = list(inspect.signature(NETWORKS[kind]).parameters)[3:]
    for name in options:
        if name not in known:
            raise ValueError(f"the {kind} network has no option {name!r}: choose from {', '.join(known)}")
    if features == "state":
        return NETWORKS[kind](dimensions, fields, fields, **options)
    if features not in FEATURES:
        raise ValueError(f"unknown features {features!r}: choose one of state, {', '.join(FEATURES)}")
    channels = FEATURES[features](torch.zeros(1, fields, *[8] * dimensions), 1.0, 0.0).shape[1]
    return NETWORKS[kind](dimensions, channels, fields, **options)


class LearnedTerm(nn.Module):
    """term = s_term network(features(state / s_state) / s_features): a network in physical units.

    Maps a float32 state (batch, field, *grid) to a term of the same shape. `normalisation` holds the scales under
    "state" and "term", one per field, and under "features", one per channel, unless the features are the state.
    `length` and `origin` describe the domain. Raises ValueError as `build` does.
    """

    state_scale: torch.Tensor
    term_scale: torch.Tensor

    def __init__(
        self,
        network: str,
        network_options: Mapping[str, Any],
        features: Features,
        dimensions: int,
        length: float | Sequence[float],
        normalisation: Mapping[str, Sequence[float]],
        origin: Lengths = 0.0,
    ) -> None:
        super().__init__()
        self.network = build(network, network_options, len(normalisation["state"]), dimensions, features)
        self.features, self.length, self.origin = features, length, origin
        self.normalisation = {name: list(scales) for name, scales in normalisation.items()}
        for name in ("state", "term"):
            scale = torch.tensor(self.normalisation[name]).reshape(-1, *[1] * dimensions)
            self.register_buffer(f"{name}_scale", scale, persistent=False)

    def normalised(self, state: torch.Tensor) -> torch.Tensor:
        """The normalised term of a normalised state, that is, one divided by its scales."""
        if self.features != "state":
            found = FEATURES[self.features](state, self.length, self.origin)
            scales = placed(self.normalisation["features"], found)
            state = found / scales.reshape(-1, *[1] * (found.ndim - 2))
        return self.network(state)

    def forward(self, state: torch.Tensor) -> torch.Tensor:
        """The term (batch, field, *grid) of a state (batch, field, *grid), both in physical units."""
        return self.normalised(state / self.state_scale) * self.term_scale
