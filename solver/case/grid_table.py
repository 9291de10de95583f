"""The table [grid]."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from ..grid import Grid
from .base import Positive, Table


class GridTable(Table):
    """shape, length and origin (the lower corner of the domain); or the number of entities of a particle system."""

    shape: Annotated[tuple[Annotated[int, Field(ge=4)], ...], Field(min_length=1, max_length=2)] | None = None
    length: Annotated[tuple[Positive, ...], Field(min_length=1, max_length=2)] | None = None
    origin: Annotated[tuple[float, ...], Field(max_length=2)] = ()
    entities: Annotated[int, Field(ge=2)] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> GridTable:
        if self.entities is not None:
            if self.shape or self.length or self.origin:
                raise ValueError("grid.entities: replaces grid.shape, grid.length and grid.origin. Remedy: remove them")
            return self
        missing = [f"grid.{k}: missing; it is required" for k in ("shape", "length") if getattr(self, k) is None]
        if missing:
            raise ValueError("\n".join(missing))
        assert self.shape and self.length
        axes = len(self.shape)
        for key in ("length", "origin"):
            if (n := len(getattr(self, key))) not in (0, axes):
                raise ValueError(f"grid.{key}: expected one number for each of {axes} axes of grid.shape, found {n}")
        return self

    @property
    def points(self) -> tuple[int, ...]:
        """The shape; for a particle system (entities,)."""
        return self.shape or (self.entities or 0,)

    def grid(self) -> Grid:
        """The grid; entities are points of a line whose length has no meaning."""
        return Grid(self.points, self.length or (float(self.points[0]),), self.origin)
