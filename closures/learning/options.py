"""Options that several trainings share, and how the table [train.NAME] is read. Imports no torch."""

from __future__ import annotations

from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ValidationError

Features = Literal["state", "anomaly", "vorticity-velocity", "phase-space"]  # see learned_term
Shift = Literal["all", "x", "none"]  # axes along which batches are shifted, see batches

Options = TypeVar("Options", bound=BaseModel)


def read_options(name: str, model: type[Options], table: dict[str, Any]) -> Options:
    """The options of [train.NAME] as a `model`. Raises ValueError that names each wrong one."""
    try:
        return model(**table)
    except ValidationError as error:
        lines = [f"train.{name}.{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise ValueError("; ".join(lines)) from None
