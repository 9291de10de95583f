"""Options of the closure and of the table [train.latent-diffusion]. Imports no torch."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..learning.options import Features, Parametrisation, Shift

METHOD = "latent-diffusion"  # in headers of weights


class LatentOptions(BaseModel):
    """The space in which the term is sampled: see `latent_spaces`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["fourier", "autoencoder", "physical"] = "fourier"
    points: int | None = Field(None, ge=4, description="of the grid of Fourier latents, per axis; 16 by default")
    factor: int | None = Field(None, ge=2, description="points of a patch, per axis; 4 by default")
    channels: int | None = Field(None, ge=1, description="latent numbers per patch; 1 by default")
    width: int | None = Field(None, ge=1, description="of the autoencoder; 32 by default")
    blocks: int | None = Field(None, ge=0, description="of two convolutions each; 2 by default")

    @model_validator(mode="after")
    def _own(self) -> LatentOptions:
        known = {"fourier": {"points"}, "autoencoder": {"factor", "channels", "width", "blocks"}, "physical": set()}
        named = self.model_dump(exclude_none=True, exclude={"kind"})
        if wrong := sorted(named.keys() - known[self.kind]):
            raise ValueError(f"{', '.join(wrong)}: not an option of {self.kind} latents")
        return self

    def structure(self) -> dict[str, Any]:
        """Kind and keyword arguments of the latent space, as headers of weights hold them."""
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
    """Training of a generative term: stages of Adam under a one-cycle learning rate.

    mean: options of [train.regression] for the conditional mean, or start = weights of a trained regression. Without
    it, all of the term is sampled, as in the publication.

    training: "two-phase" trains the autoencoder for `autoencoder_steps`, then the score network on its frozen latents
    for `score_steps`. "joint" trains both at once, for the sum of these steps, on

        10 L_rec(H) + 0.1 L_rec(u) + 0.1 L_score + 0.01 L_KL     (weights: `loss_weights`),

    where the gradient of L_score reaches both encoders. Source: arXiv 2506.20771. For latents that are not trained the
    option has no effect. distil_steps: training of a student that maps noise to the end of the probability flow in one
    evaluation. correlation_time: of the samples; by default the one measured on the validation set.
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
    shift: Shift = "none"
    reflections: bool = False
    correlation_time: float | None = Field(None, ge=0, description="of the samples; by default measured")
    checkpoint_every: int = Field(250, ge=1, description="steps between checkpoints")
    seed: int = Field(0, ge=0)
    threads: int | None = Field(None, ge=1)
