"""Latent trajectories of a run: encoded from its states, and predicted from its first state."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from . import dynamics
from .interpolated import InterpolatedModel
from .model import LatentModel

DRAWS = 50


@torch.inference_mode()
def latent_trajectories(
    model: LatentModel | InterpolatedModel, parameters: NDArray, states: NDArray, interval: float
) -> dict[str, NDArray]:
    """`encoded`, `predicted` and `deviation`, each (time, latent), of the states (time, *) of one run.

    Latents are normalised: over the training runs their mean is 0 and their standard deviation 1. The deviation is the
    standard deviation of samples of the latent dynamics, nan for a model without Gaussian processes.
    """
    flat = torch.from_numpy(np.asarray(states, dtype=np.float32).reshape(len(states), -1)).to(model.operator.device)
    if isinstance(model, InterpolatedModel):
        return model.latent_trajectories(parameters, flat, interval)
    start, known = model.encode(flat[:1]), model.coefficients(parameters)
    predicted = dynamics.trajectories(start, known, interval, len(flat))[0]
    deviation = torch.full_like(predicted, torch.nan)
    if model.spread is not None:
        mean, spread = model.spread.at(model.scaled(parameters).to(model.operator.device))
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn((DRAWS, mean.shape[1]), generator=generator, dtype=mean.dtype).to(mean.device)
        drawn = known + (mean + spread * noise).reshape(DRAWS, *known.shape[1:])
        deviation = dynamics.trajectories(start.expand(DRAWS, -1), drawn, interval, len(flat)).std(0)
    return {
        "encoded": model.normalised(model.encode(flat)).cpu().numpy(),
        "predicted": model.normalised(predicted).cpu().numpy(),
        "deviation": (deviation / model.deviation).cpu().numpy(),
    }
