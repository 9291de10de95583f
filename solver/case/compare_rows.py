"""The names of the rows of a comparison. They tell the rows apart in scores, files and pictures."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from typing import Any

from .tables import ClosureTable, CompareRow

REFERENCE, NONE, NEAREST = "reference", "none", "nearest training run"


def is_uncorrected(row: CompareRow) -> bool:
    """Whether the row names no closure but "none"."""
    return all(table.name == NONE for table in row.closures)


def named_rows(rows: Sequence[CompareRow]) -> tuple[CompareRow, ...]:
    """The rows with a label where their names alone do not tell them apart, made of the values that differ.

    Two rows of `hyperviscosity` become "hyperviscosity, every 2" and "hyperviscosity, every 1". Rows that a label of
    the user, or nothing, tells apart are left as they are.
    """
    unlabelled = [NONE if is_uncorrected(row) else row.name for row in rows if row.label is None]
    repeated = {name for name, count in Counter(unlabelled).items() if count > 1}
    found = []
    for row in rows:
        name = NONE if row.label is None and is_uncorrected(row) else row.name
        if row.label is None and name in repeated and not is_uncorrected(row):
            alike = [other for other in rows if other.label is None and other.name == name]
            name = ", ".join([name, *_differences(row, alike)])
        found.append(row if name == row.name else row.model_copy(update={"label": name}))
    return tuple(found)


def row_mistakes(rows: Sequence[CompareRow], key: str = "compare.closures") -> list[str]:
    """Mistakes in the names of named rows: two of one name, and names that a comparison gives to its own rows."""
    found = []
    for i, row in enumerate(rows):
        own = (REFERENCE, NEAREST) if is_uncorrected(row) else (REFERENCE, NEAREST, NONE)
        if row.name in own:
            found.append(f"{key}.{i}.label: {row.name!r} is the name of another row. Remedy: choose another label")
    for name, count in Counter(row.name for row in rows if not is_uncorrected(row)).items():
        if count > 1:
            found.append(f"{key}: two rows are named {name!r}. Remedy: give them labels, {{label, closures}}")
    if sum(map(is_uncorrected, rows)) > 1:
        found.append(f'{key}: two rows have no closure but "none". Remedy: keep one of them')
    return found


def _differences(row: CompareRow, alike: Sequence[CompareRow]) -> list[str]:
    """The values of a row that another row has not, as "every 2"; with the closure's name in a sum."""
    found = []
    for i, table in enumerate(row.closures):
        values = _values(table)
        others = [_values(other.closures[i]) for other in alike if i < len(other.closures)]
        for key, value in values.items():
            if any(other.get(key) != value for other in others):
                text = os.path.basename(value) if isinstance(value, str) else str(value)
                found.append(f"{table.label} {key} {text}" if len(row.closures) > 1 else f"{key} {text}")
    return found


def _values(table: ClosureTable) -> dict[str, Any]:
    coupling = {"path": table.path, "every": table.every, "weight": table.weight, "hold": table.hold}
    return {k: v for k, v in (coupling | table.options).items() if v is not None}
