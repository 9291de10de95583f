"""What a reduced-order model sees of a run: its latents, as encoded from the run and as predicted from its start."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from . import dynamics
from .model import LatentModel

DRAWS = 50


@torch.inference_mode()
def portrait(model: LatentModel, parameters: NDArray, states: NDArray, interval: float) -> dict[str, NDArray]:
    """`encoded`, `predicted` and `deviation`, each (time, latent), of the states (time, *) of one run.

    In units of the training runs: their mean is 0 and their standard deviation 1. The deviation is that of draws of the
    latent dynamics, nan without a spread.
    """
    flat = torch.from_numpy(np.asarray(states, dtype=np.float32).reshape(len(states), -1))
    start, known = model.encode(flat[:1]), model.coefficients(parameters)
    predicted = dynamics.trajectories(start, known, interval, len(flat))[0]
    deviation = torch.full_like(predicted, torch.nan)
    if model.spread is not None:
        mean, spread = model.spread.at(model.scaled(parameters))
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn((DRAWS, mean.shape[1]), generator=generator, dtype=mean.dtype)
        drawn = known + (mean + spread * noise).reshape(DRAWS, *known.shape[1:])
        deviation = dynamics.trajectories(start.expand(DRAWS, -1), drawn, interval, len(flat)).std(0)
    return {
        "encoded": model.normalised(model.encode(flat)).numpy(),
        "predicted": model.normalised(predicted).numpy(),
        "deviation": (deviation / model.deviation).numpy(),
    }
