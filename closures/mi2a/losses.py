"""The loss of Takacs: the mean square error, divided into a part of amplitude and a part of phase.

    MSE = (sd_d - sd_p)^2 + (mean_d - mean_p)^2  +  2 (sd_d sd_p - cov(d, p))
          dissipation                               dispersion

for data d and a prediction p with population moments over the points of each snapshot: an exact identity. The loss is
2 [psi dispersion + (1 - psi) dissipation], which is the mean square error at psi = 1/2. Sources: Takacs, Mon. Weather
Rev. 113 (1985) 1050; arXiv 2412.02924, which takes psi = 0.7.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..learning.basis import Basis

EPSILON = 1e-12  # inside square roots, whose derivative at 0 is infinite


@dataclass(frozen=True)
class Moments:
    """Means, mean squares and the mean product of data and prediction, (...): all that the two parts depend on."""

    data_mean: Tensor
    mean: Tensor
    data_square: Tensor
    square: Tensor
    product: Tensor

    def parts(self, epsilon: float = EPSILON) -> tuple[Tensor, Tensor]:
        """(dissipation, dispersion), each (...). Without division: constant fields are allowed."""
        sd_d = ((self.data_square - self.data_mean**2).clamp_min(0) + epsilon).sqrt()
        sd_p = ((self.square - self.mean**2).clamp_min(0) + epsilon).sqrt()
        covariance = self.product - self.data_mean * self.mean
        return (sd_d - sd_p) ** 2 + (self.data_mean - self.mean) ** 2, 2 * (sd_d * sd_p - covariance)


def of_fields(data: Tensor, prediction: Tensor) -> Moments:
    """Moments of fields (..., point) over their points."""
    return Moments(
        data.mean(-1),
        prediction.mean(-1),
        data.square().mean(-1),
        prediction.square().mean(-1),
        (data * prediction).mean(-1),
    )


class MomentsInBasis:
    """Moments of u = mean + scale modes c from coefficients (..., mode), at the cost of the coefficients.

    All moments are quadratic in c: with orthonormal modes, P <u v> = |mean|^2 + scale mean^T modes (c_u + c_v)
    + scale^2 c_u c_v. Fields are divided by `unit`.
    """

    def __init__(self, basis: Basis, unit: float) -> None:
        points, self.scale = len(basis.mean), basis.scale / unit
        mean = basis.mean / unit
        modes = torch.eye(points, device=mean.device) if basis.modes is None else basis.modes
        self.points, self.level = points, mean.mean()
        self.sums = self.scale * modes.sum(0) / points
        self.slope = self.scale * (mean @ modes) / points
        self.constant = mean.square().sum() / points

    def __call__(self, data: Tensor, prediction: Tensor) -> Moments:
        """Moments of the fields with these coefficients."""
        return Moments(
            self.level + data @ self.sums,
            self.level + prediction @ self.sums,
            self._product(data, data),
            self._product(prediction, prediction),
            self._product(data, prediction),
        )

    def _product(self, a: Tensor, b: Tensor) -> Tensor:
        return self.constant + (a + b) @ self.slope + self.scale**2 / self.points * (a * b).sum(-1)


def takacs(moments: Moments, psi: float | None) -> Tensor:
    """The loss; psi None: the mean square error."""
    if psi is None:
        return (moments.data_square - 2 * moments.product + moments.square).mean()
    dissipation, dispersion = moments.parts()
    return 2 * (psi * dispersion + (1 - psi) * dissipation).mean()
