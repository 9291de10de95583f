"""The table [train.latent-diffusion]."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..learning.learned_term import Features
from .denoiser import Parametrisation


class LatentOptions(BaseModel):
    """Where sampling takes place: see `latents`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["fourier", "autoencoder", "physical"] = "fourier"
    points: int | None = Field(None, ge=4, description="of the grid of Fourier latents, per axis; 16 by default")
    factor: int | None = Field(None, ge=2, description="points of a patch, per axis; 4 by default")
    channels: int | None = Field(None, ge=1, description="numbers a patch; 1 by default")
    width: int | None = Field(None, ge=1, description="of the autoencoder; 32 by default")
    blocks: int | None = Field(None, ge=0, description="of two convolutions each; 2 by default")

    @model_validator(mode="after")
    def _own(self) -> LatentOptions:
        known = {"fourier": {"points"}, "autoencoder": {"factor", "channels", "width", "blocks"}, "physical": set()}
        given = self.model_dump(exclude_none=True, exclude={"kind"})
        if wrong := sorted(given.keys() - known[self.kind]):
            raise ValueError(f"{', '.join(wrong)}: not an option of {self.kind} latents")
        return self

    def structure(self) -> dict[str, Any]:
        defaults = {"points": 16} if self.kind == "fourier" else {}
        return {"kind": self.kind} | defaults | self.model_dump(exclude_none=True, exclude={"kind"})


class ScoreOptions(BaseModel):
    """The score network: see `networks`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    network: Literal["cnn", "fno"] = "cnn"
    width: int = Field(32, ge=1)
    layers: int = Field(3, ge=1)
    kernel: int | None = Field(None, ge=1, description="of the cnn; 3 by default")
    modes: int | None = Field(None, ge=2, description="of the fno; 8 by default")

    @model_validator(mode="after")
    def _own(self) -> ScoreOptions:
        wrong = "modes" if self.network == "cnn" else "kernel"
        if getattr(self, wrong) is not None:
            raise ValueError(f"{wrong}: not an option of the {self.network}")
        return self


class TrainingOptions(BaseModel):
    """How a generative term is trained: Adam under a one-cycle learning rate, part by part.

    mean: options of `[train.regression]` for the predictable part, or start = weights of a trained regression; left
    out, all of the term is sampled, as published.

    training: "two-phase", the autoencoder for `autoencoder_steps`, then the score on its frozen latents for
    `score_steps`; "joint", all at once for as many steps as both,

        10 L_rec(H) + 0.1 L_rec(u) + 0.1 L_score + 0.01 L_KL     (weights: `loss_weights`),

    the gradient of L_score reaching both encoders. Source: arXiv 2506.20771. Latents that are not trained need no
    choice. distil_steps: of a student that makes in one evaluation what the probability flow makes of the same noise in
    many. correlation_time: what the closure will take for that of its noise, in place of the one measured on the grid.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    latent: LatentOptions = LatentOptions.model_validate({})
    score: ScoreOptions = ScoreOptions.model_validate({})
    parametrisation: Parametrisation = "data"
    features: Features = "state"
    mean: dict[str, Any] | None = None
    training: Literal["two-phase", "joint"] = "two-phase"
    loss_weights: tuple[float, float, float, float] = (10.0, 0.1, 0.1, 0.01)
    autoencoder_steps: int = Field(2000, ge=1)
    score_steps: int = Field(3000, ge=1)
    distil_steps: int = Field(0, ge=0)
    batch: int = Field(64, ge=2)
    learning_rate: float = Field(2e-3, gt=0)
    shift: Literal["all", "x", "none"] = "none"
    reflections: bool = False
    correlation_time: float | None = Field(None, ge=0, description="of samples; by default the one measured")
    checkpoint_every: int = Field(250, ge=1, description="steps between checkpoints, from which it resumes")
    seed: int = Field(0, ge=0)
    threads: int | None = Field(None, ge=1)
