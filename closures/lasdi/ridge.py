"""Further stages without descent: random sines of the latents, weighed by a ridge regression that runs left out decide.

    D(z) = A sin(kappa (W z + b)),    min over A of  sum |r - D(z~)|^2 + strength n |A|^2,

W normal, b uniform in phase (random Fourier features, Rahimi and Recht 2007), n the number of snapshots. What a stage
learns is known along the trajectories of the training runs alone, and used between them. So the strength is the one
that is best on runs left out, each fifth of them in turn, and so is the share of the residual that a stage leaves.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from .networks import StageDecoder

FOLDS = 5
STRENGTHS = tuple(10 ** (-9 + 0.5 * i) for i in range(12))


@torch.no_grad()
def solve(decoder: StageDecoder, z: Tensor, target: Tensor) -> float:
    """Set the decoder's last layer, for normalised latents and targets (run, time, ...).

    Returns the mean square that it leaves of the targets of runs left out, in units of theirs; 1 if no strength helps.
    """
    features = decoder.features(z).double()
    grams, sides = features.transpose(1, 2) @ features, features.transpose(1, 2) @ target.double()
    runs, size = len(z), z.shape[1]
    # in no order: of a grid of runs, every fifth would be a whole edge
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
    """A^T for every strength, in the units of a feature of mean square 1 over all of them."""
    values, vectors = torch.linalg.eigh(gram)
    turned = vectors.T @ side
    unit = gram.diagonal().sum() / snapshots
    for strength in STRENGTHS:
        yield vectors @ (turned / (values.clamp_min(0) + strength * snapshots * unit)[:, None])
