"""Options of the table [train.lam-slide]. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

METHOD = "lam-slide"  # in headers of weights
Count = Annotated[int, Field(ge=1)]
Predictor = Literal["constant", "rest", "pairs", "transformer"]  # see predictor and transformer
Baseline = Literal["constant", "rest"]
Orientations = Literal["space", "plane"]
Axes = Literal["space", "heading"]


class TrainingOptions(BaseModel):
    """Training of LaM-SLidE: the predictor, then the first stage, the second stage, and both decoders together.

    Frames are the states of [training]. `past` of them are given, `future` are predicted; latents describe windows of
    `window` frames. Samples of a batch begin at any frame, in any orientation, with any identifiers.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    past: int = Field(10, ge=2, description="frames that are given")
    future: int = Field(20, ge=1, description="frames that are predicted at a time")
    window: int = Field(10, ge=1, description="frames that one set of latents describes; divides past and future")

    predictor: Predictor = Field("pairs", description="what the latents are the residual of, and are conditioned on")
    hidden: int = Field(64, ge=1, description="width of the pair network")
    substeps: int = Field(4, ge=1, description="steps of the pair network between two frames")
    spans: tuple[Count, ...] = Field((3,), min_length=1, description="frames of its roll-outs, stage by stage")
    span_steps: tuple[Count, ...] = Field((6000,), min_length=1, description="of Adam, for each span")
    span_learning_rate: float = Field(4e-3, gt=0)
    baseline: Baseline = Field("constant", description="what the transformer corrects: constant velocity, or rest")
    transformer_width: int = Field(64, ge=1)
    transformer_depth: int = Field(3, ge=1, description="blocks of the transformer")
    transformer_steps: int = Field(4000, ge=1)
    transformer_learning_rate: float = Field(2e-3, gt=0)

    residual_axes: Axes = Field("space", description="of residuals; heading: along the last step, in units of it")
    identifiers: int = Field(16, ge=1, description="size of the pool: the largest number of entities")
    dimension: int = Field(32, ge=1, description="of an identifier, at least the size of the pool")
    latents: int = Field(16, ge=1, description="latent vectors per window")
    channels: int = Field(16, ge=1, description="numbers per latent vector")
    width: int = Field(48, ge=1, description="of the encoder and the decoder")
    heads: int = Field(4, ge=1, description="of all attentions; divides the widths")
    binding: float = Field(5.0, description="initial weight of the bias that binds identifiers to latent slots")
    dropout: float = Field(0.1, ge=0, lt=1, description="on identifiers in the queries of the decoder")
    distance_weight: float = Field(0.25, ge=0, description="of pair distances in the loss")
    velocity_weight: float = Field(0.1, ge=0, description="of velocities in the loss")
    species_weight: float = Field(1.0, ge=0, description="of the cross entropy of the couplings in the loss")
    steps: int = Field(2000, ge=1, description="of the first stage")
    learning_rate: float = Field(2e-3, gt=0)

    flow_width: int = Field(48, ge=1, description="of the network of the second stage")
    depth: int = Field(3, ge=1, description="blocks of the network of the second stage")
    pure: float = Field(0.5, ge=0, le=1, description="share of a batch at pure noise")
    position_weight: float = Field(0.25, ge=0, description="of decoded positions in the loss of the second stage")
    flow_steps: int = Field(1500, ge=1, description="of the second stage")
    flow_learning_rate: float = Field(1e-3, gt=0)
    joint_steps: int = Field(300, ge=0, description="of the second stage and the decoder together")

    orientations: Orientations = Field("space", description="of a batch: turned in space, or in x and y")
    batch: int = Field(64, ge=1)
    checkpoint_every: int = Field(250, ge=1, description="steps between checkpoints")
    seed: int = Field(0, ge=0)
    threads: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _consistent(self) -> TrainingOptions:
        if self.past % self.window or self.future % self.window:
            raise ValueError("window must divide past and future")
        if self.dimension < self.identifiers:
            raise ValueError("dimension must be at least identifiers, which are orthogonal")
        if len(self.spans) != len(self.span_steps) or max(self.spans) > self.future:
            raise ValueError("spans needs one of span_steps each, and none above future")
        if self.width % self.heads or self.flow_width % self.heads:
            raise ValueError("heads must divide width and flow_width")
        if self.baseline == "rest" and self.predictor != "transformer":
            raise ValueError(
                f'baseline = "rest" is what a transformer corrects, and predictor is "{self.predictor}". Remedy: '
                'predictor = "transformer", or predictor = "rest"'
            )
        if self.predictor == "transformer" and self.transformer_width % self.heads:
            raise ValueError("heads must divide transformer_width")
        if self.residual_axes == "heading" and self.at_rest:
            raise ValueError(
                'residual_axes = "heading" takes its axes from the constant velocity of the last two frames. Remedy: '
                'baseline = "constant" and a predictor other than "rest", or residual_axes = "space"'
            )
        return self

    @property
    def at_rest(self) -> bool:
        """Whether the base of the frames given is the last of them, instead of motion at constant velocity."""
        return "rest" in (self.predictor, self.baseline)
