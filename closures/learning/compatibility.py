"""Which weights a closure may use: where they lie, and whether they are for the problem at hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from pydantic import BaseModel, ValidationError

from subgrid.solver.closure import ClosureError, Problem

Loaded = TypeVar("Loaded")
Options = TypeVar("Options", bound=BaseModel)

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


def fitting(
    name: str,
    weights: str | None,
    problem: Problem,
    load: Callable[[Path], Loaded],
    wrong: Callable[[Loaded, bool], str | None],
    shipped: str = "*.safetensors",
) -> Loaded:
    """What `load` makes of the weights that a closure called `name` names, or of the first shipped file that fits.

    wrong(loaded, strict) says how a file and the problem differ; strict for those that were not named. Raises
    ClosureError, with the remedy.
    """

    def loaded(path: Path) -> Loaded:
        try:
            return load(path)
        except ValueError as error:
            raise ClosureError(f"{name}: {error}") from None

    if weights is not None:
        try:
            path = locate(weights, problem.folder)
        except ValueError as error:
            raise ClosureError(f"{name}: {error}") from None
        found = loaded(path)
        if fault := wrong(found, False):
            raise ClosureError(f"{name}: {path.name} {fault}. Remedy: train for this case")
        return found
    for path in sorted(SHIPPED.glob(shipped), key=lambda p: p.stem):
        found = loaded(path)
        if not wrong(found, True):
            return found
    raise ClosureError(
        f"{name}: no shipped weights fit {problem.equation.name} on {list(problem.grid.shape)} as set up here. Remedy: "
        f"`subgrid train CASE --closure {name}`, then weights = the file it writes"
    )


def training_options(name: str, model: type[Options], options: dict[str, Any]) -> Options:
    """The options of [train.NAME]. Raises ValueError that names each wrong one."""
    try:
        return model(**options)
    except ValidationError as error:
        lines = [f"train.{name}.{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise ValueError("; ".join(lines)) from None


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
