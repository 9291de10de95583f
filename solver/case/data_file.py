"""The keys that describe a file of data: names, axes and units that it lacks, and corrections of its faults."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SerializerFunctionWrapHandler, field_validator, model_serializer

from .base import Positive, Table

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


class DataKeys(Table):
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
    map: dict[str, str] = Field(default_factory=dict)
    fields: Names = ()
    axes: Names = ()
    units: dict[str, str] = Field(default_factory=dict)
    parameters: dict[str, float] = Field(default_factory=dict)
    pattern: str | None = None
    times: str | list[float] | None = None
    length: dict[str, Positive] = Field(default_factory=dict)
    origin: dict[str, float] = Field(default_factory=dict)
    grid: Literal["points", "cells"] | None = None
    periodic: Names | None = None
    select: dict[str, Selection] = Field(default_factory=dict)
    transpose: Names = ()
    drop_last_point: Names = ()
    drop_last_time: bool = False
    drop_trajectories: Numbers = ()
    sort: Names = ()
    wrap: dict[str, float] = Field(default_factory=dict)
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


def keys_set(keys: DataKeys) -> dict[str, Any]:
    """The keys of data that are set, as `open_data` takes them."""
    return {k: getattr(keys, k) for k in DataKeys.model_fields if getattr(keys, k) != _DEFAULTS[k]}


class DataFile(DataKeys):
    """A table that may name a `file` of data, a file or a folder, with the keys that describe it.

    term: how the missing term is computed from the states of the file. "equation": H = R(F(u)) - F_model(R(u)), by the
    equation of the case. "differences": what the model lacks between consecutive states, (R(u(t + D)) - model step of
    R(u(t)) over D) / D. By default "equation" if the data, or `parameters`, state the numbers of the equation.
    unobserved: of [reference], fields of the equation that the data lack, each with its value at the start.
    """

    file: Path | None = None
    term: Literal["equation", "differences"] | None = None
    unobserved: dict[str, float] = Field(default_factory=dict)

    @model_serializer(mode="wrap")
    def _without_unused_keys(self, standard: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """The table without the keys of data that are at their defaults: most tables name no file."""
        return {k: v for k, v in standard(self).items() if k not in DATA_KEYS or getattr(self, k) != _DEFAULTS[k]}

    def data_keys(self) -> dict[str, Any]:
        """The keys of data that are set, as `open_data` takes them."""
        return keys_set(self)

    def file_mistakes(self, table: str, unused: tuple[str, ...]) -> list[str]:
        """Mistakes of a table that combines keys of data with others. unused: keys of a run, which a file replaces."""
        fields = type(self).model_fields
        if self.file is None:
            given = [k for k in (*DataKeys.model_fields, "term", "unobserved") if getattr(self, k) != _DEFAULTS[k]]
            return [f"{table}.{k}: describes {table}.file, which is missing" for k in given]
        given = [k for k in unused if getattr(self, k) != fields[k].default]
        return [
            f"{table}.{k}: is not used with {table}.file, which provides the states. Remedy: remove it" for k in given
        ]


DATA_KEYS = frozenset(DataFile.model_fields)
_DEFAULTS = {k: field.get_default(call_default_factory=True) for k, field in DataFile.model_fields.items()}
