"""The base class, number types and step arithmetic that all tables of a case share."""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

MOST_STEPS = 1e12
MOST_PARTS = 1000  # of output.every that a step determined by the Courant number may have to divide


class Table(BaseModel):
    """Base class of tables: unknown keys, infinities and nan are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


Positive = Annotated[float, Field(gt=0)]


Count = Annotated[int, Field(ge=1)]


def multiple(span: float, step: float, fitting: float | None = None) -> int:
    """span / step as a whole number. Raises ValueError, with the nearest step that fits, if it is not whole.

    fitting: the step to name, if others must fit it, too.
    """
    ratio = span / step
    if abs(ratio) > MOST_STEPS:
        raise ValueError(f"{span:g} is {ratio:.2g} steps of {step:g}, expected at most {MOST_STEPS:.0e}")
    count = round(ratio)
    if count < 1 or abs(count * step - span) > 1e-6 * step * max(1, count) ** 0.5 + 1e-9 * abs(span):
        near = fitting or span / max(1, count)
        raise ValueError(f"{span:g} is not a whole number of steps of {step:g} (nearest step that fits: {near:.10g})")
    return count


def dividing(every: float, span: float) -> float:
    """The interval nearest to `every` that divides the span."""
    return span / max(1, round(span / every))


def common_interval(every: float, span: float) -> float:
    """The longest interval that divides both: every / q with the smallest whole q, 1 if `every` divides the span.

    Raises ValueError, with the nearest interval that divides the span, if q exceeds 1000.
    """
    parts = Fraction(span / every).limit_denominator(MOST_PARTS).denominator
    try:
        multiple(span, every / parts)
    except ValueError:
        raise ValueError(
            f"{every:g} and the span of {span:g} have no common step. Remedy: {dividing(every, span):.10g}, which "
            "divides the span, or time.step in place of time.cfl alone"
        ) from None
    return every / parts
