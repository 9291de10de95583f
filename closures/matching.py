"""Which weights a closure may use: where they lie, and whether they are for the problem at hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from subgrid.solver.closure import Problem

SHIPPED = Path(__file__).resolve().parent / "weights"


def locate(weights: str, folder: Path) -> Path:
    """The file of that name, relative to `folder`, or the weights of that name that ship. Raises ValueError."""
    found = next((p for p in (folder / weights, SHIPPED / f"{weights}.safetensors") if p.is_file()), None)
    if found is None:
        shipped = ", ".join(sorted(p.stem for p in SHIPPED.glob("*.safetensors"))) or "none"
        raise ValueError(
            f"there are no weights {weights!r}, neither as a file nor shipped. "
            f"Remedy: a path relative to the case file, or one of those that ship: {shipped}"
        )
    return found


def mismatch(header: dict[str, Any], problem: Problem, *, free: bool, strict: bool = False) -> str | None:
    """How weights of a learned term and the problem differ, by name.

    free: whether the weights serve other shapes of the same length; strict: parameters must be equal too.
    """
    made, equation = header["equation"], problem.equation
    if made["name"] != equation.name:
        return f"is for the equation {made['name']}, the case has {equation.name}"
    parameters = equation.model_dump(mode="json")
    for option in ("discretisation", "boundary"):
        if made.get(option) != parameters.get(option):
            return f"is for {option} = {made.get(option)!r}, the case has {parameters.get(option)!r}"
    if sorted(made["omit"]) != sorted(equation.omit):
        return f"is for a model that omits {made['omit']}, the case omits {list(equation.omit)}"
    fields = [f.name for f in equation.fields]
    if header["fields"] != fields:
        return f"is for the fields {header['fields']}, the case has {fields}"
    if not np.allclose(header["length"], problem.grid.length):
        return f"is for the length {header['length']}, the case has {list(problem.grid.length)}"
    if not np.allclose(header.get("origin", problem.grid.origin), problem.grid.origin):
        return f"is for the origin {header['origin']}, the case has {list(problem.grid.origin)}"
    if header["shape"] != list(problem.grid.shape) and not free:
        return f"is for the shape {header['shape']}, the case has {list(problem.grid.shape)}"
    if strict and made != {"name": equation.name} | equation.model_dump(mode="json"):
        return "is for other parameters"
    return None
