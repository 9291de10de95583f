"""What a reader finds in a file, before it is checked and brought into the schema."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .lazy import Lazy

TRAJECTORY, TIME, ENTITY = "trajectory", "time", "entity"
Kind = Literal["points", "cells", "entities", "unknown"]


class DataError(ValueError):
    """The data are refused: damaged, of no known format, or inconsistent. The message names file and remedy."""


@dataclass(frozen=True)
class Finding:
    """Something to know about the data. A fault is refused, unless it is corrected or accepted.

    code: what `accept` calls it. text: place, and what is wrong. remedy: the keys that resolve it.
    """

    code: str
    text: str
    remedy: str = ""
    fault: bool = False

    def __str__(self) -> str:
        return f"{self.text}. Remedy: {self.remedy}" if self.remedy else self.text


@dataclass(frozen=True)
class Axis:
    """An axis of the grid, or time: its coordinates (n,) if the file has them.

    kind: what the values on this axis belong to. periodic: None if the file does not say.
    length: the period or the extent of the domain, where the file states it.
    """

    values: NDArray | None = None
    units: str = ""
    kind: Kind = "unknown"
    periodic: bool | None = None
    length: float | None = None
    long_name: str = ""


@dataclass(frozen=True)
class Variable:
    """A field, its axes by name; those that do not vary along trajectory or time lack that axis."""

    dims: tuple[str, ...]
    data: Lazy
    units: str = ""
    long_name: str = ""

    def axis(self, name: str) -> int:
        return self.dims.index(name)


@dataclass
class Contents:
    """Fields, axes by name, and parameters, each a number or one per trajectory, (trajectory,).

    format: the name of the reader. files: those that were read. origin: what the file says about its making. accepted:
    codes of what would be a fault in other formats, such as missing values where entities come and go. mapped: the
    entries of the option `map` that the reader has applied. path: what was opened, for messages.
    """

    format: str
    fields: dict[str, Variable]
    axes: dict[str, Axis]
    parameters: dict[str, Any] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    origin: dict[str, Any] = field(default_factory=dict)
    corrections: list[str] = field(default_factory=list)
    accepted: tuple[str, ...] = ()
    mapped: dict[str, str] = field(default_factory=dict)
    path: Path | None = None

    @property
    def sizes(self) -> dict[str, int]:
        """Entries along each axis of the fields. Raises DataError if two fields differ."""
        found: dict[str, int] = {}
        for name, variable in self.fields.items():
            for axis, n in zip(variable.dims, variable.data.shape, strict=True):
                if found.setdefault(axis, n) != n:
                    raise DataError(
                        f"{self.where}: {name} has {n} entries along {axis}, the fields before it have {found[axis]}. "
                        f"Remedy: name the fields that belong together with `fields`"
                    )
        return found

    @property
    def where(self) -> str:
        return str(self.path or (self.files[0] if self.files else self.format))

    @property
    def space(self) -> tuple[str, ...]:
        """The axes of the grid, those of the first field of the most axes."""
        most = max(self.fields.values(), key=lambda v: len(v.dims))
        return tuple(d for d in most.dims if d not in (TRAJECTORY, TIME))

    def note(self, code: str, text: str) -> None:
        self.findings.append(Finding(code, text))

    def fault(self, code: str, text: str, remedy: str) -> None:
        self.findings.append(Finding(code, text, remedy, fault=True))


def combine(parts: Sequence[Contents], names: Sequence[str]) -> Contents:
    """Several sources as the trajectories of one. A parameter may differ between them; fields and axes may not.

    Raises DataError that names the source which differs from the first one.
    """
    from .lazy import concatenate

    first = with_trajectory(parts[0])
    rest = [with_trajectory(part) for part in parts[1:]]
    for part, name in zip(rest, names[1:], strict=True):
        _require_alike(first, part, names[0], name)
    everything = [first, *rest]
    counts = [part.sizes[TRAJECTORY] for part in everything]
    fields = {}
    for name, variable in first.fields.items():
        if TRAJECTORY in variable.dims:
            data = concatenate([part.fields[name].data for part in everything], variable.axis(TRAJECTORY))
            variable = replace(variable, data=data)
        fields[name] = variable
    parameters = {}
    for key in dict.fromkeys(k for part in everything for k in part.parameters):
        values = [part.parameters.get(key) for part in everything]
        if all(isinstance(v, str) or v is None for v in values):
            if len(set(values)) == 1:
                parameters[key] = values[0]
            continue
        rows = [np.broadcast_to(np.nan if v is None else v, (n,)) for v, n in zip(values, counts, strict=True)]
        column = np.concatenate(rows).astype(np.float64)
        parameters[key] = float(column[0]) if (column == column[0]).all() else column
    notes = list(dict.fromkeys(f for part in everything for f in part.findings))
    return Contents(
        first.format,
        fields,
        first.axes,
        parameters,
        notes,
        [file for part in everything for file in part.files],
        first.origin | {"sources": list(names)},
        accepted=first.accepted,
        mapped=first.mapped,
    )


def with_trajectory(contents: Contents) -> Contents:
    """The same with an axis of trajectories on every field that varies in time."""
    fields = {
        name: v
        if TRAJECTORY in v.dims or (TIME not in v.dims)
        else replace(v, dims=(TRAJECTORY, *v.dims), data=v.data.expand(0))
        for name, v in contents.fields.items()
    }
    return replace(contents, fields=fields)


def _require_alike(first: Contents, other: Contents, name: str, its_name: str) -> None:
    together = "Remedy: ingest them separately"
    if other.format != first.format:
        raise DataError(f"{its_name} is {other.format}, {name} is {first.format}. {together}")
    if list(other.fields) != list(first.fields):
        raise DataError(
            f"{its_name} has the fields {', '.join(other.fields)}, {name} has {', '.join(first.fields)}. {together}"
        )
    mine, theirs = first.sizes, other.sizes
    for axis, n in mine.items():
        if axis != TRAJECTORY and theirs.get(axis) != n:
            raise DataError(
                f"{its_name} has {theirs.get(axis)} entries along {axis}, {name} has {n}. {together}, "
                f"or the same ones of both with `select`"
            )
    for axis, mine_axis in first.axes.items():
        values, others = mine_axis.values, other.axes[axis].values if axis in other.axes else None
        if (values is None) != (others is None) or (
            values is not None
            and others is not None
            and values.dtype.kind in "fiu"
            and not np.allclose(values, others, rtol=1e-6, atol=1e-6 * float(np.abs(values).max(initial=0)))
        ):
            raise DataError(f"the {axis} of {its_name} differ from those of {name}. {together}")
