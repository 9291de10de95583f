"""Further stages by ridge regression on random sine features of the latents; strength by leave-runs-out validation.

    D(z) = A sin(kappa (W z + b)),    min over A of  sum |r - D(z~)|^2 + strength n |A|^2,

W is normal, b uniform in phase (random Fourier features, Rahimi and Recht 2007), n the number of snapshots. The
residual r of a stage is known along the trajectories of the training runs only, and is interpolated between them. So
the strength is chosen by cross-validation over runs, in FOLDS folds, which also estimates the fraction of the residual
that remains.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from .perceptrons import StageDecoder

FOLDS = 5
STRENGTHS = tuple(10 ** (-9 + 0.5 * i) for i in range(12))


@torch.no_grad()
def solve(decoder: StageDecoder, z: Tensor, target: Tensor) -> float:
    """Set the last layer of the decoder, for normalised latents and targets (run, time, ...).

    Returns the mean square residual of the runs left out, relative to their targets; 1 if no strength reduces it.
    """
    features = decoder.features(z).double()
    grams, sides = features.transpose(1, 2) @ features, features.transpose(1, 2) @ target.double()
    runs, size = len(z), z.shape[1]
    # a random order: on a grid of runs, every fifth run could be a complete edge
    order = np.random.default_rng(0).permutation(runs).tolist()
    folds = [order[k::FOLDS] for k in range(min(FOLDS, runs))]
    gram, side = grams.sum(0), sides.sum(0)
    left = torch.zeros(len(STRENGTHS), dtype=torch.float64)
    for fold in folds:
        solutions = _solutions(gram - grams[fold].sum(0), side - sides[fold].sum(0), (runs - len(fold)) * size)
        for i, solution in enumerate(solutions):
            left[i] += (target[fold].double() - features[fold] @ solution).square().sum()
    best = int(left.argmin())
    decoder.linear[-1].weight.data = list(_solutions(gram, side, runs * size))[best].T.float().contiguous()
    return min(1.0, float(left[best] / target.double().square().sum()))


def _solutions(gram: Tensor, side: Tensor, snapshots: int) -> Iterator[Tensor]:
    """A^T for every strength, relative to the mean square of all features."""
    values, vectors = torch.linalg.eigh(gram)
    rotated = vectors.T @ side
    unit = gram.diagonal().sum() / snapshots
    for strength in STRENGTHS:
        yield vectors @ (rotated / (values.clamp_min(0) + strength * snapshots * unit)[:, None])
