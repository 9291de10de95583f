"""Proper orthogonal decomposition: the orthonormal basis in which the networks work.

    u ~ mean + scale modes c,    |u - u_hat|^2 = |u - P u|^2 + scale^2 |c - c_hat|^2,

P the projection onto the modes. The scale makes the mean of |c|^2 over the snapshots of the basis equal to 1. Losses
and errors of full states follow exactly from the coefficients c.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

SAME = "all snapshots are equal, so there is nothing to reduce. Remedy: runs that differ"


@dataclass
class Basis:
    """mean (point,) and orthonormal modes (point, mode) in single precision; scale in units of the state.

    modes None: the coefficients are the values at the points, P = 1.
    """

    mean: Tensor
    modes: Tensor | None
    scale: float

    @property
    def size(self) -> int:
        """The number of coefficients."""
        return len(self.mean) if self.modes is None else self.modes.shape[1]

    @classmethod
    def points(cls, snapshots: Tensor) -> Basis:
        """The basis without modes, for snapshots (snapshot, point). Raises ValueError if all of them are equal."""
        mean = snapshots.double().mean(dim=0)
        scale = float((snapshots - mean).square().sum(-1).mean().sqrt())
        if scale == 0:
            raise ValueError(SAME)
        return cls(mean.float(), None, scale)

    @classmethod
    def fit(cls, snapshots: Tensor, most: int, energy: float) -> Basis:
        """The leading modes of snapshots (snapshot, point): the fewest that omit at most `energy`, and at most `most`.

        Computed from the eigenvectors of the Gram matrix in double precision, which resolves singular values down to
        1e-8 of the largest. Raises ValueError if all snapshots are equal.
        """
        snapshots = snapshots.double()
        mean = snapshots.mean(dim=0)
        centred = snapshots - mean
        values, vectors = torch.linalg.eigh(centred @ centred.T)
        values, vectors = values.flip(0).clamp_min(0), vectors.flip(1)
        if values[0] <= 0:
            raise ValueError(SAME)
        left_out = 1 - values.cumsum(0) / values.sum()
        kept = min(int((left_out > energy).sum()) + 1, most, int((values > 1e-14 * values[0]).sum()))
        modes = centred.T @ vectors[:, :kept] / values[:kept].sqrt()
        scale = float((values.sum() / len(values)).sqrt())
        return cls(mean.float(), modes.float().contiguous(), scale)

    def to(self, device: str | torch.device) -> Basis:
        """The basis with its tensors on a device."""
        return Basis(self.mean.to(device), None if self.modes is None else self.modes.to(device), self.scale)

    def coefficients(self, states: Tensor) -> Tensor:
        """Coefficients (..., mode) of states (..., point)."""
        off = states - self.mean
        return (off if self.modes is None else off @ self.modes) / self.scale

    def states(self, coefficients: Tensor) -> Tensor:
        """States (..., point) of coefficients (..., mode)."""
        flat = coefficients.reshape(-1, coefficients.shape[-1])
        return self.fill(flat).reshape(*coefficients.shape[:-1], -1)

    def fill(self, coefficients: Tensor, out: Tensor | None = None) -> Tensor:
        """States (snapshot, point) of coefficients (snapshot, mode), written to `out` if given."""
        if self.modes is None:
            return torch.add(self.mean, coefficients, alpha=self.scale, out=out)
        return torch.addmm(self.mean, coefficients, self.modes.T, alpha=self.scale, out=out)

    def norm(self, coefficients: Tensor) -> Tensor:
        """|u| of states with these coefficients (..., mode)."""
        shift = self.mean if self.modes is None else self.mean @ self.modes
        outside = self.mean.square().sum() - shift.square().sum()
        return ((self.scale * coefficients + shift).square().sum(-1) + outside.clamp_min(0)).sqrt()
