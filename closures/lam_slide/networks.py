"""The networks: encoder, decoder and flow. Attention with normalised queries and keys.

Identifiers are (batch, entity, dimension), latents (batch, window, slot, channel). Slots are vectors in the space of
identifiers: the bias beta <identifier, slot> of both cross-attentions binds entities to slots from the first step on.

A mask says which entities are real, (batch, entity); None where all are. No attention goes to the others.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..learning.denoiser import HARMONICS, ScoreNetwork, angle_features
from ..learning.parallel import Share


class Attention(nn.Module):
    """Multi-head attention of tokens x (..., query, width) to tokens y (..., key, width).

    bias: (..., query, key), or one for each head, (..., head, query, key).
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.pair = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.norms = nn.ModuleList(nn.RMSNorm(width // heads) for _ in range(2))

    def forward(self, x: Tensor, y: Tensor, bias: Tensor | None = None, rotary: bool = False) -> Tensor:
        def split(t: Tensor) -> Tensor:
            return t.unflatten(-1, (self.heads, -1)).transpose(-2, -3)

        key, value = self.pair(y).chunk(2, -1)
        q, k = self.norms[0](split(self.query(x))), self.norms[1](split(key))
        if rotary:
            q, k = rotated(q), rotated(k)
        mask = bias[..., None, :, :] if bias is not None and bias.ndim == x.ndim else bias
        found = functional.scaled_dot_product_attention(q, k, split(value), attn_mask=mask)
        return self.out(found.transpose(-2, -3).flatten(-2))


def rotated(x: Tensor) -> Tensor:
    """Rotary positions: pairs of channels of token n turned by n theta_j, theta_j = 100^(-j / pairs)."""
    pairs = x.shape[-1] // 2
    rate = 100.0 ** (-torch.arange(pairs, device=x.device) / max(pairs, 1))
    angle = torch.arange(x.shape[-2], device=x.device)[:, None] * rate
    left, right, rest = x.split([pairs, pairs, x.shape[-1] - 2 * pairs], -1)
    cos, sin = angle.cos(), angle.sin()
    return torch.cat([left * cos - right * sin, left * sin + right * cos, rest], -1)


def perceptron(left: int, width: int, right: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(left, width), nn.SiLU(), nn.Linear(width, right))


class Block(nn.Module):
    """x + attention, then x + perceptron, each after a normalisation."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.attention, self.perceptron = Attention(width, heads), perceptron(width, 2 * width, width)

    def forward(self, x: Tensor, y: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        own = self.norms[0](x)
        x = x + self.attention(own, own if y is None else y, bias)
        return x + self.perceptron(self.norms[1](x))


class Autoencoder(nn.Module):
    """z = E({features_i, id_i}), outputs_i = D(z, id_i): both do not depend on the order of the entities.

    sizes: of the outputs of each head, by property. Latents have mean 0 and variance 1 over the channels of a slot.
    """

    def __init__(
        self,
        features: int,
        sizes: dict[str, int],
        windows: int,
        pool: Tensor,
        latents: int,
        channels: int,
        width: int,
        heads: int,
        binding: float,
        dropout: float,
    ) -> None:
        super().__init__()
        dimension = pool.shape[1]
        groups = functional.one_hot(torch.arange(len(pool)) % latents, latents).to(pool)  # (identifier, slot)
        self.slots, self.beta = nn.Parameter(groups.mT @ pool), nn.Parameter(torch.tensor(binding))
        self.dropout, self.share = dropout, Share()  # the rows of a batch, in training
        self.embed = perceptron(features + dimension, 2 * width, width)
        self.frames = nn.ParameterList(nn.Parameter(torch.zeros(windows, 1, width)) for _ in range(2))
        self.queries = nn.Parameter(torch.randn(latents, width) / math.sqrt(width))
        self.gather, self.mix = Block(width, heads), Block(width, heads)
        self.to_latent = nn.Linear(width, channels)
        self.from_latent, self.unmix = nn.Linear(channels, width), Block(width, heads)
        self.places = nn.Parameter(torch.randn(latents, width) / math.sqrt(width))
        self.ask, self.read = nn.Linear(dimension, width), Block(width, heads)
        self.heads = nn.ModuleDict({name: perceptron(width, 2 * width, size) for name, size in sizes.items()})

    def encode(self, features: Tensor, identifiers: Tensor, begin: int = 0, mask: Tensor | None = None) -> Tensor:
        """Latents (batch, window, slot, channel) of features (batch, window, entity, feature), from window `begin`."""
        known = identifiers[:, None].expand(-1, features.shape[1], -1, -1)
        tokens = self.embed(torch.cat([features, known], -1)) + self.frames[0][begin : begin + features.shape[1]]
        bias = self.beta * (self.slots @ identifiers.mT)[:, None]
        if mask is not None:
            bias = bias.masked_fill(~mask[:, None, None], -math.inf)
        x = self.queries.expand(*tokens.shape[:2], -1, -1)
        x = self.mix(self.gather(x, tokens, bias.expand(-1, tokens.shape[1], -1, -1)))
        z = self.to_latent(x)
        return functional.layer_norm(z, z.shape[-1:])

    def decode(self, z: Tensor, identifiers: Tensor, begin: int = 0) -> dict[str, Tensor]:
        """Each property (batch, window, entity, size), of windows from `begin`; without meaning where none is real."""
        tokens = self.unmix(self.from_latent(z) + self.places + self.frames[1][begin : begin + z.shape[1]])
        asked = self.share.dropout(identifiers, self.dropout, self.training)
        x = self.ask(asked)[:, None].expand(-1, z.shape[1], -1, -1)
        bias = self.beta * (identifiers @ self.slots.mT)[:, None]
        x = self.read(x, tokens, bias.expand(-1, z.shape[1], -1, -1))
        return {name: head(x) for name, head in self.heads.items()}


class FlowBlock(nn.Module):
    """Attention over slots, attention over windows with rotary positions, perceptron; modulated by the angle."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.slots, self.windows = Attention(width, heads), Attention(width, heads)
        self.perceptron = perceptron(width, 2 * width, width)
        self.modulation = nn.Linear(HARMONICS, 9 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x: Tensor, angle: Tensor) -> Tensor:
        parts = self.modulation(angle)[:, None, None].chunk(9, -1)
        for i in range(3):
            shift, scale, gate = parts[3 * i : 3 * i + 3]
            y = functional.layer_norm(x, x.shape[-1:]) * (1 + scale) + shift
            if i == 0:
                y = self.slots(y, y)
            elif i == 1:
                y = y.transpose(1, 2)
                y = self.windows(y, y, rotary=True).transpose(1, 2)
            else:
                y = self.perceptron(y)
            x = x + gate * y
        return x


class LatentFlow(ScoreNetwork):
    """F(v, phi; c): v the latents of unknown windows, c those of all windows, predicted where unknown."""

    def __init__(self, slots: int, channels: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.noisy, self.given = nn.Linear(channels, width), nn.Linear(channels, width)
        self.unknown = nn.Parameter(torch.zeros(width))
        self.places = nn.Parameter(torch.randn(slots, width) / math.sqrt(width))
        self.angle = perceptron(2 * HARMONICS, width, HARMONICS)
        self.blocks = nn.ModuleList(FlowBlock(width, heads) for _ in range(depth))
        self.out = nn.Linear(width, channels)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def prepare(self, condition: Tensor) -> Tensor:
        return self.given(condition) + self.places

    def forward(self, v: Tensor, angle: Tensor, prepared: Tensor) -> Tensor:
        known = prepared.shape[1] - v.shape[1]
        x = torch.cat([prepared[:, :known], prepared[:, known:] + self.noisy(v) + self.unknown], 1)
        turn = functional.silu(self.angle(angle_features(angle)))
        for block in self.blocks:
            x = block(x, turn)
        return self.out(functional.layer_norm(x[:, known:], x.shape[-1:]))
