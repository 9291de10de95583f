"""The table [train.regression]."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from subgrid.solver.case.tables import ClosureTable

from ..learning.options import Features, RolloutWindows, Shift


class RolloutOptions(RolloutWindows):
    """Training through the solver: the options that differ from the one-step training of the initial weights."""

    start: str | None = Field(
        None,
        description="initial weights: a file, or the name of shipped weights; by default random ones with a last layer "
        "of zeros, which are the uncorrected model",
    )


class TrainingOptions(BaseModel):
    """One-step training: Adam on the mean square error of the term, under a one-cycle learning rate.

    loss = <|prediction - term|^2> + transfer_weight <(<u.prediction> - <u.term>)^2>, in units of the root mean squares
    of u and term. <u.term> is the mean over the grid and the fields of a sample, so the second part penalises errors of
    the energy (for a vorticity: the enstrophy) that the term transfers to each state.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    network: Literal["quadratic", "fno", "cnn"] = "quadratic"
    network_options: dict[str, Any] = {}
    features: Features = "state"
    beside: tuple[ClosureTable, ...] = Field(
        (), description="closures with a linear part that stand beside the network, as in [[closure]]"
    )
    steps: int = Field(2000, ge=1)
    batch: int = Field(32, ge=1)
    learning_rate: float = Field(0.01, gt=0, description="the peak of the one-cycle schedule")
    weight_decay: float = Field(0.0, ge=0, description="decoupled, as in AdamW")
    transfer_weight: float = Field(0.0, ge=0)
    shift: Shift = Field("all", description="axes along which every sample is shifted by a random number of points")
    reflections: bool = Field(
        False,
        description="reverse each axis at random; each reversal changes the sign of state and term, as for a vorticity",
    )
    validate_every: int = Field(100, ge=1, description="steps between validations and checkpoints")
    seed: int = Field(0, ge=0)
    threads: int | None = Field(None, ge=1, description="of torch; by default unchanged")
    rollout: RolloutOptions | None = Field(None, description="options of training through the solver")
