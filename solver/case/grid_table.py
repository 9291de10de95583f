"""The table [grid]."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from ..grid import Grid
from .base import Positive, Table


class GridTable(Table):
    """shape, length and origin (the lower corner of the domain); or the number of entities of a particle system.

    Entities that a flow carries have both: shape, length and origin are those of the flow.
    """

    shape: Annotated[tuple[Annotated[int, Field(ge=4)], ...], Field(min_length=1, max_length=2)] | None = None
    length: Annotated[tuple[Positive, ...], Field(min_length=1, max_length=2)] | None = None
    origin: Annotated[tuple[float, ...], Field(max_length=2)] = ()
    entities: Annotated[int, Field(ge=2)] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> GridTable:
        if self.entities is not None and not (self.shape or self.length or self.origin):
            return self
        mistakes = [f"grid.{k}: missing; it is required" for k in ("shape", "length") if getattr(self, k) is None]
        axes = len(self.shape or ())
        for key in ("length", "origin"):
            if not mistakes and (n := len(getattr(self, key))) not in (0, axes):
                mistakes.append(f"grid.{key}: expected one number for each of {axes} axes of grid.shape, found {n}")
        if mistakes and self.entities is not None:
            raise ValueError(
                "grid.entities: replaces grid.shape, grid.length and grid.origin. Remedy: remove them; for entities "
                "that a flow carries, give grid.shape and grid.length, with as many axes"
            )
        if mistakes:
            raise ValueError("\n".join(mistakes))
        return self

    @property
    def points(self) -> tuple[int, ...]:
        """The shape, which with entities is that of the flow; for a particle system without one (entities,)."""
        return self.shape or (self.entities or 0,)

    def grid(self) -> Grid:
        """The grid; entities are points of a line whose length has no meaning."""
        if self.entities is None:
            assert self.shape and self.length
            return Grid(self.shape, self.length, self.origin)
        carrier = Grid(self.shape, self.length, self.origin) if self.shape and self.length else None
        return Grid((self.entities,), (float(self.entities),), carrier=carrier)
