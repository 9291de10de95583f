"""Reading case files: overrides, checks and absolute paths, with every mistake reported at once."""

from __future__ import annotations

import copy
import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from ..backend import NAMES, PRECISIONS
from ..closure.discovery import load, names
from ..equations import EQUATIONS
from ..equations.plugin_errors import describe_error, from_plugin
from ..equations.plugins import (
    NotImported,
    Registry,
    UnknownPlugin,
    is_path,
    keeping_directory,
    means_path,
    name_unimported,
    unknown,
)
from ..initial.registry import INITIAL_STATES
from .base import Table
from .bounds import DEEPEST, check_size, parse, require_bounded
from .compare_rows import named_rows, row_mistakes
from .consistency import Parts, contradictions
from .mistakes import CaseError, not_finite, shortened, table, unknown_key
from .output import OutputTable
from .paths import absolute, with_path
from .shipped import case_file
from .tables import Case, ClosureTable, CompareRow, CompareTable, ReferenceTable, row_of


def read_case(source: str | os.PathLike[str] | Mapping[str, Any], overrides: Mapping[str, Any] | None = None) -> Case:
    """The checked case of a TOML file, of the same tables as a dict, or of a case that ships, by its name.

    overrides: "table.key" -> value, as in {"time.end": 2.0}. Paths in a file are relative to its folder, paths in a
    dict to the working directory. The case contains absolute paths, so that a run can be resumed from any directory.
    Raises CaseError with every mistake, each with its key, and TypeError for overrides that are no mapping.
    """
    if overrides is not None and not isinstance(overrides, Mapping):
        raise TypeError(f'overrides: expected a mapping such as {{"time.end": 2.0}}, found {overrides!r:.200}')
    if isinstance(source, Mapping):
        require_bounded(source, "case")
        data, where, folder = copy.deepcopy(dict(source)), "case", Path()
    else:
        file = case_file(Path(source))
        data, where, folder = _tables(file), str(source), file.parent
    for name, value in (overrides or {}).items():
        _override(data, name, value, f"{name} = {value!r}")
    return check(data, where, folder)


def read(path: Path, overrides: Iterable[str] | None = None) -> Case:
    """The checked case of a TOML file, or of a case that ships, with overrides as on the command line.

    overrides: "table.key=value", with the value in TOML syntax; a bare word is read as a string. Raises CaseError.
    """
    file = case_file(path)
    return check(overridden(file, overrides), str(path), file.parent)


def overridden(path: Path, overrides: Iterable[str] | None) -> dict[str, Any]:
    """The tables of a TOML file with overrides in the syntax of the command line. Raises CaseError."""
    data = _tables(path)
    for text in overrides or ():
        name, equals, value = text.partition("=")
        if not equals:
            raise CaseError("--set", [f"{text!r} must read table.key=value"])
        try:
            parsed = parse(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            parsed = value.strip()
        except ValueError as error:
            raise CaseError("--set", [f"{shortened(text, 100)!r}: {error}"]) from None
        _override(data, name.strip(), parsed, repr(text))
    return data


def _tables(path: Path) -> dict[str, Any]:
    try:
        check_size(path)
        return parse(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise CaseError(str(path), [f"not TOML: {error}"]) from None


def _override(data: dict[str, Any], name: str, value: Any, text: str) -> None:
    """Set the value at the dotted name; `text` is the override as the user wrote it."""
    keys = name.split(".")
    if not all(keys) or len(keys) > DEEPEST:
        raise CaseError("--set", [f"{text} must read table.key=value"])
    place: Any = data
    for k in keys[:-1]:
        place = (
            place[int(k)]
            if isinstance(place, list) and k.isdigit() and int(k) < len(place)
            else (place.setdefault(k, {}) if isinstance(place, dict) else None)
        )
    if not isinstance(place, dict):
        raise CaseError("--set", [f"{text}: {name} is not in a table"])
    place[keys[-1]] = value


def check(data: dict[str, Any], source: str, folder: Path) -> Case:
    """The case from plain data, after checks of every table and of contradictions between tables. Raises CaseError.

    Every table is read separately, so that a mistake in one table hides none in another. `folder`: paths start there.
    """
    folder = Path(os.path.abspath(folder))
    with keeping_directory():
        data = checked_tables(data, source, folder)
        try:
            return Case.model_validate(data).located(folder)
        except ValidationError as error:
            raise CaseError(source, [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]) from None


def checked_tables(data: dict[str, Any], source: str, folder: Path) -> dict[str, Any]:
    """The data with absolute paths, after all checks. Raises CaseError with every mistake."""
    require_bounded(data, source)
    checking = _Checking(folder)
    data = checking.case(data)
    if checking.mistakes:
        raise CaseError(source, list(dict.fromkeys(checking.mistakes)))
    return data


class _Checking:
    """One pass over the data of a case, which collects mistakes and makes paths absolute."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mistakes: list[str] = []
        self.parts = Parts()

    def case(self, data: dict[str, Any]) -> dict[str, Any]:
        """The data with absolute paths; mistakes are collected in `mistakes`."""
        self.mistakes += not_finite(data)
        fields, parts = Case.model_fields, self.parts
        parts.given = frozenset(data)
        self.mistakes += [f"{k}: {unknown_key(k, list(fields))}" for k in data if k not in fields]
        self.mistakes += [
            f"{k}: missing; it is required" for k, f in fields.items() if f.is_required() and k not in data
        ]
        data = {k: v for k, v in data.items() if k in fields}
        if not isinstance(data.get("title", ""), str):
            self.mistakes.append(f"title: expected a string, found {data['title']!r}")
        backend = data.get("backend", "numpy")
        if not isinstance(backend, str) or backend.partition(":")[0] not in NAMES:
            self.mistakes.append(f"backend: expected numpy, cupy or torch[:device], found {backend!r}")
        precision = data.get("precision", "float64")
        if precision not in PRECISIONS:
            self.mistakes.append(f"precision: expected {' or '.join(PRECISIONS)}, found {precision!r}")
        else:
            parts.precision = precision
        for name in ("time", "reference"):
            if name in data:
                data[name] = self._stepper(data[name])
        for name, key in (("reference", "file"), ("training", "file"), ("sweep", "files"), ("sweep", "table")):
            if name in data:
                data[name] = self._data_file(data[name], name, key)
        data |= {k: absolute(data[k], OutputTable, self.folder) for k in ("output",) if k in data}
        for name in ("grid", "time", "ensemble", "guard", "output", "training", "sweep"):
            if name in data or not fields[name].is_required():
                raw = data.get(name, None if name in ("training", "sweep") else {})
                setattr(parts, name, None if raw is None else self._table(_model(fields[name]), raw, name))
        if "equation" in data:
            data["equation"], parts.equation = self._named(data["equation"], "equation", "name", EQUATIONS)
        if "initial" in data:
            data["initial"], parts.initial = self._named(data["initial"], "initial", "kind", INITIAL_STATES)
        if "reference" in data:
            data["reference"] = self._reference(data["reference"])
        if "closure" in data:
            data["closure"] = self._list(data["closure"], "closure", self._closure)
        if "compare" in data:
            data["compare"] = self._compare(data["compare"])
        for name in ("train", "expected"):
            self._plain(data.get(name, {}), name)
        self.mistakes += contradictions(parts)
        return data

    def _stepper(self, raw: Any) -> Any:
        """The table with its stepper as a name or an absolute "file.py:NAME"; `{ path = ... }` is equivalent."""
        if not isinstance(raw, dict):
            return raw
        name = raw.get("stepper")
        if by_path := isinstance(name, dict) and name.keys() == {"path"}:
            name = name["path"]  # type: ignore[index]
        if isinstance(name, str) and (by_path or means_path(name)):
            return raw | {"stepper": os.path.join(self.folder, name)}
        return raw

    def _data_file(self, raw: Any, name: str, key: str) -> Any:
        """The table with absolute paths of its data and of a reader "file.py:Class"; the data must exist."""
        raw = with_path(raw, self.folder, key)
        if isinstance(raw, dict) and isinstance(raw.get(key), str) and not os.path.exists(raw[key]):
            self.mistakes.append(f"{name}.{key}: there is no {raw[key]}. Remedy: check the path")
        if isinstance(raw, dict) and isinstance(raw.get("data"), dict):
            raw = raw | {"data": self._reader(raw["data"])}
        return self._reader(raw)

    def _reader(self, raw: Any) -> Any:
        """The table with an absolute path of a reader "file.py:Class"."""
        if not isinstance(raw, dict) or not isinstance(raw.get("reader"), str) or not means_path(raw["reader"]):
            return raw
        raw = with_path(raw, self.folder, "reader")
        name_unimported(raw["reader"].rpartition(":")[0])
        return raw

    def _table(self, model: type, raw: Any, key: str, also: Any = ()) -> Any:
        try:
            found, mistakes = table(model, raw, key, also)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) or not from_plugin(error):
                raise
            self.mistakes.append(f"{key}: {describe_error(error)}")
            return None
        self.mistakes += mistakes
        return found

    def _named(self, raw: Any, key: str, tag: str, models: Registry[Any]) -> tuple[Any, Any]:
        """The table with absolute paths, and its model, selected by the key `tag` or by `path` = "file.py:Class".

        The model is None if the table is wrong, or the file of the plug-in is not imported.
        """
        if not isinstance(raw, dict):
            self.mistakes.append(f"{key}: expected a table, found {raw!r}")
            return raw, None
        by_path = tag not in raw and isinstance(raw.get("path"), str)
        raw = with_path(raw, self.folder) if by_path else raw
        if not by_path and tag not in raw:
            known = ", ".join(models)
            self.mistakes.append(
                f'{key}.{tag}: missing; it is required. Expected path = "file.py:Class" or one of: {known}'
            )
        elif not by_path and (not isinstance(raw[tag], str) or raw[tag] not in models):
            self.mistakes.append(f"{key}.{tag}: {unknown(str(raw[tag]), models)}")
        else:
            key_of_model = "path" if by_path else tag
            try:
                model = models.load(raw["path"], self.folder) if by_path else models.find(raw[tag])
            except NotImported:
                return raw, None
            except UnknownPlugin as error:
                self.mistakes.append(f"{key}.{key_of_model}: {error}")
                return raw, None
            raw = absolute(raw, model, self.folder)
            drop = by_path or tag not in model.model_fields
            fields = {k: v for k, v in raw.items() if not (drop and k == key_of_model)}
            return raw, self._table(model, fields, key, (tag,))
        return raw, None

    def _reference(self, raw: Any) -> Any:
        if not isinstance(raw, dict) or "initial" not in raw:
            self.parts.reference = self._table(ReferenceTable, raw, "reference")
            return raw
        initial, made = self._named(raw["initial"], "reference.initial", "kind", INITIAL_STATES)
        rest = {k: v for k, v in raw.items() if k != "initial"}
        found = self._table(ReferenceTable, rest, "reference")
        self.parts.reference = found and found.model_copy(update={"initial": made}) if made else None
        return raw | {"initial": initial}

    def _list(self, raw: Any, key: str, each: Any) -> Any:
        if not isinstance(raw, list):
            self.mistakes.append(f"{key}: expected a list, found {raw!r}. Remedy: write [[{key}]] or {key} = [...]")
            return raw
        return [each(entry, f"{key}.{i}") for i, entry in enumerate(raw)]

    def _compare(self, raw: Any) -> Any:
        rest = {k: v for k, v in raw.items() if k != "closures"} if isinstance(raw, dict) else raw
        self._table(CompareTable, rest, "compare", also=("closures",))
        if not isinstance(raw, dict) or "closures" not in raw:
            return raw
        rows = self._list(raw["closures"], "compare.closures", self._row)
        if not self.mistakes:
            self.mistakes += row_mistakes(named_rows(CompareTable.model_validate({"closures": rows}).closures))
        return raw | {"closures": rows}

    def _row(self, raw: Any, key: str) -> Any:
        """A row of [compare] in any of its forms; mistakes have the keys of the form that the user wrote."""
        row = row_of(raw)
        if not isinstance(row, dict) or not isinstance(row.get("closures"), list):
            self.mistakes.append(f"{key}: expected a name, a table, or a list of them, found {raw!r}")
            return raw
        closures = row["closures"]
        inner = f"{key}.closures" if row is raw else key
        keys = [f"{inner}.{i}" for i in range(len(closures))] if row is raw or isinstance(raw, list) else [key]
        if not closures:
            self.mistakes.append(f"{key}: expected at least one closure, found none")
        if not isinstance(row.get("label", ""), str):
            self.mistakes.append(f"{key}.label: expected a string, found {row['label']!r}")
        if row is raw:
            self.mistakes += [
                f"{key}.{k}: {unknown_key(k, list(CompareRow.model_fields))}"
                for k in raw
                if k not in CompareRow.model_fields
            ]
        return row | {"closures": [self._closure(c, k) for c, k in zip(closures, keys, strict=True)]}

    def _closure(self, raw: Any, key: str) -> Any:
        raw = {"name": raw} if isinstance(raw, str) else with_path(raw, self.folder)
        found = self._table(ClosureTable, raw, key)
        if found is None:
            return raw
        self.parts.tables += (found,)
        try:
            model = found.find(self.folder)
        except NotImported:
            return raw
        except UnknownPlugin as error:
            self.mistakes.append(f"{key}.path: {error}" if found.path else f"{key}: {error}")
            return raw
        if model.needs_reference:
            self.parts.fed_by_reference += ((key, found),)
        options = absolute(found.options, model, self.folder)
        self._table(model, options, key, also=ClosureTable.model_fields)
        return raw | options

    def _plain(self, raw: Any, key: str) -> None:
        if not isinstance(raw, dict):
            self.mistakes.append(f"{key}: expected a table, found {raw!r}")
        elif key == "train":
            for name, options in raw.items():
                if is_path(name):
                    self._closure_class(name, "train")
                elif name not in names():
                    self.mistakes.append(f"train: {unknown(name, names())}")
                if not isinstance(options, dict):
                    self.mistakes.append(f"train.{name}: expected a table, found {options!r}")

    def _closure_class(self, path: str, key: str) -> None:
        """Collect why the closure "file.py:Class" cannot be loaded, if so."""
        try:
            load(path, self.folder)
        except NotImported:
            return
        except UnknownPlugin as error:
            self.mistakes.append(f"{key}: {error}")


def _model(field: Any) -> type[Table]:
    """The table model of a field, which may be optional."""
    return next(a for a in (field.annotation, *get_args(field.annotation)) if isinstance(a, type))
