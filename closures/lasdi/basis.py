"""Proper orthogonal decomposition: an orthonormal basis of snapshots, in which the networks work.

    u ~ mean + scale modes c,    |u - u_hat|^2 = |u - P u|^2 + scale^2 |c - c_hat|^2,

P the projection, the mean of |c|^2 over the snapshots that made the basis 1. So losses and errors in the full space are
exact in terms of the coefficients c.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Basis:
    """mean (point,), modes (point, mode), orthonormal, in single precision; scale, in units of the state."""

    mean: Tensor
    modes: Tensor
    scale: float

    @classmethod
    def fit(cls, snapshots: Tensor, most: int, energy: float) -> Basis:
        """The leading modes of snapshots (snapshot, point): as many as leave out `energy`, at most so many.

        Eigenvectors of the Gram matrix, in double precision: singular values are good down to 1e-8 of the largest.
        """
        snapshots = snapshots.double()
        mean = snapshots.mean(dim=0)
        centred = snapshots - mean
        values, vectors = torch.linalg.eigh(centred @ centred.T)
        values, vectors = values.flip(0).clamp_min(0), vectors.flip(1)
        if values[0] <= 0:
            raise ValueError("all snapshots are the same: there is nothing to reduce")
        left_out = 1 - values.cumsum(0) / values.sum()
        kept = min(int((left_out > energy).sum()) + 1, most, int((values > 1e-14 * values[0]).sum()))
        modes = centred.T @ vectors[:, :kept] / values[:kept].sqrt()
        scale = float((values.sum() / len(values)).sqrt())
        return cls(mean.float(), modes.float().contiguous(), scale)

    def coefficients(self, states: Tensor) -> Tensor:
        """c of states (..., point)."""
        return (states - self.mean) @ self.modes / self.scale

    def states(self, coefficients: Tensor) -> Tensor:
        """States (..., point)."""
        return torch.addmm(
            self.mean, coefficients.reshape(-1, coefficients.shape[-1]), self.modes.T, alpha=self.scale
        ).reshape(*coefficients.shape[:-1], -1)
