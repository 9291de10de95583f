"""Boundary conditions of the shallow-water equations: what each side lets through, and when."""

from __future__ import annotations

import functools
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Discriminator, Tag, field_validator, model_validator

from ...grid import Grid
from ..expressions import Expression

NAMES = ("left", "right", "bottom", "top")
ALONG = dict(zip(NAMES, ("y", "y", "x", "x"), strict=True))  # the coordinate along each side


class Prescribed(BaseModel):
    """Water that a side lets in or out: numbers, or formulas of t and of the coordinate along the side.

    discharge: h u (h v at bottom and top) in length^2/time, positive along the axis, so into the domain at left and
    bottom, and out of it at right and top. depth: h in length. level: h + b in length. One of them is the condition of
    subcritical flow; discharge with depth or level that of water that enters at more than critical speed. Water that
    leaves at more than critical speed takes no condition.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    discharge: float | str | None = None
    depth: float | str | None = None
    level: float | str | None = None

    @field_validator("discharge", "depth", "level")
    @classmethod
    def _is_a_formula(cls, value: float | str | None) -> float | str | None:
        if isinstance(value, str):
            Expression(value, ("t", "x", "y"))
        elif value is not None and not np.isfinite(value):
            raise ValueError(f"must be finite, found {value}")
        return value

    @model_validator(mode="after")
    def _one_condition_or_two(self) -> Prescribed:
        if self.depth is not None and self.level is not None:
            raise ValueError("depth and level exclude each other. Remedy: remove one of them")
        if self.discharge is None and self.depth is None and self.level is None:
            raise ValueError("expected discharge, depth or level. Remedy: give one, or discharge and another")
        return self

    @property
    def steady(self) -> bool:
        """Whether no formula names t."""
        given = [v for v in (self.discharge, self.depth, self.level) if isinstance(v, str)]
        return not any(Expression(v, ("t", "x", "y")).uses("t") for v in given)

    def values(self, side: str, grid: Grid, t: float) -> Values:
        """Discharge out of the domain, and depth or level, at the cells along the side, each (cell,) or None.

        Raises ArithmeticError for a value that is not finite, or a negative depth.
        """
        axis = ALONG[side]
        places = grid.coordinates(centres=True)[0 if axis == "y" else 1]
        found: list[NDArray[np.float64] | None] = []
        for name, given in (("discharge", self.discharge), ("depth", self.depth), ("level", self.level)):
            if given is None:
                found.append(None)
                continue
            value = Expression(given, ("t", axis))({"t": float(t), axis: places}) if isinstance(given, str) else given
            value = np.broadcast_to(np.asarray(value, dtype=np.float64), places.shape)
            if not np.isfinite(value).all() or (name == "depth" and (value < 0).any()):
                wanted = "numbers >= 0" if name == "depth" else "finite numbers"
                raise ArithmeticError(
                    f"equation.boundary.{side}.{name} is {value.min():g} to {value.max():g} at t = {t:g}, expected "
                    f"{wanted}. Remedy: change the formula"
                )
            found.append(value)
        discharge, depth, level = found
        outward = -1.0 if side in ("left", "bottom") else 1.0
        return (None if discharge is None else outward * discharge), depth, level


Values = tuple[NDArray[np.float64] | None, NDArray[np.float64] | None, NDArray[np.float64] | None]


def _which(given: object) -> str:
    return "table" if isinstance(given, (dict, Prescribed)) else "name"


Side = Annotated[
    Annotated[Literal["periodic", "wall", "open"], Tag("name")] | Annotated[Prescribed, Tag("table")],
    Discriminator(_which),
]


class Sides(BaseModel):
    """Boundary condition of each side: "periodic", "wall" (free slip), "open" (zero gradient), or `Prescribed`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    left: Side
    right: Side
    bottom: Side
    top: Side

    @model_validator(mode="before")
    @classmethod
    def _one_for_all(cls, given: object) -> object:
        return dict.fromkeys(NAMES, given) if isinstance(given, str) else given

    @model_validator(mode="after")
    def _periodic_in_pairs(self) -> Sides:
        for one, other in (("left", "right"), ("bottom", "top")):
            if (getattr(self, one) == "periodic") != (getattr(self, other) == "periodic"):
                a, b = (_name(getattr(self, side)) for side in (one, other))
                raise ValueError(f"{one} and {other} must both be periodic or neither, found {a!r} and {b!r}")
        for side, prescribed in self.prescribed.items():
            for name in ("discharge", "depth", "level"):
                if isinstance(value := getattr(prescribed, name), str):
                    try:
                        Expression(value, ("t", ALONG[side]))
                    except ValueError as error:
                        raise ValueError(f"{side}.{name}: {error}") from None
        return self

    @property
    def all(self) -> tuple[str, str, str, str]:
        """left, right, bottom, top by name; a prescribed side is "open" to what does not know its values."""
        return tuple(_name(getattr(self, side)) for side in NAMES)  # type: ignore[return-value]

    @functools.cached_property
    def prescribed(self) -> dict[str, Prescribed]:
        """The sides with prescribed values, by name."""
        return {side: value for side in NAMES if isinstance(value := getattr(self, side), Prescribed)}

    @property
    def steady(self) -> bool:
        return all(side.steady for side in self.prescribed.values())


def _name(side: str | Prescribed) -> str:
    return side if isinstance(side, str) else "open"
