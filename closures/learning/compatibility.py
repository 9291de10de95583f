"""Which weights a closure may use: where they lie, and whether their header fits the problem. Reads headers only."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from subgrid.solver.closure import ClosureError, Problem

from .weights_file import load_header, using

SHIPPED = Path(__file__).resolve().parents[1] / "weights"


def locate(weights: str, folder: Path, method: str | None = None) -> Path:
    """The file `weights`, relative to `folder`, or the shipped weights of that name. Raises ValueError.

    method: the message names the shipped weights of this method alone.
    """
    found = next((p for p in (folder / weights, SHIPPED / f"{weights}.safetensors") if p.is_file()), None)
    if found is None:
        names = sorted(p.stem for p in SHIPPED.glob("*.safetensors") if method in (None, load_header(p)["closure"]))
        shipped = ", ".join(names) or "none"
        raise ValueError(
            f"there are no weights {weights!r}, neither as a file nor shipped. "
            f"Remedy: a path relative to the case file, or one of the shipped weights: {shipped}"
        )
    return found


def find_weights(
    method: str,
    weights: str | None,
    problem: Problem,
    mismatch: Callable[[dict[str, Any], Problem, bool], str | None],
) -> Path:
    """The file that `weights` names, or the first shipped file of `method` that fits the problem.

    mismatch(header, problem, strict) says how a file and the problem differ; it is called with headers of `method`
    only, and with strict = True for files that were not named. Raises ClosureError, with the remedy, for a file that is
    missing, damaged, of another closure or for another problem, and if no shipped file fits.
    """
    if weights is not None:
        try:
            path = locate(weights, problem.folder, method)
            header = load_header(path, method)
            with using(path):
                fault = mismatch(header, problem, False)
        except ValueError as error:
            raise ClosureError(f"{method}: {error}") from None
        if fault:
            raise ClosureError(f"{method}: {path.name} {fault}. Remedy: train for this case")
        return path
    for path in sorted(SHIPPED.glob("*.safetensors"), key=lambda p: p.stem):
        header = load_header(path)
        if header["closure"] == method and mismatch(header, problem, True) is None:
            return path
    raise ClosureError(
        f"{method}: no shipped weights fit {problem.equation.name} on {list(problem.grid.shape)} with these options. "
        f"Remedy: `subgrid train CASE --closure {method}`, then weights = the file it writes"
    )


def mismatch(header: dict[str, Any], problem: Problem, *, grid_independent: bool, strict: bool = False) -> str | None:
    """How weights of a learned term and the problem differ, by name; None if they fit.

    grid_independent: the weights serve other shapes of the same length. strict: all parameters of the equation must be
    equal too.
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
    if not problem.grid.has("length", header["length"]):
        return f"is for the length {header['length']}, the case has {list(problem.grid.length)}"
    if not problem.grid.has("origin", header.get("origin", problem.grid.origin)):
        return f"is for the origin {header['origin']}, the case has {list(problem.grid.origin)}"
    if header["shape"] != list(problem.grid.shape) and not grid_independent:
        return f"is for the shape {header['shape']}, the case has {list(problem.grid.shape)}"
    if strict and made != {"name": equation.name} | parameters:
        return "is for other parameters"
    return None
