"""What was recognised in data, as text and as JSON: format, fields, grid, times, parameters, and findings."""

from __future__ import annotations

from typing import Any

import numpy as np

from .contents import ENTITY, TIME, TRAJECTORY, Axis, Finding
from .open import Inspection
from .schema import WORDS
from .values import summary

MOST_LISTED = 12
CHECKED = {
    True: "all values",
    False: "a sample of the states; a copy (--out) checks all",
    None: "the structure; values are checked while they are copied",
}


def as_json(found: Inspection) -> dict[str, Any]:
    """The report as plain data."""
    contents = found.contents
    ranges = {} if found.scan is None else summary(found.scan)
    return {
        "path": contents.where,
        "format": contents.format,
        "files": len(contents.files),
        "fields": {
            name: {
                "dims": list(v.dims),
                "shape": list(v.data.shape),
                "dtype": str(v.data.dtype),
                "units": v.units,
                **({"range": ranges[name]} if name in ranges else {}),
            }
            for name, v in contents.fields.items()
        },
        "axes": {name: _facts(contents.axes.get(name, Axis()), n) for name, n in contents.sizes.items()},
        "parameters": {name: _listed(value) for name, value in contents.parameters.items()},
        "corrections": contents.corrections,
        "checked": CHECKED[None if found.scan is None else found.complete],
        "findings": [{"code": f.code, "text": f.text, "remedy": f.remedy, "fault": f in found.faults} for f in
                     contents.findings],
    }  # fmt: skip


def _facts(axis: Axis, n: int) -> dict[str, Any]:
    facts: dict[str, Any] = {"entries": n, "units": axis.units}
    values = axis.values
    if values is not None and values.ndim == 1 and values.dtype.kind in "fiu" and len(values):
        facts |= {"first": float(values[0]), "last": float(values[-1])}
    if axis.kind != "unknown":
        facts["grid"] = axis.kind
    if axis.length is not None:
        facts["length"] = axis.length
    return facts | {"periodic": WORDS[axis.periodic]}


def _listed(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value


def as_text(found: Inspection) -> str:
    """The report, line by line. Faults come last: they are the message of the error that follows."""
    contents = found.contents
    data = as_json(found)
    count = f", {data['files']} files" if data["files"] > 1 else ""
    lines = [f"{data['path']}: {data['format']}{count}"]
    for name, field in data["fields"].items():
        sizes = " x ".join(f"{d} {n}" for d, n in zip(field["dims"], field["shape"], strict=True))
        units = f" [{field['units']}]" if field["units"] else ""
        span = f", {field['range'][0]:.6g} to {field['range'][1]:.6g}" if "range" in field else ""
        lines.append(f"  field {name}{units}: {sizes}, {field['dtype']}{span}")
    for name, axis in data["axes"].items():
        if name != TRAJECTORY:
            lines.append(f"  {'time' if name == TIME else f'axis {name}'}: {_line(name, axis)}")
    for name, value in data["parameters"].items():
        lines.append(f"  parameter {name}: {_short(value)}")
    lines += [f"  corrected: {text}" for text in contents.corrections]
    notes = [f for f in contents.findings if f not in found.faults]
    lines += [f"  note: {_note(f)}" for f in notes if not f.remedy or f.fault]
    lines += [f"  missing: {f.text}. Key: {f.remedy}" for f in notes if f.remedy and not f.fault]
    lines.append(f"  checked: {data['checked']}")
    return "\n".join(lines)


def _note(finding: Finding) -> str:
    return f"{finding.text} (accepted)" if finding.fault else finding.text


def _line(name: str, axis: dict[str, Any]) -> str:
    parts = [f"{axis['entries']} {'entities' if name == ENTITY else 'entries'}"]
    if "first" in axis:
        units = f" {axis['units']}" if axis["units"] else ""
        parts.append(f"{axis['first']:.7g} to {axis['last']:.7g}{units}")
    if name not in (TIME, ENTITY):
        parts.append({"points": "at points", "cells": "in cells"}.get(axis.get("grid", ""), "points or cells"))
        if "length" in axis:
            parts.append(f"length {axis['length']:.7g}")
        parts.append({"yes": "periodic", "no": "not periodic", "unknown": "periodic or not"}[axis["periodic"]])
    return ", ".join(parts)


def _short(value: Any) -> str:
    if not isinstance(value, list):
        return f"{value:g}" if isinstance(value, (int, float)) else str(value)
    shown = ", ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in value[:MOST_LISTED])
    return f"{shown}{', ...' if len(value) > MOST_LISTED else ''} ({len(value)} trajectories)"
