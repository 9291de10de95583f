"""How a reduced-order model is trained."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from .dynamics import Form, Library
from .networks import First


class TrainingOptions(BaseModel):
    """How a reduced-order model is trained: Adam under a one-cycle learning rate, stage by stage.

    The first stage minimises, in units of the snapshots' variance,

        <|c - D(E(c))|^2> + dynamics_weight <|dz/dt - [1, z] Xi|^2> / <|dz/dt|^2>
        + trajectory_weight <|c - D(z~)|^2> + coefficient_weight <|Xi|^2>

    over every `stride`-th snapshot of every run, with another offset at each step; z~ is the latent trajectory
    predicted from the run's first state, dz/dt the encoder's derivative along dc/dt, and Xi the joint fit to the batch.
    A further stage minimises the mean square of what the stages before it leave along z~: by "ridge" regression
    (`ridge.py`), or by the published "descent" of all its layers.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    autoencoder: Literal["pod-mlp", "mlp", "convolutional"] = Field(
        "pod-mlp", description="what the networks are given: coefficients of a basis, all points, or the grid"
    )
    channels: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (8, 16, 32), min_length=1, description="of the levels of a convolutional one"
    )
    modes: int = Field(256, ge=1, description="the most modes of the basis")
    energy: float = Field(1e-6, gt=0, lt=1, description="share of the variance that the basis may leave out")
    snapshots: int = Field(1500, ge=2, description="that make the basis, evenly spread over the runs")
    latent: int = Field(5, ge=1)
    widths: tuple[int, ...] = (200, 100, 50)
    degree: int = Field(2, ge=0, description="of the polynomials of the parameters that are the coefficients")
    library: Library = Field("affine", description="what the latents' rate is linear in")
    form: Form = Field("strong", description="of the fit of the dynamics; the weak form needs no rates")
    dynamics_weight: float = Field(0.1, ge=0)
    trajectory_weight: float = Field(1.0, ge=0)
    coefficient_weight: float = Field(0.0, ge=0)
    stride: int = Field(5, ge=1)
    steps: int = Field(4000, ge=1)
    learning_rate: float = Field(5e-3, gt=0)
    round_steps: int = Field(1000, ge=1, description="of the first stage after each run that a greedy design adds")
    stages: int = Field(2, ge=1, description="decoders in all; 1 is LaSDI")
    stage_fit: Literal["ridge", "descent"] = Field("ridge", description="how a further stage is found")
    stage_widths: tuple[int, ...] = (1000,)
    stage_first: First = "sine"
    stage_kappa: float = Field(1.0, gt=0, description="frequency of the first layer: the higher, the finer")
    stage_steps: int = Field(2000, ge=1)
    stage_learning_rate: float = Field(5e-3, gt=0)
    spread: bool = Field(True, description="whether Gaussian processes are fitted to the dynamics of single runs")
    checkpoint_every: int = Field(250, ge=1, description="steps between checkpoints, from which it resumes")
    seed: int = Field(0, ge=0)
    threads: int | None = Field(None, ge=1)
