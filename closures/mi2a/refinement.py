"""What a ridge regression adds to the decoder, and how it is chosen.

Random Fourier features of high frequency reduce the error of reconstruction tenfold, but they are arbitrary beside the
latents of the training runs, which roll-outs reach. The regression therefore also sees copies of the latents with noise
(`jitter`). Frequency and jitter are chosen by roll-outs of the runs held out; the decoder without refinement is a
candidate too. The chosen one is fitted again to all runs.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..learning import ridge
from ..learning.perceptrons import StageDecoder
from .compression import Compression

FREQUENCIES = (2.0, 4.0, 8.0, 12.0)
JITTERS = (0.0, 0.01, 0.03)  # in deviations of the latents
COPIES = 3  # of every snapshot, with jitter


@torch.no_grad()
def refine(
    compression: Compression, c: Tensor, held_out: Tensor, features: int, seed: int, error: Callable[[], float]
) -> dict[str, Any]:
    """Choose the refinement of the decoder for coefficients c (run, time, mode) of the training runs.

    error(): of roll-outs of the runs held out with the decoder as it is now. Returns how it was chosen.
    """
    compression.refinement = None
    best = error()
    about: dict[str, Any] = {"held_out": best}
    if not features:
        return about
    z = compression.latents(c)
    target = c - compression.decoded(z)
    chosen: tuple[float, float] | None = None
    for frequency, jitter in itertools.product(FREQUENCIES, JITTERS):
        _fit(compression, z[~held_out], c[~held_out], target[~held_out], features, frequency, jitter, seed)
        value = error()
        if math.isfinite(value) and value < best:
            best, chosen = value, (frequency, jitter)
    compression.refinement = None
    if chosen is not None:
        _fit(compression, z, c, target, features, *chosen, seed)
        about = {"held_out": best, "frequency": chosen[0], "jitter": chosen[1]}
    return about


def _fit(
    compression: Compression,
    z: Tensor,
    c: Tensor,
    target: Tensor,
    features: int,
    frequency: float,
    jitter: float,
    seed: int,
) -> None:
    """Fit the refinement to what the decoder leaves at latents (run, time, latent), and at their noisy copies."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        found = StageDecoder((z.shape[-1], features, c.shape[-1]), "sine", frequency, random=True)
        if jitter:
            noisy = z.repeat(1, COPIES, 1)
            noisy = noisy + jitter * torch.randn(noisy.shape)
            compression.refinement = None
            z, target = (
                torch.cat([z, noisy], 1),
                torch.cat([target, c.repeat(1, COPIES, 1) - compression.decoded(noisy)], 1),
            )
    scale = float(target.square().mean().sqrt()) or 1.0
    ridge.solve(found, z, target / scale)
    compression.refinement, compression.scale = found.requires_grad_(False), scale
