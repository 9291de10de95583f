"""Recurrent networks of the latents: an encoder over the window, and a decoder that steps on from its end.

    lstm     h(n) = LSTM(z(n), h(n-1)),  z(n+1) = z(n) + W h(n)
    luong    c = sum_s a_s h_s, a = softmax_s(h(n)^T W_a h_s) over the encoder's states h_s,
             z(n+1) = z(n) + W tanh(W_c [c; h(n)])
    mi2a     z(n+1) = sum_i a_i z(n-i) + conv(h(n-w+1), ..., h(n)),  a = softmax_i(h(n)^T W_a h(n-i))

"mi2a" has the form of a linear multistep method: the attention weights over the last w states take the place of
alpha_i, and a learnable convolution in time over the hidden states, the derivative branch, that of dt sum beta_i F. The
weights are positive and sum to 1, so without the branch z(n+1) lies in the hull of the window. Sources: arXiv
2504.11433; Luong, Pham and Manning, arXiv 1508.04025.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from .options import Kind


class Recurrent(nn.Module):
    """One of the networks above, for `latent` latents, `parameters` known parameters and windows of `window` states."""

    def __init__(
        self, kind: Kind, latent: int, parameters: int, hidden: int, window: int, derivative: bool = True
    ) -> None:
        super().__init__()
        self.kind, self.window, self.known, self.derivative = kind, window, parameters, derivative
        self.encoder = nn.LSTM(latent + parameters, hidden, batch_first=True)
        self.cell = nn.LSTMCell(latent + parameters, hidden)
        if kind != "lstm":
            self.score = nn.Linear(hidden, hidden, bias=False)
        if kind == "luong":
            self.combine = nn.Linear(2 * hidden, hidden)
        if kind == "mi2a" and derivative:
            self.branch = nn.Conv1d(hidden, latent, window)
            nn.init.zeros_(self.branch.weight)
        if kind != "mi2a":
            self.out = nn.Linear(hidden, latent)
            nn.init.zeros_(self.out.weight)
        self.weights: list[Tensor] = []  # attention weights (run, window) of the last roll-out, newest state last
        self.keep = False

    def rollout(self, window: Tensor, parameters: Tensor, count: int) -> Tensor:
        """The next `count` latents (run, time, latent) after windows (run, time, latent)."""
        known = parameters[:, : self.known].to(window.dtype)
        repeated = known[:, None].expand(-1, window.shape[1], -1)
        # the decoder begins with z(n), which the encoder has not seen
        states, (hidden, cell) = self.encoder(torch.cat([window, repeated], 2)[:, :-1])
        state = (hidden[0], cell[0])
        found, self.weights = [], []
        for _ in range(count):
            state = self.cell(torch.cat([window[:, -1], known], 1), state)
            if self.kind == "mi2a":
                states = torch.cat([states[:, 1 - self.window :], state[0][:, None]], 1)
            following = self._next(window, states, state[0])
            found.append(following)
            window = torch.cat([window[:, 1:], following[:, None]], 1)
        return torch.stack(found, 1) if found else window[:, :0]

    def _next(self, past: Tensor, states: Tensor, h: Tensor) -> Tensor:
        """z(n+1) of the window `past`, the hidden states that attention sees, and the decoder's h(n)."""
        if self.kind == "lstm":
            return past[:, -1] + self.out(h)
        if self.kind == "luong":
            context = (self._attention(states, h)[..., None] * states).sum(1)
            return past[:, -1] + self.out(torch.tanh(self.combine(torch.cat([context, h], 1))))
        following = (self._attention(states, h)[..., None] * past).sum(1)
        if not self.derivative:
            return following
        # the convolution at its only place
        branch = self.branch.weight.transpose(1, 2).flatten(1)
        return following + functional.linear(states.flatten(1), branch, self.branch.bias)

    def _attention(self, states: Tensor, h: Tensor) -> Tensor:
        """softmax_s(h^T W_a h_s), (run, state)."""
        weights = torch.softmax((states * self.score(h)[:, None]).sum(-1), 1)
        if self.keep:
            self.weights.append(weights.detach())
        return weights
