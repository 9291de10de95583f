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


def batches(table: dict[str, Any]) -> list[int]:
    """The sizes of all batches in a table of options, those of tables in it included."""
    found = [value for name, value in table.items() if _called(name, "batch")]
    return found + [size for value in table.values() if isinstance(value, dict) for size in batches(value)]


def brief(table: dict[str, Any], share: float, runs: float = 1.0) -> dict[str, Any]:
    """The options of a training with two steps per stage and a share of every batch, whose other arrays are the same.

    Numbers of steps are the options `steps` and `*_steps`, those between validations or checkpoints `*_every`, sizes of
    batches `batch` and `*_batch`. Rates, `learning_rate` and `*_learning_rate`, become so small that two steps do not
    spoil the weights. runs: the share of the runs of a sweep that take part; a basis sees as many snapshots of each as
    in the whole training.
    """

    def changed(name: str, value: Any) -> Any:
        if isinstance(value, dict):
            return brief(value, share, runs)
        if _called(name, "steps"):
            return tuple(min(2, n) for n in value) if isinstance(value, (list, tuple)) else min(2, value)
        if _called(name, "batch"):
            return max(1, round(share * value))
        if name == "snapshots":
            return max(2, round(runs * value))
        if _called(name, "learning_rate"):
            return 1e-9
        return 1 if name.endswith("_every") else value

    return {name: changed(name, value) for name, value in table.items()}


def _called(name: str, what: str) -> bool:
    return name == what or name.endswith(f"_{what}")


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
