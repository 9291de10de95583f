"""Requests: everything that a reference or a training set depends on. The hash of a request names its directory."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from subgrid.solver.case.base import multiple
from subgrid.solver.case.inputs import sha256_of_data
from subgrid.solver.case.tables import Case, ReferenceTable, TrainingTable
from subgrid.solver.equations import Equation
from subgrid.solver.equations.initial_state import InitialState
from subgrid.solver.equations.plugins import PluginModel, fingerprint, is_path
from subgrid.solver.initial.run import Run, contents
from subgrid.solver.time_stepping.schemes import STEPPERS

from .cache import cache
from .given_data import given_shape
from .restriction import Restriction

FORMAT = 1
POINTS = 65536  # of the reference grids of a piece, at most, unless a single trajectory has more
PIECES = 8  # at least, if there are as many trajectories


@dataclass(frozen=True)
class Request:
    """Everything that the data depend on. Times are counted in steps of the reference from its start.

    state_steps, term_steps: the arguments of the schedules of states and terms: (first, last, every), or (first, last,
    every, True) where `last` is kept although it is not a multiple; None for no terms. term_noise: whether the term
    includes the omitted noise of its step, as in the benchmark of arXiv 2506.20771. fine_at: the step whose state on
    the reference grid is kept. first: the number of the first trajectory, which keys its random streams.
    """

    equation: dict[str, Any]
    grid: dict[str, Any]
    reference_shape: tuple[int, ...]
    stepper: str
    step: float
    start: float
    initial: dict[str, Any]
    trajectories: int
    seed: int
    restrict: Restriction
    state_steps: tuple[int, int, int] | tuple[int, int, int, bool]
    term_steps: tuple[int, int, int] | None
    term_noise: bool
    fine_at: int | None
    cfl: float | None = None
    file: dict[str, Any] | None = None
    entities: tuple[int, ...] | None = None
    first: int = 0

    def directory(self) -> Path:
        """The directory of the data: its name is the hash of the request."""
        content = asdict(self) | {"format": FORMAT, "stepper": describe_stepper(self.stepper)}
        for name in ("cfl", "file", "entities"):
            if content[name] is None:
                del content[name]
        if not self.first:
            del content["first"]
        text = json.dumps(content, sort_keys=True)
        return cache() / hashlib.sha256(text.encode()).hexdigest()[:20]


class Piece(Request):
    """Some trajectories of a request, until they are joined: data that no other request has or shares."""

    def directory(self) -> Path:
        """The directory of the data, which is deleted when all pieces are joined."""
        whole = super().directory()
        return whole.with_name(f"{whole.name}-piece")


def pieces(request: Request) -> list[Request]:
    """The pieces of a request: the same for any number of workers, so that a continued command finds them."""
    size = max(1, min(POINTS // math.prod(request.reference_shape), -(-request.trajectories // PIECES)))
    return [
        piece(request, first, min(size, request.trajectories - first)) for first in range(0, request.trajectories, size)
    ]


def piece(request: Request, first: int, count: int) -> Request:
    """Trajectories first, ..., first + count - 1 of a request."""
    content = {field.name: getattr(request, field.name) for field in fields(request)}
    return Piece(**content | {"first": first, "trajectories": count})


def describe_initial(initial: InitialState) -> dict[str, Any]:
    """The table [initial] as plain data, with a file, or the output of a run, represented by its content."""
    data = initial.model_dump(mode="json", exclude_none=True)
    if isinstance(initial, Run):
        return data | {"path": initial.path.name, "sha256": contents(initial.path, data["time"])}
    return data | (_content(data["path"]) if "path" in data else {}) | _files(initial) | _source(initial)


def describe_data(table: ReferenceTable | TrainingTable) -> dict[str, Any]:
    """The data of a table, represented by their content, with the keys that describe them."""
    assert table.file is not None
    keys = json.loads(json.dumps(table.data_keys(), sort_keys=True))
    found = {"path": table.file.name, "sha256": sha256_of_data(table.file), "keys": keys, "term": table.term}
    found |= {"unobserved": table.unobserved} if table.unobserved else {}
    return found | (_content(table.reader) if table.reader and is_path(table.reader) else {})


def _of_data(case: Case, table: ReferenceTable | TrainingTable, shape: tuple[int, ...], start: float) -> dict[str, Any]:
    """The part of a request that is common to all data of files."""
    return {
        "equation": describe_equation(case.build_equation()),
        "grid": case.grid.model_dump(mode="json", exclude_defaults=True),
        "reference_shape": shape,
        "stepper": case.time.stepper,
        "step": case.step,
        "start": start,
        "initial": {},
        "restrict": case.reference.restrict if case.reference else "filter",
        "file": describe_data(table),
        "seed": 0,
        "trajectories": table.trajectories,
        "term_noise": False,
    }


def _base(case: Case, reference: ReferenceTable) -> dict[str, Any]:
    if reference.shape is None:
        raise ValueError("the reference of this case is a closed form; there are no trajectories to generate")
    return {
        "equation": describe_equation(case.build_equation()),
        "grid": case.grid.model_dump(mode="json", exclude_defaults=True),
        "reference_shape": reference.shape,
        "stepper": reference.stepper or case.time.stepper,
        "step": reference.step or case.step,
        "cfl": reference.cfl or case.time.cfl,
        "start": case.time.start if reference.start is None else reference.start,
        "initial": describe_initial(reference.initial or case.initial),
        "restrict": reference.restrict,
        "entities": case.ensemble.entities,
    }


def describe_equation(equation: Equation) -> dict[str, Any]:
    """The equation's name and parameters as plain data, with files represented by their content."""
    data = {"name": equation.name} | equation.model_dump(mode="json") | _files(equation) | _source(equation)
    if (stored := getattr(equation, "stored", None)) is not None:
        data["stored"] = {"path": Path(stored).name, "sha256": sha256_of_data(Path(stored))}
    data |= {k: v | _content(v["path"]) for k, v in data.items() if isinstance(v, dict) and "path" in v}
    return data | {k: data[k] | _files(v) | _source(v) for k, v in equation if isinstance(v, PluginModel)}


def describe_stepper(name: str) -> str | dict[str, str]:
    """The name of a stepper; one that does not ship with subgrid is represented by the hash of its code, too."""
    if (digest := STEPPERS.digest(name)) is None:
        return name
    return {"path" if is_path(name) else "name": Path(name).name, "plugin": digest}


def _content(path: str) -> dict[str, str]:
    """Name and hash of a file, independent of its folder; of a plug-in, "file.py:Name", the name alone."""
    if is_path(path):
        return {"path": Path(path).name}  # `_source` has the hash
    if Path(path).is_dir():  # a Zarr store
        return {"path": Path(path).name, "sha256": sha256_of_data(Path(path))}
    with open(path, "rb") as file:
        return {"path": Path(path).name, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _files(model: BaseModel) -> dict[str, Any]:
    """The options of type Path, except `path`, that are files: each with the hash of its content."""
    return {k: _content(str(v)) for k, v in model if isinstance(v, Path) and k != "path" and v.is_file()}


def _source(model: object) -> dict[str, str]:
    """The hash of a plug-in's code; empty for classes of this package."""
    found = fingerprint(type(model))
    return {} if found is None else {"plugin": found}


def reference_request(case: Case) -> Request:
    """The case's reference: states at the output times, missing terms at the calls of closures that need them."""
    reference = case.reference
    if reference is None:
        raise ValueError("the case has no [reference] table")
    if reference.file is not None:
        assert reference.shape is not None
        base = _of_data(case, reference, reference.shape, case.time.start)
    else:
        base = _base(case, reference) | {
            "trajectories": reference.trajectories,
            "seed": reference.seed,
            "term_noise": False,
        }
    h = base["step"]
    begin = multiple(case.time.start - base["start"], h) if case.time.start > base["start"] else 0
    last, interval = begin + multiple(case.time.end - case.time.start, h), multiple(case.output.every, h)
    tables = [*case.closure, *(c for row in case.compare.closures for c in row.closures)]
    every = math.gcd(*(c.every for c in tables if c.find(Path()).needs_reference))
    return Request(
        **base,
        state_steps=(begin, last, interval, True) if (last - begin) % interval else (begin, last, interval),
        term_steps=(begin, last, multiple(every * case.step, h)) if every else None,
        fine_at=begin,
    )


def start_request(case: Case) -> Request:
    """The case's reference up to the start of the case."""
    request = reference_request(case)
    begin = request.state_steps[0]
    return replace(request, state_steps=(begin, begin, 1), term_steps=None)


def training_request(case: Case) -> Request:
    """The case's training set: pairs (state, missing term) at the sampling times of [training]."""
    if case.training is not None and case.training.file is not None:
        every = multiple(case.training.every, case.step)
        span = (0, multiple(case.training.end - case.training.start, case.step) - every, every)
        shape = given_shape(case, "training")
        base = _of_data(case, case.training, shape, case.training.start)
        return Request(**base, state_steps=span, term_steps=span, fine_at=None)
    if case.reference is None or case.training is None:
        raise ValueError("a training set needs the tables [reference] and [training]")
    training = case.training
    if training.seed == case.reference.seed:
        raise ValueError("training.seed must differ from reference.seed: otherwise they share trajectories")
    base = _base(case, case.reference)
    h = base["step"]
    begin = multiple(training.start - base["start"], h) if training.start > base["start"] else 0
    every = multiple(training.every, h)
    span = (begin, begin + multiple(training.end - training.start, h) - every, every)
    return Request(
        **base,
        trajectories=training.trajectories,
        seed=training.seed,
        state_steps=span,
        term_steps=span,
        term_noise=True,
        fine_at=None,
    )
