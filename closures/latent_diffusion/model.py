"""The conditional distribution of the closure term: H = M(u) + s D(z), z ~ p(z | u); its samples and its storage."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..learning import weights_file
from ..learning.denoiser import Denoiser
from ..learning.learned_term import FEATURES, LearnedTerm, placed
from ..learning.options import Sampler
from ..learning.samplers import DrawNoise, sample
from .latent_spaces import LATENTS
from .networks import SCORE_NETWORKS
from .options import METHOD

SPECTRUM = "noise_spectrum"  # name of its tensor


class GenerativeTerm(nn.Module):
    """H = M(u) + s_H D(z), z = G(xi; c(u)), with white noise xi: a conditional mean and samples of the residual.

    structure: `latent` (kind and options), `score` (network and options), `parametrisation`, `features`, `distilled`,
    and `mean` (network, options and features of M) or None; then M = 0 and all of H is sampled. States and terms are
    (batch, field, *grid) in physical units and single precision; the scales in `normalisation` are the root mean
    squares of the training set, under "given" those of the features in the condition.
    """

    def __init__(
        self,
        structure: Mapping[str, Any],
        normalisation: Mapping[str, Sequence[float]],
        dimensions: int,
        length: Sequence[float],
        origin: Sequence[float],
    ) -> None:
        super().__init__()
        self.structure, self.dimensions = dict(structure), dimensions
        self.length, self.origin = tuple(length), tuple(origin)
        self.normalisation = {name: list(values) for name, values in normalisation.items()}
        fields = len(self.normalisation["term"])
        mean = structure["mean"]
        self.mean = None
        if mean is not None:
            own = {k: v for k, v in self.normalisation.items() if k in ("state", "term", "features")}
            if mean["features"] == "state":
                own.pop("features", None)
            self.mean = LearnedTerm(
                mean["network"], mean["options"], mean["features"], dimensions, self.length, own, self.origin
            )
        conditions = len(self.normalisation["given"]) + (fields if self.mean is not None else 0)
        latent = dict(structure["latent"])
        self.latent = LATENTS[latent.pop("kind")](dimensions, fields, conditions, **latent)
        score = dict(structure["score"])
        network = score.pop("network")

        def denoiser() -> Denoiser:
            sides = (dimensions, self.latent.channels, self.latent.conditions)
            return Denoiser(structure["parametrisation"], SCORE_NETWORKS[network](*sides, **score))

        self.denoiser = denoiser()
        self.student = denoiser() if structure["distilled"] else None

    def scale(self, name: str, like: Tensor) -> Tensor:
        """The scales "state", "term" or "given", (field, 1, ...)."""
        return placed(self.normalisation[name], like).reshape(-1, *[1] * self.dimensions)

    def conditional_mean(self, state: Tensor) -> Tensor:
        """M(u); zero without a mean network."""
        return self.mean(state) if self.mean is not None else torch.zeros_like(state)

    def condition(self, state: Tensor, mean: Tensor) -> Tensor:
        """The normalised condition on the grid of the state: its features and, with a mean network, M(u) = `mean`."""
        features = self.structure["features"]
        known = state / self.scale("state", state)
        if features != "state":
            known = FEATURES[features](known, self.length, self.origin)
        known = known / self.scale("given", known)
        if self.mean is None:
            return known
        return torch.cat([known, mean / self.scale("term", mean)], dim=1)

    def residual(self, term: Tensor, mean: Tensor) -> Tensor:
        """h = (H - M(u)) / s_H."""
        return (term - mean) / self.scale("term", term)

    def sampled(
        self,
        state: Tensor,
        mean: Tensor,
        white: Tensor,
        sampler: Sampler,
        evaluations: int,
        draw_noise: DrawNoise,
        tau_max: float = 1.0,
        distilled: bool = False,
    ) -> Tensor:
        """A sample of H - M(u) for white noise (batch, channel, *latent grid) and M(u) = `mean`."""
        condition = self.latent.encode_condition(self.condition(state, mean))
        denoiser = self.student if distilled else self.denoiser
        assert denoiser is not None
        z = sample(
            denoiser,
            self.latent.noise(white),
            condition,
            sampler,
            evaluations,
            lambda: self.latent.noise(draw_noise()),
            tau_max,
        )
        return self.latent.decode(z, state.shape[2:]) * self.scale("term", state)

    def expected(self, state: Tensor, mean: Tensor) -> Tensor:
        """E[H - M(u) | u] in one evaluation: the denoiser applied to pure noise. Zero if M is a trained mean."""
        if self.mean is not None:
            return torch.zeros_like(state)
        condition = self.latent.encode_condition(self.condition(state, mean))
        pure = condition.new_zeros(len(state), self.latent.channels, *condition.shape[2:])
        angle = torch.full((len(state),), self.denoiser.first_angle, device=state.device)
        z = self.denoiser.data(pure, angle, self.denoiser.prepare(condition))
        return self.latent.decode(z, state.shape[2:]) * self.scale("term", state)

    def latent_shape(self, grid: Sequence[int]) -> tuple[int, ...]:
        """(channel, *latent grid) for a grid. Raises ValueError for a grid that the latent space does not fit."""
        return (self.latent.channels, *self.latent.grid(grid))

    def save(self, path: str | os.PathLike[str], header: Mapping[str, Any], spectrum: np.ndarray) -> None:
        """Write the weights. spectrum: (field, shell), of the white noise of the coupling "split"."""
        arrays = {name: value.detach().cpu().numpy() for name, value in self.state_dict().items()}
        own = {
            "closure": METHOD,
            "structure": self.structure,
            "normalisation": self.normalisation,
        }
        weights_file.save(path, {**arrays, SPECTRUM: spectrum.astype(np.float64)}, {**header, **own})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> tuple[GenerativeTerm, dict[str, Any], np.ndarray]:
        """Read (model, header, spectrum). Raises FileNotFoundError, and ValueError for files of other kinds."""
        arrays, header = weights_file.load(path, METHOD)
        with weights_file.using(path):
            spectrum = arrays.pop(SPECTRUM)
            model = cls(
                header["structure"], header["normalisation"], len(header["shape"]), header["length"], header["origin"]
            )
            model.load_state_dict({name: torch.from_numpy(value) for name, value in arrays.items()})
            return model.eval(), header, spectrum
