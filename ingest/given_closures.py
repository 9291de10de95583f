"""Closures given from Python in the place of those of a case: names, tables, instances and sums of instances."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, PrivateAttr
from pydantic_core import PydanticSerializationError

from subgrid.solver.case.mistakes import table
from subgrid.solver.case.paths import absolute, with_path
from subgrid.solver.case.reading import CaseError
from subgrid.solver.case.tables import Case, ClosureTable, CompareRow
from subgrid.solver.closure import Closure, ClosureSum, Coupled, UnknownClosure
from subgrid.solver.closure.discovery import CLOSURES
from subgrid.solver.equations.plugins import origin

ROW = "a name, a table, a closure, a sum of closures, a list of them, or {label, closures}"


class GivenClosure(ClosureTable):
    """An instance of a closure where a case file has a table.

    In a case file it is the table that makes the instance again, if its class is installed or was loaded by path and
    its options are plain data. Otherwise its name is "NAME (an instance)", which a case that is read refuses.
    """

    _closure: Closure = PrivateAttr()
    _label: str = PrivateAttr()

    @classmethod
    def of(cls, coupled: Coupled) -> GivenClosure:
        """The instance as it is coupled, without its counts."""
        coupling: dict[str, Any] = {"every": coupled.every, "weight": coupled.weight, "hold": coupled.hold}
        given = cls(**coupling, **_source(coupled))
        given._closure, given._label = coupled.closure, coupled.name
        return given

    @property
    def label(self) -> str:
        return self._label

    def find(self, folder: Path) -> type[Closure]:
        return type(self._closure)

    def couple(self, folder: Path) -> Coupled:
        return Coupled(self.label, self._closure, self.every, self.weight, self.hold)


def _source(coupled: Coupled) -> dict[str, Any]:
    """The name or the path of a closure, and its options, as a case file has them."""
    closure = coupled.closure
    try:
        options = closure.model_dump(mode="json", exclude_defaults=True)
    except PydanticSerializationError:  # an option that is no plain data
        return {"name": f"{coupled.name} (an instance)"}
    if (path := origin(type(closure))) is not None:
        return {"path": path, **options}
    name = next((name for name, found in CLOSURES.available() if found is type(closure)), None)
    return {"name": f"{coupled.name} (an instance)"} if name is None else {"name": name, **options}


def with_closures(case: Case, closures: Iterable[Any]) -> Case:
    """The case with other closures, which are added up. Raises CaseError with every mistake found."""
    rows = given_rows(case.folder, closures, "closures")
    return case.model_copy(update={"closure": tuple(table for row in rows for table in row.closures)})


def with_rows(case: Case, rows: Iterable[Any]) -> Case:
    """The case with other rows of its comparison. Raises CaseError with every mistake found."""
    found = given_rows(case.folder, rows, "closures")
    return case.model_copy(update={"compare": case.compare.model_copy(update={"closures": found})})


def given_rows(folder: Path, entries: Iterable[Any], key: str) -> tuple[CompareRow, ...]:
    """Each entry as a row of [compare], with its label and the closures that are added up.

    An entry is what a case file accepts (a name, a table, a list of them, or {label, closures}), an instance of a
    closure, a ClosureSum, a Coupled, or a list that mixes them. The label of instances is made of the names of their
    classes and their weights, as in "0.5 Smagorinsky + Leith". Relative paths start at `folder`. Raises CaseError.
    """
    if isinstance(entries, (str, Mapping, BaseModel, ClosureSum, Coupled)):
        raise CaseError(key, [f"expected a list, found {entries!r}. Remedy: closures=[...]"])
    mistakes: list[str] = []
    rows = tuple(_row(entry, f"{key}.{i}", folder, mistakes) for i, entry in enumerate(entries))
    if mistakes:
        raise CaseError(key, mistakes)
    return rows


def _row(entry: Any, key: str, folder: Path, mistakes: list[str]) -> CompareRow:
    if isinstance(entry, CompareRow):
        return entry
    label, parts = None, entry
    if isinstance(entry, Mapping):
        label, parts = entry.get("label"), entry.get("closures")
        rest = {k: v for k, v in entry.items() if k != "label"}
        if parts is None:
            parts = rest
        elif len(rest) > 1:
            mistakes.append(f"{key}: has {', '.join(sorted(rest))}; expected label and closures alone")
        if not isinstance(label, (str, type(None))):
            mistakes.append(f"{key}.label: expected a string, found {label!r}")
            label = None
    listed = list(parts) if isinstance(parts, (list, tuple)) else [parts]
    if not listed:
        mistakes.append(f"{key}: names no closure")
    tables = tuple(t for part in listed for t in _tables(part, key, folder, mistakes))
    if label is None and any(isinstance(t, GivenClosure) for t in tables):
        label = " + ".join(_weighted(t) for t in tables)
    return CompareRow(label=label, closures=tables)


def _tables(part: Any, key: str, folder: Path, mistakes: list[str]) -> list[ClosureTable]:
    if isinstance(part, ClosureTable):
        return [part]
    if isinstance(part, Coupled):
        return [GivenClosure.of(part)]
    if isinstance(part, Closure):
        part = 1.0 * part
    if isinstance(part, ClosureSum):
        return [GivenClosure.of(coupled) for coupled in part.coupled()]
    if not isinstance(part, (str, Mapping)):
        mistakes.append(f"{key}: expected {ROW}, found {part!r}")
        return []
    folder = Path(os.path.abspath(folder))
    raw = {"name": part} if isinstance(part, str) else with_path(dict(part), folder)
    found, wrong = table(ClosureTable, raw, key)
    mistakes += wrong
    if found is None:
        return []
    try:
        model = found.find(folder)
    except UnknownClosure as error:
        mistakes.append(f"{key}.path: {error}" if found.path else f"{key}: {error}")
        return [found]
    options = absolute(found.options, model, folder)
    mistakes += table(model, options, key, also=ClosureTable.model_fields)[1]
    return [found.model_copy(update=options)]


def _weighted(table: ClosureTable) -> str:
    given = isinstance(table, GivenClosure) and table.weight != 1
    return f"{table.weight:g} {table.label}" if given else table.label
