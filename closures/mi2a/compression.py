"""Compression: u ~ D(E(u)) through r latents.

    pod              z = c, the coefficients of u in a basis of r modes
    pod-fourier      c = basis coefficients of u;  z = E(c), D(z) = network(z, sin F z, cos F z)
    convolutional    z and D(z) by convolutions on the grid, as published

After the training of both networks a ridge regression on random Fourier features of the latents can be added to D, see
`refinement.py`. Latents are normalised: over the training runs their mean is 0 and their standard deviation 1. Those of
"pod" keep the sizes that they have beside one another.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..learning.autoencoder import ConvolutionalDecoder, ConvolutionalEncoder
from ..learning.basis import Basis
from ..learning.perceptrons import Perceptron, StageDecoder


class FourierDecoder(nn.Module):
    """A perceptron of z and of the sine and cosine of F z, with fixed normal frequencies F of deviation kappa.

    A perceptron of z alone is smooth at the scale of its weights and resolves steep fronts slowly in training (Tancik
    et al., arXiv 2006.10739).
    """

    frequency: Tensor

    def __init__(self, latent: int, frequencies: int, kappa: float, widths: tuple[int, ...], out: int) -> None:
        super().__init__()
        self.register_buffer("frequency", kappa * torch.randn(latent, frequencies))
        inputs = latent + 2 * frequencies
        self.network = Perceptron((inputs, *widths[::-1], out), float(latent + frequencies), 0.1)

    def forward(self, z: Tensor) -> Tensor:
        angle = z @ self.frequency
        return self.network(torch.cat([z, angle.sin(), angle.cos()], dim=-1))


class Compression(nn.Module):
    """Encoder and decoder in the coefficients of a basis. States are (..., point), latents (..., latent).

    refinement: what a ridge regression adds to the decoder, a function of normalised latents, times `scale`; None for
    nothing.
    """

    centre: Tensor
    deviation: Tensor

    def __init__(self, options: Mapping[str, Any], basis: Basis, about: Mapping[str, Any]) -> None:
        super().__init__()
        self.basis, latent = basis, options["latent"]
        self.encoder: nn.Module
        self.decoder: nn.Module
        if options["compression"] == "pod":
            self.encoder, self.decoder = nn.Identity(), nn.Identity()
        elif options["compression"] == "convolutional":
            sides = (len(about["fields"]), about["shape"], about["periodic"], options["channels"], latent)
            self.encoder, self.decoder = ConvolutionalEncoder(*sides), ConvolutionalDecoder(*sides)
        else:
            widths = tuple(options["widths"])
            self.encoder = Perceptron((basis.size, *widths, latent), 1.0)
            self.decoder = FourierDecoder(latent, options["frequencies"], options["kappa"], widths, basis.size)
        self.refinement: StageDecoder | None = None
        self.scale = 1.0
        self.register_buffer("centre", torch.zeros(latent))
        self.register_buffer("deviation", torch.ones(latent))

    positions = 0  # number of leading latents that are positions

    @property
    def latent(self) -> int:
        return len(self.centre)

    def placed(self, device: str | torch.device) -> None:
        """Move all tensors to a device."""
        self.basis = self.basis.to(device)
        self.to(device)

    def encode(self, states: Tensor) -> Tensor:
        """Normalised latents of states (..., point): over the training runs of mean 0 and deviation 1."""
        return (self.encoder(self.basis.coefficients(states.float())) - self.centre) / self.deviation

    def decode(self, z: Tensor) -> Tensor:
        """States (..., point) of normalised latents."""
        return self.basis.states(self.decoded(z))

    def decoded(self, z: Tensor) -> Tensor:
        """The same as `decode`, in coefficients of the basis."""
        z = z.float()
        found = self.decoder(self.centre + self.deviation * z)
        return found if self.refinement is None else found + self.scale * self.refinement(z)

    @torch.no_grad()
    def latents(self, c: Tensor) -> Tensor:
        """Normalised latents of coefficients (..., mode)."""
        return (self.encoder(c) - self.centre) / self.deviation

    def joined(self, z: Tensor) -> Tensor:
        """Latents (..., time, latent) of states that were encoded one by one."""
        return z

    def aligned(self, z: Tensor, like: Tensor) -> Tensor:
        """The latents z with positions, which these are not, moved to where those of `like` are."""
        return z

    @torch.no_grad()
    def normalise(self, c: Tensor) -> None:
        """Set centre and deviation to those of the latents of coefficients (..., mode)."""
        flat = self.encoder(c).reshape(-1, self.latent)
        self.centre.copy_(flat.mean(0))
        self.deviation.copy_(flat.std(0).clamp_min(1e-12))


def untrained(options: Mapping[str, Any], basis: Basis, about: Mapping[str, Any], seed: int) -> Compression:
    """A compression with initial weights that depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Compression(options, basis, about)
