"""Deterministic predictors: where the entities go if nothing is drawn at random. Equivariant in space and in entities.

    constant   x(t) = x_0 + v t, with v from the last two frames given
    rest       x(t) = x_0
    pairs      x'' = sum_j f(r_ij, c_i, c_j, v_ij) over pairs, learned, integrated by leapfrog

Positions are (batch, frame, entity, 3), couplings (batch, entity); frames are `interval` apart in time.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

SOFT = 0.15  # of distances in the basis of the force, in units of length
LIMIT = 10.0  # of derivatives of a mean over samples and entities, in units of those of one error
GAIN = 0.01  # of the last layer before training


class Limited(torch.autograd.Function):
    """The identity, whose derivative for each entity and sample is cut to a norm of at most `limit`.

    Errors grow exponentially through encounters, and their derivatives would hide those of all other samples.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, limit: float) -> Tensor:
        ctx.limit = limit
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> tuple[Tensor, None]:
        g = grad[0].nan_to_num()
        return g * (ctx.limit / g.norm(dim=-1, keepdim=True).clamp_min(ctx.limit)), None


def constant_velocity(past: Tensor, count: int) -> Tensor:
    """x(k) = x_0 + k (x_0 - x_{-1}), k = 1..count: (batch, count, entity, 3) after frames `past`."""
    ahead = torch.arange(1, count + 1, dtype=past.dtype, device=past.device)
    return past[:, -1:] + ahead[:, None, None] * (past[:, -1:] - past[:, -2:-1])


def baseline(past: Tensor, count: int, interval: float, at_rest: bool) -> tuple[Tensor, Tensor]:
    """Positions and velocities of the next `count` frames, at constant velocity or at rest: nothing is learned."""
    if at_rest:
        found = past[:, -1:].expand(-1, count, -1, -1)
        return found, torch.zeros_like(found)
    found = constant_velocity(past, count)
    return found, ((past[:, -1:] - past[:, -2:-1]) / interval).expand_as(found)


def centre(x: Tensor, mask: Tensor | None) -> Tensor:
    """The mean over real entities of x (batch, frame, entity, 3), with an axis of length one in their place."""
    if mask is None:
        return x.mean(2, keepdim=True)
    weight = mask.to(x)[:, None, :, None]
    return (weight * x).sum(2, keepdim=True) / weight.sum(2, keepdim=True)


class PairNetwork(nn.Module):
    """x_i'' = m_i sum_j [F_1 + F_2 / (r + s) + F_3 / (r + s)^2] (x_i - x_j) / (r + s) + F_4 (v_i - v_j).

    F: a perceptron of the rotation invariants of the pair (distance, speed, approach) and of the couplings, symmetric
    under exchange; m_i = exp(w c_i). O(3)-equivariant, and equivariant under permutations; momentum is conserved for
    equal m. Between frames the solution is by leapfrog with `substeps` steps.

    The velocity is not given: the network observes the frames known one by one, and corrects its velocity by the error
    of its own prediction of the next frame, v <- v + k e / interval. k = 1 is exact for constant forces.

    mask: which entities are real, (batch, entity); the others exert no force.
    """

    def __init__(self, interval: float, window: int, hidden: int = 64, substeps: int = 4) -> None:
        super().__init__()
        self.interval, self.substeps = interval, substeps
        self.network = nn.Sequential(
            nn.Linear(9, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, 4)
        )
        self.mass = nn.Parameter(torch.zeros(()))
        self.gain = nn.Parameter(torch.ones(window - 1))
        last = self.network[-1]
        assert isinstance(last, nn.Linear)
        with torch.no_grad():
            last.weight.mul_(GAIN)
            last.bias.zero_()

    def acceleration(self, x: Tensor, v: Tensor, invariant: Tensor, pairs: Tensor, mass: Tensor) -> Tensor:
        """(batch, entity, 3). invariant: of the couplings, (batch, pair, 3); pairs: +1, -1, ([batch,] pair, entity)."""
        apart, moving = pairs @ x, pairs @ v
        r = (apart.square().sum(-1, keepdim=True) + 1e-12).sqrt()
        near = 1 / (r + SOFT)
        approach = torch.tanh((apart * moving).sum(-1, keepdim=True) * near)
        speed = moving.square().sum(-1, keepdim=True).log1p()
        features = torch.cat([r.log1p(), near.log(), 0.1 * near, (-r).exp(), approach, speed, invariant], -1)
        f1, f2, f3, f4 = self.network(features).split(1, -1)
        force = ((f3 * near + f2) * near + f1) * near * apart + f4 * moving
        return mass * (pairs.mT @ force)

    def forward(self, past: Tensor, coupling: Tensor, count: int, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Positions and velocities of the next `count` frames, (batch, count, entity, 3) each."""
        pairs = pair_matrix(past.shape[2]).to(past)
        c_i, c_j = (coupling @ pairs.clamp_min(0).mT)[..., None], (coupling @ (-pairs).clamp_min(0).mT)[..., None]
        invariant = torch.cat([c_i + c_j, c_i * c_j, (c_i - c_j).abs()], -1)
        mass = (self.mass * coupling).exp()[..., None]
        if mask is not None:  # a pair counts if both of its entities are real
            real = (pairs.abs() @ mask.to(past)[..., None]) == 2
            pairs = pairs * real
        h = self.interval / self.substeps
        bound = LIMIT / (past.shape[0] * past.shape[2])

        def limited(x: Tensor) -> Tensor:
            return cast(Tensor, Limited.apply(x, bound)) if x.requires_grad else x

        def advance(x: Tensor, v: Tensor, a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            for _ in range(self.substeps):
                half = v + 0.5 * h * a
                x = x + h * half
                a = self.acceleration(x, half, invariant, pairs, mass)
                v = half + 0.5 * h * a
            return limited(x), limited(v), a

        x, v = past[:, 0], (past[:, 1] - past[:, 0]) / self.interval
        for n in range(1, past.shape[1]):
            a = self.acceleration(x, v, invariant, pairs, mass)
            expected, v, _ = advance(x, v, a)
            x = past[:, n]
            v = v + self.gain[n - 1] * (x - expected) / self.interval
        a = self.acceleration(x, v, invariant, pairs, mass)
        found = []
        for _ in range(count):
            x, v, a = advance(x, v, a)
            found.append((x, v))
        positions, velocities = zip(*found, strict=True)
        return torch.stack(positions, 1), torch.stack(velocities, 1)


def pair_matrix(entities: int) -> Tensor:
    """(pair, entity): +1 for the first and -1 for the second entity of each pair."""
    first, second = torch.triu_indices(entities, entities, 1)
    eye = torch.eye(entities)
    return eye[first] - eye[second]
