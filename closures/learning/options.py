"""Options that several trainings share, and how the table [train.NAME] is read. Imports no torch."""

from __future__ import annotations

from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

Features = Literal["state", "anomaly", "vorticity-velocity", "phase-space"]  # see learned_term
Shift = Literal["all", "x", "none"]  # axes along which batches are shifted, see batches
Activation = Literal["sine", "tanh", "relu"]  # see perceptrons
Sampler = Literal["exponential", "euler", "heun", "euler-maruyama"]  # see samplers
Parametrisation = Literal["data", "score"]  # see denoiser

Options = TypeVar("Options", bound=BaseModel)


def read_options(name: str, model: type[Options], table: dict[str, Any]) -> Options:
    """The options of [train.NAME] as a `model`. Raises ValueError that names each wrong one."""
    try:
        return model(**table)
    except ValidationError as error:
        lines = [
            f"{'.'.join(map(str, ('train', name, *e['loc'])))}: {e['msg'].removeprefix('Value error, ')}"
            for e in error.errors()
        ]
        raise ValueError("; ".join(lines)) from None


class RolloutWindows(BaseModel):
    """Training through the solver.

    loss = <|u_model(t) - u_reference(t)|^2> / <|u_uncorrected(t) - u_reference(t)|^2>, over the sampling times of a
    window. The model starts from the reference state and calls the closure `unroll` times, once every `every` steps.
    The denominator is taken over the validation windows.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    unroll: int = Field(5, ge=1, description="calls of the closure per window")
    every: int = Field(5, ge=1, description="steps of the model between calls")
    hold: Literal["constant", "linear"] = Field("constant", description="how the answer is held between calls")
    segment: int | None = Field(
        None,
        ge=1,
        description="steps of the model between states that are kept for the gradient, a multiple of `every`; with the "
        "steps of the window or more all are kept, which takes more memory and less time. By default about the root",
    )
    steps: int = Field(200, ge=1)
    batch: int = Field(8, ge=1)
    learning_rate: float = Field(5e-4, gt=0)
    validate_every: int = Field(25, ge=1)
    windows: int = Field(16, ge=1, description="number of validation windows, evenly distributed")
