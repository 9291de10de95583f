"""Absolute paths in the tables of a case: of `path`, and of the options that a model declares as paths."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from ..equations.plugins import FileOrName, Registry, UnknownPlugin


def absolute(raw: Any, model: type[BaseModel], folder: Path) -> Any:
    """The table of a model with absolute paths, which start at `folder`; anything but a table passes unchanged.

    A path is an option of type `pathlib.Path`, and one marked by FileOrName if such a file exists. Inner tables are
    included. A string in any other option is not a path, even if a file has this name.
    """
    if not isinstance(raw, dict):
        return raw
    fields = {key: field for key, field in model.model_fields.items() if key in raw}
    return raw | {
        key: _absolute(raw[key], [*_parts(field.annotation), *field.metadata], folder) for key, field in fields.items()
    }


def with_path(raw: Any, folder: Path, key: str = "path") -> Any:
    """The table with an absolute path at `key`; anything but a table with such a string passes unchanged."""
    if not isinstance(raw, dict) or not isinstance(raw.get(key), str):
        return raw
    return raw | {key: os.path.join(folder, raw[key])}


def _absolute(value: Any, parts: list[Any], folder: Path) -> Any:
    if isinstance(value, str):
        file = Path in parts or (FileOrName in map(type, parts) and os.path.isfile(folder / value))
        return os.path.join(folder, value) if file else value
    if isinstance(value, (list, tuple)):
        return [_absolute(v, parts, folder) for v in value]
    for model in [p for p in parts if isinstance(p, type) and issubclass(p, BaseModel)]:
        registry = getattr(model, "plugins", None)
        if registry is not None:
            return _plugin(value, registry, folder)
        kind = model.model_fields.get("kind")
        if isinstance(value, dict) and (kind is None or kind.default == value.get("kind")):
            value = absolute(value, model, folder)
    return value


def _plugin(value: Any, registry: Registry[Any], folder: Path) -> Any:
    """The table of a plug-in, which is selected by `kind`, else by `path`."""
    if not isinstance(value, dict):
        return value
    by_path = "kind" not in value
    value = with_path(value, folder) if by_path else value
    chosen = value.get("path" if by_path else "kind")
    if not isinstance(chosen, str):
        return value
    try:
        model = registry.load(chosen, folder) if by_path else registry.find(chosen)
    except UnknownPlugin:  # reported where the table is read
        return value
    return absolute(value, model, folder)


def _parts(annotation: Any) -> Iterator[Any]:
    """The types and the markers that occur in an annotation."""
    yield annotation
    for inner in get_args(annotation):
        yield from _parts(inner)
