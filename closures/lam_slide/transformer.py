"""An equivariant transformer on entities: a predictor for interactions that are more than a sum over pairs."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from .networks import Block, perceptron
from .predictor import SOFT, baseline

CHANGES = 2  # of the relative positions, that the answer is made of


class TransformerPredictor(nn.Module):
    """x_i(t) = b_i(t) + u sum_jk w_ijk(t) y_ijk + u sum_f a_if(t) (x_i(f + 1) - x_i(f)), b constant velocity or rest.

    y_ij: the position of j relative to i in the last frame given, and its changes over the last intervals. The weights
    w and a are functions of invariants alone, so that the answer is O(3)-equivariant, and equivariant under
    permutations and shifts of space. The same for velocities, with weights of their own.

    Edges (i, j) are a perceptron of the distances |x_i - x_j| in the frames given, of |x_i(f) - x_j| to j in the last
    of them, and of both couplings. An entity is a token, the mean of its edges; the attention of i to j has a bias from
    the edge. From the distances between three entities follows their angle, between four the torsion.

    length, pace: mean norms of the positions about their centre and of the steps from frame to frame. unit: of the
    residuals of positions and velocities about b. mask: which entities are real, (batch, entity).
    """

    length: Tensor
    pace: Tensor
    unit: Tensor

    def __init__(
        self, interval: float, past: int, future: int, at_rest: bool, width: int, depth: int, heads: int
    ) -> None:
        super().__init__()
        self.interval, self.future, self.at_rest = interval, future, at_rest
        for name, shape in (("length", ()), ("pace", ()), ("unit", (2,))):
            self.register_buffer(name, torch.ones(shape))
        self.vectors = 1 + min(CHANGES, past - 1)
        self.edge = perceptron(2 * past + 2, width, width)
        self.bias = nn.Linear(width, depth * heads)
        self.token = nn.Linear(width, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.mixed = nn.ModuleList(nn.Linear(width, width) for _ in range(3))
        self.weights = nn.Linear(width, 2 * future * self.vectors)
        self.own = nn.Linear(width, 2 * future * (past - 1))
        for last in (self.weights, self.own):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def baseline(self, past: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """b and its velocity."""
        return baseline(past, count, self.interval, self.at_rest)

    def forward(self, past: Tensor, coupling: Tensor, count: int, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Positions and velocities of the next `count` frames, at most `future`, (batch, count, entity, 3) each."""
        apart = past[:, :, None] - past[:, :, :, None]  # (batch, frame, i, j, 3): x_j - x_i
        edges = functional.silu(self.edge(self._invariants(past, apart, coupling)))
        bias = self.bias(edges).permute(0, 3, 1, 2)
        if mask is None:
            tokens = self.token(edges.mean(2))
        else:
            real = mask.to(past)[:, None, :, None]
            tokens = self.token((real * edges).sum(2) / real.sum(2))
            bias = bias.masked_fill(~mask[:, None, None], -torch.inf)
            apart = apart * real[:, None]
        for block, own in zip(self.blocks, bias.chunk(len(self.blocks), 1), strict=True):
            tokens = block(tokens, bias=own)
        of_edge, of_first, of_second = self.mixed
        mixed = functional.silu(of_edge(edges) + of_first(tokens)[:, :, None] + of_second(tokens)[:, None])
        changes = apart[:, -self.vectors :].diff(dim=1) / self.pace
        vectors = torch.cat([apart[:, -1:] / self.length, changes], 1)
        weights = self.weights(mixed).unflatten(-1, (2, self.future, self.vectors))
        off = torch.einsum("bijptk,bkijx->pbtix", weights, vectors)
        weights = self.own(tokens).unflatten(-1, (2, self.future, -1))
        off = off + torch.einsum("biptf,bfix->pbtix", weights, past.diff(dim=1) / self.pace)
        base = self.baseline(past, count)
        found, velocity = (b + u * r[:, :count] for b, u, r in zip(base, self.unit, off, strict=True))
        return found, velocity

    def _invariants(self, past: Tensor, apart: Tensor, coupling: Tensor) -> Tensor:
        """(batch, i, j, feature): distances in the last frame given and their changes, and couplings."""
        to_last = past[:, -1:, None] - past[:, :-1, :, None]
        r, s = (a.square().sum(-1).add(1e-9).sqrt().permute(0, 2, 3, 1) for a in (apart, to_last))
        last = r[..., -1:] / self.length
        pair = (coupling[:, :, None].expand_as(last[..., 0]), coupling[:, None].expand_as(last[..., 0]))
        parts = [last, 1 / (last + SOFT), r.diff(dim=-1) / self.pace, (s - r[..., -1:]) / self.pace]
        return torch.cat([*parts, torch.stack(pair, -1)], -1)
