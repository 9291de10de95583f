"""Calibration of the predicted spread of a reduced-order model. Part of studies/rom.py.

The fraction of values whose error is within n standard deviations, over every `stride`-th parameter of a test sweep:

spread             `predict_std`: the Gaussian processes of the latent dynamics
with the decoder   the same plus, in the variance, the mean square error on the training runs at each time and point,
                   which the spread of the dynamics does not include
recalibrated       the latter times the factor that puts 95.4 % of the values within two deviations; the factor is
                   determined on every other parameter and evaluated on the remaining ones
"""

from __future__ import annotations

import numpy as np
import torch

from subgrid.closures.lasdi.model import LatentModel
from subgrid.ingest.sweep import Sweep

LEVELS = {1: 0.683, 2: 0.954, 3: 0.997}


def flat(sweep: Sweep, run: int) -> torch.Tensor:
    """States (time, point) of a run."""
    return torch.from_numpy(sweep.state(run)).reshape(len(sweep.times), -1)


def _predicted(model: LatentModel, sweep: Sweep, run: int) -> torch.Tensor:
    step = float(sweep.times[1] - sweep.times[0])
    return model.predict(flat(sweep, run)[:1], sweep.parameters[run : run + 1], step, len(sweep.times))[0]


def calibration(model: LatentModel, training: Sweep, test: Sweep, stride: int) -> dict[str, dict[str, float]]:
    """Fractions by definition of the standard deviation, and the factor of the recalibration."""
    step = float(test.times[1] - test.times[0])
    left = torch.zeros(())
    for i in range(len(training)):
        left = left + (_predicted(model, training, i) - flat(training, i)).square() / len(training)
    ratios: dict[str, list[np.ndarray]] = {"spread": [], "with the decoder": []}
    for i in range(0, len(test), stride):
        states = flat(test, i)
        off = (_predicted(model, test, i) - states).abs()
        spread = model.predict_std(states[:1], test.parameters[i : i + 1], step, len(states))[0]
        ratios["spread"].append((off / spread.clamp_min(1e-30)).numpy().ravel())
        ratios["with the decoder"].append((off / (spread.square() + left).sqrt().clamp_min(1e-30)).numpy().ravel())
    known = np.concatenate(ratios["with the decoder"][::2])
    factor = float(np.quantile(known, LEVELS[2])) / 2
    shares = {name: _shares(np.concatenate(values)) for name, values in ratios.items()}
    if len(ratios["spread"]) > 1:
        shares["recalibrated"] = _shares(np.concatenate(ratios["with the decoder"][1::2]) / factor)
    return shares | {"factor": {"of the recalibration": factor}}


def _shares(ratios: np.ndarray) -> dict[str, float]:
    return {f"{n} sigma": float((ratios <= n).mean()) for n in LEVELS}
