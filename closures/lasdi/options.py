"""The table [train.lasdi]. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..learning.options import Activation

METHOD = "lasdi"  # in headers of weights
Library = Literal["affine", "quadratic", "time"]  # see dynamics, and interpolated for "time"
Acquisition = Literal["spread", "residual"]  # see greedy
Kernel = Literal["gaussian", "matern"]  # see interpolated
Form = Literal["strong", "weak"]  # see dynamics


class TrainingOptions(BaseModel):
    """Training of a reduced-order model: Adam under a one-cycle learning rate, stage by stage.

    The first stage minimises, in units of the variance of the snapshots,

        <|c - D(E(c))|^2> + dynamics_weight <|dz/dt - [1, z] Xi|^2> / <|dz/dt|^2>
        + trajectory_weight <|c - D(z~)|^2> + coefficient_weight <|Xi|^2>

    over every `stride`-th snapshot of every run, with another offset at each step. z~ is the latent trajectory
    predicted from the first state of the run, dz/dt the derivative of the encoder along dc/dt, and Xi the joint fit to
    the batch. A further stage minimises the mean square residual of the previous stages along z~: by "ridge" regression
    (`ridge.py`), or by the published "descent" of all its layers.

    With library = "time" there are no networks and no steps: see `interpolated`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    autoencoder: Literal["pod-mlp", "mlp", "convolutional"] = Field(
        "pod-mlp", description="input of the networks: coefficients of a basis, all points, or the grid"
    )
    channels: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (8, 16, 32), min_length=1, description="per level of the convolutional autoencoder"
    )
    modes: int = Field(256, ge=1, description="largest number of modes of the basis")
    energy: float = Field(1e-6, gt=0, lt=1, description="fraction of the variance that the basis may omit")
    snapshots: int = Field(1500, ge=2, description="for the basis, evenly distributed over the runs")
    latent: int = Field(5, ge=1)
    widths: tuple[int, ...] = (200, 100, 50)
    degree: int = Field(2, ge=0, description="of the coefficients as polynomials of the parameters")
    library: Library = Field(
        "affine",
        description='functions of z in which dz/dt is linear; "time": of time, interpolated over the parameters',
    )
    kernel: Kernel = Field("gaussian", description='of the Gaussian processes for library = "time"')
    windows: int = Field(14, ge=1, description='of time, each with its own basis for library = "time"')
    window_modes: int = Field(64, ge=1, description="of the basis of a window")
    time_energy: float = Field(3e-7, gt=0, lt=1, description='share that the times may omit for library = "time"')
    exact_modes: int = Field(32, ge=0, description='of 16 bits in the file for library = "time", the others have 8')
    acquisition: Acquisition = Field(
        "spread", description='what a greedy design makes small; "residual" for library = "time"'
    )
    form: Form = Field("strong", description="of the fit of the dynamics; the weak form needs no derivatives")
    dynamics_weight: float = Field(0.1, ge=0)
    trajectory_weight: float = Field(1.0, ge=0)
    coefficient_weight: float = Field(0.0, ge=0)
    stride: int = Field(5, ge=1)
    steps: int = Field(4000, ge=1)
    learning_rate: float = Field(5e-3, gt=0)
    round_steps: int = Field(1000, ge=1, description="of the first stage after each run that a greedy design adds")
    stages: int = Field(2, ge=1, description="number of decoders; 1 is LaSDI")
    stage_fit: Literal["ridge", "descent"] = Field("ridge", description="method of a further stage")
    stage_widths: tuple[int, ...] = (1000,)
    stage_first: Activation = "sine"
    stage_kappa: float = Field(
        1.0, gt=0, description="frequency of the first layer; larger values resolve finer structure"
    )
    stage_steps: int = Field(2000, ge=1)
    stage_learning_rate: float = Field(5e-3, gt=0)
    spread: bool = Field(True, description="fit Gaussian processes to the residual coefficients of the dynamics")
    checkpoint_every: int = Field(250, ge=1, description="steps between checkpoints")
    seed: int = Field(0, ge=0)
    threads: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _consistent(self) -> TrainingOptions:
        if self.library == "time" and self.autoencoder != "pod-mlp":
            raise ValueError(
                f'train.lasdi.autoencoder: library "time" needs a basis, {self.autoencoder!r} has none. '
                'Remedy: "pod-mlp", or another library'
            )
        if self.library != "time" and self.acquisition == "residual":
            raise ValueError('train.lasdi.acquisition: "residual" is for library = "time". Remedy: "spread"')
        return self
