"""The table [train.mi2a]. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

METHOD = "mi2a"  # in headers of weights
Kind = Literal["multistep", "lstm", "luong", "mi2a"]  # of the latent evolution
Count = Annotated[int, Field(ge=1)]


class TrainingOptions(BaseModel):
    """Training of a wave model: the autoencoder first, then the latent evolution in its latents.

    The autoencoder minimises <|c - D(E(c + noise))|^2> / <|c|^2> by Adam under a one-cycle learning rate. A ridge
    regression on random Fourier features of the latents then fits what its decoder leaves, see `learning.ridge`.

    evolution "multistep" is fitted by ridge regression, see `multistep`. The recurrent networks minimise the loss of
    Takacs over roll-outs whose length grows along `spans`, see `losses`. Every `validation`-th run of the sweep is held
    out from the fit of the evolution: roll-outs of these runs choose the ridge strength, or the weights of the network.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    compression: Literal["pod-fourier", "pod", "convolutional", "registered"] = Field(
        "pod-fourier",
        description="networks on coefficients of a basis, these coefficients, convolutions, or position and modes",
    )
    latent: int | None = Field(None, ge=1, description="number of latents; by default 2 in one dimension, 8 in two")
    noise: float = Field(0.02, ge=0, description="on the input of the encoder, relative to the largest |u|")
    modes: int = Field(100, ge=1, description="largest number of modes of the basis")
    energy: float = Field(1e-9, gt=0, lt=1, description="fraction of the variance that the basis may omit")
    snapshots: int = Field(1500, ge=2, description="for the basis, evenly distributed over the runs")
    template: Literal["snapshot", "run"] = Field(
        "snapshot",
        description="registered: patterns keep the shape of the first snapshot, or change as in the first run, at rest",
    )
    pattern_modes: int = Field(
        0, ge=0, description="registered: further modes, whose coefficients are a function of the latents"
    )
    band: float = Field(
        1.0, gt=0, le=1, description="registered: wavenumbers of the modes, relative to those of the grid"
    )
    cell_phase: bool = Field(True, description="whether this function sees the place within a grid cell")
    errors: Literal["states", "latents"] = Field(
        "states",
        description="registered: what the loss of networks and the choice of the evolution compare",
    )
    widths: tuple[Count, ...] = (128, 64)
    frequencies: int = Field(64, ge=1, description="number of Fourier features of the latents in the decoder")
    kappa: float = Field(2.0, gt=0, description="standard deviation of these frequencies")
    channels: tuple[Count, ...] = Field((8, 16, 32), min_length=1, description="per level, convolutional")
    features: int = Field(1000, ge=0, description="random features of the ridge regression after the decoder")
    steps: int = Field(4000, ge=1, description="of the autoencoder")
    batch: int = Field(512, ge=1, description="snapshots per step of the autoencoder")
    learning_rate: float = Field(3e-3, gt=0)

    evolution: Kind = "multistep"
    window: int = Field(10, ge=2, description="number of past states")
    parameters: bool = Field(False, description="whether the parameters of the run are known to the evolution")
    window_noise: float = Field(0.0, ge=0, description="on the states of training windows, relative to the largest |u|")
    validation: int = Field(5, ge=2, description="every so many runs one is held out from the fit of the evolution")

    random_features: int = Field(400, ge=0, description="of the window, in the multistep model")
    products: int = Field(
        0, ge=0, description="pod: leading latents whose products are the function f of the multistep model"
    )

    attention: bool = Field(
        False, description="whether a correction by attention is trained, and kept if the runs held out gain by it"
    )

    hidden: int = Field(48, ge=1, description="size of the hidden state of a recurrent network, and of attention")
    derivative: bool = Field(True, description="whether the network mi2a has its derivative branch")
    psi: float | None = Field(0.7, ge=0, le=1, description="weight of the dispersion; none for the mean square error")
    spans: tuple[Count, ...] = Field((5, 10, 20, 40), min_length=1, description="steps of a roll-out, stage by stage")
    span_steps: int = Field(500, ge=1, description="steps of Adam per span")
    span_batch: int = Field(32, ge=1)
    span_learning_rate: float = Field(3e-3, gt=0)

    checkpoint_every: int = Field(250, ge=1, description="steps between checkpoints")
    seed: int = Field(0, ge=0)
    threads: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _consistent(self) -> TrainingOptions:
        if self.compression != "registered" and (self.pattern_modes or self.errors == "latents"):
            raise ValueError('pattern_modes and errors = "latents" need compression = "registered"')
        if self.products and (self.compression, self.evolution) != ("pod", "multistep"):
            raise ValueError('products need compression = "pod" and evolution = "multistep"')
        if self.products and (self.attention or self.parameters or self.window_noise):
            raise ValueError("with products there is no attention, known parameters or window_noise")
        if list(self.spans) != sorted(set(self.spans)):
            raise ValueError("spans must increase")
        return self
