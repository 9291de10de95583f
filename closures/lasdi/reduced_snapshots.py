"""The training runs in the basis of a reduced-order model."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor

from subgrid.ingest.sweep import Sweep

from ..learning.basis import Basis
from . import dynamics
from .options import TrainingOptions


class Snapshots:
    """Coefficients `c` of the training runs, (run, time, mode), and the energy that the projection loses."""

    def __init__(self, sweep: Sweep, options: TrainingOptions) -> None:
        runs, times = len(sweep), len(sweep.times)
        each = min(times, max(2, options.snapshots // runs))
        chosen = np.unique(np.rint(np.linspace(0, times - 1, each)).astype(int))
        states = [torch.from_numpy(sweep.state(i)).reshape(times, -1) for i in range(runs)]
        some = torch.cat([s[chosen] for s in states])
        reduced = options.autoencoder == "pod-mlp"
        self.basis = Basis.fit(some, options.modes, options.energy) if reduced else Basis.points(some)
        self.c = torch.stack([self.basis.coefficients(s) for s in states])
        self.norm = torch.stack([s.double().square().sum(-1) for s in states])
        lost = [(s - self.basis.states(c)).double().square().sum(-1) for s, c in zip(states, self.c, strict=True)]
        self.lost = torch.stack(lost)
        self.step = float(sweep.times[1] - sweep.times[0])
        self.rate = dynamics.derivative(self.c, self.step)
        self.digest = hashlib.sha256(self.c.numpy().tobytes()).hexdigest()

    def error(self, c: Tensor) -> Tensor:
        """|u - u_hat| / |u| of each snapshot, (run, time), for predicted coefficients (run, time, mode)."""
        off = self.basis.scale**2 * (c - self.c).double().square().sum(-1)
        return ((off + self.lost) / self.norm).sqrt()
