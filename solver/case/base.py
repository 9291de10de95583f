"""The base class, number types and step arithmetic that all tables of a case share."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

MOST_STEPS = 1e12


class Table(BaseModel):
    """Base class of tables: unknown keys, infinities and nan are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


Positive = Annotated[float, Field(gt=0)]


Count = Annotated[int, Field(ge=1)]


def multiple(span: float, step: float) -> int:
    """span / step as a whole number. Raises ValueError, with the nearest step that fits, if it is not whole."""
    ratio = span / step
    if abs(ratio) > MOST_STEPS:
        raise ValueError(f"{span:g} is {ratio:.2g} steps of {step:g}, expected at most {MOST_STEPS:.0e}")
    count = round(ratio)
    if count < 1 or abs(count * step - span) > 1e-6 * step * max(1, count) ** 0.5 + 1e-9 * abs(span):
        near = span / max(1, count)
        raise ValueError(f"{span:g} is not a whole number of steps of {step:g} (nearest step that fits: {near:.10g})")
    return count
