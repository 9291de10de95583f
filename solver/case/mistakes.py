"""Reading plain data into pydantic models, with every mistake reported by its key, expected and found value."""

from __future__ import annotations

import difflib
import math
import reprlib
from collections.abc import Iterable, Iterator
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from ..equations.plugins import nearest

Loc = tuple[str | int, ...]
EXPECTED = {
    "path_type": "a string",
    "tuple_type": "a list",
    "model_type": "a table",
    "model_attributes_type": "a table",
}
SCALARS = {"int_type", "float_type", "bool_type", "string_type"}


MOST_SHOWN, LONGEST_SHOWN = 50, 480  # mistakes; characters of one


class CaseError(ValueError):
    """The case is wrong; `mistakes` lists every mistake with its key."""

    def __init__(self, source: str, mistakes: list[str]) -> None:
        self.mistakes = mistakes
        count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        lines = [f"  {shortened(m, LONGEST_SHOWN)}" for m in mistakes[:MOST_SHOWN]]
        lines += [f"  and {len(mistakes) - MOST_SHOWN} more"] if len(mistakes) > MOST_SHOWN else []
        super().__init__("\n".join([f"{source}: {count}", *lines]))


def shortened(text: str, longest: int) -> str:
    """The text, its middle left out if it is longer than `longest` characters."""
    half = (longest - 5) // 2
    return text if len(text) <= longest else f"{text[:half]} ... {text[-half:]}"


def table(model: type[BaseModel], raw: Any, key: str, also: Iterable[str] = ()) -> tuple[Any, list[str]]:
    """(model, mistakes): the model read from a table, or None if it cannot be read, and the mistakes in the table.

    TOML is typed, so "1" is not a number and true is not an integer, although pydantic would convert them. Unknown keys
    are reported and then ignored, so that they hide no other mistake; `also` lists further keys to suggest instead.
    """
    if not isinstance(raw, dict):
        return None, [f"{key}: expected a table, found {_short(raw)}"]
    mistakes: dict[str, str] = {}
    general: list[str] = []
    strict, lax = _errors(model, _tuples(raw), True), _errors(model, raw, False)
    for error in [e for e in strict if e["type"] in SCALARS and _scalar(e["input"])] + lax:
        where = _key(key, error["loc"], raw, error["type"])
        if error["type"] == "extra_forbidden":
            mistakes.setdefault(where, f"{where}: {_unknown_key(model, error['loc'], also, raw)}")
        elif error["type"] == "value_error":
            for line in str(error["ctx"]["error"]).split("\n"):
                general.append(line if line.startswith(f"{key}.") else f"{where}: {line}")
        else:
            mistakes.setdefault(where, f"{where}: {_message(error)}")
        if error["type"] == "union_tag_not_found":  # without a kind, the other keys are not checked
            for name in difflib.get_close_matches("kind", [str(k) for k in error["input"]], n=1):
                misspelt = where.removesuffix("kind") + name
                mistakes.setdefault(misspelt, f"{misspelt}: {unknown_key(name, ['kind'])}")
    known = [e for e in lax if e["type"] != "extra_forbidden"]
    if not known and len(mistakes) == len(lax):
        for error in lax:
            raw = _without(raw, error["loc"])
        try:
            return model.model_validate(raw), list(mistakes.values()) + general
        except ValidationError as hidden:
            left = [e for e in hidden.errors() if e["type"] != "finite_number"]  # not_finite names these
            general += [m for e in left for m in str(e.get("ctx", {}).get("error", e["msg"])).split("\n")]
    return None, list(mistakes.values()) + general


def not_finite(raw: Any, key: str = "") -> Iterator[str]:
    """A mistake for every nan and inf in the data."""
    if isinstance(raw, float) and not math.isfinite(raw):
        yield f"{key}: expected a finite number, found {raw}"
    for k, v in raw.items() if isinstance(raw, dict) else enumerate(raw) if isinstance(raw, list) else ():
        yield from not_finite(v, f"{key}.{k}" if key else str(k))


def _errors(model: type[BaseModel], raw: Any, strict: bool) -> list[Any]:
    try:
        model.model_validate(raw, strict=strict, context={"strict": strict})
    except ValidationError as error:
        return [e for e in error.errors() if e["type"] != "finite_number" and not _follows(e)]
    return []


def _follows(error: Any) -> bool:
    """True for "too short" errors that only follow from wrong items, which are reported themselves."""
    return error["type"] == "too_short" and len(error["input"]) >= error["ctx"]["min_length"]


def _scalar(value: Any) -> bool:
    return isinstance(value, (bool, int, float, str))


def _tuples(raw: Any) -> Any:
    """The data with tuples in place of lists, which strict models require."""
    if isinstance(raw, dict):
        return {k: _tuples(v) for k, v in raw.items()}
    return tuple(_tuples(v) for v in raw) if isinstance(raw, list) else raw


def _without(raw: Any, loc: Loc, tagged: bool = False) -> Any:
    """The data without the key at `loc`; for a table with a kind, pydantic inserts the kind between the keys."""
    first, *rest = loc
    if isinstance(raw, list):
        return [_without(v, tuple(rest)) if i == first and rest else v for i, v in enumerate(raw)]
    if not isinstance(raw, dict):
        return raw
    if rest and raw.get("kind") == first and not tagged:
        return _without(raw, tuple(rest), True)
    return {k: _without(v, tuple(rest)) if k == first else v for k, v in raw.items() if rest or k != first}


def _key(key: str, loc: Loc, raw: Any, kind: str) -> str:
    """The key as the user wrote it, without the tags of pydantic's unions, which the data do not contain."""
    parts = [key]
    for i, part in enumerate(loc):
        inside = (isinstance(raw, dict) and part in raw) or (
            isinstance(raw, (list, tuple)) and isinstance(part, int) and part < len(raw)
        )
        if inside:
            raw = raw[part]  # type: ignore[index]
        if inside or (kind == "missing" and i == len(loc) - 1):
            parts.append(str(part))
    if kind.startswith("union_tag"):
        parts.append("kind")
    return ".".join(parts)


def _message(error: Any) -> str:
    if error["type"] in ("missing", "union_tag_not_found"):
        return "missing; it is required"
    if error["type"] == "unknown_plugin":
        return error["msg"]
    if error["type"] == "union_tag_invalid":
        return f"expected one of: {error['ctx']['expected_tags']}, found {error['ctx']['tag']!r}"
    if error["type"] in EXPECTED:
        return f"expected {EXPECTED[error['type']]}, found {_short(error['input'])}"
    text = error["msg"].replace("Input should be ", "expected ").replace("Input should", "should")
    return f"{text}, found {_short(error['input'])}"


def _unknown_key(model: type[BaseModel], loc: Loc, also: Iterable[str], raw: Any) -> str:
    models = [model]
    for part in loc[:-1]:
        raw = raw.get(part, raw) if isinstance(raw, dict) else raw[part] if isinstance(part, int) else raw
        if isinstance(part, int):
            models = [_chosen(models[0], raw)]
            continue
        tagged = [
            m for m in models if len(models) > 1 and "kind" in m.model_fields and m.model_fields["kind"].default == part
        ]
        field = models[0].model_fields.get(part)
        if field is None and not tagged:  # the name of an entry of a table of tables
            continue
        models = tagged or list(_models(field.annotation if field else None))
        if not models:
            return "unknown key"
        models[0] = _chosen(models[0], raw)
    return unknown_key(str(loc[-1]), [*models[0].model_fields, *(also if len(loc) == 1 else ())])


def _chosen(model: type[BaseModel], raw: Any) -> type[BaseModel]:
    """The model of the plug-in that a table names, if it is one; a list of tables chooses for each."""
    plugins = getattr(model, "plugins", None)
    return model if plugins is None or not isinstance(raw, dict) else plugins.of(raw, "kind")


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The pydantic models that occur in an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)


def unknown_key(name: str, known: list[str]) -> str:
    """The message for an unknown key, with the nearest known key."""
    known = list(dict.fromkeys(known))
    near = nearest(name, known)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"unknown key; {hint}expected one of: {', '.join(known)}" if known else "unknown key; none is expected"


def _short(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    short = reprlib.Repr()
    short.maxstring = short.maxother = 60
    return short.repr(value)
