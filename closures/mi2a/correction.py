"""Attention as a correction of the multistep model.

    z(n+1) = multistep + rate V sum_i w_i d_i,    w = softmax_i(tanh(Q s) . tanh(K d_i)),

d_i = (z(n-i) - z(n-i-1)) / rate, s what the function f of the multistep model sees. V is zero at the start of the
training, so that the correction begins as the multistep model itself.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Correction(nn.Module):
    """rate V sum_i w_i d_i, (run, latent), of windows (run, time, latent) and s (run, input), in double precision."""

    def __init__(self, latent: int, inputs: int, hidden: int) -> None:
        super().__init__()
        self.query = nn.Linear(inputs, hidden)
        self.key = nn.Linear(latent, hidden)
        self.value = nn.Linear(latent, latent, bias=False)
        nn.init.zeros_(self.value.weight)
        self.double()

    def forward(self, window: Tensor, inputs: Tensor, rate: Tensor) -> Tensor:
        differences = window.diff(dim=1) / rate
        query = torch.tanh(self.query(inputs))[:, None]
        weights = torch.softmax((torch.tanh(self.key(differences)) * query).sum(-1), 1)
        return rate * self.value((weights[..., None] * differences).sum(1))
