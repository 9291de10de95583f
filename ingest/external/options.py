"""What a user says about data: names, axes and units that a file lacks, and corrections of its faults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ValidationError, field_validator
from pydantic import Field as Key

from subgrid.solver.case.base import Positive, Table

from .contents import DataError

CODES = (
    "missing-values",
    "zero-filled",
    "duplicates",
    "uneven-times",
    "uneven-axis",
    "repeated-end-point",
    "low-precision",
    "not-conserved",
    "centres",
    "missing-samples",
)
Selection = str | list[int]


def _listed(value: Any) -> Any:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_listed)]
Numbers = Annotated[tuple[int, ...], BeforeValidator(_listed)]


class Options(Table):
    """Keys of `open_data`, of `subgrid ingest` and of the tables of a case that name a file of data.

    Names are those of the schema, after `map`, except where stated.

    reader: a format by name, or "file.py:Class", in place of the one that recognises the contents.
    map: new name -> name in the file, of fields, axes and parameters; `trajectory` and `time` are such names too.
    fields: the fields to read, by their new names; by default all. axes: the axes of arrays whose file does not name
    them, in the order of the file, as in trajectory,x,y,time.
    units: units of fields, axes and time that the file does not state.
    parameters: values that the file does not state. pattern: the file's name, with {name} where a parameter stands.
    times: "START:STEP", or the times themselves. length, origin: the domain, for axes without coordinates.
    grid: whether values belong to points or to cells. periodic: the periodic axes; "none" for none.
    select: of an axis "START:STOP:STEP", or a list of indices.
    transpose: two axes whose names are exchanged. drop_last_point: axes whose last point repeats the first.
    drop_last_time: without the last time, if there is one more than there are states.
    drop_trajectories: by index. sort: axes, or time, put into increasing order.
    wrap: axis -> the lowest coordinate, into whose period the coordinates (longitudes) are shifted.
    fill_value: the number that stands for a missing value. conserved: fields whose mean must not change.
    accept: faults that are no faults here, by their codes.
    """

    reader: str | None = None
    map: dict[str, str] = Key(default_factory=dict)
    fields: Names = ()
    axes: Names = ()
    units: dict[str, str] = Key(default_factory=dict)
    parameters: dict[str, float] = Key(default_factory=dict)
    pattern: str | None = None
    times: str | list[float] | None = None
    length: dict[str, Positive] = Key(default_factory=dict)
    origin: dict[str, float] = Key(default_factory=dict)
    grid: Literal["points", "cells"] | None = None
    periodic: Names | None = None
    select: dict[str, Selection] = Key(default_factory=dict)
    transpose: Names = ()
    drop_last_point: Names = ()
    drop_last_time: bool = False
    drop_trajectories: Numbers = ()
    sort: Names = ()
    wrap: dict[str, float] = Key(default_factory=dict)
    fill_value: float | None = None
    conserved: Names = ()
    accept: Names = ()

    @field_validator("transpose")
    @classmethod
    def _two(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if value and len(set(value)) != 2:
            raise ValueError("expected two axes, as in x,y")
        return value

    @field_validator("accept")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if wrong := [code for code in value if code not in CODES]:
            raise ValueError(f"{wrong[0]!r} is not one of {', '.join(CODES)}")
        return value


def options_of(given: Mapping[str, Any]) -> Options:
    """The options, checked. Raises DataError with the key, the value and what was expected."""
    try:
        return Options.model_validate(dict(given))
    except ValidationError as error:
        lines = []
        for found in error.errors():
            key = ".".join(str(part) for part in found["loc"])
            text = str(found["msg"]).removeprefix("Value error, ")
            if found["type"] == "extra_forbidden":
                text = f"unknown key; expected one of {', '.join(Options.model_fields)}"
            lines.append(f"{key}: {text}")
        raise DataError("the options of the data are wrong: " + "; ".join(lines)) from None
