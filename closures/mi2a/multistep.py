"""The linear multistep model of the latents, fitted by ridge regression.

    z(n+1) = sum_i alpha_i z(n-i) + sum_i beta_i [z(n-i) - z(n-i-1)] + f(s),    sum_i alpha_i = 1,

with alpha_i numbers and beta_i matrices, of any sign. Both act on differences of the window, d_i = z(n-i) - z(n-i-1),
so that z(n+1) - z(n) = sum_i A_i d_i + f(s), and a constant is reproduced whatever A is. The coefficients of the linear
multistep method are those of the mean of the diagonal of A_i, see `coefficients`. f is a combination of random Fourier
features of s = (z(n), mean difference of the window, parameters), 1 and the parameters. With `products` it is a
combination of 1, z(n) and the products of the leading entries of z(n): in modes of the state, equations with quadratic
terms are of this form (operator inference, Peherstorfer and Willcox, CMAME 306 (2016) 196).

Attention weights out of a softmax are convex: sum_i w_i z(n-i) stays within the hull of the window, so that it cannot
extrapolate, not even a straight line, whose coefficients are 2 and -1.

A, f and their ridge are found from windows of the training runs, and from copies of them with noise (`jitter`), which
make f return to the trajectories of the training runs. Free roll-outs from the first window of the runs held out choose
among ridge strengths, frequencies of the features, jitters, and models without f. Among the candidates are the
classical extrapolations of order 1 to 3, which are not trained. The chosen model is fitted again to all runs.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from .correction import Correction

STRENGTHS = tuple(10.0**k for k in range(-12, 1))
FREQUENCIES = (0.25, 0.5, 1.0, 2.0, 4.0)  # of the random features, relative to the deviation of s
JITTERS = (0.0, 0.003, 0.03)  # of the windows of the fit, in deviations of the latents
COPIES = 3  # of every window, with jitter
SLOWEST = 1e-3  # rate of a latent, relative to the fastest: below it changes count as round-off
EXTRAPOLATIONS = {1: (), 2: (1.0,), 3: (2.0, -1.0)}  # A_0, A_1 for z(n+1) by a polynomial through as many states


@dataclass
class Multistep:
    """z(n+1) - z(n) = [d / rate, 1, mu, p(z(n)), phi(s)] C with phi = sin(s W + b).

    matrix: C (feature, latent). weight, phase: W (entry of s, feature) and b; without columns there is no phi. rate:
    deviation of the differences of each latent. window: number of states. parameters: entries of mu, 0 if unknown.
    correction: what is added, see `correction.py`, or None.
    products: number of leading latents whose products are, with z(n), in p; 0 for no p.
    unknown: number of leading latents of z(n) that are no part of s; a model that does not know a position is the same
    everywhere.
    """

    matrix: Tensor
    weight: Tensor
    phase: Tensor
    rate: Tensor
    window: int
    parameters: int
    unknown: int = 0
    correction: Correction | None = None
    products: int = 0

    def inputs(self, window: Tensor, parameters: Tensor) -> Tensor:
        """s, (run, input), of windows (run, time, latent) and scaled parameters (run, parameter)."""
        differences = window.diff(dim=1) / self.rate
        return torch.cat([window[:, -1, self.unknown :], differences.mean(1), parameters[:, : self.parameters]], 1)

    def features(self, window: Tensor, parameters: Tensor) -> Tensor:
        """(run, feature) of windows (run, time, latent) and scaled parameters (run, parameter)."""
        differences = window.diff(dim=1) / self.rate
        known = parameters[:, : self.parameters]
        found = [differences.flatten(1), torch.ones_like(window[:, -1, :1]), known]
        if self.products:
            left, right = torch.triu_indices(self.products, self.products, device=window.device)
            found += [window[:, -1], window[:, -1, left] * window[:, -1, right]]
        if self.weight.shape[1]:
            found.append(torch.sin(self.inputs(window, parameters) @ self.weight + self.phase))
        return torch.cat(found, 1)

    def step(self, window: Tensor, parameters: Tensor) -> Tensor:
        """z(n+1), (run, latent)."""
        following = window[:, -1] + self.features(window, parameters) @ self.matrix
        if self.correction is None:
            return following
        return following + self.correction(window, self.inputs(window, parameters), self.rate)

    def rollout(self, window: Tensor, parameters: Tensor, count: int) -> Tensor:
        """The next `count` latents (run, time, latent) after windows (run, time, latent), in double precision."""
        window, found = window.double(), []
        for _ in range(count):
            following = self.step(window, parameters)
            found.append(following)
            window = torch.cat([window[:, 1:], following[:, None]], 1)
        return torch.stack(found, 1) if found else window[:, :0]

    def to(self, device: str | torch.device) -> Multistep:
        """The model with its tensors on a device; a correction is moved in place."""
        moved = {name: getattr(self, name).to(device) for name in ("matrix", "weight", "phase", "rate")}
        return replace(self, **moved, correction=self.correction and self.correction.to(device))

    def coefficients(self) -> Tensor:
        """alpha_0, alpha_1, ... (window,): the part of the model that treats all latents alike; their sum is 1."""
        steps, latent = self.window - 1, len(self.rate)
        blocks = (self.matrix[: steps * latent] / self.rate.repeat(steps)[:, None]).reshape(steps, latent, latent)
        mean = blocks.diagonal(dim1=1, dim2=2).mean(1).flip(0)  # of d_0, d_1, ...
        alpha = torch.zeros(self.window, dtype=torch.float64)
        alpha[0] = 1.0
        alpha[:-1] += mean
        alpha[1:] -= mean
        return alpha

    def tensors(self) -> dict[str, Tensor]:
        """What is written to a file: W and b only if there are features."""
        found = {"matrix": self.matrix, "rate": self.rate}
        found |= {"weight": self.weight, "phase": self.phase} if self.weight.shape[1] else {}
        if self.correction is not None:
            found |= {f"correction.{name}": value for name, value in self.correction.state_dict().items()}
        return found

    @classmethod
    def of_tensors(
        cls, tensors: dict[str, Tensor], window: int, parameters: int, unknown: int, products: int
    ) -> Multistep:
        """The model of `tensors()`. Raises LookupError if one is missing, ValueError for shapes that do not fit."""
        empty = torch.zeros((0, 0), dtype=torch.float64)
        weight, phase = tensors.get("weight", empty), tensors.get("phase", empty.flatten())
        found = cls(tensors["matrix"], weight, phase, tensors["rate"], window, parameters, unknown, products=products)
        own = {n.removeprefix("correction."): v for n, v in tensors.items() if n.startswith("correction.")}
        if own:
            latent, (hidden, inputs) = len(found.rate), own["query.weight"].shape
            found.correction = Correction(latent, inputs, hidden)
            found.correction.load_state_dict(own)
            found.correction.requires_grad_(False)
        if found.rate.ndim != 1 or found.matrix.ndim != 2 or found.phase.shape != found.weight.shape[1:]:
            raise ValueError("the tensors have shapes that do not fit together")
        return found


@dataclass(frozen=True)
class Candidate:
    """A model to be tried: what f knows, the frequency of its features (None for none), jitter and ridge strength.

    extrapolation: the number of states of a polynomial extrapolation, which is not fitted; then nothing else counts.
    products: of how many latents. instant: whether the differences of the window are left out.
    """

    unknown: int = 0
    frequency: float | None = None
    jitter: float = 0.0
    strength: float = 0.0
    extrapolation: int | None = None
    products: int = 0
    instant: bool = False


def windows(z: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """All windows (run, start, time, latent) of latents (run, time, latent), and the latents that follow them."""
    cut = z.unfold(1, size + 1, 1).transpose(2, 3)
    return cut[:, :, :-1], cut[:, :, -1]


@torch.no_grad()
def fit(
    z: Tensor,
    parameters: Tensor,
    held_out: Tensor,
    size: int,
    features: int,
    known: bool,
    seed: int,
    error: Callable[[Tensor, Tensor], float],
    noisy: Tensor | None = None,
    positions: int = 0,
    products: int = 0,
) -> tuple[Multistep, Multistep, dict[str, Any]]:
    """The model of latents (run, time, latent), the same without the runs held out, and how it was chosen.

    parameters: scaled, (run, parameter). held_out: (run,), whether a run is held out from the fit. error(predicted,
    runs): of roll-outs (run, time, latent) from the first window to the end, over the given runs. noisy: latents of
    states with noise (draw, run, time, latent), in whose place the windows are taken; roll-outs start from the last.
    positions: number of leading latents that are positions. products: of so many latents; then there are no random
    features and no noise, and the ridge sees the latents in their own units, so that it falls on small ones most.
    Equal seeds give equal models.
    """
    z, used = z.double(), parameters.double()
    count = used.shape[1] if known else 0
    sources = [z] if noisy is None else [one.double() for one in noisy]
    entries = [windows(source, size)[0] for source in sources]
    following = windows(z, size)[1]
    target = torch.cat([(following - e[:, :, -1]) for e in entries], 1)
    stacked = torch.cat(entries, 1)
    # of the windows: a latent that varies with noise alone must not dominate the features
    rate = torch.cat(sources).diff(dim=1).flatten(0, 1).std(0).clamp_min(1e-12)
    rate = torch.ones_like(rate) if products else rate.clamp_min(SLOWEST * float(rate.max()))
    starts = sources[-1][held_out][:, :size]
    best: tuple[float, Candidate, Multistep | None] = (math.inf, Candidate(), None)

    def model_of(candidate: Candidate) -> Multistep:
        latent, steps = z.shape[2], size - 1
        width = features if candidate.frequency else 0
        inputs = 2 * latent - candidate.unknown + count
        generator = torch.Generator().manual_seed(seed)
        weight = (candidate.frequency or 0.0) * torch.randn((inputs, width), generator=generator, dtype=torch.float64)
        phase = 2 * math.pi * torch.rand(width, generator=generator, dtype=torch.float64)
        own = candidate.products
        width += (latent + own * (own + 1) // 2) if own else 0
        empty = torch.zeros((steps * latent + 1 + count + width, latent), dtype=torch.float64)
        return Multistep(empty, weight, phase, rate, size, count, candidate.unknown, products=own)

    def fitted_to(runs: Tensor, shape: Candidate) -> Iterator[tuple[Candidate, Multistep]]:
        """The models of all strengths, fitted to these runs."""
        model = model_of(shape)
        rows, right = _rows(model, stacked[runs], target[runs], used[runs], shape.jitter, seed)
        skipped = (size - 1) * z.shape[2] if shape.instant else 0
        for strength, matrix in _ridge(rows[:, skipped:], right):
            full = torch.cat([model.matrix[:skipped], matrix])
            yield replace(shape, strength=strength), replace(model, matrix=full)

    everything = torch.ones_like(held_out)
    for shape in _shapes(size, features, sorted({0, positions, z.shape[2]}), products):
        fixed = [(shape, _extrapolation(model_of(shape), shape.extrapolation))] if shape.extrapolation else None
        for candidate, tried in fixed or fitted_to(~held_out, shape):
            path = tried.rollout(starts, used[held_out], z.shape[1] - size)
            value = error(path, held_out) if torch.isfinite(path).all() else math.inf
            if value < best[0]:
                best = (value, candidate, tried)
    least, chosen, fitted = best
    if chosen.extrapolation:
        model = _extrapolation(model_of(chosen), chosen.extrapolation)
    else:
        model = next(found for candidate, found in fitted_to(everything, chosen) if candidate == chosen)
    return model, fitted or model, {"held_out": least} | {k: v for k, v in vars(chosen).items() if v is not None}


def _shapes(size: int, features: int, unknown: list[int], products: int) -> Iterator[Candidate]:
    """Candidates whose strength is still open, and the extrapolations."""
    for order in EXTRAPOLATIONS:
        if order <= size:
            yield Candidate(extrapolation=order)
    if products:
        yield from (Candidate(), Candidate(products=products), Candidate(products=products, instant=True))
        return
    for jitter in JITTERS:
        yield Candidate(jitter=jitter)
        if features:
            for skipped, frequency in itertools.product(unknown, FREQUENCIES):
                yield Candidate(skipped, frequency, jitter)


def _extrapolation(model: Multistep, order: int) -> Multistep:
    """The model that is the polynomial through the last `order` states."""
    model.matrix.zero_()
    latent = len(model.rate)
    for back, factor in enumerate(EXTRAPOLATIONS[order]):
        first = (model.window - 2 - back) * latent
        model.matrix[first : first + latent] = torch.diag(factor * model.rate)
    return model


def _rows(
    model: Multistep, entries: Tensor, target: Tensor, parameters: Tensor, jitter: float, seed: int
) -> tuple[Tensor, Tensor]:
    """Features (row, feature) and targets (row, latent) of windows (run, start, time, latent), with copies of them."""
    used = parameters.repeat_interleave(entries.shape[1], 0)
    entries, target = entries.flatten(0, 1), target.flatten(0, 1)
    if jitter:
        generator = torch.Generator().manual_seed(seed)
        following = (target + entries[:, -1]).repeat(COPIES, 1)
        entries, used = entries.repeat(COPIES, 1, 1), used.repeat(COPIES, 1)
        entries = entries + jitter * torch.randn(entries.shape, generator=generator, dtype=torch.float64)
        target = following - entries[:, -1]
    return model.features(entries, used), target


def _ridge(rows: Tensor, right: Tensor) -> Iterator[tuple[float, Tensor]]:
    """Solutions of min |rows C - right|^2 + strength |rows|^2 / features |C|^2 for every strength."""
    values, vectors = torch.linalg.eigh(rows.T @ rows)
    rotated = vectors.T @ (rows.T @ right)
    unit = float(values.clamp_min(0).mean())
    for strength in STRENGTHS:
        yield strength, vectors @ (rotated / (values.clamp_min(0) + strength * unit)[:, None])
