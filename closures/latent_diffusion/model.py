"""A closure term as a law: H = M(u) + s D(z), z ~ p(z | u), with one way to train, sample and store all variants."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..learning import weights_file
from ..learning.learned_term import FEATURES, LearnedTerm
from .denoiser import Denoiser
from .latent_spaces import LATENTS
from .samplers import Fresh, Sampler, sample

SPECTRUM = "noise_spectrum"


class GenerativeTerm(nn.Module):
    """H = M(u) + s_H D(z), with z = G(xi; c(u)), xi white noise: the predictable part, and samples of the rest.

    structure: `latent` (kind and options), `score` (network and options), `parametrisation`, `features`, and `mean`
    (network, options and features of M) or None: then M = 0 and all of H is sampled. States and terms are
    (batch, field, *grid) in physical units, single precision; scales are the root mean squares of the training set.
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
        given = len(self.normalisation["given"]) + (fields if self.mean is not None else 0)
        latent = dict(structure["latent"])
        self.latent = LATENTS[latent.pop("kind")](dimensions, fields, given, **latent)
        score = dict(structure["score"])
        network = score.pop("network")
        parts = (structure["parametrisation"], network, dimensions, self.latent.channels, self.latent.conditions, score)
        self.denoiser = Denoiser(*parts)
        self.student = Denoiser(*parts) if structure["distilled"] else None

    def scale(self, name: str, like: Tensor) -> Tensor:
        """(field, 1, ...), of "state", "term" or "given"."""
        return like.new_tensor(self.normalisation[name]).reshape(-1, *[1] * self.dimensions)

    def predictable(self, state: Tensor) -> Tensor:
        """M(u)."""
        return self.mean(state) if self.mean is not None else torch.zeros_like(state)

    def given(self, state: Tensor, predictable: Tensor) -> Tensor:
        """What is known of the state, normalised, on its own grid: features, and M(u) where there is one."""
        features = self.structure["features"]
        known = state / self.scale("state", state)
        if features != "state":
            known = FEATURES[features](known, self.length, self.origin)
        known = known / self.scale("given", known)
        if self.mean is None:
            return known
        return torch.cat([known, predictable / self.scale("term", predictable)], dim=1)

    def residual(self, term: Tensor, predictable: Tensor) -> Tensor:
        """h = (H - M(u)) / s_H."""
        return (term - predictable) / self.scale("term", term)

    def sampled(
        self,
        state: Tensor,
        predictable: Tensor,
        white: Tensor,
        sampler: Sampler,
        evaluations: int,
        fresh: Fresh,
        tau_max: float = 1.0,
        distilled: bool = False,
    ) -> Tensor:
        """A draw of H - M(u), of white noise (batch, channel, *latent grid)."""
        condition = self.latent.condition(self.given(state, predictable))
        denoiser = self.student if distilled else self.denoiser
        assert denoiser is not None
        z = sample(
            denoiser,
            self.latent.noise(white),
            condition,
            sampler,
            evaluations,
            lambda: self.latent.noise(fresh()),
            tau_max,
        )
        return self.latent.decode(z, state.shape[2:]) * self.scale("term", state)

    def expected(self, state: Tensor, predictable: Tensor) -> Tensor:
        """E[H - M(u) | u], in one evaluation: what the denoiser makes of pure noise. Zero where M is a trained mean."""
        if self.mean is not None:
            return torch.zeros_like(state)
        condition = self.latent.condition(self.given(state, predictable))
        pure = condition.new_zeros(len(state), self.latent.channels, *condition.shape[2:])
        angle = torch.full((len(state),), self.denoiser.first_angle, device=state.device)
        z = self.denoiser.data(pure, angle, self.denoiser.prepare(condition))
        return self.latent.decode(z, state.shape[2:]) * self.scale("term", state)

    def latent_shape(self, grid: Sequence[int]) -> tuple[int, ...]:
        """(channel, *latent grid) for a grid; raises ValueError for one that the latents do not fit."""
        return (self.latent.channels, *self.latent.grid(grid))

    def save(self, path: str | os.PathLike[str], header: Mapping[str, Any], spectrum: np.ndarray) -> None:
        """Write the weights; spectrum (field, shell), of the noise for a coupling that draws it afresh."""
        arrays = {name: value.detach().cpu().numpy() for name, value in self.state_dict().items()}
        own = {
            "closure": "latent-diffusion",
            "structure": self.structure,
            "normalisation": self.normalisation,
        }
        weights_file.save(path, {**arrays, SPECTRUM: spectrum.astype(np.float64)}, {**header, **own})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> tuple[GenerativeTerm, dict[str, Any], np.ndarray]:
        """(model, header, spectrum). Raises FileNotFoundError, and ValueError for other files."""
        arrays, header = weights_file.load(path)
        if header["closure"] != "latent-diffusion":
            raise ValueError(f"{Path(path).name} is for the closure {header['closure']}, not for latent-diffusion")
        spectrum = arrays.pop(SPECTRUM)
        model = cls(
            header["structure"], header["normalisation"], len(header["shape"]), header["length"], header["origin"]
        )
        model.load_state_dict({name: torch.from_numpy(value) for name, value in arrays.items()})
        return model.eval(), header, spectrum
