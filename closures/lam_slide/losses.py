"""Batches of trajectories, and the loss of what is decoded of them: means over real entities alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..learning.parallel import Share
from .model import TrajectoryModel
from .options import Orientations, TrainingOptions


@dataclass
class Batch:
    """Positions and velocities (batch, frame, entity, 3), couplings (batch, entity), and what the predictor answers.

    mask: which entities are real, (batch, entity); None where all are. trajectories, entities, pairs: the fractions of
    those of the whole batch that these are, by which means over them enter its loss.
    """

    x: Tensor
    v: Tensor
    c: Tensor
    predicted: tuple[Tensor, Tensor]
    mask: Tensor | None = None
    trajectories: float = 1.0
    entities: float | Tensor = 1.0
    pairs: float | Tensor = 1.0

    def part(self, share: Share) -> Batch:
        """The rows of a share."""
        if share.all:
            return self
        x, v, c, *predicted = (share.of(t) for t in (self.x, self.v, self.c, *self.predicted))
        mask = None if self.mask is None else share.of(self.mask)
        found = Batch(x, v, c, (predicted[0], predicted[1]), mask, *[share.weight] * 3)
        if mask is not None and self.mask is not None:
            mine, whole = (m.sum(1).double() for m in (mask, self.mask))
            found.entities = mine.sum() / whole.sum()
            found.pairs = (mine * (mine - 1)).sum() / (whole * (whole - 1)).sum().clamp_min(1)
        return found


def turns(generator: np.random.Generator, size: int, orientations: Orientations) -> np.ndarray:
    """(batch, 3, 3): rotations of space, or rotations and reflections of the plane of the first two coordinates.

    The Householder vectors of `qr` give an even number of reflections for 3 x 3 and one for 2 x 2.
    """
    if orientations == "space":
        return np.linalg.qr(generator.standard_normal((size, 3, 3)))[0].astype(np.float32)
    found = np.tile(np.eye(3, dtype=np.float32), (size, 1, 1))
    found[:, :2, :2] = np.linalg.qr(generator.standard_normal((size, 2, 2)))[0]
    found[:, :2, 1] *= np.where(generator.random((size, 1)) < 0.5, -1, 1)
    return found


def mean(e: Tensor, mask: Tensor | None) -> Tensor:
    """The mean of e (batch, frame, entity) over frames and real entities."""
    if mask is None:
        return e.mean()
    weight = mask.to(e)[:, None]
    return (weight * e).sum() / (weight.sum() * e.shape[1])


def frame_means(e: Tensor, mask: Tensor | None) -> Tensor:
    """(batch, frame): the means over the real entities of each trajectory of e (batch, frame, entity)."""
    if mask is None:
        return e.mean(-1)
    weight = mask.to(e)[:, None]
    return (weight * e).sum(-1) / weight.sum(-1)


def displacement(found: Tensor, true: Tensor, mask: Tensor | None) -> Tensor:
    """Displacement errors (trajectory, frame), means over real entities."""
    return frame_means((found - true).norm(dim=-1), mask)


def distances(x: Tensor, y: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean difference of pair distances, over pairs of real entities."""
    i, j = torch.triu_indices(x.shape[2], x.shape[2], 1, device=x.device)
    if not len(i):
        return x.new_zeros(())
    r, s = ((a[:, :, i] - a[:, :, j]).square().sum(-1).add(1e-12).sqrt() for a in (x, y))
    if mask is None:
        return (r - s).abs().mean()
    weight = (mask[:, i] & mask[:, j]).to(x)[:, None]
    return (weight * (r - s).abs()).sum() / (weight.sum() * x.shape[1]).clamp_min(1)


def reconstruction(
    model: TrajectoryModel,
    o: TrainingOptions,
    z: Tensor,
    identifiers: Tensor,
    batch: Batch,
    base: tuple[Tensor, Tensor],
    begin: int,
) -> Tensor:
    """Errors of positions, pair distances and velocities in units of the residuals, of the base, of the species.

    The part of the batch in the loss of the whole batch.
    """
    frames = slice(begin * o.window, None)
    x, v, c, mask = batch.x, batch.v, batch.c, batch.mask
    velocity = torch.cat([model.known_velocity(x[:, : o.past]), v[:, o.past :]], 1)
    found, speed, out = model.residuals(z, identifiers, begin, base[0])
    true, rate = x[:, frames] - base[0][:, frames], velocity[:, frames] - base[1][:, frames]
    unit, fast = model.scale[:, frames].mean(1)
    loss = batch.entities * mean((found - true).norm(dim=-1), mask) / unit
    where = base[0][:, frames]
    loss = loss + batch.pairs * o.distance_weight * distances(where + found, where + true, mask) / unit
    loss = loss + batch.entities * o.velocity_weight * mean((speed - rate).norm(dim=-1), mask) / fast
    off = model.frames(out["base"]) - model.centred(base[0], mask)[:, frames]
    loss = loss + batch.entities * 0.1 * mean(off.norm(dim=-1), mask)
    classes = torch.tensor(model.classes, device=c.device)
    target = (c[..., None] - classes).abs().argmin(-1)[:, None].expand(out["species"].shape[:3])
    if mask is not None:
        target = target.where(mask[:, None], -100)  # what `cross_entropy` leaves out
    species = functional.cross_entropy(out["species"].flatten(0, 2), target.flatten())
    return loss + batch.entities * o.species_weight * species
