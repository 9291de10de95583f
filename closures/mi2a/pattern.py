"""Coefficients of further modes of a pattern at rest, a function of those that are latents.

    b = B^T [sin(a W + p) (x) h(s)],    h(s) = products over the axes of (1, cos 2 pi n s, sin 2 pi n s)

a are the latent coefficients and s the position in units of the domain, n the number of points along its axis. h makes
b depend on the place within a grid cell, as the error of discretisation does; without it h = 1. W and p are random
(Rahimi and Recht 2007), B is a ridge regression. Roll-outs of the runs held out choose the frequency of the features,
noise on the latents of the fit (`jitter`) and the ridge strength. The chosen function is fitted again to all runs.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

FREQUENCIES = (0.5, 1.0, 2.0, 4.0)
JITTERS = (0.0, 0.01)  # in deviations of the latents
MOST = 3000  # snapshots of the search, drawn at random
STRENGTHS = tuple(10.0**k for k in range(-12, -1))


class Pattern(nn.Module):
    """The function b(a, s): latents (snapshot, latent), normalised, and positions (snapshot, axis) -> (snapshot, mode).

    shape: points along each axis if b depends on the place within a cell, else empty.
    """

    weight: Tensor
    phase: Tensor
    matrix: Tensor

    def __init__(self, latent: int, features: int, modes: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape
        waves = 3 ** len(shape)
        each = max(1, features // waves)
        self.register_buffer("weight", torch.zeros((latent, each)))
        self.register_buffer("phase", torch.zeros(each))
        self.register_buffer("matrix", torch.zeros((each * waves, modes)))

    def draw(self, frequency: float, seed: int) -> None:
        """Draw the random features."""
        generator = torch.Generator().manual_seed(seed)
        self.weight.copy_(frequency * torch.randn(self.weight.shape, generator=generator))
        self.phase.copy_(2 * math.pi * torch.rand(self.phase.shape, generator=generator))

    def features(self, a: Tensor, s: Tensor) -> Tensor:
        """(snapshot, feature), in double precision."""
        found = torch.sin(a.double() @ self.weight.double() + self.phase.double())
        for axis, points in enumerate(self.shape):
            angle = 2 * math.pi * points * s[:, axis, None].double()
            waves = torch.cat([torch.ones_like(angle), angle.cos(), angle.sin()], 1)
            found = (found[:, :, None] * waves[:, None]).flatten(1)
        return found

    def forward(self, a: Tensor, s: Tensor) -> Tensor:
        return self.features(a, s) @ self.matrix.double()

    @torch.no_grad()
    def fit(
        self, a: Tensor, s: Tensor, b: Tensor, held_out: Tensor, reached: tuple[Tensor, Tensor], seed: int
    ) -> dict[str, Any]:
        """Fit b of runs (run, time, ...); `reached` are a and s of roll-outs of the runs held out, to their end.

        Returns how it was chosen, and the error of the runs held out relative to the mean square of b.
        """
        target = b[held_out][:, -reached[0].shape[1] :].flatten(0, 1)
        best, chosen = math.inf, (FREQUENCIES[0], JITTERS[0], STRENGTHS[-1])
        drawn = torch.randperm(b[~held_out].shape[:2].numel(), generator=torch.Generator().manual_seed(seed))[:MOST]
        few_a, few_s, few_b = (of[~held_out].flatten(0, 1)[drawn][None] for of in (a, s, b))
        for frequency, jitter in itertools.product(FREQUENCIES, JITTERS):
            self.draw(frequency, seed)
            asked = self.features(reached[0].flatten(0, 1), reached[1].flatten(0, 1))
            for strength, matrix in self._solutions(few_a, few_s, few_b, jitter, seed):
                value = float((asked @ matrix - target).square().sum())
                if value < best:
                    best, chosen = value, (frequency, jitter, strength)
        frequency, jitter, strength = chosen
        self.draw(frequency, seed)
        self.matrix.copy_(next(m for s0, m in self._solutions(a, s, b, jitter, seed) if s0 == strength))
        found = {"frequency": frequency, "jitter": jitter, "strength": strength}
        return found | {"left": best / float(target.square().sum())}

    def _solutions(self, a: Tensor, s: Tensor, b: Tensor, jitter: float, seed: int) -> Iterator[tuple[float, Tensor]]:
        """The ridge regression for every strength."""
        a, s, b = a.flatten(0, 1), s.flatten(0, 1), b.flatten(0, 1)
        if jitter:
            drawn = torch.randn(a.shape, generator=torch.Generator().manual_seed(seed), dtype=a.dtype)
            a, s, b = torch.cat([a, a + jitter * drawn]), s.repeat(2, 1), b.repeat(2, 1)
        rows = self.features(a, s)
        values, vectors = torch.linalg.eigh(rows.T @ rows)
        rotated = vectors.T @ (rows.T @ b)
        unit = float(values.clamp_min(0).mean())
        for strength in STRENGTHS:
            yield strength, vectors @ (rotated / (values.clamp_min(0) + strength * unit)[:, None])
