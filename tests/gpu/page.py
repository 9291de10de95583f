"""docs/results/gpu.md from the rows of `make gpu`."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

TITLES = {
    "parity": "Parity with NumPy",
    "closures": "Closures: parity with NumPy",
    "steps": "Two-dimensional vorticity",
    "bandwidth": "Shallow water and Vlasov-Poisson against the memory bandwidth",
    "calls": "Closure calls against the steps between them",
    "diffusion": "Physical-space against latent diffusion",
    "training": "Training",
    "frontier": "The frontier of the large-eddy case",
}
NOTES = "## What the stand-ins show"  # from here on the page is written by hand, and kept
HEAD = "# GPU\n\n    make gpu\n"


def write(rows: Path, page: Path, failed: list[str]) -> list[str]:
    """Write the page from the files PART.json in a folder; returns what missed its requirement."""
    parts = {
        part: json.loads((rows / f"{part}.json").read_text(encoding="utf-8"))
        for part in TITLES
        if (rows / f"{part}.json").is_file()
    }
    absent = [TITLES[part] for part in TITLES if part not in parts]
    text = HEAD + "\n" + "\n".join(_about(found) for found in _distinct(parts.values())) + "\n"
    if failed:
        text += f"\nParts that failed or were stopped: {', '.join(failed)}.\n"
    if absent:
        text += f"\nNot measured: {', '.join(absent)}.\n"
    for part, found in parts.items():
        text += f"\n## {TITLES[part]}\n\n| what | value | unit | required | |\n|---|---|---|---|---|\n"
        text += "".join(_line(row) for row in found["rows"])
    kept = page.read_text(encoding="utf-8").partition(NOTES) if page.is_file() else ("", "", "")
    page.write_text(text + "\n" + "".join(kept[1:]) if kept[1] else text, encoding="utf-8")
    return [row["what"] for found in parts.values() for row in found["rows"] if row["met"] is False]


def _distinct(parts: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for part in parts:
        about = {k: v for k, v in part.items() if k != "rows"}
        if about not in found:
            found.append(about)
    return found


def _about(found: dict[str, Any]) -> str:
    return f"- {found['device']}, backend {found['backend']}, {found['date']}, {', '.join(found['versions'])}."


def _line(row: dict[str, Any]) -> str:
    value = "" if math.isnan(row["value"]) else f"{row['value']:.4g}"
    required = ""
    if row["required"] is not None:
        sign = "at least" if row["at_least"] else "at most"
        required = f"{sign} {row['required']:g}{'' if row['met'] else ', **missed**'}"
    return f"| {row['what']} | {value} | {row['unit']} | {required} | {row['detail']} |\n"
